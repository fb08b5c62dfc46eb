"""The hierarchy of a UMLS release, from MRREL.

In: an `rrf` entry, and the concepts of its knowledge base. Out: their direct parents, a `ParentTable`.
Knows nothing of the other tables, nor of how a hierarchy is written and checked.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.sources.contract import ParentTable
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.kb.sources.rrf.files import INCOMPLETE, declared_columns, is_cui
from mentionforge.kb.sources.rrf.passes import MEMORY, THREADS, literals, sieved_sql
from mentionforge.kb.sources.rrf.release import open_release
from mentionforge.kb.sources.rrf.sieve import ByCui

REQUIRED_COLUMNS = ("CUI1", "REL", "CUI2", "SAB")
"""Columns that MRREL must have; RELA and SUPPRESS are optional."""


def read_parents(entry: RrfKb, cuis: pa.ChunkedArray) -> ParentTable:
    """Parents from MRREL of a release.

    REL says what the second concept is to the first: PAR is its parent, CHD its child. With any other REL, a RELA of `inverse_isa` or `isa` says the
    same. Suppressed rows and rows within one concept are dropped. UMLS lists each relation in both directions, so only rows whose first concept is in
    the knowledge base are read; a parent may lie outside it. A release without MRREL, or with other columns, has no hierarchy.

    Args:
        entry: The entry.
        cuis: The concepts of the knowledge base.

    Raises:
        UserError: The release is unreadable, or a row of MRREL has another number of fields than the first, or is not UTF-8.
    """
    nothing = tables.build(tables.PARENTS, [])
    with tempfile.TemporaryDirectory(prefix="mentionforge-kb-") as folder, duckdb.connect() as db:
        scratch = Path(folder)
        release = open_release(Path(entry.path), ("MRCONSO", "MRFILES", "MRREL"), scratch)
        if "MRREL" not in release.members:
            return ParentTable(nothing, {}, {}, "MRREL.RRF is not in the release")
        member = release.members["MRREL"]
        columns = declared_columns(release, "MRREL")
        first = next(member.lines(), b"")
        if missing := [column for column in REQUIRED_COLUMNS if column not in columns]:
            return ParentTable(nothing, {}, {}, f"MRREL.RRF has no column {', '.join(missing)}")
        if first and len(first.split(b"|")) - 1 != len(columns):
            return ParentTable(nothing, {}, {}, f"MRREL.RRF has {len(first.split(b'|')) - 1} columns, not {len(columns)}")
        numbers = np.array([int(cui[1:]) for cui in cuis.to_pylist() if is_cui(cui)], np.int64)
        row_counts: dict[str, int] = {}
        db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}; SET temp_directory = '{folder}/duckdb'; SET preserve_insertion_order = false")
        db.execute("SET enable_progress_bar = false")
        file = sieved_sql(release, "MRREL", ByCui(numbers) if columns[0] == "CUI1" else None, scratch, row_counts, columns)
        db.register("concepts", pa.table({"cui": cuis}))
        optional = {name: name if name in columns else "NULL::VARCHAR" for name in ("RELA", "SUPPRESS")}
        try:
            db.execute(
                f"""
                CREATE TABLE related AS
                SELECT CASE WHEN up THEN CUI1 ELSE CUI2 END AS cui, CASE WHEN up THEN CUI2 ELSE CUI1 END AS parent, coalesce(SAB, '') AS source, suppressed
                FROM (SELECT CUI1, CUI2, SAB, coalesce({optional["SUPPRESS"]} IN ({literals(entry.suppress)}), false) AS suppressed,
                             coalesce(REL = 'PAR' OR (REL <> 'CHD' AND {optional["RELA"]} = 'inverse_isa'), false) AS up,
                             coalesce(REL = 'CHD' OR (REL <> 'PAR' AND {optional["RELA"]} = 'isa'), false) AS down
                      FROM {file})
                WHERE (up OR down) AND CUI1 IS NOT NULL AND CUI2 IS NOT NULL
                """
            )
        except duckdb.InvalidInputException as error:
            raise UserError("unreadable row", member.where, "a row cannot be parsed", INCOMPLETE) from error
        rows = (
            db.sql(
                """
                SELECT DISTINCT cui, parent, source FROM related SEMI JOIN concepts USING (cui) WHERE NOT suppressed AND cui <> parent
                ORDER BY cui, parent, source
                """
            )
            .to_arrow_table()
            .cast(tables.PARENTS.schema)
        )
        [(hierarchical, suppressed, same)] = db.execute(
            "SELECT count(*), count(*) FILTER (suppressed), count(*) FILTER (NOT suppressed AND cui = parent) FROM related"
        ).fetchall()
        funnel = {"rows": row_counts["MRREL"], "hierarchical, of a concept": hierarchical, "suppressed": suppressed, "within one concept": same}
        return ParentTable(rows, {role: path for role, path in release.inputs.items() if role in ("MRREL", "zip")}, funnel)
