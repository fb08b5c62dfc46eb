"""The kinds `template` and `names`: controls without a language model, which show what a dictionary of names alone achieves.

In: prompts and the knowledge base. Out: table `notes`. `template` puts a concept's names in turn into fixed sentences; `names` writes the bare preferred
name. The notes have no tags; `locate` finds the names. Knows nothing about models and sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.generation.kinds.from_names import NamesGenerator

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept

VERSION = 1
"""Version of the part generation.control: raise it if earlier results would be wrong (mentionforge.versions)."""


class ControlGenerator(NamesGenerator):
    """A control without a language model: `template` puts names into fixed sentences, `names` is the bare preferred name."""

    notes_part: ClassVar[str] = "generation.control"

    kind: Literal["template", "names"]
    notes_per_concept: int = Field(1, ge=1, description="Notes for each concept; more than one uses synonyms in turn (template only).")
    seed: int = Field(13, description="Seed of the choice of sentences.")

    def note(self, concept: Concept, number: int) -> str:
        """The preferred name, or a sentence with one of the names."""
        return concept.preferred if self.kind == "names" else sentence(concept, number, self.seed)


SENTENCES = (
    "The patient has a history of {name}.",
    "Past medical history is notable for {name}.",
    "She was admitted for evaluation of {name} and was seen by the consult service.",
    "On admission he was found to have {name}, which was treated medically.",
    "Findings are most consistent with {name}; follow-up is arranged.",
    "There is concern for {name}, and further tests were ordered.",
    "Her brother and her mother have {name} as well.",
    "Discharge diagnosis: {name}.",
    "Assessment and plan: {name}, stable on the present treatment.",
    "He denies any symptoms of {name} since the last visit.",
    "Imaging done on the second day raised the question of {name}.",
    "The family was told about {name} and its usual course.",
    "We report a case of {name} in an otherwise healthy adult.",
    "Little is known about the long-term outcome of {name}.",
    "In this cohort, {name} was diagnosed in one of ten participants.",
    "Mutations in two genes were found in families with {name}.",
    "The drug was associated with {name} in a small number of patients.",
    "Early recognition of {name} may change its management.",
)
"""Sentences in the style of clinical notes and abstracts, each with a placeholder for a name."""


def sentence(concept: Concept, number: int, seed: int) -> str:
    """Note `number` about a concept. Names and sentences take turns; the seed draws the first sentence."""
    from mentionforge.generation.prompts import seed_of

    first = seed_of(seed, concept.cui)
    return SENTENCES[(first + number) % len(SENTENCES)].format(name=concept.names[number % len(concept.names)])
