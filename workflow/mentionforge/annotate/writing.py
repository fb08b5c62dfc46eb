"""Annotated documents as records, and records as files.

In: texts and annotated mentions. Out: records, which have the keys of `corpora.formats.records` and more, so JSON Lines and Parquet can be read back as
a corpus; a file or folder, and losses by kind. Knows nothing of models, nor of how a format is written (`writers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mentionforge.annotate.pipeline import AnnotatedMention, LinkedConcept
from mentionforge.annotate.writers import BY_NAME, FORMATS
from mentionforge.annotate.writers.contract import ENTITY_TYPE, Record
from mentionforge.concept_forms import with_vocabulary

OUTPUT_NAMES: Mapping[str, str] = {form.name: form.output for form in FORMATS}
"""Name of the file or folder of each format in the output folder."""


def record(doc_id: str, source: str, text: str, mentions: Iterable[AnnotatedMention]) -> dict[str, Any]:
    """A document as JSON data."""
    return {"doc_id": doc_id, "source": source, "text": text, "mentions": [mention_record(m) for m in mentions]}


def mention_record(m: AnnotatedMention) -> dict[str, Any]:
    """A mention as JSON data."""
    return {
        "spans": [{"start": m.start, "end": m.end}],
        "surface": m.surface,
        "entity_type": ENTITY_TYPE,
        "concept_ids": [with_vocabulary(m.concept.cui)] if m.concept else [],
        "composite": False,
        "score": round(m.score, 6),
        "name": m.concept.name if m.concept else None,
        "semantic_types": list(m.concept.semantic_types) if m.concept else [],
        "nil": m.nil,
        "expanded": m.expanded,
        "ambiguous": m.ambiguous,
        "context": list(m.context),
        "concepts": [_concept_record(c) for c in m.concepts],
    }


def _concept_record(c: LinkedConcept) -> dict[str, Any]:
    """A concept as JSON data; without codes if none was asked for."""
    fields = {"cui": c.cui, "name": c.name, "semantic_types": list(c.semantic_types), "score": round(c.score, 6)}
    return fields if c.codes is None else fields | {"codes": [asdict(code) for code in c.codes]}


def write(records: Iterable[Record], form: str, out: Path) -> Mapping[str, int]:
    """Write records to `out` (a file or a folder, by the format), which appears when it is complete.

    Returns:
        Numbers of what the format could not represent, by kind.
    """
    return BY_NAME[form].write(records, out)
