"""The document model of all readers and writers: documents, annotations, and a tally of records skipped and repaired.

In: what a reader has parsed. Out: documents for `build` and the writers. Offsets are 0-based characters into `Document.text`, end exclusive, and checked.
Knows nothing of formats, files and knowledge bases.
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
    """One annotated mention.

    Attributes:
        spans: Pieces, ascending; several for a discontinuous mention.
        entity_type: Type as annotated.
        ids: Concept ids with prefix; "" is a concept without id.
        composite: Several ids were annotated, even if they were the same id twice.
    """

    spans: tuple[Span, ...]
    entity_type: str
    ids: tuple[str, ...]
    composite: bool = False

    def surface(self, text: str) -> str:
        """The text of the pieces, joined by a space."""
        return " ".join(text[start:end] for start, end in self.spans)


@dataclass(frozen=True)
class Document:
    """One text with its annotations, ascending; `where` is its file and row, for messages."""

    doc_id: str
    text: str
    annotations: tuple[Annotation, ...]
    where: str


@dataclass(frozen=True)
class Repair:
    """An annotation whose spans or mention text a reader corrected, and why. If only the mention text differed, `used` equals `published`."""

    doc_id: str
    published: tuple[Span, ...]
    used: tuple[Span, ...]
    reason: str


@dataclass
class Tally:
    """Counts of a reader besides documents.

    Attributes:
        skipped: Records skipped, by kind.
        handled: Irregularities handled, by kind.
        repairs: Annotations corrected.
        skipped_at: Row numbers of the skipped records, by kind and file; 0: no row. Arrays, so that millions fit into memory.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    repairs: list[Repair] = field(default_factory=list)
    skipped_at: dict[tuple[str, str], array[int]] = field(default_factory=lambda: defaultdict(lambda: array("l")))

    def skip(self, kind: str, where: str, n: int = 1) -> None:
        """Count `n` skipped records of a place, FILE:ROW or FILE, and list the place."""
        self.skipped[kind] += n
        file, _, row = where.rpartition(":")
        if re.fullmatch("[0-9]{1,12}", row):
            self.skipped_at[kind, file].extend([int(row)] * n)
        else:
            self.skipped_at[kind, where].extend([0] * n)  # somewhere in the file

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.skipped += other.skipped
        self.handled += other.handled
        self.repairs += other.repairs
        for key, rows in other.skipped_at.items():
            self.skipped_at[key].extend(rows)

    def clear(self) -> None:
        """Reset all counts."""
        self.skipped.clear()
        self.handled.clear()
        self.repairs = []
        self.skipped_at.clear()


@dataclass
class ReadResult(Tally):
    """All documents of a file or folder, in its order, with the tally."""

    documents: list[Document] = field(default_factory=list)


NoteIds = Literal["auto", "all", "none"]


@dataclass(frozen=True)
class ReaderOptions:
    """How a reader resolves what a format leaves open; each reader uses the options that concern it.

    Attributes:
        text: The text policy (settings.Corpus.text). With `crlf_to_lf`, offsets may count CRLF as one character.
        note_ids: Which of BRAT's notes are concept ids (settings.Corpus.note_ids).
    """

    text: str = "none"
    note_ids: NoteIds = "auto"


AS_PUBLISHED = ReaderOptions()


def annotation_from_column(spans: Sequence[Span], entity_type: str, published: str, prefix: str) -> Annotation:
    """Create an annotation from its concept column; see `parse_ids`."""
    return annotation_from_ids(spans, entity_type, parse_ids(published, prefix))


def annotation_from_ids(spans: Sequence[Span], entity_type: str, ids: Sequence[str]) -> Annotation:
    """Create an annotation from its ids, with prefix, as often as annotated; no ids means a concept without id."""
    return Annotation(tuple(spans), entity_type, tuple(dict.fromkeys(ids)) or ("",), composite=len(ids) > 1)


def is_kept(entity_type: str, entity_types: Collection[str]) -> bool:
    """Whether a type, or one of several types joined by commas, is among `entity_types`; an empty collection keeps all."""
    return not entity_types or entity_type in entity_types or any(part in entity_types for part in entity_type.split(","))


def sorted_annotations(annotations: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """Annotations sorted by spans, ids and type, independent of their order in the file."""
    return tuple(sorted(annotations, key=lambda a: (a.spans, a.ids, a.entity_type)))
