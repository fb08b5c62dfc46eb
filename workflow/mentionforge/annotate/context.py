"""Classify mentions as negated, about the family, or hypothetical, by rules after NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009).

In: the text of a section, and spans of mentions. Out: the kinds of context of each mention. The patterns are in `phrases`, the units in `units`.
Knows nothing of concepts.
"""

# The idea. A trigger phrase ("no", "denies") has a scope: the mentions after it (or before it), up to a termination phrase ("but"). No scope crosses
# the boundary of a unit: a list item, a sentence of prose, or the lines below a heading. Examples:
#     No gout                           a list item: nothing below it is negated
#     Denies:                           a heading: the list below it is negated
#     - asthma
#     Gout: No                          an answer
#     Family history: gout in father    a heading with its text
# 1. The characters of all mentions are masked, so that words of a disease ("non-small cell") trigger nothing; long runs of spaces are shortened.
# 2. For each kind, phrases that only look like a trigger ("no longer") are hidden, then triggers and terminators are searched in each unit.
# 3. A mention has the kind if the last trigger before it comes after the last terminator before it, if its heading has the kind and no terminator
#    comes between, or if a backward trigger ("was ruled out") follows closely. Answers and empty check boxes negate as well.

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from mentionforge.annotate.phrases import (
    ANSWER_TEXT,
    ANY_BOX,
    BACKWARD_TERMINATORS,
    BACKWARD_TRIGGERS,
    CONTEXTS,
    EMPTY_BOX,
    FAMILY,
    FORWARD_TRIGGERS,
    GLUED_MINUS,
    HIDDEN,
    HYPOTHETICAL,
    IN_RELATIVE,
    MENTION,
    NEGATED,
    NEGATIVE_ANSWER,
    PLUS,
    PSEUDO_TRIGGERS,
    TERMINATORS,
)
from mentionforge.annotate.units import units
from mentionforge.text import Span

_WINDOW = 160
"""Characters after a mention that are searched for a backward trigger or an answer."""
_RUN_LENGTH = 12
_LONG_RUN = re.compile(r"[^\S\r\n]{13,}|[.!?]{13,}|([^\w\s])\1{12,}")


class Context:
    """Classifies the context of mentions."""

    def read(self, text: str, sentences: Sequence[Span], mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        """The kinds of context of each mention: any of `negated`, `family` and `hypothetical`.

        Args:
            text: The section.
            sentences: Spans of its sentences, in characters; not used, because the sentence splitter is made for prose.
            mentions: Spans of the mentions, in characters, ascending.
        """
        if not mentions:
            return []
        text, mentions = _shorten_runs(text, mentions)
        characters = list(text)
        for start, end in mentions:
            characters[start:end] = MENTION * (end - start)
        masked = "".join(characters)
        contexts: list[tuple[str, ...]] = []
        at = 0
        for unit in units(text, masked):
            in_unit = []
            while at < len(mentions) and mentions[at][0] < unit.end:
                in_unit.append((max(mentions[at][0] - unit.start, 0), mentions[at][1] - unit.start))
                at += 1
            if in_unit:
                contexts += _contexts_in_unit(masked[unit.start : max(unit.end, unit.start + in_unit[-1][1])], in_unit, unit.heading)
        return contexts + [()] * (len(mentions) - at)


def _shorten_runs(text: str, mentions: Sequence[Span]) -> tuple[str, list[Span]]:
    """Shorten long runs of spaces or punctuation, which would make the patterns slow; return the text and the spans of the mentions in it."""
    pieces: list[str] = []
    spans: list[Span] = []
    at = size = 0
    for start, end in mentions:
        pieces.append(_LONG_RUN.sub(lambda m: m[0][:_RUN_LENGTH], text[at:start]) if start > at else "")
        begin = size + len(pieces[-1]) - max(at - start, 0)
        size += len(pieces[-1]) + max(end - max(at, start), 0)
        spans.append((begin, begin + end - start))
        pieces.append(text[max(at, start) : end])
        at = max(at, end)
    return "".join(pieces) + _LONG_RUN.sub(lambda m: m[0][:_RUN_LENGTH], text[at:]), spans


def _contexts_in_unit(masked: str, mentions: Sequence[Span], heading: str) -> list[tuple[str, ...]]:
    """The kinds of context of the mentions of a unit.

    Args:
        masked: The unit with its mentions masked.
        mentions: Their spans in it.
        heading: Kind of context of its heading; empty: none.
    """
    masked = re.sub(r"\s*[\r\n]\s*(?=\S)", lambda m: "\n" * len(m[0]), masked)  # the indent of a line must not look like the gap between columns
    kinds_of: list[set[str]] = [set() for _ in mentions]
    without_answers = ANSWER_TEXT.sub(lambda m: HIDDEN * len(m[0]), masked)
    minus = GLUED_MINUS if PLUS.search(masked) else re.compile(r"(?<=[,;])\s?[-\u2212](?=[\ue000])")
    for kind in CONTEXTS:
        searched = PSEUDO_TRIGGERS[kind].sub(lambda m: HIDDEN * len(m[0]), without_answers)
        triggers = [m.span() for m in FORWARD_TRIGGERS[kind].finditer(searched)]
        ends = [m.start() for m in TERMINATORS[kind].finditer(searched) if not _inside_any(triggers, m.start())]
        ends += [m.start() for m in re.finditer(";", searched)] if not heading else []
        if kind == NEGATED:
            triggers += [m.span() for m in minus.finditer(searched)]
            ends += [m.start() for m in PLUS.finditer(searched) if m[0] != ";"]
        triggers.sort()
        ends.sort()
        trigger_ends = [b for _, b in triggers]
        for i, (start, end) in enumerate(mentions):
            trigger = bisect_right(trigger_ends, start) - 1
            terminator = bisect_right(ends, start) - 1
            if (trigger >= 0 and (terminator < 0 or ends[terminator] <= triggers[trigger][0])) or (heading == kind and terminator < 0):
                kinds_of[i].add(kind)
            if _has_backward_trigger(kind, searched, end):
                kinds_of[i].add(kind)
    for i, (start, end) in enumerate(mentions):
        if _has_negative_answer(masked, end) or _has_empty_box(masked, start):
            kinds_of[i].add(NEGATED)
        if IN_RELATIVE.match(PSEUDO_TRIGGERS[FAMILY].sub(lambda m: HIDDEN * len(m[0]), masked[end : end + _WINDOW])):
            kinds_of[i].add(FAMILY)
    return [tuple(name for name in CONTEXTS if name in h) for h in kinds_of]


def _inside_any(spans: Sequence[Span], position: int) -> bool:
    """Whether a position is inside one of the spans, which are sorted and do not overlap."""
    i = bisect_right(spans, (position, 10**9)) - 1
    return i >= 0 and position < spans[i][1]


def _has_backward_trigger(kind: str, searched: str, end: int) -> bool:
    """Whether the scope of a trigger after a mention includes the mention."""
    window = searched[end : end + _WINDOW]
    trigger = BACKWARD_TRIGGERS[kind].search(window)
    if trigger is None:
        return False
    between = window[: trigger.start()]
    if BACKWARD_TERMINATORS.search(between):
        return False
    words = len(re.findall(r"\w+", re.sub(r"\b(?:and|or)\b", " ", between, flags=re.IGNORECASE)))
    if kind == HYPOTHETICAL:
        return words <= 1 and "," not in between
    return words <= 5


def _has_negative_answer(masked: str, end: int) -> bool:
    """Whether a negative answer follows a mention, or the list that contains it."""
    window = masked[end : end + _WINDOW]
    answer = NEGATIVE_ANSWER.search(window)
    if answer is None:
        return False
    between = window[: answer.start()]
    words = re.findall(r"\w+", re.sub(r"\b(?:and|or)\b", " ", between, flags=re.IGNORECASE))
    return len(words) <= 3 and re.search(r"[.:?;|\n\t]|[ ]{2,}|\s-\s", between) is None


def _has_empty_box(masked: str, start: int) -> bool:
    """Whether an empty check box precedes a mention."""
    boxes = [m for m in ANY_BOX.finditer(masked, max(start - 40, 0), start) if masked[m.end() : start].strip() == ""]
    return bool(boxes) and EMPTY_BOX.fullmatch(boxes[-1][0]) is not None
