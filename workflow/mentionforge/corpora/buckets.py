"""Buckets of a corpus' mentions (see `mentionforge.buckets`), and mentions that sentences cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mentionforge.buckets import Buckets
from mentionforge.text import Span

__all__ = ["Buckets", "is_cut"]


def is_cut(spans: Sequence[Span], sentences: Sequence[Span]) -> bool:
    """Whether no sentence holds all pieces of a mention; `sentences` in rising order, not overlapping."""
    start, end = spans[0][0], spans[-1][1]
    i = bisect_right(sentences, start, key=lambda s: s[0]) - 1
    return i < 0 or end > sentences[i][1]
