"""The hierarchy of merged ontologies: each one's own hierarchy, carried over to concepts.

In: an `ontologies` entry, and the cross-references of its knowledge base. Out: direct parents of concepts, a `ParentTable`.
Knows nothing of how an ontology states its hierarchy: the modules in `ONTOLOGIES` read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from mentionforge import tables
from mentionforge.kb.sources.contract import ParentTable
from mentionforge.kb.sources.ontologies import ONTOLOGIES, OntologyKb
from mentionforge.kb.sources.ontologies.published import Code


def read_parents(entry: OntologyKb, xrefs: pa.Table) -> ParentTable:
    """Parents from the ontologies of an entry.

    Mondo, DOID, HPO and `others` give is_a. MeSH gives tree numbers (C and F03); a supplementary record is below the headings that it is mapped to.
    Cross-references turn ids into CUIs. A term without a CUI is skipped: its children become children of the nearest concepts above it.

    Args:
        entry: The entry.
        xrefs: tables.XREFS of the knowledge base.
    """
    concepts: dict[Code, list[str]] = defaultdict(list)
    for source, code, cui in zip(*(xrefs[name].to_pylist() for name in ("source", "code", "cui")), strict=True):
        concepts[source, code].append(cui)
    parents_by_source: dict[str, Mapping[Code, Iterable[Code]]] = {}
    inputs: dict[str, Path] = {}
    for ontology in ONTOLOGIES:
        for source, own in ontology.parents(entry).items():
            parents_by_source[source] = own.parents
            inputs |= {role: Path(path) for role, path in own.files.items()}
    rows: set[tuple[str, str, str]] = set()
    for source, parents in parents_by_source.items():
        for code in parents:
            for cui in concepts.get(code, ()):
                rows.update((cui, parent, source) for parent in nearest_concepts(code, parents, concepts) if parent != cui)
    records = [{"cui": cui, "parent": parent, "source": source} for cui, parent, source in rows]
    return ParentTable(tables.build(tables.PARENTS, records), inputs, {"terms": {source: len(parents) for source, parents in parents_by_source.items()}})


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
