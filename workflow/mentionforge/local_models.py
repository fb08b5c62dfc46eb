"""Weights in a local folder that somebody else may change: their digests, and whether the files are still those of the last fetch.

In: the settings of a model with `path`. Out: the stamp's fields; a short text that changes when the files do. Knows nothing of hub and wheels.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mentionforge import modelfiles
from mentionforge.errors import UserError
from mentionforge.model_settings import Model
from mentionforge.prepared_weights import SEEN, digests_of, prepare_safetensors, stamp_of, write_json
from mentionforge.progress import say

SAVED = "save the model and its tokenizer there with save_pretrained"


def watched(model: Model, target: Path) -> str:
    """A short text that changes when the files of a local folder change. It is a parameter of the fetch, so that a change runs the fetch anew.

    Made of names, sizes, times and inodes of the files, which is cheap enough for every start of the workflow. Where these changed since the last fetch,
    the files are digested: files that were only copied or touched are no change. Empty for the hub and for wheels, whose files do not change.

    Args:
        model: The reference.
        target: Folder for the model's stamp.
    """
    if model.path is None:
        return ""
    now = _files_signature(Path(model.path))
    try:
        seen = json.loads((target / SEEN).read_text(encoding="utf-8"))
        if seen["look"] == now:
            return str(seen["since"])
        if not (target / "fetched.json").is_file():
            return now
        say(f"reading the files in {model.path}, which are other ones or newer than at the last fetch")
        if seen["sha256"] == digests_of(Path(model.path), *_needed_files(Path(model.path), ""))[0]:
            write_json(target / SEEN, seen | {"look": now})
            return str(seen["since"])
    except (OSError, ValueError, KeyError, TypeError, UserError):  # never fetched, or not usable, which the fetch says
        pass
    return now


def from_folder(name: str, model: Model, target: Path, seen: str) -> dict[str, Any]:
    """Digest the files of a local folder and convert its weights where they are .bin; returns the stamp."""
    key = f"config: models.{name}.path"
    source = Path.cwd() / str(model.path)
    if not source.is_dir():
        raise UserError("missing model", key, f"{model.path} does not exist", "correct the path; it counts from the working folder")
    now = _files_signature(source)
    wanted, files = _needed_files(source, key)
    sha256, digests = digests_of(source, wanted, files)
    stamp = stamp_of(model, source, f"local:{sha256[:12]}", sha256, files=digests)
    if wanted.pickled:
        stamp |= prepare_safetensors(source, wanted, target, f"{source} {sha256}", key, sha256, digests)
    write_json(target / SEEN, {"look": now, "since": seen or _since(target, sha256) or now, "sha256": sha256})
    return stamp


def _since(target: Path, sha256: str) -> str | None:
    """The value of `watched` at the last fetch of the same files, so that a fetch by hand does not change it."""
    try:
        last = json.loads((target / SEEN).read_text(encoding="utf-8"))
        return str(last["since"]) if last["sha256"] == sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _needed_files(source: Path, key: str) -> tuple[modelfiles.Needed, tuple[str, ...]]:
    return modelfiles.check(source, key, SAVED)


def _files_signature(source: Path) -> str:
    """Names, sizes, times and inodes of a folder's files, in few characters."""
    if not source.is_dir():
        return "missing"
    # Time of change and inode tell files apart that were copied with their times, or unpacked from an archive that gives all files one.
    stats = [(path.name, path.stat()) for path in sorted(source.iterdir()) if path.is_file() and not path.name.startswith(".")]
    text = "".join(f"{name}\0{s.st_size}\0{s.st_mtime_ns}\0{s.st_ctime_ns}\0{s.st_ino}\n" for name, s in stats)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
