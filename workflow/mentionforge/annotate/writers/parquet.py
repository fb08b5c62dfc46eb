"""The format `parquet`: a row per document, with its mentions as a list. `corpora` reads it back.

In: annotated documents. Out: files of this format. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mentionforge.annotate.writers.contract import AnnotationFormat, Losses, Record, renamed_when_complete


class ParquetAnnotations(AnnotationFormat):
    """Every key of every record, in typed columns."""

    name = "parquet"
    output = "annotations.parquet"

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write one row per document, 256 at a time; nothing is lost."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, texts = pa.string(), pa.list_(pa.string())
        code = pa.struct({"vocabulary": text, "code": text, "preferred": pa.bool_(), "via": text})
        concept = pa.struct({"cui": text, "name": text, "semantic_types": texts, "score": pa.float64(), "codes": pa.list_(code)})
        span = pa.struct({"start": pa.int64(), "end": pa.int64()})
        mention = pa.struct(
            {
                "spans": pa.list_(span),
                "surface": text,
                "entity_type": text,
                "concept_ids": texts,
                "composite": pa.bool_(),
                "score": pa.float64(),
                "name": text,
                "semantic_types": texts,
                "nil": pa.bool_(),
                "expanded": text,
                "ambiguous": pa.bool_(),
                "context": texts,
                "concepts": pa.list_(concept),
            }
        )
        schema = pa.schema({"doc_id": text, "source": text, "text": text, "mentions": pa.list_(mention)})
        with renamed_when_complete(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as sink:
            for batch in _batches(records, 256):
                sink.write_table(pa.Table.from_pylist(batch, schema))
        return {}


def _batches(records: Iterable[Record], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for r in records:
        batch.append(dict(r))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
