"""The BioC document model that the parsers of XML and JSON share: text, assembled passage by passage, and annotations as published.

In: events of a parser, in order. Out: text, assembled passage by passage, and annotations as published; passages out of order are an error.
Knows nothing of XML or JSON, ids or types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mentionforge.corpora.documents import Tally
from mentionforge.corpora.spans import parse_offset
from mentionforge.errors import UserError
from mentionforge.text import Span

FIX = "see the formats in docs/corpora.md"

MAX_GAP = 100_000
"""Largest gap between two passages, in characters; a larger one is a wrong offset."""


@dataclass(frozen=True)
class BiocPassage:
    """Position of a passage or sentence.

    Attributes:
        start: Its offset in the document, from which offsets of annotations may count.
        span: Span of the passage, which must contain the annotations; none: the annotation belongs to the document.
    """

    start: int
    span: Span | None


@dataclass(frozen=True)
class BiocAnnotation:
    """An annotation as published: infons by lower-cased name, (offset, length) of its pieces, and its text, if any."""

    infons: Mapping[str, str]
    locations: tuple[tuple[str, str], ...]
    text: str | None
    passage: BiocPassage
    where: str


@dataclass
class BiocDocument:
    """A document as published; `append` adds the text of a passage."""

    doc_id: str
    where: str
    text: str = ""
    annotations: list[BiocAnnotation] = field(default_factory=list)

    def append(self, offset: str, content: str, where: str, tally: Tally) -> int:
        """Add the text of a passage or sentence at its offset, and return the offset.

        Raises:
            UserError: It overlaps the text before, or the gap exceeds `MAX_GAP`.
        """
        at = parse_offset(offset.strip(), where)
        gap = at - len(self.text)
        if gap < 0:
            raise UserError(
                "passages overlap", where, f"offset {at} after {len(self.text)} characters", "offsets count characters from the document's beginning"
            )
        if gap > MAX_GAP:
            raise UserError("bad offset", where, f"{gap} characters before the passage", "offsets count characters from the document's beginning")
        if gap > 1:
            tally.handled["gaps of more than one character between passages"] += 1
        self.text += " " * gap + content
        return at


def add_infon(infons: dict[str, str], key: str, value: str, where: str) -> None:
    """Add an infon under its lower-cased name; a name that occurs twice is a UserError."""
    key = key.strip()
    if key.lower() in infons:
        raise UserError("infon given twice", where, key, FIX)
    infons[key.lower()] = value
