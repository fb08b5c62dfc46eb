"""Differences between two systems on the same documents: intervals, p values and corrections, for many comparisons at a time.

Every score here is a ratio of sums over documents: accuracy is right mentions over mentions, F1 is 2 tp over predicted plus
gold. A run (one system, one seed) is therefore two rows of numbers per document, and every resampling is a product of
matrices. Documents are the unit: mentions of one document are not independent, and both systems see the same documents.

- Interval: bias-corrected and accelerated bootstrap (Efron 1987) over documents, paired, because one draw of documents serves all runs; its
  tails are expanded for few documents (Hesterberg 2015), as t is wider than the normal distribution.
- p value: approximate randomization (Noreen 1989), two-sided. Each document's outcomes are swapped between the two systems or not; the p value
  is the share of swaps whose difference is at least as large, the observed one counted in.
- Several seeds: a second level. The score of a cell is the mean over its runs, and to every bootstrap and every randomized difference a
  deviation of that mean is added, drawn from Student's t with the runs' own standard error. Resampling two to five runs
  would give intervals that are too narrow; t is what such few runs support. Five or more runs with the same seeds on both sides are paired.
- Holm's correction over a family (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-12
"""Differences closer than this are equal: the same fraction reached by two orders of summation."""

PAIRED_FROM = 5
"""Runs from which the spread of differences by seed is trusted: two to four differences say too little, and both sides' runs
are taken as independent, which gives twice the degrees of freedom and, where equal seeds do go together, wider intervals."""

KNOWN = 0.9
"""Share of the documents' part that is taken off the variance between runs. All of it would be right on average; but both are estimates from
few runs, what falls below 0 is cut, and then the runs' own spread is missing: with two runs that differ much, type I error would be 0.062."""

CHUNK = 2_000_000
"""Most entries of a block of resampling weights: 16 MB."""


@dataclass(frozen=True)
class Contrast:
    """Two cells to compare, as rows (runs) of the matrices, and whether the i-th runs of both belong together (same seed)."""

    runs: tuple[int, ...]
    reference: tuple[int, ...]
    paired: bool = False


@dataclass(frozen=True)
class Estimates:
    """One entry per contrast: both values, their difference, its interval, and the p value; NaN where there is none."""

    value: np.ndarray
    reference: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def estimate(
    numerator: np.ndarray,
    denominator: np.ndarray,
    contrasts: Sequence[Contrast],
    *,
    resamples: int = 9999,
    confidence: float = 0.95,
    seed: int = 13,
) -> Estimates:
    """Differences, intervals and p values of all contrasts.

    Args:
        numerator: Counts or sums, float64 [runs, documents].
        denominator: The same for all runs [documents], or [runs, documents].
        contrasts: What is compared with what.
        resamples: Bootstrap draws, and as many swaps.
        confidence: Of the intervals, two-sided.
        seed: Of both.
    """
    if not contrasts:
        empty = np.empty(0)
        return Estimates(empty, empty, empty, empty, empty, empty)
    scores = _ratio(numerator.sum(1), denominator.sum(-1))
    first, second = _means(contrasts, len(numerator))
    value, reference = first @ scores, second @ scores
    difference = value - reference
    influence = _influence(numerator, denominator)
    errors = [_seed_error(c, scores, influence) for c in contrasts]
    rng = np.random.default_rng(seed)
    noise = [rng.standard_t(freedom, resamples) * error if error else None for error, freedom in errors]
    low, high = _intervals(numerator, denominator, (first - second) @ influence, first - second, difference, noise, resamples, confidence, rng)
    p = _randomization(numerator, denominator, contrasts, difference, noise, resamples, rng)
    return Estimates(value, reference, difference, low, high, p)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values of one family."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    result = np.empty(len(p))
    result[order] = adjusted
    return result


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; 0 where the denominator is 0 (no prediction, or none that was drawn)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _means(contrasts: Sequence[Contrast], runs: int) -> tuple[np.ndarray, np.ndarray]:
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
    """Standard error of the difference of means that the runs add to the documents, and its degrees of freedom; 0 for single runs.

    Runs differ for two reasons: because of their seeds, and because each errs on other documents of the few that there are. The second is
    in the resampling of documents already, so most of its part (from the documents' influence) is taken off, after both sides are added: what
    is left below 0 is cut once. The degrees of freedom are Welch's, of the variances between runs before the cut.

    Args:
        contrast: The two sides.
        scores: [runs]
        influence: [runs, documents], jackknife influence of each document on each run's score.
    """
    sides = [(scores[list(side)], influence[list(side)]) for side in (contrast.runs, contrast.reference)]
    if contrast.paired and len(contrast.runs) >= PAIRED_FROM:
        sides = [(sides[0][0] - sides[1][0], sides[0][1] - sides[1][1])]
    between, added, weight = 0.0, 0.0, 0.0
    for values, of_documents in sides:
        runs = len(values)
        if runs > 1:
            own = float(((of_documents - of_documents.mean(0)) ** 2).sum()) / (runs - 1)
            variance = float(np.var(values, ddof=1))
            between += variance / runs
            added += (variance - KNOWN * own) / runs
            weight += (variance / runs) ** 2 / (runs - 1)
    if added <= 0:
        return 0.0, 1.0
    return float(np.sqrt(added)), between**2 / weight


def _draws(rng: np.random.Generator, documents: int, resamples: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of bootstrap weights, float64 [documents, block]: how often each document was drawn."""
    step = max(1, CHUNK // documents)
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        drawn = rng.integers(0, documents, (block, documents)) + documents * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * documents).reshape(block, documents)
        yield slice(start, start + block), counts.astype(np.float64).T


def _signs(rng: np.random.Generator, documents: int, swaps: int) -> np.ndarray:
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
    for block, drawn in _draws(rng, documents, resamples):
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
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Two-sided p value of each contrast, by swapping documents between its sides."""
    documents = numerator.shape[1]
    shared = denominator.ndim == 1
    first, second = _means(contrasts, len(numerator))
    gaps = (first - second) @ numerator  # [contrasts, documents]
    pairs = [_run_pairs(c) for c in contrasts]
    at_least = np.ones(len(contrasts))
    step = max(1, CHUNK // max(documents, len(contrasts)))
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        signs = _signs(rng, documents, block)
        if shared:
            swapped = _ratio(gaps @ signs, denominator.sum())
        else:
            swapped = np.stack([np.mean([_swapped(numerator[list(p)], denominator[list(p)], signs) for p in pairs_], axis=0) for pairs_ in pairs])
        for i, deviation in enumerate(noise):
            if deviation is not None:
                swapped[i] += deviation[start : start + block]
        at_least += (np.abs(swapped) >= np.abs(difference)[:, None] - TOLERANCE).sum(1)
    return at_least / (resamples + 1)


def _run_pairs(contrast: Contrast) -> list[tuple[int, int]]:
    """Pairs of runs whose mean difference is the contrast's: by seed, or every run with every other."""
    if contrast.paired:
        return list(zip(contrast.runs, contrast.reference, strict=True))
    return [(a, b) for a in contrast.runs for b in contrast.reference]


def _swapped(numerator: np.ndarray, denominator: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Differences of two runs' scores after swaps: [2, documents] twice and [documents, swaps] give [swaps]."""
    total, total_below = numerator.sum(), denominator.sum()
    moved, moved_below = (numerator[0] - numerator[1]) @ signs, (denominator[0] - denominator[1]) @ signs
    return _ratio(total + moved, total_below + moved_below) - _ratio(total - moved, total_below - moved_below)
