"""The configuration: pydantic models of every entry a user may vary, sweeps, and the specs that jobs read.

`load_config` turns the raw mapping (config.yaml and its overlays, as Snakemake merges them) into a validated `Config`.
Unknown keys, wrong types, unknown names and missing files each raise one `UserError` that names the key and the fix.
`spec` gives the resolved settings of a named entry: what Snakemake writes to `results/specs/KIND/NAME.json`, so that a
changed setting reruns its own subgraph and nothing else.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from mentionforge import splitting, versions
from mentionforge.augmentation.strategies import Strategy as Strategy
from mentionforge.config_files import Places, odd, place_of
from mentionforge.config_files import merge as merge
from mentionforge.corpora.settings import Corpus as Corpus
from mentionforge.corpora.settings import LeakageGuard as LeakageGuard
from mentionforge.corpora.settings import NearDuplicates as NearDuplicates
from mentionforge.corpora.settings import SeededSplit as SeededSplit
from mentionforge.corpora.settings import Split as Split
from mentionforge.download_settings import Download as Download
from mentionforge.encoder_settings import NoteEncoder as NoteEncoder
from mentionforge.entries import EXTERNAL, NAME_PATTERN, NONE
from mentionforge.entries import UNTRAINED as UNTRAINED
from mentionforge.entries import Entry as Entry
from mentionforge.errors import UserError
from mentionforge.evaluation.settings import Confirmatory as Confirmatory
from mentionforge.evaluation.settings import Statistics as Statistics
from mentionforge.external import checks as external
from mentionforge.generation.backends import Backend as Backend
from mentionforge.generation.backends.continuous import ContinuousBackend as ContinuousBackend
from mentionforge.generation.backends.openai import OpenaiBackend as OpenaiBackend
from mentionforge.generation.backends.static import TransformersBackend as TransformersBackend
from mentionforge.generation.backends.vllm import VllmBackend as VllmBackend
from mentionforge.generation.filters import Filters as Filters
from mentionforge.generation.kinds import Generator as Generator
from mentionforge.generation.kinds.control import ControlGenerator as ControlGenerator
from mentionforge.generation.kinds.llm import LlmGenerator as LlmGenerator
from mentionforge.generation.kinds.replay import ReplayGenerator as ReplayGenerator
from mentionforge.generation.settings import FRAME as FRAME
from mentionforge.generation.settings import Concepts as Concepts
from mentionforge.generation.settings import Finetune as Finetune
from mentionforge.generation.settings import Locate as Locate
from mentionforge.generation.settings import Lora as Lora
from mentionforge.generation.settings import Sampling as Sampling
from mentionforge.kb.settings import Kb as Kb
from mentionforge.kb.settings import OntologyKb as OntologyKb
from mentionforge.kb.settings import OtherOntology as OtherOntology
from mentionforge.kb.settings import RrfKb as RrfKb
from mentionforge.kb.settings import SemanticGroup as SemanticGroup
from mentionforge.layout import TRAINED_ON as TRAINED_ON
from mentionforge.layout import NormalizationCell as NormalizationCell
from mentionforge.layout import RecognitionCell as RecognitionCell
from mentionforge.model_settings import Model as Model
from mentionforge.normalization.linkers import KINDS as LINKER_KINDS
from mentionforge.normalization.linkers import Alignment as Alignment
from mentionforge.normalization.linkers import EncoderLinker as EncoderLinker
from mentionforge.normalization.linkers import ExactLinker as ExactLinker
from mentionforge.normalization.linkers import HybridLinker as HybridLinker
from mentionforge.normalization.linkers import Linker as Linker
from mentionforge.normalization.linkers import RerankLinker as RerankLinker
from mentionforge.normalization.linkers import SelfAlignedLinker as SelfAlignedLinker
from mentionforge.normalization.linkers import TfidfLinker as TfidfLinker
from mentionforge.normalization.settings import Index as Index
from mentionforge.recognition.kinds import Recognizer as Recognizer
from mentionforge.recognition.kinds.dictionary import DictionaryRecognizer as DictionaryRecognizer
from mentionforge.recognition.kinds.tagger import TaggerRecognizer as TaggerRecognizer
from mentionforge.recognition.settings import TAUGHT as TAUGHT
from mentionforge.recognition.settings import Schedule as Schedule
from mentionforge.report.settings import Report as Report

KINDS = ("models", "downloads", "kbs", "corpora", "generators", "strategies", "recognizers", "linkers", "indexes")
"""Sections of named entries."""


# -------------------------------------------------------------------------------------------- recognizers, linkers, etc.


# ----------------------------------------------------------------------------------------------------------- experiment


class RecognitionGrid(Entry):
    """A grid of recognition runs; the baseline `none` is run once per corpus, recognizer and seed."""

    corpora: tuple[str, ...]
    generators: tuple[str, ...] = ()
    strategies: tuple[str, ...]
    recognizers: tuple[str, ...]
    schedules: tuple[Schedule, ...] = ("real_only", "synthetic_then_real")
    seeds: tuple[int, ...] = (1,)
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


class Config(Entry):
    """The whole configuration of a run."""

    results: str = Field("results", description="Folder of all outputs.")
    resources: str = Field("resources", description="Folder of fetched weights (models/) and files (downloads/).")
    mirror: str | None = Field(None, description="Local folder to take published files from; MENTIONFORGE_MIRROR overrides it.")
    models: dict[str, Model] = Field(default_factory=dict)
    downloads: dict[str, Download] = Field(default_factory=dict)
    kbs: dict[str, Kb]
    corpora: dict[str, Corpus]
    generators: dict[str, Generator] = Field(default_factory=dict)
    strategies: dict[str, Strategy]
    recognizers: dict[str, Recognizer] = Field(default_factory=dict)
    linkers: dict[str, Linker] = Field(default_factory=dict)
    indexes: dict[str, Index] = Field(default_factory=dict)
    leakage: LeakageGuard = Field(LeakageGuard(), description="Guard against generated and training text in test documents.")
    experiment: Experiment
    hierarchy: Literal["auto", "required", "none"] = Field(
        "auto",
        description="Hierarchy of the knowledge bases, for errors of linkers. auto: as far as their sources have one. required: it must be there. none: not read.",
    )
    statistics: Statistics = Field(Statistics())
    report: Report = Field(Report())

    def files(self, kind: str, name: str) -> list[str]:
        """Input files and folders of the named kb or corpus, as the config gives them, sorted."""
        entry = getattr(self, kind)[name]
        if kind == "corpora":
            return sorted(entry.paths().values())
        return list(entry.files())

    def download_path(self, name: str) -> str:
        """Where the download NAME is stored."""
        return f"{self.resources}/downloads/{name}"


# ------------------------------------------------------------------------------------------------------------- loading


PARTS: dict[str, tuple[str, ...]] = {
    "prompts": ("kind", "kb", "model", "prompt_style", "frame", "concepts", "notes_per_concept", "seed", "path"),
    "finetune": ("kind", "kb", "model", "prompt_style", "frame", "finetune"),
    "sampling": ("kind", "kb", "model", "prompt_style", "frame", "sampling", "dtype", "backend"),
    "locate": ("kind", "kb", "model", "path", "locate", "encoder"),
    "filter": ("kind", "kb", "model", "path", "filters", "encoder"),
}
"""Parts of a generator's settings, so that a new temperature does not fine-tune again. Seeds of notes come from sampling."""


def spec(config: Config, kind: str, name: str, part: str | None = None) -> dict[str, Any]:
    """Resolved settings of an entry, as plain JSON data: `{kind, name, part, stage_version, settings}`.

    Settings that name a model or a kb hold the name only; what that name means is a spec of its own.

    Args:
        config: The validated config.
        kind: Section of the config, as "linkers"; a stage of `versions.OWN_SPECS`; or "parts", for the version of a part alone.
        name: Entry of the section; part of the stage; or name of the part.
        part: For generators, one of `PARTS`: only the settings that this part of the stage reads.
    """
    if kind == "parts" or kind in versions.OWN_SPECS:
        read = {"statistics.compare": config.statistics, "report.page": config.report}.get(f"{kind}.{name}")
        version = versions.number(name if kind == "parts" else f"{kind}.{name}")
        return {"kind": kind, "name": name, "part": None, "stage_version": version, "settings": read.model_dump(mode="json") if read else {}}
    entry = getattr(config, kind)[name]
    include = set(PARTS[part]) if part else None
    settings = json.loads(entry.model_dump_json(include=include))
    version = versions.number(versions.of_spec(kind, entry, part))
    return {"kind": kind, "name": name, "part": part, "stage_version": version, "settings": settings}


def spec_text(config: Config, kind: str, entry: str) -> str:
    """The text of the spec file results/specs/KIND/ENTRY.json, where ENTRY is NAME or NAME/PART."""
    name, _, part = entry.partition("/")
    return json.dumps(spec(config, kind, name, part or None), sort_keys=True)


def read_spec(path: str | Path) -> Any:
    """The entry that a spec file holds, as its pydantic model (RrfKb, Corpus, LlmGenerator, …).

    Raises:
        UserError: The file is no spec.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        # Entries of a discriminated union are validated through the field of the config that holds them.
        holder = Config.__pydantic_fields__[data["kind"]].annotation
        return TypeAdapter(get_args(holder)[1]).validate_python(data["settings"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError("unreadable spec", str(path), str(error).splitlines()[0], "specs are written by the workflow; rerun it") from error


def load_config(raw: Mapping[str, Any], root: Path | None = None, places: Places | None = None) -> Config:
    """Validate a raw config mapping, unfold sweeps, and check names and files.

    Args:
        raw: The mapping of config.yaml and overlays.
        root: Folder that relative paths refer to; none: do not look for files.
        places: Where the values are written (`config_files.read`), so that errors name file and row.

    Raises:
        UserError: With the first offending key and the fix.
    """
    try:
        return _validated(raw, root, places or {})
    except UserError as error:
        key = error.where.removeprefix("config: ")
        place = place_of(places, key) if places and key != error.where else None
        if place is None:
            raise
        fix = f"{error.fix} ({place})" if error.fix else f"({place})"
        raise UserError(error.what, error.where, error.why, fix) from error


def _validated(raw: Mapping[str, Any], root: Path | None, places: Places) -> Config:
    data = unfold_sweeps(raw)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise _as_user_error(error, places) from error
    _check_names(config)
    _check_references(config)
    _check_end_to_end(config)
    _check_generators(config)
    _check_linkers(config)
    external.check(config, root)
    if root is not None:
        _check_files(config, root)
    return config


def plain(raw: Any) -> dict[str, Any]:
    """A copy of a raw config.

    Raises:
        UserError: It is no mapping of plain values with text as keys.
    """
    if not isinstance(raw, Mapping):
        raise UserError("no configuration", "config", f"a {type(raw).__name__} stands where keys are wanted", "give keys at the top, as `linkers:`")
    problem = odd(raw)
    if problem:
        raise UserError("bad value", "config", problem, "correct it")
    copied: dict[str, Any] = json.loads(json.dumps(raw))
    return copied


def located(raw: Mapping[str, Any], root: Path, checkout: Path) -> dict[str, Any]:
    """A raw config for a run in another folder than the checkout (`snakemake --directory`): input files are looked for there, then in the checkout.

    Args:
        raw: The mapping of config.yaml and overlays.
        root: The folder of the run, from which relative paths count.
        checkout: The folder of the workflow.

    Returns:
        The same with those relative paths absolute that exist in the checkout and not below `root`. What the run itself writes (results,
        fetched weights and files) stays relative.
    """
    data = plain(raw)
    if root.resolve() == checkout.resolve():
        return dict(data)
    fetched = tuple(f"{data.get('resources') or 'resources'}/{kind}/" for kind in ("downloads", "models"))

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: inner if key in ("hub", "wheel", "file") else moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if not isinstance(value, str) or "/" not in value or len(value) > 1000 or value.startswith(fetched):
            return value
        fixed = value.partition("{")[0].rpartition("/")[0] if "{" in value else value  # of a pattern, the folder before it
        return str(checkout / value) if not _there(root / fixed) and _there(checkout / fixed) else value

    parts = ("models", "kbs", "corpora", "generators", "recognizers", "linkers", "mirror")
    return {key: moved(value) if key in parts else value for key, value in data.items()}


def _as_user_error(error: ValidationError, places: Places) -> UserError:
    first = error.errors()[0]
    tags = {"rrf", "ontologies", "llm", "template", "names", "replay", "hub", "tagger", "dictionary"} | LINKER_KINDS
    loc = [str(part) for part in first["loc"]]
    # Pydantic puts the discriminator of a union into the location (kbs.demo.rrf.path); it is no key of the file.
    backends = {"transformers", "continuous", "vllm", "openai"}
    loc = [
        part
        for i, part in enumerate(loc)
        if not (i == 2 and part in tags and loc[0] != "models") and not (i > 2 and loc[i - 1] == "backend" and part in backends)
    ]
    key = ".".join(loc) or "config"
    if first["type"] == "extra_forbidden":
        near = _near(loc[-1], _known_keys(loc[:-1]))
        return UserError(
            "unknown key",
            f"config: {key}",
            "",
            f"did you mean {near!r}?" if near else "remove it, or see workflow/schemas/config.schema.json for the keys there are",
        )
    if first["type"] == "missing":
        return UserError("missing key", f"config: {key}", "", "add it")
    if first["type"] == "union_tag_not_found":
        told_by = str(first.get("ctx", {}).get("discriminator", "kind")).strip("'")
        fix = "add it; if this file is an overlay, give the file that it lies over before it"
        return UserError("missing key", f"config: {key}.{told_by}", "it says what sort of entry this is", fix)
    # A key of several types (a number or a word) has an error for each of them, with the type at the end of its place.
    kinds = [other for other in error.errors() if len(other["loc"]) == len(first["loc"]) and other["loc"][:-1] == first["loc"][:-1]]
    if len(kinds) > 1 and all(re.fullmatch(r"constrained-\w+|literal\[.*\]|int|str|float", str(other["loc"][-1])) for other in kinds):
        key, first = key.rpartition(".")[0], {**first, "msg": ", or ".join(other["msg"] for other in kinds)}
    else:
        kinds = [error.errors()[0]]
    more = len(error.errors()) - len(kinds)
    after = f" ({more} more after this)" if more else ""
    if first["input"] is None or isinstance(first["input"], bool | int | float):
        # YAML has made something else of a text: 1.10 is the number 1.1, and no is false.
        place = place_of(places, key)
        read_as = json.dumps(first["input"])
        written = place.written if place and place.written else read_as
        if written != read_as or first["type"] in ("string_type", "literal_error"):
            why = f"{first['msg']}, and YAML reads {written} as {'the number ' if type(first['input']) in (int, float) else ''}{read_as}"
            return UserError("bad value", f"config: {key}", why, f'quote it: "{written}"{after}')
    return UserError("bad value", f"config: {key}", f"{first['msg'].removeprefix('Value error, ')} (got {first['input']!r:.80})", f"correct it{after}")


def _known_keys(loc: list[str]) -> list[str]:
    if not loc:
        return list(Config.model_fields)
    keys: set[str] = set()

    def collect(model: Any) -> None:
        for inner in get_args(model):
            collect(inner)
        if isinstance(model, type) and issubclass(model, Entry):
            keys.update(model.model_fields)
            for field in model.model_fields.values():
                collect(field.annotation)

    field = Config.model_fields.get(loc[0])
    if field is not None:
        collect(field.annotation)
    return sorted(keys)


def _near(word: str, known: list[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def _check_names(config: Config) -> None:
    for kind in KINDS:
        for name in getattr(config, kind):
            if not re.fullmatch(NAME_PATTERN, name):
                raise UserError(
                    "bad name", f"config: {kind}.{name}", "names become folders", "use letters, digits and _ + . = ~ -, starting with a letter or digit"
                )
    if NONE in config.generators:
        raise UserError("reserved name", "config: generators.none", "it stands for the baseline without synthetic text", "rename the generator")
    if NONE not in config.strategies or config.strategies[NONE].keep != "none":
        raise UserError("missing baseline", "config: strategies.none", "every comparison needs it", "add `none: {keep: none}`")


def _references(config: Config) -> Iterator[tuple[str, str, str]]:
    """Every (key, kind, name) by which one part of the config names another."""
    for name, corpus in config.corpora.items():
        yield f"corpora.{name}.kb", "kbs", corpus.kb
    for name, generator in config.generators.items():
        yield f"generators.{name}.kb", "kbs", generator.kb
        if generator.concepts.corpus:
            yield f"generators.{name}.concepts.corpus", "corpora", generator.concepts.corpus
        if generator.encoder:
            yield f"generators.{name}.encoder.model", "models", generator.encoder.model
        for corpus_name in generator.filters.leakage.corpora if generator.filters.leakage else ():
            yield f"generators.{name}.filters.leakage.corpora", "corpora", corpus_name
        if isinstance(generator, LlmGenerator):
            if generator.model:
                yield f"generators.{name}.model", "models", generator.model
            if generator.finetune:
                yield f"generators.{name}.finetune.corpus", "corpora", generator.finetune.corpus
    for name, recognizer in config.recognizers.items():
        if recognizer.model:
            yield f"recognizers.{name}.model", "models", recognizer.model
    for name, linker in config.linkers.items():
        for key, section, entry in linker.references():
            yield f"linkers.{name}.{key}", section, entry
    for task in ("recognition", "normalization"):
        for i, grid in enumerate(getattr(config.experiment, task)):
            for kind in ("corpora", "generators", "strategies", "recognizers", "linkers", "indexes"):
                for name in getattr(grid, kind, ()):
                    yield f"experiment.{task}.{i}.{kind}", kind, name
            for name in getattr(grid, "test_corpora", ()):
                yield f"experiment.{task}.{i}.test_corpora", "corpora", name
    for name in config.statistics.confirmatory.strategies:
        if not any(strategy.startswith(f"{name}~") for strategy in config.strategies):  # a strategy that a sweep unfolded is no entry any more
            yield "statistics.confirmatory.strategies", "strategies", name


def _check_references(config: Config) -> None:
    for key, kind, name in _references(config):
        known = getattr(config, kind)
        if name not in known:
            near = _near(name, list(known))
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
            one = {"corpora": "corpus", "strategies": "strategy", "indexes": "index"}.get(kind, kind[:-1])
            raise UserError(f"unknown {one} {name!r}", f"config: {key}", "", hint)


def _check_end_to_end(config: Config) -> None:
    """Linkers that read the rankings of others have none of predicted mentions to read; and a linker needs an index."""
    for i, grid in enumerate(config.experiment.recognition):
        key = f"config: experiment.recognition.{i}"
        for name in grid.linkers:
            if not (linker := config.linkers[name]).searches:
                kind = linker.kind
                raise UserError("unfit linker", f"{key}.linkers", f"{name} is {_article(kind)} {kind} linker", "name one that searches by itself")
        if bool(grid.linkers) != bool(grid.indexes):
            raise UserError("half a grid", key, "linkers and indexes go together", "give both, or neither")


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"


def _check_generators(config: Config) -> None:
    """Settings of a generator that only make sense together; specs of its parts hold some of them only, so this is no validator."""
    for name, generator in config.generators.items():
        key = f"config: generators.{name}"
        if generator.encoder is None and (generator.filters.agreement or generator.locate.tag_similarity is not None):
            raise UserError("missing encoder", f"{key}.encoder", "locate.tag_similarity and filters.agreement need one", "give encoder.model")
        if generator.filters.memorization and not generator.trains:
            raise UserError("filter without use", f"{key}.filters.memorization", "it compares with the fine-tuning pairs, and there are none", "set it to null")
        if isinstance(generator, LlmGenerator):
            generator.backend.check(generator, key)


def _check_linkers(config: Config) -> None:
    """What a linker reads from others: no hybrid of hybrids, no reranker below another linker, each part once."""
    for name, linker in config.linkers.items():
        for part in linker.parts():
            below = config.linkers[part]
            if not linker.may_read(below):
                why = f"{part} is {_article(below.kind)} {below.kind} linker"
                raise UserError("wrong part", f"config: linkers.{name}", why, "name linkers that search by themselves")
        index = linker.index_of_negatives
        if index is not None and "kb" not in config.indexes[index].sources:
            raise UserError("wrong index", f"config: linkers.{name}.index", f"{index} has no names of the knowledge base", "name one that has the source kb")
        if len(set(linker.parts())) < len(linker.parts()):
            raise UserError("part given twice", f"config: linkers.{name}.linkers", "", "name each linker once")


def _check_files(config: Config, root: Path) -> None:
    downloads = {config.download_path(name) for name in config.downloads}
    for kind in ("kbs", "corpora"):
        for name, entry in getattr(config, kind).items():
            if not in_use(config, kind, name) or getattr(entry, "licensed", None):
                continue
            for path in config.files(kind, name):
                if path in downloads or _there(root / path):
                    continue
                fetched = path.startswith(f"{config.resources}/downloads/")
                fix = f"declare it under downloads.{Path(path).name}" if fetched else "correct the path, or put the file there"
                raise UserError("missing file", f"config: {kind}.{name}", f"{path} does not exist", fix)
    for name, corpus in config.corpora.items():
        lists = [str(root / p) for paths in corpus.splits.values() for p in paths]
        if corpus.source and in_use(config, "corpora", name) and all(_there(p, os.path.isfile) for p in lists):
            splitting.read_lists({split: [root / p for p in paths] for split, paths in corpus.splits.items()})
    for name, generator in config.generators.items():
        listed = generator.concepts.cuis
        if listed and not _there(root / listed, os.path.isfile):
            raise UserError("missing file", f"config: generators.{name}.concepts.cuis", f"{listed} does not exist", "correct the path, or put the file there")
    grids: list[RecognitionGrid | NormalizationGrid] = [*config.experiment.recognition, *config.experiment.normalization]
    for name in sorted({g for grid in grids for g in grid.generators}):
        generator = config.generators[name]
        if generator.source and not generator.licensed and not _there(root / generator.source):
            raise UserError("missing file", f"config: generators.{name}.path", f"{generator.source} does not exist", "correct the path, or put the file there")


def _there(path: str | Path, kind: Callable[[str], bool] = os.path.exists) -> bool:
    """Whether a file is there; no error for what can be no path, as a name too long, which pathlib raises."""
    return kind(str(path))


def in_use(config: Config, kind: str, name: str) -> bool:
    """Whether the experiment needs the named corpus or kb, directly or through a generator."""
    grids: list[RecognitionGrid | NormalizationGrid] = [*config.experiment.recognition, *config.experiment.normalization]
    generators = {g for grid in grids for g in grid.generators}
    corpora = {c for grid in grids for c in (*grid.corpora, *getattr(grid, "test_corpora", ()))}
    for generator in sorted(generators):
        finetune = getattr(config.generators[generator], "finetune", None)
        corpora |= {finetune.corpus} if finetune else set()
        chosen_by = config.generators[generator].concepts.corpus
        corpora |= {chosen_by} if chosen_by else set()
        leakage = config.generators[generator].filters.leakage
        corpora |= set(leakage.corpora) if leakage else set()
    if kind == "corpora":
        return name in corpora
    return name in {config.corpora[c].kb for c in corpora} | {config.generators[g].kb for g in generators}


# --------------------------------------------------------------------------------------------------------------- cells


def all_parts_of(config: Config, name: str) -> list[str]:
    """Names of the linkers whose predictions the named linker reads, directly or through others."""
    direct = config.linkers[name].parts()
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


# -------------------------------------------------------------------------------------------------------------- sweeps

MOST_VARIANTS = 10_000
"""Variants of one entry; more is a mistake, and would fill the memory."""
SWEEPABLE = ("corpora", "generators", "strategies", "recognizers", "linkers", "indexes")


def unfold_sweeps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Unfold sweeps of named entries into variants named NAME~KEY=VALUE, and grids that name them.

    `{sweep: [a, b]}` stands where a value would; several sweeps in one entry give their product. All `{zip: [a, b]}` of an entry
    advance together. In both, a mapping `{sweep: {label: value}}` gives names to values that have none, as lists. Where two keys of
    an entry have the same last part, the variants' names have as much of the path as tells them apart. A grid that lists NAME gets all
    variants, in the order of the lists.

    Raises:
        UserError: A sweep where there can be none (kbs, models), an empty one, zipped lists of different lengths, a variant's name
            with characters that no folder has.
    """
    data = plain(raw)
    variants: dict[tuple[str, str], list[str]] = {}
    for kind in data:
        entries = data[kind] or {}
        if kind not in (*KINDS, "models", "downloads") or not isinstance(entries, dict):
            continue
        unfolded: dict[str, Any] = {}
        for name, entry in entries.items():
            found = list(_find_sweeps(entry, ()))
            if any(not sweep.path for sweep in found):
                raise UserError("sweep not possible", f"config: {kind}.{name}", "it stands in the place of the whole entry", "put it where a value stands")
            if found and kind not in SWEEPABLE:
                raise UserError(
                    "sweep not possible",
                    f"config: {kind}.{name}.{'.'.join(found[0].path)}",
                    f"only {', '.join(SWEEPABLE)} can be swept",
                    "write two named entries",
                )
            for label, variant in _variants(kind, name, entry, found):
                if label in unfolded or (label != name and label in entries):
                    raise UserError(
                        "name given twice", f"config: {kind}.{name}", f"two variants or entries are called {label}", "use labels: {sweep: {label: value}}"
                    )
                unfolded[label] = variant
                if found:
                    variants.setdefault((kind, name), []).append(label)
        data[kind] = unfolded
    experiment = data.get("experiment")
    for task in ("recognition", "normalization"):
        grids = experiment.get(task) if isinstance(experiment, dict) else None
        for grid in grids if isinstance(grids, list) else ():
            for key, names in grid.items() if isinstance(grid, dict) else ():
                kind = "corpora" if key == "test_corpora" else key
                if isinstance(names, list):
                    grid[key] = [v for name in names for v in variants.get((kind, name) if isinstance(name, str) else ("", ""), [name])]
    return data


@dataclass(frozen=True)
class Sweep:
    """A swept setting of an entry: where it is, its labels and values, and whether it advances together with the others of its kind."""

    path: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[Any, ...]
    zipped: bool


def swept_settings(raw: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    """What varies in each variant: the label of each swept setting (`linkers.mention.max_tokens`), by kind and name of the variant."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for kind in SWEEPABLE:
        for name, entry in (raw.get(kind) or {}).items():
            sweeps = list(_find_sweeps(entry, ()))
            keys = _telling([sweep.path for sweep in sweeps])
            for label, _ in _variants(kind, name, entry, sweeps) if sweeps else ():
                # A label may hold no "~KEY=" of another sweep: names are built from left to right.
                rest, values = label[len(name) :], {}
                for i, (key, sweep) in enumerate(zip(keys, sweeps, strict=True)):
                    value = rest.removeprefix(f"~{key}=")
                    if i + 1 < len(keys):
                        value = value[: value.index(f"~{keys[i + 1]}=")]
                    rest = rest[len(f"~{key}=") + len(value) :]
                    values[".".join((kind, name, *sweep.path))] = value
                found[kind, label] = values
    return found


def _variants(kind: str, name: str, entry: Any, found: list[Sweep]) -> Iterator[tuple[str, Any]]:
    """Names and settings of an entry's variants; the entry itself if nothing in it is swept."""
    for sweep in found:
        if not sweep.values:
            raise UserError("empty sweep", f"config: {kind}.{name}.{'.'.join(sweep.path)}", "", "list at least one value")
    together = [sweep for sweep in found if sweep.zipped]
    if len({len(sweep.values) for sweep in together}) > 1:
        lengths = ", ".join(f"{'.'.join(sweep.path)} has {len(sweep.values)}" for sweep in together)
        raise UserError("zipped lists of different lengths", f"config: {kind}.{name}", lengths, "give each the same number of values")
    if math.prod(len(sweep.values) for sweep in found if not sweep.zipped) > MOST_VARIANTS:
        raise UserError(
            "too many variants", f"config: {kind}.{name}", f"its sweeps have more than {MOST_VARIANTS:,} combinations", "sweep fewer values, or zip"
        )
    keys = _telling([sweep.path for sweep in found])
    # One axis for each sweep, and one for all zipped lists, in the place of the first of them.
    axes = [[sweep] for sweep in found if not sweep.zipped]
    if together:
        axes.insert(sum(not sweep.zipped for sweep in found[: found.index(together[0])]), together)
    for choice in itertools.product(*(range(len(axis[0].values)) for axis in axes)):
        chosen = {id(sweep): i for axis, i in zip(axes, choice, strict=True) for sweep in axis}
        variant = json.loads(json.dumps(entry)) if found else entry
        labels = [name]
        for key, sweep in zip(keys, found, strict=True):
            _set(variant, sweep.path, sweep.values[chosen[id(sweep)]])
            labels.append(f"{key}={sweep.labels[chosen[id(sweep)]]}")
        label = "~".join(labels)
        if found and not re.fullmatch(NAME_PATTERN, label):
            raise UserError("bad name", f"config: {kind}.{name}", f"the variant would be called {label!r}", "give its value a label: {sweep: {label: value}}")
        yield label, variant


def _telling(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest ends of paths that tell them apart, joined by dots."""
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return [path[-1] if sum(other[-1] == path[-1] for other in paths) == 1 else ".".join(path[-length:]) for path in paths]


def _find_sweeps(node: Any, path: tuple[str, ...]) -> Iterator[Sweep]:
    if not isinstance(node, dict):
        return
    for word in ("sweep", "zip"):
        if set(node) == {word} and isinstance(node[word], list | dict):
            given = node[word]
            named = given if isinstance(given, dict) else {_label(value): value for value in given}
            if len(named) < len(given):
                raise UserError("value given twice", f"config: {'.'.join(path)}", f"{given}"[:80], "list each once, or give labels: {sweep: {label: value}}")
            yield Sweep(path, tuple(map(str, named)), tuple(named.values()), word == "zip")
            return
    for key, value in node.items():
        yield from _find_sweeps(value, (*path, key))


def _label(value: Any) -> str:
    """What a swept value is called in a variant's name: as in YAML."""
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _set(node: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


def json_schema() -> str:
    """The JSON schema of the config, as committed in workflow/schemas/config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True) + "\n"
