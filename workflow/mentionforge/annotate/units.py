"""Units of a clinical note that no phrase reaches across: lines of lists, sentences of prose, and the headings above them.

In: a section, and the same with its mentions masked. Out: units in order, which together hold all of the text, each with what its heading says.
Knows nothing of which phrases negate a mention within a unit.

    Denies:                           a heading: both lines below it are units that it negates
    - asthma
    - gout
    He has had asthma since           wrapped prose: one line, cut into sentences
    he was a boy. No gout.
"""

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
_DANGLING = re.compile(
    r"(?:,|/|\b(?:and|or|of|for|with|no|to|the|a|an|in|by|from|denies|denied|without|w/o|not|is|was|has|had|have|on|at|any|known|history|evidence|nor|than|that))[ \t]*$",
    re.IGNORECASE,
)

_COLUMNS = re.compile(r"[^\s.!?:;,] {2,}\S|\t|\||[:?=\u2013-]\s*(?:no|not|any|known)\s*$", re.IGNORECASE)
"""What a line has that is a row of a table, or ends in an answer."""
_STARTS = re.compile(
    r"\s*(?:has|he|she|the patient|patient|pt|reports|admits|endorses|positive|known|presents|presented|is|was|currently|now|today)\b", re.IGNORECASE
)
_ABBREVIATED = re.compile(r"(?:^|[\s(/])(?:neg|pos|hx|fam|dr|mr|mrs|ms|st|vs|approx|pts?|hist|evid|incl|resp|dx|sx|e\.g|i\.e|[a-z]|\d{1,2})\.$", re.IGNORECASE)
_END = re.compile(rf"[.!?]+[\"')\]]*(?=\s)|(?<=[a-z)\d{MENTION}])\.(?=[A-Z][a-z]|{MENTION})|(?<=[a-z{MENTION}])\.(?=[A-Z])")
_ANSWER_NEXT = re.compile(rf"\s*(?:a:\s*)?(?:{NEGATIVE}|yes|y)\b", re.IGNORECASE)
_DOTS = re.compile(r"\.{3,}")


@dataclass(frozen=True)
class Unit:
    """A stretch that nothing reaches across, and what its heading says of all in it."""

    start: int
    end: int
    heading: str = ""


def units(text: str, hidden: str) -> Iterator[Unit]:
    """The units of a text, in order; together they hold all of it.

    Args:
        text: A section.
        hidden: The same with its mentions masked.
    """
    carried, bulleted, fresh = "", False, False
    for start, end in lines(text):
        line = hidden[start:end]
        if not line.strip():
            carried = carried if fresh else ""
            yield Unit(start, end)
            continue
        bullet = _BULLET.match(text, start, end)
        title = _TITLE.match(line)
        if carried and (
            (title and MENTION not in title[1] and not _relative(title[1]))
            or (bulleted and not bullet)
            or (carried == NEGATED and not bullet and _STARTS.match(line))
        ):
            carried = ""
        if title and not line[title.end() :].strip() and MENTION not in title[1]:
            carried, bulleted, fresh = _kind(title[1]), False, True
            yield Unit(start, end)
            continue
        if fresh:
            bulleted, fresh = bool(bullet), False
        yield from _sentences(hidden, start, end, carried)


def _relative(title: str) -> bool:
    return re.fullmatch(rf"(?:(?:maternal|paternal|his|her|older|younger)\s+)*{RELATIVE}", title.strip(), re.IGNORECASE) is not None


def _kind(title: str) -> str:
    """What a heading says of the text below it, or behind it; empty if nothing."""
    return next((kind for kind, form in _HEADINGS.items() if form.fullmatch(title.strip())), "")


def _sentences(hidden: str, start: int, end: int, heading: str) -> Iterator[Unit]:
    """The sentences of a line as units; a heading in a line holds up to the next one."""
    at = start
    line = hidden[start:end]
    for stop in [*(start + m.end() for m in _END.finditer(line) if _is_end(line, m)), end]:
        if title := _TITLE.match(hidden, at, stop):
            if kind := _kind(title[1]):
                heading = kind
            elif at > start and MENTION not in title[1] and not _relative(title[1]):
                heading = ""
        yield Unit(at, stop, heading)
        at = stop


def _is_end(line: str, found: re.Match[str]) -> bool:
    before, mark = line[max(found.start() - 12, 0) : found.start() + 1], found[0]
    if _DOTS.match(mark) or (mark.startswith(".") and _ABBREVIATED.search(before)):
        return False
    return not (mark.startswith("?") and _ANSWER_NEXT.match(line, found.end()))


def lines(text: str) -> Iterator[Span]:
    """Lines as their writer meant them: those of wrapped prose are one. Together they hold all of the text."""
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
        yield from _joined(text, block)
        block = []
        yield span
    yield from _joined(text, block)


def _joined(text: str, block: Sequence[Span]) -> Iterator[Span]:
    """The lines of a block without empty ones, those of wrapped prose joined."""
    if not block:
        return
    raw = [text[a:b].rstrip() for a, b in block]
    width = max(map(len, raw))
    prose = any(len(a) >= 60 and b.lstrip()[:1].islower() and a[-1] not in ".!?:;" for a, b in pairwise(raw))
    start, first = block[0][0], raw[0]
    for i in range(1, len(block)):
        if not _goes_on(first, raw[i - 1], raw[i], width, prose):
            yield start, block[i - 1][1]
            start, first = block[i][0], raw[i]
    yield start, block[-1][1]


def _goes_on(first: str, line: str, following: str, width: int, prose: bool) -> bool:
    """Whether a line of text goes on in the next one: it breaks off, or the next word did not fit in it, or what follows is indented below a bullet."""
    bullet, indent = _BULLET.match(first), len(following) - len(following.lstrip())
    if _BULLET.match(following) or _TITLE.match(following) or line[-1] in ".!?:;" or _COLUMNS.search(line.strip()):
        return False
    if _DANGLING.search(line) or re.match(r"\s*(?:and|or|nor)\b", following, re.IGNORECASE):
        return True
    if bullet:
        return indent > len(bullet[0]) - len(bullet[0].lstrip()) and (indent >= 2)
    if following.lstrip()[:1].islower() and len(line) >= 35:
        return True
    return prose and len(line) >= 60 and len(line) + 1 + len(following.split()[0]) > width
