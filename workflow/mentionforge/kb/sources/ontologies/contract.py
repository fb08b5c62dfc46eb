"""The contract of an ontology: the functions that its module defines beside its settings.

In: an `ontologies` entry. Out: terms, parents and files of one ontology. Knows no ontology, nor how terms are merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from mentionforge.entries import Entry

if TYPE_CHECKING:
    from mentionforge.kb.sources.ontologies import OntologyKb
    from mentionforge.kb.sources.ontologies.mondo import MondoMatches
    from mentionforge.kb.sources.ontologies.shared import Term, TermParents


class OntologySettings(Entry):
    """Settings that every ontology reads: what its concepts are named by. Base of the settings of each."""

    ids: Literal["umls", "native"] = Field(
        "umls",
        exclude_if=lambda ids: ids == "umls",  # specs written before there was a choice stay as they are
        description="Concept ids. umls: CUIs; terms without one are dropped. native: the ids of the ontologies (HP:0001250); every term is a concept.",
    )
    merge_matches: bool = Field(
        False, exclude_if=lambda merge: not merge, description="With native ids: join a term to the one term of an earlier ontology that it matches exactly."
    )


class Ontology(Protocol):
    """Interface of a module that holds an ontology: a class of settings, `VERSION`, and these functions."""

    def files(self, settings: OntologyKb) -> Mapping[str, str | None]:
        """Files that the ontology is read from, by role; None where the setting is empty."""

    def terms(self, settings: OntologyKb, mondo: MondoMatches, drops: Counter[str]) -> dict[str, list[Term]]:
        """Terms by name of the ontology; an empty list where the entry does not give it.

        Args:
            settings: The kbs entry.
            mondo: Exact matches of Mondo.
            drops: Counts of terms and synonyms dropped, by reason; updated in place.
        """

    def parents(self, settings: OntologyKb) -> dict[str, TermParents]:
        """Direct parents of its terms, by source as in `tables.PARENTS`; nothing where the entry does not give it."""
