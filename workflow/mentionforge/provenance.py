"""Where a result comes from: versions, digests of specs and inputs, git revision.

Nothing here depends on the time or the machine, so that equal inputs give equal bytes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mentionforge import __version__

_digests: dict[tuple[str, int, int, int], str] = {}
"""Digests made so far, by path, size, time of change and inode."""


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal; made once per process as long as the file does not change."""
    key = _identity(path)
    if key not in _digests:
        with open(path, "rb") as handle:
            _digests[key] = hashlib.file_digest(handle, "sha256").hexdigest()
    return _digests[key]


def digested(chunks: Iterable[bytes], path: str | Path) -> Iterator[bytes]:
    """The same chunks; once all of them, the whole content of a file, went by, `sha256_file` knows its digest without reading it again."""
    key, digest = _identity(path), hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    _digests[key] = digest.hexdigest()


def _identity(path: str | Path) -> tuple[str, int, int, int]:
    stat = Path(path).stat()
    return os.fspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256_paths(paths: Iterable[str | Path]) -> str:
    """One SHA-256 over files and folders: names and bytes of every file, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(map(Path, paths)):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path) if path.is_dir() else file.name
            digest.update(f"{name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def digest(text: str) -> str:
    """First 12 hexadecimal digits of a text's SHA-256: for ids and caches, not for security."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def git_revision() -> str:
    """Revision of the checkout the package runs from, with `+` if tracked files are changed; `unknown` outside git."""
    folder = Path(__file__).parent
    try:
        revision = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "."], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+" if changed.strip() else "")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of the named packages."""
    return {name: metadata.version(name) for name in packages}


def stamp(stage: str, inputs: Mapping[str, str | Path], **more: Any) -> dict[str, Any]:
    """Provenance of a result: package version, git revision, stage, and the SHA-256 of each input file.

    Args:
        stage: The command that made the result, as "kb extract".
        inputs: Role and path of each input; folders are digested as a whole.
        more: Counts, versions and policies worth keeping, as JSON data.
    """
    return {
        "mentionforge": __version__,
        "git_revision": git_revision(),
        "stage": stage,
        "inputs": {role: sha256_paths([path]) for role, path in sorted(inputs.items())},
        **more,
    }
