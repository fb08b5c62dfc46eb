"""Checkpoints of a training run, one per epoch, so that a killed job resumes and ends with the same result.

In: model, optimizer, random streams and progress. Out: a folder of safetensors and JSON, which appears only when it is complete;
the previous checkpoint is removed only then. Knows nothing of sentences, schedules or settings.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mentionforge.progress import say

Weights = dict[str, torch.Tensor]


@dataclass
class EpochResult:
    """Results of one epoch: a row of history.csv. Dev scores are None without a dev split."""

    phase: str
    epoch: int
    steps: int
    train_loss: float
    dev_precision: float | None = None
    dev_recall: float | None = None
    dev_f1: float | None = None
    dev_loss: float | None = None
    kept: bool = False


@dataclass
class TrainingProgress:
    """State of a training run: `epoch` epochs and `step` steps of phase number `phase` are done.

    Attributes:
        phase: Number of the phase, from 0.
        epoch: Epochs of the phase that are done.
        step: Steps of the phase that are done.
        history: One row per epoch of all phases.
        best: Position in `history` of the best epoch of the last phase.
        weights: Weights of the best epoch, on the CPU.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    history: list[EpochResult] = field(default_factory=list)
    best: int | None = None
    weights: Weights | None = None


class Checkpoints:
    """The checkpoints of one training job, in a folder of their own."""

    def __init__(self, folder: Path, job: str) -> None:
        """Open `folder`; checkpoints of another job in it are removed.

        Args:
            folder: Folder of the checkpoints.
            job: Digest of everything that the training depends on.
        """
        self.folder = folder
        name = folder / "job"
        if folder.is_dir() and (not name.is_file() or name.read_text(encoding="utf-8") != job):
            say(f"{folder.name}/ is of another job (settings, inputs or versions have changed); starting anew")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name.write_text(job, encoding="utf-8")

    def load(self, model: torch.nn.Module, order: torch.Generator) -> tuple[TrainingProgress, Weights] | None:
        """Restore the last checkpoint, if there is one: weights into `model`, and all random streams. Returns the progress and the optimizer's moments."""
        folders = sorted((p for p in self.folder.glob("at-*") if p.is_dir()), key=lambda p: [int(n) for n in p.name.split("-")[1:]])
        if not folders:
            return None
        try:
            state = json.loads((folders[-1] / "progress.json").read_text(encoding="utf-8"))
            progress = TrainingProgress(**state | {"history": [EpochResult(**row) for row in state["history"]]})
            if progress.best is not None:
                progress.weights = load_file(self._best(progress))
            weights, moments, streams = (load_file(folders[-1] / f"{part}.safetensors") for part in ("model", "optimizer", "random"))
            own = model.state_dict()
            if {k: t.shape for k, t in weights.items()} != {k: t.shape for k, t in own.items()}:  # load_state_dict reports it only after copying some weights
                raise ValueError("it is of a model of another shape")
            model.load_state_dict(weights)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            say(f"{folders[-1]} is unreadable ({str(error).splitlines()[0]}); starting anew")
            return None
        order.set_state(streams["order"])
        torch.set_rng_state(streams["cpu"])
        if torch.cuda.is_available() and "cuda" in streams:
            torch.cuda.set_rng_state(streams["cuda"])
        return progress, moments

    def save(self, progress: TrainingProgress, model: torch.nn.Module, optimizer: torch.optim.Optimizer, order: torch.Generator) -> None:
        """Write a checkpoint, then remove the earlier ones."""
        target = self.folder / f"at-{progress.phase}-{progress.epoch}"
        temporary = self.folder / f".{target.name}.{os.getpid()}.tmp"
        shutil.rmtree(target, ignore_errors=True)
        temporary.mkdir()
        if progress.weights is not None and not self._best(progress).is_file():
            partial = self.folder / f".best.{os.getpid()}.tmp"
            save_file(progress.weights, partial)
            os.replace(partial, self._best(progress))
        streams = {"order": order.get_state(), "cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            streams["cuda"] = torch.cuda.get_rng_state()
        save_file(copy_weights(model), temporary / "model.safetensors")
        save_file(optimizer_moments(optimizer), temporary / "optimizer.safetensors")
        save_file(streams, temporary / "random.safetensors")
        state = asdict(TrainingProgress(progress.phase, progress.epoch, progress.step, progress.history, progress.best))
        (temporary / "progress.json").write_text(json.dumps(state), encoding="utf-8")
        os.replace(temporary, target)
        kept = {target, self.folder / "job"} | ({self._best(progress)} if progress.weights is not None else set())
        for path in set(self.folder.iterdir()) - kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove(self) -> None:
        """Remove the folder, once the results of the training are written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _best(self, progress: TrainingProgress) -> Path:
        return self.folder / f"best-{progress.best}.safetensors"


def copy_weights(model: torch.nn.Module) -> Weights:
    """A copy of a model's weights on the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def optimizer_moments(optimizer: torch.optim.Optimizer) -> Weights:
    """The tensors of an optimizer's state, by the name NUMBER.MOMENT, where NUMBER is the parameter's."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {f"{number}.{name}": tensor.detach().cpu().clone() for number, moments in state.items() for name, tensor in moments.items()}


def restore_moments(optimizer: torch.optim.Optimizer, moments: Weights) -> None:
    """Load the tensors of `optimizer_moments` into an optimizer."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in moments.items():
        number, name = key.split(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
