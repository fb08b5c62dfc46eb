"""The first screen of the report: what text of a language model adds, in three sentences and one figure.

In: the comparisons of `tidy.tidy_comparisons`, and which generators are controls. Out: sentences, and a `vega.Figure`. Computes no interval or p value.
Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from mentionforge.measures import OF_GROUPS, of_groups
from mentionforge.report.confidence import join_words
from mentionforge.report.entry_order import MAIN_INDEX, by_generator, by_linker, by_size_of_index, by_strategy
from mentionforge.report.gains import forest_plot, in_percentage_points
from mentionforge.report.headline import signed
from mentionforge.report.vega import Figure, colour_domain, legend_of

LEVEL = 0.05
"""A difference counts as beyond chance if its corrected p value is at most this."""

GROUP = "unseen_concept"
"""The mentions that the answer is about: of concepts that the training split lacks."""


def chosen_cells(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The comparisons that the answer shows: linking of mentions of unseen concepts, by the main linker with the main strategy, where both exist."""
    rows = comparisons[(comparisons["task"] == "normalization") & (comparisons["slice"] == "bucket") & (comparisons["group"] == GROUP)]
    rows = rows[(rows["metric"] == OF_GROUPS["normalization"]) & rows["against"].isin(["baseline", "control"])]
    rows = rows[~rows["strategy"].str.contains("~") & ~rows["system"].str.contains("~")]
    for column, key in (("system", by_linker), ("strategy", by_strategy)):
        if len(rows):
            rows = rows[rows[column] == min(rows[column].unique(), key=key)]
    return rows


def writer_of(rows: pd.DataFrame, controls: Collection[str]) -> str | None:
    """The generator that the sentences speak of: the first that is no control."""
    names = sorted(set(rows["generator"]) - set(controls), key=by_generator)
    return names[0] if names else None


def largest_index(rows: pd.DataFrame) -> str | None:
    """The index with the most sources besides the main one, as train+kb; none if only the main one was used."""
    others = sorted(set(rows["variant"]) - {MAIN_INDEX}, key=by_size_of_index)
    return others[-1] if others else None


def answer_sentences(comparisons: pd.DataFrame, controls: Collection[str]) -> list[str]:
    """Up to three sentences: with the paper's index, with the dictionary in the index, and against the names alone.

    Args:
        comparisons: `tidy_comparisons`.
        controls: Generators without a language model.
    """
    rows = chosen_cells(comparisons)
    writer = writer_of(rows, controls)
    if rows.empty or writer is None:
        return []
    own, larger = rows[rows["generator"] == writer], largest_index(rows)
    score = f"{of_groups('normalization').label} on concepts that the training data lack"
    sentences = []
    for index, opening, subject in (
        (MAIN_INDEX, f"With the paper's index ({MAIN_INDEX})", f"the text of {writer} changes {score}"),
        (larger, f"With the dictionary in the index ({larger})", "it changes that score"),
    ):
        gains = own[(own["variant"] == index) & (own["against"] == "baseline")]
        if len(gains):
            sentences.append(f"{opening}, {subject} by {_range(gains)}.")
    against = own[(own["variant"] == MAIN_INDEX) & (own["against"] == "control")]
    if len(against):
        name = max(against["reference_generator"].unique(), key=by_generator)
        name = "names" if "names" in set(against["reference_generator"]) else name
        differences = against[against["reference_generator"] == name]
        sentences.append(f"Against the control {name}, which has the same concepts without a language model, its score differs by {_range(differences)}.")
    return sentences


def _range(rows: pd.DataFrame) -> str:
    """Smallest and largest difference over the corpora, and on how many of them it is beyond chance."""
    low, high = signed(rows["difference"].min()), signed(rows["difference"].max())
    points = f"{low} points" if low == high else f"{low} to {high} points"
    corpora = rows["corpus"].nunique()
    clauses = []
    for word, beyond in (("above", rows["difference"] > 0), ("below", rows["difference"] < 0)):
        if count := rows.loc[beyond & (rows["p_adjusted"] <= LEVEL), "corpus"].nunique():
            clauses.append(f"{word} zero beyond chance on {count} of {corpora} corpora" if corpora > 1 else f"{word} zero beyond chance")
    return f"{points} ({join_words(clauses) if clauses else 'within chance'})"


def answer_figure(comparisons: pd.DataFrame, controls: Collection[str]) -> list[Figure]:
    """Gains on unseen concepts by corpus: with the paper's index, with the dictionary in the index, and over the controls; empty without linking.

    Args:
        comparisons: `tidy_comparisons`.
        controls: Generators without a language model.
    """
    rows = chosen_cells(comparisons)
    if rows.empty:
        return []
    writer, larger = writer_of(rows, controls), largest_index(rows)
    frame = in_percentage_points(rows)
    frame["series"] = frame["generator"].where(frame["against"] == "baseline", frame["reference"])
    panels: list[tuple[str, Any]] = []
    shown = [
        (f"gain over no synthetic text, index {MAIN_INDEX}", f"datum.against == 'baseline' && datum.variant == '{MAIN_INDEX}'"),
        (f"the same, index {larger}", f"datum.against == 'baseline' && datum.variant == '{larger}'" if larger else ""),
        (f"{writer} over the controls, index {MAIN_INDEX}", _over_controls(writer)),
    ]
    names = colour_domain(frame["series"])
    for title, where in shown:
        if where and len(_selected(frame, where)):
            panels.append((title, forest_plot("answer", frame, "corpus", "corpus", "series", where, {})))
    caption = (
        f"{of_groups('normalization').label} on mentions of concepts that the training split lacks; linker {rows['system'].iloc[0]}, strategy "
        f"{rows['strategy'].iloc[0]}. Bars: 95 % bootstrap intervals, paired. With the index {MAIN_INDEX} the baseline is 0 by construction."
    )
    return [Figure("answer", "What synthetic text adds on unseen concepts", caption, frame, panels, {}, legend_of(names))] if panels else []


def _over_controls(writer: str | None) -> str:
    return f"datum.against == 'control' && datum.variant == '{MAIN_INDEX}' && datum.generator == '{writer}'" if writer else ""


def _selected(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Rows that a Vega expression of equalities selects."""
    return frame.query(where.replace("datum.", "").replace("&&", "and"))
