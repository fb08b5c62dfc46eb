"""Read the concepts, names, definitions and codes of a SNOMED CT snapshot.

In: an `rf2` entry. Out: its `Extracted`. Concepts have ids such as SNOMEDCT:22298006. Knows nothing of how files are packed and checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.sources.contract import Extracted
from mentionforge.kb.sources.rf2 import Rf2Kb
from mentionforge.kb.sources.rf2.files import SnapshotFile, find, is_active
from mentionforge.kb.sources.rf2.files import read as read_files
from mentionforge.provenance import digesting

VERSION = 1
"""Version of the part kb.rf2; raise it if earlier results would be wrong (mentionforge.versions)."""

IS_A = 116680003
FSN, SYNONYM, DEFINITION = 900000000000003001, 900000000000013009, 900000000000550004
PREFERRED = 900000000000548007
STATED = 900000000000010007
SUCCESSORS = {900000000000527005: "same-as", 900000000000526001: "replaced-by"}
"""Association reference sets that name the concept that stands for a retired one."""

TYPES = {
    "disorder": "T047",
    "finding": "T033",
    "situation": "T033",
    "morphologic abnormality": "T190",
    "event": "T051",
    "procedure": "T061",
    "regime/therapy": "T061",
    "observable entity": "T201",
    "body structure": "T023",
    "cell": "T025",
    "cell structure": "T026",
    "organism": "T001",
    "substance": "T167",
    "product": "T121",
    "medicinal product": "T121",
    "clinical drug": "T200",
    "physical object": "T073",
    "specimen": "T031",
    "person": "T098",
    "occupation": "T097",
    "qualifier value": "T080",
}
"""UMLS semantic type by the tag of the fully specified name."""

OTHER_TYPE = "T071"

MEMORY, THREADS = "600MB", 2


def read(entry: Rf2Kb) -> Extracted:
    """The tables of an entry.

    Rules:
        concepts     Active ones at or below the roots, by active is-a relationships that are not only stated, whose fully specified name has one of the
                     tags, if any are given. Of a component in several files the latest version counts.
        names        Active synonyms that are in one of the language reference sets (PT if preferred in one, else SY), and the fully specified name (FN).
        preferred    The synonym that the first reference set prefers, else the next; without one, the fully specified name without its tag.
        definitions  Active text definitions in one of the reference sets, by the order of these.
        codes        Each concept's own number, and those of retired concepts that it replaces (same as, replaced by).
        types        By the tag of the fully specified name (`TYPES`).

    Raises:
        UserError: A file is missing or malformed (with its line), a root or reference set is not in it.
    """
    files = find(entry.files())
    with digesting() as digest:
        digest(dict.fromkeys(file.path for kind in files.values() for file in kind))
        concepts, is_a, rows = read_hierarchy(files)
        active = np.sort(is_active(concepts)["id"].to_numpy())
        selected = below(entry, active, is_a)
        with duckdb.connect() as db:
            db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}; SET preserve_insertion_order = false")
            db.register("selected", pa.table({"concept": selected}))
            _load_members(db, entry, files, rows)
            drops = _load_descriptions(db, entry, files, rows)
            extracted = _tables(db, entry, files, rows, drops)
    funnel = {"rows": rows, "concepts": {"active": len(active), "at or below the roots": len(selected), "kept": len(extracted[0])}, "drops": drops}
    return Extracted(*extracted, inputs_of(files), funnel)


def inputs_of(files: dict[str, list[SnapshotFile]]) -> dict[str, Path]:
    """The files on disk that are read, by role: kinds, or the zips."""
    paths = dict.fromkeys((kind, file.path) for kind in sorted(files) for file in files[kind])
    zips = dict.fromkeys(path for _, path in paths if path.suffix.lower() == ".zip")
    roles = {f"zip_{i}": path for i, path in enumerate(zips)}
    counts: dict[str, int] = {}
    for kind, path in paths:
        if path not in zips:
            roles[f"{kind}_{counts.setdefault(kind, 0)}"] = path
            counts[kind] += 1
    return roles


def read_hierarchy(files: dict[str, list[SnapshotFile]]) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Concepts (id, active), active is-a relationships (sourceId, destinationId), and the rows of both kinds of files."""
    concepts, of_concepts = read_files(files["Concept"], ("id", "active"), ("id",))

    def inferred(batch: pa.RecordBatch) -> pa.Array:
        return pc.and_(pc.equal(batch["typeId"], IS_A), pc.not_equal(batch["characteristicTypeId"], STATED))

    columns = ("id", "active", "sourceId", "destinationId", "typeId", "characteristicTypeId")
    is_a, of_relationships = read_files(files["Relationship"], columns, ("id",), inferred)
    return concepts, is_active(is_a).select(["sourceId", "destinationId"]), {"Concept": of_concepts, "Relationship": of_relationships}


def below(entry: Rf2Kb, active: np.ndarray, is_a: pa.Table) -> np.ndarray:
    """Active concepts at or below the roots, sorted; `active` is sorted, and a concept that is not active ends a line."""
    if not entry.roots:
        return active
    roots = np.unique(np.array(entry.roots, np.int64))
    if len(unknown := np.setdiff1d(roots, active)):
        raise UserError("unknown root", entry.path, f"{unknown[0]} is no active concept of it", "correct roots")
    children, parents = (np.searchsorted(active, is_a[name].to_numpy()) for name in ("sourceId", "destinationId"))
    both = np.ones(len(children), bool)
    for places, name in ((children, "sourceId"), (parents, "destinationId")):
        both &= active[np.minimum(places, len(active) - 1)] == is_a[name].to_numpy()
    children, parents = children[both], parents[both]
    reached = np.zeros(len(active), bool)
    reached[np.searchsorted(active, roots)] = True
    size = 0
    while size != (size := int(reached.sum())):  # one level further down each time
        reached[children[reached[parents]]] = True
    return active[reached]


def _load_members(db: duckdb.DuckDBPyConnection, entry: Rf2Kb, files: dict[str, list[SnapshotFile]], rows: dict[str, int]) -> None:
    """The table `members`: description, and `place`, which orders those of a concept: preferred ones first, then by reference set."""
    wanted = [int(refset) for refset in entry.language_refsets]
    if not wanted:
        return
    if "Language" not in files:
        raise UserError("missing file", entry.path, "there is no der2_cRefset_LanguageSnapshot….txt in it", "unpack it again, or set language_refsets: []")
    columns, key = ("active", "refsetId", "referencedComponentId", "acceptabilityId"), ("refsetId", "referencedComponentId")
    members, rows["Language"] = read_files(files["Language"], columns, key, lambda batch: pc.is_in(batch["refsetId"], pa.array(wanted)))
    there = set(pc.unique(members["refsetId"]).to_pylist())
    if not there:
        raise UserError("unknown reference set", entry.path, f"{wanted[0]} has no members in it", "name its language reference sets in language_refsets")
    db.register("all_members", is_active(members))
    places = " ".join(f"WHEN {refset} THEN {i}" for i, refset in enumerate(wanted))
    db.execute(
        f"""
        CREATE TABLE members AS
        SELECT referencedComponentId AS id, min(CASE refsetId {places} END + CASE WHEN acceptabilityId = {PREFERRED} THEN 0 ELSE {len(wanted)} END) AS place
        FROM all_members GROUP BY referencedComponentId
        """
    )
    db.unregister("all_members")


def _load_descriptions(db: duckdb.DuckDBPyConnection, entry: Rf2Kb, files: dict[str, list[SnapshotFile]], rows: dict[str, int]) -> dict[str, int]:
    """The table `named`: concept, name, tag, kind and place of each description that is a name, or may be one; and drops by reason."""
    columns = ("id", "active", "conceptId", "languageCode", "typeId", "term")
    descriptions, rows["Description"] = read_files(files["Description"], columns, ("id",))
    db.register("descriptions", descriptions)
    member = "members.place" if entry.language_refsets else "0"
    join = "LEFT JOIN members USING (id)" if entry.language_refsets else ""
    db.execute(
        f"""
        CREATE TABLE described AS
        SELECT conceptId AS concept, typeId = {FSN} AS fsn, {member} AS place, languageCode AS language,
               trim(regexp_replace(term, '\\s+', ' ', 'g')) AS term
        FROM descriptions SEMI JOIN selected ON conceptId = concept {join}
        WHERE active = 1 AND typeId IN ({FSN}, {SYNONYM});
        CREATE TABLE tagged AS
        SELECT concept, min(struct_pack(other := language <> 'en', tag := regexp_extract(term, '\\(([^()]+)\\)$', 1))).tag AS tag
        FROM described WHERE fsn GROUP BY concept;
        """
    )
    tags = ", ".join("'" + tag.replace("'", "''") + "'" for tag in entry.semantic_tags)
    db.execute(f"CREATE TABLE kept AS SELECT concept FROM selected ANTI JOIN tagged USING (concept) WHERE {not tags}")
    db.execute(f"INSERT INTO kept SELECT concept FROM tagged WHERE {f'tag IN ({tags})' if tags else 'true'}")
    db.execute(
        """
        CREATE TABLE named AS
        SELECT concept, fsn, place, CASE WHEN fsn THEN regexp_replace(term, '\\s*\\([^()]+\\)$', '') ELSE term END AS name, term
        FROM described SEMI JOIN kept USING (concept) WHERE place IS NOT NULL AND term <> ''
        """
    )
    counts = {
        "active, of selected concepts": _scalar(db, "SELECT count(*) FROM described"),
        "of a concept with another tag": _scalar(db, "SELECT count(*) FROM described ANTI JOIN kept USING (concept)"),
        "in no language reference set, or empty": _scalar(db, "SELECT count(*) FROM described SEMI JOIN kept USING (concept) WHERE place IS NULL OR term = ''"),
    }
    db.unregister("descriptions")
    db.execute("DROP TABLE described")
    return counts


def _tables(
    db: duckdb.DuckDBPyConnection, entry: Rf2Kb, files: dict[str, list[SnapshotFile]], rows: dict[str, int], drops: dict[str, int]
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table, pa.Table]:
    """The five tables, sorted by key."""
    db.execute(
        """
        CREATE TABLE preferred AS
        SELECT concept, 'SNOMEDCT:' || concept AS cui, min(struct_pack(fsn, place, name)).name AS name FROM named WHERE name <> '' GROUP BY concept
        """
    )
    drops["concept without a name"] = _scalar(db, "SELECT count(*) FROM kept ANTI JOIN preferred USING (concept)")
    limit = 2 * len(entry.language_refsets)
    fsn = {"without_tag": "named.name", "as_published": "term", "none": "NULL"}[entry.fsn]
    names = _sorted(
        db,
        tables.NAMES,
        f"""
        SELECT cui, text AS name, 'SNOMEDCT_US' AS source, term_type, text = preferred_name AS preferred FROM (
            SELECT cui, preferred.name AS preferred_name, CASE WHEN fsn THEN 'FN' WHEN place < {limit // 2} THEN 'PT' ELSE 'SY' END AS term_type,
                   CASE WHEN fsn THEN {fsn} ELSE named.name END AS text
            FROM named JOIN preferred USING (concept)
            UNION
            SELECT cui, name, 'FN', name FROM preferred ANTI JOIN (FROM named WHERE NOT fsn) USING (concept))
        WHERE text <> ''
        """,
    )
    _load_definitions(db, entry, files, rows)
    definitions = _sorted(db, tables.DEFINITIONS, "FROM definitions")
    types = " ".join(f"WHEN '{tag}' THEN '{tui}'" for tag, tui in TYPES.items())
    concepts = _sorted(
        db,
        tables.CONCEPTS,
        f"""
        SELECT cui, name AS preferred_name, definition, [CASE tag {types} ELSE '{OTHER_TYPE}' END] AS semantic_types
        FROM preferred LEFT JOIN tagged USING (concept) LEFT JOIN (FROM definitions WHERE rank = 1) USING (cui)
        """,
    )
    _load_retired(db, files, rows)
    xrefs = _sorted(
        db,
        tables.XREFS,
        """
        SELECT 'SNOMEDCT_US' AS source, code::VARCHAR AS code, cui, via FROM (
            SELECT concept AS code, cui, 'id' AS via FROM preferred
            UNION SELECT old, cui, via FROM retired JOIN preferred ON new = concept WHERE old NOT IN (SELECT concept FROM preferred))
        """,
    )
    return concepts, names, definitions, xrefs, tables.build(tables.RETIRED, [])


def _load_definitions(db: duckdb.DuckDBPyConnection, entry: Rf2Kb, files: dict[str, list[SnapshotFile]], rows: dict[str, int]) -> None:
    db.execute("CREATE TABLE definitions (cui VARCHAR, rank BIGINT, source VARCHAR, definition VARCHAR)")
    if "TextDefinition" not in files:
        return
    texts, rows["TextDefinition"] = read_files(files["TextDefinition"], ("id", "active", "conceptId", "typeId", "term"), ("id",))
    db.register("texts", texts)
    member, join = ("members.place", "JOIN members USING (id)") if entry.language_refsets else ("0", "")
    db.execute(
        f"""
        INSERT INTO definitions
        SELECT cui, row_number() OVER (PARTITION BY cui ORDER BY place, first), 'SNOMEDCT_US', text FROM (
            SELECT cui, min({member}) AS place, min(id) AS first, trim(regexp_replace(term, '\\s+', ' ', 'g')) AS text
            FROM texts JOIN preferred ON conceptId = concept {join} WHERE active = 1 AND typeId = {DEFINITION} GROUP BY cui, text)
        WHERE text <> ''
        """
    )


def _load_retired(db: duckdb.DuckDBPyConnection, files: dict[str, list[SnapshotFile]], rows: dict[str, int]) -> None:
    db.execute("CREATE TABLE retired (old BIGINT, new BIGINT, via VARCHAR)")
    if "Association" not in files:
        return
    columns, key = ("active", "refsetId", "referencedComponentId", "targetComponentId"), ("refsetId", "referencedComponentId", "targetComponentId")
    associations, rows["Association"] = read_files(files["Association"], columns, key, lambda batch: pc.is_in(batch["refsetId"], pa.array(list(SUCCESSORS))))
    db.register("associations", is_active(associations))
    kinds = " ".join(f"WHEN {refset} THEN '{via}'" for refset, via in SUCCESSORS.items())
    db.execute(f"INSERT INTO retired SELECT referencedComponentId, targetComponentId, CASE refsetId {kinds} END FROM associations")


def _sorted(db: duckdb.DuckDBPyConnection, table: tables.Table, query: str) -> pa.Table:
    """The distinct rows of a query, in the columns and order of a table."""
    schema = pa.schema([pa.field(column.name, column.type) for column in table.columns])
    columns = ", ".join(schema.names)
    return db.sql(f"SELECT DISTINCT {columns} FROM ({query}) ORDER BY {', '.join(table.key)}").to_arrow_table().cast(schema)


def _scalar(db: duckdb.DuckDBPyConnection, query: str) -> Any:
    return db.execute(query).fetchall()[0][0]
