"""The files of an experiment: its cells, the entries that they use, and the targets of `rule all`.

In: the configuration. Out: names and paths. Knows nothing of rules and of which files exist.
"""

from __future__ import annotations

from mentionforge.config import Config, all_input_linkers, cross_cells, end_to_end_cells, normalization_cells, recognition_cells
from mentionforge.dag.shared import StageInputs
from mentionforge.entries import NONE
from mentionforge.layout import NormalizationCell, RecognitionCell


class ExperimentFiles(StageInputs):
    """Cells of the experiment, the entries that they use, and the files that they give."""

    def __init__(self, config: Config) -> None:
        """List the cells and the entries that they use."""
        super().__init__(config)
        self.recognition = recognition_cells(config)
        self.cross = cross_cells(config)
        self.end_to_end = end_to_end_cells(config)
        self.normalization = normalization_cells(config)
        self.llms = sorted(name for name, g in config.generators.items() if g.writes_in_shards)
        self.controls = sorted(set(config.generators) - set(self.llms))
        cells = self.cells
        self.corpora = sorted({c.corpus for c in cells} | {c.corpus for c in self.cross})
        self.kbs = sorted({config.corpora[c].kb for c in self.corpora})
        self.generators = sorted({c.generator for c in cells} - {NONE})
        linkers = {c.linker for c in self.normalization}
        self.linkers = sorted(linkers | {inner for linker in linkers for inner in all_input_linkers(config, linker)})

    @property
    def cells(self) -> list[RecognitionCell | NormalizationCell]:
        """Cells of recognition and normalization, without those whose model was trained on another corpus."""
        return [*self.recognition, *self.normalization]

    @property
    def models(self) -> list[str]:
        """Models whose weights the experiment needs."""
        recognizers = [self.config.recognizers[c.recognizer] for c in self.recognition]
        of_linkers = {self.config.linkers[name].weights for name in self.linkers}
        of_generators = {getattr(self.config.generators[g], "model", None) for g in self.generators if g in self.llms}
        return sorted({m for m in {r.model for r in recognizers} | of_linkers | of_generators if m})

    # ------------------------------------------------------------------------------------------------------------ targets

    @property
    def evaluated(self) -> list[str]:
        """Metrics of recognition and normalization."""
        recognition = {self.results.scores("recognition", c.corpus) for c in [*self.recognition, *self.cross]}
        return sorted(recognition | {self.results.scores("normalization", c.corpus) for c in self.normalization})

    @property
    def recognition_errors(self) -> list[str]:
        """Errors of recognition."""
        return sorted({self.results.errors("recognition", c.corpus) for c in [*self.recognition, *self.cross]})

    @property
    def normalization_errors(self) -> list[str]:
        """Errors of normalization."""
        return sorted({self.results.errors("normalization", c.corpus) for c in self.normalization})

    @property
    def scored_end_to_end(self) -> list[str]:
        """Metrics of recognition and normalization end to end."""
        return sorted({self.results.scores("end_to_end", c.corpus) for c, _, _ in self.end_to_end})

    def compared(self, *tables: str) -> list[str]:
        """Tables of statistics of both tasks, by name: comparisons, changes."""
        corpora = {("recognition", c.corpus) for c in self.recognition} | {("normalization", c.corpus) for c in self.normalization}
        return sorted(self.results.statistics(task, corpus, table) for task, corpus in corpora for table in tables)

    @property
    def predictions(self) -> list[str]:
        """Predictions of all cells."""
        recognized = [self.results.recognition(c) for c in [*self.recognition, *self.cross]]
        return recognized + [self.results.normalization(c) for c in self.normalization]

    @property
    def chosen(self) -> list[str]:
        """Tables of the notes that each strategy chose."""
        return sorted({self.results.chosen(c.corpus, c.generator, c.strategy) for c in self.cells if c.strategy != NONE})

    @property
    def generation(self) -> list[str]:
        """Tables of the generators."""
        files = ("prompts.parquet", "notes.parquet", "located.parquet", "mentions.parquet", "rejected.parquet", "funnel.json")
        return [self.results.generation(g, file) for g in self.generators for file in files]

    @property
    def cards(self) -> list[str]:
        """Cards of the corpora."""
        return [self.results.corpus(c, "card.md") for c in self.corpora]

    @property
    def tables(self) -> list[str]:
        """Tables of corpora and knowledge bases."""
        of_corpus = ("documents.parquet", "mentions.parquet", "stats.json")
        of_kb = ("concepts.parquet", "names.parquet", "definitions.parquet", "xrefs.parquet", "retired.parquet", "stats.json")
        return [self.results.corpus(c, file) for c in self.corpora for file in of_corpus] + [self.results.kb(kb, file) for kb in self.kbs for file in of_kb]
