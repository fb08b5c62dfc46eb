"""External systems in the report: what was read from their files, and how the cells of the experiment compare with them.

In: predictions with their provenance; the comparisons of `tidy.tidy_comparisons`. Out: Markdown and frames. Computes no score. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures, tables
from mentionforge.layout import imported_in
from mentionforge.report.formatting import counted, interval

TITLE = "Against external systems"
CAPTION = (
    f"Test split: score of the cell in per cent ({measures.main('normalization').label}, or {measures.main('recognition').label} and "
    f"{measures.of_groups('recognition').short} on unseen concepts), and the difference to the predictions of the other system in points "
    "with 95 % interval (paired bootstrap by document)."
)


def systems(predictions: Sequence[Path]) -> list[dict[str, str]]:
    """A row for each external system and corpus: its file with the first digits of the digest, what was read and left out, and how to cite it.

    Args:
        predictions: Paths {recognition,normalization}/CORPUS/none/none/SYSTEM/external/….
    """
    rows = []
    for path in sorted(predictions):
        provenance = tables.provenance(path)
        external, counts = provenance["external"], provenance["counts"]
        task, corpus = imported_in(path)
        row = {
            "system": external["system"],
            "task": task,
            "corpus": corpus,
            "file": f"{external['path']} (sha256 {provenance['inputs']['predictions'][:12]})",
        }
        row["answers"], row["left out or wrong"] = (_spans if provenance["stage"] == "external spans" else _rankings)(counts)
        rows.append({**row, "cite": external["cite"] or "–"})
    return rows


def _rankings(counts: Mapping[str, Any]) -> tuple[str, str]:
    test, dev = counts["test"], counts["dev"]
    answers = (
        f"{test['answered']:,} of {test['mentions']:,} test mentions, {test['no_concept']:,} with no concept; {dev['answered']:,} of {dev['mentions']:,} of dev"
    )
    left_out = {
        "test mentions without an answer, counted as wrong": test["missing"],
        "answers for unknown mentions": counts["unknown"]["n"],
        "candidates that are no concept of the knowledge base": counts["concepts_not_in_kb"],
        "answers given twice": counts["repeated"],
    }
    return answers, _listed(left_out)


def _spans(counts: Mapping[str, Any]) -> tuple[str, str]:
    test = counts["test"]
    answers = f"{test['kept']:,} mentions in {test['documents'] - test['without_predictions']:,} of {test['documents']:,} test documents"
    left_out = {
        "mentions that share a word with a longer one": test.get("dropped_overlap", 0),
        "mentions in pieces": test.get("dropped_discontinuous", 0),
        "widened to whole words": test.get("widened", 0),
        "mentions in unknown documents": counts["unknown"]["n"],
        "mentions given twice": counts["repeated"],
    }
    return answers, _listed(left_out)


def _listed(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{n:,} {reason}" for reason, n in left_out.items() if n) or "nothing"


def external_section(predictions: Sequence[Path]) -> str:
    """The external systems as Markdown; empty if there are none."""
    if not predictions:
        return ""
    text = "Predictions that other systems made, read from files and scored as those of this workflow (docs/external.md)."
    return f"## External systems\n\n{text}\n\n" + pd.DataFrame(systems(predictions)).to_markdown(index=False, disable_numparse=True)


def against_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Every cell compared with every external system on its corpus: all mentions, and mentions of unseen concepts.

    Args:
        comparisons: `tidy.tidy_comparisons`.
    """
    differences = comparisons[comparisons["against"] == "external"]
    labels = {(bucket, metric): bucket.removesuffix("_concept") for _, bucket, metric in measures.shown()}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    records: Any = differences.itertuples()
    for c in records:
        if (c.group, c.metric) in labels:
            label = labels[c.group, c.metric]
            key = (c.task, c.corpus, c.reference_system, c.system, c.variant, c.generator, c.strategy)
            text = f"{100 * c.value:.1f}{interval(c.difference, c.low, c.high)} (n={counted(c.n)})"
            rows.setdefault(key, {})[f"{label}, score and difference"] = text
    names = ("task", "corpus", "external system", "system", "index or schedule", "generator", "strategy")
    columns = ["all, score and difference", "unseen, score and difference"]
    return pd.DataFrame([{**dict(zip(names, key, strict=True)), **{c: rows[key].get(c, "") for c in columns}} for key in sorted(rows)])
