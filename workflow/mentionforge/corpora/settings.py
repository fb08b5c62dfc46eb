"""Settings of corpora: files, format and policies of a corpus, near duplicates, and the leakage guard of test documents.

In: an entry of `corpora`. Out: its model. Asks the registry of formats for names and default vocabularies. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from mentionforge.corpora.formats.registry import CONFIG_PREFIXES, READERS
from mentionforge.entries import Entry

Split = Literal["train", "dev", "test"]

if TYPE_CHECKING:
    ReaderName = str
else:
    ReaderName = Literal[*READERS]
"""Name of a format that can be read."""


class SeededSplit(Entry):
    """A split by document that depends on nothing but the seed and the document's id, so that further documents move none."""

    seed: int = Field(13, description="Seed of the split.")
    shares: dict[Split, Annotated[float, Field(gt=0, lt=1)]] = Field(
        examples=[{"train": 0.7, "dev": 0.1, "test": 0.2}], description="Share of the documents that each split is to have; they add up to 1."
    )

    @model_validator(mode="after")
    def _adds_up(self) -> SeededSplit:
        if missing := {"train", "test"} - set(self.shares):
            raise ValueError(f"shares lacks {' and '.join(sorted(missing))}")
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares add up to {sum(self.shares.values()):g}, not 1")
        return self


class NearDuplicates(Entry):
    """Documents whose word n-grams are nearly the same."""

    similarity: float = Field(0.9, ge=0.3, le=1, description="Jaccard similarity of the word n-grams from which two documents are near duplicates.")
    n: int = Field(3, ge=1, description="Length of the word n-grams.")
    action: Literal["report", "drop", "error"] = Field(
        "report", description="report: list them. drop: keep the first in a split, and across splits that of test, else dev. error: stop."
    )


class Corpus(Entry):
    """An annotated corpus with fixed splits: `splits` alone, `source` and `splits`, or `source` and `seeded_split`."""

    part: ClassVar[str] = "corpora.read"

    reader: ReaderName = Field(
        description="Format. One path is a folder for share (.text/.txt and .pipe) and brat (.txt and .ann), a file for the others; see docs/corpora.md."
    )
    kb: str = Field(description="Knowledge base whose cross-references map ids to CUIs.")
    source: tuple[str, ...] = Field(
        (), examples=[["corpus.txt"]], description="Files or folders that hold the documents of all splits; then splits lists ids, or seeded_split is given."
    )
    splits: dict[Split, tuple[str, ...]] = Field(
        default_factory=dict,
        examples=[{"train": ["train.txt"], "dev": ["dev.txt"], "test": ["test.txt"]}],
        description="Files or folders of each split; with source, text files with one document id (PMID, note name) per line. train and test are required.",
    )
    seeded_split: SeededSplit | None = Field(None, description="A split of source by document, written to split.csv beside the tables.")
    licensed: str | None = Field(
        None,
        examples=["sign the data use agreement, then put the notes into data/notes"],
        description="How to obtain the corpus; then its absence is an error of the job, not of the config.",
    )
    entity_types: tuple[str, ...] = Field((), description="Entity types that count as diseases; empty: all.")
    id_prefix: str = Field("MSH", description="Vocabulary of ids without a prefix: MSH, OMIM, or CUI; with the reader medmentions CUI by default.")
    text: Literal["none", "nfc", "crlf_to_lf"] = Field(
        "none",
        description="Text as published, in Unicode's composed form (NFC), or with LF for CRLF; offsets move with it, and what changes is counted. With crlf_to_lf, offsets of share and brat may count CRLF as one character.",
    )
    note_ids: Literal["auto", "all", "none"] = Field(
        "auto",
        description="Concept ids in BRAT's AnnotatorNotes, for mentions without N lines. auto: notes that hold nothing but ids of id_prefix' form, or with a known prefix. all: every such note. none: no note.",
    )
    composite: Literal["any", "all", "split"] = Field(
        "any",
        description="A|B, A+B: a prediction is right if it is one of them (any), must be ranked before all others together (all), or each id is a gold row of its own (split).",
    )
    discontinuous: Literal["longest", "hull", "drop"] = Field(
        "longest", description="What recognition learns of a mention in several pieces: its longest piece, the stretch around all, or nothing."
    )
    ambiguity: Literal["any_of_set", "kb_preferred"] = Field(
        "any_of_set", description="An id that maps to several CUIs: all of them count, or the one that the knowledge base prefers; see docs/corpora.md."
    )
    id_map: str | None = Field(
        None,
        examples=["replaced_ids.csv"],
        description="CSV with columns id and replacement, for merged or alternative ids: applied before ids are mapped to CUIs.",
    )
    duplicates: Literal["drop", "drop_from_train", "error", "keep"] = Field(
        "drop",
        description="A document whose id or text occurs twice. drop: in a split the first is kept, in two splits is an error. drop_from_train: in two splits, that of test or else dev is kept. error: stop. keep: equal texts stay, ids are kept once.",
    )
    near_duplicates: NearDuplicates | None = Field(
        NearDuplicates(), description="Documents that are nearly the same, within and across splits, listed in duplicates.csv; null: not looked for."
    )
    abbreviations: Literal["none", "schwartz_hearst"] = Field(
        "schwartz_hearst", description="How mentions get an expanded form beside their surface: by the abbreviations that their document defines, or not."
    )

    @model_validator(mode="before")
    @classmethod
    def _prefix_of_reader(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(reader := data.get("reader"), str) and reader in CONFIG_PREFIXES:
            return {"id_prefix": CONFIG_PREFIXES[reader], **data}
        return data

    @model_validator(mode="after")
    def _has_splits(self) -> Corpus:
        if self.seeded_split:
            if self.splits or not self.source:
                raise ValueError("seeded_split needs source, and no splits")
            return self
        missing = {"train", "test"} - set(self.splits)
        if missing:
            raise ValueError(f"splits lacks {' and '.join(sorted(missing))}")
        return self

    @property
    def split_names(self) -> tuple[Split, ...]:
        """The splits there are, in the order train, dev, test."""
        names = self.seeded_split.shares if self.seeded_split else self.splits
        return tuple(split for split in get_args(Split) if split in names)

    def paths(self) -> dict[str, str]:
        """Every file and folder that is read, by role (`source.0`, `train.0` and so on)."""
        roles = [("source", self.source), *self.splits.items(), ("id_map", (self.id_map,) if self.id_map else ())]
        return {f"{role}.{i}": path for role, paths in roles for i, path in enumerate(paths)}


class LeakageGuard(Entry):
    """What stops the workflow if a generator's texts, or what it was fine-tuned on, stand in a corpus' test documents; see docs/corpora.md."""

    n: int = Field(8, ge=3, description="Length of the word n-grams.")
    max_share: float = Field(0.5, ge=0, le=1, description="Most n-grams in common with a test document, as a share of those of the shorter text.")
    min_shared: int = Field(10, ge=1, description="Fewer n-grams in common are no leak, whatever their share: short texts share common phrases.")
    action: Literal["error", "report"] = Field("error", description="Notes, or training text of the same corpus, that share more: stop, or warn and list.")
    across_corpora: Literal["error", "report"] = Field(
        "report", description="Fine-tuning documents of one corpus that are test documents of another: stop, or warn and list."
    )
