"""The source `table`: concepts in a CSV, TSV, Parquet or JSON Lines file of your own.

In: an entry of `kbs`. Out: its model, and by `read` and `parents` its tables. Rows that are left out or joined are counted and listed by number.
Imports no heavy library, outside of functions. Knows nothing of ontologies.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from mentionforge import table_rows
from mentionforge.concept_forms import CUI
from mentionforge.errors import UserError
from mentionforge.kb.sources.contract import KnowledgeBase
from mentionforge.kb.sources.ontologies.published import code_of

if TYPE_CHECKING:
    from mentionforge.kb.sources.contract import Extracted, ParentTable

VERSION = 1

Role = Literal["id", "name", "synonyms", "type", "definition", "parents", "xrefs"]
ROLES: tuple[Role, ...] = ("id", "name", "synonyms", "type", "definition", "parents", "xrefs")

ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl")

LISTED = 1_000
"""Rows that are listed for each reason; all are counted."""

MAX_FIELD = 10_000_000
"""Characters that a field may have."""

NO_ID = re.compile(r"[\s|+;,]")
"""What no concept id may hold: blanks, and what separates ids in the columns of corpora. Nor may it hold what nobody sees."""

NO_TEXT = re.compile("[\x00\ud800-\udfff]")
"""What no text holds: NUL, and halves of characters."""

_FIX = "correct the row, or leave it out"


class TableKb(KnowledgeBase):
    """A table of concepts: an id and a name in each row; synonyms, types, definition, parents and cross-references where there are columns of them."""

    part: ClassVar[str] = "kb.table"

    source: Literal["table"]
    path: str = Field(
        examples=["terms.csv"], description="A .csv, .tsv, .parquet or .jsonl file with one row per concept; further rows of a concept add their names."
    )
    licensed: str | None = Field(None, description="How to obtain the file; then its absence is an error of the job, and its text is licensed.")
    columns: dict[Role, str] = Field(
        default_factory=dict, examples=[{"id": "code", "name": "label"}], description="The file's own name of a column, where it is not id, name, synonyms, …"
    )
    prefix: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$",
        examples=["MINE"],
        description="Vocabulary of ids without a prefix: with LOCAL, L-17 becomes LOCAL:L-17. CUI: they are UMLS CUIs.",
    )
    separator: str = Field("|", min_length=1, description="What separates the values of a cell, in columns of several values; lists need none.")
    semantic_type: str = Field("T047", min_length=1, description="Semantic type of rows without one.")

    @model_validator(mode="after")
    def _ending(self) -> TableKb:
        if Path(self.path).suffix.lower() not in ENDINGS:
            raise ValueError(f"{self.path}: a table is a file that ends in {', '.join(ENDINGS)}")
        return self

    def files(self) -> list[str]:
        """What it is read from."""
        return [self.path]

    def estimated_size(self, folder: Path) -> tuple[int, int]:
        """At most what fits into the file, if it is at hand."""
        path = folder / self.path
        if not path.is_file():
            return self.usual_size
        size = path.stat().st_size
        definitions, names = map(min, self.usual_size, (size // 100, size // 10))
        return definitions, names

    def read(self) -> Extracted:
        """Its tables."""
        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from the column of parents."""
        return read_parents(self)


class TableConcept(NamedTuple):
    """A row. `number` counts from 1, without the header."""

    number: int
    id: str
    name: str
    synonyms: list[str]
    types: list[str]
    definition: str
    parents: list[str]
    xrefs: list[str]


class Skipped:
    """What is left out or joined, by reason: how often, and the first rows."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.counts: Counter[str] = Counter()
        self.listed: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, example: str) -> None:
        """Count a row, and list it unless there are too many."""
        self.counts[reason] += 1
        if self.counts[reason] <= LISTED:
            self.listed[reason].append(example)

    def funnel(self, rows: int) -> dict[str, Any]:
        """As in `Extracted`."""
        return {"rows": rows, "drops": dict(sorted(self.counts.items())), "listed": {reason: self.listed[reason] for reason in sorted(self.listed)}}


def read(entry: TableKb) -> Extracted:
    """The tables of an entry.

    The first row of a concept sets its preferred name and definition. The name of a further row becomes a synonym; its types and cross-references are
    added, and a definition if there was none.

    Raises:
        UserError: The file is missing or of another form, or a row has no id, one that is none, or a broken cell; the message names the row, never text.
    """
    import pyarrow as pa

    from mentionforge import tables
    from mentionforge.kb.sources.contract import Extracted

    skipped = Skipped()
    names: dict[str, dict[str, str]] = {}  # term type by name; the preferred name first
    definitions: dict[str, str] = {}
    types: dict[str, dict[str, None]] = defaultdict(dict)
    xrefs: dict[tuple[str, str, str], str] = {}
    rows = 0
    for row in rows_of(entry):
        rows += 1
        if not row.name:
            skipped.add("empty name", f"{row.number}: {row.id}")
            continue
        if row.id in names:
            repeated = row.name in names[row.id] and not row.synonyms
            skipped.add("repeated row" if repeated else "id given again, its name added", f"{row.number}: {row.id}")
        own = names.setdefault(row.id, {})
        for name in (row.name, *row.synonyms):
            own.setdefault(name, "SY" if own else "PT")
        if row.definition:
            definitions.setdefault(row.id, row.definition)
        types[row.id].update(dict.fromkeys(row.types))
        if ":" in row.id:
            xrefs[*code_of(row.id), row.id] = "id"
        for xref in row.xrefs:
            if all(code_of(xref)):
                xrefs.setdefault((*code_of(xref), row.id), "table")
            else:
                reason = "cross-reference without a code" if xref.endswith(":") else "cross-reference without a vocabulary"
                skipped.add(reason, f"{row.number}: {row.id}")
    concepts = sorted(names)
    pairs = [(concept, name) for concept in concepts for name in sorted(names[concept])]
    own_codes = {(source, code) for (source, code, _), via in xrefs.items() if via == "id"}
    codes = {key: via for key, via in xrefs.items() if via == "id" or key[:2] not in own_codes}  # another concept's own id is its code alone
    for source, code, concept in sorted(set(xrefs) - set(codes)):
        skipped.add("cross-reference to another concept of the table", f"{concept}: {source}:{code}")

    def table(declared: Any, **columns: Any) -> Any:
        return tables.build(declared, pa.table({c.name: pa.array(columns[c.name], c.type) for c in declared.columns}))

    vocabulary = {concept: _vocabulary(concept) for concept in concepts}
    defined = [concept for concept in concepts if concept in definitions]
    return Extracted(
        table(
            tables.CONCEPTS,
            cui=concepts,
            preferred_name=[next(iter(names[c])) for c in concepts],
            definition=[definitions.get(c) for c in concepts],
            semantic_types=[sorted(types[c]) or [entry.semantic_type] for c in concepts],
        ),
        table(
            tables.NAMES,
            cui=[c for c, _ in pairs],
            name=[name for _, name in pairs],
            source=[vocabulary[c] for c, _ in pairs],
            term_type=[names[c][name] for c, name in pairs],
            preferred=[names[c][name] == "PT" for c, name in pairs],
        ),
        table(
            tables.DEFINITIONS,
            cui=defined,
            rank=[1] * len(defined),
            source=[vocabulary[c] for c in defined],
            definition=[definitions[c] for c in defined],
        ),
        table(
            tables.XREFS,
            source=[source for source, _, _ in codes],
            code=[code for _, code, _ in codes],
            cui=[concept for _, _, concept in codes],
            via=list(codes.values()),
        ),
        tables.build(tables.RETIRED, []),
        {"table": Path(entry.path)},
        skipped.funnel(rows),
    )


def read_parents(entry: TableKb) -> ParentTable:
    """The pairs of concept and parent. Parents that no row has, and concepts that are their own parent, are left out; concepts in cycles are listed."""
    from mentionforge import tables
    from mentionforge.kb.sources.contract import ParentTable
    from mentionforge.kb.sources.hierarchy import cycles_of

    skipped = Skipped()
    rows = [row for row in rows_of(entry) if row.name]
    known = {row.id for row in rows}
    pairs: set[tuple[str, str]] = set()
    for row in rows:
        for parent in row.parents:
            if parent not in known:
                skipped.add("unknown parent", f"{row.number}: {row.id} {parent}")
            elif parent == row.id:
                skipped.add("parent of itself", f"{row.number}: {row.id}")
            else:
                pairs.add((row.id, parent))
    table = tables.build(tables.PARENTS, [{"cui": concept, "parent": parent, "source": _vocabulary(concept)} for concept, parent in pairs])
    for members in cycles_of(table):
        skipped.add("cycle", " ".join(members))
    missing = None if pairs else "the table gives no parent"
    return ParentTable(table, {"table": Path(entry.path)}, skipped.funnel(len(rows)), missing)


def _vocabulary(concept: str) -> str:
    """The vocabulary of a concept id, which is the source of its names."""
    return code_of(concept)[0] if ":" in concept else "UMLS"


def rows_of(entry: TableKb) -> Iterator[TableConcept]:
    """The rows of the file, checked, in order.

    Raises:
        UserError: See `read`.
    """
    own_columns: dict[str, str] = {role: entry.columns.get(role, role) for role in ROLES}
    available: set[str] = set()
    number = 0
    try:
        for row in _records(entry.path, list(own_columns.values())):
            number, where = row.number, f"{entry.path}:{row.number}"
            if row.error:
                raise UserError(row.error, where, row.why.replace(" (--encoding)", "").replace(" (--max-mb)", ""), _FIX)
            if not isinstance(row.record, dict) or isinstance(row.record, table_rows.RepeatedKeys):
                raise UserError(table_rows.BROKEN, where, "a key stands in it twice" if isinstance(row.record, dict) else "no JSON object", _FIX)
            if number == 1 or entry.path.lower().endswith(".jsonl"):
                available |= set(row.record)
                if number == 1:
                    _check_columns(entry, own_columns, available)
            yield _concept(entry, number, {role: row.record.get(column) for role, column in own_columns.items()}, where)
    except (OSError, ValueError) as error:
        raise UserError("unreadable table", entry.path, getattr(error, "strerror", None) or str(error), "correct the path, or the file") from error
    if not number:
        raise UserError("empty table", entry.path, "no rows in it", "give one row per concept")
    _check_columns(entry, own_columns, available, of_all_rows=True)


def _records(path: str, columns: list[str]) -> Iterator[Any]:
    ending = Path(path).suffix.lower()
    if ending == ".parquet":
        return table_rows.parquet(path, columns, "utf-8")
    if ending == ".jsonl":
        return table_rows.json_lines(path, "utf-8", MAX_FIELD)
    return table_rows.delimited(path, "utf-8", MAX_FIELD, "\t" if ending == ".tsv" else ",")


def _check_columns(entry: TableKb, own_columns: dict[str, str], available: set[str], of_all_rows: bool = False) -> None:
    """Whether id, name, and all columns that the config names are there; a key of JSON Lines may first stand in a later row."""
    of_lines = entry.path.lower().endswith(".jsonl") and not of_all_rows
    wanted = ["id", "name", *(() if of_lines else sorted(set(entry.columns) - {"id", "name"}))]
    if missing := [role for role in wanted if own_columns[role] not in available]:
        role = missing[0]
        why = f"there is no {own_columns[role]!r} for {role}; there are {', '.join(sorted(available))[:200]}"
        raise UserError("missing column", entry.path, why, f"name the file's own column: columns: {{{role}: NAME}}")


def _concept(entry: TableKb, number: int, record: dict[str, Any], where: str) -> TableConcept:
    """A row as a concept. Ids get the prefix; names get single blanks."""

    def several(role: Role) -> list[str]:
        value = record[role]
        if not value:
            return []
        values = [_text(item, role, where) for item in value] if isinstance(value, list) else _text(value, role, where).split(entry.separator)
        return [text for item in values if (text := " ".join(item.split()))]

    def one(role: Role) -> str:
        return " ".join(_text(record[role], role, where).split())

    return TableConcept(
        number,
        _prefixed(entry, one("id"), "id", where),
        one("name"),
        several("synonyms"),
        several("type"),
        one("definition"),
        [_prefixed(entry, parent, "parents", where) for parent in several("parents")],
        several("xrefs"),
    )


def _text(value: Any, role: str, where: str) -> str:
    if isinstance(value, str) and value.isascii() and "\0" not in value:
        return value
    if isinstance(value, list | dict):
        raise UserError("bad value", where, f"{role}: a {'list' if isinstance(value, list) else 'mapping'} where one value stands", _FIX)
    text = "" if isinstance(value, float) and math.isnan(value) else table_rows.as_id(value)
    if byte := table_rows.bad_byte(text):
        raise UserError(table_rows.ENCODING, where, f"{role}: not UTF-8: byte {byte} in it", "convert the file to UTF-8")
    if bad := NO_TEXT.search(text):
        raise UserError("bad value", where, f"{role}: U+{ord(bad[0]):04X} in it, which no text has", _FIX)
    return text


def _prefixed(entry: TableKb, published: str, role: str, where: str) -> str:
    """An id with its prefix; a CUI without."""
    if not published:
        raise UserError("empty id", where, f"{role}: nothing in it", _FIX)
    prefix, colon, code = published.rpartition(":")
    prefix, colon = (prefix, colon) if colon else (entry.prefix or "", ":")
    if prefix.upper() in ("CUI", "UMLS"):
        prefix, colon = "", ""
        if not CUI.fullmatch(code):
            raise UserError("wrong CUI", where, f"{role}: a CUI is C and seven digits", _FIX)
    elif not prefix:
        raise UserError("id without a vocabulary", where, f"{role}: it has no prefix, as HP in HP:0001250", "set prefix: NAME, or prefix: CUI for UMLS CUIs")
    if not published.isprintable():
        raise UserError("bad id", where, f"{role}: it holds a character that nobody sees, as a zero-width blank", _FIX)
    if not code or NO_ID.search(published):
        raise UserError("bad id", where, f"{role}: an id has no blanks, `|`, `+`, `,` or `;`, and a code after its prefix", _FIX)
    return f"{prefix}{colon}{code}"
