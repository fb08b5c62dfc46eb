"""Makes the prompts of a generator: one per note to write, `notes_per_concept` for each selected concept.

In: a generator's settings and the knowledge base. Out: table `prompts`. Fine-tuning pairs use the same `instruction`, so that training and sampling see the
same prompts. Knows nothing about models, tokens and backends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mentionforge import tables
from mentionforge.generation import concepts
from mentionforge.generation.kinds import Generator
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.markers import CLOSE, OPEN
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec

VERSION = 2
"""Version of the part generation.prompts: raise it if earlier results would be wrong (mentionforge.versions)."""

NAMES_SHOWN = 4
"""Most names in a prompt: the preferred name and the most widely used synonyms."""

DEFINITION_WORDS = 60
"""Longer definitions are cut: their first words say what the concept is, and each further word costs time for every note."""


def make_prompts(spec: Path, kb: Path, out: Path, mentions: Path | None = None) -> None:
    """Write the prompts of a generator, `notes_per_concept` for each selected concept.

    Args:
        spec: Spec file of the generator, step `prompts`.
        kb: Folder of the knowledge base's tables.
        out: Table `prompts`.
        mentions: Gold mentions of the corpus that `concepts.corpus` names.

    Raises:
        UserError: No concept fits the settings.
    """
    generator: GeneratorSettings = read_spec(spec, Generator)
    settings = generator.concepts
    chosen = concepts.load(kb, concepts.select(kb, settings, mentions))
    rows = []
    for cui, concept in chosen.items():
        text = instruction(concept.common_names(NAMES_SHOWN), concept.definition)
        for i in range(generator.notes_per_concept or 1):
            note_id = f"{cui}-{i}"
            rows.append({"note_id": note_id, "cui": cui, "prompt": text, "has_definition": bool(concept.definition), "seed": seed_of(note_id)})
    inputs = {"spec": spec, **concepts.tables_of(kb)}
    optional = {"xrefs": kb / "xrefs.parquet" if settings.xrefs else None, "cuis": settings.cuis, "mentions": mentions}
    tables.write(tables.PROMPTS, out, rows, stamp("generation prompts", {**inputs, **{role: path for role, path in optional.items() if path}}))
    say(f"{len(rows):,} prompts for {len(chosen):,} concepts, {sum(bool(c.definition) for c in chosen.values()):,} of them with a definition")


def instruction(names: Sequence[str], definition: str | None) -> str:
    """The prompt for one concept, with or without a definition (the two prompt forms of the paper, section on fine-tuning).

    Args:
        names: The concept's main name, then others.
        definition: Definition of the concept, or none.
    """
    name, *others = names
    also = f" (also called {', '.join(others)})" if others else ""
    about = f" Definition: {_shorten(definition)}" if definition else ""
    ask = f"As a physician, write a short clinical note about a patient with {name}{also}.{about}"
    return f"{ask} Mention the condition at least once by name, synonym or abbreviation, and put each mention in tags: {OPEN} {name} {CLOSE}"


def seed_of(*values: object) -> int:
    """A seed in [0, 2**31): a hash of the values, so that a note's seed does not depend on other notes."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, values)).encode()).digest()[:4], "big") >> 1


def _shorten(definition: str) -> str:
    words = definition.split()
    return " ".join(words) if len(words) <= DEFINITION_WORDS else " ".join(words[:DEFINITION_WORDS]) + " …"
