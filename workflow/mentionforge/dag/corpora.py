"""What the rules of corpora and of the guard against leakage ask."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from mentionforge.dag.shared import Paths, Stage, Wildcards


class CorpusInputs(Stage):
    """Inputs of reading a corpus, of its card, and of comparing notes with its test documents."""

    def files(self, wildcards: Wildcards) -> list[str]:
        """Input files of a corpus."""
        return self.input_files("corpora", wildcards.corpus)

    def finetune_pairs(self, wildcards: Wildcards) -> Paths:
        """The pairs that a generator is fine-tuned on, if it is."""
        tuned = getattr(self.config.generators[wildcards.generator], "finetune", None)
        return self.results.generation(wildcards.generator, "pairs.parquet") if tuned else []

    def finetune_documents(self, wildcards: Wildcards) -> Paths:
        """Documents of the corpus that a generator is fine-tuned on, if it is."""
        tuned = getattr(self.config.generators[wildcards.generator], "finetune", None)
        return self.results.corpus(tuned.corpus, "documents.parquet") if tuned else []

    def leakage_settings(self, wildcards: Wildcards) -> str:
        """The guard against leakage, as JSON."""
        return self.config.leakage.model_dump_json()

    def kb_flags(self, corpora: Iterable[str]) -> str:
        """A command-line flag for the folder of each corpus' knowledge base."""
        folders = (str(Path(self.results.kb(self.config.corpora[corpus].kb, "names.parquet")).parent) for corpus in corpora)
        return " ".join(f"--kb {shlex.quote(folder)}" for folder in folders)
