"""Native concept ids: each term of the ontologies is a concept under its own id (HP:0001250, MONDO:0007739, ORPHA:399).

In: terms by ontology, in order of preference, exact matches, and the records of MeSH. Out: concepts and codes in a `ConceptMerger`. CUIs become codes.
Knows nothing of how an ontology is published.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mentionforge.kb.sources.ontologies import OntologyKb, mesh
from mentionforge.kb.sources.ontologies.mondo import MondoMatches
from mentionforge.kb.sources.ontologies.published import Code, code_of
from mentionforge.kb.sources.ontologies.shared import Term

if TYPE_CHECKING:
    from mentionforge.kb.sources.ontologies.merge import ConceptMerger

PREFIXES = {"HPO": "HP:", "ORPHANET": "ORPHA:", "MSH": "MESH:", "SNOMEDCT_US": "SNOMEDCT:", "UMLS": ""}
"""Prefix of a concept id by vocabulary; of other vocabularies their name and a colon. CUIs have none."""

MESH_TYPES = {"C04": "T191", "C26": "T037", "F03": "T048"}
"""UMLS semantic type by MeSH tree; T047 in the others."""


def concept_id(code: Code) -> str:
    """The concept id of a term: ("HPO", "0001250") is HP:0001250."""
    return f"{PREFIXES.get(code[0], f'{code[0]}:')}{code[1]}"


def add(
    kb: ConceptMerger,
    entry: OntologyKb,
    ontologies: Sequence[Sequence[Term]],
    matches: Sequence[tuple[Code, Code]],
    mondo: MondoMatches,
    records: Mapping[str, mesh.MeshRecord],
    drops: Counter[str],
) -> None:
    """Add every term as a concept of its own.

    With `merge_matches`, a term that matches exactly one concept of earlier ontologies joins it; one that matches several stays a concept. Diseases of
    MeSH are terms, too; with `merge_matches` only those that have no map and, with `mesh_name_match`, no known name.
    A code that is a term's own id maps to that term's concept alone. Other codes: CUIs and cross-references of terms, former ids, and exact matches.

    Args:
        kb: The concepts; updated in place.
        entry: The kbs entry.
        ontologies: Terms of each ontology, in order of preference.
        matches: Exact matches of the `sssom` files.
        mondo: Exact matches of Mondo.
        records: MeSH records by id.
        drops: Counts by reason; updated in place.
    """
    join = entry.merge_matches
    matches = [*matches, *_matches_of_mondo(mondo)]
    matched: dict[Code, set[Code]] = defaultdict(set)
    for a, b in matches:
        matched[a].add(b)
        matched[b].add(a)
    concept_of: dict[Code, str] = {}
    all_terms = [*ontologies, [] if join else mesh_terms(records)]
    for terms in all_terms:
        own: dict[Code, str] = {}
        for term in terms:
            term.codes |= {("UMLS", cui) for cui in term.cuis} - {term.id}
            others = {concept_of[code] for code in matched[term.id] if code in concept_of} if join else set()
            if len(others) > 1:
                drops[f"{term.id[0]}: term with exact matches to several concepts, not joined"] += 1
            own[term.id] = others.pop() if len(others) == 1 else concept_id(term.id)
            term.cuis = {own[term.id]}
        concept_of |= own  # only now: terms of one ontology do not join each other
    for code, concept in sorted(concept_of.items()):
        kb.add_code(code, {concept}, "id", drops)
    for terms in all_terms:
        for term in sorted(terms, key=lambda t: t.id):
            term.cuis = {concept_of[term.id]}
            kb.add(term, drops)
    for pair in matches:
        for code, other in (pair, pair[::-1]):
            if other in concept_of and code not in concept_of:
                kb.add_code(code, {concept_of[other]}, "sssom", drops)
    if join:
        kb.add_mesh(records, entry.mesh_name_match, Counter())  # what it would drop becomes a concept below
        for term in mesh_terms({code: record for code, record in records.items() if ("MSH", code) not in kb.codes}):
            term.cuis = {concept_id(term.id)}
            kb.add(term, drops)


def _matches_of_mondo(mondo: MondoMatches) -> Iterable[tuple[Code, Code]]:
    """Mondo's exact matches to vocabularies other than UMLS, whose CUIs its terms have already."""
    for target in ("DOID", "OMIM", "OMIMPS", "MSH"):
        for mondo_id, code in mondo.pairs(target):
            yield code_of(mondo_id), code_of(f"{target}:{code}")


def mesh_terms(records: Mapping[str, mesh.MeshRecord]) -> list[Term]:
    """The diseases of MeSH as terms, sorted by id. The types of a supplementary record are those of its headings."""

    def types(record: mesh.MeshRecord) -> set[str]:
        if record.code.startswith("D"):
            return {MESH_TYPES.get(tree[:3], "T047") for tree in record.placement.split("|") if mesh.MESH_DISEASES.match(tree)}
        headings = (records.get(heading.strip("* ")) for heading in record.placement.split(","))
        return set().union(*(types(heading) for heading in headings if heading is not None and heading.disease))

    terms = []
    for code, record in sorted(records.items()):
        if record.disease:
            id_: Code = ("MSH", code)
            terms.append(Term(id_, record.names(), types(record) or {"T047"}, via="mesh"))
    return terms
