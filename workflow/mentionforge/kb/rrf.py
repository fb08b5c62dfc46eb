"""A UMLS release in Rich Release Format becomes concepts, names and cross-references.

One pass over each file with DuckDB, out of core. The format (UMLS Reference Manual, chapter 3): UTF-8, one row per line,
fields closed by `|` (so a reader sees one empty column more), no quoting: `"` is a character like any other.

Rules, all counted in the funnel:
    concepts   CUIs with at least one of the wanted semantic types (MRSTY.TUI) and at least one remaining name.
    names      MRCONSO rows in the wanted languages (LAT), not suppressed (SUPPRESS), of the wanted sources (SAB, compared
               whole: MSHSPA is not MSH); once per concept, name, source and term type.
    preferred  By language as listed, MRRANK (higher is better), TS = P, STT = PF, ISPREF = Y, then name in code point order.
    definition MRDEF rows that are not suppressed and whose atom is in a wanted language; of several, that of the source
               ranked highest in MRRANK, then by SAB, ATUI and text.
    xrefs      Codes of unsuppressed English rows, whatever name filter applies, without a vocabulary prefix ("HP:"); all
               concepts of a code are kept.
    RETIRED    MRCUI rows that lead from a CUI outside the selection into it: the synonymous ones (REL = SY) if there are
               any, else all; `via` names the relation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from mentionforge import tables
from mentionforge.config import RrfKb
from mentionforge.errors import UserError
from mentionforge.kb.extract import Extracted
from mentionforge.progress import say

DISORDERS = ("T019", "T020", "T033", "T037", "T046", "T047", "T048", "T049", "T050", "T184", "T190", "T191")
"""Semantic types of the UMLS semantic group Disorders."""

FORMATS = {
    "MRCONSO": "CUI,LAT,TS,LUI,STT,SUI,ISPREF,AUI,SAUI,SCUI,SDUI,SAB,TTY,CODE,STR,SRL,SUPPRESS,CVF",
    "MRSTY": "CUI,TUI,STN,STY,ATUI,CVF",
    "MRDEF": "CUI,AUI,ATUI,SATUI,SAB,DEF,SUPPRESS,CVF",
    "MRCUI": "CUI1,VER,REL,RELA,MAPREASON,CUI2,MAPIN",
    "MRRANK": "RANK,SAB,TTY,SUPPRESS",
    "MRSAB": "VCUI,RCUI,VSAB,RSAB,SON,SF,SVER,VSTART,VEND,IMETA,RMETA,SLC,SCC,SRL,TFR,CFR,CXTY,TTYL,ATNL,LAT,CENC,CURVER,SABIN,SSN,SCIT",
    "MRFILES": "FIL,DES,FMT,CLS,RWS,BTS",
}
"""Columns of the files read, in their order, as MRFILES.FMT gives them."""

COLUMNS = {name: columns.split(",") for name, columns in FORMATS.items()}

REQUIRED = ("MRCONSO", "MRSTY")
MEMORY, THREADS = "2GB", 2
BAR, NEWLINE, RETURN = b"|\n\r"
INCOMPLETE = "the file is incomplete or was edited; unpack the release again"


def read(entry: RrfKb) -> Extracted:
    """Read a release.

    Raises:
        UserError: A file is missing; a row has a wrong number of fields or is not UTF-8; MRFILES declares other columns; no
            concept has a wanted semantic type.
    """
    files = _files(Path(entry.path))
    rows = {name: _check_rows(path, len(COLUMNS[name])) for name, path in files.items()}
    funnel: dict[str, Any] = {"release": _release(files), "rows": rows, "rows_declared": _declared(files, rows)}
    with tempfile.TemporaryDirectory(prefix="mentionforge-kb-") as scratch, duckdb.connect() as db:
        db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}; SET temp_directory = '{scratch}'; SET preserve_insertion_order = false")
        try:
            _load(db, entry, files)
            funnel["drops"] = _select(db, entry, files, rows)
        except duckdb.InvalidInputException:  # says no exact row, and shows the text of the row
            for name, path in files.items():
                _find_bad_row(path, len(COLUMNS[name]))
            raise
        concepts, names, xrefs = (
            db.sql(f"SELECT * FROM {table.name}").to_arrow_table().cast(pa.schema([pa.field(c.name, c.type) for c in table.columns]))
            for table in (tables.CONCEPTS, tables.NAMES, tables.XREFS)
        )
    return Extracted(concepts, names, xrefs, files, funnel)


# -------------------------------------------------------------------------------------------------------------- queries


def _load(db: duckdb.DuckDBPyConnection, entry: RrfKb, files: dict[str, Path]) -> None:
    """Make the tables `types`, `ranks` and `atoms` (all rows of concepts with a wanted type, with the reason why a row gives no name)."""
    types = entry.semantic_types or (DISORDERS if entry.semantic_group else ())
    db.execute("CREATE TEMP TABLE ranks (sab VARCHAR, tty VARCHAR, rank INTEGER)")
    if ranks := _ranks(files):
        db.executemany("INSERT INTO ranks VALUES (?, ?, ?)", ranks)
    wanted = "true" if not types else "list_contains($types, TUI)"
    db.execute(
        f"CREATE TEMP TABLE types AS SELECT DISTINCT CUI AS cui, TUI AS tui FROM {_rows(files['MRSTY'])} WHERE {wanted}",
        {"types": list(types)} if types else {},
    )
    if not _one(db, "SELECT count(*) FROM types"):
        raise UserError("empty selection", str(files["MRSTY"]), f"no concept has a semantic type of {', '.join(types)}", "correct semantic_types")
    settings = {
        "languages": list(entry.languages),
        "suppress": list(entry.suppress),
        "include": list(entry.include_sources),
        "exclude": list(entry.exclude_sources),
    }
    db.execute(
        f"""
        CREATE TEMP TABLE atoms AS
        SELECT CUI AS cui, LAT AS lat, TS AS ts, STT AS stt, ISPREF AS ispref, AUI AS aui, SAB AS sab, TTY AS tty, CODE AS code, STR AS str,
               coalesce(list_contains($suppress, SUPPRESS), false) AS suppressed,
               coalesce(list_position($languages, LAT), 0) AS language,
               CASE WHEN language = 0 THEN 'language'
                    WHEN suppressed THEN 'suppressed'
                    WHEN list_contains($exclude, SAB) OR (len($include) > 0 AND NOT list_contains($include, SAB)) THEN 'source'
                    WHEN STR IS NULL THEN 'empty name'
                    ELSE 'name' END AS outcome
        FROM {_rows(files["MRCONSO"])} AS c SEMI JOIN types ON c.CUI = types.cui
        """,
        settings,
    )


def _select(db: duckdb.DuckDBPyConnection, entry: RrfKb, files: dict[str, Path], rows: dict[str, int]) -> dict[str, dict[str, int]]:
    """Make the tables `concepts`, `names` and `xrefs`; returns the drops of each file by reason, which sum to its rows."""
    db.execute(
        """
        CREATE TEMP TABLE preferred AS
        SELECT cui, first(str ORDER BY language, rank DESC NULLS LAST, ts <> 'P', stt <> 'PF', ispref <> 'Y', str) AS name
        FROM atoms LEFT JOIN ranks USING (sab, tty) WHERE outcome = 'name' GROUP BY cui;
        CREATE TEMP TABLE names AS
        SELECT DISTINCT a.cui, a.str AS name, coalesce(sab, '') AS source, coalesce(tty, '') AS term_type, a.str = p.name AS preferred
        FROM atoms AS a JOIN preferred AS p USING (cui) WHERE outcome = 'name';
        """
    )
    outcomes = _counted(db, "SELECT outcome, count(*) FROM atoms GROUP BY outcome")
    written = _one(db, "SELECT count(*) FROM names")
    drops = {
        "MRSTY": {"concepts": _one(db, "SELECT count(DISTINCT cui) FROM types")},
        "MRCONSO": {
            "other semantic type": rows["MRCONSO"] - sum(outcomes.values()),
            **{k: v for k, v in outcomes.items() if k != "name"},
            "same name, source and term type": outcomes.get("name", 0) - written,
            "names": written,
        },
    }
    drops["MRSTY"]["concepts without a name"] = drops["MRSTY"]["concepts"] - _one(db, "SELECT count(*) FROM preferred")
    db.execute("CREATE TEMP TABLE definitions (cui VARCHAR, outcome VARCHAR, definition VARCHAR, sab VARCHAR, atui VARCHAR)")
    if "MRDEF" in files:
        # An atom's language is its definition's; MRDEF itself has none. An atom that MRCONSO lacks says nothing, so the definition stays.
        db.execute(
            f"""
            INSERT INTO definitions
            SELECT d.CUI, CASE WHEN list_contains($suppress, SUPPRESS) THEN 'suppressed'
                               WHEN atoms.lat IS NOT NULL AND language = 0 THEN 'language'
                               WHEN DEF IS NULL THEN 'empty definition'
                               ELSE 'definition' END, DEF, d.SAB, ATUI
            FROM {_rows(files["MRDEF"])} AS d SEMI JOIN preferred ON d.CUI = preferred.cui LEFT JOIN atoms ON d.AUI = atoms.aui AND d.CUI = atoms.cui
            """,
            {"suppress": list(entry.suppress)},
        )
    db.execute(
        """
        CREATE TEMP TABLE concepts AS
        WITH sources AS (SELECT sab, max(rank) AS rank FROM ranks GROUP BY sab),
        chosen AS (
            SELECT cui, first(definition ORDER BY rank DESC NULLS LAST, sab, atui, definition) AS definition
            FROM definitions LEFT JOIN sources USING (sab) WHERE outcome = 'definition' GROUP BY cui),
        grouped AS (SELECT cui, list(tui ORDER BY tui) AS semantic_types FROM types GROUP BY cui)
        SELECT cui, name AS preferred_name, definition, semantic_types FROM preferred JOIN grouped USING (cui) LEFT JOIN chosen USING (cui)
        """
    )
    if "MRDEF" in files:
        outcomes = _counted(db, "SELECT outcome, count(*) FROM definitions GROUP BY outcome")
        used = _one(db, "SELECT count(definition) FROM concepts")
        drops["MRDEF"] = {
            "other concept": rows["MRDEF"] - sum(outcomes.values()),
            **{k: v for k, v in outcomes.items() if k != "definition"},
            "another source preferred": outcomes.get("definition", 0) - used,
            "definitions": used,
        }
    db.execute(
        """
        CREATE TEMP TABLE xrefs AS
        SELECT DISTINCT sab AS source, regexp_replace(code, '^[A-Za-z_]+:', '') AS code, cui, 'MRCONSO' AS via
        FROM atoms SEMI JOIN preferred USING (cui)
        WHERE lat = 'ENG' AND NOT suppressed AND list_contains($sources, sab) AND code IS NOT NULL AND code <> 'NOCODE'
        """,
        {"sources": list(entry.xref_sources)},
    )
    if "MRCUI" in files:
        db.execute(
            f"""
            CREATE TEMP TABLE retired AS
            SELECT CUI1, CUI2, coalesce(REL, '') AS rel, CUI1 IN (FROM preferred SELECT cui) AS current, coalesce(CUI2 IN (FROM preferred SELECT cui), false) AS known
            FROM {_rows(files["MRCUI"])};
            INSERT INTO xrefs
            SELECT DISTINCT 'RETIRED', CUI1, CUI2, 'MRCUI ' || rel FROM retired WHERE known AND NOT current
            QUALIFY rel = 'SY' OR NOT bool_or(rel = 'SY') OVER (PARTITION BY CUI1);
            """
        )
        kept = _one(db, "SELECT count(*) FROM xrefs WHERE source = 'RETIRED'")
        current, unknown = (_one(db, f"SELECT count(*) FROM retired WHERE {where}") for where in ("known AND current", "NOT known"))
        drops["MRCUI"] = {
            "CUI still current": current,
            "leads to no selected concept": unknown,
            "xrefs": kept,
            "repeated, or a synonym preferred": rows["MRCUI"] - current - unknown - kept,
        }
    return drops


def _rows(path: Path) -> str:
    """SQL that reads an RRF file: no quoting, all columns text, empty fields null, and `_end` for what follows the last `|`."""
    columns = ", ".join(f"'{c}': 'VARCHAR'" for c in (*COLUMNS[path.stem], "_end"))
    name = str(path).replace("'", "''")
    return f"read_csv('{name}', delim='|', quote='', escape='', header=false, auto_detect=false, columns={{{columns}}})"


def _counted(db: duckdb.DuckDBPyConnection, sql: str) -> dict[str, int]:
    return dict(sorted(db.execute(sql).fetchall()))


def _one(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(db.execute(sql).fetchall()[0][0])


# ---------------------------------------------------------------------------------------------------------------- files


def _files(folder: Path) -> dict[str, Path]:
    """Paths of the release's files by name; columns are checked against MRFILES.RRF where there is one."""
    files = {name: path for name in COLUMNS if (path := folder / f"{name}.RRF").is_file()}
    for name in REQUIRED:
        if name not in files:
            raise UserError("missing file", str(folder), f"there is no {name}.RRF", "path must be the META folder of a UMLS release")
    for number, row in _small(files, "MRFILES"):
        name = row["FIL"].removesuffix(".RRF")
        if name in files and row["FMT"] != FORMATS[name]:
            raise UserError(
                "other columns", f"{files['MRFILES']}:{number}", f"{name}.RRF has {row['FMT']}, not {FORMATS[name]}", "use a release in Rich Release Format"
            )
    return files


def _check_rows(path: Path, fields: int) -> int:
    """Count the rows of a file, and make sure that each has `fields` fields, each closed by `|`.

    Counting bars and line ends is far cheaper than parsing; a row is looked for only if they do not add up. Errors that
    cancel out (a bar too few here, one too many there) are left to DuckDB, which stops at them.
    """
    rows = bars = closed = 0
    tail = np.zeros(2, np.uint8)  # the two bytes before a block, for line ends that two reads share
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 24):
            block = np.concatenate([tail, np.frombuffer(chunk, np.uint8)])
            ends = np.flatnonzero(block[2:] == NEWLINE) + 2
            before = np.where(block[ends - 1] == RETURN, block[ends - 2], block[ends - 1])
            rows += len(ends)
            closed += int(np.count_nonzero(before == BAR))
            bars += int(np.count_nonzero(block[2:] == BAR))
            tail = block[-2:]
    if tail[1] not in (0, NEWLINE):
        rows += 1
        closed += int(tail[1] == BAR)
    if bars != rows * fields or closed != rows:
        _find_bad_row(path, fields)
    return rows


def _find_bad_row(path: Path, fields: int) -> None:
    """Raise a UserError at the first row with a wrong number of fields or bytes that are not UTF-8; the text itself is not shown."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            where, row = f"{path}:{number}", line.removesuffix(b"\n").removesuffix(b"\r")
            found = row.count(b"|") + (not row.endswith(b"|") and bool(row))
            if found < fields:
                raise UserError("truncated row", where, f"{found} fields, not {fields}", INCOMPLETE)
            if found > fields:
                raise UserError("overlong row", where, f"{found} fields, not {fields}", INCOMPLETE)
            if not row.endswith(b"|"):
                raise UserError("truncated row", where, f"the {fields}th field is not closed by |", INCOMPLETE)
            if b"\r" in row:
                raise UserError("broken row", where, "a carriage return inside the row", INCOMPLETE)
            try:
                row.decode()
            except UnicodeDecodeError as error:
                raise UserError("not UTF-8", where, f"byte {error.start + 1} of the row", "convert the file to UTF-8, or unpack the release again") from error


def _small(files: dict[str, Path], name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a small file with their numbers (1-based), if the release has it."""
    if name not in files:
        return
    _find_bad_row(files[name], len(COLUMNS[name]))
    with open(files[name], encoding="utf-8", newline="\n") as handle:
        for number, line in enumerate(handle, start=1):
            yield number, dict(zip(COLUMNS[name], line.split("|"), strict=False))


def _ranks(files: dict[str, Path]) -> list[tuple[str, str, int]]:
    """Best rank of each source and term type (MRRANK: the highest number is the most preferred)."""
    best: dict[tuple[str, str], int] = {}
    for number, row in _small(files, "MRRANK"):
        if not row["RANK"].isdecimal():
            raise UserError("wrong rank", f"{files['MRRANK']}:{number}", "RANK is not a number", INCOMPLETE)
        key = (row["SAB"], row["TTY"])
        best[key] = max(int(row["RANK"]), best.get(key, 0))
    return [(sab, tty, rank) for (sab, tty), rank in sorted(best.items())]


def _release(files: dict[str, Path]) -> dict[str, Any]:
    """Name of the release (release.dat) and version of each current source (MRSAB.SVER), where the release says so."""
    found: dict[str, Any] = {"sources": {row["RSAB"]: row["SVER"] for _, row in _small(files, "MRSAB") if row["CURVER"] == "Y"}}
    note = files["MRCONSO"].with_name("release.dat")
    if note.is_file():
        pairs = dict(line.split("=", 1) for line in note.read_text(encoding="utf-8", errors="replace").splitlines() if "=" in line)
        found["name"] = pairs.get("umls.release.name", "").strip()
    return found


def _declared(files: dict[str, Path], rows: dict[str, int]) -> dict[str, int]:
    """Rows that MRFILES declares for each file; a difference is worth a line, since a cut between two rows shows nowhere else."""
    declared = {}
    for _, row in _small(files, "MRFILES"):
        name = row["FIL"].removesuffix(".RRF")
        if name in rows and row["RWS"].isdecimal():
            declared[name] = int(row["RWS"])
            if declared[name] != rows[name]:
                say(f"warning: {files[name]} has {rows[name]:,} rows, MRFILES.RRF declares {declared[name]:,}; the file may be incomplete, or a selection")
    return declared
