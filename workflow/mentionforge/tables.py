"""The contracts between stages: every Parquet table's columns, types, units and keys, declared once.

`write` and `read` check a table against its declaration, so that a stage never hands on, or silently accepts, a table
that breaks it. Offsets are 0-based, in Unicode characters of `text`, end exclusive. Row order is part of a table: writers
sort by key, so that equal content gives equal bytes.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mentionforge.errors import UserError

STR, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
STRINGS = pa.list_(STR)
SPAN = pa.struct([("start", INT), ("end", INT)])


@dataclass(frozen=True)
class Column:
    """One column: its type, whether it may be null, the values it may take, and what it means."""

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table's declaration: `key` columns come first and identify a row."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema with the declared order and nullability."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


SPLITS = ("train", "dev", "test")
BUCKETS = ("seen_mention", "seen_concept", "unseen_concept", "unmapped")
SUBSETS = ("new_pair", "new_surface", "new_surface_concept", "one_concept", "distinct", "distinct_new_surface")
MATCHES = ("tag", "exact", "synonym", "fuzzy")
FILTERS = (
    "parse",
    "length",
    "refusal",
    "language",
    "repetition",
    "prompt_echo",
    "near_duplicate",
    "leakage",
    "memorization",
    "contradiction",
    "agreement",
)
REASONS = ("empty", "no_mention", *FILTERS)
AGAINST = ("baseline", "control", "kb", "external")
SLICES = ("all", "bucket", "subset", "train_mentions", "names", "semantic_type", "notes")

CONCEPTS = Table(
    "concepts",
    "One row per concept of a knowledge base.",
    (
        Column("cui", STR, "UMLS concept unique identifier"),
        Column("preferred_name", STR, "name by term-type rank"),
        Column("definition", STR, "first definition by source preference", nullable=True),
        Column("semantic_types", STRINGS, "type unique identifiers (T047), sorted"),
    ),
    ("cui",),
)
NAMES = Table(
    "names",
    "One row per concept, name and source; a name may belong to several concepts.",
    (
        Column("cui", STR, "UMLS concept unique identifier"),
        Column("name", STR, "name as the source writes it"),
        Column("source", STR, "source vocabulary (SAB) or ontology"),
        Column("term_type", STR, "term type (TTY), or exact/related synonym kind"),
        Column("preferred", BOOL, "whether it is the concept's preferred name"),
    ),
    ("cui", "name", "source", "term_type"),
)
DEFINITIONS = Table(
    "definitions",
    "All definitions of a concept, the preferred one first.",
    (
        Column("cui", STR, "UMLS concept unique identifier"),
        Column("rank", INT, "1 is the one in concepts; then by preference of sources"),
        Column("source", STR, "source vocabulary (SAB) or ontology"),
        Column("definition", STR, "text as the source gives it"),
    ),
    ("cui", "rank"),
)
RETIRED = Table(
    "retired",
    "CUIs of older releases, and the concepts that stand for them now.",
    (
        Column("retired", STR, "CUI that is no longer in use"),
        Column("relation", STR, "MRCUI.REL: SY synonym, RB broader, RN narrower, RO other, DEL deleted"),
        Column("cui", STR, "concept of the knowledge base; empty for a deleted CUI"),
    ),
    ("retired", "relation", "cui"),
)
XREFS = Table(
    "xrefs",
    "Codes of source vocabularies and the concepts they stand for; one-to-many on purpose.",
    (
        Column("source", STR, "vocabulary: MSH, OMIM, …"),
        Column("code", STR, "code without prefix"),
        Column("cui", STR, "UMLS concept unique identifier"),
        Column("via", STR, "which file or map gave the row"),
    ),
    ("source", "code", "cui", "via"),
)
PARENTS = Table(
    "parents",
    "Direct parents of concepts by source; sources need not agree, so that there may be cycles.",
    (
        Column("cui", STR, "concept of the knowledge base"),
        Column("parent", STR, "concept directly above it; in a release it may lie outside the knowledge base"),
        Column("source", STR, "ontology or source vocabulary (SAB) that says so"),
    ),
    ("cui", "parent", "source"),
)
DOCUMENTS = Table(
    "documents",
    "Texts of a corpus.",
    (
        Column("doc_id", STR, "identifier in the corpus"),
        Column("split", STR, "fixed split", values=SPLITS),
        Column("text", STR, "text as published"),
        Column("sentences", pa.list_(SPAN), "sentence spans, without surrounding blanks, in order; made without looking at gold"),
    ),
    ("doc_id",),
)
MENTIONS = Table(
    "mentions",
    "Gold mentions of a corpus.",
    (
        Column("doc_id", STR, "document"),
        Column("mention_id", STR, "identifier, unique in the corpus"),
        Column("split", STR, "split of the document", values=SPLITS),
        Column("spans", pa.list_(SPAN), "pieces in rising order"),
        Column("surface", STR, "pieces' text, joined by one blank"),
        Column("expanded", STR, "surface with the document's own abbreviations spelled out; null where there is none", nullable=True),
        Column("entity_type", STR, "type as annotated"),
        Column("concept_ids", STRINGS, "ids as annotated, with vocabulary prefix (MSH:D…, OMIM:…, CUI:…)"),
        Column("cuis", STRINGS, "all CUIs that the ids map to, sorted; empty: unmapped"),
        Column("concept_cuis", pa.list_(STRINGS), "CUIs of each of concept_ids, in that order, each list sorted"),
        Column("composite", BOOL, "whether it names several concepts"),
        Column("ood_bucket", STR, "against the training split", values=BUCKETS),
    ),
    ("doc_id", "mention_id"),
)
PROMPTS = Table(
    "prompts",
    "What the generator is asked, one row per note to write.",
    (
        Column("note_id", STR, "CUI and number: C0000001-0"),
        Column("cui", STR, "concept to mention"),
        Column("prompt", STR, "instruction, before the chat template"),
        Column("has_definition", BOOL, "prompt form with or without definition"),
        Column("seed", INT, "seed of this note's own random stream"),
    ),
    ("note_id",),
)
PAIRS = Table(
    "pairs",
    "Fine-tuning pairs from a corpus' training split.",
    (
        Column("pair_id", STR, "mention id of the pair"),
        Column("doc_id", STR, "training document"),
        Column("cui", STR, "concept; empty when CUI-less", nullable=True),
        Column("prompt", STR, "instruction"),
        Column("completion", STR, "sentences with the mention in tags"),
    ),
    ("pair_id",),
)
NOTES = Table(
    "notes",
    "Generated notes as written, tags included.",
    (
        Column("note_id", STR, "as in prompts"),
        Column("cui", STR, "concept asked for"),
        Column("generator", STR, "name of the generator"),
        Column("prompt", STR, "instruction"),
        Column("text", STR, "raw output of the generator"),
        Column("seed", INT, "seed of the note"),
        Column("finish_reason", STR, "why writing ended", values=("stop", "length", "content_filter", "control", "replay")),
        Column("tokens", INT, "tokens written"),
    ),
    ("note_id",),
)
LOCATED = Table(
    "located",
    "Notes with marker text removed, and their sentences; only notes with at least one located mention.",
    (
        Column("note_id", STR, "as in notes"),
        Column("cui", STR, "concept asked for"),
        Column("text", STR, "text without tags"),
        Column("sentences", pa.list_(SPAN), "sentence spans"),
    ),
    ("note_id",),
)
SYNTHETIC_MENTIONS = Table(
    "synthetic_mentions",
    "Located mentions, spans into `located.text`.",
    (
        Column("note_id", STR, "as in notes"),
        Column("start", INT, "first character"),
        Column("end", INT, "one past the last character"),
        Column("cui", STR, "concept"),
        Column("surface", STR, "text of the span"),
        Column("match", STR, "how it was found", values=MATCHES),
        Column("score", FLOAT, "similarity to the name it matched, 0 to 100"),
    ),
    ("note_id", "start", "end"),
)
REJECTED = Table(
    "rejected",
    "Notes dropped after generation, and why.",
    (
        Column("note_id", STR, "as in notes"),
        Column("cui", STR, "concept asked for"),
        Column("reason", STR, "why it was dropped: by location, or the first filter that did", values=REASONS),
    ),
    ("note_id",),
)
CHOSEN = Table(
    "chosen",
    "The synthetic notes that a strategy adds to a corpus.",
    (Column("note_id", STR, "as in notes"), Column("cui", STR, "concept of the note")),
    ("note_id",),
)
RECOGNIZED = Table(
    "recognized",
    "Predicted mentions of a recognizer on the dev and test splits.",
    (
        Column("doc_id", STR, "document"),
        Column("start", INT, "first character"),
        Column("end", INT, "one past the last character"),
        Column("split", STR, "split of the document", values=SPLITS),
        Column("score", FLOAT, "mean probability of the tokens' labels"),
    ),
    ("doc_id", "start", "end"),
)
EMBEDDED = Table(
    "embedded",
    "What was embedded from a source: one row per name, gold mention or synthetic mention.",
    (
        Column("entry_id", STR, "kb: kb|number; corpus: mention id; generator: note id:start-end"),
        Column("text", STR, "name or surface form"),
        Column("vector", INT, "row of vectors.npy; entries with the same input share it"),
        Column("cuis", STRINGS, "concepts the entry stands for, sorted; none for a mention without a concept"),
        Column("split", STR, "split of a gold mention", nullable=True, values=SPLITS),
        Column("note_id", STR, "note of a synthetic mention", nullable=True),
    ),
    ("entry_id",),
)
LINKED = Table(
    "linked",
    "Ranked concepts of each query, ranks 1 to at most 100 without gaps.",
    (
        Column("mention_id", STR, "gold mention; of the test split, with a concept, in predictions"),
        Column("rank", INT, "1 is best"),
        Column("cui", STR, "predicted concept"),
        Column("score", FLOAT, "similarity of the concept's best entry, higher is better"),
        Column("entry", STR, "all concepts of that entry, joined by |: more than one if its name or mention is ambiguous"),
    ),
    ("mention_id", "rank"),
)
FOUND = Table(
    "found",
    "What a search of one source gives each distinct query of a corpus: at least its first 100 concepts, and all that may tie with the last.",
    (
        Column("query", INT, "row of the corpus' distinct inputs (embedded.vector)"),
        Column("cui", STR, "concept"),
        Column("rank", INT, "place among the query's concepts, from 1"),
        Column("score", FLOAT, "similarity of the concept's best entry, higher is better; not levelled: equal scores may differ in their last digits"),
        Column("votes", INT, "entries of the concept that count as equal to the best"),
        Column("entry", STR, "all concepts of the best entry, joined by |"),
    ),
    ("query", "cui"),
)
METRICS = Table(
    "metrics",
    "Tidy metrics: one row per cell, bucket and metric. Cell columns that do not apply are empty strings.",
    (
        Column("task", STR, "what is scored", values=("recognition", "normalization", "end_to_end")),
        Column("corpus", STR, "corpus"),
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("system", STR, "recognizer or linker; end to end: RECOGNIZER/LINKER"),
        Column("variant", STR, "recognition: schedule; normalization: index; end to end: SCHEDULE/INDEX"),
        Column("seed", INT, "seed of the training; 0 where nothing is trained"),
        Column("split", STR, "split scored", values=SPLITS),
        Column("bucket", STR, "all, an out-of-distribution bucket, or a subset that others score (SUBSETS)"),
        Column("metric", STR, "name of the metric"),
        Column("value", FLOAT, "0 to 1; null where n is 0", nullable=True),
        Column("n", INT, "gold mentions (recall, accuracy; distinct ones in some subsets) or predictions (precision) it rests on"),
    ),
    ("task", "corpus", "generator", "strategy", "system", "variant", "seed", "split", "bucket", "metric"),
)

ERRORS = ("missed", "boundary", "spurious")
RECOGNITION_ERRORS = Table(
    "recognition_errors",
    "What recognizers get wrong on dev and test: a row per gold mention not found with both its ends, and per prediction that overlaps no gold mention.",
    (
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("system", STR, "recognizer"),
        Column("variant", STR, "schedule"),
        Column("seed", INT, "seed of the training"),
        Column("split", STR, "split of the document", values=SPLITS),
        Column("doc_id", STR, "document"),
        Column("error", STR, "missed: no prediction overlaps it; boundary: one does; spurious: no gold mention", values=ERRORS),
        Column("start", INT, "first character of the gold mention, or of the spurious prediction"),
        Column("end", INT, "one past its last character"),
        Column("words", INT, "its length in words"),
        Column("bucket", STR, "bucket of the gold mention", nullable=True, values=BUCKETS),
        Column("predicted_start", INT, "boundary: first character of the prediction that shares most words with it", nullable=True),
        Column("predicted_end", INT, "boundary: one past its last character", nullable=True),
    ),
    ("generator", "strategy", "system", "variant", "seed", "split", "doc_id", "error", "start", "end"),
)

RELATIONS = ("ancestor", "descendant", "sibling", "unrelated", "unplaced", "missing")
NORMALIZATION_ERRORS = Table(
    "normalization_errors",
    "Test mentions that linkers get wrong at rank 1, and what the first wrong concept is to the mention's; empty if the knowledge base has no hierarchy.",
    (
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("system", STR, "linker"),
        Column("variant", STR, "index"),
        Column("mention_id", STR, "gold mention of the test split"),
        Column("predicted", STR, "first wrong concept; null if none is ranked", nullable=True),
        Column("gold", STR, "concept of the mention that it is nearest to; null if it is near none", nullable=True),
        Column("relation", STR, "what it is to that concept (evaluation.hierarchy)", values=RELATIONS),
        Column("distance", INT, "steps up to an ancestor, or down to a descendant", nullable=True),
    ),
    ("generator", "strategy", "system", "variant", "mention_id"),
)

ROLES = ("confirmatory", "exploratory")
COVERS = tuple(
    f"documents{generator}{training}" for training in ("", ", training seeds") for generator in ("", ", generator seeds of the cell", ", generator seeds")
)
CONTRAST = ("system", "variant", "generator", "strategy", "against", "reference_system", "reference_generator", "reference_strategy", "reference_variant")
"""Columns that name a comparison of two cells of one task, corpus and system."""

_CONTRAST_COLUMNS = (
    Column("system", STR, "recognizer or linker"),
    Column("variant", STR, "recognition: schedule; normalization: index"),
    Column("generator", STR, "generator, without its seed"),
    Column("strategy", STR, "strategy"),
    Column(
        "against",
        STR,
        "baseline: without synthetic text; control: another generator's text; kb: the dictionary in the index instead; external: another system",
        values=AGAINST,
    ),
    Column("reference_system", STR, "recognizer or linker of the cell compared with; the same one unless it is an external system"),
    Column("reference_generator", STR, "generator of the cell compared with, or none"),
    Column("reference_strategy", STR, "its strategy, or none"),
    Column("reference_variant", STR, "its schedule or index"),
)

COMPARISONS = Table(
    "comparisons",
    "Differences between two cells on the same test documents, overall and by group of mentions; one table per task and corpus.",
    (
        *_CONTRAST_COLUMNS,
        Column("slice", STR, "what the mentions are grouped by", values=SLICES),
        Column("group", STR, "all, a bucket, a subset, a semantic type, or a range of counts (2-5)"),
        Column("metric", STR, "name of the metric"),
        Column("value", FLOAT, "score of the cell, mean over its runs, 0 to 1"),
        Column("reference", FLOAT, "score of the cell compared with, 0 to 1"),
        Column("difference", FLOAT, "value minus reference"),
        Column("low", FLOAT, "lower limit of the difference; null with fewer than two documents", nullable=True),
        Column("high", FLOAT, "upper limit of the difference", nullable=True),
        Column("p", FLOAT, "approximate randomization, two-sided"),
        Column("role", STR, "confirmatory: declared before the run; exploratory: all others", values=ROLES),
        Column("family", STR, "comparisons of the task and corpus that are corrected together"),
        Column("family_size", INT, "how many these are"),
        Column("adjustment", STR, "holm: confirmatory families; bh (Benjamini-Hochberg): exploratory ones", values=("holm", "bh")),
        Column("p_adjusted", FLOAT, "p after the correction over the family"),
        Column("reachable", BOOL, "whether the documents and randomizations allow an adjusted p of statistics.alpha or less at all"),
        Column("resamples", INT, "randomizations that p rests on"),
        Column("n", INT, "gold mentions of the group"),
        Column("documents", INT, "documents with at least one of them: the unit that is resampled"),
        Column("runs", INT, "runs (seeds) of the cell"),
        Column("reference_runs", INT, "runs of the cell compared with"),
        Column("generator_seeds", INT, "generator seeds of the cell; 1 where its runs have the same notes"),
        Column("training_seeds", INT, "training seeds of the cell; 1 where there is one, or nothing to train"),
        Column("covers", STR, "what low, high and p hold: the choice of documents, and of the seeds of which there are several", values=COVERS),
        Column("fixed", FLOAT, "mentions right here and wrong there, mean over runs; null for F1, precision and mrr", nullable=True),
        Column("broken", FLOAT, "mentions wrong here and right there", nullable=True),
        Column("few", BOOL, "whether n is too small to conclude anything (fewer than 30, unless the config says otherwise)"),
    ),
    (*CONTRAST, "slice", "group", "metric"),
)
CHANGES = Table(
    "changes",
    "Test mentions that a cell fixes or breaks, against the cell compared with; one table per task and corpus.",
    (
        *_CONTRAST_COLUMNS,
        Column("mention_id", STR, "gold mention of the test split"),
        Column("change", STR, "fixed: right here and wrong there; broken: the reverse", values=("fixed", "broken")),
        Column("right", FLOAT, "share of runs that are right here"),
        Column("reference_right", FLOAT, "share of runs that are right there"),
        Column("predicted", STR, "normalization: first concept of the first run", nullable=True),
        Column("reference_predicted", STR, "normalization: first concept there", nullable=True),
    ),
    (*CONTRAST, "mention_id"),
)
NIL = Table(
    "nil",
    "Telling mentions without a concept from the others by the score of their first concept, per cell and threshold.",
    (
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("linker", STR, "linker"),
        Column("index", STR, "index"),
        Column("split", STR, "split scored", values=SPLITS),
        Column("threshold", FLOAT, "mentions whose first concept scores less, or that have none, are called NIL"),
        Column("precision", FLOAT, "share of the mentions called NIL that are unmapped; null where none is called so", nullable=True),
        Column("recall", FLOAT, "share of the unmapped mentions that are called NIL; null where there is none", nullable=True),
        Column("accuracy", FLOAT, "share of all mentions that are right: the first concept, or NIL; null where there is none", nullable=True),
        Column("n", INT, "mentions of the split"),
        Column("unmapped", INT, "those without a concept"),
        Column("chosen", BOOL, "whether it is the threshold with the best accuracy on dev, the lowest of equals"),
    ),
    ("generator", "strategy", "linker", "index", "split", "threshold"),
)

ALL = (
    CONCEPTS,
    NAMES,
    DEFINITIONS,
    XREFS,
    RETIRED,
    PARENTS,
    DOCUMENTS,
    MENTIONS,
    PROMPTS,
    PAIRS,
    NOTES,
    LOCATED,
    SYNTHETIC_MENTIONS,
    REJECTED,
    CHOSEN,
    RECOGNIZED,
    EMBEDDED,
    LINKED,
    FOUND,
    METRICS,
    NIL,
    RECOGNITION_ERRORS,
    NORMALIZATION_ERRORS,
    COMPARISONS,
    CHANGES,
)

METADATA_KEY = b"mentionforge"


def build(table: Table, rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """Rows as an Arrow table in the declared schema, sorted by key.

    Raises:
        UserError: A missing, extra or mistyped column, a null where none may be, a value outside the declared ones, or
            a key that occurs twice; the message names table, column and row.
    """
    if not isinstance(rows, pa.Table):
        names = [c.name for c in table.columns]
        for i, row in enumerate(rows):
            odd = set(row) ^ set(names)
            if odd:
                raise UserError("wrong columns", f"{table.name}:{i + 1}", f"{', '.join(sorted(odd))}", "this is a fault of the stage that made the rows")
        try:
            rows = pa.table({c.name: pa.array([row[c.name] for row in rows], c.type) for c in table.columns})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError("wrong type", table.name, str(error)) from error
    checked, rising = _check(table, rows, table.name)
    return checked if rising else checked.sort_by([(k, "ascending") for k in table.key])


def write(table: Table, path: str | Path, rows: Sequence[Mapping[str, Any]] | pa.Table, provenance: Mapping[str, Any] | None = None) -> pa.Table:
    """Check rows, sort them by key and write them to `path` (temporary name, then renamed); returns the table written.

    Args:
        table: The declaration.
        path: Parquet file.
        rows: Dicts with exactly the declared columns, or an Arrow table.
        provenance: JSON data stored in the file's metadata (see `mentionforge.provenance.stamp`).
    """
    built = build(table, rows)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    pq.write_table(built.replace_schema_metadata(_metadata(table, provenance)), temporary, compression="zstd")
    os.replace(temporary, target)
    return built


class Writer:
    """Writes a table that may be larger than memory; rows come in any order, and are stored in that of the key, as by `write`.

    Rows are gathered by range of the first key column, in a temporary file for each range if there are several; at the end each range is
    sorted, checked and appended. So memory holds one range, and `BUFFER` rows besides.
    """

    BUFFER = 4_000

    def __init__(self, table: Table, path: str | Path, firsts: Sequence[str] = ()) -> None:
        """`firsts`: the first key of each range but the lowest, rising; empty: one range, all in memory."""
        self._table, self._target, self._firsts = table, Path(path), list(firsts)
        self._rows: list[list[Mapping[str, Any]]] = [[] for _ in range(len(self._firsts) + 1)]
        self._waiting = 0
        self._built: list[pa.Table] = []
        self._files: list[pa.RecordBatchStreamWriter | None] = [None] * len(self._rows)
        self._folder = self._target.with_name(f".{self._target.name}.{os.getpid()}.parts")
        self._temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}.tmp")

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        part = bisect_right(self._firsts, row[self._table.key[0]])
        self._rows[part].append(row)
        self._waiting += 1
        if self._waiting >= self.BUFFER:
            for i in range(len(self._rows)):
                self._spill(i)
            self._waiting = 0

    def finish(self, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the table (temporary name, then renamed).

        Raises:
            UserError: See `build`.
        """
        if not self._firsts:
            self._spill(0)
            write(self._table, self._target, pa.concat_tables(self._built).combine_chunks() if self._built else [], provenance)
            return
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(self._temporary, self._table.schema.with_metadata(_metadata(self._table, provenance)), compression="zstd") as out:
            for part in range(len(self._rows)):
                self._spill(part)
                file = self._files[part]
                if file is None:
                    continue
                file.close()
                path = self._folder / str(part)
                with pa.ipc.open_stream(path) as stream:
                    out.write_table(build(self._table, stream.read_all()))
                path.unlink()
        os.replace(self._temporary, self._target)
        self.discard()

    def discard(self) -> None:
        """Remove what is not finished."""
        self._temporary.unlink(missing_ok=True)
        for part, file in enumerate(self._files):
            if file is not None:
                file.close()
                (self._folder / str(part)).unlink(missing_ok=True)
        if self._folder.exists():
            self._folder.rmdir()

    def _spill(self, part: int) -> None:
        if not self._rows[part]:
            return
        rows, self._rows[part] = build(self._table, self._rows[part]), []
        if not self._firsts:
            self._built.append(rows)
            return
        if self._files[part] is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files[part] = pa.ipc.new_stream(self._folder / str(part), self._table.schema)
        self._files[part].write_table(rows)  # type: ignore[union-attr]


def _metadata(table: Table, provenance: Mapping[str, Any] | None) -> dict[bytes, bytes]:
    return {METADATA_KEY: json.dumps({"table": table.name, **(provenance or {})}, sort_keys=True).encode()}


def read(table: Table, path: str | Path) -> pa.Table:
    """Read and check a table.

    Raises:
        UserError: The file is missing, is no Parquet file, or does not fit the declaration.
    """
    try:
        with pq.ParquetFile(path) as file:  # read_table would load the machinery for datasets of many files first
            found = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"unreadable {table.name} table", str(path), str(error), "delete the file and rerun the workflow") from error
    return _check(table, found, str(path))[0]


def provenance(path: str | Path) -> dict[str, Any]:
    """The provenance that `write` stored in a file."""
    return dict(json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")))


def _rising(table: Table, found: pa.Table) -> bool:
    """Whether rows stand in strictly rising order of their key: then they are sorted, and no key is there twice.

    Far cheaper than grouping or sorting, and true of all tables that were written here.
    """
    above, equal = None, None
    for name in table.key:
        column = found.column(name).combine_chunks()
        if column.null_count:
            return False
        here, there = column[:-1], column[1:]
        less, same = pc.less(here, there), pc.equal(here, there)
        above = less if above is None else pc.or_(above, pc.and_(equal, less))
        equal = same if equal is None else pc.and_(equal, same)
    return above is None or pc.all(above).as_py() is not False


def _check(table: Table, found: pa.Table, where: str) -> tuple[pa.Table, bool]:
    """The table in the declared schema, and whether its rows already stand in the order of the key."""
    fix = "the file was written by another version; delete it and rerun"
    names = [c.name for c in table.columns]
    if found.column_names != names:
        odd = sorted(set(found.column_names) ^ set(names)) or ["order"]
        raise UserError(f"{table.name} table has wrong columns", where, ", ".join(odd), fix)
    for column in table.columns:
        data = found.column(column.name)
        if data.type != column.type:
            raise UserError(f"{table.name} table has a wrong type", where, f"column {column.name} is {data.type}, not {column.type}", fix)
        if not column.nullable and data.null_count:
            row = data.is_null().to_pylist().index(True) + 1
            raise UserError(f"{table.name} table has an empty cell", f"{where}:{row}", f"column {column.name}")
        if column.values and len(found):
            allowed = set(column.values) | ({None} if column.nullable else set())
            odd_values = set(data.unique().to_pylist()) - allowed
            if odd_values:
                value = sorted(map(str, odd_values))[0]
                row = [str(v) for v in data.to_pylist()].index(value) + 1
                raise UserError(
                    f"{table.name} table has an unknown value", f"{where}:{row}", f"column {column.name}: {value!r} is none of {', '.join(column.values)}"
                )
    rising = _rising(table, found)
    if len(found) and not rising and len(found.select(list(table.key)).group_by(list(table.key)).aggregate([])) < len(found):
        seen: set[tuple[Any, ...]] = set()
        for i, row_key in enumerate(zip(*(found.column(k).to_pylist() for k in table.key), strict=True)):
            if row_key in seen:
                raise UserError(f"{table.name} table has a key twice", f"{where}:{i + 1}", f"{', '.join(table.key)} = {row_key}")
            seen.add(row_key)
    return pa.Table.from_arrays(found.columns, schema=table.schema), rising  # the types agree, so nothing need be copied
