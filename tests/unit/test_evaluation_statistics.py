"""Intervals and p values: against scipy, against plain loops, and on simulated experiments whose effect is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mentionforge.evaluation.seeds import Seeds, mean_squares
from mentionforge.evaluation.statistics import Contrast, estimate
from simulated import SEEDS, Design, coverage, error


def experiment(rng, documents, simulations, effect, seeds=1, seed_spread=0.0, paired=False):
    """Right mentions per document of simulated pairs of systems: [runs, documents], mentions per document, and the contrasts.

    Documents differ in size and in difficulty, which both systems share; systems differ in what single documents do to
    them, and runs in a deviation of their own. The expected difference is `effect` whatever the document.
    """
    n = rng.integers(2, 12, documents)
    difficulty = rng.normal(0, 0.15, documents)
    rows, contrasts = [], []
    for _ in range(simulations):
        sides = []
        for gain in (effect, 0.0):
            own = rng.normal(0, 0.05, documents)
            for _ in range(seeds):
                share = np.clip(0.5 + gain + difficulty + own + rng.normal(0, seed_spread), 0, 1)
                sides.append(rng.binomial(n, share))
        start = len(rows)
        rows += sides
        contrasts.append(Contrast(tuple(range(start, start + seeds)), tuple(range(start + seeds, start + 2 * seeds)), paired))
    return np.array(rows, float), n.astype(float), contrasts


def simulate(rng, effect, worlds, documents=40, simulations=40, **more):
    """Estimates of many worlds of new documents, each with some pairs of systems."""
    found = []
    for i in range(worlds):
        numerator, denominator, contrasts = experiment(rng, documents, simulations, effect, **more)
        found.append(estimate(numerator, denominator, contrasts, resamples=999, seed=i))
    return {name: np.concatenate([getattr(e, name) for e in found]) for name in ("difference", "low", "high", "p")}


# -------------------------------------------------------------------------------------------------- against scipy and loops


@pytest.mark.parametrize("shared", [True, False])
def test_interval_agrees_with_scipy(shared):
    """BCa limits of a ratio of sums, paired by document, are scipy's up to the draw."""
    rng = np.random.default_rng(3)
    a, b = rng.poisson(3, 35).astype(float), rng.poisson(2, 35).astype(float)
    below = np.stack([a, b]) + (rng.poisson(2, 35) if shared else rng.poisson(2, (2, 35)))
    below = np.broadcast_to(below.max(0), (2, 35)) if shared else below
    below = np.maximum(below, 1.0)

    def difference(a, below_a, b, below_b, axis=-1):
        return a.sum(axis) / below_a.sum(axis) - b.sum(axis) / below_b.sum(axis)

    # Ours is expanded for few documents: scipy's is asked for the level that this means.
    level = 1 - 2 * stats.norm.cdf(np.sqrt(35 / 34) * stats.t.ppf(0.025, 34))
    theirs = stats.bootstrap(
        (a, below[0], b, below[1]), difference, paired=True, confidence_level=level, n_resamples=20000, method="BCa", vectorized=True, rng=5
    )
    ours = estimate(np.stack([a, b]), below[0] if shared else below, [Contrast((0,), (1,))], resamples=20000)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.difference[0] == pytest.approx(difference(a, below[0], b, below[1]))
    assert ours.low[0] == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high[0] == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


@pytest.mark.parametrize("shared", [True, False])
def test_p_value_agrees_with_all_swaps(shared):
    """With 10 documents all 1,024 swaps can be listed; scipy's permutation test gives the same for a shared denominator."""
    rng = np.random.default_rng(4)
    above = np.stack([rng.integers(2, 7, 10), rng.integers(1, 6, 10)]).astype(float)
    below = above + (rng.integers(1, 4, 10) if shared else rng.integers(1, 4, (2, 10)))
    below = np.broadcast_to(below.max(0), (2, 10)) if shared else below
    observed = above[0].sum() / below[0].sum() - above[1].sum() / below[1].sum()
    extreme = 0
    for swaps in itertools.product((0, 1), repeat=10):
        first, columns = np.array(swaps), np.arange(10)
        value = above[first, columns].sum() / below[first, columns].sum() - above[1 - first, columns].sum() / below[1 - first, columns].sum()
        extreme += abs(value) >= abs(observed) - 1e-12
    ours = estimate(above, below[0] if shared else below, [Contrast((0,), (1,))], resamples=40000)
    assert ours.p[0] == pytest.approx(extreme / 1024, abs=0.008)
    if shared:
        theirs = stats.permutation_test(
            (above[0], above[1]), lambda x, y, axis=-1: np.mean(x, axis) - np.mean(y, axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
        )
        assert ours.p[0] == pytest.approx(theirs.pvalue, abs=0.008)


def test_runs_are_a_second_level():
    """One document repeated exactly leaves only the runs to vary: the interval is Student's t over the paired differences."""
    rng = np.random.default_rng(6)
    share = rng.uniform(0.3, 0.7, 10)
    numerator, denominator = np.repeat(share[:, None], 1000, 1), np.ones(1000)
    ours = estimate(numerator, denominator, [Contrast((0, 1, 2, 3, 4), (5, 6, 7, 8, 9), paired=True)], resamples=40000)
    theirs = stats.ttest_rel(share[:5], share[5:])
    interval = theirs.confidence_interval(0.95)
    width = interval.high - interval.low
    assert ours.low[0] == pytest.approx(interval.low, abs=0.03 * width) and ours.high[0] == pytest.approx(interval.high, abs=0.03 * width)
    # Not paired: Welch. (Swapping identical documents adds to the p value, so only the interval is t's alone.)
    ours = estimate(numerator, denominator, [Contrast((0, 1, 2, 3, 4), (5, 6, 7))], resamples=40000)
    interval = stats.ttest_ind(share[:5], share[5:8], equal_var=False).confidence_interval(0.95)
    width = interval.high - interval.low
    assert ours.low[0] == pytest.approx(interval.low, abs=0.03 * width) and ours.high[0] == pytest.approx(interval.high, abs=0.03 * width)


# -------------------------------------------------------------------------------------------------------------- crossed seeds


def crossed(generators, trainings):
    """Seeds of a full grid."""
    return tuple(Seeds(str(g), str(t)) for g, t in itertools.product(range(generators), range(trainings)))


def variance_of_mean(seeds, values):
    """The variance of the mean over runs, from differences of pairs of runs that share a generator seed, a training seed, or neither."""
    pairs = list(itertools.combinations(range(len(seeds)), 2))
    half = {}
    for kind in ((True, False), (False, True), (False, False)):
        own = [(values[i] - values[j]) ** 2 / 2 for i, j in pairs if (seeds[i].generator == seeds[j].generator, seeds[i].training == seeds[j].training) == kind]
        half[kind] = np.mean(own)
    of_generator = half[False, False] - half[True, False]
    of_training = half[False, False] - half[False, True]
    of_both = half[True, False] + half[False, True] - half[False, False]
    generators, trainings = len({s.generator for s in seeds}), len({s.training for s in seeds})
    return of_generator / generators + of_training / trainings + of_both / len(seeds)


@pytest.mark.parametrize("design", [(2, 2), (3, 3), (2, 5), (5, 4)])
def test_variance_of_a_crossed_design_equals_pairs_of_runs(design):
    rng = np.random.default_rng(12)
    seeds = crossed(*design)
    values = rng.normal(0, 1, (len(seeds), 2))
    parts = mean_squares(seeds, values)
    assert sum(p.share * p.value for p in parts) == pytest.approx([variance_of_mean(seeds, v) for v in values.T])
    shuffled = rng.permutation(len(seeds))
    again = mean_squares([seeds[i] for i in shuffled], values[shuffled])
    assert sum(p.share * p.value for p in again) == pytest.approx(sum(p.share * p.value for p in parts))


def test_seeds_of_one_kind_are_independent_runs_and_holes_are_on_the_safe_side():
    values = np.array([[1.0], [2.0], [4.0], [3.0]])
    for seeds in (crossed(4, 1), crossed(1, 4), [Seeds(str(i), str(i)) for i in range(4)]):
        (part,) = mean_squares(seeds, values)
        assert part.share * part.value[0] == pytest.approx(np.var(values, ddof=1) / 4) and part.freedom == 3
    assert mean_squares(crossed(1, 1), values[:1]) == []
    # Three of the four runs of a grid: both factors' own estimates are added.
    parts = mean_squares(crossed(2, 2)[:3], values[:3])
    assert sum(p.share * p.value[0] for p in parts) == pytest.approx(5 / 9 * (np.var([1.5, 4], ddof=1) + np.var([2.5, 2], ddof=1)))


@pytest.mark.parametrize(
    "grid",
    ["11 12 13 14 15 21", "11 12 21", "11 12 21 23 31", "11 21 31 41 51 12", "11 12 23 24 35", "11 12 13 14 15 16 17 21 22 31"],
    ids=lambda g: g.replace(" ", "-"),
)
def test_grids_with_holes_never_promise_too_little_variance(grid):
    """Expected value of the estimate, and the variance of the mean, for each random effect by itself: the effects of its levels, one at a time."""
    seeds = [Seeds(*run) for run in grid.split()]
    for level in (lambda s: s.generator, lambda s: s.training, lambda s: s):
        marks = np.array([[float(level(s) == one) for one in sorted({level(s) for s in seeds})] for s in seeds])
        expected = sum(p.share * p.value.sum() for p in mean_squares(seeds, marks))
        assert expected >= np.square(marks.mean(0)).sum() - 1e-12


def test_crossed_runs_are_not_independent_ones():
    """One document repeated exactly leaves only the seeds: the interval is t with Satterthwaite's degrees of freedom, not that of nine runs."""
    rng = np.random.default_rng(13)
    seeds = crossed(3, 3)
    share = 0.5 + np.repeat(rng.normal(0, 0.05, 3), 3) + np.tile(rng.normal(0, 0.05, 3), 3) + rng.normal(0, 0.01, 9)
    numerator, denominator = np.repeat(np.append(share, 0.4)[:, None], 1000, 1), np.ones(1000)
    ours = estimate(numerator, denominator, [Contrast(tuple(range(9)), (9,), False, seeds, (Seeds(),))], resamples=40_000)
    grid = share.reshape(3, 3)
    of_g, of_t = 3 * np.var(grid.mean(1), ddof=1), 3 * np.var(grid.mean(0), ddof=1)
    rest = ((grid - grid.mean(1, keepdims=True) - grid.mean(0, keepdims=True) + grid.mean()) ** 2).sum() / 4
    variance = (of_g + of_t - rest) / 9
    freedom = (of_g + of_t - rest) ** 2 / (of_g**2 / 2 + of_t**2 / 2 + rest**2 / 4)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert (ours.high[0] - ours.low[0]) / 2 == pytest.approx(half, rel=0.05)
    assert half > 1.5 * stats.t.ppf(0.975, 8) * np.std(share, ddof=1) / 3


# Figures of many more worlds: docs/statistics.md.
@pytest.mark.slow
@pytest.mark.parametrize("design", [Design(3, 1), Design(1, 3), Design(3, 3), Design(5, 5), Design(5, 5, True)], ids=str)
@pytest.mark.parametrize("spread", ["none", "both"])
def test_crossed_seeds_cover_and_err_as_they_say(design, spread):
    """A small part of `make simulate`, with room for chance: 480 simulated pairs of systems have a standard error of 0.01."""
    covered, _ = coverage(design, SEEDS[spread], worlds=12)
    assert 0.92 <= covered <= 0.985
    assert error(design, SEEDS[spread], "here", worlds=12) <= 0.075


def test_one_seed_says_nothing_of_others():
    """Intervals of single runs hold their own truth, and too seldom that over all seeds."""
    here, over_all = coverage(Design(1, 1), SEEDS["both"], worlds=12)
    assert here >= 0.92 and over_all < 0.85


# ------------------------------------------------------------------------------------------------------ known truth, edges


def test_coverage_is_what_it_says():
    rng = np.random.default_rng(21)
    found = simulate(rng, 0.08, worlds=60)
    assert np.mean(found["difference"]) == pytest.approx(0.08, abs=0.01)
    assert 0.93 <= np.mean((found["low"] <= 0.08) & (found["high"] >= 0.08)) <= 0.97


def test_type_one_error_is_bounded():
    found = simulate(np.random.default_rng(22), 0.0, worlds=60)
    assert 0.03 <= np.mean(found["p"] <= 0.05) <= 0.06


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.0), (2, 0.1), (3, 0.0), (3, 0.03), (5, 0.0), (5, 0.05)])
def test_coverage_and_error_with_several_seeds(seeds, spread):
    """Runs that deviate by nothing, by less than the documents do, and by more; the same seeds on both sides, as recognition has them."""
    found = simulate(np.random.default_rng(23), 0.05, worlds=50, seeds=seeds, seed_spread=spread, paired=True)
    assert 0.93 <= np.mean((found["low"] <= 0.05) & (found["high"] >= 0.05)) <= 0.97
    null = simulate(np.random.default_rng(24), 0.0, worlds=50, seeds=seeds, seed_spread=spread, paired=True)
    assert np.mean(null["p"] <= 0.05) <= 0.06


def test_power_grows_with_the_effect():
    rng = np.random.default_rng(25)
    power = [np.mean(simulate(rng, effect, worlds=10)["p"] <= 0.05) for effect in (0.0, 0.06, 0.18)]
    assert power[0] < 0.1 < power[1] < power[2] and power[2] > 0.9


def test_equal_outcomes_and_single_documents():
    numerator, denominator = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]]), np.array([2.0, 2.0, 1.0])
    same = estimate(numerator, denominator, [Contrast((0,), (1,))], resamples=99)
    assert (same.difference[0], same.low[0], same.high[0], same.p[0]) == (0, 0, 0, 1)
    single = estimate(numerator[:, :1] * [[1], [2]], denominator[:1], [Contrast((0,), (1,))], resamples=99)
    assert np.isnan(single.low[0]) and single.p[0] == 1
    assert len(estimate(numerator, denominator, [], resamples=99).p) == 0
    nothing_predicted = estimate(np.zeros((2, 3)), np.zeros((2, 3)), [Contrast((0,), (1,))], resamples=99)
    assert nothing_predicted.p[0] == 1 and nothing_predicted.low[0] == 0


def test_result_depends_on_the_seed_only():
    numerator, denominator, contrasts = experiment(np.random.default_rng(8), 30, 5, 0.1)
    one, two = (estimate(numerator, denominator, contrasts, resamples=499) for _ in range(2))
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("low", "high", "p"))
    assert not np.array_equal(one.low, estimate(numerator, denominator, contrasts, resamples=499, seed=14).low)
