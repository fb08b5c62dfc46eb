"""Differences between two systems on the same documents: intervals and p values, for many comparisons at a time.

In: per run and document, numerator and denominator of a score. Out: difference, interval and p value of each contrast.
Knows nothing of tasks, metrics and corrections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mentionforge.evaluation.seeds import Seeds, factors, mean_squares

# Every score is a ratio of sums over documents: accuracy is right mentions over mentions, F1 is 2 tp over predicted plus gold. So a run (one system, one
# seed) is two rows of numbers, and every resampling is a matrix product. Documents are the unit: mentions of one document are not independent.
#
# Interval: bias-corrected and accelerated bootstrap (Efron 1987) over documents, paired: one draw of documents serves all runs. The tails
# are expanded for few documents (Hesterberg 2015), as t has wider tails than the normal distribution.
#
# p value: two-sided approximate randomization (Noreen 1989). If two systems are equally good, it does not matter which of them produced which output on a
# document. So each document's counts are swapped between the systems or not, at random. Example: system A is right on 3, 2 and 4 mentions
# of three documents with 5 mentions each, system B on 1, 2 and 3. The difference is 9/15 - 6/15 = 0.2. Swapping the first document gives
# (1 + 2 + 4)/15 - (3 + 2 + 3)/15 = -1/15: smaller in size, so it does not count. p is the share of swaps, the observed outcome
# included, whose difference is at least as large in size as the observed one. Here 4 of the 8 patterns reach it, so p is 0.5.
#
# More swaps where the first leave p open, after Besag and Clifford (1991). A contrast continues until, at a look fixed beforehand (each with four times
# as many swaps as the one before, and the most of each contrast), `settled` swaps reached the observed difference, or `most` swaps were drawn. With k of
# B swaps at the look where it stops, p = (k + 1)/(B + 1). This p value is valid. For a level u, let B be the first look at which `settled` + 1 of B + 1 is
# at most u. A contrast that stops before this look has p above u. One that stops there or later has p at most u only if (k + 1)/(B + 1) is at
# most u at this look, and the chance of that is at most u.
#
# Several seeds add a second level. The score of a cell is the mean over its runs. A deviation of that mean, drawn from Student's t with the standard
# error of the seeds (`seeds`), is added to every bootstrap replicate and every randomized difference. Resampling two to five seeds would give
# intervals that are too narrow; t fits so few seeds. Five or more seeds that are the same on both sides are paired.


TOLERANCE = 1e-12
"""Differences closer than this are equal: the same fraction reached by two orders of summation."""

PAIRED_FROM = 5
"""Runs from which the spread of differences by seed is trusted: two to four differences say too little, and both sides' runs
are taken as independent, which gives twice the degrees of freedom and, where equal seeds do go together, wider intervals."""

REMOVED_SHARE = 0.9
"""Share of the documents' part that is taken off the variance between runs. All of it would be right on average; but both are estimates from
few runs, what falls below 0 is cut, and then the runs' own spread is missing: with two runs that differ much, type I error would be 0.062."""

LOOK_FACTOR = 4
"""How many times more swaps there are at each look than at the look before."""

BLOCK_ENTRIES = 2_000_000
"""Most entries of a block of resampling weights: 16 MB."""


@dataclass(frozen=True)
class Contrast:
    """Two cells to compare.

    Attributes:
        runs: Rows of the matrices, the runs of the first cell.
        reference: Those of the second.
        paired: Whether the i-th runs of both belong together (same seeds).
        seeds: Of each of the runs; without any, runs are independent.
        reference_seeds: Of each run of the second cell.
        most: Most swaps, where the first ones leave the p value open.
    """

    runs: tuple[int, ...]
    reference: tuple[int, ...]
    paired: bool = False
    seeds: tuple[Seeds, ...] = ()
    reference_seeds: tuple[Seeds, ...] = ()
    most: int = 0

    def seeds_of(self, side: int) -> tuple[Seeds, ...]:
        """Seeds of the runs of the first side (0) or the second; without any, each run is independent of the others."""
        runs, seeds = ((self.runs, self.seeds), (self.reference, self.reference_seeds))[side]
        return seeds or tuple(Seeds(training=str(i)) for i in range(len(runs)))


@dataclass(frozen=True)
class Estimates:
    """One entry per contrast, NaN where there is none.

    Attributes:
        value: Score of the first side.
        reference: Score of the second.
        difference: First less second.
        low: Lower limit of the difference.
        high: Upper limit.
        p: p value.
        swaps: How many random swaps it rests on.
        floor: The smallest p value that the documents and the most swaps allow.
    """

    value: np.ndarray
    reference: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    swaps: np.ndarray
    floor: np.ndarray


def estimate(
    numerator: np.ndarray,
    denominator: np.ndarray,
    contrasts: Sequence[Contrast],
    *,
    resamples: int = 9999,
    confidence: float = 0.95,
    seed: int = 13,
    settled: int = 100,
) -> Estimates:
    """Differences, intervals and p values of all contrasts.

    Args:
        numerator: Counts or sums, float64 [runs, documents].
        denominator: The same for all runs [documents], or [runs, documents].
        contrasts: What is compared with what.
        resamples: Bootstrap draws, and as many swaps, unless a contrast asks for more.
        confidence: Of the intervals, two-sided.
        seed: Of both.
        settled: A p value is settled when so many swaps gave at least the observed difference.
    """
    if not contrasts:
        empty = np.empty(0)
        return Estimates(empty, empty, empty, empty, empty, empty, empty, empty)
    scores = _ratio(numerator.sum(1), denominator.sum(-1))
    first, second = _mean_matrices(contrasts, len(numerator))
    value, reference = first @ scores, second @ scores
    difference = value - reference
    influence = _influence(numerator, denominator)
    errors = [_seed_error(c, scores, influence) for c in contrasts]
    rng = np.random.default_rng(seed)
    noise = [rng.standard_t(freedom, resamples) * error if error else None for error, freedom in errors]
    low, high = _intervals(numerator, denominator, (first - second) @ influence, first - second, difference, noise, resamples, confidence, rng)
    p, swaps = _randomization(numerator, denominator, contrasts, difference, noise, errors, resamples, settled, rng)
    most = np.array([max(resamples, c.most) for c in contrasts])
    return Estimates(value, reference, difference, low, high, p, swaps, _smallest_p_values(numerator, most, errors))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; 0 where the denominator is 0 (no prediction, or none that was drawn)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _mean_matrices(contrasts: Sequence[Contrast], runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [contrasts, runs] that take the mean over each side's runs."""
    sides = np.zeros((2, len(contrasts), runs))
    for i, contrast in enumerate(contrasts):
        for side, members in zip(sides, (contrast.runs, contrast.reference), strict=True):
            side[i, list(members)] = 1 / len(members)
    return sides[0], sides[1]


def _influence(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Jackknife influence of each document on each run's score, [runs, documents]; its squares sum to the score's variance."""
    left_out = _ratio(numerator.sum(1, keepdims=True) - numerator, denominator.sum(-1, keepdims=True) - denominator)
    return left_out.mean(1, keepdims=True) - left_out


def _seed_error(contrast: Contrast, scores: np.ndarray, influence: np.ndarray) -> tuple[float, float]:
    """Standard error of the difference of means that the seeds add to the documents, and its degrees of freedom; 0 for single runs.

    Runs differ for two reasons: because of their seeds, and because each errs on other documents of the few that there are. The second is
    in the resampling of documents already, so most of its part (the same estimate, made of the documents' influence) is taken off, after both sides
    are added: what is left below 0 is cut once. The degrees of freedom are Satterthwaite's, of the mean squares before the cut.

    Args:
        contrast: The two sides.
        scores: [runs]
        influence: [runs, documents], jackknife influence of each document on each run's score.
    """
    both = np.concatenate([scores[:, None], influence], axis=1)
    sides = [(contrast.seeds_of(0), both[list(contrast.runs)]), (contrast.seeds_of(1), both[list(contrast.reference)])]
    if contrast.paired and min(n for n in factors(sides[0][0]) if n > 1 or len(sides[0][0]) == 1) >= PAIRED_FROM:
        sides = [(sides[0][0], sides[0][1] - sides[1][1])]
    squares = [part for seeds, values in sides for part in mean_squares(seeds, values)]
    between = sum(part.share * float(part.value[0]) for part in squares)
    own = sum(part.share * float(part.value[1:].sum()) for part in squares)
    weight = sum((part.share * float(part.value[0])) ** 2 / part.freedom for part in squares)
    added = between - REMOVED_SHARE * own
    if added <= 0 or between <= 0:
        return 0.0, 1.0
    return float(np.sqrt(added)), max(between**2 / weight, 1.0)


def _bootstrap_weights(rng: np.random.Generator, documents: int, resamples: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of bootstrap weights, float64 [documents, block]: how often each document was drawn."""
    step = max(1, BLOCK_ENTRIES // documents)
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        drawn = rng.integers(0, documents, (block, documents)) + documents * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * documents).reshape(block, documents)
        yield slice(start, start + block), counts.astype(np.float64).T


def _swap_signs(rng: np.random.Generator, documents: int, swaps: int) -> np.ndarray:
    """1 or -1 for each document and swap, float64 [documents, swaps], from single random bits."""
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-documents * swaps // 8)), np.uint8), count=documents * swaps)
    return bits.reshape(documents, swaps) * 2.0 - 1.0


def _intervals(
    numerator: np.ndarray,
    denominator: np.ndarray,
    influence: np.ndarray,
    weights: np.ndarray,
    difference: np.ndarray,
    noise: Sequence[np.ndarray | None],
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """BCa limits of each contrast, NaN with fewer than two documents; `weights` [contrasts, runs] is the first side's means minus the second's."""
    from scipy.special import ndtr, ndtri
    from scipy.stats import t

    documents = numerator.shape[1]
    if documents < 2:
        nothing = np.full(len(difference), np.nan)
        return nothing, nothing
    replicates = np.empty((len(difference), resamples))
    for block, drawn in _bootstrap_weights(rng, documents, resamples):
        replicates[:, block] = weights @ _ratio(numerator @ drawn, denominator @ drawn)
    spread = (influence**2).sum(1) ** 1.5
    acceleration = np.divide((influence**3).sum(1), 6 * spread, out=np.zeros(len(difference)), where=spread > TOLERANCE)
    below = (replicates < difference[:, None] - TOLERANCE).mean(1)
    not_above = (replicates <= difference[:, None] + TOLERANCE).mean(1)
    bias = ndtri(np.clip((below + not_above) / 2, 0.5 / resamples, 1 - 0.5 / resamples))
    for i, deviation in enumerate(noise):
        if deviation is not None:
            replicates[i] += deviation
    replicates.sort(axis=1)
    limits = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + np.sqrt(documents / (documents - 1)) * t.ppf(tail, documents - 1)
        limits.append(_quantiles(replicates, ndtr(bias + shifted / (1 - acceleration * shifted))))
    return limits[0], limits[1]


def _quantiles(rising: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """One quantile of each row of sorted values, interpolated linearly."""
    place = np.clip(shares, 0, 1) * (rising.shape[1] - 1)
    under = np.floor(place).astype(np.int64)
    rows = np.arange(len(rising))
    lower, upper = rising[rows, under], rising[rows, np.minimum(under + 1, rising.shape[1] - 1)]
    return lower + (upper - lower) * (place - under)


def _randomization(
    numerator: np.ndarray,
    denominator: np.ndarray,
    contrasts: Sequence[Contrast],
    difference: np.ndarray,
    noise: Sequence[np.ndarray | None],
    errors: Sequence[tuple[float, float]],
    resamples: int,
    settled: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided p value of each contrast, by swapping documents between its sides, and how many swaps each had."""
    at_least = np.zeros(len(contrasts))
    drawn = np.zeros(len(contrasts), np.int64)
    most = np.array([max(resamples, c.most) for c in contrasts])
    active = np.arange(len(contrasts))
    for look in _look_schedule(resamples, most):
        if not len(active):
            break
        more = look - int(drawn[active[0]])  # all active contrasts had the same swaps so far
        added = noise if look == resamples else [rng.standard_t(freedom, more) * error if error else None for error, freedom in errors]
        which = active.tolist()
        at_least[active] += _extreme_swaps(numerator, denominator, [contrasts[i] for i in which], difference[active], [added[i] for i in which], more, rng)
        drawn[active] = look
        active = active[(at_least[active] < settled) & (most[active] > look)]
    return (at_least + 1) / (drawn + 1), drawn


def _look_schedule(resamples: int, most: np.ndarray) -> list[int]:
    """Numbers of swaps after which all contrasts that go on are looked at, rising.

    They follow from what is asked alone. Were they to depend on which other contrasts still go on, which the same swaps decide, a look would no
    longer be fixed beforehand, and p values would not be valid.
    """
    looks, look = {resamples, *most.tolist()}, resamples
    while look < most.max():
        looks.add(look)
        look = LOOK_FACTOR * (look + 1) - 1
    return sorted(looks)


def _extreme_swaps(
    numerator: np.ndarray,
    denominator: np.ndarray,
    contrasts: Sequence[Contrast],
    difference: np.ndarray,
    noise: Sequence[np.ndarray | None],
    swaps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """How many random swaps give at least the observed difference, [contrasts]."""
    documents = numerator.shape[1]
    first, second = _mean_matrices(contrasts, len(numerator))
    gaps = (first - second) @ numerator  # [contrasts, documents]
    totals, totals_below = numerator.sum(1), denominator.sum(-1)
    count = np.zeros(len(contrasts))
    step = max(1, BLOCK_ENTRIES // max(documents, len(contrasts), len(numerator)))
    for start in range(0, swaps, step):
        signs = _swap_signs(rng, documents, min(step, swaps - start))
        if denominator.ndim == 1:
            swapped = _ratio(gaps @ signs, totals_below)
        else:
            moved, moved_below = numerator @ signs, denominator @ signs
            swapped = np.stack([_swapped_differences(_run_pairs(c), totals, totals_below, moved, moved_below) for c in contrasts])
        for i, deviation in enumerate(noise):
            if deviation is not None:
                swapped[i] += deviation[start : start + signs.shape[1]]
        count += (np.abs(swapped) >= np.abs(difference)[:, None] - TOLERANCE).sum(1)
    return count


def _run_pairs(contrast: Contrast) -> list[tuple[int, int]]:
    """Pairs of runs whose mean difference is the contrast's: by seed, or every run with every other."""
    if contrast.paired:
        return list(zip(contrast.runs, contrast.reference, strict=True))
    return [(a, b) for a in contrast.runs for b in contrast.reference]


def _swapped_differences(
    pairs: Sequence[tuple[int, int]], totals: np.ndarray, totals_below: np.ndarray, moved: np.ndarray, moved_below: np.ndarray
) -> np.ndarray:
    """Mean difference of pairs of runs after swaps, [swaps], from sums over documents [runs] and sums with the swaps' signs [runs, swaps].

    A swap with sign -1 gives a document's counts to the other run: the sum of a run is half the sum of both, plus half their difference with signs.
    """
    total = np.zeros(moved.shape[1])
    for a, b in pairs:
        both, both_below, gap, gap_below = totals[a] + totals[b], totals_below[a] + totals_below[b], moved[a] - moved[b], moved_below[a] - moved_below[b]
        total += _ratio(both + gap, both_below + gap_below) - _ratio(both - gap, both_below - gap_below)
    return total / len(pairs)


def _smallest_p_values(numerator: np.ndarray, swaps: np.ndarray, errors: Sequence[tuple[float, float]]) -> np.ndarray:
    """Smallest p value that the number of documents and of swaps allows, [contrasts].

    Of the 2^n patterns of swaps of n documents two give the largest difference, in either direction; with a deviation of the seeds added, half of the
    draws of each pattern may fall short.
    """
    documents = numerator.shape[1]
    return np.array([max(2.0 ** (-documents if error else 1 - documents), 1 / (n + 1)) for (error, _), n in zip(errors, swaps, strict=True)])
