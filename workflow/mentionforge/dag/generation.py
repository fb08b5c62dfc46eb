"""What the rules of generation ask: prompts, fine-tuning, sampling, controls, location and filters."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mentionforge.dag.shared import InputFunction, Paths, Stage, Wildcards


def from_checkout(checkout: Path) -> Callable[[Wildcards], str]:
    """Params function: the program run from this checkout, in an environment that pins other libraries and so cannot install it."""
    return lambda wildcards: f"PYTHONPATH={shlex.quote(str(checkout / 'workflow'))} python -m mentionforge.cli"


class GenerationInputs(Stage):
    """Inputs of the generator in the wildcards, as far as its settings ask for them."""

    def _of(self, wildcards: Wildcards) -> Any:
        """Settings of the generator."""
        return self.config.generators[wildcards.generator]

    @property
    def vllms(self) -> list[str]:
        """Generators whose notes vLLM writes, in an environment of its own."""
        generators: dict[str, Any] = dict(self.config.generators)
        return [name for name, g in generators.items() if g.samples and g.backend.own_environment]

    # ----------------------------------------------------------------------------------------------- prompts and fine-tuning

    def concepts_corpus(self, wildcards: Wildcards) -> Paths:
        """Mentions of the corpus by whose training split a generator chooses its concepts, if it does."""
        corpus = self._of(wildcards).concepts.corpus
        return self.results.corpus(corpus, "mentions.parquet") if corpus else []

    def concepts_list(self, wildcards: Wildcards) -> Paths:
        """The file that lists a generator's concepts, if there is one."""
        return self._of(wildcards).concepts.cuis or []

    def replayed(self, wildcards: Wildcards) -> Paths:
        """The file of a replayed corpus: as it is, or a job that says how to obtain it."""
        g = self._of(wildcards)
        if not g.source:
            return []
        return self.results.missing("generators", wildcards.generator) if g.obtained and not Path(g.source).exists() else str(g.source)

    def finetune_corpus(self, wildcards: Wildcards) -> list[str]:
        """Tables of the corpus whose training split a generator is fine-tuned on."""
        return self.corpus_tables(self._of(wildcards).finetune.corpus)

    # ----------------------------------------------------------------------------------------------------------- notes

    def weights(self, wildcards: Wildcards) -> Paths:
        """The fetched weights of a generator, unless a server writes its notes."""
        weights = self._of(wildcards).weights
        return self.resources.model(weights) if weights else []

    def adapter(self, wildcards: Wildcards) -> Paths:
        """The adapter, for a generator that is fine-tuned."""
        return self.results.generation(wildcards.generator, "adapter") if self._of(wildcards).finetune else []

    def shards(self, wildcards: Wildcards) -> list[str]:
        """All shards of a generator."""
        count = self._of(wildcards).shards
        return [self.results.shard(wildcards.generator, i, count) for i in range(count)]

    # ------------------------------------------------------------------------------------------------- location and filters

    def encoder_of(self, part: str) -> InputFunction:
        """Input function: weights of the encoder, where this part of the generator's settings (locate, filter) needs one."""

        def stamp(wildcards: Wildcards) -> Paths:
            g = self._of(wildcards)
            needed = g.filters.encoder_readers if part == "filter" else g.locate.tag_similarity is not None
            return self.resources.model(g.encoder.model) if needed else []

        return stamp

    def pairs(self, wildcards: Wildcards) -> Paths:
        """The fine-tuning pairs, for a generator whose notes are compared with them."""
        return self.results.generation(wildcards.generator, "pairs.parquet") if self._of(wildcards).filters.pair_readers else []

    def leakage_corpora(self, wildcards: Wildcards) -> list[str]:
        """Documents of the corpora whose test split the notes are compared with."""
        return [self.results.corpus(corpus, "documents.parquet") for corpus in self._of(wildcards).filters.test_corpora]

    def licensed_flag(self, wildcards: Wildcards) -> str:
        """A flag that keeps texts out of the examples, where one of a generator's inputs is licensed."""
        g = self._of(wildcards)
        finetune = getattr(g, "finetune", None)
        corpora = {*g.filters.test_corpora, *({finetune.corpus} if finetune else ())}
        licensed = self.licensed_text(wildcards.generator) or any(self.is_licensed("corpora", corpus) for corpus in corpora)
        return "--licensed" if licensed else ""

    # ------------------------------------------------------------------------------------------------- versions of the code

    def raised_of_chain(self, wildcards: Wildcards) -> list[str]:
        """As `raised`, for the filters of a generator's chain."""
        return self.raised(*(f"filter.{name}" for name, _ in self._of(wildcards).filters.chain()))(wildcards)

    def raised_of_backend(self, wildcards: Wildcards) -> list[str]:
        """As `raised`, for what writes a generator's notes."""
        return self.raised(self._of(wildcards).backend.part)(wildcards)

    def raised_of_control(self, wildcards: Wildcards) -> list[str]:
        """As `raised`, for how the notes of a control are made."""
        return self.raised(self._of(wildcards).notes_part)(wildcards)

    def raised_of_replay(self, wildcards: Wildcards) -> list[str]:
        """As `raised`, for prompts that are read from the notes to replay."""
        g = self._of(wildcards)
        return self.raised(g.prompts_part)(wildcards) if g.source else []
