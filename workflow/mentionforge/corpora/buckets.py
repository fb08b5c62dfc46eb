"""Out-of-distribution buckets of mentions (from `mentionforge.buckets`), and the test for mentions that cross a sentence boundary.

In: spans of mentions and sentences, surfaces and CUIs. Out: buckets, and whether a mention crosses a boundary. Knows nothing of files and knowledge bases.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mentionforge.buckets import Buckets
from mentionforge.text import Span

__all__ = ["Buckets", "is_cut"]


def is_cut(spans: Sequence[Span], sentences: Sequence[Span]) -> bool:
    """Whether no single sentence contains all pieces of a mention. `sentences` are ascending and do not overlap."""
    start, end = spans[0][0], spans[-1][1]
    i = bisect_right(sentences, start, key=lambda s: s[0]) - 1
    return i < 0 or end > sentences[i][1]
