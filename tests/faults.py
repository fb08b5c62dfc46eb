"""Faults of machines and of people, tried on a small experiment: `make test-faults`; the outcomes are the table of docs/reliability.md.

After each fault the same command is given again, and what it ends with must be, byte by byte, what an undisturbed run ends with. The
experiment has no language model (kills in the middle of generation and of training: tests/kills.py and tests/slurm.py). Mounts need root.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from checkout import BIN, copy_checkout

SETTINGS = {
    "generators": {"template": {"concepts": {"max": 40}}},
    "experiment": {
        "normalization": [{"corpora": ["demo_ncbi"], "generators": ["template"], "strategies": ["none", "naive"], "linkers": ["exact"], "indexes": ["train"]}],
        "recognition": [],
    },
}
TARGETS = ["results/evaluation/normalization/demo_ncbi.parquet", "results/generation/template/funnel.json"]
DRAW = random.Random(1)


def command(*more: str) -> list[str]:
    """The command that the experiment is run with."""
    return [str(BIN / "snakemake"), *TARGETS, "--configfile", "faults.yaml", "--cores", "2", "--nocolor", *more]


def environment(folder: Path) -> dict[str, str]:
    """What Snakemake and its jobs see."""
    return os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder / "workflow"), "HF_HUB_OFFLINE": "1"}


def start(folder: Path, *more: str) -> subprocess.Popen:
    """Start it, in a group of processes of its own."""
    log = open(folder / "run.log", "ab")  # noqa: SIM115
    return subprocess.Popen(command(*more), cwd=folder, env=environment(folder), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def run(folder: Path, *more: str) -> tuple[int, str]:
    """Run it to its end: exit code, and what it said."""
    before = (folder / "run.log").stat().st_size if (folder / "run.log").exists() else 0
    code = start(folder, *more).wait()
    return code, (folder / "run.log").read_bytes()[before:].decode(errors="replace")


def tables(folder: Path) -> dict[str, str]:
    """Digest of every table and statistic."""
    found = sorted(p for p in (folder / "results").rglob("*") if (p.is_file() and p.suffix in (".parquet", ".npy")) or p.name in ("funnel.json", "stats.json"))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def jobs_of(process: subprocess.Popen) -> list[int]:
    """Ids of the mentionforge commands that a running Snakemake has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == process.pid and b"/mentionforge\0" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def prepared(folder: Path) -> Path:
    """A checkout with the experiment's settings."""
    copy_checkout(folder)
    (folder / "faults.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def scheduler_killed(folder: Path, whole_s: float, moments: int) -> str:
    """kill -9 of Snakemake and all its jobs, as a lost machine would."""
    came = 0
    for _ in range(moments):
        process = start(folder)
        time.sleep(DRAW.uniform(0.2, 0.8) * whole_s)
        if process.poll() is None:
            came += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            shutil.rmtree(folder / "results")  # it had come to its end: anew
        subprocess.run(command("--unlock"), cwd=folder, env=environment(folder), check=True, capture_output=True)
    assert came, "no kill fell into the run"
    return f"{came} kills of {moments} fell into the run; `snakemake --unlock`, then the same command"


def job_killed(folder: Path, whole_s: float, moments: int) -> str:
    """kill -9 of one job, as the kernel does when memory is short."""
    came = 0
    for _ in range(moments * 4):
        if came == moments:
            break
        process = start(folder)
        until = time.monotonic() + DRAW.uniform(0.1, 0.8) * whole_s
        while process.poll() is None and (time.monotonic() < until or not jobs_of(process)):
            time.sleep(0.02)
        for job in jobs_of(process)[:1]:
            try:
                os.kill(job, signal.SIGKILL)
                came += 1
            except ProcessLookupError:
                continue
        process.wait()
        if process.returncode == 0:
            shutil.rmtree(folder / "results")
    assert came, "no kill fell into a job"
    return f"{came} jobs killed; Snakemake reports the job, removes what it wrote, and goes on with others"


def disk_full(folder: Path, whole_s: float, moments: int) -> str:
    """results/ on a file system that is full before the end."""
    (folder / "results").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder / "results")], check=True)
    try:
        code, said = run(folder)
        assert code != 0 and "No space left" in said, said[-1500:]
        subprocess.run(["mount", "-o", "remount,size=200m", str(folder / "results")], check=True)
        code, said = run(folder)
        assert code == 0, said[-1500:]
        shutil.copytree(folder / "results", folder / "kept")
    finally:
        subprocess.run(["umount", str(folder / "results")], check=True)
    shutil.rmtree(folder / "results")
    (folder / "kept").rename(folder / "results")
    return "the run ends with an error; nothing half-written is taken for whole once there is room"


def read_only(folder: Path, whole_s: float, moments: int) -> str:
    """results/ that cannot be written."""
    (folder / "results").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder / "results")], check=True)
    try:
        code, said = run(folder)
        assert code != 0 and "Read-only file system" in said, said[-1500:]
    finally:
        subprocess.run(["umount", str(folder / "results")], check=True)
    (folder / "results").rmdir()
    return "the run ends at once and names the file"


def clock_skew(folder: Path, whole_s: float, moments: int) -> str:
    """A clock that is a day fast while half of the experiment runs: its files come from the future."""
    code, said = run(folder, "--until", "filter")
    assert code == 0, said[-1500:]
    written = [path for path in sorted((folder / "results").rglob("*")) if path.is_file()]
    for path in written:
        os.utime(path, (time.time() + 86_400,) * 2)
    code, said = run(folder)
    assert code != 0 and "clock skew" in said, said[-1500:]
    now = time.time()
    for path in written:
        if path.exists():
            os.utime(path, (now, now))
    return "Snakemake stops at the first job whose input is from the future, and says so; with the files' times set to now (`touch`) it goes on"


def two_schedulers(folder: Path, whole_s: float, moments: int) -> str:
    """The same command in two terminals."""
    first = start(folder)
    while first.poll() is None and not any((folder / ".snakemake/locks").glob("*")):
        time.sleep(0.02)
    code, said = run(folder)
    assert code != 0 and "lock" in said.lower() and "--unlock" in said, said[-1500:]
    assert first.wait() == 0
    return "the second ends at once: the folder is locked; it says so, and what to do if nothing runs there"


FAULTS: dict[str, Callable[[Path, float, int], str]] = {
    "kill -9 of the scheduler": scheduler_killed,
    "kill -9 of a job": job_killed,
    "disk full": disk_full,
    "read-only results": read_only,
    "clock skew": clock_skew,
    "two schedulers": two_schedulers,
}


def main() -> None:
    """Try every fault and print the table's rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=FAULTS, action="append", help="may be repeated; none: all")
    parser.add_argument("--moments", type=int, default=5, help="kills of each kind")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="mentionforge-faults-"))
    begun = time.monotonic()
    code, said = run(whole := prepared(scratch / "whole"))
    assert code == 0, said[-3000:]
    seconds, expected = time.monotonic() - begun, tables(whole)
    print(f"undisturbed: {len(expected)} tables in {seconds:.0f} s", flush=True)
    for number, (name, fault) in enumerate(FAULTS.items()):
        if given.only and name not in given.only:
            continue
        folder = prepared(scratch / str(number))
        outcome = fault(folder, seconds, given.moments)
        code, said = run(folder)
        assert code == 0, said[-3000:]
        found = tables(folder)
        assert found == expected, sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
        code, said = run(folder, "-n")
        assert code == 0 and "Nothing to be done" in said, said[-1500:]
        print(f"| {name} | {outcome} | equal |", flush=True)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
