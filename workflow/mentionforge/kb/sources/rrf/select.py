"""Select the names, definitions, codes and retired CUIs of a knowledge base from the rows of a release; `read.read` states the rules.

In: DuckDB tables `types`, `ranks` and `atoms` (`rows`), and the settings. Out: Arrow tables sorted by key, and drops by file and reason.
Knows nothing of how files are packed and checked.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.kb.sources.rrf.files import is_cui
from mentionforge.kb.sources.rrf.passes import count_by, literals, scalar, sieved_sql
from mentionforge.kb.sources.rrf.release import Release
from mentionforge.kb.sources.rrf.rows import REGULAR, LoadedRows

PREFERENCE = "language, rank, ts, stt, ispref, str"
"""Sort order of a concept's atoms, best first: `rank` is the negated rank of MRRANK (1: none); the booleans are true where the atom is not preferred."""


def select_tables(
    db: duckdb.DuckDBPyConnection, entry: RrfKb, release: Release, loaded: LoadedRows, scratch: Path, rows: dict[str, int]
) -> tuple[dict[str, pa.Table], dict[str, dict[str, int]]]:
    """The five tables of a knowledge base, sorted by key, and the drops by file and reason; a file's drops and kept rows add up to its rows."""
    db.execute(
        """
        CREATE TABLE preferred AS
        SELECT cui, min(struct_pack(language, rank, ts, stt, ispref, name := str)).name AS name FROM atoms WHERE outcome = 'name' GROUP BY cui
        """
    )
    drops = {"MRSTY": {"concepts": scalar(db, "SELECT count(cui) FROM types")}}
    drops["MRSTY"]["concepts without a name"] = drops["MRSTY"]["concepts"] - scalar(db, "SELECT count(*) FROM preferred")
    if bad := loaded.bad_cui_rows["MRSTY"] + sum(not is_cui(cui) for cui in loaded.concepts_without_rows):
        drops["MRSTY"]["bad CUI"] = bad
    with ThreadPoolExecutor(3) as pool:  # DuckDB runs much of a query in one thread, so concurrent queries use both cores
        defining = pool.submit(_definitions, db.cursor(), entry, loaded, rows)
        if entry.require_definition:
            defining.result()
            drops["MRSTY"]["concepts without a definition"] = scalar(db, "SELECT count(*) FROM preferred ANTI JOIN definitions USING (cui)")
            db.execute("DELETE FROM preferred WHERE cui NOT IN (SELECT cui FROM definitions)")
        naming = pool.submit(_names, db.cursor(), entry, loaded, rows)
        retiring = pool.submit(_retired, db.cursor(), release, scratch, rows)
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
    kb_tables = {"concepts": concepts, "names": names, "definitions": definitions, "xrefs": xrefs, "retired": retired}
    return kb_tables, {file: reasons for file, reasons in drops.items() if reasons}


def _sorted(db: duckdb.DuckDBPyConnection, table: tables.Table, query: str) -> pa.Table:
    """The distinct rows of a query, in the columns and order of a table.

    Duplicates are adjacent after sorting, and far cheaper to remove there than by DISTINCT on text. A column of few values may be an
    ENUM in code point order, which sorts faster.
    """
    schema = pa.schema([pa.field(c.name, c.type) for c in table.columns])
    rows = db.sql(f"SELECT * FROM ({query}) ORDER BY {', '.join(table.key)}").to_arrow_table().select(schema.names).cast(schema)
    same = functools.reduce(pc.and_, (pc.equal(rows[name][1:], rows[name][:-1]) for name in table.key))
    if not pc.any(same).as_py():
        return rows
    return rows.filter(pa.chunked_array([pa.array([True]), *pc.invert(same).chunks]))


def _names(db: duckdb.DuckDBPyConnection, entry: RrfKb, loaded: LoadedRows, rows: dict[str, int]) -> tuple[pa.Table, dict[str, int]]:
    """The table `names`, and the drops of MRCONSO by reason."""
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
    outcomes = count_by(db, "SELECT outcome::VARCHAR, count(*) FROM atoms GROUP BY outcome")
    if loaded.foreign_rows:
        outcomes["language"] = outcomes.get("language", 0) + loaded.foreign_rows
    candidates = outcomes.get("name", 0)  # every concept with a name is in `preferred`, unless it must have a definition too
    if entry.require_definition:
        candidates = scalar(db, "SELECT count(*) FROM atoms SEMI JOIN preferred USING (cui) WHERE outcome = 'name'")
    within = candidates if not limited else scalar(db, f"SELECT count(*) FROM atoms AS a {limited} WHERE outcome = 'name'")
    bad = loaded.bad_cui_rows["MRCONSO"]
    drops = {"other semantic type": rows["MRCONSO"] - sum(outcomes.values()) - bad, **({"bad CUI": bad} if bad else {})}
    drops |= {k: v for k, v in outcomes.items() if k != "name"}
    if entry.require_definition:
        drops["concept without a definition"] = outcomes.get("name", 0) - candidates
    if limited:
        drops["beyond max_names_per_concept"] = candidates - within
    return names, {**drops, "same name, source and term type": within - len(names), "names": len(names)}


def _definitions(db: duckdb.DuckDBPyConnection, entry: RrfKb, loaded: LoadedRows, rows: dict[str, int]) -> dict[str, int]:
    """Create the table `definitions`; return the drops of MRDEF by reason, empty if the release lacks the file."""
    file, bad = loaded.definitions, loaded.bad_cui_rows["MRDEF"]
    if not file:
        db.execute("CREATE TABLE definitions (cui VARCHAR, rank BIGINT, source VARCHAR, definition VARCHAR)")
        return {}
    # MRDEF has no language: a definition has that of its atom. A definition whose atom is not in MRCONSO is kept.
    db.execute(
        f"""
        CREATE TABLE definition_outcomes AS
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
        once AS (SELECT cui, sab, definition, min(atui) AS atui FROM definition_outcomes
                  WHERE outcome = 'definition' GROUP BY cui, sab, definition)
        SELECT cui, row_number() OVER (PARTITION BY cui ORDER BY nullif(coalesce(list_position($first, sab), 0), 0) NULLS LAST,
                                       best DESC NULLS LAST, sab, atui, definition) AS rank, coalesce(sab, '') AS source, definition
        FROM once LEFT JOIN sources USING (sab)
        """,
        {"first": list(entry.definition_sources)},
    )
    outcomes = count_by(db, "SELECT outcome, count(*) FROM definition_outcomes GROUP BY outcome")
    written = scalar(db, "SELECT count(*) FROM definitions")
    return {
        "other concept": rows["MRDEF"] - sum(outcomes.values()) - bad,
        **({"bad CUI": bad} if bad else {}),
        **{k: v for k, v in outcomes.items() if k != "definition"},
        "same text and source": outcomes.get("definition", 0) - written,
        "definitions": written,
    }


def _retired(db: duckdb.DuckDBPyConnection, release: Release, scratch: Path, rows: dict[str, int]) -> dict[str, int]:
    """Create the table `retired`; return the drops of MRCUI by reason, empty if the release lacks the file."""
    db.execute("CREATE TABLE retired (retired VARCHAR, relation VARCHAR, cui VARCHAR)")
    if "MRCUI" not in release.members:
        return {}
    db.execute(
        f"""
        CREATE TABLE moved AS
        SELECT CUI1, coalesce(CUI2, '') AS cui2, coalesce(REL, '') AS rel, CUI1 IN (SELECT cui FROM preferred) AS current,
               coalesce(CUI2 IN (SELECT cui FROM preferred), false) AS known, coalesce(REL = 'DEL' AND CUI2 IS NULL, false) AS deleted
        FROM {sieved_sql(release, "MRCUI", None, scratch, rows)} WHERE CUI1 IS NOT NULL;
        INSERT INTO retired
        SELECT DISTINCT CUI1, rel, cui2 FROM moved WHERE known AND NOT current
        QUALIFY rel = 'SY' OR NOT bool_or(rel = 'SY') OVER (PARTITION BY CUI1);
        INSERT INTO retired SELECT DISTINCT CUI1, rel, cui2 FROM moved WHERE deleted AND NOT current AND CUI1 NOT IN (SELECT retired FROM retired);
        """
    )
    nowhere = scalar(db, "SELECT count(*) FROM moved WHERE NOT current AND NOT known AND NOT deleted")
    irregular = " OR ".join(f"NOT {REGULAR.replace('cui', column)}" for column in ("coalesce(CUI1, '')", "coalesce(nullif(cui2, ''), 'C0000000')"))
    bad = scalar(db, f"SELECT count(*) FROM moved WHERE NOT current AND NOT known AND NOT deleted AND ({irregular})") if nowhere else 0
    unnamed = rows["MRCUI"] - scalar(db, "SELECT count(*) FROM moved")
    counts = {
        "CUI still current": scalar(db, "SELECT count(*) FROM moved WHERE current"),
        "leads to no selected concept": nowhere - bad,
        **({"bad CUI": bad + unnamed} if bad + unnamed else {}),
        "merged or related": scalar(db, "SELECT count(*) FROM retired WHERE cui <> ''"),
        "deleted": scalar(db, "SELECT count(*) FROM retired WHERE cui = ''"),
    }
    return {**counts, "repeated, or a synonym preferred": rows["MRCUI"] - sum(counts.values())}
