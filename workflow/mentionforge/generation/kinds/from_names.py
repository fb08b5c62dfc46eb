"""Base of the kinds that write notes from a concept's names alone, without a language model; they are controls.

In: prompts and the names of their concepts. Out: one note per prompt, with finish_reason `control`. A kind gives its settings and `note`.
Knows nothing of models and sampling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.errors import UserError
from mentionforge.generation.filters import Filters
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.settings import Concepts, Locate

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept


class NamesGenerator(GeneratorSettings):
    """Base of the settings of generators that write from names."""

    control: ClassVar[bool] = True

    kind: str
    kb: str = Field(description="Knowledge base whose concepts are named.")
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int = Field(1, ge=1, description="Notes for each concept.")
    locate: Locate = Field(Locate())
    encoder: NoteEncoder | None = Field(None, description="Encoder of locate.tag_similarity and filters.agreement.")
    filters: Filters = Field(Filters())

    def note(self, concept: Concept, number: int) -> str:
        """The text of a concept's note of that number, from 0."""
        raise NotImplementedError

    @classmethod
    def how_made(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """That no model wrote them."""
        return [f"Without a language model: a control of kind `{settings['kind']}`."]

    def make_notes(self, spec: Path, kb: Path, prompts: Path, source: Path | None, out: Path, corpus: Path | None = None) -> None:
        """Write the notes, one per prompt.

        Raises:
            UserError: A prompt's concept is not in the knowledge base.
        """
        from mentionforge import tables
        from mentionforge.generation import concepts
        from mentionforge.progress import say
        from mentionforge.provenance import stamp

        generator = json.loads(spec.read_text(encoding="utf-8"))["name"]
        asked = tables.read(tables.PROMPTS, prompts).to_pylist()
        known = concepts.load(kb, {row["cui"] for row in asked})
        unknown = sorted({row["cui"] for row in asked} - set(known))
        if unknown:
            raise UserError("unknown concept", str(prompts), f"{', '.join(unknown[:5])} not in {kb}", "delete the file and rerun the workflow")
        rows = []
        for row in asked:
            text = self.note(known[row["cui"]], int(row["note_id"].rpartition("-")[2]))
            note = {"generator": generator, "text": text, "finish_reason": "control", "tokens": len(text.split())}
            rows.append({k: row[k] for k in ("note_id", "cui", "prompt", "seed")} | note)
        tables.write(tables.NOTES, out, rows, stamp("generation control", {"spec": spec, "prompts": prompts, **concepts.tables_of(kb)}))
        say(f"{len(rows):,} notes of {len(known):,} concepts")
