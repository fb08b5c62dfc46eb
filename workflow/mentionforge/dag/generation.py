"""Inputs of the rules of generation: prompts, fine-tuning, sampling, controls, location and filters.

In: the configuration, and wildcards. Out: paths and flags. Knows nothing of kinds of generators: it asks their settings.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mentionforge.dag.shared import InputFunction, Paths, StageInputs, Wildcards
from mentionforge.generation.templates import variables


def from_checkout(checkout: Path) -> Callable[[Wildcards], str]:
    """Params function: the command that runs the program from this checkout, for environments whose pins do not let it be installed."""
    return lambda wildcards: f"PYTHONPATH={shlex.quote(str(checkout / 'workflow'))} python -m mentionforge.cli"


class GenerationInputs(StageInputs):
    """Inputs of the generator in the wildcards, by its settings."""

    def _settings(self, wildcards: Wildcards) -> Any:
        """Settings of the generator."""
        return self.config.generators[wildcards.generator]

    @property
    def vllms(self) -> list[str]:
        """Generators whose backend, vLLM, needs an environment of its own."""
        generators: dict[str, Any] = dict(self.config.generators)
        return [name for name, g in generators.items() if g.writes_in_shards and g.backend.own_environment]

    # ----------------------------------------------------------------------------------------------- prompts and fine-tuning

    def concepts_corpus(self, wildcards: Wildcards) -> Paths:
        """Mentions of the corpus whose training split chooses the concepts of the generator, if the settings name one."""
        corpus = self._settings(wildcards).concepts.corpus
        return self.results.corpus(corpus, "mentions.parquet") if corpus else []

    def concepts_list(self, wildcards: Wildcards) -> Paths:
        """The file that lists a generator's concepts, if there is one."""
        return self._settings(wildcards).concepts.cuis or []

    def replayed(self, wildcards: Wildcards) -> Paths:
        """The file of a replayed corpus, or the pairs that examples are drawn from.

        If a file must be obtained first: the target of a job that fails and says how.
        """
        g = self._settings(wildcards)
        if g.training_text and not g.trains:
            return self.results.generation(wildcards.generator, "pairs.parquet")
        if not g.source:
            return []
        return self.results.missing("generators", wildcards.generator) if g.how_to_obtain and not Path(g.source).exists() else str(g.source)

    def read_corpus(self, wildcards: Wildcards) -> list[str]:
        """Tables of the corpus from whose training split a generator makes its prompts or notes, if it reads one."""
        corpus = self._settings(wildcards).reads_corpus
        return self.corpus_tables(corpus) if corpus else []

    def training_corpus(self, wildcards: Wildcards) -> list[str]:
        """Tables of the corpus whose training split a generator is fine-tuned on, or takes its examples from."""
        return self.corpus_tables(self._settings(wildcards).training_text.corpus)

    def parents_asked(self, wildcards: Wildcards) -> Paths:
        """The hierarchy of the generator's knowledge base, if its prompt names parents."""
        g = self._settings(wildcards)
        return self.results.kb(g.kb, "parents.parquet") if "parents" in variables(g.asked) else []

    # ----------------------------------------------------------------------------------------------------------- notes

    def weights(self, wildcards: Wildcards) -> Paths:
        """The fetched weights of a generator, unless a server writes its notes."""
        weights = self._settings(wildcards).weights
        return self.resources.model(weights) if weights else []

    def adapter(self, wildcards: Wildcards) -> Paths:
        """The adapter of a fine-tuned generator; none for others."""
        return self.results.generation(wildcards.generator, "adapter") if self._settings(wildcards).finetune else []

    def shards(self, wildcards: Wildcards) -> list[str]:
        """All shards of a generator."""
        count = self._settings(wildcards).shards
        return [self.results.shard(wildcards.generator, i, count) for i in range(count)]

    # ------------------------------------------------------------------------------------------------- location and filters

    def encoder_of(self, step: str) -> InputFunction:
        """Input function: weights of the note encoder, if this step (locate, filter) needs it."""

        def stamp(wildcards: Wildcards) -> Paths:
            g = self._settings(wildcards)
            compares = g.filters.encoder_readers if step == "filter" else g.compares_tags
            return self.resources.model(g.encoder.model) if compares else []

        return stamp

    def pairs(self, wildcards: Wildcards) -> Paths:
        """The fine-tuning pairs, if a filter compares the notes with them."""
        return self.results.generation(wildcards.generator, "pairs.parquet") if self._settings(wildcards).filters.pair_readers else []

    def leakage_corpora(self, wildcards: Wildcards) -> list[str]:
        """Documents of the corpora with whose test split a filter compares the notes."""
        return [self.results.corpus(corpus, "documents.parquet") for corpus in self._settings(wildcards).filters.test_corpora]

    def licensed_flag(self, wildcards: Wildcards) -> str:
        """The flag that keeps texts out of the examples, if an input of the generator is licensed."""
        compared = self._settings(wildcards).filters.test_corpora
        licensed = self.licensed_text(wildcards.generator) or any(self.is_licensed("corpora", corpus) for corpus in compared)
        return "--licensed" if licensed else ""

    # ------------------------------------------------------------------------------------------------- versions of the code

    def raised_of_chain(self, wildcards: Wildcards) -> list[str]:
        """`raised` for the filters of the generator's chain."""
        return self.raised(*(f"filter.{name}" for name, _ in self._settings(wildcards).filters.chain()))(wildcards)

    def raised_of_backend(self, wildcards: Wildcards) -> list[str]:
        """`raised` for the backend that writes the generator's notes."""
        return self.raised(self._settings(wildcards).backend.part)(wildcards)

    def raised_of_control(self, wildcards: Wildcards) -> list[str]:
        """`raised` for the code that makes the notes of a control."""
        return self.raised(self._settings(wildcards).notes_part)(wildcards)

    def raised_of_prompts(self, wildcards: Wildcards) -> list[str]:
        """`raised` for the code that makes a generator's prompts, if it is the kind's own: the spec holds the version of the common one."""
        g = self._settings(wildcards)
        return self.raised(g.prompts_part)(wildcards) if g.prompts_part != g.part_of("prompts") else []
