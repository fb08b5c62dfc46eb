"""Splits of documents, by lists of ids or by a seed.

In: lists of document ids; or a document id, a seed and shares. Out: the split. Used by the checks of the configuration and by readers of corpora.
Knows nothing of texts and formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mentionforge.errors import UserError

SUFFIXES = (".text", ".txt", ".pipe", ".ann")
"""Endings of file names that lists may contain instead of document ids."""


def read_lists(lists: Mapping[str, Sequence[Path]]) -> dict[str, tuple[str, str]]:
    """Split and position (file:row) of each document id in the lists.

    Args:
        lists: For each split, text files with one id per line; blank lines and lines that begin with # are skipped.

    Raises:
        UserError: A list cannot be read or is empty, or an id is repeated; the message names file and row.
    """
    split_of: dict[str, tuple[str, str]] = {}
    for split, paths in lists.items():
        for path in paths:
            before = len(split_of)
            for row, line in enumerate(_text(path).splitlines(), start=1):
                name = normalized(line.strip())
                if not name or name.startswith("#"):
                    continue
                if name in split_of:
                    raise UserError("document listed twice", f"{path}:{row}", f"{name} is in {split_of[name][1]} too", "remove one of them")
                split_of[name] = split, f"{path}:{row}"
            if len(split_of) == before:
                raise UserError("empty list", str(path), "it names no document", "one document id per line")
    return split_of


def normalized(name: str) -> str:
    """A document id without the ending of a file name."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def by_seed(doc_id: str, seed: int, shares: Mapping[str, float]) -> str:
    """The split of a document by its hash: SHA-256 of `SEED:ID`, as a number from 0 to 1, falls into the share of train, dev or test, in this order."""
    point = int.from_bytes(hashlib.sha256(f"{seed}:{doc_id}".encode()).digest()[:8], "big") / 2**64
    order = [split for split in ("train", "dev", "test") if split in shares]
    reached = 0.0
    for split in order:
        reached += shares[split]
        if point < reached:
            return split
    return order[-1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("unreadable list", str(path), type(error).__name__, "correct the path, or convert the file to UTF-8") from error
