"""Tables that compare with other papers: scores on the subsets that they report, and wrong concepts by their place in the hierarchy.

In: metrics and tables of errors. Out: frames whose rows are the cells without synthetic text and those of one strategy, `supplemental` if there is one.
metrics.csv and hierarchy.csv hold all cells. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import tables
from mentionforge.entries import NONE
from mentionforge.layout import TRAINED_ON, evaluated_in
from mentionforge.measures import MAIN, OF_GROUPS
from mentionforge.report.entry_order import by_strategy
from mentionforge.report.formatting import ReportTable, counted
from mentionforge.tables import SUBSETS

NAMES = {
    "new_pair": "new pair",
    "new_surface": "new surface",
    "new_surface_concept": "new surface and concept",
    "one_concept": "one concept",
    "distinct": "distinct",
    "distinct_new_surface": "distinct, new surface",
}
"""Names of the subsets in tables."""

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
    other_strategies = sorted(set(frame["strategy"]) - {NONE}, key=by_strategy)
    return frame[frame["strategy"].isin([NONE, *other_strategies[:1]])]


def subset_table(metrics: pd.DataFrame, task: str) -> pd.DataFrame:
    """The score of groups (`measures.OF_GROUPS`) by subset: per cent with n, mean over seeds, one row per cell.

    Args:
        metrics: Rows of tables.METRICS.
        task: normalization or recognition.
    """
    metric = OF_GROUPS[task]
    cells = metrics[(metrics["task"] == task) & (metrics["split"] == "test") & (metrics["metric"] == metric)]
    cells = chosen_strategies(cells[~cells["variant"].str.contains(TRAINED_ON, regex=False) & cells["bucket"].isin(["all", *SUBSETS])])
    rows = []
    for key, cell_rows in cells.groupby(["corpus", "system", "variant", "generator", "strategy"], sort=False):
        corpus, system, variant, generator, strategy = key
        row: dict[str, Any] = {"corpus": corpus, ROWS[task]["system"]: system, ROWS[task]["variant"]: variant, "generator": generator, "strategy": strategy}
        for bucket, label in {"all": "all", **NAMES}.items():
            values = cell_rows[cell_rows["bucket"] == bucket]
            if len(values):
                score = values["value"].mean()
                row[f"subset, {label}"] = ("–" if pd.isna(score) else f"{100 * score:.1f}") + f" n={counted(values['n'].max())}"
        rows.append(row)
    order = ("corpus", ROWS[task]["system"], ROWS[task]["variant"])
    rows.sort(key=lambda r: (*(r[c] for c in order), r["generator"] != NONE, r["generator"], r["strategy"]))
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------ the hierarchy

CELL = ["generator", "strategy", "system", "variant"]
HIERARCHY = ["corpus", "kb", *CELL, "relation", "distance", "count", "n", "share", "note"]

RELATIONS = {
    "parent": ("ancestor", True),
    "higher": ("ancestor", False),
    "child": ("descendant", True),
    "lower": ("descendant", False),
    "sibling": ("sibling", None),
    "unrelated": ("unrelated", None),
    "not in the hierarchy": ("unplaced", None),
    "none ranked": ("missing", None),
}
"""Columns of the table: the relation, and whether it is one step away (true), further away (false) or at any distance (none)."""

HIERARCHY_NOTE = (
    "The first wrong concept of each test mention that is wrong at rank 1, by its place in the hierarchy of the knowledge base, in per cent of all test "
    "mentions; all: with their number. Parent, higher: above a concept of the mention, by one step or more; child, lower: below one; sibling: with a parent in "
    "common. Of a composite mention the nearest of its concepts counts. hierarchy.csv holds all cells, and the steps."
)
NO_HIERARCHY = "Their errors are not told by hierarchy."


def hierarchy_counts(errors: Sequence[Path], metrics: pd.DataFrame) -> pd.DataFrame:
    """Errors by corpus, cell, relation and distance, with their share of the test mentions. A corpus whose kb has no hierarchy has one row, with a note.

    Args:
        errors: tables.NORMALIZATION_ERRORS, at …/CORPUS.errors.parquet.
        metrics: `tidy.tidy_metrics`.
    """
    cells = metrics[
        (metrics["task"] == "normalization") & (metrics["bucket"] == "all") & (metrics["metric"] == MAIN["normalization"]) & (metrics["split"] == "test")
    ]
    frames = []
    for path in sorted(errors):
        hierarchy_info = tables.provenance(path).get("hierarchy", {})
        corpus_columns = {"corpus": evaluated_in(path)[1], "kb": hierarchy_info.get("kb", "")}
        if hierarchy_info.get("missing"):
            frames.append(pd.DataFrame([corpus_columns | {"note": hierarchy_info["missing"]}]))
            continue
        frame = tables.read(tables.NORMALIZATION_ERRORS, path).to_pandas()
        frame["distance"] = frame["distance"].astype("Int64")
        error_rows = frame.groupby([*CELL, "relation", "distance"], dropna=False).size().rename("count").reset_index()
        sizes = cells.loc[cells["corpus"] == corpus_columns["corpus"], [*CELL, "n"]]
        error_rows = error_rows.merge(sizes, on=CELL, how="left").assign(**corpus_columns, note="")
        error_rows["share"] = error_rows["count"] / error_rows["n"]
        frames.append(error_rows)
    merged = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return merged.reindex(columns=HIERARCHY)


def hierarchy_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Share of each relation in per cent, one row per cell, from `hierarchy_counts`."""
    cells = chosen_strategies(counts[counts["relation"].notna()])
    rows = []
    for key, part in cells.groupby(["corpus", "system", "variant", "generator", "strategy"], sort=False):
        row: dict[str, Any] = dict(zip(("corpus", "linker", "index", "generator", "strategy"), key, strict=True))
        row["error, all"] = f"{100 * part['share'].sum():.1f} n={int(part['count'].sum()):,}"
        for name, (relation, direct) in RELATIONS.items():
            errors = part[part["relation"] == relation]
            errors = errors if direct is None else errors[(errors["distance"] == 1) == direct]
            row[f"error, {name}"] = f"{100 * errors['share'].sum():.1f}"
        rows.append(row)
    rows.sort(key=lambda r: (r["corpus"], r["linker"], r["index"], r["generator"] != NONE, r["generator"], r["strategy"]))
    return pd.DataFrame(rows)


def hierarchy_tables(counts: pd.DataFrame) -> list[ReportTable]:
    """The table of errors by hierarchy, and the table of knowledge bases without a hierarchy."""
    without = counts.loc[counts["relation"].isna(), ["corpus", "kb", "note"]].rename(columns={"kb": "knowledge base", "note": "why"})
    return [
        ReportTable("Normalization, wrong concepts by hierarchy", hierarchy_table(counts), HIERARCHY_NOTE, "tab:hierarchy"),
        ReportTable("Knowledge bases without a hierarchy", without, NO_HIERARCHY, "tab:no-hierarchy"),
    ]
