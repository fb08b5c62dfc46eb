"""Families of comparisons: which confirm and which explore, the correction of p values, and the randomizations that a family needs.

In: comparisons with their p values. Out: the same rows with family, adjusted p value and role. Knows nothing of scores.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mentionforge.evaluation.settings import Statistics
from mentionforge.measures import MAIN, OF_GROUPS

# A confirmatory family answers one question that was fixed before the run: what do strategies and generators add, with one linker and index (or recognizer
# and schedule), on one task and corpus, on all mentions and on unseen concepts? Holm's correction (1979) bounds the chance of one false finding in the family.
# All other comparisons explore: Benjamini and Hochberg's correction (1995) bounds the expected share of false findings among the findings.
#
# Example: p values 0.01, 0.03 and 0.04 of one family. Holm multiplies them, from the smallest, by 3, 2 and 1 and never lets them fall: 0.03, 0.06, 0.06.
# Benjamini-Hochberg multiplies by 3/1, 3/2 and 3/3 and, from the largest, never lets them rise: 0.03, 0.04, 0.04.
#
# Randomizations. B randomizations give no p value below 1/(B + 1). With Holm, the smallest of a family of 40 must be at most 0.05/40 = 0.00125, so
# fewer than 799 randomizations could never confirm it. `most_resamples` derives the number from the size of the family.


PRIMARY = tuple(MAIN.values())
"""Metrics of confirmatory comparisons on all mentions. For recognition it is F1, which counts false positives too."""

PRIMARY_OF_GROUPS = tuple(OF_GROUPS.values())
"""Metrics of confirmatory comparisons on a bucket. For recognition it is recall, because a false positive belongs to no bucket."""


class Family(NamedTuple):
    """Comparisons that are corrected together. `role` is confirmatory or exploratory."""

    role: str
    name: str

    @property
    def adjustment(self) -> str:
        """Correction of the p values: holm or bh."""
        return "holm" if self.role == "confirmatory" else "bh"


def family_of(against: str, reference: str, system: str, variant: str, strategy: str, slice_: str, group: str, metric: str, settings: Statistics) -> Family:
    """The family of a comparison on a group of mentions.

    Args:
        against: baseline, control or kb.
        reference: Generator of the cell compared with.
        system: Linker or recognizer.
        variant: Index or schedule.
        strategy: Strategy of the cell.
        slice_: Criterion that groups the mentions.
        group: Name of the group.
        metric: Metric that is compared.
        settings: Settings that declare the confirmatory comparisons.
    """
    declared = settings.confirmatory
    primary = PRIMARY if slice_ == "all" else PRIMARY_OF_GROUPS if slice_ == "bucket" else ()
    named = not declared.strategies or strategy in declared.strategies or strategy.split("~")[0] in declared.strategies
    if against in declared.against and group in declared.groups and metric in primary and named:
        return Family("confirmatory", f"{against}{f' {reference}' if against == 'control' else ''}: {system}, {variant}")
    return Family("exploratory", f"{against}: {metric} by {slice_}")


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values of one family."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    result = np.empty(len(p))
    result[order] = adjusted
    return result


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p values of one family."""
    order = np.argsort(p, kind="stable")[::-1]
    adjusted = np.minimum.accumulate(np.minimum(p[order] * len(p) / np.arange(len(p), 0, -1), 1.0))
    result = np.empty(len(p))
    result[order] = adjusted
    return result


ADJUST: dict[str, Callable[[np.ndarray], np.ndarray]] = {"holm": holm, "bh": benjamini_hochberg}


def most_resamples(family: Family, size: int, settings: Statistics) -> int:
    """Largest number of randomizations for each comparison of a family.

    The smallest p value of B randomizations is 1/(B + 1), and Holm compares the smallest p value of a family with alpha/size. So B + 1 must be
    at least size/alpha. To estimate a p value of that size with the usual precision, up to `settled` times as many are drawn.
    """
    if family.role != "confirmatory":
        return settings.resamples
    return max(settings.resamples, min(settings.most_resamples, math.ceil(settings.settled * size / settings.alpha) - 1))


def corrected_rows(rows: Sequence[dict[str, Any]], alpha: float) -> list[dict[str, Any]]:
    """Add the columns of the family (adjusted p value, role, size, reachability) to the rows.

    Args:
        rows: Rows with `family` (a Family), `p` and `floor`, the smallest p value that documents and randomizations allow. `floor` is removed.
        alpha: Level at which an adjusted p value counts as significant.
    """
    families: dict[Family, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    for family, members in families.items():
        adjust = ADJUST[family.adjustment]
        adjusted = adjust(np.array([row["p"] for row in members]))
        lowest = adjust(np.array([row.pop("floor") for row in members]))
        for row, p, least in zip(members, adjusted, lowest, strict=True):
            row |= {"role": family.role, "family": family.name, "family_size": len(members), "adjustment": family.adjustment}
            row |= {"p_adjusted": float(p), "reachable": bool(least <= alpha * (1 + 1e-9))}
    return list(rows)
