"""Read concepts, names, definitions, cross-references and retired CUIs from a UMLS release in Rich Release Format.

In: an `rrf` entry. Out: its `Extracted`. One pass over each file keeps the rows of selected concepts (`sieve`); DuckDB parses these rows
out of core (`rows`) and selects from them (`select`). Knows nothing of how files are packed (`release`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from mentionforge.errors import UserError
from mentionforge.kb.sources.contract import Extracted
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.kb.sources.rrf.files import COLUMNS, INCOMPLETE, check_columns, check_consistent, declared_rows, find_bad_row, is_cui, release_name
from mentionforge.kb.sources.rrf.passes import MEMORY, THREADS
from mentionforge.kb.sources.rrf.release import Release, open_release
from mentionforge.kb.sources.rrf.rows import REGULAR, load_rows
from mentionforge.kb.sources.rrf.select import select_tables
from mentionforge.progress import say
from mentionforge.provenance import digesting

VERSION = 2
"""Version of the part kb.rrf; raise it if earlier results would be wrong (mentionforge.versions)."""


def read(entry: RrfKb) -> Extracted:
    """Read a release.

    Rules, all counted in the funnel:
        concepts   CUIs with at least one selected semantic type (MRSTY.TUI) and at least one remaining name; with
                   `require_definition`, only those with a definition.
        names      MRCONSO rows in the selected languages (LAT), not suppressed (SUPPRESS), of the selected sources (SAB, compared
                   as a whole: MSHSPA is not MSH); once per concept, name, source and term type. At most `max_names_per_concept`
                   distinct names, the first in the order of preference.
        preferred  By language as listed, MRRANK (higher is better), TS = P, STT = PF, ISPREF = Y, then name in code point order.
        definitions  MRDEF rows that are not suppressed and whose atom is in a selected language, each text once per source; ranked by
                   `definition_sources` as listed, then by the source's highest rank in MRRANK, then by SAB, ATUI and text.
        xrefs      Codes of unsuppressed English rows, regardless of the filters of names, without vocabulary prefix ("HP:"); all
                   concepts of a code are kept.
        retired    MRCUI rows of CUIs that are not current and lead to a selected concept: the synonymous ones (REL = SY) if there
                   are any, else all; and deleted CUIs (REL = DEL), which lead nowhere.
        bad CUIs   Rows whose CUI is empty or not C and seven digits are dropped and counted, with the row number of the first.

    Raises:
        UserError: A file is missing; a row has a wrong number of fields or is not UTF-8; MRFILES declares other columns; the files are
            not of one release; no concept has a selected semantic type.
    """
    with tempfile.TemporaryDirectory(prefix="mentionforge-kb-") as folder, duckdb.connect() as db, digesting() as digest:
        scratch = Path(folder)
        release = open_release(Path(entry.path), tuple(COLUMNS), scratch)
        read_whole = {member.path for member in release.members.values()}  # digested while they are read
        digest(path for path in release.inputs.values() if path not in read_whole)  # in the background: no result depends on it
        check_columns(release)
        db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}; SET temp_directory = '{folder}/duckdb'; SET preserve_insertion_order = false")
        db.execute("SET enable_progress_bar = false; CREATE TYPE outcomes AS ENUM ('language', 'suppressed', 'source', 'empty name', 'name')")
        rows: dict[str, int] = {}
        try:
            loaded = load_rows(db, entry, release, scratch, rows)
            kb_tables, drops = select_tables(db, entry, release, loaded, scratch, rows)
        except duckdb.InvalidInputException as error:  # its message gives no exact row, and shows licensed text
            for member in release.members.values():
                find_bad_row(member, COLUMNS[member.name])
            raise UserError("unreadable row", release.where, "a row cannot be parsed", INCOMPLETE) from error
        declared = declared_rows(release, rows)
        check_consistent(entry, release, rows, declared, loaded.concepts_without_rows)
        funnel: dict[str, Any] = {"release": release_name(release), "rows": rows, "rows_declared": declared, "drops": drops}
        if bad := _bad_cuis(db, release, drops):
            funnel["bad_cuis"] = bad
    return Extracted(**kb_tables, inputs=release.inputs, funnel=funnel)


def _bad_cuis(db: duckdb.DuckDBPyConnection, release: Release, drops: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """Number of rows dropped for a bad CUI, and the first of them, by file; warns of each file."""
    bad_cuis = {}
    kept: set[str] = set()
    for name, counts in drops.items():
        if not (n := counts.get("bad CUI")):
            continue
        kept = kept or {"", *(cui for (cui,) in db.execute(f"SELECT cui FROM preferred WHERE NOT {REGULAR}").fetchall())}
        new = COLUMNS["MRCUI"].index("CUI2")
        known = {cui for (cui,) in db.execute("SELECT cui FROM preferred").fetchall()} if name == "MRCUI" else set()
        row = 0
        for number, line in enumerate(release.members[name].lines(), start=1):
            fields = line.decode().split("|")
            if name == "MRCUI":
                deleted = fields[2] == "DEL" and not fields[new]
                bad = not fields[0] or (not known & {fields[0], fields[new]} and not deleted and not all(map(is_cui, (fields[0], fields[new] or "C0000000"))))
            else:
                bad = not fields[0] or not (is_cui(fields[0]) or fields[0] in kept)
            if bad:
                row = number
                break
        bad_cuis[name] = {"rows": n, "first": row}
        say(f"warning: bad CUI in {release.members[name].where}:{row}: {n:,} rows are left out whose CUI is not C and seven digits, this one first")
    return bad_cuis
