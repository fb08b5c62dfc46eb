"""JSON objects read strictly: `json.loads(text, object_pairs_hook=unique)` refuses a key that stands twice."""

from __future__ import annotations

from typing import Any


class TwiceError(ValueError):
    """A key that an object has twice: one of them would be lost."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs.

    Raises:
        TwiceError: A key stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise TwiceError("an object has a key twice")
    return found
