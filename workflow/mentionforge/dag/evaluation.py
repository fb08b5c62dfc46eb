"""Inputs of the rules that score and compare cells: the predictions of all cells of a corpus.

In: the configuration, and wildcards. Out: paths. Knows nothing of scores and of which files exist.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mentionforge.dag.experiment import ExperimentFiles
from mentionforge.dag.shared import Wildcards
from mentionforge.entries import NONE
from mentionforge.layout import NormalizationCell, RecognitionCell


class EvaluationInputs(ExperimentFiles):
    """Inputs of scoring and comparing the cells of the corpus in the wildcards."""

    def recognition_predictions(self, wildcards: Wildcards) -> list[str]:
        """Predictions of all recognition cells of a corpus."""
        return [self.results.recognition(c) for c in self.recognition if c.corpus == wildcards.corpus]

    def cross_predictions(self, wildcards: Wildcards) -> list[str]:
        """Predictions on a corpus by models trained on another one."""
        return [self.results.recognition(c) for c in self.cross if c.corpus == wildcards.corpus]

    def cross_sources(self, wildcards: Wildcards) -> list[str]:
        """Mentions of the corpora that these models were trained on; buckets are against their training splits."""
        sources = sorted({c.trained_on for c in self.cross if c.corpus == wildcards.corpus})
        return [self.results.corpus(source, "mentions.parquet") for source in sources]

    def normalization_predictions(self, wildcards: Wildcards) -> list[str]:
        """Predictions of all normalization cells of a corpus."""
        return [self.results.normalization(c) for c in self.normalization if c.corpus == wildcards.corpus]

    def normalization_calibrations(self, wildcards: Wildcards) -> list[str]:
        """Rankings of dev mentions and unmapped test mentions of all normalization cells of a corpus."""
        return [self.results.normalization(c, "calibration.parquet") for c in self.normalization if c.corpus == wildcards.corpus]

    # ---------------------------------------------------------------------------------------------------------- comparing

    def is_recognition(self, wildcards: Wildcards) -> bool:
        """Whether the task in the wildcards is recognition."""
        return wildcards.task == "recognition"

    def chosen_notes(self, wildcards: Wildcards) -> list[str]:
        """The notes that each strategy adds to the corpus, for all generators of the task's cells."""
        cells: Sequence[RecognitionCell | NormalizationCell] = self.recognition if self.is_recognition(wildcards) else self.normalization
        augmented = {(c.generator, c.strategy) for c in cells if c.corpus == wildcards.corpus and c.strategy != NONE}
        return [self.results.chosen(wildcards.corpus, generator, strategy) for generator, strategy in sorted(augmented)]

    def reference_flags(self, wildcards: Wildcards) -> str:
        """Flags for the references of comparisons besides the baseline: controls, and for each index without the kb the one with it."""
        sources = {name: set(index.sources) for name, index in self.config.indexes.items()}
        pairs = [f"{a}={b}" for a in sorted(sources) for b in sorted(sources) if "kb" not in sources[a] and sources[b] == sources[a] | {"kb"}]
        controls = sorted(name for name, generator in self.config.generators.items() if generator.control)
        return shlex.join([*(word for c in controls for word in ("--control", c)), *(word for pair in pairs for word in ("--with-kb", pair))])
