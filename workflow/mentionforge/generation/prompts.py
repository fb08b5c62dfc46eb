"""Makes the prompts of a generator: one per note to write, `notes_per_concept` for each selected concept.

In: a generator's settings and the knowledge base. Out: table `prompts`. Fine-tuning pairs use the same entry of `prompts`, so that training and sampling see
the same. Knows nothing about models, tokens and backends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mentionforge import tables
from mentionforge.generation import concepts, templates
from mentionforge.generation.concepts import Concept
from mentionforge.generation.kinds import Generator
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.generation.templates import Asked, ShownExample
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec

VERSION = 2
"""Version of the part generation.prompts: raise it if earlier results would be wrong (mentionforge.versions)."""

Examples = Callable[[str, str], tuple[ShownExample, ...]]
"""Draws the examples of a prompt, by note id and CUI."""


def make_prompts(spec: Path, kb: Path, out: Path, mentions: Path | None = None, examples: Examples | None = None, drawn_from: Path | None = None) -> None:
    """Write the prompts of a generator, `notes_per_concept` for each selected concept.

    Args:
        spec: Spec file of the generator, step `prompts`.
        kb: Folder of the knowledge base's tables.
        out: Table `prompts`.
        mentions: Gold mentions of the corpus that `concepts.corpus` names.
        examples: Draws examples for each prompt; none: prompts have none.
        drawn_from: Table that they are drawn from, for the provenance.

    Raises:
        UserError: No concept fits the settings, or the template fails for one.
    """
    generator: GeneratorSettings = read_spec(spec, Generator)
    settings, prompt = generator.concepts, generator.asked
    chosen = concepts.load(kb, concepts.select(kb, settings, mentions))
    reads_parents = "parents" in templates.variables(prompt)
    parents = concepts.parents(kb, set(chosen)) if reads_parents else {}
    rows = []
    for cui, concept in chosen.items():
        asked = asked_about(concept, parents)
        text = templates.prompt_text(prompt, asked, cui)
        for i in range(generator.notes_per_concept or 1):
            note_id = f"{cui}-{i}"
            if examples:
                text = templates.prompt_text(prompt, replace(asked, examples=examples(note_id, cui)), cui)
            rows.append({"note_id": note_id, "cui": cui, "prompt": text, "has_definition": bool(concept.definition), "seed": seed_of(note_id)})
    inputs = {"spec": spec, **concepts.tables_of(kb)}
    optional = {
        "xrefs": kb / "xrefs.parquet" if settings.xrefs else None,
        "cuis": settings.cuis,
        "mentions": mentions,
        "parents": kb / "parents.parquet" if reads_parents else None,
        "examples": drawn_from,
    }
    tables.write(tables.PROMPTS, out, rows, stamp("generation prompts", {**inputs, **{role: path for role, path in optional.items() if path}}))
    say(f"{len(rows):,} prompts for {len(chosen):,} concepts, {sum(bool(c.definition) for c in chosen.values()):,} of them with a definition")


def asked_about(concept: Concept, parents: Mapping[str, tuple[str, ...]]) -> Asked:
    """What a template can say of a concept.

    Args:
        concept: The concept.
        parents: Names of parents by CUI; empty if the template does not read them.
    """
    return Asked(concept.common_names(), concept.definition, concept.semantic_types, parents.get(concept.cui, ()))


def seed_of(*values: object) -> int:
    """A seed in [0, 2**31): a hash of the values, so that a note's seed does not depend on other notes."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, values)).encode()).digest()[:4], "big") >> 1
