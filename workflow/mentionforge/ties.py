"""Ties: which scores of a query count as equal, and in which order concepts with equal scores are ranked.

In: scores and each query's tolerance. Out: scores in which equal ones have one value. Knows nothing of linkers and concepts.
"""

from __future__ import annotations

import numpy as np

# Which scores are equal. The scores of a query are read from the highest down. The highest leads a group: all scores that are at most the
# tolerance below it. The next lower score leads the next group, and so on. Every member gets the score of its leader. Example with a
# tolerance of 0.1:
#
#     scores    0.95  0.90  0.86 | 0.84  0.80 | 0.50
#     becomes   0.95  0.95  0.95 | 0.84  0.84 | 0.50      0.84 is more than 0.1 below its leader, though not below 0.86
#
# Rounding to a grid would separate two scores on either side of a grid line, however close. Here, two scores that differ only by float noise
# are separated only if the end of a group falls between them. The tolerance depends on the query alone, never on other queries: see
# `linkers.contract.Retriever.tolerance` and `linkers.hybrid.fusion.fusion_tolerance`.
#
# Order of equal scores; the CUI, ascending, decides last:
#
# - search, by any linker and metric, exact or approximate: the index' preference (`prefer_xrefs`), if it has one; then the votes, descending
#   (number of the concept's entries at its best score); then CUI.
# - fusion: the rank in the first linker that lists the concept, linkers in the order of the config; then CUI.
# - reranking: the rank in the first stage.


EQUAL = 1e-6
"""Scores of vectors of length 1 count as equal up to this difference.

Components are float32: rounding alone changes each by up to 6e-8 of its size, and an encoder's layers change it a few times as much when
the batch differs. The product of two such vectors is then off by a few 1e-7; computing it in float64 adds no error. 1e-6 covers
that, and is far below the difference between scores of different names.
"""


def level_ties(owner: np.ndarray, score: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Replace each score by the score of its group's leader, rounded to the decimals that the tolerance leaves.

    Args:
        owner: The query of each score, int [scores]; in any order.
        score: Scores, finite float64 [scores].
        tolerance: Largest difference of equal scores, for each query, float64 [queries].
    """
    order = np.lexsort((-score, owner))
    own, values = owner[order], score[order]
    first = np.ones(len(values), bool)
    first[1:] = (own[1:] != own[:-1]) | (values[:-1] - values[1:] > tolerance[own[1:]])
    # Scores that each lie within the tolerance of the one before form a run. A run wider than the tolerance is cut from the top.
    start = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    leader = values[start][run]
    beyond = leader - values > tolerance[own]
    while beyond.any():
        late = np.flatnonzero(beyond)
        new = late[np.diff(run[late], prepend=-1) != 0]  # in each run, the first score beyond the leader's tolerance leads the rest
        first[new] = True
        run = np.cumsum(first) - 1
        leader = values[np.flatnonzero(first)][run]
        beyond = leader - values > tolerance[own]
    with np.errstate(divide="ignore"):
        digits = -np.log10(tolerance[own])
    decimals = np.ceil(np.where(np.isfinite(digits), np.clip(digits, -300, 12), 12) - 1e-3)
    rounded = np.empty(len(values))
    for number in np.unique(decimals):
        at_number = decimals == number
        rounded[at_number] = np.round(leader[at_number], int(number)) + 0.0  # + 0.0: no negative zero
    levels = np.empty(len(values))
    levels[order] = rounded
    return levels
