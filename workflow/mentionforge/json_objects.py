"""Strict reading of JSON objects: `json.loads(text, object_pairs_hook=unique)` raises an error for a repeated key.

In: pairs of keys and values. Out: an object, or an error for a repeated key. Knows nothing of what the keys mean.
"""

from __future__ import annotations

from typing import Any


class TwiceError(ValueError):
    """A key is repeated in an object; one of its values would be lost."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these pairs of key and value.

    Raises:
        TwiceError: A key is repeated.
    """
    result = dict(pairs)
    if len(result) < len(pairs):
        raise TwiceError("an object has a key twice")
    return result
