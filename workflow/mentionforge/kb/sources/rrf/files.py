"""Columns, row counts and checks of the RRF files of a release.

In: the files of a release (`release`). Out: columns, ranks and declared row counts, or a UserError with file and row.
Knows nothing of settings but `inconsistent`, and nothing of the tables of a knowledge base.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from mentionforge.errors import UserError
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.kb.sources.rrf.release import Member, Release
from mentionforge.progress import say

FORMATS = {
    "MRCONSO": "CUI,LAT,TS,LUI,STT,SUI,ISPREF,AUI,SAUI,SCUI,SDUI,SAB,TTY,CODE,STR,SRL,SUPPRESS,CVF",
    "MRSTY": "CUI,TUI,STN,STY,ATUI,CVF",
    "MRDEF": "CUI,AUI,ATUI,SATUI,SAB,DEF,SUPPRESS,CVF",
    "MRCUI": "CUI1,VER,REL,RELA,MAPREASON,CUI2,MAPIN",
    "MRRANK": "RANK,SAB,TTY,SUPPRESS",
    "MRSAB": "VCUI,RCUI,VSAB,RSAB,SON,SF,SVER,VSTART,VEND,IMETA,RMETA,SLC,SCC,SRL,TFR,CFR,CXTY,TTYL,ATNL,LAT,CENC,CURVER,SABIN,SSN,SCIT",
    "MRFILES": "FIL,DES,FMT,CLS,RWS,BTS",
}
"""Columns of the files read, in order, as in MRFILES.FMT.

The format (UMLS Reference Manual, chapter 3): UTF-8; one row per line; every field ends in `|`, so a CSV reader sees one more, empty column;
no quoting: `"` is an ordinary character.
"""

RELATIONS = "CUI1,AUI1,STYPE1,REL,CUI2,AUI2,STYPE2,RELA,RUI,SRUI,SAB,SL,RG,DIR,SUPPRESS,CVF"
"""Columns of MRREL; only the hierarchy (`parents`) reads it."""

COLUMNS = {name: columns.split(",") for name, columns in FORMATS.items()}

REQUIRED = ("MRCONSO", "MRSTY")

MAX_ROW = 2_000_000
"""Longest row in bytes that DuckDB parses (its `max_line_size`)."""

INCOMPLETE = "the file is incomplete or was edited; unpack the release again"


def is_cui(cui: str) -> bool:
    """Whether a string is C and seven digits, as UMLS writes CUIs."""
    return re.fullmatch("C[0-9]{7}", cui) is not None


def check_columns(release: Release) -> None:
    """Check that the required files exist and that all files have the columns of `FORMATS`.

    Raises:
        UserError: A file is missing or has other columns.
    """
    for name in REQUIRED:
        if name not in release.members:
            raise UserError("missing file", release.where, f"there is no {name}.RRF", "path must be the META folder of a UMLS release, or its zip")
    for number, row in rows_of(release, "MRFILES"):
        name = row["FIL"].removesuffix(".RRF")
        if name in release.members and row["FMT"] != FORMATS[name]:
            where = f"{release.members['MRFILES'].where}:{number}"
            raise UserError("other columns", where, f"{name}.RRF has {row['FMT']}, not {FORMATS[name]}", "use a release in Rich Release Format")


def check_consistent(entry: RrfKb, release: Release, rows: dict[str, int], declared: dict[str, int], concepts_without_rows: list[str]) -> None:
    """Fail or warn where files contradict each other: row counts other than MRFILES declares, or concepts in MRSTY but not in MRCONSO.

    Raises:
        UserError: They contradict each other, and `inconsistent` is `error`.
    """
    fix = "unpack the release again; set `inconsistent: warn` for a selection made by hand"
    errors: list[UserError] = []
    for name in sorted(declared):
        if declared[name] != rows[name]:
            number = next(n for n, row in rows_of(release, "MRFILES") if row["FIL"] == f"{name}.RRF")
            where = f"{release.members['MRFILES'].where}:{number}"
            errors.append(UserError("mixed releases, or a file cut short", where, f"{name}.RRF has {rows[name]:,} rows, not {declared[name]:,}", fix))
    if concepts_without_rows:
        member = release.members["MRSTY"]
        number = next(n for n, line in enumerate(member.lines(), start=1) if line.startswith(f"{concepts_without_rows[0]}|".encode()))
        errors.append(
            UserError(
                "mixed releases" if all(map(is_cui, concepts_without_rows)) else "mixed releases, or a bad CUI",
                f"{member.where}:{number}",
                f"MRCONSO.RRF lacks {len(concepts_without_rows):,} concepts of MRSTY.RRF, {concepts_without_rows[0]} first",
                fix,
            )
        )
    for error in errors:
        if entry.inconsistent == "error":
            raise error
        say(f"warning: {error}")


def find_bad_row(member: Member, columns: Sequence[str]) -> None:
    """Raise a UserError for the first row with a wrong number of fields or invalid UTF-8. The message never shows the licensed text."""
    fields = len(columns)
    for number, line in enumerate(member.lines(), start=1):
        where, row = f"{member.where}:{number}", line.removesuffix(b"\r")
        count = row.count(b"|") + (not row.endswith(b"|") and bool(row))
        if count < fields:
            raise UserError("truncated row", where, f"{count} fields, not {fields}", INCOMPLETE)
        if count > fields:
            raise UserError("overlong row", where, f"{count} fields, not {fields}", INCOMPLETE)
        if len(row) > MAX_ROW:
            column = max(range(fields), key=[len(field) for field in row.split(b"|")].__getitem__)
            why = f"{len(row):,} bytes, {columns[column]} alone {len(row.split(b'|')[column]):,}; a row may have {MAX_ROW:,}"
            raise UserError("row too long", where, why, "shorten or remove the row")
        if not row.endswith(b"|"):
            raise UserError("truncated row", where, f"the {fields}th field is not closed by |", INCOMPLETE)
        if b"\r" in row:
            raise UserError("broken row", where, "a carriage return inside the row", INCOMPLETE)
        try:
            row.decode()
        except UnicodeDecodeError as error:
            raise UserError("not UTF-8", where, f"byte {error.start + 1} of the row", "convert the file to UTF-8, or unpack the release again") from error


def rows_of(release: Release, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a small file as (row number from 1, {column: value}); nothing if the release lacks the file."""
    if name not in release.members:
        return
    member = release.members[name]
    find_bad_row(member, COLUMNS[name])
    for number, line in enumerate(member.lines(), start=1):
        yield number, dict(zip(COLUMNS[name], line.decode().split("|"), strict=False))


def best_ranks(release: Release) -> list[tuple[str, str, int]]:
    """Best rank of each source and term type, as (SAB, TTY, RANK). In MRRANK the highest number is the most preferred."""
    best: dict[tuple[str, str], int] = {}
    for number, row in rows_of(release, "MRRANK"):
        if not re.fullmatch("[0-9]{1,9}", row["RANK"]):
            raise UserError("wrong rank", f"{release.members['MRRANK'].where}:{number}", "RANK is not a number of up to nine digits", INCOMPLETE)
        key = (row["SAB"], row["TTY"])
        best[key] = max(int(row["RANK"]), best.get(key, 0))
    return [(sab, tty, rank) for (sab, tty), rank in sorted(best.items())]


def release_name(release: Release) -> dict[str, Any]:
    """Name of the release (release.dat), if given, and version of each current source (MRSAB.SVER)."""
    description: dict[str, Any] = {"sources": {row["RSAB"]: row["SVER"] for _, row in rows_of(release, "MRSAB") if row["CURVER"] == "Y"}}
    pairs = dict(line.split("=", 1) for line in release.note.splitlines() if "=" in line)
    if name := pairs.get("umls.release.name", "").strip():
        description["name"] = name
    return description


def declared_columns(release: Release, name: str) -> list[str]:
    """Columns of MRREL as MRFILES declares them, else `RELATIONS`."""
    declared = {row["FIL"]: row["FMT"] for _, row in rows_of(release, "MRFILES")}
    return (declared.get(f"{name}.RRF") or RELATIONS).split(",")


def declared_rows(release: Release, rows: dict[str, int]) -> dict[str, int]:
    """Row counts that MRFILES declares for the files read."""
    declared = {}
    for number, row in rows_of(release, "MRFILES"):
        name, count = row["FIL"].removesuffix(".RRF"), row["RWS"]
        if name in rows and count:
            if not re.fullmatch("[0-9]{1,18}", count):
                raise UserError("wrong number of rows", f"{release.members['MRFILES'].where}:{number}", "RWS is not a number of up to 18 digits", INCOMPLETE)
            declared[name] = int(count)
    return declared
