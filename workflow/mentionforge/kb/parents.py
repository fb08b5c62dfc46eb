"""The hierarchy of a knowledge base: the direct parents of its concepts.

In: the spec of a kbs entry and its extracted tables. Out: parents.parquet (`tables.PARENTS`): concept, parent, source.
Parents come from the ontologies (is_a, MeSH tree numbers) or from MRREL of a UMLS release. Sources may disagree, so the graph may have cycles.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.ontologies.published import Code, code_of, is_term_list, read_terms
from mentionforge.kb.settings import Kb, OntologyKb, RrfKb
from mentionforge.progress import say
from mentionforge.provenance import digesting, stamp
from mentionforge.specs import read_spec

VERSION = 1
"""Version of the part kb.parents; raise it if earlier results would be wrong (mentionforge.versions)."""

REQUIRED_COLUMNS = ("CUI1", "REL", "CUI2", "SAB")
"""Columns that MRREL must have; RELA and SUPPRESS are optional."""


class ParentTable(NamedTuple):
    """Parents of concepts.

    Attributes:
        rows: Rows of `tables.PARENTS`.
        inputs: Files read, by role.
        funnel: Counts of rows read and dropped, by reason.
        missing: Why there is no hierarchy; none: there is one.
    """

    rows: pa.Table
    inputs: dict[str, Path]
    funnel: dict[str, Any]
    missing: str | None = None


def extract(spec: Path, kb: Path, policy: str, out: Path) -> None:
    """Write `tables.PARENTS` of a knowledge base. Without a hierarchy the table is empty, and its provenance gives the reason (`hierarchy.missing`).

    Args:
        spec: Spec file of the kbs entry.
        kb: Folder of its tables.
        policy: auto: read the hierarchy if there is one; required: fail if there is none; none: read nothing.
        out: File to write.

    Raises:
        UserError: There is no hierarchy and one is required, or a file is malformed.
    """
    entry = read_spec(spec, Kb)
    with digesting() as digest:
        none = ParentTable(tables.build(tables.PARENTS, []), {}, {}, "the setting `hierarchy` is none")
        hierarchy = none if policy == "none" else entry.parents(kb)
        digest(hierarchy.inputs.values())
    rows, missing = hierarchy.rows, hierarchy.missing or (None if len(hierarchy.rows) else "no source gives a parent")
    if missing and policy == "required":
        raise UserError("no hierarchy", str(spec), missing, "set `hierarchy: auto`, or give the release with its MRREL.RRF")
    cyclic = cycles(rows)
    summary = {
        "missing": missing,
        "pairs": len(rows),
        "by_source": {pair["values"]: pair["counts"] for pair in sorted(pc.value_counts(rows["source"]).to_pylist(), key=lambda p: p["values"])},
        "cycles": len(cyclic),
        "concepts_in_cycles": int(sum(cyclic)),
        "funnel": hierarchy.funnel,
    }
    tables.write(tables.PARENTS, out, rows, stamp("kb parents", {"spec": spec, **hierarchy.inputs}, hierarchy=summary))
    if missing:
        say(f"no hierarchy: {missing}")
    else:
        say(f"{len(rows):,} pairs of concept and parent, by source: {json.dumps(summary['by_source'])}; {len(cyclic):,} cycles of {sum(cyclic):,} concepts")


def cycles(rows: pa.Table) -> list[int]:
    """Sizes of the cycles: strongly connected components of two or more concepts, ascending."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return []
    both = pa.chunked_array([*rows["cui"].chunks, *rows["parent"].chunks]).combine_chunks().dictionary_encode()
    numbers = both.indices.to_numpy()
    size, pairs = len(both.dictionary), len(rows)
    graph = csr_array((np.ones(pairs, np.int8), (numbers[:pairs], numbers[pairs:])), shape=(size, size))
    _, labels = connected_components(graph, directed=True, connection="strong")
    return sorted(int(n) for n in np.bincount(labels) if n > 1)


# --------------------------------------------------------------------------------------------------------------- ontologies


def of_ontologies(entry: OntologyKb, xrefs: pa.Table) -> ParentTable:
    """Parents from the ontologies of an entry.

    Mondo, DOID, HPO and `others` give is_a. MeSH gives tree numbers (C and F03); a supplementary record is below the headings that it is mapped to.
    Cross-references turn ids into CUIs. A term without a CUI is skipped: its children become children of the nearest concepts above it.

    Args:
        entry: The entry.
        xrefs: tables.XREFS of the knowledge base.
    """
    from mentionforge.kb.ontologies import mesh

    concepts: dict[Code, list[str]] = defaultdict(list)
    for source, code, cui in zip(*(xrefs[name].to_pylist() for name in ("source", "code", "cui")), strict=True):
        concepts[source, code].append(cui)
    parents_by_source: dict[str, dict[Code, list[Code]]] = {}
    inputs: dict[str, Path] = {}
    for role, path in (("mondo", entry.mondo), ("doid", entry.doid), ("hpo", entry.hpo)):
        if path:
            inputs[role] = Path(path)
            parents_by_source[role.upper()] = {code_of(key): [code_of(p) for p in parents] for key, parents in _is_a(path)}
    for name, other in entry.others.items():
        inputs[f"others_{name}"] = Path(other.path)
        parents_by_source[name] = {_code_in(name, key): [_code_in(name, p) for p in parents] for key, parents in _is_a(other.path)}
    if entry.mesh_names:
        inputs |= {f"mesh_names_{i}": Path(path) for i, path in enumerate(entry.mesh_names)}
        parents_by_source["MSH"] = mesh_parents(mesh.mesh_rows(entry.mesh_names))
    rows: set[tuple[str, str, str]] = set()
    for source, parents in parents_by_source.items():
        for code in parents:
            for cui in concepts.get(code, ()):
                rows.update((cui, parent, source) for parent in nearest_concepts(code, parents, concepts) if parent != cui)
    records = [{"cui": cui, "parent": parent, "source": source} for cui, parent, source in rows]
    return ParentTable(tables.build(tables.PARENTS, records), inputs, {"terms": {source: len(parents) for source, parents in parents_by_source.items()}})


def _code_in(name: str, key: str) -> Code:
    return name, key.partition(":")[2] or key


def _is_a(path: str) -> Iterator[tuple[str, Iterable[str]]]:
    """(term, direct parents) of the terms of an ontology that are not obsolete."""
    if not is_term_list(path):
        for term in read_terms(path):
            if not term.obsolete:
                yield term.id, term.parents
        return
    from mentionforge.kb.ontologies.shared import open_text

    with open_text(path) as handle:
        data = json.load(handle)
        if isinstance(data, dict):  # Mondo: ancestors with their distance
            for key, term in data.items():
                if not term["deprecated"]:
                    yield key, [parent for parent, distance in term["ancestors"].items() if distance == 1]
        else:
            for term in data:
                yield term["id"], term.get("relations", {}).get("is_a", [])


def mesh_parents(rows: Mapping[str, tuple[str, str, str]]) -> dict[Code, list[Code]]:
    """Parents of MeSH records. The parent of a heading has its tree number without the last part; those of a supplementary record are its mapped headings.

    Args:
        rows: From `mesh.mesh_rows`.
    """
    from mentionforge.kb.ontologies.mesh import MESH_DISEASES

    heading_of: dict[str, str] = {}
    for code, (_, _, placement) in rows.items():
        if code.startswith("D"):
            heading_of.update((number, code) for number in placement.split("|") if MESH_DISEASES.match(number))
    parents: dict[Code, list[Code]] = defaultdict(list)
    for number, code in heading_of.items():
        higher = number.rpartition(".")[0]
        parents["MSH", code] += [("MSH", heading_of[higher])] if higher in heading_of else []
    for code, (_, _, placement) in rows.items():
        if not code.startswith("D"):
            parents["MSH", code] += [("MSH", heading.strip("* ")) for heading in placement.split(",") if heading.strip("* ")]
    return parents


def nearest_concepts(code: Code, parents: Mapping[Code, Iterable[Code]], concepts: Mapping[Code, Iterable[str]]) -> set[str]:
    """CUIs of a term's nearest ancestors that have one: of each parent, or else of the parents above it."""
    ancestors: set[str] = set()
    seen, pending = {code}, list(parents.get(code, ()))
    while pending:
        parent = pending.pop()
        if parent in seen:
            continue
        seen.add(parent)
        if cuis := concepts.get(parent):
            ancestors.update(cuis)
        else:
            pending.extend(parents.get(parent, ()))
    return ancestors


# -------------------------------------------------------------------------------------------------------------- UMLS release


def of_release(entry: RrfKb, cuis: pa.ChunkedArray) -> ParentTable:
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
    import duckdb

    from mentionforge.kb.rrf.files import INCOMPLETE, declared_columns, is_cui
    from mentionforge.kb.rrf.passes import MEMORY, THREADS, literals, sieved_sql
    from mentionforge.kb.rrf.release import open_release
    from mentionforge.kb.rrf.sieve import ByCui

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
