"""Tables that others report too: scores by the subsets that they take, and wrong concepts by their place in the hierarchy.

Rows are the cells without synthetic text and those of one strategy, `supplemental` if there is one; metrics.csv and hierarchy.csv hold all of them.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from mentionforge.config import NONE, TRAINED_ON
from mentionforge.report.tidy import counted
from mentionforge.tables import SUBSETS

NAMES = {
    "new_pair": "new pair",
    "new_surface": "new surface",
    "new_surface_concept": "new surface and concept",
    "one_concept": "one concept",
    "distinct": "distinct",
    "distinct_new_surface": "distinct, new surface",
}
"""Subsets as tables name them."""

ROWS = {
    "normalization": {"system": "linker", "variant": "index"},
    "recognition": {"system": "recognizer", "variant": "schedule"},
}

SUBSETS_NOTE = (
    "Subsets of the test split that other papers score, against train and dev together. New pair: surface and concept do not occur together; new surface: the "
    "surface does not occur; new surface and concept: neither does; one concept: without composites; distinct: each pair of surface and concepts counted "
    "once. Per cent, mean over seeds, with n of the subset. Strategies: none, and one more; metrics.csv holds all."
)


def chosen_strategies(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells without synthetic text, and those of `supplemental`, or of the first other strategy."""
    others = sorted(set(frame["strategy"]) - {NONE}, key=lambda s: (s != "supplemental", s))
    return frame[frame["strategy"].isin([NONE, *others[:1]])]


def subset_table(metrics: pd.DataFrame, task: str) -> pd.DataFrame:
    """acc@1 (normalization) or strict recall (recognition) by subset in per cent with n, mean over seeds; rows cells.

    Args:
        metrics: Rows of tables.METRICS.
        task: normalization or recognition.
    """
    metric = {"normalization": "acc@1", "recognition": "strict_recall"}[task]
    cells = metrics[(metrics["task"] == task) & (metrics["split"] == "test") & (metrics["metric"] == metric)]
    cells = chosen_strategies(cells[~cells["variant"].str.contains(TRAINED_ON, regex=False) & cells["bucket"].isin(["all", *SUBSETS])])
    rows = []
    for key, part in cells.groupby(["corpus", "system", "variant", "generator", "strategy"], sort=False):
        corpus, system, variant, generator, strategy = key
        row: dict[str, Any] = {"corpus": corpus, ROWS[task]["system"]: system, ROWS[task]["variant"]: variant, "generator": generator, "strategy": strategy}
        for bucket, name in {"all": "all", **NAMES}.items():
            values = part[part["bucket"] == bucket]
            if len(values):
                score = values["value"].mean()
                row[f"subset, {name}"] = ("–" if pd.isna(score) else f"{100 * score:.1f}") + f" n={counted(values['n'].max())}"
        rows.append(row)
    order = ("corpus", ROWS[task]["system"], ROWS[task]["variant"])
    rows.sort(key=lambda r: (*(r[c] for c in order), r["generator"] != NONE, r["generator"], r["strategy"]))
    return pd.DataFrame(rows)
