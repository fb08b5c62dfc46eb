"""The cells of an experiment: every recognition run and every normalization cell that its grids ask for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from mentionforge.config.experiment import Experiment
from mentionforge.config.schema import Config
from mentionforge.entries import EXTERNAL, NONE, UNTRAINED
from mentionforge.layout import TRAINED_ON, NormalizationCell, RecognitionCell
from mentionforge.normalization.settings import Index


def all_parts_of(config: Config, name: str) -> list[str]:
    """Names of the linkers whose predictions the named linker reads, directly or through others."""
    direct = config.linkers[name].input_linkers()
    return sorted({*direct, *(below for part in direct for below in all_parts_of(config, part))})


def same_names(one: Index, other: Index) -> bool:
    """Whether two indexes admit the same names of the knowledge base, searched in the same way."""
    concern = {"preferred_only", "name_sources", "require_xrefs", "search"}
    return one.model_dump(include=concern) == other.model_dump(include=concern)


def recognition_cells(config: Config) -> list[RecognitionCell]:
    """All recognition runs of the experiment, once each, sorted.

    The strategy `none` has no generator and only the schedule real_only; other strategies have all other schedules. A
    recognizer that is not trained has one cell per corpus, whatever the strategies: its schedule is `untrained`, or `external`.
    """
    cells = set()
    for grid in config.experiment.recognition:
        for corpus, recognizer, seed in itertools.product(grid.corpora, grid.recognizers, grid.seeds):
            entry = config.recognizers[recognizer]
            if not entry.trains:
                cells |= {RecognitionCell(corpus, NONE, NONE, recognizer, entry.schedule, 0)} if entry.covers(corpus) else set()
                continue
            for strategy, schedule in itertools.product(grid.strategies, grid.schedules):
                if (strategy == NONE) != (schedule == "real_only"):
                    continue
                for generator in (NONE,) if strategy == NONE else grid.generators:
                    cells.add(RecognitionCell(corpus, generator, strategy, recognizer, schedule, seed))
    return sorted(cells)


def cross_cells(config: Config) -> list[RecognitionCell]:
    """Predictions on `test_corpora` by models trained on another corpus, sorted; the schedule is SCHEDULE~train=CORPUS."""
    cells = set()
    for grid in config.experiment.recognition:
        alone = config.model_copy(update={"experiment": Experiment(recognition=(grid,))})
        for cell, corpus in itertools.product(recognition_cells(alone), grid.test_corpora):
            if corpus != cell.corpus and cell.schedule not in (UNTRAINED, EXTERNAL):
                cells.add(replace(cell, corpus=corpus, schedule=f"{cell.schedule}{TRAINED_ON}{cell.corpus}"))
    return sorted(cells)


def end_to_end_cells(config: Config) -> list[tuple[RecognitionCell, str, str]]:
    """Recognition runs whose mentions are linked, each with a linker and an index, sorted."""
    cells: set[tuple[RecognitionCell, str, str]] = set()
    for grid in config.experiment.recognition:
        alone = config.model_copy(update={"experiment": Experiment(recognition=(grid,))})
        cells.update(itertools.product(recognition_cells(alone), grid.linkers, grid.indexes))
    return sorted(cells)


def normalization_cells(config: Config) -> list[NormalizationCell]:
    """All normalization cells of the experiment, once each, sorted; the strategy `none` has no generator.

    An external linker has one cell per corpus, whatever the strategies and indexes: its index is `external`.
    """
    cells = set()
    for grid in config.experiment.normalization:
        read: dict[str, Any] = {name: entry for name in grid.linkers if (entry := config.linkers[name]).imported}
        cells |= {NormalizationCell(c, NONE, NONE, name, EXTERNAL) for c in grid.corpora for name, entry in read.items() if entry.path_for(c)}
        searching = [name for name in grid.linkers if name not in read]
        for corpus, strategy, linker, index in itertools.product(grid.corpora, grid.strategies, searching, grid.indexes):
            for generator in (NONE,) if strategy == NONE else grid.generators:
                cells.add(NormalizationCell(corpus, generator, strategy, linker, index))
    return sorted(cells)
