"""Sentences of a corpus' training split with their gold mentions.

In: rows of `documents` and `mentions`. Out: sentences, each with all mentions in it, and counts of what is left out. Dev and test are refused, so that no
generator reads them. Knows nothing of knowledge bases.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.text import Span

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TrainingMention:
    """A gold mention in one piece.

    Attributes:
        mention_id: As in `mentions`.
        start: First character, in the document.
        end: One past the last character.
        surface: Its text.
        cuis: Its concepts, sorted; none: unmapped.
        composite: Whether it names several concepts.
        abbreviation: Whether its document defines it as an abbreviation.
    """

    mention_id: str
    start: int
    end: int
    surface: str
    cuis: tuple[str, ...]
    composite: bool
    abbreviation: bool

    def overlaps(self, other: TrainingMention) -> bool:
        """Whether the two share a character."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class TrainingSentence:
    """A sentence of a training document with at least one mention; offsets are characters of the document's text."""

    doc_id: str
    document: str
    span: Span
    mentions: tuple[TrainingMention, ...]


def read_training_split(corpus: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `documents` and `mentions` of the training split of the corpus in a folder."""
    documents, mentions = (
        [row for row in tables.read(table, corpus / f"{table.name}.parquet").to_pylist() if row["split"] == "train"]
        for table in (tables.DOCUMENTS, tables.MENTIONS)
    )
    return documents, mentions


def training_sentences(documents: Sequence[Row], mentions: Sequence[Row], counts: Counter[str]) -> list[TrainingSentence]:
    """The sentences with mentions, in the order of documents and sentences.

    A sentence is left out where its mentions cannot all be told by one span inside it: a mention in several pieces, or one that reaches over its end.

    Args:
        documents: Rows of `documents`, all of the training split.
        mentions: Rows of `mentions`, all of the training split.
        counts: Output: numbers of the mentions that are left out, by reason.

    Raises:
        UserError: A document or mention of another split.
    """
    for row in (*documents, *mentions):
        if row["split"] != "train":
            raise UserError("leakage", row["doc_id"], f"it belongs to the {row['split']} split", "generators read the training split only")
    by_document: defaultdict[str, list[Row]] = defaultdict(list)
    for mention in mentions:
        by_document[mention["doc_id"]].append(mention)
    sentences = []
    for document in documents:
        rows = by_document[document["doc_id"]]
        for start, end in ((s["start"], s["end"]) for s in document["sentences"]):
            touching = [row for row in rows if any(piece["start"] < end and start < piece["end"] for piece in row["spans"])]
            if not touching:
                continue
            if any(len(row["spans"]) > 1 for row in touching):
                counts["in a sentence with a mention in pieces"] += len(touching)
            elif any(row["spans"][0]["start"] < start or end < row["spans"][0]["end"] for row in touching):
                counts["in a sentence whose end cuts a mention"] += len(touching)
            else:
                inside = sorted(map(_gold, touching), key=lambda m: (m.start, m.end, m.mention_id))
                sentences.append(TrainingSentence(document["doc_id"], document["text"], (start, end), tuple(inside)))
    return sentences


def _gold(row: Row) -> TrainingMention:
    (span,) = row["spans"]
    return TrainingMention(
        row["mention_id"], span["start"], span["end"], row["surface"], tuple(row["cuis"]), bool(row["composite"]), row["expanded"] not in (None, row["surface"])
    )
