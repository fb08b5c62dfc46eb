"""The formats `omop` and `omop-parquet`: rows of NOTE_NLP (OMOP CDM 5.4), with the codes of each row and the ids of documents beside it.

In: annotated documents. Out: note_nlp, note_nlp_codes and notes, as CSV or Parquet; docs/annotate.md states every field. Knows nothing of models.
Holds no text besides the mentions. Equal input gives equal bytes, except for `nlp_date`, the day (UTC); SOURCE_DATE_EPOCH fixes it.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mentionforge import __version__
from mentionforge.annotate.vocabularies import own_code, vocabulary
from mentionforge.annotate.writers.contract import AnnotationFormat, Losses, Record, codes_of, renamed_when_complete

MAX_TERM = 250
"""Characters of `lexical_variant`."""

FIELDS: dict[str, dict[str, str]] = {
    "note_nlp": {
        "note_nlp_id": "int64",
        "note_id": "int64",
        "section_concept_id": "int64",
        "snippet": "string",
        "offset": "string",
        "lexical_variant": "string",
        "note_nlp_concept_id": "int64",
        "note_nlp_source_concept_id": "int64",
        "nlp_system": "string",
        "nlp_date": "date32",
        "nlp_datetime": "timestamp",
        "term_exists": "string",
        "term_temporal": "string",
        "term_modifiers": "string",
    },
    "note_nlp_codes": {
        "note_nlp_id": "int64",
        "vocabulary_id": "string",
        "concept_code": "string",
        "vocabulary": "string",
        "preferred": "string",
        "via": "string",
        "score": "float64",
    },
    "notes": {"note_id": "int64", "doc_id": "string"},
}
"""Fields and types of each table; those of note_nlp are the fields of OMOP CDM 5.4, in its order."""

_NUMBERED = "documents whose ids are no whole numbers: numbered from -1 downwards in notes"
_CUT = f"mentions of more than {MAX_TERM} characters: cut in lexical_variant"
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


class Sink(Protocol):
    """Where the rows of a table go."""

    def add(self, row: dict[str, Any]) -> None:
        """Write a row; missing fields are NULL."""


class _OmopTables(AnnotationFormat):
    """Rows with offsets, terms, contexts and codes; no further candidates and no scores of mentions."""

    output = "omop"
    reads_context = True

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write the three tables into a folder."""
        losses: dict[str, int] = {}
        with renamed_when_complete(out) as folder:
            folder.mkdir()
            with ExitStack() as stack:
                sinks = {table: stack.enter_context(self.sink(folder, table)) for table in FIELDS}
                _write(records, sinks, losses)
        return losses

    def sink(self, folder: Path, table: str) -> Any:
        """A context manager that opens the file of a table and gives its `Sink`."""
        raise NotImplementedError


def _write(records: Iterable[Record], sinks: dict[str, Sink], losses: dict[str, int]) -> None:
    row_id, last_number = 0, 0
    today = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC) if os.environ.get("SOURCE_DATE_EPOCH") else datetime.now(UTC)
    constant = {"nlp_system": f"mentionforge {__version__}", "nlp_date": today.date(), "note_nlp_concept_id": 0, "note_nlp_source_concept_id": 0}
    for r in records:
        if _WHOLE_NUMBER.fullmatch(r["doc_id"]):
            note_id = int(r["doc_id"])
        else:
            last_number -= 1
            note_id = last_number
            losses[_NUMBERED] = losses.get(_NUMBERED, 0) + 1
        sinks["notes"].add({"note_id": note_id, "doc_id": r["doc_id"]})
        for m in r["mentions"]:
            row_id += 1
            [span] = m["spans"]
            if len(m["surface"]) > MAX_TERM:
                losses[_CUT] = losses.get(_CUT, 0) + 1
            row = {"note_nlp_id": row_id, "note_id": note_id, "offset": str(span["start"]), "lexical_variant": m["surface"][:MAX_TERM]}
            sinks["note_nlp"].add({**row, **constant, "term_exists": "N" if m["context"] else "Y", "term_modifiers": _modifiers(m)})
            for code in _codes(m):
                sinks["note_nlp_codes"].add({"note_nlp_id": row_id, **code})


def _modifiers(m: Record) -> str:
    """Contexts by the names that the CDM gives to modifiers."""
    contexts = set(m["context"])
    negation, conditional = ("true" if kind in contexts else "false" for kind in ("negated", "hypothetical"))
    return f"Negation={negation},Subject={'family' if 'family' in contexts else 'patient'},Conditional={conditional}"


def _codes(m: Record) -> Iterator[dict[str, Any]]:
    """The concept's id, and its codes."""
    if m["nil"] or not m["concepts"]:
        return
    first = m["concepts"][0]
    own = own_code(first["cui"]) or ("", first["cui"])
    rows: list[Record] = [{"vocabulary": own[0], "code": own[1], "preferred": True, "via": "concept id"}]
    rows += [code for code in codes_of(m) if (code["vocabulary"], code["code"]) != own]
    for row in rows:
        yield {
            "vocabulary_id": vocabulary(row["vocabulary"]).omop or None,
            "concept_code": row["code"],
            "vocabulary": row["vocabulary"] or None,
            "preferred": "Y" if row["preferred"] else "N",
            "via": row["via"],
            "score": first["score"],
        }


class _CsvSink:
    def __init__(self, handle: Any, table: str) -> None:
        self.writer = csv.DictWriter(handle, FIELDS[table], lineterminator="\n")
        self.writer.writeheader()

    def add(self, row: dict[str, Any]) -> None:
        self.writer.writerow(row)


class OmopCsv(_OmopTables):
    """CSV with a header; NULL is an empty field."""

    name = "omop"

    @contextmanager
    def sink(self, folder: Path, table: str) -> Iterator[Sink]:
        """See `_OmopTables.sink`."""
        with open(folder / f"{table}.csv", "w", encoding="utf-8", newline="") as handle:
            yield _CsvSink(handle, table)


class _ParquetSink:
    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == 10_000:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        self.writer.write_table(pa.Table.from_pylist(self.rows, self.writer.schema))
        self.rows = []


class OmopParquet(_OmopTables):
    """Parquet with the types of the CDM; ids are 64-bit."""

    name = "omop-parquet"

    @contextmanager
    def sink(self, folder: Path, table: str) -> Iterator[Sink]:
        """See `_OmopTables.sink`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"int64": pa.int64(), "string": pa.string(), "date32": pa.date32(), "timestamp": pa.timestamp("us"), "float64": pa.float64()}
        schema = pa.schema({name: types[kind] for name, kind in FIELDS[table].items()})
        with pq.ParquetWriter(folder / f"{table}.parquet", schema, compression="zstd") as writer:
            rows = _ParquetSink(writer)
            yield rows
            rows.flush()
