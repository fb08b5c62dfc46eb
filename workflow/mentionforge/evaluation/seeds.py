"""Variance between seeds: how much the mean over runs would vary with other generator and training seeds.

In: scores of runs with their seeds. Out: mean squares of a two-way design. Knows nothing of documents and metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Three generator seeds times three training seeds are nine runs, but not nine independent ones: runs on the same notes share the effect of these notes,
# and runs with the same training seed share the effect of that seed. The score of a run is modelled as
#
#     score[g, t] = mean + a[g] + b[t] + c[g, t] + effect of the test documents
#
# with random effects a (generator seeds), b (training seeds) and c (both together). The variance of the mean over G times T runs is
# var(a)/G + var(b)/T + var(c)/(G T). Its unbiased estimate is (MS_g + MS_t - MS_gt) / (G T), with the mean squares of a two-way analysis of variance
# with one observation per cell; its degrees of freedom are Satterthwaite's (1946). With a single seed of one factor, the variance of that factor
# is unknown, and the runs of the other factor form a one-way design.
#
# Example, accuracy in percent: generator seeds 1 and 2, training seeds 1 and 2, scores [[70, 72], [76, 78]]. The means of the generator seeds are 71 and 77,
# those of the training seeds 73 and 75. MS_g = 2 x 18 = 36, MS_t = 2 x 2 = 4, MS_gt = 0: the variance of the mean 74 is 40/4 = 10. Four independent
# runs with these scores would give 13.3/4 = 3.3, which is far too small.


class Seeds(NamedTuple):
    """Seeds of one run, as strings; empty if the run has no seed of that kind."""

    generator: str = ""
    training: str = ""


@dataclass(frozen=True)
class MeanSquare:
    """A mean square, its share in the variance of the mean over runs, and its degrees of freedom.

    Attributes:
        share: Signed factor.
        value: Mean square of each column, [columns].
        freedom: Degrees of freedom.
    """

    share: float
    value: np.ndarray
    freedom: int


def factors(seeds: Sequence[Seeds]) -> tuple[int, int]:
    """Number of generator seeds and number of training seeds of the runs."""
    return len({s.generator for s in seeds}), len({s.training for s in seeds})


def mean_squares(seeds: Sequence[Seeds], values: np.ndarray) -> list[MeanSquare]:
    """Mean squares whose sum, each times its share, estimates the variance of the mean over the runs; none for a single run.

    If the runs do not fill the grid of their seeds (a training seed is missing for some generator seed), the estimate is the sum of the one-way
    estimates of both factors, with each level weighted by its share of the runs. On average it is at least the variance.

    Args:
        seeds: Seeds of each run, all different.
        values: [runs, columns]; each column is treated separately.
    """
    runs = len(seeds)
    generators, trainings = factors(seeds)
    if runs < 2:
        return []
    if 1 in (generators, trainings) or generators == trainings == runs:
        return [MeanSquare(1 / runs, np.var(values, axis=0, ddof=1), runs - 1)]
    of_generators, of_trainings = (_level_means([s[i] for s in seeds], values) for i in (0, 1))
    if generators * trainings != runs:
        shares = [sum(n**2 for n in Counter(s[i] for s in seeds).values()) / runs**2 for i in (0, 1)]
        return [MeanSquare(share, np.var(m, axis=0, ddof=1), len(m) - 1) for share, m in zip(shares, (of_generators, of_trainings), strict=True)]
    first = np.unique([s.generator for s in seeds], return_inverse=True)[1]
    second = np.unique([s.training for s in seeds], return_inverse=True)[1]
    rest = values - of_generators[first] - of_trainings[second] + values.mean(0)
    freedom = (generators - 1) * (trainings - 1)
    return [
        MeanSquare(1 / runs, trainings * np.var(of_generators, axis=0, ddof=1), generators - 1),
        MeanSquare(1 / runs, generators * np.var(of_trainings, axis=0, ddof=1), trainings - 1),
        MeanSquare(-1 / runs, (rest**2).sum(0) / freedom, freedom),
    ]


def _level_means(levels: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Means over the runs of each level (seed) of a factor, [levels, columns], sorted by level."""
    number = np.unique(levels, return_inverse=True)[1]
    return np.stack([values[number == level].mean(0) for level in range(number.max() + 1)])
