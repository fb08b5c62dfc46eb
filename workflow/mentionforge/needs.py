"""Resources that a job requests: memory, disk, time and GPUs.

In: name of the rule, a `JobLoad` (sizes of inputs and weights, devices), the attempt. Out: MB, minutes, number of GPUs. All figures are in the table
NEEDS; workflow/rules/needs.smk gives them to Snakemake, where a profile may override them. Knows nothing of Snakemake and the configuration.
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
"""Names of rule inputs that are weights: stamps (fetched.json) or folders."""

BESIDE = {"entries.parquet": "vectors.npy"}
"""Files that a command reads although they are no inputs of the rule, by the name of the input in the same folder."""

LANGUAGE_MODELS = ("finetune", "sample", "sample_vllm")
"""Rules whose input `model` is a language model; in all other rules it is an encoder."""

ASSUMED_MB = {"language model": 26_000, "encoder": 450}
"""Assumed sizes of weights that are not fetched yet and whose name states no size: LLaMA-2-13B and BERT base, as in the paper."""

NO_GPU = "none"
"""Value of MENTIONFORGE_GPU that requests no GPU at all."""


@dataclass(frozen=True)
class Need:
    """The figures of one rule. They are multiplied by the number of the attempt.

    memory  = memory_mb x processes + per_input_mb x input + per_weights_mb x weights
    minutes = minutes + minutes_per_mb x input + minutes_per_gb x weights / devices

    Attributes:
        memory_mb: Memory of the program and its libraries, in MB, per process.
        per_input_mb: MB of memory per MB of tables read.
        per_weights_mb: MB of memory per MB of weights loaded.
        minutes: Time of a job with small inputs.
        minutes_per_mb: Minutes per MB of tables.
        minutes_per_gb: Minutes per GB of weights on one device.
        gpu: Whether the command computes on a GPU if there is one.
    """

    memory_mb: int
    per_input_mb: float
    minutes: int
    minutes_per_mb: float
    per_weights_mb: float = 0.0
    minutes_per_gb: float = 0.0
    gpu: bool = False


# One MB of compressed Parquet takes up to ten MB of memory, and more as tokens. Training holds weights, gradients and two moments of each.
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
"""Figures of every rule whose jobs may run on another machine; `localrules:` run where Snakemake runs."""

SEVERAL = "_together"
"""Ends the names of rules that link several indexes in one job; a number may follow."""


@dataclass(frozen=True)
class Weights:
    """Sizes of a job's weights, in MB: all files together, and the largest one."""

    total_mb: float = 0.0
    largest_mb: float = 0.0

    def __add__(self, other: Weights) -> Weights:
        """Sizes of two sets of weights that a job loads together."""
        return Weights(self.total_mb + other.total_mb, max(self.largest_mb, other.largest_mb))


@dataclass(frozen=True)
class JobLoad:
    """The quantities that determine the resources of a job.

    Attributes:
        input_mb: Size of the tables that it reads; for a shard, its share of them.
        weights: Sizes of the weights that it loads.
        devices: Number of GPUs, or of processes, that share the computation.
        merges: Whether it saves a copy of the weights with the adapter merged into them.
        single: Whether it computes in float32, which doubles the size of weights stored in 16 bits.
    """

    input_mb: float = 0.0
    weights: Weights = Weights()
    devices: int = 1
    merges: bool = False
    single: bool = False


def need_of(rule: str) -> Need:
    """Figures of a rule; a rule for several indexes (`SEVERAL`) has those of the rule for one."""
    return NEEDS[rule.partition(SEVERAL)[0]]


def gpu_rules() -> set[str]:
    """Rules whose commands compute on a GPU if there is one."""
    return {rule for rule, need in NEEDS.items() if need.gpu}


def memory_mb(rule: str, load: JobLoad, attempt: int = 1) -> int:
    """Memory of a job, in MB.

    Weights count once, and a second time if they are merged or converted to float32. Fine-tuning starts one process per device: each further process
    adds the program and the largest file of the weights, since weights are quantized to 4 bits file by file.
    """
    need = need_of(rule)
    processes = load.devices if rule == "finetune" else 1
    copies = 1 + load.merges + load.single
    weights = need.per_weights_mb * copies * load.weights.total_mb + (processes - 1) * need.per_weights_mb * load.weights.largest_mb
    return math.ceil((need.memory_mb * processes + need.per_input_mb * load.input_mb + weights) * attempt)


def disk_mb(rule: str, load: JobLoad, attempt: int = 1) -> int:
    """Local disk of a job, in MB; more for rules with GPUs, which write vectors or checkpoints, and for a merged copy of the weights."""
    return math.ceil((4000 + 8000 * need_of(rule).gpu + 3 * load.input_mb + load.merges * 1.1 * load.weights.total_mb) * attempt)


def minutes(rule: str, load: JobLoad, attempt: int = 1) -> int:
    """Longest time of a job, in minutes."""
    need = need_of(rule)
    return math.ceil((need.minutes + need.minutes_per_mb * load.input_mb + need.minutes_per_gb * load.weights.total_mb / 1000 / load.devices) * attempt)


def gpus(rule: str, load: JobLoad, gpu_type: str | None = None) -> int:
    """Number of GPUs of a job: its devices, if the rule computes on GPUs and the job loads weights; else 0, as for a filter without an encoder.

    Args:
        rule: Name of the rule.
        load: The load of the job.
        gpu_type: Value of MENTIONFORGE_GPU: a type, or `none`.
    """
    return load.devices if need_of(rule).gpu and load.weights.total_mb and gpu_type != NO_GPU else 0


def devices(rule: str, settings: Any) -> int:
    """Number of devices that a job of the rule uses at the same time.

    Args:
        rule: Name of the rule.
        settings: Settings of the generator, for rules of generators; else none.
    """
    if rule == "finetune":
        return int(settings.finetune.devices)
    return max(1, settings.backend.gpus) if rule == "sample_vllm" else 1


def load_of(rule: str, input_mb: float, weights: Weights, settings: Any = None) -> JobLoad:
    """The load of a job, from the sizes of its inputs and weights, and the settings of its generator, if it has one."""
    sampling = rule in LANGUAGE_MODELS and rule != "finetune"
    return JobLoad(
        input_mb=input_mb / settings.shards if sampling else input_mb,
        weights=weights,
        devices=devices(rule, settings),
        merges=rule == "sample_vllm" and settings.finetune is not None and settings.backend.merges_adapter,
        single=sampling and settings.dtype == "float32",
    )


def size_mb(paths: Iterable[str]) -> float:
    """Size of files, and of all files below folders, in MB of 10^6 bytes; files in BESIDE are added.

    Raises:
        FileNotFoundError: A path does not exist yet; `filename` is the path.
    """
    total = 0
    for path in paths:
        total += _bytes_below(path) if (folder := Path(path)).is_dir() else folder.stat().st_size
        beside = BESIDE.get(folder.name)
        if beside and (extra := folder.with_name(beside)).is_file():
            total += extra.stat().st_size
    return total / 1e6


def _bytes_below(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def weights_at(path: str) -> Weights | None:
    """Sizes of the weights of a stamp or in a folder; None if they do not exist yet."""
    try:
        location = Path(path)
        return _weights_below(path if location.is_dir() else str(_folder_of(path, location.stat().st_mtime_ns)))
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
    """Assumed sizes of weights that do not exist yet: by the number of parameters in the name (…-13b-…, 2 bytes each), else as in the paper.

    Args:
        rule: Name of the rule.
        role: Name of its input.
        reference: Settings of the model (`hub`, `path`, `file`); empty for weights that are trained here.
    """
    names = [str(reference.get(key) or "").rpartition("/")[2] for key in ("hub", "path", "file")]
    stated = next(filter(None, (re.search(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])", name) for name in names)), None)
    if stated:
        total = float(stated[1]) * (2000 if stated[2] in "bB" else 2)
    else:
        total = ASSUMED_MB["language model" if role == "model" and rule in LANGUAGE_MODELS else "encoder"]
    return Weights(total, min(total, 10_000))
