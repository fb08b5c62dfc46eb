"""The layout of the results folder and of the resources folder: builds every path, and reads the cell from a path.

In: names of entries, or Snakemake's wildcards ("{corpus}") in their place. Out: paths as text; from a path, the cell that it names.
Knows nothing about the configuration, about which files exist, or about what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

from mentionforge.entries import EXTERNAL, NAME_PATTERN

TRAINED_ON = "~train="
"""Joins schedule and training corpus in cells that test another corpus: real_only~train=ncbi_disease."""

PREDICTIONS = "predictions.parquet"

NOTES, SHARDS, EVERY_SHARD = "notes.parquet", "shards", "*-of-*.parquet"
"""Notes of a generator, folder of its shards, and the pattern of their names."""

OWNED = (
    "alignment", "augmentation", "benchmarks", "corpora", "embeddings", "end_to_end", "evaluation", "generation", "kb", "leakage", "logs", "missing",
    "normalization", "recognition", "report", "reranking", "retrieval", "specs", "statistics", "sweeps", "summary",
)  # fmt: skip
"""Folders of a results folder that the workflow writes. It never deletes files elsewhere."""


# --------------------------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True, order=True)
class RecognitionCell:
    """One recognition run; the fields are the path levels below results/recognition/."""

    corpus: str
    generator: str
    strategy: str
    recognizer: str
    schedule: str
    seed: int

    @property
    def path(self) -> str:
        """Path of the cell below results/recognition/ and results/end_to_end/."""
        return "/".join([self.corpus, self.generator, self.strategy, self.recognizer, self.schedule, f"seed{self.seed}"])

    @classmethod
    def of(cls, levels: Sequence[str]) -> Self | None:
        """The cell with these path levels; None if they are no cell."""
        if len(levels) != len(fields(cls)):
            return None
        corpus, generator, strategy, recognizer, schedule, last = levels
        seed = re.fullmatch(r"seed(\d+)", last)
        if seed is None or not all(re.fullmatch(NAME_PATTERN, level) for level in levels[:-1]):
            return None
        return cls(corpus, generator, strategy, recognizer, schedule, int(seed[1]))

    @property
    def trained_on(self) -> str:
        """The other corpus that the model was trained on; empty if it was trained on the cell's own corpus."""
        return self.schedule.partition(TRAINED_ON)[2]


@dataclass(frozen=True, order=True)
class NormalizationCell:
    """One normalization cell; the fields are the path levels below results/normalization/."""

    corpus: str
    generator: str
    strategy: str
    linker: str
    index: str

    @property
    def path(self) -> str:
        """Path of the cell below results/normalization/."""
        return "/".join(astuple(self))

    @classmethod
    def of(cls, levels: Sequence[str]) -> Self | None:
        """The cell with these path levels; None if they are no cell."""
        return cls(*levels) if len(levels) == len(fields(cls)) else None


EndToEndCell = tuple[RecognitionCell, str, str]
"""A recognition run, and the linker and index that rank concepts for its mentions."""


def levels_below(path: Path, base: Path) -> tuple[str, ...]:
    """Folders between a base folder and a file; empty: the file does not lie below it."""
    return path.relative_to(base).parts[:-1] if path.is_relative_to(base) else ()


def end_to_end_cell(path: Path, base: Path) -> EndToEndCell | None:
    """The cell whose rankings are at this path below results/end_to_end/; None if the path is none of a cell."""
    *levels, linker, index = levels_below(path, base) or ("", "")
    cell = RecognitionCell.of(levels)
    if cell is None or path.name != "linked.parquet" or not all(re.fullmatch(NAME_PATTERN, name) for name in (linker, index)):
        return None
    return cell, linker, index


def job_of(path: Path, folder: str) -> str:
    """The job of a log or benchmark below its folder (`Results.logs`, `Results.benchmarks`): the path that `Results.log` was given."""
    return path.relative_to(folder).with_suffix("").as_posix()


def stage_of(job: str) -> tuple[str, str]:
    """Stage of a job and the entry or corpus that it is about, as people read them: ("generation: sample", "smollm2").

    Args:
        job: As from `job_of`.
    """
    stage, *levels = job.split("/")
    if stage == "generation":
        return f"{stage}: {'sample' if 'shards' in levels else levels[-1]}", levels[0]
    if stage in ("evaluation", "statistics"):
        return f"{stage}: {levels[0]}", levels[-1]
    return (f"{stage}: {levels[-1]}", "") if stage == "report" else (stage, levels[0])


def compared_in(path: Path) -> tuple[str, str]:
    """Task and corpus of a table of `Results.statistics`."""
    task, corpus, _ = path.parts[-3:]
    return task, corpus


def evaluated_in(path: Path) -> tuple[str, str]:
    """Task and corpus of a table of `Results.scores` or `Results.errors`."""
    return path.parent.name, path.name.removesuffix(".parquet").removesuffix(".errors")


def chosen_in(path: Path) -> tuple[str, str, str]:
    """Corpus, generator and strategy of a table of `Results.chosen`."""
    corpus, generator, strategy, _ = path.parts[-4:]
    return corpus, generator, strategy


def entry_in(path: Path) -> str:
    """The entry whose folder holds a file: of `Results.kb`, `corpus` and `generation`, and the stamp of `Resources.model`."""
    return path.parent.name


def index_in(path: Path) -> str:
    """Index of the cell that a file of `Results.normalization` or `Results.linked` belongs to."""
    return path.parent.name


def mentions_linked_in(path: Path) -> Path:
    """The predicted mentions that a table of `Results.linked` ranks concepts for."""
    return path.parents[2] / "mentions.parquet"


def generated_in(folder: Path) -> tuple[Results, str]:
    """Results and generator of the folder of a generator."""
    return Results(str(folder.parent.parent)), folder.name


def notes_beside(path: Path) -> Path | None:
    """The notes of the generator that a table of `Results.shard` belongs to; None if the path is none of a shard."""
    return path.parents[1] / NOTES if path.parent.name == SHARDS else None


def summarized_in(path: Path) -> Path:
    """The results folder of a table of `Results.summary`."""
    return path.parents[1]


def imported_in(path: Path) -> tuple[str, str]:
    """Task and corpus of the predictions of an external system."""
    levels = path.parts[: len(path.parts) - 1 - path.parts[::-1].index(EXTERNAL)]
    return levels[-5], levels[-4]


# --------------------------------------------------------------------------------------------------------------- paths


@dataclass(frozen=True)
class Results:
    """Paths below a results folder."""

    root: str

    def spec(self, kind: str, entry: str) -> str:
        """Settings of an entry; `kind` is a section of the configuration, or parts, evaluation, statistics, report."""
        return f"{self.root}/specs/{kind}/{entry}.json"

    def specs(self, kind: str = "") -> str:
        """Folder of the spec files of a kind, or of all."""
        return f"{self.root}/specs/{kind}".rstrip("/")

    def missing(self, kind: str, name: str) -> str:
        """Stands for a missing licensed input; no job can write it."""
        return f"{self.root}/missing/{kind}/{name}"

    def kb(self, name: str, file: str) -> str:
        """A file of an extracted knowledge base."""
        return f"{self.root}/kb/{name}/{file}"

    def corpus(self, name: str, file: str) -> str:
        """A file of a corpus after reading."""
        return f"{self.root}/corpora/{name}/{file}"

    @property
    def overlap(self) -> str:
        """Overlap of the corpora with each other."""
        return f"{self.root}/corpora/overlap.csv"

    def leakage(self, corpus: str, generator: str) -> str:
        """Overlap of a generator's texts with the test documents of a corpus."""
        return f"{self.root}/leakage/{corpus}/{generator}.csv"

    def generation(self, generator: str, file: str) -> str:
        """A file of a generator, or its folder adapter."""
        return f"{self.root}/generation/{generator}/{file}"

    def shard(self, generator: str, shard: int | str, shards: int | str) -> str:
        """Notes of one shard of a generator's prompts."""
        return self.generation(generator, f"{SHARDS}/{shard}-of-{shards}.parquet")

    def chosen(self, corpus: str, generator: str, strategy: str) -> str:
        """The notes that a strategy adds to a corpus."""
        return f"{self.root}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet"

    def cells(self, task: str) -> str:
        """Folder of the cells of a task (recognition, normalization, end_to_end)."""
        return f"{self.root}/{task}"

    def recognition(self, cell: RecognitionCell, file: str = PREDICTIONS) -> str:
        """A file of a recognition cell, or its folder model."""
        return f"{self.root}/recognition/{cell.path}/{file}"

    def encoder(self, linker: str, corpus: str) -> str:
        """The encoder that a linker trains on a corpus."""
        return f"{self.root}/alignment/{linker}/{corpus}/fetched.json"

    def reranker(self, linker: str, corpus: str) -> str:
        """The cross-encoder that a linker trains on a corpus."""
        return f"{self.root}/reranking/{linker}/{corpus}/fetched.json"

    def embedded(self, encoder: str, kind: str, name: str, file: str = "entries.parquet") -> str:
        """Embedded entries of a kb, corpus or generator (`kind`), or their vectors; `encoder` is LINKER, or LINKER@CORPUS for one that is trained here."""
        return f"{self.root}/embeddings/{encoder}/{kind}.{name}/{file}"

    def retrieval(self, corpus: str, linker: str, index: str) -> str:
        """Candidate names of a knowledge base for every mention of a corpus."""
        return f"{self.root}/retrieval/{corpus}/{linker}/{index}/found.parquet"

    def normalization(self, cell: NormalizationCell, file: str = PREDICTIONS) -> str:
        """A file of a normalization cell."""
        return f"{self.root}/normalization/{cell.path}/{file}"

    def predicted(self, cell: RecognitionCell, file: str) -> str:
        """A file with the mentions that a recognition run predicted, as a corpus to link."""
        return f"{self.root}/end_to_end/{cell.path}/{file}"

    def linked(self, cell: RecognitionCell, linker: str, index: str) -> str:
        """Concepts ranked for predicted mentions."""
        return f"{self.root}/end_to_end/{cell.path}/{linker}/{index}/linked.parquet"

    def scores(self, task: str, corpus: str) -> str:
        """Metrics of a task (recognition, normalization, end_to_end) on a corpus; for `nil` the curves of thresholds."""
        return f"{self.root}/evaluation/{task}/{corpus}.parquet"

    def errors(self, task: str, corpus: str) -> str:
        """Errors of a task's cells on a corpus."""
        return f"{self.root}/evaluation/{task}/{corpus}.errors.parquet"

    def statistics(self, task: str, corpus: str, table: str) -> str:
        """Comparisons of a task's cells on a corpus, or their changed mentions (`table`: comparisons, changes)."""
        return f"{self.root}/statistics/{task}/{corpus}/{table}.parquet"

    def summary(self, file: str) -> str:
        """A table of the report."""
        return f"{self.root}/summary/{file}"

    def report(self, file: str) -> str:
        """A file of the report page."""
        return f"{self.root}/report/{file}"

    def sweeps(self, file: str) -> str:
        """A table of the sweep."""
        return f"{self.root}/sweeps/{file}"

    @property
    def logs(self) -> str:
        """Folder of the logs."""
        return f"{self.root}/logs"

    @property
    def benchmarks(self) -> str:
        """Folder of the benchmarks."""
        return f"{self.root}/benchmarks"

    def log(self, path: str) -> str:
        """Log of a job; `path` is the path of its output below the results folder, without suffix."""
        return f"{self.root}/logs/{path}.log"

    def benchmark(self, path: str) -> str:
        """Time and memory of a job; `path` as for its log."""
        return f"{self.root}/benchmarks/{path}.tsv"


@dataclass(frozen=True)
class Resources:
    """Paths below the folder of fetched weights and files."""

    root: str

    def model(self, name: str) -> str:
        """Stamp of fetched weights; they lie beside it."""
        return f"{self.root}/models/{name}/fetched.json"

    def download(self, name: str) -> str:
        """A published file."""
        return f"{self.root}/downloads/{name}"

    def is_public(self, path: str) -> bool:
        """Whether anybody may read a file: it is of the repository's demo, or a published download."""
        return str(Path(path)).startswith((f"{self.root}/demo/", self.download(""), "resources/demo/"))
