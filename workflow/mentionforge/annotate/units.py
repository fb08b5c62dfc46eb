"""Split a clinical note into units that no scope of a trigger crosses: list items and sentences, each with the context of its heading.

In: a section, and the same with its mentions masked. Out: units in order, which cover all of the text.
Knows nothing of the triggers within a unit.
"""

# Examples:
#     Denies:                           a heading: both lines below it are units that it negates
#     - asthma
#     - gout
#     He has had asthma since           wrapped prose: the lines are joined, then split into sentences
#     he was a boy. No gout.

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mentionforge.annotate.phrases import (
    EVIDENCE,
    FAMILY,
    HYPOTHETICAL,
    MENTION,
    NEGATED,
    NEGATIVE,
    RELATIVE,
)
from mentionforge.text import Span

_TITLE = re.compile(r"[ \t]*(?:[-*\u2022\u00b7+\u2013]\s+|\(?\d{1,2}[.)]\s*)?([A-Za-z][\w /&'.,()-]{0,60}?)[ \t]*:(?!\d)")
_HEADINGS = {
    FAMILY: re.compile(r"(?:positive |significant |known )?(?:family|fam|familial)\b.{0,20}|F\.?H\.?x?|F/H|FMHx?", re.IGNORECASE),
    NEGATED: re.compile(
        rf"(?:\w+ ){{0,2}}(?:denie[sd]|denying|deny|without)|(?:pertinent |significant |relevant )?neg(?:ative)?s?(?: for| findings)?|absent|excluded|ruled out|"
        rf"not present|no(?: known| prior| previous| personal)*(?: {EVIDENCE})?(?: of| for)?(?: any of)?(?: the following)?|(?:\w+ ){{0,3}}(?:denies|denied|negative for)"
        r"(?: any)?(?: of)?(?: the)?(?: following)?",
        re.IGNORECASE,
    ),
    HYPOTHETICAL: re.compile(
        r"(?:\w+ )?precautions|(?:return|call|come back|seek)\b.{0,30}(?:if|for|with)|screening|vaccin\w+|immuni[sz]ations?|rule out|r/o|at risk for|risk of|prophylaxis",
        re.IGNORECASE,
    ),
}
_BULLET = re.compile(r"[ \t]*(?:[-*\u2022\u00b7+\u2013\u25aa\u25cf]|\(?\d{1,2}[.)]|\(?[a-z][.)]|\[[ xX_]?\])(?=\s|[A-Za-z])[ \t]*")
_INCOMPLETE = re.compile(
    r"(?:,|/|\b(?:and|or|of|for|with|no|to|the|a|an|in|by|from|denies|denied|without|w/o|not|is|was|has|had|have|on|at|any|known|history|evidence|nor|than|that))[ \t]*$",
    re.IGNORECASE,
)

_COLUMNS = re.compile(r"[^\s.!?:;,] {2,}\S|\t|\||[:?=\u2013-]\s*(?:no|not|any|known)\s*$", re.IGNORECASE)
"""Marks of a line that is a table row, or ends in an answer."""
_NEW_STATEMENT = re.compile(
    r"\s*(?:has|he|she|the patient|patient|pt|reports|admits|endorses|positive|known|presents|presented|is|was|currently|now|today)\b", re.IGNORECASE
)
_ABBREVIATION = re.compile(r"(?:^|[\s(/])(?:neg|pos|hx|fam|dr|mr|mrs|ms|st|vs|approx|pts?|hist|evid|incl|resp|dx|sx|e\.g|i\.e|[a-z]|\d{1,2})\.$", re.IGNORECASE)
_END = re.compile(rf"[.!?]+[\"')\]]*(?=\s)|(?<=[a-z)\d{MENTION}])\.(?=[A-Z][a-z]|{MENTION})|(?<=[a-z{MENTION}])\.(?=[A-Z])")
_ANSWER_NEXT = re.compile(rf"\s*(?:a:\s*)?(?:{NEGATIVE}|yes|y)\b", re.IGNORECASE)
_DOTS = re.compile(r"\.{3,}")


@dataclass(frozen=True)
class Unit:
    """A span that no scope crosses, and the kind of context of its heading (empty: none)."""

    start: int
    end: int
    heading: str = ""


def units(text: str, masked: str) -> Iterator[Unit]:
    """Yield the units of a text, in order; they cover all of it.

    Args:
        text: A section.
        masked: The same with its mentions masked.
    """
    heading, in_list, after_heading = "", False, False
    for start, end in lines(text):
        line = masked[start:end]
        if not line.strip():
            heading = heading if after_heading else ""
            yield Unit(start, end)
            continue
        bullet = _BULLET.match(text, start, end)
        title = _TITLE.match(line)
        if heading and (
            (title and MENTION not in title[1] and not _is_relative(title[1]))
            or (in_list and not bullet)
            or (heading == NEGATED and not bullet and _NEW_STATEMENT.match(line))
        ):
            heading = ""
        if title and not line[title.end() :].strip() and MENTION not in title[1]:
            heading, in_list, after_heading = _heading_kind(title[1]), False, True
            yield Unit(start, end)
            continue
        if after_heading:
            in_list, after_heading = bool(bullet), False
        yield from _sentences(masked, start, end, heading)


def _is_relative(title: str) -> bool:
    return re.fullmatch(rf"(?:(?:maternal|paternal|his|her|older|younger)\s+)*{RELATIVE}", title.strip(), re.IGNORECASE) is not None


def _heading_kind(title: str) -> str:
    """The kind of context that a heading gives to the text below or after it; empty if none."""
    return next((kind for kind, form in _HEADINGS.items() if form.fullmatch(title.strip())), "")


def _sentences(masked: str, start: int, end: int, heading: str) -> Iterator[Unit]:
    """The sentences of a line as units; a heading within the line applies up to the next one."""
    at = start
    line = masked[start:end]
    for stop in [*(start + m.end() for m in _END.finditer(line) if _is_end(line, m)), end]:
        if title := _TITLE.match(masked, at, stop):
            if kind := _heading_kind(title[1]):
                heading = kind
            elif at > start and MENTION not in title[1] and not _is_relative(title[1]):
                heading = ""
        yield Unit(at, stop, heading)
        at = stop


def _is_end(line: str, end: re.Match[str]) -> bool:
    before, mark = line[max(end.start() - 12, 0) : end.start() + 1], end[0]
    if _DOTS.match(mark) or (mark.startswith(".") and _ABBREVIATION.search(before)):
        return False
    return not (mark.startswith("?") and _ANSWER_NEXT.match(line, end.end()))


def lines(text: str) -> Iterator[Span]:
    """Yield logical lines: the lines of wrapped prose are joined. They cover all of the text."""
    physical: list[Span] = []
    at = 0
    for m in re.finditer(r"\r\n|\n|\r", text):
        physical.append((at, m.end()))
        at = m.end()
    if at < len(text):
        physical.append((at, len(text)))
    block: list[Span] = []
    for span in physical:
        if text[span[0] : span[1]].strip():
            block.append(span)
            continue
        yield from _join_wrapped(text, block)
        block = []
        yield span
    yield from _join_wrapped(text, block)


def _join_wrapped(text: str, block: Sequence[Span]) -> Iterator[Span]:
    """The logical lines of a block of lines without empty ones."""
    if not block:
        return
    raw = [text[a:b].rstrip() for a, b in block]
    width = max(map(len, raw))
    prose = any(len(a) >= 60 and b.lstrip()[:1].islower() and a[-1] not in ".!?:;" for a, b in pairwise(raw))
    start, first = block[0][0], raw[0]
    for i in range(1, len(block)):
        if not _continues(first, raw[i - 1], raw[i], width, prose):
            yield start, block[i - 1][1]
            start, first = block[i][0], raw[i]
    yield start, block[-1][1]


def _continues(first: str, line: str, following: str, width: int, prose: bool) -> bool:
    """Whether a line continues in the next one: it ends incomplete, the next word did not fit in it, or the next line is indented below a bullet."""
    bullet, indent = _BULLET.match(first), len(following) - len(following.lstrip())
    if _BULLET.match(following) or _TITLE.match(following) or line[-1] in ".!?:;" or _COLUMNS.search(line.strip()):
        return False
    if _INCOMPLETE.search(line) or re.match(r"\s*(?:and|or|nor)\b", following, re.IGNORECASE):
        return True
    if bullet:
        return indent > len(bullet[0]) - len(bullet[0].lstrip()) and (indent >= 2)
    if following.lstrip()[:1].islower() and len(line) >= 35:
        return True
    return prose and len(line) >= 60 and len(line) + 1 + len(following.split()[0]) > width
