"""Read the phenotypic abnormalities of the Human Phenotype Ontology.

In: an `ontologies` entry. Out: terms with the CUIs of their own cross-references, and their exact and related synonyms; parents of all terms.
Knows nothing of the other ontologies, nor of how terms are merged.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import Field

from mentionforge.kb.sources.ontologies.contract import OntologySettings
from mentionforge.kb.sources.ontologies.published import code_of, read_terms
from mentionforge.kb.sources.ontologies.shared import (
    CODED,
    Term,
    TermParents,
    exact_and_related_names,
    further_codes,
    lineages,
    own_cuis,
    published_parents,
    semantic_types_of,
    single_spaced,
)

if TYPE_CHECKING:
    from mentionforge.kb.sources.ontologies.mondo import MondoMatches

VERSION = 1
"""Version of the part ontology.hpo; raise it if earlier results would be wrong (mentionforge.versions)."""

HPO_TYPES = {"HP:0002664": "T191", "HP:0025142": "T184"}

PHENOTYPES = "HP:0000118"
"""Root of the phenotypic abnormalities; the other branches of HPO are modifiers, onset, inheritance and the like."""


class HpoSettings(OntologySettings):
    """Settings of the Human Phenotype Ontology."""

    hpo: str | None = Field(None, description="Human Phenotype Ontology as published (OBO, OBO Graphs JSON, OWL).")


def files(settings: HpoSettings) -> dict[str, str | None]:
    """Files that the ontology is read from, by role."""
    return {"hpo": settings.hpo}


def terms(settings: HpoSettings, mondo: MondoMatches, drops: Counter[str]) -> dict[str, list[Term]]:
    """Terms of the phenotypic abnormalities."""
    if not settings.hpo:
        return {"hpo": []}
    published = {t.id: t for t in read_terms(settings.hpo)}
    lines = lineages({key: t.parents for key, t in published.items()})
    phenotypes = []
    for key, term in published.items():
        if term.obsolete or PHENOTYPES not in lines[key] or key == PHENOTYPES:
            drops["HPO: not a phenotypic abnormality"] += 1
            continue
        phenotypes.append(
            Term(
                code_of(key),
                exact_and_related_names(term, "HPO", drops),
                semantic_types_of(lines[key], HPO_TYPES, "T033"),
                single_spaced(term.definition),
                own_cuis(term),
                "hpo",
                further_codes(term, CODED) if settings.ids == "native" else set(),
            )
        )
    return {"hpo": phenotypes}


def parents(settings: HpoSettings) -> dict[str, TermParents]:
    """Direct parents of all terms."""
    return {"HPO": TermParents({"hpo": settings.hpo}, published_parents(settings.hpo))} if settings.hpo else {}
