"""Settings of the kind `llm`, a causal language model, and the base of all kinds whose notes a language model writes.

In: an entry of `generators`. Out: its model, and what rules, costs and cards ask of it. Knows nothing of how it is fine-tuned (`generation/finetune.py`)
and sampled (`generation/sample.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.errors import UserError
from mentionforge.generation.backends import Backend
from mentionforge.generation.backends.static import TransformersBackend
from mentionforge.generation.filters import Filters
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.prompt_settings import NamedPrompt, Prompt, named, prompt_then_note
from mentionforge.generation.settings import FRAME, Concepts, Finetune, Locate, Sampling
from mentionforge.generation.shipped_prompts import SHIPPED


class SampledSettings(GeneratorSettings):
    """Base of the settings of generators whose notes a language model writes."""

    writes_in_shards: ClassVar[bool] = True
    notes_part: ClassVar[str] = "generation.sample"

    kind: str
    kb: str = Field(description="Knowledge base whose concepts are prompted.")
    model: str | None = Field(None, description="Model entry with the weights; none where a server writes the notes.")
    prompt: NamedPrompt = Field("instruction", description="Entry of prompts: what the model is asked about each concept.")
    prompt_style: Literal["chat", "plain"] = Field("chat", description="The tokenizer's chat template, or the text of frame; else the prompt's style.")
    frame: Annotated[str, AfterValidator(prompt_then_note)] = Field(
        FRAME,
        description="With prompt_style plain: the text around a prompt and its note, for fine-tuning and sampling; holds {prompt} once and ends with {note}.",
    )
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int = Field(1, ge=1, description="Notes written for each concept.")
    sampling: Sampling = Field(Sampling())
    backend: Backend = Field(TransformersBackend(), description="What writes the notes.")
    locate: Locate = Field(Locate())
    encoder: NoteEncoder | None = Field(None, description="Encoder of locate.tag_similarity and filters.agreement.")
    filters: Filters = Field(Filters())
    shards: int = Field(1, ge=1, description="Jobs that the prompts are spread over.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="Type of the weights while sampling, with nf4 of the computation; auto: bfloat16 where the device is fast with it, else float16, which on a CPU "
        "(x86) only holds the weights, computed with in float32.",
    )

    if TYPE_CHECKING:

        @property
        def finetune(self) -> Finetune | None:
            """Settings of the fine-tuning, or none."""

    @property
    def asked(self) -> Prompt:
        """The entry of `prompts`."""
        return self.prompt if isinstance(self.prompt, Prompt) else SHIPPED[self.prompt]

    def with_prompt(self, key: str, prompts: Mapping[str, Prompt]) -> Self:
        """With the entry, and with its style and frame unless the generator gives its own."""
        prompt = named(key, self.prompt, prompts)
        if prompt.template is None:
            raise UserError("unfit prompt", f"{key}.prompt", f"{self.prompt} holds sentences for generators of kind template", "name one with a template")
        usual = str(type(self).model_fields["prompt"].default)
        default = self.prompt == usual and prompt == SHIPPED[usual]
        settings = prompt.asked_for(self.prompt_style, self.frame, self.model_fields_set)
        return self.model_copy(update=settings if default else {**settings, "prompt": prompt})

    @property
    def longest_note(self) -> int:
        """Tokens of the longest note, by the settings of sampling."""
        return self.sampling.max_new_tokens

    @property
    def tuning(self) -> Finetune | None:
        """As `finetune` says."""
        return self.finetune

    @property
    def writer(self) -> tuple[Sampling, Backend]:
        """`sampling` and `backend`."""
        return self.sampling, self.backend

    @property
    def weights(self) -> str | None:
        """Its model, unless a server holds the weights."""
        return self.model if self.backend.loads_weights else None

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Its model."""
        if self.model:
            yield "model", "models", self.model

    @classmethod
    def how_made(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """Model, fine-tuning and sampling."""
        backend, sampling, tuned = settings.get("backend", {}), settings.get("sampling", {}), settings.get("finetune")
        lines = [f"- model: `{public_model(settings, base)}`, written by the backend `{backend.get('kind')}`"]
        if tuned:
            lines.append(f"- fine-tuned with QLoRA (r={tuned['lora']['r']}, alpha={tuned['lora']['alpha']:g}) on the training split of `{tuned['corpus']}`")
        lines.append(f"- sampling: {', '.join(f'{key} {value}' for key, value in sorted(sampling.items()))}")
        return lines

    @classmethod
    def licences(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """The model."""
        return [f"- the model `{public_model(settings, base)}`: some licences bind what a model writes"]

    def check(self, key: str) -> None:
        """Check the settings against the backend's demands."""
        self.backend.check(self, key)


class LlmGenerator(SampledSettings):
    """A causal language model, fine-tuned with QLoRA or as it is."""

    kind: Literal["llm"]
    finetune: Finetune | None = Field(None, description="QLoRA fine-tuning; none: the model as it is.")

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Its model, and the corpus that it is fine-tuned on."""
        yield from super().references()
        if self.finetune:
            yield "finetune.corpus", "corpora", self.finetune.corpus

    @classmethod
    def licences(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """The model, and the corpus of the fine-tuning."""
        lines = super().licences(settings, base)
        if tuned := settings.get("finetune"):
            filtered = "ran" if (settings.get("filters") or {}).get("memorization") else "**did not run**"
            lines.append(
                f"- the corpus `{tuned['corpus']}`, on which it was fine-tuned: text of patients may be bound by a data use agreement, which may reach what "
                f"the model writes; the filter `memorization`, which drops long stretches of it, {filtered}"
            )
        return lines


def public_model(settings: Mapping[str, Any], base: str) -> str:
    """Name of the model: the server's, else the adapter's base model, else its entry."""
    return str(settings.get("backend", {}).get("model") or base or settings.get("model"))
