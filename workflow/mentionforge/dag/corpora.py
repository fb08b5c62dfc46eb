"""Inputs of the rules that read corpora and compare generated text with test documents.

In: the configuration, and wildcards. Out: paths and flags. Knows nothing of which files exist.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from mentionforge.dag.shared import Paths, StageInputs, Wildcards


class CorpusInputs(StageInputs):
    """Inputs of reading a corpus, of corpus cards, and of comparing notes with test documents."""

    def files(self, wildcards: Wildcards) -> list[str]:
        """Input files of a corpus."""
        return self.input_files("corpora", wildcards.corpus)

    def finetune_pairs(self, wildcards: Wildcards) -> Paths:
        """The pairs that a generator is fine-tuned on or shown as examples; none if it learns from no corpus."""
        learned = self.config.generators[wildcards.generator].training_text
        return self.results.generation(wildcards.generator, "pairs.parquet") if learned else []

    def finetune_documents(self, wildcards: Wildcards) -> Paths:
        """Documents of the corpus of these pairs; none if there are none."""
        learned = self.config.generators[wildcards.generator].training_text
        return self.results.corpus(learned.corpus, "documents.parquet") if learned else []

    def leakage_settings(self, wildcards: Wildcards) -> str:
        """Settings of the guard against leakage, as JSON."""
        return self.config.leakage.model_dump_json()

    def kb_flags(self, corpora: Iterable[str]) -> str:
        """A flag --kb for the folder of each corpus' knowledge base."""
        folders = (str(Path(self.results.kb(self.config.corpora[corpus].kb, "names.parquet")).parent) for corpus in corpora)
        return " ".join(f"--kb {shlex.quote(folder)}" for folder in folders)
