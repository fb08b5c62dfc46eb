"""The ontologies that give terms, in order of preference: the first with a concept sets its preferred name and definition.

To add an ontology that `others` cannot describe, write a module that implements `Ontology`, add its settings to `OntologyKb`, and list it in `ONTOLOGIES`.
MeSH is not listed: it only adds names to concepts of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from mentionforge.kb.ontologies import doid, hpo, mondo, other
from mentionforge.kb.ontologies.shared import Term
from mentionforge.kb.settings import OntologyKb


class Ontology(Protocol):
    """Interface of a module that reads an ontology."""

    def files(self, entry: OntologyKb) -> dict[str, str | None]:
        """Files that the ontology is read from, by role; None where the setting is empty."""

    def terms(self, entry: OntologyKb, mondo_cuis: Mapping[str, set[str]], drops: Counter[str]) -> dict[str, list[Term]]:
        """Terms by name of the ontology; an empty list where the entry does not give it.

        Args:
            entry: The kbs entry.
            mondo_cuis: CUIs of Mondo's exact matches, by Mondo id.
            drops: Counts of terms and synonyms dropped, by reason; updated in place.
        """


ONTOLOGIES: tuple[Ontology, ...] = (mondo, doid, hpo, other)
