"""What an experiment costs, by arithmetic: seconds of each job that computes with a model, on a named device, before any of them has run.

In: the configuration, `Sizes` (workload), a `Device` (reference_devices). Out: `Work` of a job, `CostItem`s of an experiment. Knows nothing of kinds: it asks
their settings. Each formula: floating-point operations over the speed that the device reaches, plus bytes moved, plus the start of each layer's kernels.
Every assumption is a field or a constant. Nothing was measured on a GPU: a sum is right within a factor of two or three. Tests compare the formulas with times measured on CPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge.architectures import Shape
from mentionforge.config import Config
from mentionforge.devices import visible
from mentionforge.entries import NONE
from mentionforge.planning.jobs import jobs
from mentionforge.planning.reference_devices import LARGE, SMALL, USUAL, Device, device
from mentionforge.planning.workload import NOTE_SHARE, Sizes, shape
from mentionforge.recognition.schedules import BY_NAME

PIECES_PER_WORD = 1.4
"""Word pieces of a word of clinical text."""

SENTENCE_WORDS = 14
"""Words of a clinical sentence."""

PROMPT_TOKENS = 180
"""Tokens of a prompt with names and a definition of up to 60 words."""
NAME_PIECES, MENTION_PIECES = 10, 7
"""Word pieces of a name of a knowledge base, and of a mention, as encoders read them."""
MENTIONS_PER_NOTE = 1.2
"""Mentions found in a synthetic note, on average."""

TEST_CONCEPTS = 500
"""Concepts of a test split for which there are synthetic notes."""

SEARCHED_PER_S = 62e6
"""Comparisons of vectors of 768 numbers per second, by exact search on 2 cores: 1,000 queries against a million in 16 s."""

LOADED_PER_S = 1e9
"""Bytes of weights that are loaded per second."""

START_S = {True: 25.0, False: 10.0}
"""Seconds from a job's start to its first batch besides loading: imports, and on a GPU its driver."""

SEARCH_START_S = 2.0
"""The same for a search, which does not import torch."""


# -------------------------------------------------------------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Work:
    """Cost of one job.

    Attributes:
        part: Part of the experiment that the job belongs to, as `fine-tuning`.
        seconds: Time on one device.
        gpu: Whether it uses the GPU.
        model: Entry of `models` that computes; None for a search, which uses no model.
    """

    part: str
    seconds: float
    gpu: bool
    model: str | None = None


SEARCH = "search in indexes (CPU)"


def work(config: Config, rule: str, wildcards: Mapping[str, str], known: Sizes, on: Device, folder: Path = Path()) -> Work | None:
    """The cost of a job; None if there is no formula for its rule, or the shape of its model is unknown.

    Args:
        config: The configuration.
        rule: Name of the rule.
        wildcards: Of the job.
        known: Sizes of the experiment.
        on: The device that the seconds are for.
        folder: What the paths of the configuration refer to.
    """
    return _Formulas(config, known, on, folder).work(rule, wildcards)


@dataclass(frozen=True)
class _Formulas:
    """The formulas: one method for each rule, which returns the part of the experiment and the seconds of the job, without its start."""

    config: Config
    known: Sizes
    on: Device
    folder: Path

    def work(self, rule: str, wildcards: Mapping[str, str]) -> Work | None:
        if rule in SEARCHES:
            return Work(SEARCH, self.searching(rule, wildcards), gpu=False)
        model = model_of(self.config, rule, wildcards)
        size = shape(self.config, model, self.folder) if model else None
        if model is None or size is None:
            return None
        formula = {"sample_vllm": "sample", "recognize_real": "recognize", "recognize_augmented": "recognize"}.get(rule, rule)
        part, seconds = getattr(self, formula)(size, wildcards)
        start = START_S[self.on.gpu] + 2 * size.weights / LOADED_PER_S
        return Work(part, start + seconds, gpu=self.on.gpu, model=model)

    # Language models

    def finetune(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        settings = self.config.generators[wildcards["generator"]].tuning
        assert settings, "the rule is for generators that are fine-tuned"
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
        sampling, backend = generator.writer
        notes = self.known.written[name] / int(wildcards.get("shards", 1))
        batch, length = sampling.rows("cuda" if self.on.gpu else "cpu"), sampling.max_new_tokens
        # A batch of fixed shape is written until its longest note ends; the other backends fill the places of notes that ended.
        steps = notes / batch * (length if backend.fixed_batches else length * NOTE_SHARE)
        shown = generator.sentences_shown
        prompt = PROMPT_TOKENS + shown * SENTENCE_WORDS * PIECES_PER_WORD
        cache = batch * (prompt + length / 2) * 2 * size.layers * size.keys * (2 if self.on.gpu else 4)
        # 4-bit weights are read, written as 16-bit ones, and read again in every step.
        four_bits = sampling.quantization == "nf4" or (
            sampling.quantization == "auto" and self.on.memory is not None and 2 * size.weights + cache > self.on.memory
        )
        bytes_ = (4.5 if four_bits else 2 if self.on.gpu else 4) * size.computed + cache
        step = bytes_ / (self.on.bandwidth * self.on.moved) + self.on.seconds(2 * size.computed * batch) + size.layers * self.on.step_s
        prompts = notes / ((generator.notes_per_concept or 1) if backend.fixed_batches and not shown else 1)
        return "sampling", steps * step + self.on.seconds(2 * size.computed * prompts * prompt)

    # Recognizers

    def recognize(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        corpus, schedule = self.known.corpora[wildcards["corpus"]], wildcards["schedule"]
        kind = BY_NAME[schedule]
        notes = self.chosen(wildcards) if kind.reads_notes else 0
        synthetic = notes * self.sentences_of_note(wildcards["generator"]) if notes else 0.0
        load = self.config.recognizers[wildcards["recognizer"]].training_load(kind, corpus.train_sentences, synthetic)
        seconds = self.trained(size, load.sentences, load.batch)
        # Dev is read after each epoch, dev and test at the end; a teacher reads the notes first.
        seconds += self.read(size, corpus.read_sentences * (load.epochs + 1)) + (self.read(size, synthetic) if kind.has_teacher else 0)
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
        if generator.longest_note:
            return max(1.0, generator.longest_note * NOTE_SHARE / PIECES_PER_WORD / SENTENCE_WORDS)
        return generator.usual_sentences

    # Linkers

    def embed_kb(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.embedded(size, wildcards, self.known.names[wildcards["kb"]], NAME_PIECES)

    def embed_corpus(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.embedded(size, wildcards, self.known.corpora[wildcards["corpus"]].mentions, None)

    def embed_generator(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.embedded(size, wildcards, self.known.located[wildcards["generator"]] * MENTIONS_PER_NOTE, None)

    def embedded(self, size: Shape, wildcards: Mapping[str, str], entries: float, pieces: int | None) -> tuple[str, float]:
        linker: Any = self.config.linkers[wildcards["encoder"].partition("@")[0]]
        assert linker.embeds
        tokens = pieces or (linker.max_tokens if linker.reads_context else MENTION_PIECES)
        share = self.on.float32 if linker.dtype == "float32" else 1.0
        flops = 2 * size.computed * entries * tokens
        return "embedding", self.on.seconds(flops, share) + entries / linker.batch_size * size.layers * self.on.step_s

    def align(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.linker_training(size, wildcards)

    def rerank_train(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        return self.linker_training(size, wildcards)

    def linker_training(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        load = self.config.linkers[wildcards["linker"]].training_load(self.known.corpora[wildcards["corpus"]].train_mentions)
        flops = 6 * size.computed * load.inputs * (load.tokens or NAME_PIECES)
        return "training of linkers", self.on.seconds(flops) + load.batches * size.layers * 3 * self.on.step_s

    def rerank(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        mentions = self.known.corpora[wildcards["corpus"]].read_mentions * len(wildcards["index"].split(","))
        load = self.config.linkers[wildcards["linker"]].reranking_load(mentions)
        flops = 2 * size.computed * load.inputs * (load.tokens or NAME_PIECES)
        return "reranking", self.on.seconds(flops) + load.batches * size.layers * self.on.step_s

    def link_predicted(self, size: Shape, wildcards: Mapping[str, str]) -> tuple[str, float]:
        linker: Any = self.config.linkers[wildcards["linker"]]
        tokens = linker.max_tokens if linker.reads_context else MENTION_PIECES
        entries = self.known.corpora[wildcards["corpus"]].read_mentions
        seconds = self.on.seconds(2 * size.computed * entries * tokens, self.on.float32)
        indexes = [self.config.indexes[index] for index in wildcards["index"].split(",")]
        return "linking of found mentions", seconds + sum(self.compared(wildcards, names="kb" in index.sources) for index in indexes)

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
    """The entry of `models` that a job computes with; None if it computes with no model, or with none of the configuration."""
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
    """Kind and entry of the spec file with the settings of a job; None where the folder of its model holds them."""
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


def usual_device(config: Config, folder: Path = Path()) -> Device:
    """The device for which costs are estimated if the user names none: two cores if there is no GPU and all models are small, else an A100."""
    small = all((size := shape(config, model, folder)) and size.weights < LARGE for model in config.models)
    return device(SMALL if small and not visible() else USUAL)


@dataclass(frozen=True)
class CostItem:
    """Cost of a part of an experiment: number of jobs, the sum of their seconds, and whether they use the GPU."""

    jobs: int
    seconds: float
    gpu: bool


def summed(works: Iterable[Work]) -> dict[str, CostItem]:
    """Costs of jobs, added up by part of the experiment."""
    return joined({work.part: CostItem(1, work.seconds, work.gpu)} for work in works)


def joined(several: Iterable[Mapping[str, CostItem]]) -> dict[str, CostItem]:
    """Costs by part of several mappings, added up."""
    total: dict[str, CostItem] = {}
    for costs in several:
        for name, item in costs.items():
            before = total.get(name, CostItem(0, 0.0, item.gpu))
            total[name] = CostItem(before.jobs + item.jobs, before.seconds + item.seconds, item.gpu)
    return total


def by_formula(config: Config, known: Sizes, on: Device, folder: Path = Path()) -> dict[str, CostItem]:
    """Cost of a whole experiment by part, as if nothing had run yet; jobs without a formula are left out."""
    formulas = _Formulas(config, known, on, folder)
    return summed(one for rule, wildcards in jobs(config) if (one := formulas.work(rule, wildcards)))
