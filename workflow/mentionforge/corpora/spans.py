"""Parse and check the spans of a mention, split them at line ends, and join them again.

In: offsets and texts as published. Out: spans, ascending; repairs are recorded in a `Tally`. Knows nothing of formats.
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
    """Parse a character offset.

    Raises:
        UserError: It is not one to nine ASCII digits.
    """
    if not re.fullmatch(r"[0-9]{1,9}", digits):
        raise UserError("bad offset", where, "an offset is a number of characters, from 0", "correct the line")
    return int(digits)


def check_span(span: Span, text: str, where: str) -> None:
    """Raise a UserError if the span is empty or outside of the text."""
    start, end = span
    if not start < end <= len(text):
        raise UserError("span outside of text", where, f"{start}-{end} in a text of {len(text)} characters", "correct the offsets or the text")


def check_pieces(doc_id: str, published: Sequence[Span], text: str, where: str, tally: Tally) -> tuple[Span, ...]:
    """The pieces of a mention, ascending; another order is recorded as a repair.

    Raises:
        UserError: There is no piece, or one is blank, outside of the text, or overlaps another.
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
    """Compare the mention text of a file with the text at its spans; a difference in white space only is recorded as a repair.

    Raises:
        UserError: They differ in more than white space.
    """
    surface = " ".join(text[start:end] for start, end in spans)
    if mention.translate(LINE_ENDS) == surface.translate(LINE_ENDS):
        return
    if not same_but_for_blanks(mention, surface):
        at = ",".join(f"{start}-{end}" for start, end in spans)
        raise UserError("wrong offset", where, f"the text at {at} is not the mention", "correct the offsets or the text")
    tally.repairs.append(Repair(doc_id, spans, spans, "blanks differ"))


def same_but_for_blanks(left: str, right: str) -> bool:
    """Whether two texts are equal apart from white space."""
    return "".join(left.split()) == "".join(right.split())


LINE_ENDS = {ord("\n"): " ", ord("\r"): " "}
"""Translation table of line ends to spaces, for formats that write a mention on one line."""

_LINE_BREAK = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Line boundaries as in Python's str.splitlines, for formats that are read line by line."""


def without_line_ends(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """Split the pieces of a mention at line ends, dropping the white space around them: BRAT cannot mark a line end."""
    pieces: list[Span] = []
    for start, end in spans:
        piece_start = start
        for blank in re.finditer(r"\s+", text[start:end]):
            if _LINE_BREAK.search(blank.group()):
                pieces.append((piece_start, start + blank.start()))
                piece_start = start + blank.end()
        pieces.append((piece_start, end))
    return tuple((start, end) for start, end in pieces if start < end)


def joined_at_line_ends(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """Join ascending pieces that have only a line end and white space between them; the inverse of `without_line_ends`."""
    pieces = [spans[0]]
    for start, end in spans[1:]:
        gap = text[pieces[-1][1] : start]
        if not gap.strip() and _LINE_BREAK.search(gap):
            pieces[-1] = pieces[-1][0], end
        else:
            pieces.append((start, end))
    return tuple(pieces)


# Scripts without spaces between words, or between a name and a particle: Thai to Myanmar, Khmer, Chinese, Japanese and Korean.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")


def cuts_word(spans: Sequence[Span], text: str) -> bool:
    """Whether a piece begins or ends inside a word, a sign of offsets that count other characters than the text has."""
    return any(_inside(text, start) or _inside(text, end) for start, end in spans)


def _inside(text: str, at: int) -> bool:
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if not (before.isalnum() or unicodedata.category(before)[0] == "M"):
        return False
    return (after.isalnum() or unicodedata.category(after)[0] == "M") and not _UNSPACED.match(before) and not _UNSPACED.match(after)
