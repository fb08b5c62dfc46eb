"""Jobs that are killed with SIGKILL at chosen moments, started again, and at last finish; for the tests and `make test-kills`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

import warm
from mentionforge import tables
from mentionforge.config import load_config, spec_text
from tiny import tiny_model

PROGRAM = (sys.executable, "-m", "mentionforge.cli")


def command(verb: str, **options: object) -> list[str]:
    """The command line of a verb of the generation stage."""
    given = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    return [*PROGRAM, "generation", verb, *given]


def kill_when(line: Sequence[str], moment: Callable[[], bool], limit_s: float = 120) -> bool:
    """Start a job, kill it at the moment, and say whether it was still at work then."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + limit_s
    while process.poll() is None and not moment():
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.002)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def finish(line: Sequence[str]) -> str:
    """Run a job to its end, in a process that has its libraries, and return what it said."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quick = [warm.folder(environment) / "mentionforge", *line[len(PROGRAM) :]]
    done = subprocess.run(quick, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def after(seconds: float) -> Callable[[], bool]:
    """A moment that many seconds from now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


class Case:
    """A tiny model, its spec, and tables to write notes or to train from, in a folder."""

    def __init__(self, folder: Path, root: Path, notes: int = 40, updates: int = 30, tokens: int = 40, model: Path | None = None) -> None:
        self.folder, self.model = folder, model.resolve() if model else tiny_model(folder / "tiny")
        raw = yaml.safe_load((root / "config.yaml").read_text())
        llm = raw["generators"]["smollm2"]
        llm["sampling"] = {"max_new_tokens": tokens, "batch_size": 2, "temperature": 1.5, "top_p": 1.0}
        llm["dtype"] = "float32"
        llm["finetune"] |= {"max_steps": updates, "batch_size": 2, "checkpoint_steps": 3, "eval_share": 0.3, "eval_steps": 5}
        for part in ("sampling", "finetune"):
            (folder / f"{part}.json").write_text(spec_text(load_config(raw), "generators", f"smollm2/{part}"))
        rows = [
            {"note_id": f"C{i:03}-0", "cui": f"C{i:03}", "prompt": f"Write about {'gout' * (i % 5)}.", "has_definition": False, "seed": i} for i in range(notes)
        ]
        tables.write(tables.PROMPTS, folder / "prompts.parquet", rows)
        names = ("gout", "fever", "flu", "cough", "anemia", "sprain", "asthma", "stroke", "acne", "mumps")
        pairs = [
            {"pair_id": str(i), "doc_id": f"d{i % 6}", "cui": None, "prompt": f"Write about {name}.", "completion": f"He has <1CUI> {name} </1CUI>."}
            for i, name in enumerate(names)
        ]
        tables.write(tables.PAIRS, folder / "pairs.parquet", pairs)

    def sample(self, name: str) -> list[str]:
        """Command that writes the notes to NAME.parquet."""
        return command(
            "sample", spec=self.folder / "sampling.json", model=self.model, prompts=self.folder / "prompts.parquet", out=self.folder / f"{name}.parquet"
        )

    def finetune(self, name: str) -> list[str]:
        """Command that trains the adapter in folder NAME."""
        return command(
            "finetune",
            spec=self.folder / "finetune.json",
            model=self.model,
            pairs=self.folder / "pairs.parquet",
            adapter=self.folder / name,
            training=self.folder / f"{name}.csv",
        )

    def trained(self, name: str) -> tuple[bytes, bytes]:
        """Weights of an adapter and the log of its training."""
        return (self.folder / name / "adapter_model.safetensors").read_bytes(), (self.folder / f"{name}.csv").read_bytes()
