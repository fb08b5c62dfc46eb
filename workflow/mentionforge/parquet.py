"""Parquet tables, checked against their declaration when they are built, written and read.

In: a `Table` (columns, types and key), and rows or a file. Out: an Arrow table in the declared schema, sorted by key; or a file with provenance in its
metadata. A `UserError` names table, column and row of a violation. Knows no particular table (`tables` declares them).
"""

from __future__ import annotations

import json
import os
import sys
import types
import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mentionforge.errors import UserError


def leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas, which it does at its first list, to see whether the list is a pandas object: a quarter of the CPU time of a short job.

    For commands that use no pandas. pyarrow looks once, finds a version that is too old, and does without.
    """
    if "pandas" in sys.modules:
        return
    too_old = types.ModuleType("pandas")
    too_old.__version__ = "0"  # type: ignore[attr-defined]
    sys.modules["pandas"] = too_old
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pa.array([])
    finally:
        del sys.modules["pandas"]


STR, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
STRINGS = pa.list_(STR)
SPAN = pa.struct([("start", INT), ("end", INT)])


@dataclass(frozen=True)
class Column:
    """A column: name, type, meaning, whether it may be null, and the allowed values, if they are limited."""

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The declaration of a table; the `key` columns come first and identify a row."""

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
        UserError: A column is missing, extra or of a wrong type, a null or value is not allowed, or a key is repeated; the message names table,
            column and row.
    """
    if not isinstance(rows, pa.Table):
        names = [c.name for c in table.columns]
        for i, row in enumerate(rows):
            different = set(row) ^ set(names)
            if different:
                raise UserError("wrong columns", f"{table.name}:{i + 1}", f"{', '.join(sorted(different))}", "this is a fault of the stage that made the rows")
        try:
            rows = pa.table({c.name: pa.array([row[c.name] for row in rows], c.type) for c in table.columns})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError("wrong type", table.name, str(error)) from error
    checked, is_sorted = _check(table, rows, table.name)
    return checked if is_sorted else checked.sort_by([(k, "ascending") for k in table.key])


def write(table: Table, path: str | Path, rows: Sequence[Mapping[str, Any]] | pa.Table, provenance: Mapping[str, Any] | None = None) -> pa.Table:
    """Check rows, sort them by key and write them to `path` atomically; return the table.

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
    """Writes a table that may be larger than memory. Rows are added in any order, and stored in the order of the key, as by `write`.

    Rows are collected by range of the first key column, in one temporary file per range if there are several. At the end each range is sorted, checked and
    appended. So memory holds one range, and at most `BUFFER` further rows.
    """

    BUFFER = 4_000

    def __init__(self, table: Table, path: str | Path, firsts: Sequence[str] = ()) -> None:
        """`firsts` are the first keys of all ranges but the lowest, ascending; empty: there is one range, in memory."""
        self._table, self._target, self._firsts = table, Path(path), list(firsts)
        self._rows: list[list[Mapping[str, Any]]] = [[] for _ in range(len(self._firsts) + 1)]
        self._waiting = 0
        self._built: list[pa.Table] = []
        self._files: list[pa.RecordBatchStreamWriter | None] = [None] * len(self._rows)
        self._folder = self._target.with_name(f".{self._target.name}.{os.getpid()}.parts")
        self._temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}.tmp")

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        range_index = bisect_right(self._firsts, row[self._table.key[0]])
        self._rows[range_index].append(row)
        self._waiting += 1
        if self._waiting >= self.BUFFER:
            for i in range(len(self._rows)):
                self._spill(i)
            self._waiting = 0

    def finish(self, provenance: Mapping[str, Any] | None = None) -> None:
        """Write the table atomically.

        Raises:
            UserError: See `build`.
        """
        if not self._firsts:
            self._spill(0)
            write(self._table, self._target, pa.concat_tables(self._built).combine_chunks() if self._built else [], provenance)
            return
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(self._temporary, self._table.schema.with_metadata(_metadata(self._table, provenance)), compression="zstd") as out:
            for range_index in range(len(self._rows)):
                self._spill(range_index)
                file = self._files[range_index]
                if file is None:
                    continue
                file.close()
                path = self._folder / str(range_index)
                with pa.ipc.open_stream(path) as stream:
                    out.write_table(build(self._table, stream.read_all()))
                path.unlink()
        os.replace(self._temporary, self._target)
        self.discard()

    def discard(self) -> None:
        """Remove all temporary files."""
        self._temporary.unlink(missing_ok=True)
        for range_index, file in enumerate(self._files):
            if file is not None:
                file.close()
                (self._folder / str(range_index)).unlink(missing_ok=True)
        if self._folder.exists():
            self._folder.rmdir()

    def _spill(self, range_index: int) -> None:
        if not self._rows[range_index]:
            return
        rows, self._rows[range_index] = build(self._table, self._rows[range_index]), []
        if not self._firsts:
            self._built.append(rows)
            return
        if self._files[range_index] is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files[range_index] = pa.ipc.new_stream(self._folder / str(range_index), self._table.schema)
        self._files[range_index].write_table(rows)  # type: ignore[union-attr]


def _metadata(table: Table, provenance: Mapping[str, Any] | None) -> dict[bytes, bytes]:
    return {METADATA_KEY: json.dumps({"table": table.name, **(provenance or {})}, sort_keys=True).encode()}


def read(table: Table, path: str | Path) -> pa.Table:
    """Read and check a table.

    Raises:
        UserError: The file is missing, is no Parquet file, or does not fit the declaration.
    """
    try:
        with pq.ParquetFile(path) as file:  # faster than read_table, which loads the code for datasets of many files
            data = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"unreadable {table.name} table", str(path), str(error), "delete the file and rerun the workflow") from error
    return _check(table, data, str(path))[0]


def provenance(path: str | Path) -> dict[str, Any]:
    """The provenance that `write` stored in a file."""
    return dict(json.loads((pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")))


def _is_sorted(table: Table, data: pa.Table) -> bool:
    """Whether the keys are strictly ascending: then rows are sorted, and no key is repeated.

    This is much cheaper than sorting or grouping, and true for all tables written here.
    """
    greater, equal = None, None
    for name in table.key:
        column = data.column(name).combine_chunks()
        if column.null_count:
            return False
        values, following = column[:-1], column[1:]
        less, same = pc.less(values, following), pc.equal(values, following)
        greater = less if greater is None else pc.or_(greater, pc.and_(equal, less))
        equal = same if equal is None else pc.and_(equal, same)
    return greater is None or pc.all(greater).as_py() is not False


def _check(table: Table, data: pa.Table, where: str) -> tuple[pa.Table, bool]:
    """The table in the declared schema, and whether its rows are sorted by key."""
    fix = "the file was written by another version; delete it and rerun"
    names = [c.name for c in table.columns]
    if data.column_names != names:
        different = sorted(set(data.column_names) ^ set(names)) or ["order"]
        raise UserError(f"{table.name} table has wrong columns", where, ", ".join(different), fix)
    for column in table.columns:
        column_data = data.column(column.name)
        if column_data.type != column.type:
            raise UserError(f"{table.name} table has a wrong type", where, f"column {column.name} is {column_data.type}, not {column.type}", fix)
        if not column.nullable and column_data.null_count:
            row = column_data.is_null().to_pylist().index(True) + 1
            raise UserError(f"{table.name} table has an empty cell", f"{where}:{row}", f"column {column.name}")
        if column.values and len(data):
            allowed = set(column.values) | ({None} if column.nullable else set())
            unknown_values = set(column_data.unique().to_pylist()) - allowed
            if unknown_values:
                value = sorted(map(str, unknown_values))[0]
                row = [str(v) for v in column_data.to_pylist()].index(value) + 1
                raise UserError(
                    f"{table.name} table has an unknown value", f"{where}:{row}", f"column {column.name}: {value!r} is none of {', '.join(column.values)}"
                )
    is_sorted = _is_sorted(table, data)
    if len(data) and not is_sorted and len(data.select(list(table.key)).group_by(list(table.key)).aggregate([])) < len(data):
        keys: set[tuple[Any, ...]] = set()
        for i, row_key in enumerate(zip(*(data.column(k).to_pylist() for k in table.key), strict=True)):
            if row_key in keys:
                raise UserError(f"{table.name} table has a key twice", f"{where}:{i + 1}", f"{', '.join(table.key)} = {row_key}")
            keys.add(row_key)
    return pa.Table.from_arrays(data.columns, schema=table.schema), is_sorted  # types agree, so nothing is copied
