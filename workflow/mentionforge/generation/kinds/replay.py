"""The kind `replay`: notes that were written elsewhere. Settings alone: reading the file is in `generation/replay.py`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.entries import Entry
from mentionforge.generation.filters import Filters
from mentionforge.generation.settings import Concepts, Locate


class ReplayGenerator(Entry):
    """Notes that were written elsewhere, read from a file."""

    samples: ClassVar[bool] = False
    prompts_part: ClassVar[str] = "generation.replay"
    notes_part: ClassVar[str] = "generation.replay"
    trains: ClassVar[bool] = False
    weights: ClassVar[None] = None

    kind: Literal["replay"]
    kb: str = Field(description="Knowledge base that has the notes' concepts.")
    path: str = Field(description="CSV (columns cui, matched_output), JSONL or Parquet (cui and matched_output, or cui and text).")
    licensed: str | None = Field(None, description="How to obtain the file; then its absence is an error of the job, not of the config.")
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int | None = Field(None, ge=1, description="At most this many notes of each concept, the first in the file; none: all.")
    locate: Locate = Field(Locate())
    encoder: NoteEncoder | None = Field(None, description="Encoder of locate.tag_similarity and filters.agreement.")
    filters: Filters = Field(Filters())

    @property
    def source(self) -> str:
        """The file of `path`."""
        return self.path
