"""Text units that several stages share: sentences, words, surface normalization.

All offsets are 0-based characters into the text given, end exclusive.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

Span = tuple[int, int]

_WORD = re.compile(r"\w+|[^\w\s]")
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

    The splitter is the `biosenter` model for spaCy, trained on biomedical text. It never sees gold mentions.
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
        for doc, (owner, offset) in zip(_splitter().pipe(blocks, batch_size=batch_size), owners, strict=True):
            for sentence in doc.sents:
                raw = sentence.text
                left = sentence.start_char + len(raw) - len(raw.lstrip())
                right = left + len(raw.strip())
                if right > left:
                    found[owner].append((offset + left, offset + right))
    yield from found


@functools.cache
def _splitter() -> Any:
    import spacy

    return spacy.load("biosenter")
