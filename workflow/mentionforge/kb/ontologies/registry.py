"""The ontologies that terms are read from, in order of preference: a concept has its preferred name and definition from the first.

A new ontology that entries of `others` cannot describe: its module, as `Ontology` says, its settings in `OntologyKb`, and one member of `ONTOLOGIES`.
MeSH is none of them: it gives names to concepts that the others know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from mentionforge.kb.ontologies import doid, hpo, mondo, other
from mentionforge.kb.ontologies.shared import Term
from mentionforge.kb.settings import OntologyKb


class Ontology(Protocol):
    """What a module of an ontology must offer."""

    def files(self, entry: OntologyKb) -> dict[str, str | None]:
        """The files that it is read from, by role; none: not given."""

    def terms(self, entry: OntologyKb, mondo_cuis: Mapping[str, set[str]], drops: Counter[str]) -> dict[str, list[Term]]:
        """Terms by name of the ontology, none where the entry does not give it.

        Args:
            entry: The entry.
            mondo_cuis: CUIs by Mondo's exact matches, by Mondo's id.
            drops: Where terms and synonyms that are left out are counted.
        """


ONTOLOGIES: tuple[Ontology, ...] = (mondo, doid, hpo, other)
