"""Parquet tables, checked against their declaration when they are built, written and read.

In: a `Table` (its columns, types and key), and rows or a file. Out: an Arrow table in the declared schema, sorted by key, or a file with provenance in
its metadata; a UserError names table, column and row of what breaks the declaration. Knows nothing of any one table (`tables`).
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
