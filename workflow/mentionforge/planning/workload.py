"""How much work an experiment is: concepts, names, sentences, mentions, notes, and the shapes of its models.

In: the configuration and a results folder. Out: `Sizes`, counted where the tables are there, else assumed and said so. Knows nothing of devices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mentionforge.architectures import KNOWN, Shape, shape_in
from mentionforge.config import Config, in_use, normalization_cells, recognition_cells
from mentionforge.entries import NONE
from mentionforge.layout import Results

NOTE_SHARE = 0.6
"""Mean length of a note, as a share of `max_new_tokens`."""

LOCATED = 0.9
"""Share of the notes in which the mention is found: 128,945 of three for each of 47,654 concepts."""


@dataclass(frozen=True)
class CorpusSize:
    """Sizes of an annotated corpus; sentences and mentions by split."""

    train_sentences: int
    read_sentences: int
    train_mentions: int
    read_mentions: int

    @property
    def mentions(self) -> int:
        """Mentions of all splits."""
        return self.train_mentions + self.read_mentions


CORPORA = {
    "semeval": CorpusSize(15_000, 17_000, 11_000, 16_000),
    "ncbi": CorpusSize(5_600, 1_900, 5_145, 1_747),
    "bc5cdr": CorpusSize(4_600, 9_200, 4_182, 8_668),
}
"""By a part of a corpus' name: NCBI and BC5CDR as counted, SemEval-2015 Task 14 roughly (some 300, 130 and 100 notes)."""
OTHER = CorpusSize(5_000, 5_000, 5_000, 5_000)


@dataclass(frozen=True)
class Sizes:
    """How much there is to process: counted where the results folder has the tables, else assumed.

    Attributes:
        concepts: Concepts that can be prompted, by knowledge base.
        names: Distinct names, by knowledge base.
        corpora: Sizes by corpus.
        written: Notes to write, by generator.
        located: Notes whose mention was found, by generator; augmentation chooses among these.
        assumed: The figures that are assumed, each in words.
    """

    concepts: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, int] = field(default_factory=dict)
    corpora: Mapping[str, CorpusSize] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    located: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


SENTENCE_BYTES = 150
"""Of an annotated corpus per sentence: a limit for small ones that are at hand."""


def sizes(config: Config, folder: Path = Path(), concepts: int | None = None) -> Sizes:
    """Sizes of an experiment: from the tables in its results folder, else assumed.

    Args:
        config: The configuration.
        folder: What its paths refer to.
        concepts: Concepts that can be prompted, for every knowledge base; none: as found or assumed.
    """
    layout = Results(str(folder / config.results))
    promptable: dict[str, int] = {}
    names: dict[str, int] = {}
    assumed: dict[str, None] = {}  # an ordered set
    for kb, entry in config.kbs.items():
        with_definition, all_names = entry.estimated_size(folder)
        defined = rows(layout.kb(kb, "definitions.parquet"))
        promptable[kb] = concepts if concepts is not None else defined or with_definition
        names[kb] = rows(layout.kb(kb, "names.parquet")) or all_names
        if concepts is None and not defined and in_use(config, "kbs", kb):
            assumed[f"{promptable[kb]:,} concepts with a definition and {names[kb]:,} names in {kb}"] = None
    corpora: dict[str, CorpusSize] = {}
    for corpus, settings in config.corpora.items():
        stats = corpus_counted(Path(layout.corpus(corpus, "stats.json")))
        corpora[corpus] = stats or corpus_assumed(corpus, {s: bytes_of(folder / path for path in paths) for s, paths in settings.splits.items()})
        if stats is None and in_use(config, "corpora", corpus):
            assumed[f"{corpora[corpus].train_sentences:,} training sentences in {corpus}"] = None
    used = generators_in_use(config)
    written: dict[str, int] = {}
    located: dict[str, int] = {}
    for name, generator in config.generators.items():
        per_concept = generator.notes_per_concept or 3
        chosen = min(promptable[generator.kb], generator.concepts.max or promptable[generator.kb])
        prompts = None if concepts is not None else rows(layout.generation(name, "prompts.parquet"))
        located_notes = None if concepts is not None else rows(layout.generation(name, "located.parquet"))
        written[name] = prompts or chosen * per_concept
        located[name] = located_notes or round(written[name] * LOCATED)
        if generator.longest_note and not located_notes and name in used:
            length = generator.longest_note * NOTE_SHARE
            assumed[f"{written[name]:,} notes of {length:.0f} tokens by {name}, the mention found in {LOCATED:.0%}"] = None
    return Sizes(promptable, names, corpora, written, located, tuple(assumed))


def corpus_assumed(name: str, sizes: Mapping[str, int]) -> CorpusSize:
    """Sizes of a corpus that has not been read yet: as published, and no more than its files can hold."""
    known = next((sizes for part, sizes in CORPORA.items() if part in name.lower()), OTHER)
    if not sizes.get("train"):
        return known
    share = [
        min(1.0, n / SENTENCE_BYTES / sentences)
        for n, sentences in ((sizes["train"], known.train_sentences), (sum(sizes.values()) - sizes["train"], known.read_sentences))
    ]
    return CorpusSize(
        *(max(1, round(n * share[i % 2])) for i, n in enumerate((known.train_sentences, known.read_sentences, known.train_mentions, known.read_mentions)))
    )


def bytes_of(paths: Iterable[Path]) -> int:
    """Bytes of files and of all files below folders; paths that do not exist count 0."""
    return sum(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size for path in paths if path.exists())


def rows(table: str) -> int | None:
    """Rows of a Parquet file; None if the file does not exist."""
    if not Path(table).is_file():
        return None
    import pyarrow.parquet as pq

    return int(pq.read_metadata(table).num_rows)


def corpus_counted(stats: Path) -> CorpusSize | None:
    """Sizes of a corpus as its stats.json says; None if that cannot be read."""
    try:
        splits = json.loads(stats.read_text(encoding="utf-8"))["splits"]
        others = [split for name, split in splits.items() if name != "train"]
        train = splits["train"]
        return CorpusSize(train["sentences"], sum(s["sentences"] for s in others), train["mentions"], sum(s["mentions"] for s in others))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def generators_in_use(config: Config) -> set[str]:
    """Generators whose notes a cell of the experiment uses."""
    return ({c.generator for c in recognition_cells(config)} | {c.generator for c in normalization_cells(config)}) - {NONE}


def shape(config: Config, model: str, folder: Path = Path()) -> Shape | None:
    """The shape of an entry of `models`: from its fetched weights, else by its published name; None if neither is known.

    Args:
        config: The configuration.
        model: Name of the entry.
        folder: What the paths of the configuration refer to.
    """
    entry = config.models[model]
    places = [folder / entry.path] if entry.path else []
    stamp = folder / config.resources / "models" / model / "fetched.json"
    try:
        fetched = json.loads(stamp.read_text(encoding="utf-8"))
        place = Path(fetched["folder"])
        # A stamp may be of weights that the entry named before: of another preset, or of a trial.
        if all(fetched["reference"].get(source) == getattr(entry, source) for source in ("hub", "path", "wheel")):
            places.insert(0, place if place.is_absolute() else stamp.parent / place)
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    for place in places:
        if shape := shape_in(place):
            return shape
    named = f"{entry.hub or ''} {entry.wheel or ''} {entry.path or ''}".lower()
    return next((shape for fragment, shape in KNOWN.items() if fragment in named), None)
