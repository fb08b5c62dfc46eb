"""A UMLS release in Rich Release Format becomes concepts, names, definitions, cross-references and retired CUIs.

One pass over each file keeps the rows of the concepts wanted (`sieve`); DuckDB parses those, out of core. The format (UMLS Reference
Manual, chapter 3): UTF-8, one row per line, fields closed by `|` (so a reader sees one empty column more), no quoting: `"` is a
character like any other.

Rules, all counted in the funnel:
    concepts   CUIs with at least one of the wanted semantic types (MRSTY.TUI) and at least one remaining name; with
               `require_definition`, only those with a definition.
    names      MRCONSO rows in the wanted languages (LAT), not suppressed (SUPPRESS), of the wanted sources (SAB, compared
               whole: MSHSPA is not MSH); once per concept, name, source and term type. Of more distinct names than
               `max_names_per_concept` those that come first in the order of preference.
    preferred  By language as listed, MRRANK (higher is better), TS = P, STT = PF, ISPREF = Y, then name in code point order.
    definitions  MRDEF rows that are not suppressed and whose atom is in a wanted language, each text of a source once; ranked by
               `definition_sources` as listed, then by the source's highest rank in MRRANK, then by SAB, ATUI and text.
    xrefs      Codes of unsuppressed English rows, whatever name filter applies, without a vocabulary prefix ("HP:"); all
               concepts of a code are kept.
    retired    MRCUI rows of CUIs that are not current: those that lead to a selected concept, the synonymous ones (REL = SY) if there
               are any, else all; and deleted CUIs (REL = DEL), which lead nowhere.
    bad CUIs   Rows left out whose CUI is empty or not C and seven digits are counted under that name, with the row of the first.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.extracted import Extracted
from mentionforge.kb.release import Member, Release, open_release
from mentionforge.kb.semantics import GROUPS
from mentionforge.kb.settings import RrfKb
from mentionforge.kb.sieve import ByCui, ByTui, Parts, Wanted, sieve
from mentionforge.progress import say
from mentionforge.provenance import digesting

VERSION = 2
"""Of the part kb.rrf: raise it where earlier results would be wrong (mentionforge.versions)."""

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

RELATIONS = "CUI1,AUI1,STYPE1,REL,CUI2,AUI2,STYPE2,RELA,RUI,SRUI,SAB,SL,RG,DIR,SUPPRESS,CVF"
"""Columns of MRREL, which the hierarchy alone reads (`parents`)."""

COLUMNS = {name: columns.split(",") for name, columns in FORMATS.items()}

REQUIRED = ("MRCONSO", "MRSTY")
PREFERENCE = "language, rank, ts, stt, ispref, str"
"""Order of a concept's atoms, the best first: rank is MRRANK's with its sign turned (1: none), booleans are true for what is not preferred."""

REGULAR = "regexp_full_match(cui, 'C[0-9]{7}')"
"""SQL: a CUI as UMLS writes them."""

MAX_ROW = 2_000_000
"""Most bytes of a row that DuckDB parses (its `max_line_size`)."""

MEMORY, THREADS = "700MB", 2
INCOMPLETE = "the file is incomplete or was edited; unpack the release again"


def read(entry: RrfKb) -> Extracted:
    """Read a release.

    Raises:
        UserError: A file is missing; a row has a wrong number of fields or is not UTF-8; MRFILES declares other columns; the files are
            not of one release; no concept has a wanted semantic type.
    """
    with tempfile.TemporaryDirectory(prefix="mentionforge-kb-") as folder, duckdb.connect() as db, digesting() as digest:
        scratch = Path(folder)
        release = open_release(Path(entry.path), tuple(COLUMNS), scratch)
        read_whole = {member.path for member in release.members.values()}  # those are digested as they are read
        digest(path for path in release.inputs.values() if path not in read_whole)  # beside the rest, as no result waits for it
        _check_release(release)
        db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}; SET temp_directory = '{folder}/duckdb'; SET preserve_insertion_order = false")
        db.execute("SET enable_progress_bar = false; CREATE TYPE outcomes AS ENUM ('language', 'suppressed', 'source', 'empty name', 'name')")
        rows: dict[str, int] = {}
        try:
            loaded = _load(db, entry, release, scratch, rows)
            found, drops = _select(db, entry, release, loaded, scratch, rows)
        except duckdb.InvalidInputException as error:  # says no exact row, and shows the text of the row
            for member in release.members.values():
                _find_bad_row(member, COLUMNS[member.name])
            raise UserError("unreadable row", release.where, "a row cannot be parsed", INCOMPLETE) from error
        declared = _declared(release, rows)
        _check_consistent(entry, release, rows, declared, loaded.lost)
        funnel: dict[str, Any] = {"release": _release(release), "rows": rows, "rows_declared": declared, "drops": drops}
        if bad := _bad_cuis(db, release, drops):
            funnel["bad_cuis"] = bad
    return Extracted(**found, inputs=release.inputs, funnel=funnel)


# -------------------------------------------------------------------------------------------------------------- queries


class _Loaded(NamedTuple):
    """What the passes over MRSTY, MRDEF and MRCONSO found beside the tables.

    Attributes:
        definitions: SQL that reads the rows of MRDEF; none: there is no MRDEF.
        foreign: Rows of MRCONSO left out for their language before they were parsed.
        lost: Concepts with a type but no row in MRCONSO, sorted.
        bad: Rows by file that were left out because of their CUI.
    """

    definitions: str | None
    foreign: int
    lost: list[str]
    bad: dict[str, int]


def _load(db: duckdb.DuckDBPyConnection, entry: RrfKb, release: Release, scratch: Path, rows: dict[str, int]) -> _Loaded:
    """Make the tables `types`, `ranks` and `atoms`: the rows of concepts with a wanted type, with the reason why a row gives no name.

    Of rows in other languages, which give nothing but the language of a definition, those of concepts without any are only counted.
    """
    types = entry.semantic_types or tuple(GROUPS[entry.semantic_group] if entry.semantic_group else ())
    db.execute("CREATE TABLE ranks (sab VARCHAR, tty VARCHAR, rank INTEGER)")
    if ranks := _ranks(release):
        db.executemany("INSERT INTO ranks VALUES (?, ?, ?)", ranks)
    with ThreadPoolExecutor(1) as beside:  # where DuckDB parses what a pass has kept so far
        numbers, waiting = _types(db, release, scratch, types, rows, beside)
        defined = ByCui(numbers)
        definitions = sieved(release, "MRDEF", defined, scratch, rows) if "MRDEF" in release.members else None
        chosen = ByCui(numbers, {"ENG", *entry.languages}, np.flatnonzero(defined.seen)) if types else None
        insert = _atoms(db, entry)
        if chosen is None:
            insert(sieved(release, "MRCONSO", None, scratch, rows))
        else:
            _pass(
                release,
                "MRCONSO",
                chosen,
                Parts(scratch / "MRCONSO", lambda part: waiting.append(beside.submit(insert, _rows(part, COLUMNS["MRCONSO"]), part))),
                rows,
            )
        for done in waiting:
            done.result()
    bad = {"MRSTY": _one(db, "SELECT count(*) FROM types WHERE cui IS NULL"), "MRCONSO": 0, "MRDEF": 0}
    if bad["MRSTY"]:
        db.execute("DELETE FROM types WHERE cui IS NULL")
    if chosen is None or chosen.odd:  # the sieve let only wanted CUIs through, and what is no CUI as UMLS writes them
        where = f"cui IS NULL OR (NOT {REGULAR} AND cui NOT IN (SELECT cui FROM types))"
        bad["MRCONSO"] = _one(db, f"SELECT count(*) FROM atoms WHERE {where}")
        db.execute(f"DELETE FROM atoms WHERE {where}")
    if definitions and defined.odd:
        bad["MRDEF"] = _one(db, f"SELECT count(*) FROM {definitions} WHERE CUI IS NULL OR (NOT {REGULAR} AND CUI NOT IN (SELECT cui FROM types))")
    irregular = "true" if chosen is None else f"NOT {REGULAR}"
    lost = [] if chosen is None else [f"C{number:07}" for number in numbers[~chosen.seen[numbers]]]
    if _one(db, f"SELECT count(*) FROM types WHERE {irregular}"):
        lost += [cui for (cui,) in db.execute(f"SELECT cui FROM types ANTI JOIN atoms USING (cui) WHERE {irregular}").fetchall()]
    return _Loaded(definitions, chosen.foreign if chosen else 0, sorted(lost), bad)


def _types(
    db: duckdb.DuckDBPyConnection, release: Release, scratch: Path, types: tuple[str, ...], rows: dict[str, int], beside: Executor
) -> tuple[np.ndarray, list[Future[None]]]:
    """Make the table `types` of the concepts with one of these types, or with any; returns their CUIs' numbers, and what `beside` still does for it.

    Raises:
        UserError: There is no such concept.
    """
    by_tui = ByTui(types, len(COLUMNS["MRSTY"])) if types else None
    if by_tui:
        _pass(release, "MRSTY", by_tui, None, rows)
        pairs = _distinct(by_tui.pairs())
        if by_tui.regular and len(pairs):
            return _distinct(pairs >> 10), [beside.submit(_insert_types, db.cursor(), pairs)]
    file = sieved(release, "MRSTY", by_tui, scratch, rows)
    wanted = "true" if not types else "list_contains($types, TUI)"
    db.execute(
        f"CREATE TABLE types AS SELECT CUI AS cui, list_sort(list_distinct(list(TUI))) AS semantic_types FROM {file} WHERE {wanted} GROUP BY CUI",
        {"types": list(types)} if types else {},
    )
    if not _one(db, "SELECT count(*) FROM types"):
        raise UserError("empty selection", release.members["MRSTY"].where, f"no concept has a semantic type of {', '.join(types)}", "correct semantic_types")
    return np.asarray(db.execute(f"SELECT substr(cui, 2)::INTEGER AS number FROM types WHERE {REGULAR}").fetchnumpy()["number"]), []


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """The distinct numbers, sorted; they lie nearly in order, so this is many times faster than to find them by hashing."""
    numbers = np.sort(numbers)
    return numbers[np.append(True, numbers[1:] != numbers[:-1])] if len(numbers) else numbers


def _insert_types(db: duckdb.DuckDBPyConnection, pairs: np.ndarray) -> None:
    """Make the table `types`, with a concept's types sorted, from the sorted, distinct numbers of both (`ByTui.pairs`)."""
    owners = pairs >> 10
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    lists = pa.ListArray.from_arrays(pa.array(np.append(first, len(pairs)), pa.int32()), _codes(pairs & 1023, "T", 3))
    db.register("by_number", pa.table({"cui": _codes(owners[first], "C", 7), "semantic_types": lists}))
    db.execute("CREATE TABLE types AS FROM by_number")
    db.unregister("by_number")


def _codes(numbers: np.ndarray, letter: str, digits: int) -> pa.StringArray:
    """Numbers as a letter and so many digits."""
    # [numbers, 1 + digits] characters
    text = np.empty((len(numbers), 1 + digits), np.uint8)
    text[:, 0] = ord(letter)
    for place in range(digits):
        text[:, digits - place] = numbers // 10**place % 10 + ord("0")
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * (1 + digits)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def _atoms(db: duckdb.DuckDBPyConnection, entry: RrfKb) -> Callable[..., None]:
    """Make the table `atoms`; returns what adds rows of MRCONSO to it, given SQL that reads them, and removes the file that they are in, if it is given one."""
    # Literals, not parameters: DuckDB compares with them several times faster, and there are millions of atoms.
    language = " ".join(f"WHEN {_literal(code)} THEN {place}" for place, code in enumerate(entry.languages, start=1))
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


def _select(
    db: duckdb.DuckDBPyConnection, entry: RrfKb, release: Release, loaded: _Loaded, scratch: Path, rows: dict[str, int]
) -> tuple[dict[str, pa.Table], dict[str, dict[str, int]]]:
    """The five tables of a knowledge base, sorted by key, and the drops of each file by reason, which sum to its rows."""
    db.execute(
        """
        CREATE TABLE preferred AS
        SELECT cui, min(struct_pack(language, rank, ts, stt, ispref, name := str)).name AS name FROM atoms WHERE outcome = 'name' GROUP BY cui
        """
    )
    drops = {"MRSTY": {"concepts": _one(db, "SELECT count(cui) FROM types")}}
    drops["MRSTY"]["concepts without a name"] = drops["MRSTY"]["concepts"] - _one(db, "SELECT count(*) FROM preferred")
    if bad := loaded.bad["MRSTY"] + sum(not is_cui(cui) for cui in loaded.lost):
        drops["MRSTY"]["bad CUI"] = bad
    with ThreadPoolExecutor(3) as beside:  # much of a query is done by one thread of DuckDB's, so that several at a time fill both cores
        defining = beside.submit(_definitions, db.cursor(), entry, loaded, rows)
        if entry.require_definition:
            defining.result()
            drops["MRSTY"]["concepts without a definition"] = _one(db, "SELECT count(*) FROM preferred ANTI JOIN definitions USING (cui)")
            db.execute("DELETE FROM preferred WHERE cui NOT IN (SELECT cui FROM definitions)")
        naming = beside.submit(_names, db.cursor(), entry, loaded, rows)
        retiring = beside.submit(_retired, db.cursor(), release, scratch, rows)
        xrefs = _sorted(
            db,
            tables.XREFS,
            f"""
            SELECT sab::ENUM ({literals(sorted({"", *entry.xref_sources}))}) AS source,
                   CASE WHEN contains(code, ':') THEN regexp_replace(code, '^[A-Za-z_]+:', '') ELSE code END AS code, cui, 'MRCONSO' AS via
            FROM atoms SEMI JOIN preferred USING (cui)
            WHERE english AND NOT suppressed AND sab IN ({literals(entry.xref_sources)}) AND code IS NOT NULL AND code <> 'NOCODE'
            """,
        )
        drops["MRDEF"] = defining.result()
        concepts = _sorted(
            db,
            tables.CONCEPTS,
            """
            SELECT cui, name AS preferred_name, definition, semantic_types
            FROM preferred JOIN types USING (cui) LEFT JOIN (FROM definitions WHERE rank = 1) USING (cui)
            """,
        )
        definitions = _sorted(db, tables.DEFINITIONS, "FROM definitions")
        drops["MRCUI"] = retiring.result()
        retired = _sorted(db, tables.RETIRED, "FROM retired")
        names, drops["MRCONSO"] = naming.result()
    found = {"concepts": concepts, "names": names, "definitions": definitions, "xrefs": xrefs, "retired": retired}
    return found, {file: of for file, of in drops.items() if of}


def _sorted(db: duckdb.DuckDBPyConnection, table: tables.Table, query: str) -> pa.Table:
    """The distinct rows of a query in the columns and the order of a table.

    Repeated rows stand together once they are sorted; to find them there is far cheaper than to group by texts first. A column of few
    texts may be an ENUM in code point order: that is sorted faster.
    """
    schema = pa.schema([pa.field(c.name, c.type) for c in table.columns])
    found = db.sql(f"SELECT * FROM ({query}) ORDER BY {', '.join(table.key)}").to_arrow_table().select(schema.names).cast(schema)
    same = functools.reduce(pc.and_, (pc.equal(found[name][1:], found[name][:-1]) for name in table.key))
    if not pc.any(same).as_py():
        return found
    return found.filter(pa.chunked_array([pa.array([True]), *pc.invert(same).chunks]))


def _names(db: duckdb.DuckDBPyConnection, entry: RrfKb, loaded: _Loaded, rows: dict[str, int]) -> tuple[pa.Table, dict[str, int]]:
    """The table `names`, and the drops of MRCONSO."""
    limited = ""
    if entry.max_names_per_concept:
        db.execute(
            f"""
            CREATE TABLE kept AS
            WITH placed AS (
                SELECT cui, str, row_number() OVER (PARTITION BY cui ORDER BY {PREFERENCE}) AS place
                FROM atoms SEMI JOIN preferred USING (cui) WHERE outcome = 'name')
            SELECT cui, str FROM placed GROUP BY cui, str
            QUALIFY row_number() OVER (PARTITION BY cui ORDER BY min(place)) <= {entry.max_names_per_concept}
            """
        )
        limited = "SEMI JOIN kept ON a.cui = kept.cui AND a.str = kept.str"
    names = _sorted(
        db,
        tables.NAMES,
        f"""
        SELECT a.cui, a.str AS name, coalesce(sab, '') AS source, coalesce(tty, '') AS term_type, a.str = p.name AS preferred
        FROM atoms AS a JOIN preferred AS p ON a.cui = p.cui {limited} WHERE outcome = 'name'
        """,
    )
    outcomes = _counted(db, "SELECT outcome::VARCHAR, count(*) FROM atoms GROUP BY outcome")
    if loaded.foreign:
        outcomes["language"] = outcomes.get("language", 0) + loaded.foreign
    candidates = outcomes.get("name", 0)  # a concept with a name is preferred, unless it must have a definition too
    if entry.require_definition:
        candidates = _one(db, "SELECT count(*) FROM atoms SEMI JOIN preferred USING (cui) WHERE outcome = 'name'")
    within = candidates if not limited else _one(db, f"SELECT count(*) FROM atoms AS a {limited} WHERE outcome = 'name'")
    bad = loaded.bad["MRCONSO"]
    drops = {"other semantic type": rows["MRCONSO"] - sum(outcomes.values()) - bad, **({"bad CUI": bad} if bad else {})}
    drops |= {k: v for k, v in outcomes.items() if k != "name"}
    if entry.require_definition:
        drops["concept without a definition"] = outcomes.get("name", 0) - candidates
    if limited:
        drops["beyond max_names_per_concept"] = candidates - within
    return names, {**drops, "same name, source and term type": within - len(names), "names": len(names)}


def _definitions(db: duckdb.DuckDBPyConnection, entry: RrfKb, loaded: _Loaded, rows: dict[str, int]) -> dict[str, int]:
    """Make the table `definitions`; returns the drops of MRDEF, none if the release has no such file."""
    file, bad = loaded.definitions, loaded.bad["MRDEF"]
    if not file:
        db.execute("CREATE TABLE definitions (cui VARCHAR, rank BIGINT, source VARCHAR, definition VARCHAR)")
        return {}
    # An atom's language is its definition's; MRDEF itself has none. An atom that MRCONSO lacks says nothing, so the definition stays.
    db.execute(
        f"""
        CREATE TABLE told AS
        SELECT d.CUI AS cui, CASE WHEN list_contains($suppress, SUPPRESS) THEN 'suppressed'
                                  WHEN (d.AUI, d.CUI) IN (SELECT (aui, cui) FROM atoms WHERE language = 0) THEN 'language'
                                  WHEN DEF IS NULL THEN 'empty definition'
                                  ELSE 'definition' END AS outcome, DEF AS definition, d.SAB AS sab, ATUI AS atui
        FROM {file} AS d SEMI JOIN preferred ON d.CUI = preferred.cui
        """,
        {"suppress": list(entry.suppress)},
    )
    db.execute(
        """
        CREATE TABLE definitions AS
        WITH sources AS (SELECT sab, max(rank) AS best FROM ranks GROUP BY sab),
        once AS (SELECT cui, sab, definition, min(atui) AS atui FROM told WHERE outcome = 'definition' GROUP BY cui, sab, definition)
        SELECT cui, row_number() OVER (PARTITION BY cui ORDER BY nullif(coalesce(list_position($first, sab), 0), 0) NULLS LAST,
                                       best DESC NULLS LAST, sab, atui, definition) AS rank, coalesce(sab, '') AS source, definition
        FROM once LEFT JOIN sources USING (sab)
        """,
        {"first": list(entry.definition_sources)},
    )
    outcomes = _counted(db, "SELECT outcome, count(*) FROM told GROUP BY outcome")
    written = _one(db, "SELECT count(*) FROM definitions")
    return {
        "other concept": rows["MRDEF"] - sum(outcomes.values()) - bad,
        **({"bad CUI": bad} if bad else {}),
        **{k: v for k, v in outcomes.items() if k != "definition"},
        "same text and source": outcomes.get("definition", 0) - written,
        "definitions": written,
    }


def _retired(db: duckdb.DuckDBPyConnection, release: Release, scratch: Path, rows: dict[str, int]) -> dict[str, int]:
    """Make the table `retired`; returns the drops of MRCUI, none if the release has no such file."""
    db.execute("CREATE TABLE retired (retired VARCHAR, relation VARCHAR, cui VARCHAR)")
    if "MRCUI" not in release.members:
        return {}
    db.execute(
        f"""
        CREATE TABLE moved AS
        SELECT CUI1, coalesce(CUI2, '') AS cui2, coalesce(REL, '') AS rel, CUI1 IN (SELECT cui FROM preferred) AS current,
               coalesce(CUI2 IN (SELECT cui FROM preferred), false) AS known, coalesce(REL = 'DEL' AND CUI2 IS NULL, false) AS deleted
        FROM {sieved(release, "MRCUI", None, scratch, rows)} WHERE CUI1 IS NOT NULL;
        INSERT INTO retired
        SELECT DISTINCT CUI1, rel, cui2 FROM moved WHERE known AND NOT current
        QUALIFY rel = 'SY' OR NOT bool_or(rel = 'SY') OVER (PARTITION BY CUI1);
        INSERT INTO retired SELECT DISTINCT CUI1, rel, cui2 FROM moved WHERE deleted AND NOT current AND CUI1 NOT IN (SELECT retired FROM retired);
        """
    )
    nowhere = _one(db, "SELECT count(*) FROM moved WHERE NOT current AND NOT known AND NOT deleted")
    irregular = " OR ".join(f"NOT {REGULAR.replace('cui', column)}" for column in ("coalesce(CUI1, '')", "coalesce(nullif(cui2, ''), 'C0000000')"))
    bad = _one(db, f"SELECT count(*) FROM moved WHERE NOT current AND NOT known AND NOT deleted AND ({irregular})") if nowhere else 0
    unnamed = rows["MRCUI"] - _one(db, "SELECT count(*) FROM moved")
    counts = {
        "CUI still current": _one(db, "SELECT count(*) FROM moved WHERE current"),
        "leads to no selected concept": nowhere - bad,
        **({"bad CUI": bad + unnamed} if bad + unnamed else {}),
        "merged or related": _one(db, "SELECT count(*) FROM retired WHERE cui <> ''"),
        "deleted": _one(db, "SELECT count(*) FROM retired WHERE cui = ''"),
    }
    return {**counts, "repeated, or a synonym preferred": rows["MRCUI"] - sum(counts.values())}


def sieved(release: Release, name: str, wanted: Wanted | None, scratch: Path, rows: dict[str, int], columns: Sequence[str] = ()) -> str:
    """SQL that reads the wanted rows of a file of the release, after one pass over all of them; their number goes to `rows`.

    A plain file of which all rows are wanted is read where it lies. `columns`: those of the file, if not as in FORMATS.
    """
    member = release.members[name]
    target = None if wanted is None and member.path else scratch / f"{name}.RRF"
    _pass(release, name, wanted, target, rows, columns)
    return _rows(target or member.path, columns or COLUMNS[name])  # type: ignore[arg-type]


def _pass(release: Release, name: str, wanted: Wanted | None, target: Path | Parts | None, rows: dict[str, int], columns: Sequence[str] = ()) -> None:
    """One pass over a file of the release, which checks it; the number of its rows goes to `rows`.

    Raises:
        UserError: A row has a wrong number of fields or is not UTF-8.
    """
    member = release.members[name]
    columns = columns or COLUMNS[name]
    found = sieve(member, len(columns), wanted, target)
    if not found.sound:
        _find_bad_row(member, columns)
        raise UserError("broken file", member.where, "its bars and line ends do not add up", INCOMPLETE)
    rows[name] = found.rows


def _rows(path: Path, names: Sequence[str]) -> str:
    """SQL that reads an RRF file: no quoting, all columns text, empty fields null, and `_end` for what follows the last `|`."""
    columns = ", ".join(f"'{c}': 'VARCHAR'" for c in (*names, "_end"))
    name = str(path).replace("'", "''")
    return f"read_csv('{name}', delim='|', quote='', escape='', header=false, auto_detect=false, columns={{{columns}}})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """SQL literals for IN; of an empty list, one that nothing equals."""
    return ", ".join(map(_literal, texts)) or "NULL"


def _counted(db: duckdb.DuckDBPyConnection, sql: str) -> dict[str, int]:
    return dict(sorted(db.execute(sql).fetchall()))


def _one(db: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(db.execute(sql).fetchall()[0][0])


def _bad_cuis(db: duckdb.DuckDBPyConnection, release: Release, drops: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """Rows by file that were left out for a bad CUI, and the first of them; said as warnings."""
    found = {}
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
        found[name] = {"rows": n, "first": row}
        say(f"warning: bad CUI in {release.members[name].where}:{row}: {n:,} rows are left out whose CUI is not C and seven digits, this one first")
    return found


def is_cui(cui: str) -> bool:
    """Whether it is a CUI as UMLS writes them."""
    return re.fullmatch("C[0-9]{7}", cui) is not None


# ---------------------------------------------------------------------------------------------------------------- files


def _check_release(release: Release) -> None:
    """See to it that the files needed are there, with the columns that are read."""
    for name in REQUIRED:
        if name not in release.members:
            raise UserError("missing file", release.where, f"there is no {name}.RRF", "path must be the META folder of a UMLS release, or its zip")
    for number, row in _small(release, "MRFILES"):
        name = row["FIL"].removesuffix(".RRF")
        if name in release.members and row["FMT"] != FORMATS[name]:
            where = f"{release.members['MRFILES'].where}:{number}"
            raise UserError("other columns", where, f"{name}.RRF has {row['FMT']}, not {FORMATS[name]}", "use a release in Rich Release Format")


def _check_consistent(entry: RrfKb, release: Release, rows: dict[str, int], declared: dict[str, int], lost: list[str]) -> None:
    """Stop, or warn, where the files contradict each other: other numbers of rows than MRFILES declares, or concepts with a type but no row.

    Raises:
        UserError: They do, and `inconsistent` is `error`.
    """
    fix = "unpack the release again; set `inconsistent: warn` for a selection made by hand"
    found: list[UserError] = []
    for name in sorted(declared):
        if declared[name] != rows[name]:
            number = next(n for n, row in _small(release, "MRFILES") if row["FIL"] == f"{name}.RRF")
            where = f"{release.members['MRFILES'].where}:{number}"
            found.append(UserError("mixed releases, or a file cut short", where, f"{name}.RRF has {rows[name]:,} rows, not {declared[name]:,}", fix))
    if lost:
        member = release.members["MRSTY"]
        number = next(n for n, line in enumerate(member.lines(), start=1) if line.startswith(f"{lost[0]}|".encode()))
        found.append(
            UserError(
                "mixed releases" if all(map(is_cui, lost)) else "mixed releases, or a bad CUI",
                f"{member.where}:{number}",
                f"MRCONSO.RRF lacks {len(lost):,} concepts of MRSTY.RRF, {lost[0]} first",
                fix,
            )
        )
    for error in found:
        if entry.inconsistent == "error":
            raise error
        say(f"warning: {error}")


def _find_bad_row(member: Member, columns: Sequence[str]) -> None:
    """Raise a UserError at the first row with a wrong number of fields or bytes that are not UTF-8; the text itself is not shown."""
    fields = len(columns)
    for number, line in enumerate(member.lines(), start=1):
        where, row = f"{member.where}:{number}", line.removesuffix(b"\r")
        found = row.count(b"|") + (not row.endswith(b"|") and bool(row))
        if found < fields:
            raise UserError("truncated row", where, f"{found} fields, not {fields}", INCOMPLETE)
        if found > fields:
            raise UserError("overlong row", where, f"{found} fields, not {fields}", INCOMPLETE)
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


def _small(release: Release, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a small file with their numbers (1-based), if the release has it."""
    if name not in release.members:
        return
    member = release.members[name]
    _find_bad_row(member, COLUMNS[name])
    for number, line in enumerate(member.lines(), start=1):
        yield number, dict(zip(COLUMNS[name], line.decode().split("|"), strict=False))


def _ranks(release: Release) -> list[tuple[str, str, int]]:
    """Best rank of each source and term type (MRRANK: the highest number is the most preferred)."""
    best: dict[tuple[str, str], int] = {}
    for number, row in _small(release, "MRRANK"):
        if not re.fullmatch("[0-9]{1,9}", row["RANK"]):
            raise UserError("wrong rank", f"{release.members['MRRANK'].where}:{number}", "RANK is not a number of up to nine digits", INCOMPLETE)
        key = (row["SAB"], row["TTY"])
        best[key] = max(int(row["RANK"]), best.get(key, 0))
    return [(sab, tty, rank) for (sab, tty), rank in sorted(best.items())]


def _release(release: Release) -> dict[str, Any]:
    """Name of the release (release.dat) and version of each current source (MRSAB.SVER), where the release says so."""
    found: dict[str, Any] = {"sources": {row["RSAB"]: row["SVER"] for _, row in _small(release, "MRSAB") if row["CURVER"] == "Y"}}
    pairs = dict(line.split("=", 1) for line in release.note.splitlines() if "=" in line)
    if name := pairs.get("umls.release.name", "").strip():
        found["name"] = name
    return found


def declared_columns(release: Release, name: str) -> list[str]:
    """Columns of MRREL as MRFILES declares them, or as UMLS publishes them."""
    declared = {row["FIL"]: row["FMT"] for _, row in _small(release, "MRFILES")}
    return (declared.get(f"{name}.RRF") or RELATIONS).split(",")


def _declared(release: Release, rows: dict[str, int]) -> dict[str, int]:
    """Rows that MRFILES declares for each of the files read."""
    found = {}
    for number, row in _small(release, "MRFILES"):
        name, count = row["FIL"].removesuffix(".RRF"), row["RWS"]
        if name in rows and count:
            if not re.fullmatch("[0-9]{1,18}", count):
                raise UserError("wrong number of rows", f"{release.members['MRFILES'].where}:{number}", "RWS is not a number of up to 18 digits", INCOMPLETE)
            found[name] = int(count)
    return found
