"""`kill -9` at random moments of a shard or of a fine-tuning, each followed by a run to the end: `make test-kills`.

The end is compared with that of an uninterrupted run: all rows of the table of notes; all bytes of the adapter and of training.csv.
Libraries are imported once, and every job is a fork, so that moments fall into the work and not into the imports.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from killing import Case
from mentionforge import tables

ROOT = Path(__file__).resolve().parents[1]


def fork(job: Callable[[], None], log: Path) -> int:
    """Start a job as a process of its own and return its id; what it says goes to the log."""
    process = os.fork()
    if process:
        return process
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    try:
        job()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def to_the_end(job: Callable[[], None], log: Path) -> float:
    """Run a job to its end and return its seconds."""
    begun = time.monotonic()
    _, status = os.waitpid(fork(job, log), 0)
    assert status == 0, log.read_text()[-3000:]
    return time.monotonic() - begun


def killed(job: Callable[[], None], log: Path, after: float) -> bool:
    """Run a job, kill it after that many seconds, and say whether it was still at work."""
    process = fork(job, log)
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def experiment(what: str, case: Case, moments: int, seed: int) -> dict[str, object]:
    """Kill at random moments until that many fell into the work; compare each end with the uninterrupted one.

    Returns:
        Counts, and how far each killed job had come.
    """
    from mentionforge.generation import finetune, sample

    folder, draw, log = case.folder, random.Random(seed), case.folder / "log"

    def shard(name: str) -> Callable[[], None]:
        return lambda: sample.sample_shard(folder / "sampling.json", case.model, folder / "prompts.parquet", None, 0, 1, folder / f"{name}.parquet")

    def training(name: str) -> Callable[[], None]:
        return lambda: finetune.finetune(folder / "finetune.json", case.model, folder / "pairs.parquet", folder / name, folder / f"{name}.csv")

    def end(name: str) -> object:
        return tables.read(tables.NOTES, folder / f"{name}.parquet").to_pylist() if what == "shard" else case.trained(name)

    def progress(name: str) -> int:
        if what == "shard":
            partial = folder / f"{name}.parquet.partial.jsonl"
            return max(0, partial.read_bytes().count(b"\n") - 1) if partial.is_file() else 0
        whole = sorted((folder / f"{name}.checkpoints").glob(f"checkpoint-*/{finetune.COMPLETE}"), key=lambda p: int(p.parent.name.rpartition("-")[2]))
        return int(whole[-1].parent.name.rpartition("-")[2]) if whole else 0

    job = shard if what == "shard" else training
    seconds = to_the_end(job("whole"), log)
    expected = end("whole")
    came: list[int] = []
    tried = equal = 0
    while len(came) < moments:
        tried += 1
        name = f"killed{tried}"
        assert tried < 3 * moments + 10, "most kills came after the end"
        if killed(job(name), log, draw.uniform(0, seconds)):
            came.append(progress(name))
            to_the_end(job(name), log)
            equal += end(name) == expected
        leftovers = list(folder.glob(f".{name}*")) + list(folder.glob(f"{name}.checkpoints")) + list(folder.glob(f"{name}*.partial.jsonl"))
        assert not leftovers, leftovers
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    return {"what": what, "seconds": round(seconds, 1), "kills": len(came), "equal": equal, "progress_when_killed": came}


def main() -> None:
    """Run both experiments and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=("shard", "finetune", "both"), default="both")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, help="stamp of fetched weights; none: a tiny model with random weights")
    parser.add_argument("--notes", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--updates", type=int, default=24)
    given = parser.parse_args()
    import bitsandbytes  # noqa: F401
    import peft  # noqa: F401
    import trl  # noqa: F401

    for what in ("shard", "finetune") if given.what == "both" else (given.what,):
        with tempfile.TemporaryDirectory() as scratch:
            case = Case(Path(scratch), ROOT, notes=given.notes, updates=given.updates, tokens=given.tokens, model=given.model)
            found = experiment(what, case, given.moments, given.seed)
        print(json.dumps(found), flush=True)
        assert found["equal"] == found["kills"], "a killed job ended otherwise than an uninterrupted one"


if __name__ == "__main__":
    main()
