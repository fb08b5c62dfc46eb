"""Settings shared by all external entries, and the paths of their files.

In: an entry of the configuration. Out: its settings; paths of its files. Knows nothing of tasks and other entries.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mentionforge.corpora.formats.registry import READERS
from mentionforge.entries import Entry
from mentionforge.errors import UserError

TABLE = "table"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""Suffixes of the files of the reader `table`."""

if TYPE_CHECKING:
    ReaderName = str
else:
    ReaderName = Literal[TABLE, *READERS]
"""How predictions are read: a table, or annotated documents."""

ColumnName = Literal["mention_id", "doc_id", "start", "end", "spans", "surface", "type", "concept", "rank", "score"]


class External(Entry):
    """Predictions on the documents of a corpus, made by another system."""

    path: str | dict[str, str] = Field(
        examples=["predictions.jsonl"],
        description="File or folder with the predictions: one, a pattern with {corpus}, or a mapping of corpora to one each. Its content is digested: a change reruns.",
    )
    reader: ReaderName = Field(
        "table",
        description="table: a row per answer, in .csv, .tsv, .jsonl or .parquet. The others: annotated documents, as of corpora.*.reader. See docs/external.md.",
    )
    columns: dict[ColumnName, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict,
        examples=[{"concept": "cui_pred"}],
        description="What a table calls its columns, where that differs: {concept: cui_pred}. Only for the reader table.",
    )
    end: Literal["exclusive", "inclusive"] = Field(
        "exclusive", description="Whether a table's `end` is one past the last character, or the last character. Offsets count from 0."
    )
    entity_types: tuple[str, ...] = Field((), examples=[["Disease"]], description="Types of predictions that are read; empty: all.")
    unknown: Literal["error", "skip"] = Field(
        "error", description="A prediction for a document or mention that the corpus does not have: stop, or leave it out and count it."
    )
    missing_corpora: Literal["error", "skip"] = Field(
        "error", description="A corpus of the grid that a mapping `path` does not name: stop, or leave out the cell of this system."
    )
    cite: str | None = Field(None, examples=["Doe et al. (2026)"], description="How to cite the system, and its version; shown beside its scores.")

    @field_validator("path")
    @classmethod
    def _one_placeholder(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        paths = list(value.values()) if isinstance(value, dict) else [value]
        if not paths or not all(paths):
            raise ValueError("name a file or a folder")
        allowed = {"{corpus}"} if isinstance(value, str) else set()
        if any(set(re.findall(r"\{[^{}]*\}", path)) - allowed for path in paths):
            raise ValueError("{corpus} is the only placeholder, and a mapping has none")
        return value

    @model_validator(mode="after")
    def _fits_reader(self) -> External:
        paths = self.path.values() if isinstance(self.path, dict) else (self.path,)
        if self.reader != TABLE and (self.columns or self.end != "exclusive"):
            raise ValueError(f"columns and end are those of tables; the reader {self.reader} has its own")
        if self.reader == TABLE and (other := next((p for p in paths if Path(p).suffix.lower() not in ("", *SUFFIXES)), None)):
            raise ValueError(
                f"{other} is no table ({', '.join(SUFFIXES)}, or a folder without ending); name the reader of its format: reader: brat, pubtator, …"
            )
        return self

    def path_for(self, corpus: str) -> str | None:
        """Where the predictions on a corpus lie; none: the mapping does not name it. A variant of a sweep has the file of its corpus."""
        base = corpus.partition("~")[0]
        if isinstance(self.path, dict):
            return self.path.get(corpus, self.path.get(base))
        return self.path.replace("{corpus}", base)


def files_below(path: str | Path) -> list[str]:
    """The file itself, or the files of a folder, sorted by name, without hidden ones."""
    folder = Path(path)
    if not folder.is_dir():
        return [str(path)]
    return sorted(str(p) for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def refuse_new_text(kind: str, name: str) -> None:
    """Refuse to annotate new text with an external entry.

    Raises:
        UserError: Always.
    """
    why = f"{name} holds predictions that another system made for the documents of a corpus, and no model"
    raise UserError(f"external {kind} cannot annotate new text", f"--{kind} {name}", why, f"name a {kind} of another kind, or run that system itself")
