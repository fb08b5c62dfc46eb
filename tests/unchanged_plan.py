"""Whether finished results of an earlier revision stay as they are: the jobs that this checkout would run on them.

    python tests/unchanged_plan.py REVISION [SNAKEMAKE ARGUMENTS, as --configfile config/open.yaml]

In: a revision, whose checkout is planned in a folder of its own. Its outputs become empty files that Snakemake takes for finished
(`--touch`), so nothing is computed. Then this checkout's code takes the place of that revision's. Out: jobs that would run, with the
reason, and exit status 1; none: "nothing to be done". Snakemake compares what it compares on real results: rules, parameters (with
them the text of every spec file), sets of inputs, and times. Takes a minute on two cores.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from checkout import ROOT, snakemake

CODE = ("workflow", "Snakefile", "config", "config.yaml", "envs", "tests")
"""What is replaced. Input files stay: their times would count as a change."""


def main() -> int:
    """Plan, pretend, replace, plan."""
    revision, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        os.environ["PYTHONPATH"] = str(folder / "workflow")
        sys.path.insert(0, str(ROOT / "workflow"))
        from mentionforge.planning.plan import plan

        jobs = plan(tuple(arguments), folder)
        for job in jobs:
            for path in (folder / output for output in job.outputs):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir(exist_ok=True) if str(path.relative_to(folder)) in job.folders else path.write_text("{}")
        snakemake(folder, "--touch", "--forceall", *arguments)
        before = [job for job in plan(tuple(arguments), folder) if job.pending and job.outputs]
        for name in CODE:
            target = folder / name
            if target.is_dir():
                shutil.rmtree(target)
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / name).is_file():
                shutil.copy(ROOT / name, target)
        pending = [job for job in plan(tuple(arguments), folder) if job.pending and job.outputs]
        print(f"{len(jobs):,} jobs; {len(before):,} pending at {revision}, {len(pending):,} with this checkout")
        for job in pending:
            print(f"  {job.rule}: {', '.join(job.outputs)}: {'; '.join(job.reasons) or 'follows another job'}")
        print("nothing to be done" if not pending else "")
    return int(bool(pending))


if __name__ == "__main__":
    sys.exit(main())
