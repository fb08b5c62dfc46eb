"""Equal scores: which scores count as equal, and the order of what has them.

**Which.** The scores of a query are read from the highest down. The highest leads a group, of all scores that are at most the
query's tolerance below it; the next score leads the next group, and so on. A ranking shows the score of the leader for the whole
group, so that scores it shows are equal where, and only where, they count as equal. There is no grid on whose lines a score could
lie: two scores of the same truth, apart by the noise of floats, part only where the end of a group falls between them.

The tolerance follows the query alone, never the queries beside it: see `linkers.contract.Comparison.tolerance` and `linkers.hybrid.fusion.tolerance`.

**In which order.** Of equal scores, what the ranking knows besides decides; at last the CUI, ascending:

- search, by any linker and metric, exact or approximate: the index' preference (`prefer_xrefs`), if it has one; then the votes,
  the number of the concept's entries at its best score, descending; then CUI.
- fusion: the rank in the first linker that lists the concept, the linkers in the order of the config; then CUI.
- reranking: the rank in the first stage.
"""

from __future__ import annotations

import numpy as np

EQUAL = 1e-6
"""Scores of vectors of length 1 count as equal up to this difference.

Vectors are float32: each component is off by half a unit in the last place at least, 6e-8 of its size, and by some of these after
an encoder's layers in another batch. A product of two such vectors is then off by a few 1e-7; scores are computed from the vectors
in float64, which adds nothing. A millionth holds that, and is far below what separates different names.
"""


def levelled(owner: np.ndarray, score: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Each score replaced by that of its group's leader, rounded to the decimals that the tolerance leaves.

    Args:
        owner: The query of each score, int [scores]; in any order.
        score: Scores, finite float64 [scores].
        tolerance: Of each query, float64 [queries].
    """
    order = np.lexsort((-score, owner))
    own, values = owner[order], score[order]
    first = np.ones(len(values), bool)
    first[1:] = (own[1:] != own[:-1]) | (values[:-1] - values[1:] > tolerance[own[1:]])
    # A run of scores, each near the one before, is one group unless it is longer than the tolerance: then it is cut from the top.
    start = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    leader = values[start][run]
    beyond = leader - values > tolerance[own]
    while beyond.any():
        late = np.flatnonzero(beyond)
        new = late[np.diff(run[late], prepend=-1) != 0]  # the first of each run that is out of its leader's reach leads the rest
        first[new] = True
        run = np.cumsum(first) - 1
        leader = values[np.flatnonzero(first)][run]
        beyond = leader - values > tolerance[own]
    with np.errstate(divide="ignore"):
        digits = -np.log10(tolerance[own])
    decimals = np.ceil(np.where(np.isfinite(digits), np.clip(digits, -300, 12), 12) - 1e-3)
    found = np.empty(len(values))
    for number in np.unique(decimals):
        some = decimals == number
        found[some] = np.round(leader[some], int(number)) + 0.0  # + 0.0: no negative zero
    levels = np.empty(len(values))
    levels[order] = found
    return levels
