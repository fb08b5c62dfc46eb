"""The kinds `template` and `names`, controls without a language model: what a dictionary alone buys.

`template` puts a concept's names, in turn, into fixed sentences; `names` is the bare preferred name, without context.
Neither has tags: `locate` finds the names as it does in any note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.generation.kinds.from_names import NamesGenerator

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept

VERSION = 1
"""Of the part generation.control: raise it where earlier results would be wrong (mentionforge.versions)."""


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
"""Clinical and abstract sentences, each with one place for a name."""


def sentence(concept: Concept, number: int, seed: int) -> str:
    """The note of that number about a concept: its names in turn, and the sentences in turn from one that the seed draws."""
    from mentionforge.generation.prompts import seed_of

    first = seed_of(seed, concept.cui)
    return SENTENCES[(first + number) % len(SENTENCES)].format(name=concept.names[number % len(concept.names)])
