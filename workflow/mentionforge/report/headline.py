"""The main results in words: highest score and largest gain of each task, and the gains compared with the paper's claims.

In: the comparisons of `tidy.tidy_comparisons` or comparisons.csv. Out: sentences, and a frame. Knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from mentionforge import measures
from mentionforge.report import confidence
from mentionforge.report.entry_order import MAIN_INDEX

CLAIMS = (
    "Published: arXiv 2410.07951; index of training mentions, gold test mentions, UMLS concepts, SapBERT and KrissBERT, text of LLaMA-2-13B, SemEval-2015, "
    "BC5CDR and NCBI Disease. Here: gains of text by a language model (or replayed) over none in the same protocol, index train, the smallest and the largest over the "
    "corpora, systems and strategies below (without ablation), each with its 95 % interval. The models and concepts are others, so only directions compare."
)


PUBLISHED_GAINS = (("normalization", "all", "+3 to +9"), ("normalization", "unseen_concept", "+20 to +55"), ("recognition", "all", "+1 to +2"))
"""The paper's gains in points of the main score of a task, or of its score of groups: task, group of mentions, gain."""


def baselines(comparisons: pd.DataFrame, task: str) -> pd.DataFrame:
    """Comparisons of cells with the baseline on all mentions."""
    return comparisons[
        (comparisons["task"] == task)
        & (comparisons["against"] == "baseline")
        & (comparisons["slice"] == "all")
        & (comparisons["metric"] == measures.MAIN[task])
    ]


def best(comparisons: pd.DataFrame, task: str = "normalization") -> Any:
    """The comparison whose cell has the best score; among equal scores the one with the largest gain."""
    rows = baselines(comparisons, task)
    lowest = measures.BY_NAME[measures.MAIN[task]].better == "lower"
    return None if rows.empty else rows.sort_values(["value", "difference"], ascending=lowest).iloc[0]


def largest(comparisons: pd.DataFrame, task: str = "normalization") -> Any:
    """The comparison with the largest gain over the baseline; one on few mentions only if there is no other."""
    rows = baselines(comparisons, task)
    return None if rows.empty else rows.sort_values(["few", "difference", "value"], ascending=[True, False, False]).iloc[0]


def signed(share: float) -> str:
    """A difference (a share) in points with its sign, a true minus sign where it is negative."""
    return f"{100 * share:+.1f}".replace("-", "−")


def score_of(row: Any) -> str:
    """The cell of a comparison and its score, in words."""
    measure = measures.BY_NAME[row["metric"]].label
    return f"{measure} {100 * row['value']:.1f} on {row['corpus']} by {row['generator']}, {row['strategy']} ({row['system']}, {row['variant']})"


def gain_of(row: Any) -> str:
    """The gain of a comparison in words, with its interval, its mentions and documents."""
    limits = "" if pd.isna(row["low"]) else f" (95 % interval {signed(row['low'])} to {signed(row['high'])}; {confidence.corrected_p_text(row)})"
    marked = ", few" if row["few"] else ""
    return (
        f"{signed(row['difference'])} points against {100 * row['reference']:.1f} without synthetic text{limits}; "
        f"n = {row['n']:,} mentions in {row['documents']:,} documents{marked}; {confidence.coverage_text(row)}"
    )


def headline_of(comparisons: pd.DataFrame) -> list[tuple[str, str, str]]:
    """For each task the highest score and the largest gain, as (label, score, gain)."""
    items = []
    for task in ("normalization", "recognition"):
        top, gain = best(comparisons, task), largest(comparisons, task)
        if top is None or gain is None:
            continue
        same, name = top.name == gain.name, "largest gain" if gain["difference"] > 0 else "smallest loss, no gain"
        items.append((f"{task.capitalize()}: highest score" + (f" and {name}" if same else ""), score_of(top), gain_of(top)))
        if not same:
            items.append((f"{task.capitalize()}: {name}", score_of(gain), gain_of(gain)))
    return items


def claims(comparisons: pd.DataFrame, controls: Collection[str], ablations: Collection[str]) -> pd.DataFrame:
    """The paper's claims and our gains, smallest and largest over corpora, systems and strategies: text of a model, index train.

    Args:
        comparisons: Comparisons of cells.
        controls: Generators without a language model; they are left out.
        ablations: Strategies without concepts of the test split; they are left out.
    """
    rows = []
    for task, group, published in PUBLISHED_GAINS:
        metric = (measures.MAIN if group == "all" else measures.OF_GROUPS)[task]
        rows_of_claim = comparisons[
            (comparisons["task"] == task) & (comparisons["against"] == "baseline") & (comparisons["group"] == group) & (comparisons["metric"] == metric)
        ]
        rows_of_claim = rows_of_claim[~rows_of_claim["generator"].isin(list(controls)) & ~rows_of_claim["strategy"].isin(list(ablations))]
        rows_of_claim = rows_of_claim[rows_of_claim["variant"] == MAIN_INDEX] if task == "normalization" else rows_of_claim
        if rows_of_claim.empty:
            continue
        ordered = rows_of_claim.sort_values("difference", kind="stable")
        low, high = ordered.iloc[0], ordered.iloc[-1]
        ends = [f"{signed(r['difference'])}" + ("" if pd.isna(r["low"]) else f" [{signed(r['low'])}, {signed(r['high'])}]") for r in (low, high)]
        where = f"{len(rows_of_claim)} comparison{'s' * (len(rows_of_claim) > 1)}, n = {rows_of_claim['n'].min():,} to {rows_of_claim['n'].max():,}"
        measure = measures.shown()[task, group, metric]
        rows.append({"measure": measure, "published, points": published, "here, smallest": ends[0], "here, largest": ends[1], "rests on": where})
    return pd.DataFrame(rows)
