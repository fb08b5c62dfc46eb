"""Settings of an experiment: grids of entries, whose combinations are the cells of recognition and normalization.

In: the section `experiment`. Out: its model. Knows nothing of the entries that the names stand for (`checks`).
"""

from __future__ import annotations

from pydantic import Field

from mentionforge.entries import Entry
from mentionforge.recognition.schedules import Schedule


class RecognitionGrid(Entry):
    """A grid of recognition runs; the baseline `none` is run once per corpus, recognizer and seed."""

    corpora: tuple[str, ...]
    generators: tuple[str, ...] = ()
    strategies: tuple[str, ...]
    recognizers: tuple[str, ...]
    schedules: tuple[Schedule, ...] = Field(
        ("real_only", "synthetic_then_real"), description="Orders in which real and synthetic text are learned; real_only is the baseline."
    )
    seeds: tuple[int, ...] = Field((1,), description="Training seeds; intervals hold what they change.")
    test_corpora: tuple[str, ...] = Field(
        (), description="Corpora whose dev and test splits the grid's trained models recognize too, besides the one trained on; the grid's own: every pair."
    )
    linkers: tuple[str, ...] = Field((), description="Linkers that normalize what the grid's recognizers find (end to end); not fused or reranking ones.")
    indexes: tuple[str, ...] = Field((), description="Indexes that these linkers search.")


class NormalizationGrid(Entry):
    """A grid of normalization cells; the baseline `none` is computed once per corpus, linker and index."""

    corpora: tuple[str, ...]
    generators: tuple[str, ...] = ()
    strategies: tuple[str, ...]
    linkers: tuple[str, ...]
    indexes: tuple[str, ...]


class Experiment(Entry):
    """What is crossed with what: each list holds grids, and the experiment is their union."""

    recognition: tuple[RecognitionGrid, ...] = ()
    normalization: tuple[NormalizationGrid, ...] = ()
