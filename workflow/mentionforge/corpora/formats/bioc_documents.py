"""What both XML and JSON say of a BioC document: its text, which grows as its passages come, and its annotations as published.

Checks how passages follow each other. Knows nothing of XML or JSON, ids or types.
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
"""Most characters between two passages; more is a wrong offset."""


@dataclass(frozen=True)
class BiocPart:
    """Where a passage or sentence lies in the document's text: where offsets may count from, and what its annotations must lie in."""

    start: int
    passage: Span | None


@dataclass(frozen=True)
class BiocAnnotation:
    """An annotation as published: infons by name in lower case, offset and length of its pieces, and its text if it has one."""

    infons: Mapping[str, str]
    locations: tuple[tuple[str, str], ...]
    text: str | None
    part: BiocPart
    where: str


@dataclass
class BiocDocument:
    """A document as published; `text` grows as its passages come."""

    doc_id: str
    where: str
    text: str = ""
    annotations: list[BiocAnnotation] = field(default_factory=list)

    def append(self, offset: str, content: str, where: str, tally: Tally) -> int:
        """Add the text of a passage or sentence at its offset, which is returned."""
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
    """Add an infon under its name in lower case; a name given twice is an error."""
    key = key.strip()
    if key.lower() in infons:
        raise UserError("infon given twice", where, key, FIX)
    infons[key.lower()] = value
