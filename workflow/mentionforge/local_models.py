"""Weights in a local folder, whose files may change at any time.

In: the settings of a model with `path`. Out: the stamp with digests; a short text that changes when the files change. Knows nothing of hub and wheels.
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


def files_state(model: Model, target: Path) -> str:
    """A short text that changes when the files of a local folder change. It is a parameter of the fetch rule, so that changed files are fetched again.

    It is computed from names, sizes, times and inodes of the files, at every start of the workflow. If these changed since the last fetch, the digests of
    the files decide: files that were only copied or touched count as unchanged. Empty for the hub and for wheels, whose files do not change.

    Args:
        model: Settings of the model.
        target: Folder for the model's stamp.
    """
    if model.path is None:
        return ""
    signature = _files_signature(Path(model.path))
    try:
        last_seen = json.loads((target / SEEN).read_text(encoding="utf-8"))
        if last_seen["look"] == signature:
            return str(last_seen["since"])
        if not (target / "fetched.json").is_file():
            return signature
        say(f"reading the files in {model.path}, which are other ones or newer than at the last fetch")
        if last_seen["sha256"] == digests_of(Path(model.path), *_needed_files(Path(model.path), ""))[0]:
            write_json(target / SEEN, last_seen | {"look": signature})
            return str(last_seen["since"])
    except (OSError, ValueError, KeyError, TypeError, UserError):  # never fetched, or unusable; then the fetch raises an error
        pass
    return signature


def from_folder(name: str, model: Model, target: Path, seen: str) -> dict[str, Any]:
    """Digest the files of a local folder, and convert .bin weights; return the stamp."""
    key = f"config: models.{name}.path"
    source = Path.cwd() / str(model.path)
    if not source.is_dir():
        raise UserError("missing model", key, f"{model.path} does not exist", "correct the path; it counts from the working folder")
    signature = _files_signature(source)
    needed, files = _needed_files(source, key)
    sha256, digests = digests_of(source, needed, files)
    stamp = stamp_of(model, source, f"local:{sha256[:12]}", sha256, files=digests)
    if needed.pickled:
        stamp |= prepare_safetensors(source, needed, target, f"{source} {sha256}", key, sha256, digests)
    write_json(target / SEEN, {"look": signature, "since": seen or _since(target, sha256) or signature, "sha256": sha256})
    return stamp


def _since(target: Path, sha256: str) -> str | None:
    """The value of `files_state` at the last fetch of the same files; so a fetch by hand does not change it."""
    try:
        last = json.loads((target / SEEN).read_text(encoding="utf-8"))
        return str(last["since"]) if last["sha256"] == sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _needed_files(source: Path, key: str) -> tuple[modelfiles.NeededFiles, tuple[str, ...]]:
    return modelfiles.check(source, key, SAVED)


def _files_signature(source: Path) -> str:
    """Hash of names, sizes, times and inodes of a folder's files."""
    if not source.is_dir():
        return "missing"
    # Change time and inode distinguish files with equal modification times, as after a copy that keeps times, or in some archives.
    stats = [(path.name, path.stat()) for path in sorted(source.iterdir()) if path.is_file() and not path.name.startswith(".")]
    text = "".join(f"{name}\0{s.st_size}\0{s.st_mtime_ns}\0{s.st_ctime_ns}\0{s.st_ino}\n" for name, s in stats)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
