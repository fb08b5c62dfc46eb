"""Layouts in which `mentionforge export synthetic` writes notes, one class each. `LAYOUTS` lists them in the order of the command's help.

In: notes with their mentions. Out: files in a folder, and numbers of what the layout cannot hold, by kind.
Knows nothing of where notes come from, nor of the card beside them, but for its line on the files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mentionforge.corpora.documents import Document, annotation_from_ids
from mentionforge.corpora.formats import registry

ENTITY_TYPE = "Disease"
"""Entity type of the mentions, in formats that require one."""

Note = Mapping[str, Any]
"""Keys: note_id, cui, text, mentions, matched_output (the text with tags around the mentions), finish_reason and seed."""


class NotesLayout:
    """Base of the layouts.

    Attributes:
        name: Name on the command line.
        description: Line of the card on its files.
        metadata: Lines of the card's YAML metadata on its files.
    """

    name: str
    description: str
    metadata: tuple[str, ...] = ()

    def write(self, notes: Sequence[Note], folder: Path) -> Mapping[str, int]:
        """Write the notes into a folder and return losses, by kind."""
        raise NotImplementedError


class ReleasedCsv(NotesLayout):
    """The layout of the corpus that the authors of the paper released."""

    name = "csv"
    description = "`SYNTHETIC_MENTIONS.csv`: `cui`, and `matched_output`, the note with `<1CUI> … </1CUI>` around its mentions."

    def write(self, notes: Sequence[Note], folder: Path) -> Mapping[str, int]:
        """Write one file; nothing is counted as lost."""
        with open(folder / "SYNTHETIC_MENTIONS.csv", "w", newline="", encoding="utf-8") as sink:
            writer = csv.DictWriter(sink, ("cui", "matched_output"), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(notes)
        return {}


class JsonLinesNotes(NotesLayout):
    """A note per line."""

    name = "jsonl"
    description = "`notes.jsonl`: a note per line; offsets of `mentions` are characters of `text`, end exclusive."

    def write(self, notes: Sequence[Note], folder: Path) -> Mapping[str, int]:
        """Write one file; nothing is lost."""
        with open(folder / "notes.jsonl", "w", encoding="utf-8") as sink:
            sink.writelines(json.dumps(note, ensure_ascii=False) + "\n" for note in notes)
        return {}


class HuggingFaceDataset(NotesLayout):
    """A dataset folder for `datasets.load_dataset`."""

    name = "hf"
    description = "`data/`: a note per row; offsets of `mentions` are characters of `text`, end exclusive."
    metadata = ("configs:", "- config_name: default", "  data_files: [{split: train, path: data/*.parquet}]")

    def write(self, notes: Sequence[Note], folder: Path) -> Mapping[str, int]:
        """Write a Parquet file; nothing is lost."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        spans = pa.list_(
            pa.struct({"start": pa.int64(), "end": pa.int64(), "cui": pa.string(), "surface": pa.string(), "match": pa.string(), "score": pa.float64()})
        )
        text = pa.string()
        schema = pa.schema({"note_id": text, "cui": text, "text": text, "matched_output": text, "mentions": spans, "finish_reason": text, "seed": pa.int64()})
        (folder / "data").mkdir()
        pq.write_table(pa.Table.from_pylist(list(notes), schema=schema), folder / "data" / "train-00000-of-00001.parquet", compression="zstd")
        return {}


class CorpusLayout(NotesLayout):
    """A format of corpora, by its writer (`corpora.formats`)."""

    def __init__(self, form: str, description: str) -> None:
        """A layout of the same name."""
        self.name, self.description = form, description

    def write(self, notes: Sequence[Note], folder: Path) -> Mapping[str, int]:
        """Write `notes`, with the ending of the format; what it cannot represent is counted."""
        return registry.write(_documents(notes), self.name, folder / f"notes{registry.ENDINGS[self.name]}", "count").losses


def _documents(notes: Sequence[Note]) -> Iterator[Document]:
    for note in notes:
        annotations = tuple(annotation_from_ids([(m["start"], m["end"])], ENTITY_TYPE, [f"CUI:{m['cui']}"] if m["cui"] else []) for m in note["mentions"])
        yield Document(note["note_id"], note["text"], annotations, f"note {note['note_id']}")


LAYOUTS: tuple[NotesLayout, ...] = (
    ReleasedCsv(),
    JsonLinesNotes(),
    CorpusLayout("brat", "`notes/`: a .txt and a .ann per note; the concept is a normalization (N line)."),
    CorpusLayout("pubtator", "`notes.txt`: PubTator; the text is parted into title and abstract after its first sentence."),
    CorpusLayout("conll", "`notes.tsv`: a token per line."),
    HuggingFaceDataset(),
)

BY_NAME: Mapping[str, NotesLayout] = {layout.name: layout for layout in LAYOUTS}

if TYPE_CHECKING:
    LayoutName = str
else:
    LayoutName = Literal[*BY_NAME]
"""Name of a layout: the choices of the command."""
