"""Resources that a job asks for: memory, disk, time and GPUs, from the size of its inputs and weights, its devices and the attempt.

In: name of the rule, a `Work`, the attempt. Out: MB, minutes, GPUs. All figures stand in one table, NEEDS; workflow/rules/needs.smk hands them to
Snakemake, where a profile or the command line (`set-resources`) may override them. Knows nothing of Snakemake and of the configuration.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

WEIGHTS = ("model", "adapter", "encoder", "teacher")
"""Names of a rule's inputs that are weights: stamps (fetched.json) or folders."""

BESIDE = {"entries.parquet": "vectors.npy"}
"""Files that a command reads although they are no inputs of the rule, by the name of the input beside them."""

LANGUAGE_MODELS = ("finetune", "sample", "sample_vllm")
"""Rules whose input `model` is a language model; everywhere else it is an encoder."""

ASSUMED_MB = {"language model": 26_000, "encoder": 450}
"""Sizes of weights that are not fetched yet and whose name states no size: those of LLaMA-2-13B and BERT base, as in the paper."""

NO_GPU = "none"
"""Value of MENTIONFORGE_GPU that asks for no GPU at all."""


@dataclass(frozen=True)
class Need:
    """The figures of one rule. They are multiplied by the number of the attempt.

    memory  = memory_mb x processes + per_input_mb x input + per_weights_mb x weights
    minutes = minutes + minutes_per_mb x input + minutes_per_gb x weights / devices

    Attributes:
        memory_mb: Memory of the program and its libraries, in MB; of each process, where a rule starts one per device.
        per_input_mb: MB of memory for each MB of tables that are read.
        per_weights_mb: MB of memory for each MB of weights that are loaded.
        minutes: Time of a job with little to read.
        minutes_per_mb: Minutes for each MB of tables.
        minutes_per_gb: Minutes for each GB of weights, on one device.
        gpu: Whether the command computes on a GPU where there is one.
    """

    memory_mb: int
    per_input_mb: float
    minutes: int
    minutes_per_mb: float
    per_weights_mb: float = 0.0
    minutes_per_gb: float = 0.0
    gpu: bool = False


# Tables are compressed: one MB of Parquet is up to some ten MB in memory, and more as tokens. Training keeps weights, gradients and two moments.
NEEDS: dict[str, Need] = {
    "kb_extract": Need(4000, 0.5, 60, 0.02),
    "kb_parents": Need(3000, 0.5, 60, 0.02),
    "corpus_read": Need(3000, 10, 30, 1),
    "corpus_cards": Need(2000, 10, 20, 0.5),
    "leakage": Need(2000, 20, 20, 1),
    "prompts": Need(2000, 10, 15, 0.5),
    "pairs": Need(3000, 10, 15, 0.5),
    "finetune": Need(6000, 20, 60, 60, per_weights_mb=1.2, minutes_per_gb=25, gpu=True),
    "sample": Need(6000, 5, 120, 600, per_weights_mb=1.2, minutes_per_gb=20, gpu=True),
    "sample_vllm": Need(12000, 5, 120, 600, per_weights_mb=1.2, minutes_per_gb=20, gpu=True),
    "notes": Need(2000, 10, 15, 0.5),
    "control": Need(2000, 10, 15, 0.5),
    "locate": Need(3000, 15, 60, 1, per_weights_mb=4, gpu=True),
    "filter": Need(3000, 20, 60, 2, per_weights_mb=4, gpu=True),
    "augment": Need(2000, 20, 5, 0.2),
    "recognize_real": Need(5000, 100, 180, 20, per_weights_mb=10, minutes_per_gb=100, gpu=True),
    "recognize_augmented": Need(5000, 100, 240, 10, per_weights_mb=10, minutes_per_gb=100, gpu=True),
    "recognize_cross": Need(4000, 40, 60, 5, per_weights_mb=4, minutes_per_gb=30, gpu=True),
    "recognize_dictionary": Need(3000, 20, 60, 0.5),
    "embed_kb": Need(4000, 100, 60, 2, per_weights_mb=4, minutes_per_gb=60, gpu=True),
    "embed_corpus": Need(4000, 60, 30, 2, per_weights_mb=4, minutes_per_gb=60, gpu=True),
    "embed_generator": Need(4000, 60, 30, 2, per_weights_mb=4, minutes_per_gb=60, gpu=True),
    "search_names": Need(3000, 3, 60, 0.05),
    "link_baseline": Need(2000, 3, 5, 0.01),
    "link_augmented": Need(2000, 3, 5, 0.01),
    "fuse": Need(3000, 8, 30, 0.5),
    "align": Need(6000, 40, 240, 1, per_weights_mb=16, minutes_per_gb=120, gpu=True),
    "rerank_train": Need(6000, 40, 240, 1, per_weights_mb=16, minutes_per_gb=120, gpu=True),
    "rerank": Need(5000, 20, 120, 1, per_weights_mb=4, minutes_per_gb=60, gpu=True),
    "external_rankings": Need(3000, 20, 20, 0.5),
    "external_spans": Need(2000, 20, 20, 0.5),
    "predicted_mentions": Need(2000, 20, 20, 1),
    "link_predicted": Need(4000, 3, 60, 0.05, per_weights_mb=4, minutes_per_gb=60, gpu=True),
    "evaluate_recognition": Need(3000, 8, 60, 0.5),
    "evaluate_normalization": Need(3000, 8, 60, 0.5),
    "evaluate_end_to_end": Need(3000, 8, 60, 0.5),
    "compare": Need(3000, 8, 240, 1),
    "summary": Need(2000, 8, 20, 0.2),
    "tidy": Need(2000, 8, 20, 0.2),
    "page": Need(4000, 8, 60, 0.5),
    "sweeps": Need(2000, 8, 60, 0.5),
}  # fmt: skip
"""Every rule whose jobs may run on another machine; those of `localrules:` run where Snakemake runs."""


@dataclass(frozen=True)
class Weights:
    """Sizes of a job's weights, in MB: all files together, and the largest one."""

    total_mb: float = 0.0
    largest_mb: float = 0.0

    def __add__(self, other: Weights) -> Weights:
        """Sizes of two sets of files that are both loaded."""
        return Weights(self.total_mb + other.total_mb, max(self.largest_mb, other.largest_mb))


@dataclass(frozen=True)
class Work:
    """Amount of work of a job.

    Attributes:
        input_mb: Size of the tables it reads; for a shard, its share of them.
        weights: The weights it loads.
        devices: GPUs, or processes, that share its work.
        merges: Whether it saves a copy of the weights with the adapter merged into them.
        single: Whether it computes in float32, which doubles the size of weights that are stored in 16 bits.
    """

    input_mb: float = 0.0
    weights: Weights = Weights()
    devices: int = 1
    merges: bool = False
    single: bool = False


def gpu_rules() -> set[str]:
    """Rules whose commands compute on a GPU where there is one."""
    return {rule for rule, need in NEEDS.items() if need.gpu}


def memory_mb(rule: str, work: Work, attempt: int = 1) -> int:
    """Memory of a job, in MB.

    Weights are counted once, and a second time where they are merged or doubled to float32. A fine-tuning starts one process per device: each
    further one needs the program once more and the largest file of the weights, since 4-bit weights are made file by file.
    """
    need = NEEDS[rule]
    processes = work.devices if rule == "finetune" else 1
    copies = 1 + work.merges + work.single
    weights = need.per_weights_mb * copies * work.weights.total_mb + (processes - 1) * need.per_weights_mb * work.weights.largest_mb
    return math.ceil((need.memory_mb * processes + need.per_input_mb * work.input_mb + weights) * attempt)


def disk_mb(rule: str, work: Work, attempt: int = 1) -> int:
    """Scratch of a job, in MB; more where vectors or checkpoints are written, and for a copy of the weights where they are merged."""
    return math.ceil((4000 + 8000 * NEEDS[rule].gpu + 3 * work.input_mb + work.merges * 1.1 * work.weights.total_mb) * attempt)


def minutes(rule: str, work: Work, attempt: int = 1) -> int:
    """Longest time of a job, in minutes."""
    need = NEEDS[rule]
    return math.ceil((need.minutes + need.minutes_per_mb * work.input_mb + need.minutes_per_gb * work.weights.total_mb / 1000 / work.devices) * attempt)


def gpus(rule: str, work: Work, wanted: str | None = None) -> int:
    """GPUs of a job: its devices, if its rule computes on GPUs and it loads weights; else 0, as for a filter that needs no encoder.

    Args:
        rule: Name of the rule.
        work: What the job has to do.
        wanted: Value of MENTIONFORGE_GPU: a type, or `none`.
    """
    return work.devices if NEEDS[rule].gpu and work.weights.total_mb and wanted != NO_GPU else 0


def devices(rule: str, settings: Any) -> int:
    """Devices that a job of the rule uses at the same time.

    Args:
        rule: Name of the rule.
        settings: Of the generator, where a generator does the work; else none.
    """
    if rule == "finetune":
        return int(settings.finetune.devices)
    return int(settings.backend.tensor_parallel) if rule == "sample_vllm" else 1


def work_of(rule: str, input_mb: float, weights: Weights, settings: Any = None) -> Work:
    """The work of a job, from the size of its inputs and the settings of its generator, if it has one."""
    sampling = rule in LANGUAGE_MODELS and rule != "finetune"
    return Work(
        input_mb=input_mb / settings.shards if sampling else input_mb,
        weights=weights,
        devices=devices(rule, settings),
        merges=rule == "sample_vllm" and settings.finetune is not None and settings.backend.adapter == "merged",
        single=sampling and settings.dtype == "float32",
    )


def size_mb(paths: Iterable[str]) -> float:
    """Size of files and of all files below folders, in MB of 10^6 bytes; with the files of BESIDE.

    Raises:
        FileNotFoundError: One is not there yet; `filename` is its path as given.
    """
    total = 0
    for path in paths:
        total += _bytes_below(path) if (folder := Path(path)).is_dir() else folder.stat().st_size
        beside = BESIDE.get(folder.name)
        if beside and (other := folder.with_name(beside)).is_file():
            total += other.stat().st_size
    return total / 1e6


def _bytes_below(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def weights_at(path: str) -> Weights | None:
    """Sizes of the weights that a stamp names or a folder holds; None if they are not there yet."""
    try:
        place = Path(path)
        return _weights_below(path if place.is_dir() else str(_folder_of(path, place.stat().st_mtime_ns)))
    except (OSError, ValueError, KeyError):
        return None


@lru_cache(maxsize=256)
def _folder_of(stamp: str, _changed: int) -> Path:
    folder = Path(json.loads(Path(stamp).read_text(encoding="utf-8"))["folder"])
    return folder if folder.is_absolute() else Path(stamp).parent / folder


def _weights_below(folder: str) -> Weights | None:
    """Sizes of the safetensors files of a folder, else of its .bin files; None if there are neither."""
    for pattern in ("*.safetensors", "*.bin"):
        if sizes := [path.stat().st_size / 1e6 for path in Path(folder).glob(pattern)]:
            return Weights(sum(sizes), max(sizes))
    return None


def assumed_weights(rule: str, role: str, reference: Mapping[str, Any]) -> Weights:
    """Sizes of weights that are not there yet: by the number of parameters in the name (…-13b-…, 2 bytes each), or else as in the paper.

    Args:
        rule: Name of the rule.
        role: Name of its input.
        reference: Settings of the model: `hub`, `path`, `file`; empty for weights that are trained here.
    """
    names = [str(reference.get(key) or "").rpartition("/")[2] for key in ("hub", "path", "file")]
    stated = next(filter(None, (re.search(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])", name) for name in names)), None)
    if stated:
        total = float(stated[1]) * (2000 if stated[2] in "bB" else 2)
    else:
        total = ASSUMED_MB["language model" if role == "model" and rule in LANGUAGE_MODELS else "encoder"]
    return Weights(total, min(total, 10_000))
