"""The line in a job's log about device, model size and settings, which estimates of run times need.

In: the arguments of a command, or a log. Out: the line, or a `Record`. The line is in the log and not in the provenance of tables, since provenance must
not depend on the machine. Knows nothing of Snakemake and of estimates.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mentionforge.architectures import shape_in
from mentionforge.provenance import digest


@dataclass(frozen=True)
class Record:
    """Device, model size and settings of a job, from its log.

    Attributes:
        device: Name and number of the devices.
        weights: Number of weights of the model; None if the job had no model.
        settings: First digits of the SHA-256 of the spec; None if the job had no spec.
    """

    device: str
    weights: int | None
    settings: str | None


RECORD = re.compile(r"^ran on: (?P<device>.+?)(?:; weights: (?P<weights>[\d,]+))?(?:; settings: (?P<settings>[0-9a-f]{12}))?$", re.MULTILINE)


def record(log: Path) -> Record | None:
    """The record in a log; None if the log has none."""
    try:
        match = RECORD.search(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if not match:
        return None
    return Record(match["device"], int(match["weights"].replace(",", "")) if match["weights"] else None, match["settings"])


def line(arguments: list[str]) -> str:
    """The line that a command writes to its log at its end; `record` reads it.

    Args:
        arguments: Arguments of the command; --model names a stamp or a folder, --spec a spec.
    """
    fields = [f"ran on: {_device()}"]
    paths = {flag: Path(value) for flag, value in pairwise(arguments) if flag in ("--model", "--spec")}
    if model := paths.get("--model"):
        size = shape_in(_folder(model))
        fields += [f"weights: {size.weights:,}"] if size else []
    if spec := paths.get("--spec"):
        with suppress(OSError, ValueError):
            fields += [f"settings: {settings_digest(spec.read_text(encoding='utf-8'))}"]
    return "; ".join(fields)


def settings_digest(spec: str) -> str:
    """First twelve hexadecimal digits of a spec's SHA-256, independent of its layout."""
    return digest(json.dumps(json.loads(spec), sort_keys=True))[:12]


def _folder(model: Path) -> Path:
    if model.is_dir():
        return model
    try:
        folder = Path(json.loads(model.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError):
        return model
    return folder if folder.is_absolute() else model.parent / folder


def _device() -> str:
    """The GPUs, if torch is loaded and sees any; else the processor and the number of threads."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        count = int(os.environ.get("WORLD_SIZE", torch.cuda.device_count()))
        return f"{count} x {torch.cuda.get_device_name()}"
    try:
        names = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        names = None
    threads = torch.get_num_threads() if torch is not None else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"cpu ({names[1].strip() if names else 'unknown'}), {threads} threads"
