"""Merge open ontologies by UMLS CUI, or under their own ids, into concepts, names, definitions and cross-references.

In: an `ontologies` entry. Out: its `Extracted`. Knows nothing of how an ontology is published: the modules in `ONTOLOGIES` read them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.concept_forms import CUI
from mentionforge.errors import UserError
from mentionforge.kb.sources.contract import Extracted
from mentionforge.kb.sources.ontologies import ONTOLOGIES, OntologyKb, mesh, native
from mentionforge.kb.sources.ontologies.mondo import MondoMatches
from mentionforge.kb.sources.ontologies.published import Code, exact_matches
from mentionforge.kb.sources.ontologies.shared import Term
from mentionforge.text import normalize_surface

VERSION = 2
"""Version of the part kb.ontologies; raise it if earlier results would be wrong (mentionforge.versions)."""


def read(entry: OntologyKb) -> Extracted:
    """Read and merge the ontologies of an entry.

    Each ontology is read into terms; published maps give a term its CUIs. Mondo and the Disease Ontology are read as published (OBO, OBO
    Graphs JSON, OWL) or from the lists of terms that Python packages ship; all others as published. Rules:
        CUIs        Mondo: its exact matches (SSSOM), or without such files its own UMLS cross-references. DOID: the CUIs of its exact match
                    in Mondo, else its own cross-references. HPO and `others`: their own cross-references. So a disease with different CUIs in
                    Mondo and DOID becomes one concept, not two with the same names. A term without a CUI takes that of an exact match in the
                    `sssom` files, or is dropped and counted. Of several CUIs of a term, `several_cuis` keeps all, the lowest, or none, counted.
        codes       A MeSH or OMIM code maps to concepts by the first map that has it: mondo, doid, others, sssom, mesh-name; all
                    concepts of that map are kept. The ids of the ontologies are codes as well.
        mesh-name   A MeSH disease (trees C and F03, and supplementary records of those headings) without a map is mapped to the
                    concepts that have its heading as a name, else to those that have one of its synonyms (`text.normalize_surface`).
        names       Labels and synonyms of the terms (HPO and others: only exact and related ones), and the names of mapped MeSH records.
        preferred   The label from Mondo, else DOID, else HPO, else the first of the others; among several terms, from the lowest id.
        definitions In the same order; the first is the preferred one.
        types       No ontology gives UMLS semantic types. Mondo and DOID: T191 below neoplasm, T048 below psychiatric disorder,
                    T037 below injury, else T047. HPO: T191 below Neoplasm, T184 below Constitutional symptom, else T033. Others: the
                    entry's `semantic_type`. The type from HPO is used only for concepts that no disease ontology has.

    With `ids: native` every term is a concept under its own id (`native`); names, types and definitions are as above.

    Raises:
        UserError: A file is missing or malformed (with its row), or the map that gives a list of terms its CUIs is missing.
    """
    drops: Counter[str] = Counter()
    mondo = MondoMatches(entry)
    by_ontology = [
        named for ontology in ONTOLOGIES for named in ontology.terms(entry, mondo, drops).items()
    ]  # pairs, not a dict: one of `others` may be called "mondo"
    matches = [
        (f"{path}:{number}", a, b)
        for path in entry.sssom
        for number, a, b in exact_matches(path, lambda _, predicate: drops.update([f"sssom: {predicate}, not an exact match"]))
    ]
    kb = ConceptMerger()
    records = mesh.records(entry.mesh_names)
    if entry.ids == "native":
        native.add(kb, entry, [terms for _, terms in by_ontology], [(a, b) for _, a, b in matches], mondo, records, drops)
    else:
        for _, terms in by_ontology:
            _match_cuis(terms, matches)
            for term in sorted(terms, key=lambda t: t.id):
                _choose_cuis(term, entry.several_cuis, drops)
                kb.add(term, drops)
        kb.add_matches(matches, drops)
        kb.add_mesh(records, entry.mesh_name_match, drops)
    concepts, names, definitions, xrefs = kb.rows()
    inputs: dict[str, str | None] = {}
    for ontology in ONTOLOGIES:
        inputs |= ontology.files(entry)
    inputs |= {f"matches_{i}": path for i, path in enumerate(entry.sssom)}
    funnel = {
        "terms": {**{name: len(terms) for name, terms in by_ontology}, "mesh": len(records)},
        "drops": dict(sorted(drops.items())),
    }
    return Extracted(
        tables.build(tables.CONCEPTS, concepts),
        tables.build(tables.NAMES, names),
        tables.build(tables.DEFINITIONS, definitions),
        tables.build(tables.XREFS, xrefs),
        tables.build(tables.RETIRED, []),
        {role: Path(path) for role, path in inputs.items() if path},
        funnel,
    )


class ConceptMerger:
    """Merges terms into concepts by CUI. Terms are added in order of preference: the first sets a concept's preferred name."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str, str, str], None] = {}
        self.preferred: dict[str, str] = {}
        self.definitions: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)  # source and text, in order of preference
        self.types: dict[str, set[str]] = defaultdict(set)
        self.typed_by: dict[str, str] = {}
        self.codes: dict[Code, tuple[str, set[str]]] = {}

    def add(self, term: Term, drops: Counter[str]) -> None:
        """Add a term's names, definition, types and codes to its concepts."""
        source = term.id[0]
        if not term.cuis:
            drops[f"{source}: term without a CUI"] += 1
            return
        for cui in term.cuis:
            self._name(cui, source, term.names)
            self.preferred.setdefault(cui, term.names[0][0])
            if term.definition:
                self.definitions[cui][source, term.definition] = None
            if self.typed_by.setdefault(cui, source) == source or source != "HPO":
                self.types[cui] |= term.types
        self.add_code(term.id, term.cuis, term.via, drops)
        for code in sorted(term.codes):
            self.add_code(code, term.cuis, source.lower(), drops)

    def add_matches(self, matches: Iterable[tuple[str, Code, Code]], drops: Counter[str]) -> None:
        """Map MeSH and OMIM codes to the concepts of their exact matches: a CUI, or a term that has one."""
        for _, *pair in matches:
            for code, other in (pair, pair[::-1]):
                if code[0] not in ("MSH", "OMIM"):
                    continue
                cuis = {other[1]} & self.preferred.keys() if other[0] == "UMLS" else self.codes.get(other, ("", set()))[1]
                if cuis and other[0] not in ("MSH", "OMIM"):
                    self.add_code(code, set(cuis), "sssom", drops)

    def add_mesh(self, records: Mapping[str, mesh.MeshRecord], match: bool, drops: Counter[str]) -> None:
        """Map diseases of MeSH that have no map by their names, and add the names of all mapped MeSH records."""
        bearers: dict[str, set[str]] = defaultdict(set)
        for cui, name, _, _ in self.names:
            bearers[normalize_surface(name)].add(cui)
        nobody: set[str] = set()
        for code, record in sorted(records.items()):
            if ("MSH", code) not in self.codes:
                if not (match and record.disease):
                    continue
                heading, *synonyms = (bearers.get(normalize_surface(name), nobody) for name, _ in record.names())
                cuis = heading or set().union(*synonyms)
                if not cuis:
                    drops["MSH: disease without a map or a known name"] += 1
                    continue
                self.add_code(("MSH", code), cuis, "mesh-name", drops)
            for cui in self.codes["MSH", code][1]:
                self._name(cui, "MSH", record.names())

    def _name(self, cui: str, source: str, names: Iterable[tuple[str, str]]) -> None:
        for name, kind in names:
            self.names[cui, name, source, kind] = None

    def add_code(self, code: Code, cuis: set[str], via: str, drops: Counter[str]) -> None:
        """Map a code to concepts. The first map that has it decides; other concepts by later maps are counted."""
        first, known = self.codes.setdefault(code, (via, set()))
        if first == via:
            known |= cuis
        elif not cuis <= known:
            drops[f"{code[0]}: code's other concepts by {via}, after {first}"] += 1

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of concepts, names, definitions and xrefs."""
        definitions_of = {cui: list(self.definitions.get(cui, ())) for cui in self.preferred}
        concepts = [
            {
                "cui": cui,
                "preferred_name": name,
                "definition": definitions_of[cui][0][1] if definitions_of[cui] else None,
                "semantic_types": sorted(self.types[cui]),
            }
            for cui, name in self.preferred.items()
        ]
        definitions = [
            {"cui": cui, "rank": rank, "source": source, "definition": text}
            for cui, texts in definitions_of.items()
            for rank, (source, text) in enumerate(texts, start=1)
        ]
        names = [
            {"cui": cui, "name": name, "source": source, "term_type": kind, "preferred": name == self.preferred[cui]} for cui, name, source, kind in self.names
        ]
        xrefs = [{"source": source, "code": code, "cui": cui, "via": via} for (source, code), (via, cuis) in self.codes.items() for cui in cuis]
        return concepts, names, definitions, xrefs


def _match_cuis(terms: Iterable[Term], matches: Iterable[tuple[str, Code, Code]]) -> None:
    """Give terms without a CUI the CUIs of their exact matches."""
    cuis: dict[Code, set[str]] = defaultdict(set)
    for where, *pair in matches:
        for code, other in (pair, pair[::-1]):
            if other[0] == "UMLS":
                if not CUI.fullmatch(other[1]):
                    raise UserError("wrong CUI", where, f"{other[1]!r} is none", "a CUI is C and seven digits")
                cuis[code].add(other[1])
    for term in terms:
        if not term.cuis and term.id in cuis:
            term.cuis, term.via = set(cuis[term.id]), "sssom"


def _choose_cuis(term: Term, policy: str, drops: Counter[str]) -> None:
    if len(term.cuis) > 1 and policy != "all":
        drops[f"{term.id[0]}: term with several CUIs, {'the lowest kept' if policy == 'lowest' else 'left out'}"] += 1
        term.cuis = {min(term.cuis)} if policy == "lowest" else set()
