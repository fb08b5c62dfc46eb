"""CPU time of Snakemake itself for many trivial jobs, with a profile of ours and without.

python tests/benchmarks/scheduler.py [--jobs 3000] [--profile default]
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = """
rule all:
    input: expand("out/{i}.txt", i=range(JOBS))
rule one:
    output: "out/{i}.txt"
    shell: "touch {output}"
"""


def measure(jobs: int, profile: str | None) -> tuple[float, float]:
    """Seconds of CPU (Snakemake and the jobs' shells) and by the clock."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "Snakefile").write_text(SNAKEFILE.replace("JOBS", str(jobs)), encoding="utf-8")
        if profile:
            shutil.copytree(ROOT / "profiles" / profile, folder / "profiles" / "default")
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - begun


def main() -> None:
    """Print both for each number of jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[400, 3000])
    parser.add_argument("--profile", default="default")
    parser.add_argument("--plain", action="store_true", help="also without a profile; 3,000 jobs take minutes")
    arguments = parser.parse_args()
    for jobs in arguments.jobs:
        for profile in (arguments.profile, *([None] if arguments.plain else [])):
            cpu, wall = measure(jobs, profile)
            print(f"{jobs:6,} jobs, profile {profile or 'none'}: {cpu:.1f} s of CPU, {wall:.1f} s by the clock", flush=True)


if __name__ == "__main__":
    main()
