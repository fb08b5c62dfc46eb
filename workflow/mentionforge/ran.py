"""What a job ran with: a line that every command with a model or a spec leaves in its log, and how it is read back.

Provenance does not depend on the machine, so that equal inputs give equal bytes; a job's time does. So the line stands in the log, beside the benchmark file.
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
    """What a job ran with, as its log says.

    Attributes:
        device: Name and number of the devices.
        weights: Of its model; none: it had none.
        settings: First digits of the SHA-256 of its spec; none: it had none.
    """

    device: str
    weights: int | None
    settings: str | None


RECORD = re.compile(r"^ran on: (?P<device>.+?)(?:; weights: (?P<weights>[\d,]+))?(?:; settings: (?P<settings>[0-9a-f]{12}))?$", re.MULTILINE)


def record(log: Path) -> Record | None:
    """What a job ran with; none where its log does not say."""
    try:
        found = RECORD.search(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if not found:
        return None
    return Record(found["device"], int(found["weights"].replace(",", "")) if found["weights"] else None, found["settings"])


def line(arguments: list[str]) -> str:
    """The line that a command leaves in its log for `record`, from its own arguments: it is made when the work is done.

    Args:
        arguments: Of the command line; --model names a stamp or a folder, --spec a spec.
    """
    parts = [f"ran on: {_device()}"]
    given = {flag: Path(value) for flag, value in pairwise(arguments) if flag in ("--model", "--spec")}
    if model := given.get("--model"):
        size = shape_in(_folder(model))
        parts += [f"weights: {size.weights:,}"] if size else []
    if spec := given.get("--spec"):
        with suppress(OSError, ValueError):
            parts += [f"settings: {settings_digest(spec.read_text(encoding='utf-8'))}"]
    return "; ".join(parts)


def settings_digest(spec: str) -> str:
    """Twelve digits that stand for the text of a spec, however it is laid out."""
    return digest(json.dumps(json.loads(spec), sort_keys=True))[:12]


def _folder(model: Path) -> Path:
    if model.is_dir():
        return model
    try:
        place = Path(json.loads(model.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError):
        return model
    return place if place.is_absolute() else model.parent / place


def _device() -> str:
    """The GPUs that torch sees, where it was loaded and sees some; else the processor and its threads."""
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
