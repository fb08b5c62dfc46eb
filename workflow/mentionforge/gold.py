"""Gold mentions as flat word spans, for training and evaluation of recognizers alike.

In: mentions in characters, which may be discontinuous, begin inside a word, overlap or repeat; words of `mentionforge.text.words`. Out: word spans
(first, last), end exclusive, that fit into IOB2 tags, and counts of every mention that was changed or left out. Knows nothing of concepts.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mentionforge.text import Span

TAGS = ("O", "B-Disease", "I-Disease")
"""IOB2: every mention begins with B, so adjacent mentions stay separate."""

Discontinuous = Literal["longest", "hull", "drop"]


@dataclass(frozen=True)
class FlatMentions:
    """Mentions of one document that fit into a sequence of tags.

    Attributes:
        spans: Word spans, in order; none is empty, and no two overlap.
        sources: For each span, the position of its mention in the input of `flatten`.
        counts: `mentions` in the input = `kept` + `dropped_discontinuous` + `dropped_overlap` + `dropped_empty`; and, among all,
            how many were `discontinuous`, and among those kept, how many were `widened` to whole words.
    """

    spans: tuple[Span, ...]
    sources: tuple[int, ...]
    counts: Counter[str]


def contiguous_span(pieces: Sequence[Span], policy: Discontinuous) -> Span | None:
    """The single span of a discontinuous mention, by the policy: its longest piece (the first of equals), the hull of all pieces, or none."""
    if len(pieces) == 1:
        return pieces[0]
    if policy == "drop":
        return None
    if policy == "hull":
        return min(start for start, _ in pieces), max(end for _, end in pieces)
    return max(pieces, key=lambda span: (span[1] - span[0], -span[0]))


def covering(words: Sequence[Span], span: Span) -> Span:
    """Word span of the words that a character span touches; (i, i) if it touches none.

    Args:
        words: Character spans of the document's words, in order.
        span: Characters, end exclusive.
    """
    first = bisect.bisect_right(words, span[0], key=lambda word: word[1])
    last = bisect.bisect_left(words, span[1], key=lambda word: word[0])
    return first, max(first, last)


def flatten(words: Sequence[Span], mentions: Sequence[Sequence[Span]], policy: Discontinuous) -> FlatMentions:
    """Reduce a document's mentions to word spans that do not overlap.

    A discontinuous mention is reduced by `policy`. A mention that begins or ends inside a word is widened to the whole word. Of mentions that then
    share a word, only the longest is kept (the first of equals).

    Args:
        words: Character spans of the document's words, in order.
        mentions: The pieces of each mention, in characters.
        policy: How a discontinuous mention is reduced.
    """
    counts = Counter(mentions=len(mentions))
    candidates: list[tuple[int, Span, bool]] = []
    for source, pieces in enumerate(mentions):
        counts["discontinuous"] += len(pieces) > 1
        span = contiguous_span(pieces, policy)
        if span is None:
            counts["dropped_discontinuous"] += 1
            continue
        first, last = covering(words, span)
        if first == last:
            counts["dropped_empty"] += 1
            continue
        candidates.append((source, (first, last), words[first][0] < span[0] or words[last - 1][1] > span[1]))
    tagged: set[int] = set()
    kept = []
    for source, (first, last), widened in sorted(candidates, key=lambda f: (words[f[1][0]][0] - words[f[1][1] - 1][1], f[1][0], f[0])):
        if tagged.isdisjoint(range(first, last)):
            tagged.update(range(first, last))
            kept.append(((first, last), source))
            counts["widened"] += widened
        else:
            counts["dropped_overlap"] += 1
    kept.sort()
    counts["kept"] = len(kept)
    return FlatMentions(tuple(span for span, _ in kept), tuple(source for _, source in kept), counts)


def tags(length: int, spans: Iterable[Span]) -> list[str]:
    """IOB2 tags of a text of `length` words with the given word spans, which must not overlap."""
    result = ["O"] * length
    for first, last in spans:
        result[first:last] = ["B-Disease"] + ["I-Disease"] * (last - first - 1)
    return result
