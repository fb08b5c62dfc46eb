"""What every reader yields: documents with annotations as published, offsets checked, and a count of whatever was not kept.

Offsets are 0-based characters into `Document.text`, end exclusive. Knows no format, no file and no knowledge base.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mentionforge.corpora.concept_ids import parse_ids
from mentionforge.text import Span


@dataclass(frozen=True)
class Annotation:
    """One annotated mention: pieces in rising order, type as annotated, ids with prefix (an empty one is a concept without id).

    `composite` says that several ids were annotated, even if they are the same id twice.
    """

    spans: tuple[Span, ...]
    entity_type: str
    ids: tuple[str, ...]
    composite: bool = False

    def surface(self, text: str) -> str:
        """The text of the pieces, joined by one blank."""
        return " ".join(text[start:end] for start, end in self.spans)


@dataclass(frozen=True)
class Document:
    """One text with its annotations in rising order; `where` is its file and row."""

    doc_id: str
    text: str
    annotations: tuple[Annotation, ...]
    where: str

    def same_as(self, other: Document) -> bool:
        """Whether text and annotations are identical."""
        return (self.doc_id, self.text, self.annotations) == (other.doc_id, other.text, other.annotations)


@dataclass(frozen=True)
class Repair:
    """An annotation whose span or mention text was put right while reading, and why; `used` may equal `published`."""

    doc_id: str
    published: tuple[Span, ...]
    used: tuple[Span, ...]
    reason: str


@dataclass
class Tally:
    """What a reader counts besides documents: records skipped by kind, oddities handled, and mentions repaired.

    `places` lists the rows of skipped records, by kind and file; a number for each, so that millions fit into memory.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    repairs: list[Repair] = field(default_factory=list)
    places: dict[tuple[str, str], array[int]] = field(default_factory=lambda: defaultdict(lambda: array("l")))

    def skip(self, kind: str, where: str, n: int = 1) -> None:
        """Count a record that is left out, or several of one place, and list that place: FILE:ROW, or FILE."""
        self.skipped[kind] += n
        file, _, row = where.rpartition(":")
        if re.fullmatch("[0-9]{1,12}", row):
            self.places[kind, file].extend([int(row)] * n)
        else:
            self.places[kind, where].extend([0] * n)  # somewhere in the file

    def add(self, other: Tally) -> None:
        """Add what another has counted."""
        self.skipped += other.skipped
        self.handled += other.handled
        self.repairs += other.repairs
        for key, rows in other.places.items():
            self.places[key].extend(rows)

    def clear(self) -> None:
        """Count from nothing again."""
        self.skipped.clear()
        self.handled.clear()
        self.repairs = []
        self.places.clear()


@dataclass
class Reading(Tally):
    """All documents of one file or folder in its order, and what was counted."""

    documents: list[Document] = field(default_factory=list)


NoteIds = Literal["auto", "all", "none"]


@dataclass(frozen=True)
class Options:
    """How a reader takes what a format leaves open; each reader looks at those that concern it.

    Attributes:
        text: The text policy (settings.Corpus.text). With `crlf_to_lf`, offsets may count CRLF as one character.
        note_ids: Which of BRAT's notes are concept ids (settings.Corpus.note_ids).
    """

    text: str = "none"
    note_ids: NoteIds = "auto"


AS_PUBLISHED = Options()


def annotation(spans: Sequence[Span], entity_type: str, published: str, prefix: str) -> Annotation:
    """A mention from its concept column; see `parse_ids`."""
    return of_ids(spans, entity_type, parse_ids(published, prefix))


def of_ids(spans: Sequence[Span], entity_type: str, ids: Sequence[str]) -> Annotation:
    """A mention from its ids, with prefix, as often as they were annotated; none at all is a concept without id."""
    return Annotation(tuple(spans), entity_type, tuple(dict.fromkeys(ids)) or ("",), composite=len(ids) > 1)


def is_kept(entity_type: str, entity_types: Collection[str]) -> bool:
    """Whether a type, or one of several joined by commas, is asked for; if none is, all are."""
    return not entity_types or entity_type in entity_types or any(part in entity_types for part in entity_type.split(","))


def in_order(annotations: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """Annotations by spans, then ids and type: an order that does not depend on that of the file."""
    return tuple(sorted(annotations, key=lambda a: (a.spans, a.ids, a.entity_type)))
