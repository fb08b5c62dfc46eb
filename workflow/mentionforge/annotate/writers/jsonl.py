"""The format `jsonl`: a JSON object per line. `corpora` reads it back.

In: annotated documents. Out: files of this format. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mentionforge.annotate.writers.contract import AnnotationFormat, Losses, Record, renamed_when_complete


class JsonLinesAnnotations(AnnotationFormat):
    """Every key of every record."""

    name = "jsonl"
    output = "annotations.jsonl"
    streams = True

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write one line per document; nothing is lost."""
        with renamed_when_complete(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as sink:
            sink.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        return {}
