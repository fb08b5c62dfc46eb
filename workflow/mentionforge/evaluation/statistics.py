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
"""Differences closer than this are equal: two orders of summation can give the same fraction with different last digits."""

PAIRED_FROM = 5
"""Smallest number of runs per side that are paired by seed. The spread of two to four differences is too uncertain; the runs of both sides then count
as independent, which doubles the degrees of freedom and, if equal seeds do correlate, widens the intervals."""

REMOVED_SHARE = 0.9
"""Share of the variance due to documents that is subtracted from the variance between runs. Subtracting all of it would be unbiased. But both are
estimates from few runs and negative results are cut to 0, which loses the variance between seeds: with two very different runs, the type I error
would be 0.062."""

LOOK_FACTOR = 4
"""Factor between the numbers of swaps at two successive looks."""

BLOCK_ENTRIES = 2_000_000
"""Largest number of resampling weights in a block: 16 MB."""


@dataclass(frozen=True)
class Contrast:
    """Two cells to compare.

    Attributes:
        runs: Runs of the first cell, as rows of the matrices.
        reference: Runs of the second cell.
        paired: Whether the i-th runs of both cells have the same seeds.
        seeds: Seeds of the runs of the first cell; empty: the runs are independent.
        reference_seeds: Seeds of the runs of the second cell.
        most: Largest number of swaps, for contrasts whose p value the first swaps leave open.
    """

    runs: tuple[int, ...]
    reference: tuple[int, ...]
    paired: bool = False
    seeds: tuple[Seeds, ...] = ()
    reference_seeds: tuple[Seeds, ...] = ()
    most: int = 0

    def seeds_of(self, side: int) -> tuple[Seeds, ...]:
        """Seeds of the runs of the first side (0) or the second (1); if none are set, each run gets a seed of its own."""
        runs, seeds = ((self.runs, self.seeds), (self.reference, self.reference_seeds))[side]
        return seeds or tuple(Seeds(training=str(i)) for i in range(len(runs)))


@dataclass(frozen=True)
class Estimates:
    """Results of all contrasts, each array with one value per contrast; NaN where a value is undefined.

    Attributes:
        value: Score of the first side.
        reference: Score of the second.
        difference: First score minus second score.
        low: Lower limit of the interval of the difference.
        high: Upper limit of that interval.
        p: p value.
        swaps: Number of random swaps behind the p value.
        floor: Smallest p value that the documents and the largest number of swaps allow.
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
        numerator: Numerator of the score, float64 [runs, documents].
        denominator: Denominator, [documents] if it is the same for all runs, otherwise [runs, documents].
        contrasts: Pairs of cells to compare.
        resamples: Number of bootstrap draws, and of swaps unless a contrast has a larger `most`.
        confidence: Two-sided confidence level of the intervals.
        seed: Seed of bootstrap and swaps.
        settled: A contrast stops at the first look at which so many swaps gave at least the observed difference.
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
    """Quotient; 0 where the denominator is 0 (a run or a bootstrap draw without predictions)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _mean_matrices(contrasts: Sequence[Contrast], runs: int) -> tuple[np.ndarray, np.ndarray]:
    """For each side, the matrix [contrasts, runs] whose product with scores of runs is the mean over the runs of that side."""
    sides = np.zeros((2, len(contrasts), runs))
    for i, contrast in enumerate(contrasts):
        for side, members in zip(sides, (contrast.runs, contrast.reference), strict=True):
            side[i, list(members)] = 1 / len(members)
    return sides[0], sides[1]


def _influence(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Jackknife influence of each document on each run's score, [runs, documents]; its squares sum to the variance of the score."""
    left_out = _ratio(numerator.sum(1, keepdims=True) - numerator, denominator.sum(-1, keepdims=True) - denominator)
    return left_out.mean(1, keepdims=True) - left_out


def _seed_error(contrast: Contrast, scores: np.ndarray, influence: np.ndarray) -> tuple[float, float]:
    """Standard error that the seeds add to the difference of means, beyond that of the documents, and its degrees of freedom; 0 for single runs.

    Runs differ for two reasons: their seeds, and the documents, because each run errs on other documents of the sample. Resampling documents covers
    the second reason already. So most of its variance (the same estimate, computed from the influence of the documents) is subtracted from the
    sum over both sides; a negative result is cut to 0. The degrees of freedom are Satterthwaite's, from the mean squares before the cut.

    Args:
        contrast: The contrast.
        scores: Score of each run, [runs].
        influence: Jackknife influence of each document on each run's score, [runs, documents].
    """
    both = np.concatenate([scores[:, None], influence], axis=1)
    sides = [(contrast.seeds_of(0), both[list(contrast.runs)]), (contrast.seeds_of(1), both[list(contrast.reference)])]
    if contrast.paired and min(n for n in factors(sides[0][0]) if n > 1 or len(sides[0][0]) == 1) >= PAIRED_FROM:
        sides = [(sides[0][0], sides[0][1] - sides[1][1])]
    squares = [square for seeds, values in sides for square in mean_squares(seeds, values)]
    between_runs = sum(square.share * float(square.value[0]) for square in squares)
    of_documents = sum(square.share * float(square.value[1:].sum()) for square in squares)
    weight = sum((square.share * float(square.value[0])) ** 2 / square.freedom for square in squares)
    of_seeds = between_runs - REMOVED_SHARE * of_documents
    if of_seeds <= 0 or between_runs <= 0:
        return 0.0, 1.0
    return float(np.sqrt(of_seeds)), max(between_runs**2 / weight, 1.0)


def _bootstrap_weights(rng: np.random.Generator, documents: int, resamples: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of bootstrap weights, float64 [documents, block]: the number of times that each document is drawn."""
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
    """BCa limits of each contrast, NaN with fewer than two documents. `weights` [contrasts, runs] takes the mean of the first side minus that of the second."""
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


def _quantiles(sorted_rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """For each row of sorted values, the quantile of its share, interpolated linearly."""
    place = np.clip(shares, 0, 1) * (sorted_rows.shape[1] - 1)
    under = np.floor(place).astype(np.int64)
    rows = np.arange(len(sorted_rows))
    lower, upper = sorted_rows[rows, under], sorted_rows[rows, np.minimum(under + 1, sorted_rows.shape[1] - 1)]
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
    """Two-sided p value of each contrast, by swapping documents between its sides, and the number of swaps of each."""
    at_least = np.zeros(len(contrasts))
    drawn = np.zeros(len(contrasts), np.int64)
    most = np.array([max(resamples, c.most) for c in contrasts])
    active = np.arange(len(contrasts))
    for look in _look_schedule(resamples, most):
        if not len(active):
            break
        more = look - int(drawn[active[0]])  # all active contrasts have had the same number of swaps
        added = noise if look == resamples else [rng.standard_t(freedom, more) * error if error else None for error, freedom in errors]
        which = active.tolist()
        at_least[active] += _extreme_swaps(numerator, denominator, [contrasts[i] for i in which], difference[active], [added[i] for i in which], more, rng)
        drawn[active] = look
        active = active[(at_least[active] < settled) & (most[active] > look)]
    return (at_least + 1) / (drawn + 1), drawn


def _look_schedule(resamples: int, most: np.ndarray) -> list[int]:
    """Numbers of swaps, rising, after which contrasts may stop.

    They depend only on the settings and on the sizes of families. If they depended on which other contrasts are still active, which the same
    swaps decide, the looks would not be fixed beforehand and p values would not be valid.

    Example: 9,999 swaps first, 99,999 at most: looks at 9,999, 39,999 and 99,999.
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
    """Number of random swaps with at least the observed difference (in size), [contrasts]."""
    documents = numerator.shape[1]
    first, second = _mean_matrices(contrasts, len(numerator))
    gaps = (first - second) @ numerator  # [contrasts, documents]
    numerator_sums, denominator_sums = numerator.sum(1), denominator.sum(-1)
    count = np.zeros(len(contrasts))
    step = max(1, BLOCK_ENTRIES // max(documents, len(contrasts), len(numerator)))
    for start in range(0, swaps, step):
        signs = _swap_signs(rng, documents, min(step, swaps - start))
        if denominator.ndim == 1:
            differences = _ratio(gaps @ signs, denominator_sums)
        else:
            signed_numerators, signed_denominators = numerator @ signs, denominator @ signs
            differences = np.stack(
                [_swapped_differences(_run_pairs(c), numerator_sums, denominator_sums, signed_numerators, signed_denominators) for c in contrasts]
            )
        for i, deviation in enumerate(noise):
            if deviation is not None:
                differences[i] += deviation[start : start + signs.shape[1]]
        count += (np.abs(differences) >= np.abs(difference)[:, None] - TOLERANCE).sum(1)
    return count


def _run_pairs(contrast: Contrast) -> list[tuple[int, int]]:
    """Pairs of runs whose mean difference is that of the contrast: by seed if paired, otherwise all combinations."""
    if contrast.paired:
        return list(zip(contrast.runs, contrast.reference, strict=True))
    return [(a, b) for a in contrast.runs for b in contrast.reference]


def _swapped_differences(
    pairs: Sequence[tuple[int, int]], numerator_sums: np.ndarray, denominator_sums: np.ndarray, signed_numerators: np.ndarray, signed_denominators: np.ndarray
) -> np.ndarray:
    """Mean difference of pairs of runs after swaps, [swaps].

    A sign of -1 exchanges a document's counts between the two runs a and b. After the swaps, the sum of a is (sum a + sum b + gap)/2 and that of b is
    (sum a + sum b - gap)/2, where gap is the signed sum over documents of a minus b. The factor 1/2 cancels in the ratios.

    Args:
        pairs: Pairs of runs.
        numerator_sums: Sums of the numerators over documents, [runs].
        denominator_sums: Sums of the denominators, [runs].
        signed_numerators: Sums of the numerators with the signs of each swap, [runs, swaps].
        signed_denominators: The same for the denominators.
    """
    differences = np.zeros(signed_numerators.shape[1])
    for a, b in pairs:
        both, both_below, gap, gap_below = (
            numerator_sums[a] + numerator_sums[b],
            denominator_sums[a] + denominator_sums[b],
            signed_numerators[a] - signed_numerators[b],
            signed_denominators[a] - signed_denominators[b],
        )
        differences += _ratio(both + gap, both_below + gap_below) - _ratio(both - gap, both_below - gap_below)
    return differences / len(pairs)


def _smallest_p_values(numerator: np.ndarray, swaps: np.ndarray, errors: Sequence[tuple[float, float]]) -> np.ndarray:
    """Smallest p value that the numbers of documents and swaps allow, [contrasts].

    Of the 2^n swap patterns of n documents, two give the largest difference, one in each direction: p is at least 2/2^n. With a deviation of the seeds
    added, half of the draws of each of the two may fall short: 1/2^n.
    """
    documents = numerator.shape[1]
    return np.array([max(2.0 ** (-documents if error else 1 - documents), 1 / (n + 1)) for (error, _), n in zip(errors, swaps, strict=True)])
