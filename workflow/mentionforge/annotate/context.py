"""Negation, family and hypothetical context of mentions, by rules after NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009).

A phrase reaches to the mentions after it (or before it), up to a phrase that ends its reach. What these algorithms leave open are the units that
nothing reaches across, and clinical notes are made of them: a line of a list is one, the lines of wrapped prose are one together, and a heading
reaches to the lines below it.

    No gout                           a line of a list: nothing below it is negated
    Denies:                           a heading: what is listed below it is negated
    - asthma
    Gout: No                          an answer
    Family history: gout in father    a heading with its text
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from mentionforge.annotate.phrases import (
    AFTER,
    ANSWER,
    ANSWERED,
    ANY_BOX,
    AWAY,
    BEFORE,
    EMPTY_BOX,
    ENDS,
    FAMILY,
    GLUED_MINUS,
    HYPOTHETICAL,
    IN_RELATIVE,
    MENTION,
    NAMES,
    NEGATED,
    PLUS,
    PSEUDO,
    STOP,
)
from mentionforge.annotate.units import units
from mentionforge.text import Span

_WINDOW = 160
"""Characters after a mention in which a phrase that reaches back is looked for."""
_RUN_KEPT = 12
_RUN = re.compile(r"[^\S\r\n]{13,}|[.!?]{13,}|([^\w\s])\1{12,}")


class Context:
    """Reads the context of mentions."""

    def read(self, text: str, sentences: Sequence[Span], mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        """The context of each mention: `negated`, `family`, `hypothetical`, those that hold.

        Args:
            text: The section.
            sentences: Character spans of its sentences; not used, since they are those of prose.
            mentions: Character spans of the mentions, in order.
        """
        if not mentions:
            return []
        text, mentions = _squeezed(text, mentions)
        masked = list(text)
        for start, end in mentions:
            masked[start:end] = MENTION * (end - start)
        hidden = "".join(masked)
        found: list[tuple[str, ...]] = []
        at = 0
        for unit in units(text, hidden):
            inside = []
            while at < len(mentions) and mentions[at][0] < unit.end:
                inside.append((max(mentions[at][0] - unit.start, 0), mentions[at][1] - unit.start))
                at += 1
            if inside:
                found += _unit(hidden[unit.start : max(unit.end, unit.start + inside[-1][1])], inside, unit.heading)
        return found + [()] * (len(mentions) - at)


def _squeezed(text: str, mentions: Sequence[Span]) -> tuple[str, list[Span]]:
    """The text with long runs of blanks or marks cut, which say no more than short ones and would take long to read; and the mentions' places in it."""
    pieces: list[str] = []
    placed: list[Span] = []
    at = size = 0
    for start, end in mentions:
        pieces.append(_RUN.sub(lambda m: m[0][:_RUN_KEPT], text[at:start]) if start > at else "")
        begin = size + len(pieces[-1]) - max(at - start, 0)
        size += len(pieces[-1]) + max(end - max(at, start), 0)
        placed.append((begin, begin + end - start))
        pieces.append(text[max(at, start) : end])
        at = max(at, end)
    return "".join(pieces) + _RUN.sub(lambda m: m[0][:_RUN_KEPT], text[at:]), placed


def _unit(hidden: str, mentions: Sequence[Span], heading: str) -> list[tuple[str, ...]]:
    """The context of the mentions of a unit.

    Args:
        hidden: The unit with its mentions masked.
        mentions: Their places in it.
        heading: What its heading says.
    """
    hidden = re.sub(r"\s*[\r\n]\s*(?=\S)", lambda m: "\n" * len(m[0]), hidden)  # an indented line is no column
    holds: list[set[str]] = [set() for _ in mentions]
    read = ANSWERED.sub(lambda m: AWAY * len(m[0]), hidden)
    minus = GLUED_MINUS if PLUS.search(hidden) else re.compile(r"(?<=[,;])\s?[-\u2212](?=[\ue000])")
    for kind in NAMES:
        looks = PSEUDO[kind].sub(lambda m: AWAY * len(m[0]), read)
        triggers = [m.span() for m in BEFORE[kind].finditer(looks)]
        ends = [m.start() for m in ENDS[kind].finditer(looks) if not _within(triggers, m.start())]
        ends += [m.start() for m in re.finditer(";", looks)] if not heading else []
        if kind == NEGATED:
            triggers += [m.span() for m in minus.finditer(looks)]
            ends += [m.start() for m in PLUS.finditer(looks) if m[0] != ";"]
        triggers.sort()
        ends.sort()
        closed = [b for _, b in triggers]
        for i, (start, end) in enumerate(mentions):
            last = bisect_right(closed, start) - 1
            stop = bisect_right(ends, start) - 1
            if (last >= 0 and (stop < 0 or ends[stop] <= triggers[last][0])) or (heading == kind and stop < 0):
                holds[i].add(kind)
            if _back(kind, looks, end):
                holds[i].add(kind)
    for i, (start, end) in enumerate(mentions):
        if _answered(hidden, end) or _unticked(hidden, start):
            holds[i].add(NEGATED)
        if IN_RELATIVE.match(PSEUDO[FAMILY].sub(lambda m: AWAY * len(m[0]), hidden[end : end + _WINDOW])):
            holds[i].add(FAMILY)
    return [tuple(name for name in NAMES if name in h) for h in holds]


def _within(spans: Sequence[Span], at: int) -> bool:
    """Whether a place lies within one of some spans, which are sorted and do not overlap."""
    i = bisect_right(spans, (at, 10**9)) - 1
    return i >= 0 and at < spans[i][1]


def _back(kind: str, looks: str, end: int) -> bool:
    """Whether a phrase after a mention reaches back to it."""
    window = looks[end : end + _WINDOW]
    found = AFTER[kind].search(window)
    if found is None:
        return False
    between = window[: found.start()]
    if STOP.search(between):
        return False
    others = len(re.findall(r"\w+", re.sub(r"\b(?:and|or)\b", " ", between, flags=re.IGNORECASE)))
    if kind == HYPOTHETICAL:
        return others <= 1 and "," not in between
    return others <= 5


def _answered(hidden: str, end: int) -> bool:
    """Whether what follows a mention, or a list that it stands in, is an answer in the negative."""
    window = hidden[end : end + _WINDOW]
    found = ANSWER.search(window)
    if found is None:
        return False
    between = window[: found.start()]
    words = re.findall(r"\w+", re.sub(r"\b(?:and|or)\b", " ", between, flags=re.IGNORECASE))
    return len(words) <= 3 and re.search(r"[.:?;|\n\t]|[ ]{2,}|\s-\s", between) is None


def _unticked(hidden: str, start: int) -> bool:
    """Whether the box before a mention is empty."""
    boxes = [m for m in ANY_BOX.finditer(hidden, max(start - 40, 0), start) if hidden[m.end() : start].strip() == ""]
    return bool(boxes) and EMPTY_BOX.fullmatch(boxes[-1][0]) is not None
