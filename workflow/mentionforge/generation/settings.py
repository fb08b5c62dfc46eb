"""Settings of the steps that generators share: selection of concepts, fine-tuning, sampling, location.

In: settings within an entry of `generators`. Out: their models, and which settings each spec file holds. Knows nothing about kinds of generators and backends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mentionforge.entries import Entry


class Concepts(Entry):
    """Which concepts of the knowledge base a generator writes about."""

    require_definition: bool = Field(False, description="Only concepts with a definition (as in the paper).")
    semantic_types: tuple[str, ...] = Field((), examples=[["T047", "T191"]], description="Only these semantic types; empty: all.")
    xrefs: tuple[str, ...] = Field((), description="Only concepts with a code in one of these vocabularies (MSH, OMIM, …); empty: all.")
    sources: tuple[str, ...] = Field((), examples=[["SNOMEDCT_US"]], description="Only concepts that one of these source vocabularies names; empty: all.")
    cuis: str | None = Field(None, examples=["concepts.txt"], description="Text file with one CUI per line (# begins a comment): only these concepts.")
    max_names: int | None = Field(None, ge=1, examples=[2], description="Rarity: only concepts with at most this many distinct names.")
    corpus: str | None = Field(None, examples=["demo_ncbi"], description="Corpus whose training mentions max_train_mentions counts.")
    max_train_mentions: int | None = Field(
        None, ge=0, examples=[0], description="Rarity: only concepts with at most this many mentions in the training split of corpus; 0: those it lacks."
    )
    max: int | None = Field(None, ge=1, description="At most this many concepts, sampled with the seed; none: all.")
    seed: int = Field(13, description="Seed of the sample.")

    @model_validator(mode="after")
    def _corpus_and_limit(self) -> Concepts:
        if (self.corpus is None) != (self.max_train_mentions is None):
            raise ValueError("corpus and max_train_mentions go together")
        return self


class Lora(Entry):
    """Low-rank adapter; defaults are the paper's."""

    r: int = Field(64, ge=1, description="Rank.")
    alpha: float = Field(16, gt=0, description="Scaling.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on the adapter's input.")
    targets: tuple[str, ...] = Field(("q_proj", "k_proj", "v_proj", "o_proj"), description="Projections that get an adapter.")


class Finetune(Entry):
    """QLoRA fine-tuning on the training split of a corpus.

    Defaults of the adapter, quantization, compute_dtype, batch_size, scheduler, gradient_checkpointing, max_tokens and context_sentences
    are the paper's. Its text gives no learning rate, no epochs and no warm-up: those defaults are ours.
    """

    corpus: str = Field(description="Corpus whose training split gives the pairs; test and dev never do.")
    context_sentences: int = Field(2, ge=0, description="Sentences kept on either side of the mention's sentence.")
    max_pairs: int | None = Field(None, ge=1, examples=[1000], description="At most this many pairs, sampled with the seed.")
    quantization: Literal["nf4", "none"] = Field("nf4", description="4-bit NormalFloat, or full precision.")
    double_quantization: bool = Field(False, description="Quantize the scales of the 4-bit blocks too: 0.4 bits less per parameter.")
    compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Type of the computation. GPUs without bfloat16 take float16 with loss scaling, CPUs without fast bfloat16 float32."
    )
    lora: Lora = Field(Lora())
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate; the authors' code was published with 1e-5.")
    scheduler: Literal["cosine", "linear", "constant"] = Field("cosine", description="Learning-rate schedule.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps that warm up.")
    batch_size: int = Field(4, ge=1, description="Pairs per device and step.")
    gradient_accumulation: int = Field(1, ge=1, description="Steps per update.")
    gradient_checkpointing: bool = Field(True, description="Recompute activations to save memory.")
    epochs: float = Field(1.0, gt=0, description="Passes over the pairs, unless max_steps is given; the authors' code was published with 3.")
    max_steps: int | None = Field(None, ge=1, description="Number of updates; overrides epochs.")
    max_tokens: int = Field(2048, ge=16, description="Prompt and completion together; a longer completion is cut, and its end is not learned.")
    eval_share: float = Field(0.0, ge=0, lt=1, description="Share of the training documents held out to measure the loss on; their pairs are not trained on.")
    eval_steps: Annotated[int, Field(ge=1)] | Literal["epoch"] = Field(
        50, description="Updates between two measurements of that loss; epoch: one after each pass over the pairs."
    )
    checkpoint_steps: int = Field(50, ge=1, description="Updates between two checkpoints, from which a killed job goes on.")
    devices: int = Field(
        1, ge=1, description="Processes that share each update, one per GPU; an update sees batch_size x gradient_accumulation x devices pairs."
    )
    seed: int = Field(13, description="Seed of the adapter and of the order.")


class Examples(Entry):
    """Examples in each prompt, drawn from the training split of a corpus."""

    corpus: str = Field(description="Corpus whose training split gives the examples; test and dev never do.")
    n: int = Field(5, ge=1, description="Examples in a prompt; the authors' number. None is of the prompt's own concept.")
    context_sentences: int = Field(2, ge=0, description="Sentences kept on either side of the mention's sentence.")
    max_pairs: int | None = Field(
        None, ge=1, examples=[1000], description="Draw from at most this many, sampled with the seed; none: all of the training split."
    )
    seed: int = Field(13, description="Seed of the draws; each note has draws of its own.")


class Sampling(Entry):
    """Sampling; temperature, top_p and max_new_tokens are by default those of the base model LLaMA-2, with 256 new tokens, as in the paper."""

    temperature: float = Field(0.9, gt=0, description="Softmax temperature.")
    top_p: float = Field(0.6, gt=0, le=1, description="Nucleus.")
    repetition_penalty: float = Field(1.0, ge=1, description="Penalty of tokens already written.")
    max_new_tokens: int = Field(256, ge=1, description="Longest note, in tokens.")
    batch_size: int | None = Field(None, ge=1, description="Notes written at a time; none: 48 on a CPU, 16 on a GPU.")
    seed: int = Field(13, description="Seed; each note draws from a stream of its own.")
    quantization: Literal["auto", "nf4", "none"] = Field(
        "auto",
        description="Weights while sampling, backend transformers: nf4 (4 bits, the adapter beside them, as the paper's code sampled), none (full, the adapter "
        "merged), auto (none where weights and a batch fit into the device's memory, else nf4; the log says which).",
    )
    double_quantization: bool = Field(False, description="With nf4: quantize the scales too. Saves some 0.4 bits per parameter.")

    def rows(self, device: str) -> int:
        """Notes written at a time on a device, `cpu` or `cuda`."""
        return self.batch_size or (48 if device == "cpu" else 16)


class Locate(Entry):
    """How mentions are found in a note: the model's tags, then exact and synonym, then fuzzy matching."""

    fuzzy_min_length: int = Field(6, ge=4, description="Shorter names match only exactly.")
    fuzzy_score: float = Field(
        88, ge=50, le=100, description="Least similarity of a fuzzy match, per cent of the name's length; from half a slip up, one slip is allowed."
    )
    max_tag_tokens: int = Field(12, ge=1, description="A tagged stretch longer than this is no mention.")
    tag_similarity: float | None = Field(
        None,
        gt=0,
        le=1,
        examples=[0.7],
        description="Least cosine to a name of the concept, by the generator's encoder, at which any tagged stretch is a mention; none: never.",
    )


FRAME = "Instruction: {prompt}\nNote: {note}"
"""Text around a prompt and its note for models without a chat template."""


_ALL = ("kind", "kb", "model")
_OF_STEPS = {
    "finetune": (*_ALL, "prompt", "prompt_style", "frame", "finetune", "examples"),
    "sampling": (*_ALL, "prompt", "prompt_style", "frame", "sampling", "dtype", "backend"),
    "locate": (*_ALL, "path", "corpus", "locate", "encoder"),
    "filter": (*_ALL, "path", "corpus", "filters", "encoder", "licence", "cite"),
}
_NOT_OF_PROMPTS = {"finetune", "sampling", "dtype", "backend", "locate", "filters", "encoder", "shards", "licensed", "licence", "cite"}

STEPS = ("prompts", *_OF_STEPS)
"""Steps of a generator. Each has a spec file of its own, so that, for example, a new temperature does not repeat the fine-tuning."""


def settings_of_step(step: str, names: Iterable[str]) -> set[str]:
    """Names of the settings in the spec file of a step. What no other step reads belongs to `prompts`, so that settings of a new kind reach its job.

    Args:
        step: One of `STEPS`.
        names: Names of all settings of the generator.
    """
    return set(names) - _NOT_OF_PROMPTS if step == "prompts" else set(_OF_STEPS[step]) & set(names)
