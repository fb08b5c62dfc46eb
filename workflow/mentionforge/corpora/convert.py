"""Convert annotated text between formats, and export a built corpus to files for other tools.

In: files of any format, or the folder of a built corpus. Out: a file or folder in another format; a report of what was skipped, repaired and lost.
Knows nothing of any one format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from mentionforge import tables
from mentionforge.concept_forms import with_vocabulary
from mentionforge.corpora.checked import SanityChecks
from mentionforge.corpora.concept_ids import looks_like_id
from mentionforge.corpora.documents import Document, NoteIds, ReaderOptions, Tally, annotation_from_ids, sorted_annotations
from mentionforge.corpora.formats.brat import OTHER_NOTES
from mentionforge.corpora.formats.losses import Policy, WriteReport
from mentionforge.corpora.formats.registry import ENDINGS, ID_PREFIXES, READERS, write
from mentionforge.corpora.texts import normalized
from mentionforge.errors import UserError
from mentionforge.progress import say

Ids = Literal["concept_ids", "cuis"]

_ROWS = 256
"""Table rows in memory at a time."""


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
) -> tuple[WriteReport, Tally]:
    """Convert annotated text from one format to another.

    Args:
        sources: Files or folders, in order.
        reader: One of `registry.READERS`.
        form: One of `registry.WRITERS`.
        out: File, or folder for brat.
        id_prefix: Vocabulary of ids without a prefix; empty: MSH, or CUI for medmentions and share.
        entity_types: Types kept; empty: all.
        text: Text policy, as in settings.Corpus.text.
        policy: What to do about content that the format cannot represent.
        note_ids: Which of BRAT's notes are concept ids, as in settings.Corpus.note_ids.

    Raises:
        UserError: Any error of the reader or the writer.
    """
    if reader not in READERS:
        raise UserError("unknown format", reader, "", f"one of {', '.join(sorted(READERS))}")
    tally = Tally()
    prefix = id_prefix or ID_PREFIXES[reader]
    checks = SanityChecks()

    def documents() -> Iterator[Document]:
        for source in sources:
            for published in READERS[reader](source, prefix, entity_types, tally, ReaderOptions(text, note_ids)):
                document = normalized(published, text, tally)
                checks.add(document)
                for concept_id in (i for a in document.annotations for i in a.ids if i and not looks_like_id(i)):
                    checks.add_id(concept_id)
                yield document

    written = write(documents(), form, out, policy)
    first_places = {kind: f"{file}:{min(rows)}" if any(rows) else file for (kind, file), rows in sorted(tally.skipped_at.items(), reverse=True)}
    say(
        f"read: {_counts(tally.skipped, 'skipped', first_places)}; {_counts(tally.handled, 'handled')}; {_counts(Counter(r.reason for r in tally.repairs), 'repaired')}"
    )
    if n := tally.handled[OTHER_NOTES]:
        say(f"WARNING: {n:,} {OTHER_NOTES}")
    for line in checks.warnings():
        say(line)
    say(f"written to {out}: {written}")
    return written, tally


def export(folder: Path, form: str, out: Path, splits: Sequence[str] = (), ids: Ids = "concept_ids", policy: Policy = "error") -> dict[str, WriteReport]:
    """Write a built corpus, one file (or folder) per split: OUT/train.txt and so on.

    Args:
        folder: Folder with documents.parquet and mentions.parquet.
        form: One of `registry.WRITERS`.
        out: Folder to write.
        splits: Splits to write; empty: all.
        ids: Ids of the mentions: as annotated, or the CUIs that they map to.
        policy: What to do about content that the format cannot represent.

    Raises:
        UserError: A table is missing or broken, a split is unknown, or any error of the writer.
    """
    if form not in ENDINGS:
        raise UserError("unknown format", form, "", f"one of {', '.join(sorted(ENDINGS))}")
    available = {split for batch in _batches(folder / "documents.parquet", ["split"]) for split in (row["split"] for row in batch)}
    if unknown := sorted(set(splits) - available):
        raise UserError("unknown split", str(folder), unknown[0], f"those there: {', '.join(s for s in tables.SPLITS if s in available)}")
    written = {}
    for split in (s for s in tables.SPLITS if s in (splits or available)):
        target = out / f"{split}{ENDINGS[form]}"
        written[split] = write(corpus_documents(folder, split, ids), form, target, policy)
        say(f"written to {target}: {written[split]}")
    return written


def corpus_documents(folder: Path, split: str, ids: Ids = "concept_ids") -> Iterator[Document]:
    """The documents of a split of a built corpus, by id. Both tables are sorted by document id and read in parallel, once.

    Raises:
        UserError: A table is missing, lacks a column, or is not sorted by document id.
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
                pending = next(((doc_id, list(rows)) for doc_id, rows in grouped), None)
            mention_rows: list[dict[str, Any]] = []
            if pending and pending[0] == row["doc_id"]:
                mention_rows, pending = pending[1], None
            if row["split"] == split:
                annotations = sorted_annotations([_annotation(m, ids) for m in mention_rows])
                yield Document(row["doc_id"], row["text"], annotations, f"{folder / 'documents.parquet'}:{number}")
    left = pending or next(grouped, None)
    if left:
        raise UserError("mentions of no document", str(mentions_path), f"document {left[0]}", "read the corpus again")


def _annotation(row: dict[str, Any], ids: Ids) -> Any:
    spans = [(span["start"], span["end"]) for span in row["spans"]]
    if ids == "cuis":
        return annotation_from_ids(spans, row["entity_type"], [with_vocabulary(cui) for cui in row["cuis"]])
    concept_ids = row["concept_ids"]
    # The table lists no empty ids; a composite mention has at least two concepts.
    return annotation_from_ids(
        spans, row["entity_type"], concept_ids * 2 if row["composite"] and len(concept_ids) == 1 else concept_ids or [""] * (1 + row["composite"])
    )


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


def _counts(counts: Counter[str], word: str, first_places: Mapping[str, str] | None = None) -> str:
    """Counts by kind, with the place of the first record of a kind where it is known."""
    places = {key: f" (first in {place})" for key, place in (first_places or {}).items()}
    return f"{word} " + (", ".join(f"{key}: {n:,}{places.get(key, '')}" for key, n in sorted(counts.items()) if n) or "nothing")
