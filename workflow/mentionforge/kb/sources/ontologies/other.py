"""Read further ontologies, `others` of an entry: Orphanet's, or one of your own.

In: an `ontologies` entry. Out: the terms below the roots that are not obsolete, with the CUIs and codes of their own cross-references;
parents of all terms. Knows nothing of Mondo, the Disease Ontology and HPO, nor of how terms are merged.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.kb.sources.ontologies.contract import OntologySettings
from mentionforge.kb.sources.ontologies.published import Code, code_of, read_terms
from mentionforge.kb.sources.ontologies.shared import (
    CODED,
    Term,
    TermParents,
    exact_and_related_names,
    further_codes,
    lineages,
    own_cuis,
    published_parents,
    single_spaced,
)

if TYPE_CHECKING:
    from mentionforge.kb.sources.ontologies.mondo import MondoMatches

VERSION = 1
"""Version of the part ontology.other; raise it if earlier results would be wrong (mentionforge.versions)."""


class OtherOntology(Entry):
    """An ontology besides Mondo, the Disease Ontology and HPO: Orphanet's, or one of your own."""

    path: str = Field(examples=["ordo.owl"], description="OBO, OBO Graphs JSON or RDF/XML OWL; may be .gz or .zst.")
    roots: tuple[str, ...] = Field((), examples=[["ORPHA:377788"]], description="Ids of the terms whose branches are kept (the disease branch); empty: all.")
    semantic_type: str = Field("T047", pattern=r"^T\d{3}$", description="UMLS semantic type of its concepts.")


class OtherOntologies(OntologySettings):
    """Settings of further ontologies, by vocabulary name."""

    others: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], OtherOntology] = Field(
        default_factory=dict,
        examples=[{"ORPHANET": {"path": "ordo.owl"}}],
        description="Further ontologies by vocabulary name (ORPHANET, …), in order of preference after HPO.",
    )


def files(settings: OtherOntologies) -> dict[str, str | None]:
    """Files that the ontologies are read from, by role."""
    return {f"others_{name}": ontology.path for name, ontology in settings.others.items()}


def terms(settings: OtherOntologies, mondo: MondoMatches, drops: Counter[str]) -> dict[str, list[Term]]:
    """Terms by name of the ontology."""
    return {name: _terms(name, ontology, drops, settings.ids == "native") for name, ontology in settings.others.items()}


def parents(settings: OtherOntologies) -> dict[str, TermParents]:
    """Direct parents of all terms, by name of the ontology."""
    native = settings.ids == "native"
    return {
        name: TermParents({f"others_{name}": ontology.path}, published_parents(ontology.path, partial(_code, name, native)))
        for name, ontology in settings.others.items()
    }


def _code(name: str, native: bool, key: str) -> Code:
    """Code of a term: its id without prefix, in the vocabulary that the entry names; with native ids, in that of the prefix, if there is one."""
    return code_of(key) if native and ":" in key else (name, key.partition(":")[2] or key)


def _terms(name: str, ontology: OtherOntology, drops: Counter[str], native: bool) -> list[Term]:
    """The terms of one ontology below its roots that are not obsolete."""
    published = {t.id: t for t in read_terms(ontology.path)}
    lines = lineages({key: t.parents for key, t in published.items()})
    if missing := sorted(set(ontology.roots) - set(published)):
        raise UserError("unknown root", ontology.path, f"{missing[0]} is no term of it", f"correct roots of {name}")
    if retired := sorted(root for root in ontology.roots if published[root].obsolete):
        raise UserError("obsolete root", ontology.path, f"{retired[0]} is obsolete, and no term is below it", f"correct roots of {name}")
    terms = []
    for key, term in published.items():
        if term.obsolete:
            drops[f"{name}: obsolete term"] += 1
        elif ontology.roots and lines[key].isdisjoint(ontology.roots):
            drops[f"{name}: not below the roots"] += 1
        else:
            codes = further_codes(term, CODED) if native else {code for code in map(code_of, term.xrefs) if code[0] in CODED}
            terms.append(
                Term(
                    _code(name, native, key),
                    exact_and_related_names(term, name, drops),
                    {ontology.semantic_type},
                    single_spaced(term.definition),
                    own_cuis(term),
                    name.lower(),
                    codes,
                )
            )
    return terms
