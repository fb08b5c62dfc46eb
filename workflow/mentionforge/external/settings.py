"""Settings of external linkers and recognizers, where their files lie, and what is wrong with them before any job runs."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.normalization.linkers.contract import LinkerSettings

if TYPE_CHECKING:
    from mentionforge.config import Config

EXTERNAL = "external"
"""Stands for the index of external linkers and for the schedule of external recognizers; their seed is 0."""

TABLE = "table"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""What files of the reader `table` end in."""

ColumnName = Literal["mention_id", "doc_id", "start", "end", "spans", "surface", "type", "concept", "rank", "score"]


class External(Entry):
    """Predictions on the documents of a corpus, made by another system."""

    path: str | dict[str, str] = Field(
        description="File or folder with the predictions: one, a pattern with {corpus}, or a mapping of corpora to one each. Its content is digested: a change reruns."
    )
    reader: Literal["table", "pubtator", "medmentions", "bioc", "share", "brat", "conll", "jsonl", "parquet"] = Field(
        "table",
        description="table: a row per answer, in .csv, .tsv, .jsonl or .parquet. The others: annotated documents, as of corpora.*.reader. See docs/external.md.",
    )
    columns: dict[ColumnName, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict, description="What a table calls its columns, where that differs: {concept: cui_pred}. Only for the reader table."
    )
    end: Literal["exclusive", "inclusive"] = Field(
        "exclusive", description="Whether a table's `end` is one past the last character, or the last character. Offsets count from 0."
    )
    entity_types: tuple[str, ...] = Field((), description="Types of predictions that are read; empty: all.")
    unknown: Literal["error", "skip"] = Field(
        "error", description="A prediction for a document or mention that the corpus does not have: stop, or leave it out and count it."
    )
    missing_corpora: Literal["error", "skip"] = Field(
        "error", description="A corpus of the grid that a mapping `path` does not name: stop, or leave out the cell of this system."
    )
    cite: str | None = Field(None, description="How to cite the system, and its version; shown beside its scores.")

    @field_validator("path")
    @classmethod
    def _one_placeholder(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        given = list(value.values()) if isinstance(value, dict) else [value]
        if not given or not all(given):
            raise ValueError("name a file or a folder")
        allowed = {"{corpus}"} if isinstance(value, str) else set()
        if any(set(re.findall(r"\{[^{}]*\}", path)) - allowed for path in given):
            raise ValueError("{corpus} is the only placeholder, and a mapping has none")
        return value

    @model_validator(mode="after")
    def _fits_reader(self) -> External:
        given = self.path.values() if isinstance(self.path, dict) else (self.path,)
        if self.reader != TABLE and (self.columns or self.end != "exclusive"):
            raise ValueError(f"columns and end are those of tables; the reader {self.reader} has its own")
        if self.reader == TABLE and (odd := next((p for p in given if Path(p).suffix.lower() not in ("", *SUFFIXES)), None)):
            raise ValueError(f"{odd} is no table ({', '.join(SUFFIXES)}, or a folder without ending); name the reader of its format: reader: brat, pubtator, …")
        return self

    def path_for(self, corpus: str) -> str | None:
        """Where the predictions on a corpus lie; none: the mapping does not name it. A variant of a sweep has the file of its corpus."""
        base = corpus.partition("~")[0]
        if isinstance(self.path, dict):
            return self.path.get(corpus, self.path.get(base))
        return self.path.replace("{corpus}", base)


class ExternalLinker(External, LinkerSettings):
    """Rankings of concepts that another system made for the gold mentions of a corpus."""

    part: ClassVar[str] = "external.rankings"
    imported: ClassVar[bool] = True

    kind: Literal["external"]
    id_prefix: str = Field(
        "auto",
        min_length=1,
        description="Vocabulary of ids without a prefix: CUI, MSH, OMIM, …; auto: CUI for what looks like one, otherwise that of the corpus.",
    )
    missing: Literal["error", "wrong"] = Field("error", description="A test mention without an answer: stop, or count it as wrong and say how many there are.")


class ExternalRecognizer(External):
    """Mentions that another system found in the documents of a corpus."""

    model: ClassVar[None] = None
    trains: ClassVar[bool] = False
    schedule: ClassVar[str] = EXTERNAL
    part: ClassVar[str] = "external.spans"

    kind: Literal["external"]

    def covers(self, corpus: str) -> bool:
        """Whether there are predictions on a corpus."""
        return bool(self.path_for(corpus))


# ---------------------------------------------------------------------------------------------------------------- checks


def files_below(path: str | Path) -> list[str]:
    """The file, or the files of a folder by name, without hidden ones."""
    place = Path(path)
    if not place.is_dir():
        return [str(path)]
    return sorted(str(p) for p in place.iterdir() if p.is_file() and not p.name.startswith("."))


def check(config: Config, root: Path | None) -> None:
    """Refuse external entries that the experiment cannot read, before the DAG is built.

    Args:
        config: The configuration.
        root: Folder that relative paths refer to; none: do not look for files.

    Raises:
        UserError: The reserved name of an index, an unknown corpus in a mapping, a corpus of the grid without a file, one file for several
            corpora, or a file that does not exist.
    """
    if EXTERNAL in config.indexes:
        raise UserError("reserved name", f"config: indexes.{EXTERNAL}", "it stands for the index of external linkers", "rename the index")
    bases = {name.partition("~")[0] for name in config.corpora}
    for kind in ("linkers", "recognizers"):
        for name, entry in getattr(config, kind).items():
            unknown = sorted(set(entry.path) - bases - set(config.corpora)) if isinstance(entry, External) and isinstance(entry.path, dict) else []
            if unknown:
                known = ", ".join(sorted(config.corpora))
                raise UserError(f"unknown corpus {unknown[0]!r}", f"config: {kind}.{name}.path", "", f"known: {known}")
    used: dict[tuple[str, str], set[str]] = {}
    for kind, name, corpus in _asked(config):
        entry = getattr(config, kind)[name]
        where, path = f"config: {kind}.{name}.path", entry.path_for(corpus)
        if path is None:
            if entry.missing_corpora == "error":
                fix = f"add `{corpus}: FILE`, take the corpus out of the grid, or set missing_corpora: skip"
                raise UserError("no predictions for a corpus", where, f"the grid asks for {corpus}, and path names {', '.join(sorted(entry.path))}", fix)
            continue
        used.setdefault((kind, name), set()).add(corpus.partition("~")[0])
        if isinstance(entry.path, str) and "{corpus}" not in entry.path and len(used[kind, name]) > 1:
            corpora = " and ".join(sorted(used[kind, name]))
            raise UserError(
                "one file for several corpora", where, f"the grid asks for {corpora}", "write a mapping of corpora to files, or a pattern with {corpus}"
            )
        if root is not None and path not in {config.download_path(d) for d in config.downloads} and not os.path.exists(root / path):  # noqa: PTH110
            raise UserError("missing file", where, f"{path} does not exist", "correct the path, or put the predictions there")
        there = files_below(root / path) if root is not None and entry.reader == TABLE and os.path.exists(root / path) else []  # noqa: PTH110
        if odd := next((file for file in there if Path(file).suffix.lower() not in SUFFIXES), None):
            raise UserError("no table", where, f"{path}: {Path(odd).name} is none", "name the reader of its format: reader: brat, pubtator, …")


def _asked(config: Config) -> Iterator[tuple[str, str, str]]:
    """Kind, name and corpus of every external entry in a grid."""
    grids: list[tuple[str, Any]] = [("recognizers", grid) for grid in config.experiment.recognition]
    grids += [("linkers", grid) for grid in config.experiment.normalization]
    for kind, grid in grids:
        for name, corpus in itertools.product(getattr(grid, kind), grid.corpora):
            if isinstance(getattr(config, kind)[name], External):
                yield kind, name, corpus


def refuse_new_text(kind: str, name: str) -> None:
    """Say that an external entry annotates no new text.

    Raises:
        UserError: Always.
    """
    why = f"{name} holds predictions that another system made for the documents of a corpus, and no model"
    raise UserError(f"external {kind} cannot annotate new text", f"--{kind} {name}", why, f"name a {kind} of another kind, or run that system itself")
