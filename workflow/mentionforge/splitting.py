"""Which split a document belongs to: by lists of ids, or by a seed. The config checks the lists before the DAG is built; corpora reads by them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mentionforge.errors import UserError

SUFFIXES = (".text", ".txt", ".pipe", ".ann")
"""Endings that lists of notes may give the names."""


def read_lists(lists: Mapping[str, Sequence[Path]]) -> dict[str, tuple[str, str]]:
    """Split and place (file:row) of each document id that the lists name.

    Args:
        lists: For each split, text files with one id per line; blank lines and those that begin with # are left out.

    Raises:
        UserError: An unreadable list, an empty one, or an id given twice; names file and row.
    """
    found: dict[str, tuple[str, str]] = {}
    for split, paths in lists.items():
        for path in paths:
            before = len(found)
            for row, line in enumerate(_text(path).splitlines(), start=1):
                name = normalized(line.strip())
                if not name or name.startswith("#"):
                    continue
                if name in found:
                    raise UserError("document listed twice", f"{path}:{row}", f"{name} is in {found[name][1]} too", "remove one of them")
                found[name] = split, f"{path}:{row}"
            if len(found) == before:
                raise UserError("empty list", str(path), "it names no document", "one document id per line")
    return found


def normalized(name: str) -> str:
    """A document id without the ending of a note's file."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def by_seed(doc_id: str, seed: int, shares: Mapping[str, float]) -> str:
    """The split of a document: where SHA-256 of `SEED:ID`, as a number from 0 to 1, falls among the shares in the order train, dev, test."""
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
