"""A pass over a file of a release, and the SQL by which DuckDB reads the rows that it keeps.

In: a file of a release, and which of its rows are wanted. Out: SQL that reads those rows as text columns; the number of all rows.
Knows nothing of what the columns mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from mentionforge.errors import UserError
from mentionforge.kb.rrf.files import COLUMNS, INCOMPLETE, find_bad_row
from mentionforge.kb.rrf.release import Release
from mentionforge.kb.rrf.sieve import Parts, Wanted, sieve

MEMORY, THREADS = "700MB", 2


def sieved(release: Release, name: str, wanted: Wanted | None, scratch: Path, rows: dict[str, int], columns: Sequence[str] = ()) -> str:
    """SQL that reads the wanted rows of a file of the release, after one pass over all of them; their number goes to `rows`.

    A plain file of which all rows are wanted is read where it lies. `columns`: those of the file, if not as in FORMATS.
    """
    member = release.members[name]
    target = None if wanted is None and member.path else scratch / f"{name}.RRF"
    run_pass(release, name, wanted, target, rows, columns)
    return read_csv_sql(target or member.path, columns or COLUMNS[name])  # type: ignore[arg-type]


def run_pass(release: Release, name: str, wanted: Wanted | None, target: Path | Parts | None, rows: dict[str, int], columns: Sequence[str] = ()) -> None:
    """One pass over a file of the release, which checks it; the number of its rows goes to `rows`.

    Raises:
        UserError: A row has a wrong number of fields or is not UTF-8.
    """
    member = release.members[name]
    columns = columns or COLUMNS[name]
    found = sieve(member, len(columns), wanted, target)
    if not found.sound:
        find_bad_row(member, columns)
        raise UserError("broken file", member.where, "its bars and line ends do not add up", INCOMPLETE)
    rows[name] = found.rows


def read_csv_sql(path: Path, names: Sequence[str]) -> str:
    """SQL that reads an RRF file: no quoting, all columns text, empty fields null, and `_end` for what follows the last `|`."""
    columns = ", ".join(f"'{c}': 'VARCHAR'" for c in (*names, "_end"))
    name = str(path).replace("'", "''")
    return f"read_csv('{name}', delim='|', quote='', escape='', header=false, auto_detect=false, columns={{{columns}}})"


def literal(text: str) -> str:
    """SQL literal of a text."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """SQL literals for IN; of an empty list, one that nothing equals."""
    return ", ".join(map(literal, texts)) or "NULL"


def count_by(db: duckdb.DuckDBPyConnection, sql: str) -> dict[str, int]:
    """Rows of a query of two columns, a text and a count, by the text, sorted."""
    return dict(sorted(db.execute(sql).fetchall()))


def scalar(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    """The one number that a query gives."""
    return int(db.execute(sql).fetchall()[0][0])
