"""The kinds `template` and `names`: controls without a language model, which show what a dictionary of names alone achieves.

In: prompts and the knowledge base. Out: table `notes`. `template` puts a concept's names in turn into the sentences of an entry of `prompts`; `names` writes the bare preferred
name. The notes have no tags; `locate` finds the names. Knows nothing about models and sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.generation.kinds.from_names import NamesGenerator
from mentionforge.generation.prompt_settings import NamedPrompt, Prompt, named
from mentionforge.generation.shipped_prompts import SHIPPED

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept

VERSION = 1
"""Version of the part generation.control: raise it if earlier results would be wrong (mentionforge.versions)."""


class ControlGenerator(NamesGenerator):
    """A control without a language model: `template` puts names into fixed sentences, `names` is the bare preferred name."""

    notes_part: ClassVar[str] = "generation.control"

    kind: Literal["template", "names"]
    notes_per_concept: int = Field(1, ge=1, description="Notes for each concept; more than one uses synonyms in turn (template only).")
    prompt: NamedPrompt = Field("sentences", description="Entry of prompts whose sentences are used (template only).")
    seed: int = Field(13, description="Seed of the choice of sentences.")

    @property
    def sentences(self) -> Prompt:
        """The entry of `prompts`."""
        return self.prompt if isinstance(self.prompt, Prompt) else SHIPPED[self.prompt]

    def with_prompt(self, key: str, prompts: Mapping[str, Prompt]) -> Self:
        """With the entry."""
        prompt = named(key, self.prompt, prompts)
        if not prompt.sentences:
            raise UserError("unfit prompt", f"{key}.prompt", f"{self.prompt} is for language models", "name one with sentences")
        if self.kind == "names" and "prompt" in self.model_fields_set:
            raise UserError("setting without use", f"{key}.prompt", "kind names writes the bare name", "remove it, or choose kind template")
        usual = str(type(self).model_fields["prompt"].default)
        if self.prompt == usual and prompt == SHIPPED[usual]:
            return self
        return self.model_copy(update={"prompt": prompt})

    def note(self, concept: Concept, number: int) -> str:
        """The preferred name, or a sentence with one of the names."""
        return concept.preferred if self.kind == "names" else sentence(self.sentences, concept, number, self.seed)


def sentence(prompt: Prompt, concept: Concept, number: int, seed: int) -> str:
    """Note `number` about a concept. Names and sentences take turns; the seed draws the first sentence."""
    from mentionforge.generation.prompts import seed_of
    from mentionforge.generation.templates import Asked, sentence_text

    first, asked = seed_of(seed, concept.cui), Asked(concept.names, concept.definition, concept.semantic_types)
    return sentence_text(prompt, (first + number) % len(prompt.sentences), asked, concept.names[number % len(concept.names)])
