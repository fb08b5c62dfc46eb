"""The mini experiment on a real Slurm of one node, with jobs cancelled, the node drained and the controller restarted: `make test-slurm`.

The results of each variant are compared with those of an undisturbed run without Slurm, and jobs are counted, so that nothing that was
finished is run again. Variants:

short   generation alone, with a tiny model that is not fine-tuned, in two minutes; the node drained and resumed, slurmctld restarted;
        `scancel` of a shard in the middle, no retries: the run ends with an error, a second one finishes
mini    tests/mini.yaml; `scancel` of a shard and of the fine-tuning in the middle, retried within the run; the node drained and resumed,
        slurmctld restarted, while jobs wait and run
demo    the same with config.yaml as it is
"""

import argparse
import atexit
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from checkout import BIN, copy_checkout
from local_slurm import Slurm, install
from tiny import tiny_model

SHORT = {
    "generators": {
        "smollm2": {
            "model": "tiny",
            "dtype": "float32",
            "shards": 2,
            "concepts": {"max": 10},
            "notes_per_concept": 12,
            "finetune": None,
            "filters": {"memorization": None},
            "sampling": {"max_new_tokens": 60, "batch_size": 1, "temperature": 1.5, "top_p": 1.0},
        }
    }
}
"""Generation with a tiny model of random weights: its notes are nonsense, and take no time."""
SLOWER = {"generators": {"smollm2": {"concepts": {"max": 12}, "sampling": {"batch_size": 2}, "finetune": {"max_steps": 6, "checkpoint_steps": 1}}}}
"""For the small model: so many steps and batches that there is a middle."""
NOTES = "results/generation/smollm2/notes.parquet"
USER = {
    "default-resources": {"slurm_partition": "main"},
    "slurm-no-account": True,
    "slurm-status-command": "squeue",
    # The executor waits ten seconds more after each look that finds nothing finished: the first look comes when a short job is done.
    "slurm-init-seconds-before-status-checks": 8,
    "seconds-between-status-checks": 8,
}
"""A user's own profile: here for a Slurm without accounting, on which jobs last seconds."""
COMPARED = ("kb", "corpora", "generation", "augmentation", "normalization", "evaluation", "recognition", "statistics")


def environment(folder: Path) -> dict[str, str]:
    """What Snakemake and its jobs see."""
    more = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(folder / "workflow"), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    return os.environ | more


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start Snakemake in a checkout; what it says goes to run.log there."""
    log = open(folder / "run.log", "ab")  # noqa: SIM115
    process = subprocess.Popen([BIN / "snakemake", "--nocolor", *arguments], cwd=folder, env=environment(folder), stdout=log, stderr=subprocess.STDOUT)
    atexit.register(process.kill)  # where this script ends before it
    return process


def results(folder: Path) -> dict[str, str]:
    """Digest of each table, adapter and metric; not of times, pictures and logs."""
    found = {}
    for top in COMPARED:
        for path in sorted((folder / "results" / top).rglob("*")):
            name = path.relative_to(folder / "results").as_posix()
            if path.is_file() and path.suffix in (".parquet", ".safetensors", ".npy") and ".checkpoints" not in name:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def submitted(folder: Path) -> Counter:
    """How often each rule was handed to Slurm."""
    text = (folder / "run.log").read_text()
    return Counter(re.findall(r"SLURM jobid \d+ \(log: \S*?/slurm_logs/(?:rule|group)_([A-Za-z0-9_]+)/", text))


def stated(folder: Path) -> dict[str, int]:
    """How many jobs of each rule Snakemake said it would run."""
    return {rule: int(n) for rule, n in re.findall(r"^([a-z_]+) +(\d+)$", (folder / "run.log").read_text(), re.M)}


class Event:
    """Something that is done once, as soon as its moment has come."""

    def __init__(self, name: str, moment: Callable[[], bool], act: Callable[[], object]) -> None:
        self.name, self.moment, self.act, self.happened = name, moment, act, False

    def look(self) -> None:
        if not self.happened and self.moment():
            self.happened = True
            print(f"  {time.strftime('%X')} {self.name}", flush=True)
            self.act()


def cancel(slurm: Slurm, rule: str) -> None:
    """scancel of the running jobs of a rule."""
    for job, state, comment in slurm.jobs():
        if state == "RUNNING" and f"rule_{rule}" in comment:
            slurm.ask("scancel", job)


def running(slurm: Slurm, rule: str) -> bool:
    """Whether a job of the rule runs."""
    return any(state == "RUNNING" and f"rule_{rule}" in comment for _, state, comment in slurm.jobs())


def written(folder: Path) -> bool:
    """Whether some notes of a shard are finished, and not all."""
    return any(path.read_bytes().count(b"\n") > 1 for path in (folder / "results/generation/smollm2/shards").glob("*.partial.jsonl"))


def trained(folder: Path) -> bool:
    """Whether the fine-tuning has a whole checkpoint."""
    return any((folder / "results/generation/smollm2/adapter.checkpoints").glob("checkpoint-*"))


def drive(process: subprocess.Popen, events: list[Event], limit_s: float) -> int:
    """Let the events happen while Snakemake runs; returns its exit code."""
    deadline = time.monotonic() + limit_s
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGKILL)
            raise RuntimeError(f"not finished in {limit_s:.0f} s")
        for event in events:
            event.look()
        time.sleep(0.05)
    return process.returncode


def main() -> None:
    """Run a variant and print what happened; fails where the results differ, or where finished work was done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=("short", "mini", "demo"), default="short")
    parser.add_argument("--limit", type=float, default=1500, help="seconds")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept; none: a temporary one")
    parser.add_argument("--alone", type=Path, help="checkout in which the same experiment has run without Slurm; none: it is run")
    parser.add_argument("--if-possible", action="store_true", help="where Slurm cannot be installed, say so and end without an error")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the daemons are ended
    begun = time.monotonic()
    try:
        install()
    except RuntimeError as error:
        print(f"Slurm is not tested: {error}", file=sys.stderr)
        sys.exit(0 if given.if_possible else 1)
    print(f"  {time.strftime('%X')} Slurm is installed; {time.monotonic() - begun:.0f} s", flush=True)
    scratch = Path(given.keep or tempfile.mkdtemp(prefix="mentionforge-slurm-"))
    begun = time.monotonic()
    with Slurm(scratch / "slurm") as slurm:
        variant(given.variant, slurm, scratch, given.limit, given.alone)
    print(f"{given.variant}: as without Slurm; {time.monotonic() - begun:.0f} s")
    if not given.keep:
        shutil.rmtree(scratch)


def variant(name: str, slurm: Slurm, scratch: Path, limit_s: float, earlier: Path | None = None) -> None:
    """One variant: the run without Slurm, unless it is at hand, then that with it and the comparison."""
    alone, folder = earlier or copy_checkout(scratch / "alone"), copy_checkout(scratch / "cluster")
    (scratch / "user").mkdir()
    (scratch / "user/config.yaml").write_text(yaml.safe_dump(USER))
    settings: dict = {"short": SHORT, "mini": SLOWER, "demo": {"generators": {"smollm2": {"finetune": {"checkpoint_steps": 5}}}}}[name]
    if name == "short":
        settings = {**settings, "models": {"tiny": {"path": str(tiny_model(scratch / "tiny").parent)}}}
    for checkout in {alone, folder} - {earlier}:
        if name == "short":
            (checkout / "resources/models").unlink(missing_ok=True)  # the tiny model is none of the checkout's own
        (checkout / "settings.yaml").write_text(yaml.safe_dump(settings))
    overlays = [*([] if name == "demo" else ["tests/mini.yaml"]), "settings.yaml"]
    targets = [NOTES] if name == "short" else []
    what = [*targets, "--configfile", *overlays]
    on_slurm = [*what, "--profile", str(scratch / "user"), "--workflow-profile", "profiles/slurm"]
    undisturbed = start(alone, *what, "--cores", "2")  # nothing to do where it is at hand
    if name != "short":
        assert drive(undisturbed, [], limit_s) == 0, (alone / "run.log").read_text()[-3000:]
        print(f"  {time.strftime('%X')} the run without Slurm is there", flush=True)

    since: list[float] = []
    drained = Event("the node is drained", lambda: running(slurm, "corpus_read") or running(slurm, "kb_extract"), lambda: slurm.node("drain"))
    resumed = Event(
        "the node is resumed",
        lambda: drained.happened and (since or since.append(time.monotonic()) or since)[0] + 8 < time.monotonic(),
        lambda: slurm.node("resume"),
    )
    scancel_shard = Event("scancel of a shard in the middle", lambda: written(folder) and running(slurm, "sample"), lambda: cancel(slurm, "sample"))
    scancel_training = Event(
        "scancel of the fine-tuning in the middle", lambda: running(slurm, "finetune") and trained(folder), lambda: cancel(slurm, "finetune")
    )
    if name == "short":
        restarted = Event("slurmctld is restarted", lambda: scancel_shard.happened, slurm.restart_controller)
        events, expected_extra = [drained, resumed, scancel_shard, restarted], 2
        code = drive(start(folder, *on_slurm, "--retries", "0"), events, limit_s)
        assert code != 0 and all(event.happened for event in events), (folder / "run.log").read_text()[-3000:]
        assert drive(undisturbed, [], limit_s) == 0, (alone / "run.log").read_text()[-3000:]
        finished = {path: (folder / path).stat().st_mtime_ns for path in ("results/kb/demo/names.parquet", "results/generation/smollm2/prompts.parquet")}
        before = submitted(folder)
        assert drive(start(folder, *on_slurm), [], limit_s) == 0, (folder / "run.log").read_text()[-3000:]
        again = submitted(folder) - before
        assert set(again) == {"sample", "notes"}, again
        assert finished == {path: (folder / path).stat().st_mtime_ns for path in finished}, "what was finished was not made again"
    else:
        restarted = Event("slurmctld is restarted", lambda: running(slurm, "recognize_real"), slurm.restart_controller)
        events, expected_extra = [scancel_shard, scancel_training, drained, resumed, restarted], 3
        assert drive(start(folder, *on_slurm), events, limit_s) == 0, (folder / "run.log").read_text()[-3000:]
        assert all(event.happened for event in events), [event.name for event in events if not event.happened]
    said = (folder / "run.log").read_text()
    assert "going on after" in "".join(p.read_text() for p in (folder / "results/logs/generation/smollm2/shards").glob("*.log")), "a shard went on"
    mine, theirs = results(folder), results(alone)
    assert mine and mine == theirs, sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))[:10]
    counts = submitted(folder)
    print(f"  {len(mine)} tables and weights equal; jobs on Slurm: {json.dumps(dict(counts))}; logs kept: {'slurm_logs' in said}")
    again = counts["sample"] - 2 + (counts["finetune"] - 1 if name != "short" else 0)
    assert 1 <= again <= expected_extra, f"cancelled jobs are the only ones that ran twice: {counts}"
    planned = stated(alone)
    twice = {rule: n for rule, n in counts.items() if rule in planned and rule not in ("sample", "finetune") and n > planned[rule]}
    assert not twice, f"nothing else ran twice: {twice}"


if __name__ == "__main__":
    main()
