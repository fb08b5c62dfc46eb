"""Errors of recognizers: one row per missed, wrongly cut or spurious mention, and counts by bucket and length.

In: gold documents and predicted word spans. Out: rows with character offsets, never text. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.evaluation.documents import GoldDocument
from mentionforge.text import Span

CELL = ("generator", "strategy", "system", "variant")
SPAN_LENGTHS = (1, 2, 3, 4)
"""Lengths in words that have a column of their own; the last also covers all longer mentions."""


def error_rows(gold: Mapping[str, GoldDocument], predicted: Mapping[str, Sequence[Span]]) -> Iterator[dict[str, Any]]:
    """One row (columns of tables.RECOGNITION_ERRORS from `doc_id` on) per gold mention that is missed or wrongly cut, and per spurious prediction.

    Args:
        gold: Gold documents.
        predicted: Predicted word spans of each document, in order and without overlap.
    """
    for doc_id, doc in gold.items():
        spans = predicted.get(doc_id, ())
        for span, bucket in zip(doc.spans, doc.buckets, strict=True):
            if span in spans:
                continue
            nearest = max(spans, key=lambda other, span=span: (shared_words(span, other), -other[0]), default=None)  # type: ignore[misc]
            overlaps = nearest is not None and shared_words(span, nearest) > 0
            yield _error_row(doc_id, doc, "boundary" if overlaps else "missed", span, bucket, nearest if overlaps else None)
        for span in spans:
            if not any(shared_words(span, other) for other in doc.spans):
                yield _error_row(doc_id, doc, "spurious", span, None, None)


def shared_words(first: Span, second: Span) -> int:
    """Number of words that two spans share."""
    return max(0, min(first[1], second[1]) - max(first[0], second[0]))


def _error_row(doc_id: str, doc: GoldDocument, error: str, span: Span, bucket: str | None, predicted: Span | None) -> dict[str, Any]:
    row = {"doc_id": doc_id, "error": error, "start": doc.words[span[0]][0], "end": doc.words[span[1] - 1][1], "words": span[1] - span[0], "bucket": bucket}
    return row | {
        "predicted_start": doc.words[predicted[0]][0] if predicted else None,
        "predicted_end": doc.words[predicted[1] - 1][1] if predicted else None,
    }


def error_table(path: Path, split: str = "test") -> str:
    """Markdown table of the mean number of errors per seed, by cell, error and bucket, with columns by length in words."""
    frame = tables.read(tables.RECOGNITION_ERRORS, path).to_pandas()
    frame = frame[frame["split"] == split].assign(bucket=frame["bucket"].fillna("–"), length=frame["words"].clip(upper=SPAN_LENGTHS[-1]))
    seeds = frame.groupby(list(CELL))["seed"].nunique()
    table = frame.groupby([*CELL, "error", "bucket", "length"]).size().unstack("length", fill_value=0).reindex(columns=list(SPAN_LENGTHS), fill_value=0)
    table = table.div(seeds.reindex(table.index.droplevel(["error", "bucket"])).to_numpy(), axis=0)
    table.columns = [f"{n} words or more" if n == SPAN_LENGTHS[-1] else f"{n} word{'s' * (n > 1)}" for n in SPAN_LENGTHS]
    table["all"] = table.sum(axis=1)
    return str(table.round(1).reset_index().to_markdown(index=False, disable_numparse=True))
