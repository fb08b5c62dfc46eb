"""From any format to any other, and from a corpus that was read back to files that other tools take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from mentionforge import tables
from mentionforge.corpora.checked import Checked
from mentionforge.corpora.concept_ids import looks_like_id
from mentionforge.corpora.documents import Document, NoteIds, Options, Tally, in_order, of_ids
from mentionforge.corpora.formats.brat import OTHER_NOTES
from mentionforge.corpora.formats.losses import Policy, Written
from mentionforge.corpora.formats.registry import ENDINGS, ID_PREFIXES, READERS, write
from mentionforge.corpora.texts import normalized
from mentionforge.errors import UserError
from mentionforge.progress import say

Ids = Literal["concept_ids", "cuis"]

_ROWS = 256
"""Rows of a table in memory at a time."""


def convert(
    sources: Sequence[Path],
    reader: str,
    form: str,
    out: Path,
    id_prefix: str = "",
    entity_types: Sequence[str] = (),
    text: str = "none",
    policy: Policy = "error",
    note_ids: NoteIds = "auto",
) -> tuple[Written, Tally]:
    """Write what a reader reads in another format.

    Args:
        sources: Files or folders, in order.
        reader: One of `registry.READERS`.
        form: One of `registry.WRITERS`.
        out: File, or folder for brat.
        id_prefix: Vocabulary of ids without a prefix; empty: MSH, or CUI for medmentions and share.
        entity_types: Types kept; empty: all.
        text: Text policy, as in settings.Corpus.text.
        policy: What to do about what the format cannot hold.
        note_ids: Which of BRAT's notes are concept ids, as in settings.Corpus.note_ids.

    Raises:
        UserError: Whatever the reader and the writer raise.
    """
    if reader not in READERS:
        raise UserError("unknown format", reader, "", f"one of {', '.join(sorted(READERS))}")
    tally = Tally()
    prefix = id_prefix or ID_PREFIXES[reader]
    checked = Checked()

    def documents() -> Iterator[Document]:
        for source in sources:
            for published in READERS[reader](source, prefix, entity_types, tally, Options(text, note_ids)):
                document = normalized(published, text, tally)
                checked.add(document)
                for concept_id in (i for a in document.annotations for i in a.ids if i and not looks_like_id(i)):
                    checked.add_id(concept_id)
                yield document

    written = write(documents(), form, out, policy)
    firsts = {kind: f"{file}:{min(rows)}" if any(rows) else file for (kind, file), rows in sorted(tally.places.items(), reverse=True)}
    say(
        f"read: {_counts(tally.skipped, 'skipped', firsts)}; {_counts(tally.handled, 'handled')}; {_counts(Counter(r.reason for r in tally.repairs), 'repaired')}"
    )
    if n := tally.handled[OTHER_NOTES]:
        say(f"WARNING: {n:,} {OTHER_NOTES}")
    for line in checked.told():
        say(line)
    say(f"written to {out}: {written}")
    return written, tally


def export(folder: Path, form: str, out: Path, splits: Sequence[str] = (), ids: Ids = "concept_ids", policy: Policy = "error") -> dict[str, Written]:
    """Write a corpus that was read, a file (or folder) per split: OUT/train.txt and so on.

    Args:
        folder: Holds documents.parquet and mentions.parquet.
        form: One of `registry.WRITERS`.
        out: Folder to write.
        splits: Those to write; empty: all.
        ids: What stands as a mention's ids: those annotated, or the CUIs they map to.
        policy: What to do about what the format cannot hold.

    Raises:
        UserError: The tables are missing or broken, or a split is not in them; and whatever the writer raises.
    """
    if form not in ENDINGS:
        raise UserError("unknown format", form, "", f"one of {', '.join(sorted(ENDINGS))}")
    there = {split for batch in _batches(folder / "documents.parquet", ["split"]) for split in (row["split"] for row in batch)}
    if unknown := sorted(set(splits) - there):
        raise UserError("unknown split", str(folder), unknown[0], f"those there: {', '.join(s for s in tables.SPLITS if s in there)}")
    written = {}
    for split in (s for s in tables.SPLITS if s in (splits or there)):
        target = out / f"{split}{ENDINGS[form]}"
        written[split] = write(built(folder, split, ids), form, target, policy)
        say(f"written to {target}: {written[split]}")
    return written


def built(folder: Path, split: str, ids: Ids = "concept_ids") -> Iterator[Document]:
    """The documents of a split of a corpus that was read, by id; both tables are read once, in step.

    Raises:
        UserError: A table is missing, lacks a column, or is not in the order of document ids.
    """
    mentions_path = folder / "mentions.parquet"
    rows = (row for batch in _batches(mentions_path, ["doc_id", "spans", "entity_type", ids, "composite"]) for row in batch)
    grouped = groupby(rows, key=lambda row: row["doc_id"])
    pending: tuple[str, list[dict[str, Any]]] | None = None
    number, last = 0, ""
    for batch in _batches(folder / "documents.parquet", ["doc_id", "split", "text"]):
        for row in batch:
            number += 1
            if row["doc_id"] < last:
                raise UserError("rows out of order", f"{folder / 'documents.parquet'}:{number}", "they go by document id", "read the corpus again")
            last = row["doc_id"]
            if pending is None:
                pending = next(((doc_id, list(found)) for doc_id, found in grouped), None)
            own: list[dict[str, Any]] = []
            if pending and pending[0] == row["doc_id"]:
                own, pending = pending[1], None
            if row["split"] == split:
                annotations = in_order([_annotation(m, ids) for m in own])
                yield Document(row["doc_id"], row["text"], annotations, f"{folder / 'documents.parquet'}:{number}")
    left = pending or next(grouped, None)
    if left:
        raise UserError("mentions of no document", str(mentions_path), f"document {left[0]}", "read the corpus again")


def _annotation(row: dict[str, Any], ids: Ids) -> Any:
    spans = [(span["start"], span["end"]) for span in row["spans"]]
    if ids == "cuis":
        return of_ids(spans, row["entity_type"], [f"CUI:{cui}" for cui in row["cuis"]])
    found = row["concept_ids"]
    # Ids that the corpus does not give are not in the table; a composite mention has at least two concepts.
    return of_ids(spans, row["entity_type"], found * 2 if row["composite"] and len(found) == 1 else found or [""] * (1 + row["composite"]))


def _batches(path: Path, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if missing := [c for c in columns if c not in file.schema_arrow.names]:
                raise UserError("missing column", str(path), missing[0], "give the folder of a corpus that was read")
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                yield batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError("unreadable table", str(path), type(error).__name__, "give the folder of a corpus that was read") from error


def _counts(counts: Counter[str], word: str, firsts: Mapping[str, str] | None = None) -> str:
    """Counts by kind, with the place of the first of each where it is known."""
    places = {key: f" (first in {place})" for key, place in (firsts or {}).items()}
    return f"{word} " + (", ".join(f"{key}: {n:,}{places.get(key, '')}" for key, n in sorted(counts.items()) if n) or "nothing")
