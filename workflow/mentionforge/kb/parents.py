"""The hierarchy of a knowledge base: which concept is directly below which, as its sources say.

Ontologies
    MONDO, DOID, HPO and `others` give is_a, MeSH gives tree numbers (C and F03), and a supplementary record is below the headings that it is mapped
    to. Ids become concepts through the cross-references of the knowledge base. A term without a concept is stepped over: its children
    are below the nearest concepts above it, so a step between two concepts may be several in the ontology.
UMLS release
    MRREL, whose REL says what the second concept is to the first: PAR, the second is the parent; CHD, it is the child. Of other RELs a RELA of
    `inverse_isa` and `isa` says the same. Suppressed rows and rows within one concept are dropped. Read are the rows whose first
    concept is in the knowledge base (UMLS has each relation in both directions); a parent may lie outside it, and is then the end of a line.

All sources are taken together. They need not agree, so that the graph may have cycles: they are counted, and a walk upwards must mind them.
A release without MRREL, or with other columns, has no hierarchy: the table is empty, and its provenance says why.
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
"""Of the part kb.parents: raise it where earlier results would be wrong (mentionforge.versions)."""

NEEDED = ("CUI1", "REL", "CUI2", "SAB")
"""Columns of MRREL without which there is no hierarchy; RELA and SUPPRESS may be missing."""


class Found(NamedTuple):
    """What a reader found: rows of tables.PARENTS, the files read by role, counts, and why there is no hierarchy, if there is none."""

    rows: pa.Table
    inputs: dict[str, Path]
    funnel: dict[str, Any]
    missing: str | None = None


def extract(spec: Path, kb: Path, wanted: str, out: Path) -> None:
    """Write tables.PARENTS of a knowledge base; empty where it has no hierarchy, with the reason in its provenance (`hierarchy.missing`).

    Args:
        spec: Spec file of the kbs entry.
        kb: Folder of its tables.
        wanted: auto; required: a knowledge base without a hierarchy is an error; none: nothing is read.
        out: File to write.

    Raises:
        UserError: There is no hierarchy and one is required, or a file is malformed.
    """
    entry = read_spec(spec, Kb)
    with digesting() as digest:
        if wanted == "none":
            found = Found(tables.build(tables.PARENTS, []), {}, {}, "the setting `hierarchy` is none")
        elif isinstance(entry, RrfKb):
            found = of_release(entry, tables.read(tables.CONCEPTS, kb / "concepts.parquet")["cui"])
        else:
            found = of_ontologies(entry, tables.read(tables.XREFS, kb / "xrefs.parquet"))
        digest(found.inputs.values())
    rows, missing = found.rows, found.missing or (None if len(found.rows) else "no source gives a parent")
    if missing and wanted == "required":
        raise UserError("no hierarchy", str(spec), missing, "set `hierarchy: auto`, or give the release with its MRREL.RRF")
    cyclic = cycles(rows)
    told = {
        "missing": missing,
        "pairs": len(rows),
        "by_source": {pair["values"]: pair["counts"] for pair in sorted(pc.value_counts(rows["source"]).to_pylist(), key=lambda p: p["values"])},
        "cycles": len(cyclic),
        "concepts_in_cycles": int(sum(cyclic)),
        "funnel": found.funnel,
    }
    tables.write(tables.PARENTS, out, rows, stamp("kb parents", {"spec": spec, **found.inputs}, hierarchy=told))
    if missing:
        say(f"no hierarchy: {missing}")
    else:
        say(f"{len(rows):,} pairs of concept and parent, by source: {json.dumps(told['by_source'])}; {len(cyclic):,} cycles of {sum(cyclic):,} concepts")


def cycles(rows: pa.Table) -> list[int]:
    """Sizes of the sets of concepts that are all above one another."""
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


def of_ontologies(entry: OntologyKb, xrefs: pa.Table) -> Found:
    """Parents by the ontologies of an entry.

    Args:
        entry: The entry.
        xrefs: tables.XREFS of the knowledge base.
    """
    from mentionforge.kb.ontologies import mesh

    concepts: dict[Code, list[str]] = defaultdict(list)
    for source, code, cui in zip(*(xrefs[name].to_pylist() for name in ("source", "code", "cui")), strict=True):
        concepts[source, code].append(cui)
    above: dict[str, dict[Code, list[Code]]] = {}
    inputs: dict[str, Path] = {}
    for role, path in (("mondo", entry.mondo), ("doid", entry.doid), ("hpo", entry.hpo)):
        if path:
            inputs[role] = Path(path)
            above[role.upper()] = {code_of(key): [code_of(p) for p in parents] for key, parents in _is_a(path)}
    for name, other in entry.others.items():
        inputs[f"others_{name}"] = Path(other.path)
        above[name] = {_own(name, key): [_own(name, p) for p in parents] for key, parents in _is_a(other.path)}
    if entry.mesh_names:
        inputs |= {f"mesh_names_{i}": Path(path) for i, path in enumerate(entry.mesh_names)}
        above["MSH"] = mesh_parents(mesh.mesh_rows(entry.mesh_names))
    rows: set[tuple[str, str, str]] = set()
    for source, parents in above.items():
        for code in parents:
            for cui in concepts.get(code, ()):
                rows.update((cui, parent, source) for parent in nearest(code, parents, concepts) if parent != cui)
    listed = [{"cui": cui, "parent": parent, "source": source} for cui, parent, source in rows]
    return Found(tables.build(tables.PARENTS, listed), inputs, {"terms": {source: len(parents) for source, parents in above.items()}})


def _own(name: str, key: str) -> Code:
    return name, key.partition(":")[2] or key


def _is_a(path: str) -> Iterator[tuple[str, Iterable[str]]]:
    """Each live term of an ontology and its direct parents."""
    if not is_term_list(path):
        for term in read_terms(path):
            if not term.obsolete:
                yield term.id, term.parents
        return
    from mentionforge.kb.ontologies.shared import reading

    with reading(path) as handle:
        data = json.load(handle)
        if isinstance(data, dict):  # Mondo: ancestors with their distance
            for key, term in data.items():
                if not term["deprecated"]:
                    yield key, [parent for parent, distance in term["ancestors"].items() if distance == 1]
        else:
            for term in data:
                yield term["id"], term.get("relations", {}).get("is_a", [])


def mesh_parents(rows: Mapping[str, tuple[str, str, str]]) -> dict[Code, list[Code]]:
    """Parents of MeSH records: the heading of the tree number without its last part, or the headings that a supplementary record is mapped to.

    Args:
        rows: Name, synonyms, and tree numbers (`|`) or headings (`,`) of each record.
    """
    from mentionforge.kb.ontologies.mesh import MESH_DISEASES

    at: dict[str, str] = {}
    for code, (_, _, last) in rows.items():
        if code.startswith("D"):
            at.update((number, code) for number in last.split("|") if MESH_DISEASES.match(number))
    found: dict[Code, list[Code]] = defaultdict(list)
    for number, code in at.items():
        higher = number.rpartition(".")[0]
        found["MSH", code] += [("MSH", at[higher])] if higher in at else []
    for code, (_, _, last) in rows.items():
        if not code.startswith("D"):
            found["MSH", code] += [("MSH", heading.strip("* ")) for heading in last.split(",") if heading.strip("* ")]
    return found


def nearest(code: Code, parents: Mapping[Code, Iterable[Code]], concepts: Mapping[Code, Iterable[str]]) -> set[str]:
    """The concepts nearest above a term: of its parents, or where a parent has none, of those above it."""
    found: set[str] = set()
    seen, waiting = {code}, list(parents.get(code, ()))
    while waiting:
        parent = waiting.pop()
        if parent in seen:
            continue
        seen.add(parent)
        if own := concepts.get(parent):
            found.update(own)
        else:
            waiting.extend(parents.get(parent, ()))
    return found


# -------------------------------------------------------------------------------------------------------------- UMLS release


def of_release(entry: RrfKb, cuis: pa.ChunkedArray) -> Found:
    """Parents by MRREL of a release.

    Args:
        entry: The entry.
        cuis: The concepts of the knowledge base.

    Raises:
        UserError: The release is unreadable, or a row of MRREL has another number of fields than the first, or is not UTF-8.
    """
    import duckdb

    from mentionforge.kb.rrf.files import INCOMPLETE, declared_columns, is_cui
    from mentionforge.kb.rrf.passes import MEMORY, THREADS, literals, sieved
    from mentionforge.kb.rrf.release import open_release
    from mentionforge.kb.rrf.sieve import ByCui

    nothing = tables.build(tables.PARENTS, [])
    with tempfile.TemporaryDirectory(prefix="mentionforge-kb-") as folder, duckdb.connect() as db:
        scratch = Path(folder)
        release = open_release(Path(entry.path), ("MRCONSO", "MRFILES", "MRREL"), scratch)
        if "MRREL" not in release.members:
            return Found(nothing, {}, {}, "MRREL.RRF is not in the release")
        member = release.members["MRREL"]
        columns = declared_columns(release, "MRREL")
        first = next(member.lines(), b"")
        if lacking := [column for column in NEEDED if column not in columns]:
            return Found(nothing, {}, {}, f"MRREL.RRF has no column {', '.join(lacking)}")
        if first and len(first.split(b"|")) - 1 != len(columns):
            return Found(nothing, {}, {}, f"MRREL.RRF has {len(first.split(b'|')) - 1} columns, not {len(columns)}")
        numbers = np.array([int(cui[1:]) for cui in cuis.to_pylist() if is_cui(cui)], np.int64)
        rows: dict[str, int] = {}
        db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {THREADS}; SET temp_directory = '{folder}/duckdb'; SET preserve_insertion_order = false")
        db.execute("SET enable_progress_bar = false")
        file = sieved(release, "MRREL", ByCui(numbers) if columns[0] == "CUI1" else None, scratch, rows, columns)
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
        found = (
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
        funnel = {"rows": rows["MRREL"], "hierarchical, of a concept": hierarchical, "suppressed": suppressed, "within one concept": same}
        return Found(found, {role: path for role, path in release.inputs.items() if role in ("MRREL", "zip")}, funnel)
