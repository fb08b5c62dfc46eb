"""The cells of an experiment.

In: a validated configuration. Out: each cell of its grids once, sorted. Knows nothing of files.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from mentionforge.config.experiment import Experiment
from mentionforge.config.schema import Config
from mentionforge.entries import EXTERNAL, NONE, UNTRAINED
from mentionforge.layout import TRAINED_ON, NormalizationCell, RecognitionCell
from mentionforge.normalization.settings import Index
from mentionforge.recognition.schedules import BY_NAME


def all_input_linkers(config: Config, name: str) -> list[str]:
    """Names of the linkers whose rankings this linker reads, directly or through other linkers."""
    direct = config.linkers[name].input_linkers()
    return sorted({*direct, *(below for inner in direct for below in all_input_linkers(config, inner))})


def same_names(index: Index, other: Index) -> bool:
    """Whether two indexes admit the same names of the knowledge base and search them in the same way."""
    settings = {"preferred_only", "name_sources", "require_xrefs", "search"}
    return index.model_dump(include=settings) == other.model_dump(include=settings)


def recognition_cells(config: Config) -> list[RecognitionCell]:
    """All recognition cells of the experiment.

    The strategy `none` has no generator and only the schedule real_only; other strategies have all other schedules. A recognizer that is not
    trained has one cell per corpus, with the schedule `untrained` or `external`.
    """
    cells = set()
    for grid in config.experiment.recognition:
        for corpus, recognizer, seed in itertools.product(grid.corpora, grid.recognizers, grid.seeds):
            settings = config.recognizers[recognizer]
            if not settings.trains:
                cells |= {RecognitionCell(corpus, NONE, NONE, recognizer, settings.schedule, 0)} if settings.covers(corpus) else set()
                continue
            for strategy, schedule in itertools.product(grid.strategies, grid.schedules):
                if (strategy == NONE) != (not BY_NAME[schedule].reads_notes):
                    continue
                for generator in (NONE,) if strategy == NONE else grid.generators:
                    cells.add(RecognitionCell(corpus, generator, strategy, recognizer, schedule, seed))
    return sorted(cells)


def cross_cells(config: Config) -> list[RecognitionCell]:
    """Cells whose model was trained on another corpus than the tested one (`test_corpora`); their schedule is SCHEDULE~train=CORPUS."""
    cells = set()
    for grid in config.experiment.recognition:
        of_grid = config.model_copy(update={"experiment": Experiment(recognition=(grid,))})
        for cell, corpus in itertools.product(recognition_cells(of_grid), grid.test_corpora):
            if corpus != cell.corpus and cell.schedule not in (UNTRAINED, EXTERNAL):
                cells.add(replace(cell, corpus=corpus, schedule=f"{cell.schedule}{TRAINED_ON}{cell.corpus}"))
    return sorted(cells)


def end_to_end_cells(config: Config) -> list[tuple[RecognitionCell, str, str]]:
    """Recognition cells whose predicted mentions are linked, each with a linker and an index."""
    cells: set[tuple[RecognitionCell, str, str]] = set()
    for grid in config.experiment.recognition:
        of_grid = config.model_copy(update={"experiment": Experiment(recognition=(grid,))})
        cells.update(itertools.product(recognition_cells(of_grid), grid.linkers, grid.indexes))
    return sorted(cells)


def normalization_cells(config: Config) -> list[NormalizationCell]:
    """All normalization cells of the experiment; the strategy `none` has no generator.

    An external linker has one cell per corpus, with the index `external`.
    """
    cells = set()
    for grid in config.experiment.normalization:
        external: dict[str, Any] = {name: entry for name in grid.linkers if (entry := config.linkers[name]).imported}
        cells |= {NormalizationCell(c, NONE, NONE, name, EXTERNAL) for c in grid.corpora for name, entry in external.items() if entry.path_for(c)}
        searching = [name for name in grid.linkers if name not in external]
        for corpus, strategy, linker, index in itertools.product(grid.corpora, grid.strategies, searching, grid.indexes):
            for generator in (NONE,) if strategy == NONE else grid.generators:
                cells.add(NormalizationCell(corpus, generator, strategy, linker, index))
    return sorted(cells)


def indexes_to_link(config: Config) -> dict[tuple[str, str, str, str], set[str]]:
    """Indexes of each corpus, generator, strategy and linker: those of the experiment's cells, and of the linkers that these read."""
    wanted: dict[tuple[str, str, str, str], set[str]] = {}
    for cell in normalization_cells(config):
        for linker in (cell.linker, *all_input_linkers(config, cell.linker)):
            if not config.linkers[linker].imported:
                wanted.setdefault((cell.corpus, cell.generator, cell.strategy, linker), set()).add(cell.index)
    return wanted
