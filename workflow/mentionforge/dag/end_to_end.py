"""Inputs of the rules that link predicted mentions.

In: the configuration, and wildcards. Out: paths and flags. Knows nothing of which files exist.
"""

from __future__ import annotations

from collections import defaultdict

from mentionforge.config import Config, end_to_end_cells
from mentionforge.dag.normalization import NormalizationInputs
from mentionforge.dag.shared import InputFunction, Paths, Wildcards
from mentionforge.dag.together import batches
from mentionforge.entries import NONE


class EndToEndInputs(NormalizationInputs):
    """Inputs of linking predicted mentions. They are in no cell of normalization, so the job itself embeds them and searches the index."""

    def __init__(self, config: Config) -> None:
        """List the end-to-end cells."""
        super().__init__(config)
        self.linked_cells = end_to_end_cells(config)
        wanted: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for cell, linker, index in self.linked_cells:
            wanted[(*cell.path.split("/"), linker)].add(index)
        self.batches = batches(wanted)

    def linker_weights(self, wildcards: Wildcards) -> Paths:
        """Weights of the linker's encoder for the corpus; none for a linker without an encoder."""
        return self.weights(wildcards.linker, wildcards.corpus if wildcards.linker in self.aligned else "")

    def names_or_weights(self, wildcards: Wildcards) -> Paths:
        """The embedded names, if the index searches them or a tfidf linker takes its weights from them."""
        return self.embedded_kb(wildcards) if "kb" in self.settings_of_index(wildcards).sources else self.ngram_weights(wildcards)

    def searched_names(self, table: str) -> InputFunction:
        """Input function: a table of the corpus' knowledge base, if the index searches its names or prefers some of its codes."""

        def path(wildcards: Wildcards) -> Paths:
            index = self.settings_of_index(wildcards)
            searched = "kb" in index.sources or (table == "xrefs" and index.prefer_xrefs)
            return self.results.kb(self.kb_of(wildcards), f"{table}.parquet") if searched else []

        return path

    def synthetic_of_cell(self, wildcards: Wildcards) -> Paths:
        """The generator's embedded mentions, for a cell with synthetic text."""
        return [] if wildcards.strategy == NONE else self.embedded_generator(wildcards)

    def chosen_of_cell(self, wildcards: Wildcards) -> Paths:
        """The notes that the strategy adds to the corpus, for a cell with synthetic text."""
        w = wildcards
        return [] if w.strategy == NONE else self.results.chosen(w.corpus, w.generator, w.strategy)

    def linked_predictions(self, wildcards: Wildcards) -> list[str]:
        """Rankings of all end-to-end cells of a corpus."""
        return [self.results.linked(c, linker, index) for c, linker, index in self.linked_cells if c.corpus == wildcards.corpus]
