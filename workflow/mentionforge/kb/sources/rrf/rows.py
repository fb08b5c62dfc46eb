"""Load the rows of a release into DuckDB: types, ranks and atoms of the concepts with a selected semantic type.

In: the files of a release, and the settings. Out: DuckDB tables `types`, `ranks` and `atoms`, and counts of the rows dropped before parsing.
Knows nothing of how names and definitions are selected (`select`); it only marks why an atom gives no name.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from mentionforge.errors import UserError
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.kb.sources.rrf.files import COLUMNS, best_ranks
from mentionforge.kb.sources.rrf.passes import literal, literals, read_csv_sql, run_pass, scalar, sieved_sql
from mentionforge.kb.sources.rrf.release import Release
from mentionforge.kb.sources.rrf.sieve import ByCui, ByTui, RotatingFile
from mentionforge.semantics import GROUPS

REGULAR = "regexp_full_match(cui, 'C[0-9]{7}')"
"""SQL condition: `cui` is C and seven digits, as UMLS writes CUIs."""


class LoadedRows(NamedTuple):
    """Results of the passes over MRSTY, MRDEF and MRCONSO, beside the tables.

    Attributes:
        definitions: SQL that reads the rows of MRDEF; none: there is no MRDEF.
        foreign_rows: Rows of MRCONSO dropped for their language before they were parsed.
        concepts_without_rows: CUIs in MRSTY but not in MRCONSO, sorted.
        bad_cui_rows: Rows dropped for a bad CUI, by file.
    """

    definitions: str | None
    foreign_rows: int
    concepts_without_rows: list[str]
    bad_cui_rows: dict[str, int]


def load_rows(db: duckdb.DuckDBPyConnection, entry: RrfKb, release: Release, scratch: Path, rows: dict[str, int]) -> LoadedRows:
    """Create the tables `types`, `ranks` and `atoms` of concepts with a selected type; `atoms.outcome` says why a row gives no name.

    Rows in other languages only serve to tell the language of a definition: those of concepts without definitions are counted, not loaded.
    """
    types = entry.semantic_types or tuple(GROUPS[entry.semantic_group] if entry.semantic_group else ())
    db.execute("CREATE TABLE ranks (sab VARCHAR, tty VARCHAR, rank INTEGER)")
    if ranks := best_ranks(release):
        db.executemany("INSERT INTO ranks VALUES (?, ?, ?)", ranks)
    with ThreadPoolExecutor(1) as pool:  # DuckDB parses rows that the pass has already kept
        numbers, pending = _types(db, release, scratch, types, rows, pool)
        definition_filter = ByCui(numbers)
        definitions = sieved_sql(release, "MRDEF", definition_filter, scratch, rows) if "MRDEF" in release.members else None
        atom_filter = ByCui(numbers, {"ENG", *entry.languages}, np.flatnonzero(definition_filter.seen)) if types else None
        insert = _atoms(db, entry)
        if atom_filter is None:
            insert(sieved_sql(release, "MRCONSO", None, scratch, rows))
        else:
            run_pass(
                release,
                "MRCONSO",
                atom_filter,
                RotatingFile(scratch / "MRCONSO", lambda part: pending.append(pool.submit(insert, read_csv_sql(part, COLUMNS["MRCONSO"]), part))),
                rows,
            )
        for done in pending:
            done.result()
    bad = {"MRSTY": scalar(db, "SELECT count(*) FROM types WHERE cui IS NULL"), "MRCONSO": 0, "MRDEF": 0}
    if bad["MRSTY"]:
        db.execute("DELETE FROM types WHERE cui IS NULL")
    if atom_filter is None or atom_filter.irregular:  # the sieve keeps selected CUIs and rows with an irregular CUI
        where = f"cui IS NULL OR (NOT {REGULAR} AND cui NOT IN (SELECT cui FROM types))"
        bad["MRCONSO"] = scalar(db, f"SELECT count(*) FROM atoms WHERE {where}")
        db.execute(f"DELETE FROM atoms WHERE {where}")
    if definitions and definition_filter.irregular:
        bad["MRDEF"] = scalar(db, f"SELECT count(*) FROM {definitions} WHERE CUI IS NULL OR (NOT {REGULAR} AND CUI NOT IN (SELECT cui FROM types))")
    irregular = "true" if atom_filter is None else f"NOT {REGULAR}"
    without_rows = [] if atom_filter is None else [f"C{number:07}" for number in numbers[~atom_filter.seen[numbers]]]
    if scalar(db, f"SELECT count(*) FROM types WHERE {irregular}"):
        without_rows += [cui for (cui,) in db.execute(f"SELECT cui FROM types ANTI JOIN atoms USING (cui) WHERE {irregular}").fetchall()]
    return LoadedRows(definitions, atom_filter.foreign if atom_filter else 0, sorted(without_rows), bad)


def _types(
    db: duckdb.DuckDBPyConnection, release: Release, scratch: Path, types: tuple[str, ...], rows: dict[str, int], pool: Executor
) -> tuple[np.ndarray, list[Future[None]]]:
    """Create the table `types` of the concepts with one of these types, or with any; return the numbers of their CUIs and the tasks pending in `pool`.

    Raises:
        UserError: No concept has one of these types.
    """
    by_tui = ByTui(types, len(COLUMNS["MRSTY"])) if types else None
    if by_tui:
        run_pass(release, "MRSTY", by_tui, None, rows)
        pairs = _distinct(by_tui.pairs())
        if by_tui.regular and len(pairs):
            return _distinct(pairs >> 10), [pool.submit(_insert_types, db.cursor(), pairs)]
    file = sieved_sql(release, "MRSTY", by_tui, scratch, rows)
    has_type = "true" if not types else "list_contains($types, TUI)"
    db.execute(
        f"CREATE TABLE types AS SELECT CUI AS cui, list_sort(list_distinct(list(TUI))) AS semantic_types FROM {file} WHERE {has_type} GROUP BY CUI",
        {"types": list(types)} if types else {},
    )
    if not scalar(db, "SELECT count(*) FROM types"):
        raise UserError("empty selection", release.members["MRSTY"].where, f"no concept has a semantic type of {', '.join(types)}", "correct semantic_types")
    return np.asarray(db.execute(f"SELECT substr(cui, 2)::INTEGER AS number FROM types WHERE {REGULAR}").fetchnumpy()["number"]), []


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """The distinct numbers, sorted. They are nearly sorted already, so sorting is many times faster than hashing."""
    numbers = np.sort(numbers)
    return numbers[np.append(True, numbers[1:] != numbers[:-1])] if len(numbers) else numbers


def _insert_types(db: duckdb.DuckDBPyConnection, pairs: np.ndarray) -> None:
    """Create the table `types`, the types of a concept sorted, from sorted, distinct pairs of CUI and TUI numbers (`ByTui.pairs`)."""
    owners = pairs >> 10
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    lists = pa.ListArray.from_arrays(pa.array(np.append(first, len(pairs)), pa.int32()), _codes(pairs & 1023, "T", 3))
    db.register("by_number", pa.table({"cui": _codes(owners[first], "C", 7), "semantic_types": lists}))
    db.execute("CREATE TABLE types AS FROM by_number")
    db.unregister("by_number")


def _codes(numbers: np.ndarray, letter: str, digits: int) -> pa.StringArray:
    """Numbers as codes: a letter and zero-padded digits."""
    # [numbers, 1 + digits] characters
    text = np.empty((len(numbers), 1 + digits), np.uint8)
    text[:, 0] = ord(letter)
    for place in range(digits):
        text[:, digits - place] = numbers // 10**place % 10 + ord("0")
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * (1 + digits)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def _atoms(db: duckdb.DuckDBPyConnection, entry: RrfKb) -> Callable[..., None]:
    """Create the table `atoms`; return a function that inserts the rows of MRCONSO that an SQL source reads, and then deletes their file, if given."""
    # Literals instead of parameters: DuckDB compares with literals several times faster, and there are millions of atoms.
    language = " ".join(f"WHEN {literal(code)} THEN {place}" for place, code in enumerate(entry.languages, start=1))
    sources = [f"c.SAB IN ({literals(entry.exclude_sources)})"] if entry.exclude_sources else []
    sources += [f"c.SAB NOT IN ({literals(entry.include_sources)})"] if entry.include_sources else []
    columns = f"""
        c.CUI AS cui, LAT = 'ENG' AS english, TS IS DISTINCT FROM 'P' AS ts, STT IS DISTINCT FROM 'PF' AS stt, ISPREF IS DISTINCT FROM 'Y' AS ispref,
        AUI AS aui, c.SAB AS sab, c.TTY AS tty, CODE AS code, STR AS str, coalesce(-rank, 1) AS rank,
        coalesce(SUPPRESS IN ({literals(entry.suppress)}), false) AS suppressed,
        (CASE LAT {language} ELSE 0 END)::TINYINT AS language,
        (CASE WHEN language = 0 THEN 'language'
              WHEN suppressed THEN 'suppressed'
              WHEN {" OR ".join(sources) or "false"} THEN 'source'
              WHEN STR IS NULL THEN 'empty name'
              ELSE 'name' END)::outcomes AS outcome
        """
    db.execute(
        """
        CREATE TABLE atoms (cui VARCHAR, english BOOLEAN, ts BOOLEAN, stt BOOLEAN, ispref BOOLEAN, aui VARCHAR, sab VARCHAR, tty VARCHAR, code VARCHAR,
                            str VARCHAR, rank INTEGER, suppressed BOOLEAN, language TINYINT, outcome outcomes)
        """
    )
    cursor = db.cursor()

    def insert(rows: str, file: Path | None = None) -> None:
        cursor.execute(f"INSERT INTO atoms SELECT {columns} FROM {rows} AS c LEFT JOIN ranks ON c.SAB = ranks.sab AND c.TTY = ranks.tty")
        if file:
            file.unlink()

    return insert
