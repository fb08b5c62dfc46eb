"""Which sources of chance the intervals and p values of a run cover, in words: documents, seeds, and families of comparisons.

In: the comparisons of `tidy.tidy_comparisons`. Out: sentences, and a frame of families. Computes no interval or p value. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mentionforge.entries import UNTRAINED
from mentionforge.measures import MAIN

MOST_NAMED = 5
"""Most families that a sentence names."""


def not_covered(task: str, variant: str, covers: str) -> list[str]:
    """The sources of chance that an interval leaves out, each as the end of a sentence.

    Args:
        task: recognition or normalization.
        variant: Schedule or index of the cell.
        covers: As in tables.COMPARISONS.
    """
    missing = [] if "generator seeds" in covers else ["what text of another generator seed would give"]
    if "generator seeds of the cell" in covers:
        missing.append("what another seed of the text compared with would give")
    if task == "recognition" and variant != UNTRAINED and "training seeds" not in covers:
        missing.append("what another training seed would give")
    return missing


def join_words(words: Sequence[str]) -> str:
    """Words as a sentence lists them: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def coverage_text(row: Any) -> str:
    """The sources of chance that the interval of one comparison covers and leaves out, in words."""
    kinds = {"generator seeds": row["generator_seeds"], "training seeds": row["training_seeds"]}
    covered = ["documents", *(f"{int(n)} {words}" for words, n in kinds.items() if words in row["covers"])]
    missing = not_covered(row["task"], row["variant"], row["covers"])
    return f"over {join_words(covered)}" + (f", without {' or '.join(missing)}" if missing else "")


def corrected_p_text(row: Any) -> str:
    """The p value of one comparison after correction, in words."""
    correction = {"holm": "Holm", "bh": "Benjamini-Hochberg"}[row["adjustment"]]
    text = f"{correction} p {row['p_adjusted']:.2g} in a family of {int(row['family_size'])}"
    return text if row["reachable"] else f"{text}, in which nothing could be significant"


def _overall(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The comparisons with the baseline on all mentions, one per cell."""
    return comparisons[(comparisons["against"] == "baseline") & (comparisons["slice"] == "all") & comparisons["metric"].isin(list(MAIN.values()))]


def intervals(comparisons: pd.DataFrame) -> list[str]:
    """For each task and coverage a sentence on what the intervals cover, and one on what they leave out.

    Args:
        comparisons: `tidy_comparisons`.
    """
    sentences = []
    for task, cells in _overall(comparisons).groupby("task", sort=True):
        for covers, same_coverage in cells.groupby("covers", sort=True):
            words = join_words([f"test {covers}".split(", ")[0], *str(covers).split(", ")[1:]])
            text = f"{str(task).capitalize()}: intervals and p values of {len(same_coverage):,} of {len(cells):,} cells hold the choice of {words}."
            missing = list(dict.fromkeys(m for variant in same_coverage["variant"] for m in not_covered(str(task), variant, str(covers))))
            sentences.append(text + (f" They leave out {join_words(missing)}: these cells have one seed of that kind." if missing else ""))
    return sentences


def unreachable(comparisons: pd.DataFrame) -> list[str]:
    """A sentence on the confirmatory families in which no outcome could have been significant; empty without such a family."""
    families = comparisons[comparisons["role"] == "confirmatory"].groupby(["task", "corpus", "family"], sort=True).agg(reachable=("reachable", "any"))
    none: Any = families.index[~families["reachable"]]
    if not len(none):
        return []
    names = "; ".join(f"{task}, {corpus}, {family}" for task, corpus, family in none[:MOST_NAMED]) + ("; …" if len(none) > MOST_NAMED else "")
    return [
        f"Nothing could be significant in {len(none):,} of {len(families):,} confirmatory families, whatever the systems did ({names}): for the size of the "
        "family there are too few test documents, or too few randomizations (statistics.most_resamples). There a large p value is no evidence that systems are alike."
    ]


def roles(comparisons: pd.DataFrame) -> list[str]:
    """A sentence on how many comparisons confirm and how many explore."""
    confirmed = comparisons["role"] == "confirmatory"
    if not len(comparisons):
        return []
    families = comparisons[confirmed].groupby(["task", "corpus", "family"]).ngroups
    return [
        f"{int(confirmed.sum()):,} comparisons were declared before the run (confirmatory), in {families:,} families, each corrected after Holm. The other "
        f"{int((~confirmed).sum()):,}, by rarity, type, dose and the like, are exploratory: corrected after Benjamini and Hochberg, and questions for another run rather than findings."
    ]


def statements(comparisons: pd.DataFrame) -> list[str]:
    """What the page says about its intervals and p values."""
    return [*intervals(comparisons), *roles(comparisons), *unreachable(comparisons)]


def family_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """One row per family: number of comparisons, correction, smallest adjusted p value, and whether any comparison could be significant."""
    rows = []
    for key, family in comparisons.groupby(["task", "corpus", "role", "family"], sort=True):
        row: dict[str, Any] = dict(zip(["task", "corpus", "role", "family"], key, strict=True))
        row |= {"correction": family["adjustment"].iloc[0], "comparisons, n": f"{len(family):,}", "randomizations, most": f"{family['resamples'].max():,}"}
        row |= {
            "adjusted p, smallest": f"{family['p_adjusted'].min():.2g}",
            "could be significant": "yes" if family["reachable"].any() else "no, nothing could",
        }
        rows.append(row)
    return pd.DataFrame(rows)
