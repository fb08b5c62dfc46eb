"""The kinds `template` and `names`: controls without a language model. Settings alone: the sentences and the work are in `generation/control.py`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.entries import Entry
from mentionforge.generation.filters import Filters
from mentionforge.generation.settings import Concepts, Locate


class ControlGenerator(Entry):
    """A control without a language model: `template` puts names into fixed sentences, `names` is the bare preferred name."""

    samples: ClassVar[bool] = False
    prompts_part: ClassVar[str] = "generation.prompts"
    notes_part: ClassVar[str] = "generation.control"
    trains: ClassVar[bool] = False
    weights: ClassVar[None] = None
    source: ClassVar[None] = None
    licensed: ClassVar[None] = None

    kind: Literal["template", "names"]
    kb: str = Field(description="Knowledge base whose concepts are named.")
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int = Field(1, ge=1, description="Notes for each concept; more than one uses synonyms in turn (template only).")
    locate: Locate = Field(Locate())
    encoder: NoteEncoder | None = Field(None, description="Encoder of locate.tag_similarity and filters.agreement.")
    filters: Filters = Field(Filters())
    seed: int = Field(13, description="Seed of the choice of sentences.")
