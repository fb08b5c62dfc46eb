"""How much the mean over runs would vary with other seeds: a crossed design of generator seeds and training seeds.

Three generator seeds times three training seeds are nine runs, but not nine independent ones: runs with the same notes share what is
particular to these notes, and runs with the same training seed share that. A run's score is modelled as

    score[g, t] = mean + a[g] + b[t] + c[g, t] + what the test documents do

with random effects a (generator seeds), b (training seeds) and c (both together). The variance of the mean over G times T runs is
var(a)/G + var(b)/T + var(c)/(G T). Its estimate without bias is (MS_g + MS_t - MS_gt) / (G T), from the mean squares of a two-way analysis of
variance with one observation per cell; its degrees of freedom are Satterthwaite's (1946). With one seed of a factor, nothing is known of it: the
other factor's runs are then a one-way design.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Seeds(NamedTuple):
    """Seeds of one run; an empty name where the run has none of that kind."""

    generator: str = ""
    training: str = ""


@dataclass(frozen=True)
class MeanSquare:
    """A mean square, how much of it the variance of the mean over runs holds, and its degrees of freedom.

    Attributes:
        share: Signed factor.
        value: [columns]
        freedom: Degrees of freedom.
    """

    share: float
    value: np.ndarray
    freedom: int


def factors(seeds: Sequence[Seeds]) -> tuple[int, int]:
    """How many generator seeds and how many training seeds the runs have."""
    return len({s.generator for s in seeds}), len({s.training for s in seeds})


def mean_squares(seeds: Sequence[Seeds], values: np.ndarray) -> list[MeanSquare]:
    """Mean squares whose sum, each times its share, estimates the variance of the mean over the runs; none for a single run.

    Runs that do not fill the grid of their seeds (some seeds of one generator only) have the sum of both factors' own estimates, each level with
    the weight that its runs have in the mean. On average that is no less than the variance.

    Args:
        seeds: Of each run, no two the same.
        values: [runs, columns]; each column is taken by itself.
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
    """Means over the runs of each level, [levels, columns], in order of their names."""
    number = np.unique(levels, return_inverse=True)[1]
    return np.stack([values[number == level].mean(0) for level in range(number.max() + 1)])
