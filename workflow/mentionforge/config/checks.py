"""Checks across sections: names, references between entries, settings that depend on each other, missing files.

In: the validated configuration. Out: nothing, or the first `UserError`, which names the key. Knows nothing of the contents of files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mentionforge import splitting
from mentionforge.config.experiment import NormalizationGrid, RecognitionGrid
from mentionforge.config.messages import nearest
from mentionforge.config.raw import path_exists
from mentionforge.config.schema import SECTIONS, Config
from mentionforge.entries import NAME_PATTERN, NONE
from mentionforge.errors import UserError
from mentionforge.generation.shipped_prompts import SHIPPED


def check_names(config: Config) -> None:
    """Names of entries can be names of folders, and reserved names have their meaning."""
    for section in SECTIONS:
        for name in getattr(config, section):
            if not re.fullmatch(NAME_PATTERN, name):
                raise UserError(
                    "bad name", f"config: {section}.{name}", "names become folders", "use letters, digits and _ + . = ~ -, starting with a letter or digit"
                )
    if NONE in config.generators:
        raise UserError("reserved name", "config: generators.none", "it stands for the baseline without synthetic text", "rename the generator")
    if NONE not in config.strategies or config.strategies[NONE].keep != "none":
        raise UserError("missing baseline", "config: strategies.none", "every comparison needs it", "add `none: {keep: none}`")


def _references(config: Config) -> Iterator[tuple[str, str, str]]:
    """Every reference to an entry: the key that holds it, and section and name of the entry."""
    for name, corpus in config.corpora.items():
        yield f"corpora.{name}.kb", "kbs", corpus.kb
    for name, generator in config.generators.items():
        yield f"generators.{name}.kb", "kbs", generator.kb
        if generator.concepts.corpus:
            yield f"generators.{name}.concepts.corpus", "corpora", generator.concepts.corpus
        if generator.encoder:
            yield f"generators.{name}.encoder.model", "models", generator.encoder.model
        for corpus_name, filters in generator.filters.test_corpora.items():
            yield f"generators.{name}.filters.{filters[0]}.corpora", "corpora", corpus_name
        for key, section, entry in generator.references():
            yield f"generators.{name}.{key}", section, entry
    for name, recognizer in config.recognizers.items():
        if recognizer.model:
            yield f"recognizers.{name}.model", "models", recognizer.model
    for name, linker in config.linkers.items():
        for key, section, entry in linker.references():
            yield f"linkers.{name}.{key}", section, entry
    for task in ("recognition", "normalization"):
        for i, grid in enumerate(getattr(config.experiment, task)):
            for section in ("corpora", "generators", "strategies", "recognizers", "linkers", "indexes"):
                for name in getattr(grid, section, ()):
                    yield f"experiment.{task}.{i}.{section}", section, name
            for name in getattr(grid, "test_corpora", ()):
                yield f"experiment.{task}.{i}.test_corpora", "corpora", name
    for name in config.statistics.confirmatory.strategies:
        if not any(strategy.startswith(f"{name}~") for strategy in config.strategies):  # a swept strategy has been replaced by its variants
            yield "statistics.confirmatory.strategies", "strategies", name


def check_references(config: Config) -> None:
    """Every reference names an existing entry."""
    for key, section, name in _references(config):
        entries = getattr(config, section)
        if name not in entries:
            suggestion = nearest(name, list(entries))
            hint = f"did you mean {suggestion!r}?" if suggestion else f"known: {', '.join(sorted(entries)) or 'none'}"
            singular = {"corpora": "corpus", "strategies": "strategy", "indexes": "index"}.get(section, section[:-1])
            raise UserError(f"unknown {singular} {name!r}", f"config: {key}", "", hint)


def check_prompts(config: Config) -> None:
    """Templates of prompts can be rendered; those that come with the program are checked by its tests."""
    from mentionforge.generation import templates

    for name, prompt in config.prompts.items():
        templates.check(f"config: prompts.{name}", prompt)


def with_prompts(config: Config) -> Config:
    """The configuration with each generator's prompt in the place of its name: spec files hold the text, so that a changed text reruns what reads it."""
    prompts = {**SHIPPED, **config.prompts}
    generators = {name: generator.with_prompt(f"config: generators.{name}", prompts) for name, generator in config.generators.items()}
    return config.model_copy(update={"generators": generators})


def check_end_to_end(config: Config) -> None:
    """Linkers of predicted mentions must search by themselves, and need an index."""
    for i, grid in enumerate(config.experiment.recognition):
        key = f"config: experiment.recognition.{i}"
        for name in grid.linkers:
            if not (linker := config.linkers[name]).searches:
                kind = linker.kind
                raise UserError("unfit linker", f"{key}.linkers", f"{name} is {_article(kind)} {kind} linker", "name one that searches by itself")
        if bool(grid.linkers) != bool(grid.indexes):
            raise UserError("half a grid", key, "linkers and indexes go together", "give both, or neither")


def check_generators(config: Config) -> None:
    """Settings of a generator that depend on each other. This is no validator of the model, since a spec holds only some of the settings."""
    for name, generator in config.generators.items():
        key = f"config: generators.{name}"
        comparing = ["locate.tag_similarity"] if generator.compares_tags else []
        comparing += [f"filters.{one}" for one in generator.filters.encoder_readers]
        if comparing and generator.encoder is None:
            raise UserError("missing encoder", f"{key}.encoder", f"{' and '.join(comparing)} compare by its vectors", "give encoder.model")
        if (unused := generator.filters.pair_readers) and not generator.training_text:
            raise UserError("filter without use", f"{key}.filters.{unused[0]}", "it compares with the fine-tuning pairs, and there are none", "set it to null")
        generator.check(key)


def check_linkers(config: Config) -> None:
    """Linkers that read rankings of others: no hybrid of hybrids, no reranker below another linker, each linker once."""
    for name, linker in config.linkers.items():
        for read_linker in linker.input_linkers():
            read_settings = config.linkers[read_linker]
            if not linker.may_read(read_settings):
                reason = f"{read_linker} is {_article(read_settings.kind)} {read_settings.kind} linker"
                raise UserError("wrong part", f"config: linkers.{name}", reason, "name linkers that search by themselves")
        index = linker.index_of_negatives
        if index is not None and "kb" not in config.indexes[index].sources:
            raise UserError("wrong index", f"config: linkers.{name}.index", f"{index} has no names of the knowledge base", "name one that has the source kb")
        if len(set(linker.input_linkers())) < len(linker.input_linkers()):
            raise UserError("part given twice", f"config: linkers.{name}.linkers", "", "name each linker once")


def check_files(config: Config, root: Path) -> None:
    """Files and folders that the experiment reads exist, unless they are licensed or downloads."""
    downloads = {config.download_path(name) for name in config.downloads}
    for section in ("kbs", "corpora"):
        for name, entry in getattr(config, section).items():
            if not in_use(config, section, name) or getattr(entry, "licensed", None):
                continue
            for path in config.files(section, name):
                if path in downloads or path_exists(root / path):
                    continue
                is_download = path.startswith(f"{config.resources}/downloads/")
                fix = f"declare it under downloads.{Path(path).name}" if is_download else "correct the path, or put the file there"
                raise UserError("missing file", f"config: {section}.{name}", f"{path} does not exist", fix)
    for name, corpus in config.corpora.items():
        split_lists = [str(root / p) for paths in corpus.splits.values() for p in paths]
        if corpus.source and in_use(config, "corpora", name) and all(path_exists(p, os.path.isfile) for p in split_lists):
            splitting.read_lists({split: [root / p for p in paths] for split, paths in corpus.splits.items()})
    for name, generator in config.generators.items():
        cui_list = generator.concepts.cuis
        if cui_list and not path_exists(root / cui_list, os.path.isfile):
            raise UserError("missing file", f"config: generators.{name}.concepts.cuis", f"{cui_list} does not exist", "correct the path, or put the file there")
    grids: list[RecognitionGrid | NormalizationGrid] = [*config.experiment.recognition, *config.experiment.normalization]
    for name in sorted({g for grid in grids for g in grid.generators}):
        generator = config.generators[name]
        if generator.source and not generator.how_to_obtain and generator.source not in downloads and not path_exists(root / generator.source):
            raise UserError("missing file", f"config: generators.{name}.path", f"{generator.source} does not exist", "correct the path, or put the file there")


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"


def in_use(config: Config, section: str, name: str) -> bool:
    """Whether the experiment uses a corpus or kb, directly or through a generator."""
    grids: list[RecognitionGrid | NormalizationGrid] = [*config.experiment.recognition, *config.experiment.normalization]
    generators = {g for grid in grids for g in grid.generators}
    corpora = {c for grid in grids for c in (*grid.corpora, *getattr(grid, "test_corpora", ()))}
    for generator in sorted(generators):
        settings = config.generators[generator]
        corpora |= {name for name in (*settings.text_corpora, settings.concepts.corpus) if name}
        corpora |= set(config.generators[generator].filters.test_corpora)
    if section == "corpora":
        return name in corpora
    return name in {config.corpora[c].kb for c in corpora} | {config.generators[g].kb for g in generators}
