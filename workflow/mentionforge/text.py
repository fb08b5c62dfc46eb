"""Text units that several stages share: sentences, words, surface normalization.

All offsets are 0-based characters into the text given, end exclusive.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

Span = tuple[int, int]

_WORD = re.compile(r"\w+|[^\w\s]")
MAX_BLOCK = 1_000_000
"""Most characters that spaCy takes at once (its `max_length`)."""

_WINDOW, _MARGIN = 200_000, 2_000
"""Characters of a long text that a window decides on, and those shown besides on either side."""

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")


def words(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Spans of the words of `text[start:end]`: runs of letters and digits, and single punctuation marks."""
    return [m.span() for m in _WORD.finditer(text, start, len(text) if end is None else end)]


def normalize_surface(text: str) -> str:
    """Surface form for comparison: NFKC, case-folded, words joined by one blank, punctuation dropped.

    "Huntington's  Disease" and "huntington s disease" become the same; "type 1" and "type 2" stay apart.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded)) or folded.strip()


def sentences(texts: Iterable[str], batch_size: int = 64) -> Iterator[list[Span]]:
    """Sentence spans of each text, in order, without surrounding blanks; no sentence crosses an empty line.

    The splitter is the `biosenter` model for spaCy, trained on biomedical text. It never sees gold mentions. It takes texts of any length: one too long
    for spaCy is shown to it in overlapping windows, each sentence in one that holds enough of its surroundings.
    """
    blocks: list[str] = []
    owners: list[tuple[int, int]] = []
    found: list[list[Span]] = []
    for text in texts:
        found.append([])
        start = 0
        for gap in _PARAGRAPH.finditer(text):
            blocks.append(text[start : gap.start()])
            owners.append((len(found) - 1, start))
            start = gap.end()
        blocks.append(text[start:])
        owners.append((len(found) - 1, start))
    with _splitter().memory_zone():  # or the splitter would remember every new word, as long as the process lives
        short = _splitter().pipe((block for block in blocks if len(block) <= MAX_BLOCK), batch_size=batch_size)
        for block, (owner, offset) in zip(blocks, owners, strict=True):
            starts = _starts(next(short)) if len(block) <= MAX_BLOCK else _starts_in_windows(block)
            for start, end in pairwise([*starts, len(block)]):
                raw = block[start:end]
                left = start + len(raw) - len(raw.lstrip())
                right = left + len(raw.strip())
                if right > left:
                    found[owner].append((offset + left, offset + right))
    yield from found


def _starts(doc: Any) -> list[int]:
    return [sentence.start_char for sentence in doc.sents]


def _starts_in_windows(text: str) -> list[int]:
    """Where sentences begin in a text that is too long for one document.

    Whether a word begins a sentence depends on the few words around it; a window says so of those that lie `_MARGIN` characters or more from its ends.
    """
    found = [0]
    at = 0
    while at < len(text):
        until = min(at + _WINDOW, len(text))
        low, high = _blank_before(text, max(at - _MARGIN, 0)), _blank_before(text, min(until + _MARGIN, len(text)))
        window = next(_splitter().pipe([text[low:high]]))
        found += [low + start for start in _starts(window) if at < low + start <= until and low + start > low]
        at = until
    return [start for start in found if start < len(text)]


def _blank_before(text: str, at: int) -> int:
    """The end of a blank that stands alone, at or before a place but not far: words on its both sides are cut into tokens as before."""
    if at in (0, len(text)):
        return at
    lone = [m.end() for m in _LONE_BLANK.finditer(text, max(at - _MARGIN // 2, 0), at)]
    return lone[-1] if lone else at


_LONE_BLANK = re.compile(r"(?<=\S) (?=\S)")


@functools.cache
def _splitter() -> Any:
    import spacy

    return spacy.load("biosenter")
