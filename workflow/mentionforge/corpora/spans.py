"""The pieces of a mention: offsets parsed, checked against the text, cut at line ends and joined again.

In: offsets and texts as published. Out: pieces in rising order; what was put right is counted in a `Tally`. Knows nothing of formats.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from mentionforge.corpora.documents import Repair, Tally
from mentionforge.errors import UserError
from mentionforge.text import Span


def parse_offset(digits: str, where: str) -> int:
    """A character offset.

    Raises:
        UserError: Anything but one to nine ASCII digits.
    """
    if not re.fullmatch(r"[0-9]{1,9}", digits):
        raise UserError("bad offset", where, "an offset is a number of characters, from 0", "correct the line")
    return int(digits)


def check_span(span: Span, text: str, where: str) -> None:
    """Raise a UserError unless the span is not empty and lies within the text."""
    start, end = span
    if not start < end <= len(text):
        raise UserError("span outside of text", where, f"{start}-{end} in a text of {len(text)} characters", "correct the offsets or the text")


def check_pieces(doc_id: str, published: Sequence[Span], text: str, where: str, tally: Tally) -> tuple[Span, ...]:
    """The pieces of a mention in rising order; another order is a repair.

    Raises:
        UserError: No piece, or one that is blank, outside of the text, or overlaps another.
    """
    if not published:
        raise UserError("mention without span", where, "", "correct the line")
    for span in published:
        check_span(span, text, where)
        if not text[slice(*span)].strip():
            raise UserError("wrong offset", where, f"the text at {span[0]}-{span[1]} is blank", "correct the offsets or the text")
    spans = tuple(sorted(published))
    if any(left[1] > right[0] for left, right in pairwise(spans)):
        raise UserError("overlapping pieces", where, ",".join(f"{start}-{end}" for start, end in published), "correct the offsets")
    if spans != tuple(published):
        tally.repairs.append(Repair(doc_id, tuple(published), spans, "pieces not in rising order"))
    return spans


def check_surface(doc_id: str, spans: tuple[Span, ...], text: str, mention: str, where: str, tally: Tally) -> None:
    """Compare the mention as a file spells it with the text at its pieces; a difference in blanks alone (line ends are some) is a repair.

    Raises:
        UserError: They differ in more.
    """
    found = " ".join(text[start:end] for start, end in spans)
    if mention.translate(LINE_ENDS) == found.translate(LINE_ENDS):
        return
    if not same_but_for_blanks(mention, found):
        at = ",".join(f"{start}-{end}" for start, end in spans)
        raise UserError("wrong offset", where, f"the text at {at} is not the mention", "correct the offsets or the text")
    tally.repairs.append(Repair(doc_id, spans, spans, "blanks differ"))


def same_but_for_blanks(one: str, other: str) -> bool:
    """Whether two texts differ in blanks and line ends at most."""
    return "".join(one.split()) == "".join(other.split())


LINE_ENDS = {ord("\n"): " ", ord("\r"): " "}
"""For formats that write a mention on one line."""

_LINE_BREAK = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Where a line ends, for the programs that read a format line by line (as for Python's str.splitlines)."""


def without_line_ends(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """The pieces of a mention cut at line ends, which go with the blanks around them: what BRAT can mark."""
    found: list[Span] = []
    for start, end in spans:
        at = start
        for blank in re.finditer(r"\s+", text[start:end]):
            if _LINE_BREAK.search(blank.group()):
                found.append((at, start + blank.start()))
                at = start + blank.end()
        found.append((at, end))
    return tuple((start, end) for start, end in found if start < end)


def joined_at_line_ends(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """The pieces in rising order, those with nothing but a line end and blanks between them as one; undoes `without_line_ends`."""
    found = [spans[0]]
    for start, end in spans[1:]:
        gap = text[found[-1][1] : start]
        if not gap.strip() and _LINE_BREAK.search(gap):
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return tuple(found)


# Scripts that part no words by blanks, or write particles without one behind a name: Thai to Myanmar, Khmer, and those of China, Japan and Korea.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")


def cuts_word(spans: Sequence[Span], text: str) -> bool:
    """Whether one of the pieces begins or ends inside a word, as where offsets count other characters than the text has."""
    return any(_inside(text, start) or _inside(text, end) for start, end in spans)


def _inside(text: str, at: int) -> bool:
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if not (before.isalnum() or unicodedata.category(before)[0] == "M"):
        return False
    return (after.isalnum() or unicodedata.category(after)[0] == "M") and not _UNSPACED.match(before) and not _UNSPACED.match(after)
