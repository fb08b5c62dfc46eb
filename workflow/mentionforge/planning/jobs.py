"""Jobs of an experiment that compute or search: rule and wildcards, as the workflow would start them, without asking Snakemake.

In: the configuration. Out: pairs of rule and wildcards, each once. Knows nothing of costs, results folders or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mentionforge.config import Config, all_input_linkers, cross_cells, end_to_end_cells, indexes_to_link, normalization_cells, recognition_cells, same_names
from mentionforge.entries import EXTERNAL, NONE, UNTRAINED
from mentionforge.layout import TRAINED_ON, NormalizationCell, RecognitionCell
from mentionforge.normalization.linkers.contract import LinkerSettings
from mentionforge.planning.workload import generators_in_use


def jobs(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    """Rule and wildcards of every job of an experiment for which there is arithmetic."""
    for name in sorted(generators_in_use(config)):
        generator: Any = config.generators[name]
        if generator.writes_in_shards:
            if generator.trains:
                yield "finetune", {"generator": name}
            rule = "sample_vllm" if generator.backend.own_environment else "sample"
            yield from ((rule, {"generator": name, "shard": str(i), "shards": str(generator.shards)}) for i in range(generator.shards))
    for cell in recognition_cells(config):
        if cell.schedule not in (UNTRAINED, EXTERNAL):
            yield "recognize_real" if cell.strategy == NONE else "recognize_augmented", {k: str(v) for k, v in vars(cell).items()}
    for cell in cross_cells(config):
        yield "recognize_cross", {k: str(v) for k, v in vars(cell).items()} | {"source": cell.schedule.partition(TRAINED_ON)[2]}
    predicted: dict[tuple[RecognitionCell, str], list[str]] = {}
    for run, linker, index in end_to_end_cells(config):
        predicted.setdefault((run, linker), []).append(index)
    for (run, linker), indexes in predicted.items():
        yield "link_predicted", {k: str(v) for k, v in vars(run).items()} | {"linker": linker, "index": ",".join(indexes)}
    yield from _linking(config, normalization_cells(config))


def _linking(config: Config, cells: Sequence[NormalizationCell]) -> Iterator[tuple[str, dict[str, str]]]:
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    together = indexes_to_link(config)
    for cell in cells:
        for linker in (cell.linker, *all_input_linkers(config, cell.linker)):
            entry, corpus = config.linkers[linker], cell.corpus
            wanted: list[tuple[str, dict[str, str]]] = []
            indexes = ",".join(sorted(together.get((corpus, cell.generator, cell.strategy, linker), ())))
            if entry.reranks:
                wanted += [("rerank_train", {"linker": linker, "corpus": corpus})]
                wanted += [("rerank", {**vars(cell), "linker": linker, "index": indexes})]
            elif entry.searches:
                encoder = f"{linker}@{corpus}" if entry.trains else linker
                wanted += [("align", {"linker": linker, "corpus": corpus})] if entry.trains else []
                if entry.embeds:
                    wanted += [("embed_corpus", {"encoder": encoder, "corpus": corpus})]
                    shared = encoder if entry.trains else _shared(config, entry)
                    if "kb" in config.indexes[cell.index].sources:
                        wanted += [("embed_kb", {"encoder": shared, "kb": config.corpora[corpus].kb})]
                        wanted += [("search_names", {"corpus": corpus, "linker": linker, "index": _searched(config, cell.index)})]
                    if cell.generator != NONE:
                        wanted += [("embed_generator", {"encoder": shared, "generator": cell.generator})]
                    wanted += [("link_baseline" if cell.generator == NONE else "link_augmented", {**vars(cell), "linker": linker, "index": indexes})]
            for rule, wildcards in wanted:
                if (key := (rule, tuple(sorted(wildcards.items())))) not in seen:
                    seen.add(key)
                    yield rule, wildcards


def _shared(config: Config, linker: LinkerSettings) -> str:
    """The first linker with the same embeddings of names and notes: abbreviations are expanded in corpora alone."""
    settings = linker.settings_of_names()
    return next(name for name, other in config.linkers.items() if other.settings_of_names() == settings)


def _searched(config: Config, index: str) -> str:
    """The first index that admits the same names: they share one search."""
    return next(name for name, other in config.indexes.items() if "kb" in other.sources and same_names(other, config.indexes[index]))
