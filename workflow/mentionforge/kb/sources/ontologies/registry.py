"""The ontologies, one module each, in order of preference: the first with a concept sets its preferred name and definition.

In: an `ontologies` entry. Out: terms, parents and files of each ontology. Knows nothing of how they are merged. To add one that `others` cannot describe,
write a module that implements `Ontology`, add its settings to `OntologyKb`, and list it in `ONTOLOGIES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from mentionforge.kb.sources.ontologies import OntologyKb, doid, hpo, mesh, mondo, other
from mentionforge.kb.sources.ontologies.shared import Term, TermParents


class Ontology(Protocol):
    """Interface of a module that reads an ontology."""

    def files(self, entry: OntologyKb) -> Mapping[str, str | None]:
        """Files that the ontology is read from, by role; None where the setting is empty."""

    def terms(self, entry: OntologyKb, mondo_cuis: Mapping[str, set[str]], drops: Counter[str]) -> dict[str, list[Term]]:
        """Terms by name of the ontology; an empty list where the entry does not give it.

        Args:
            entry: The kbs entry.
            mondo_cuis: CUIs of Mondo's exact matches, by Mondo id.
            drops: Counts of terms and synonyms dropped, by reason; updated in place.
        """

    def parents(self, entry: OntologyKb) -> dict[str, TermParents]:
        """Direct parents of its terms, by source as in `tables.PARENTS`; nothing where the entry does not give it."""


ONTOLOGIES: tuple[Ontology, ...] = (mondo, doid, hpo, other, mesh)
