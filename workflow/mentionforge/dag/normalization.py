"""Inputs of the rules that embed, search, link and train linkers.

In: the configuration, and wildcards. Out: paths and flags. Knows nothing of kinds of linkers: it asks their settings. An encoder is a linker's name, or
LINKER@CORPUS for one that is trained here on that corpus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mentionforge.config import Config, indexes_to_link, same_names
from mentionforge.dag.shared import InputFunction, Paths, StageInputs, Wildcards, as_list
from mentionforge.dag.together import Batch, batches
from mentionforge.layout import NormalizationCell
from mentionforge.normalization.linkers.contract import LinkerSettings


class NormalizationInputs(StageInputs):
    """Inputs for the linker, index and corpus in the wildcards, and the linkers that each rule handles."""

    def __init__(self, config: Config) -> None:
        """Group the linkers by the rules that handle them, and the indexes by the jobs that link them."""
        super().__init__(config)
        self.searching = self._linkers(lambda entry: entry.searches)
        self.aligned = self._linkers(lambda entry: entry.trains_encoder)
        self.hybrids = self._linkers(lambda entry: entry.joins_rankings)
        self.rerankers = self._linkers(lambda entry: entry.reranks)
        self.imported = self._linkers(lambda entry: entry.imported)
        self.batches = batches(indexes_to_link(config))

    def _linkers(self, admits: Callable[[LinkerSettings], bool]) -> list[str]:
        return sorted(name for name, entry in self.config.linkers.items() if admits(entry))

    def kb_of(self, wildcards: Wildcards) -> str:
        """Name of the corpus' knowledge base."""
        return self.config.corpora[wildcards.corpus].kb

    def settings_of_index(self, wildcards: Wildcards) -> Any:
        """Settings of the index."""
        return self.config.indexes[wildcards.index]

    # --------------------------------------------------------------------------------------------------------- embedding

    @property
    def encoders(self) -> list[str]:
        """Names of all encoders that the configuration allows."""
        return [*set(self.searching).difference(self.aligned), *(f"{linker}@{corpus}" for linker in self.aligned for corpus in self.config.corpora)]

    def encoder_name(self, linker: str, corpus: str) -> str:
        """The encoder of a linker for a corpus; an encoder that is trained here is another one for each corpus."""
        return f"{linker}@{corpus}" if linker in self.aligned else linker

    def shared_encoder(self, linker: str, corpus: str) -> str:
        """The encoder whose embeddings of names and notes a linker reads.

        Linkers that differ only in `expand_abbreviations` share them: abbreviations are expanded in corpora, never in names.
        """
        if linker in self.aligned:
            return self.encoder_name(linker, corpus)
        settings = self.config.linkers[linker].settings_of_names()
        return next(name for name, entry in self.config.linkers.items() if entry.settings_of_names() == settings)

    def encoder_spec(self, wildcards: Wildcards) -> str:
        """Spec of the linker that an encoder belongs to."""
        return self.spec("linkers", wildcards.encoder.partition("@")[0])

    def encoder_weights(self, wildcards: Wildcards) -> Paths:
        """Weights of the encoder in the wildcards: fetched, trained here, or none for a linker without an encoder."""
        linker, _, corpus = wildcards.encoder.partition("@")
        return self.weights(linker, corpus)

    def weights(self, linker: str, trained_on: str) -> Paths:
        """Weights of a linker's encoder, fetched or trained on a corpus; none for a linker without an encoder."""
        if trained_on:
            return self.results.encoder(linker, trained_on)
        model = self.config.linkers[linker].weights
        return self.resources.model(model) if model else []

    def embedded_corpus(self, wildcards: Wildcards) -> str:
        """Embedded mentions of the corpus in the wildcards, by its linker."""
        return self.results.embedded(self.encoder_name(wildcards.linker, wildcards.corpus), "corpus", wildcards.corpus)

    def embedded_kb(self, wildcards: Wildcards) -> str:
        """Embedded names of the corpus' knowledge base."""
        return self.results.embedded(self.shared_encoder(wildcards.linker, wildcards.corpus), "kb", self.kb_of(wildcards))

    def embedded_generator(self, wildcards: Wildcards) -> str:
        """Embedded synthetic mentions of the generator in the wildcards."""
        return self.results.embedded(self.shared_encoder(wildcards.linker, wildcards.corpus), "generator", wildcards.generator)

    # ----------------------------------------------------------------------------------------------------------- linking

    def files_of(self, cell: NormalizationCell, batch: Batch, file: str) -> list[str]:
        """The named file of a cell, for each index of a batch."""
        return [self.results.normalization(replace(cell, index=index), f"{file}.parquet") for index in batch.indexes]

    def job_of(self, cell: NormalizationCell, batch: Batch) -> str:
        """Path of the log and benchmark of the job that makes a cell, below their folders."""
        return batch.job(f"normalization/{Path(cell.path).parent}")

    def each_index(self, batch: Batch, paths: InputFunction) -> InputFunction:
        """Input function: `paths`, evaluated for each index of a batch, in their order."""

        def of_batch(wildcards: Any) -> list[str]:
            known = dict(wildcards.items())
            of_index: list[Any] = [SimpleNamespace(**known | {"index": index.format(**known)}) for index in batch.indexes]
            return [path for wildcards_of_index in of_index for path in as_list(paths(wildcards_of_index))]

        return of_batch

    def once(self, batch: Batch, paths: InputFunction) -> InputFunction:
        """Input function: the paths that at least one index of a batch reads, each once."""
        each = self.each_index(batch, paths)

        def of_batch(wildcards: Wildcards) -> list[str]:
            return list(dict.fromkeys(each(wildcards)))

        return of_batch

    def ngram_weights(self, wildcards: Wildcards) -> Paths:
        """The embedded names, for a linker that computes n-gram weights from them."""
        return self.embedded_kb(wildcards) if self.config.linkers[wildcards.linker].weighs_names else []

    def candidate_names(self, wildcards: Wildcards) -> Paths:
        """Candidates among the names, if the index searches names. Indexes that admit the same names share the search of the first of them."""
        index = self.settings_of_index(wildcards)
        if "kb" not in index.sources:
            return []
        first = next(name for name, entry in self.config.indexes.items() if "kb" in entry.sources and same_names(entry, index))
        return self.results.retrieval(wildcards.corpus, wildcards.linker, first)

    def preferred_codes(self, wildcards: Wildcards) -> Paths:
        """Codes of the corpus' knowledge base, if the index prefers some of them."""
        return self.results.kb(self.kb_of(wildcards), "xrefs.parquet") if self.settings_of_index(wildcards).prefer_xrefs else []

    def of_read_linkers(self, file: str) -> InputFunction:
        """Input function: the named file of each linker that the linker in the wildcards reads, on the same cell."""

        def paths(wildcards: Wildcards) -> list[str]:
            w = wildcards
            inner = self.config.linkers[w.linker].input_linkers()
            return [self.results.normalization(NormalizationCell(w.corpus, w.generator, w.strategy, linker, w.index), f"{file}.parquet") for linker in inner]

        return paths

    # ---------------------------------------------------------------------------------------------------------- training

    def aligned_synthetic(self, wildcards: Wildcards) -> list[str]:
        """Tables of the generator on whose mentions the encoder is trained, if the settings name one."""
        linker: Any = self.config.linkers[wildcards.linker]
        return self.synthetic_tables(linker.train.synthetic) if linker.train.synthetic else []

    def first_stage(self, paths: InputFunction) -> InputFunction:
        """Input function: `paths`, evaluated for the first-stage linker of a reranker and for the index of its wrong candidates."""

        def of_reranker(wildcards: Wildcards) -> Paths:
            entry: Any = self.config.linkers[wildcards.linker]
            (first,) = entry.input_linkers()
            linker = next(iter(self.config.linkers[first].input_linkers()), first)
            return paths(SimpleNamespace(corpus=wildcards.corpus, linker=linker, index=entry.index_of_negatives))  # type: ignore[arg-type]

        return of_reranker
