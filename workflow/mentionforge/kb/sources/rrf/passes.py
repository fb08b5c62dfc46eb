"""Run a pass over a file of a release, and build the SQL that reads the rows kept.

In: a file of a release, and a filter of its rows. Out: SQL with which DuckDB reads those rows as text columns; the number of all rows.
Knows nothing of what the columns mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from mentionforge.errors import UserError
from mentionforge.kb.sources.rrf.files import COLUMNS, INCOMPLETE, find_bad_row
from mentionforge.kb.sources.rrf.release import Release
from mentionforge.kb.sources.rrf.sieve import RotatingFile, RowFilter, sieve

MEMORY, THREADS = "700MB", 2


def sieved_sql(release: Release, name: str, row_filter: RowFilter | None, scratch: Path, rows: dict[str, int], columns: Sequence[str] = ()) -> str:
    """Filter a file of the release in one pass, and return SQL that reads the rows kept. The number of all rows is stored in `rows[name]`.

    Without a filter, a plain file is read in place, not copied to `scratch`. `columns`: those of the file, if other than in FORMATS.
    """
    member = release.members[name]
    target = None if row_filter is None and member.path else scratch / f"{name}.RRF"
    run_pass(release, name, row_filter, target, rows, columns)
    return read_csv_sql(target or member.path, columns or COLUMNS[name])  # type: ignore[arg-type]


def run_pass(
    release: Release, name: str, row_filter: RowFilter | None, target: Path | RotatingFile | None, rows: dict[str, int], columns: Sequence[str] = ()
) -> None:
    """Check a file of the release in one pass, and write the rows kept to `target`. The number of all rows is stored in `rows[name]`.

    Raises:
        UserError: A row has a wrong number of fields or is not UTF-8.
    """
    member = release.members[name]
    columns = columns or COLUMNS[name]
    result = sieve(member, len(columns), row_filter, target)
    if not result.sound:
        find_bad_row(member, columns)
        raise UserError("broken file", member.where, "its bars and line ends do not add up", INCOMPLETE)
    rows[name] = result.rows


def read_csv_sql(path: Path, names: Sequence[str]) -> str:
    """SQL that reads an RRF file: no quoting, text columns, empty fields as null; `_end` is the empty column after the last `|`."""
    columns = ", ".join(f"'{c}': 'VARCHAR'" for c in (*names, "_end"))
    name = str(path).replace("'", "''")
    return f"read_csv('{name}', delim='|', quote='', escape='', header=false, auto_detect=false, columns={{{columns}}})"


def literal(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """Strings as SQL literals for IN; an empty list becomes NULL, which equals nothing."""
    return ", ".join(map(literal, texts)) or "NULL"


def count_by(db: duckdb.DuckDBPyConnection, sql: str) -> dict[str, int]:
    """Run a query of two columns, key and count; return the counts by key, sorted."""
    return dict(sorted(db.execute(sql).fetchall()))


def scalar(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Run a query whose result is one number."""
    return int(db.execute(sql).fetchall()[0][0])
