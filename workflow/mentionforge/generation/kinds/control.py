"""The kinds `template` and `names`: controls without a language model, which show what a dictionary of names alone achieves.

In: prompts and the knowledge base. Out: table `notes`. `template` puts a concept's names in turn into fixed sentences; `names` writes the bare preferred
name. The notes have no tags; `locate` finds the names. Knows nothing about models and sampling.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.errors import UserError
from mentionforge.generation.filters import Filters
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.settings import Concepts, Locate
from mentionforge.progress import say
from mentionforge.provenance import stamp

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept

VERSION = 1
"""Version of the part generation.control: raise it if earlier results would be wrong (mentionforge.versions)."""


class ControlGenerator(GeneratorSettings):
    """A control without a language model: `template` puts names into fixed sentences, `names` is the bare preferred name."""

    notes_part: ClassVar[str] = "generation.control"

    kind: Literal["template", "names"]
    kb: str = Field(description="Knowledge base whose concepts are named.")
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int = Field(1, ge=1, description="Notes for each concept; more than one uses synonyms in turn (template only).")
    locate: Locate = Field(Locate())
    encoder: NoteEncoder | None = Field(None, description="Encoder of locate.tag_similarity and filters.agreement.")
    filters: Filters = Field(Filters())
    seed: int = Field(13, description="Seed of the choice of sentences.")


SENTENCES = (
    "The patient has a history of {name}.",
    "Past medical history is notable for {name}.",
    "She was admitted for evaluation of {name} and was seen by the consult service.",
    "On admission he was found to have {name}, which was treated medically.",
    "Findings are most consistent with {name}; follow-up is arranged.",
    "There is concern for {name}, and further tests were ordered.",
    "Her brother and her mother have {name} as well.",
    "Discharge diagnosis: {name}.",
    "Assessment and plan: {name}, stable on the present treatment.",
    "He denies any symptoms of {name} since the last visit.",
    "Imaging done on the second day raised the question of {name}.",
    "The family was told about {name} and its usual course.",
    "We report a case of {name} in an otherwise healthy adult.",
    "Little is known about the long-term outcome of {name}.",
    "In this cohort, {name} was diagnosed in one of ten participants.",
    "Mutations in two genes were found in families with {name}.",
    "The drug was associated with {name} in a small number of patients.",
    "Early recognition of {name} may change its management.",
)
"""Sentences in the style of clinical notes and abstracts, each with a placeholder for a name."""


def make_notes(spec: Path, kb: Path, prompts: Path, out: Path) -> None:
    """Write the notes of a control, one per prompt, with finish_reason `control`.

    Args:
        spec: Spec file of the generator, part `prompts`.
        kb: Folder of the knowledge base's tables.
        prompts: Table `prompts` of the generator.
        out: Table `notes`.

    Raises:
        UserError: A prompt's concept is not in the knowledge base.
    """
    from mentionforge import tables
    from mentionforge.generation import concepts
    from mentionforge.specs import read_spec

    settings: ControlGenerator = read_spec(spec, ControlGenerator)
    generator = json.loads(spec.read_text(encoding="utf-8"))["name"]
    prompt_rows = tables.read(tables.PROMPTS, prompts).to_pylist()
    known = concepts.load(kb, {row["cui"] for row in prompt_rows})
    unknown = sorted({row["cui"] for row in prompt_rows} - set(known))
    if unknown:
        raise UserError("unknown concept", str(prompts), f"{', '.join(unknown[:5])} not in {kb}", "delete the file and rerun the workflow")
    rows = []
    for row in prompt_rows:
        concept, number = known[row["cui"]], int(row["note_id"].rpartition("-")[2])
        text = concept.preferred if settings.kind == "names" else sentence(concept, number, settings.seed)
        note = {"generator": generator, "text": text, "finish_reason": "control", "tokens": len(text.split())}
        rows.append({k: row[k] for k in ("note_id", "cui", "prompt", "seed")} | note)
    tables.write(tables.NOTES, out, rows, stamp("generation control", {"spec": spec, "prompts": prompts, **concepts.tables_of(kb)}))
    say(f"{len(rows):,} notes of {len(known):,} concepts")


def sentence(concept: Concept, number: int, seed: int) -> str:
    """Note `number` about a concept. Names and sentences take turns; the seed draws the first sentence."""
    from mentionforge.generation.prompts import seed_of

    first = seed_of(seed, concept.cui)
    return SENTENCES[(first + number) % len(SENTENCES)].format(name=concept.names[number % len(concept.names)])
