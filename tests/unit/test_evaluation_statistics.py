"""Intervals and p values: against scipy, against plain loops, and on simulated experiments whose effect is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mentionforge.evaluation.statistics import Contrast, estimate, holm


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


def test_holm_equals_the_definition():
    rng = np.random.default_rng(7)
    p = np.concatenate([rng.uniform(0, 1, 20) ** 3, [0.01, 0.01, 1.0]])
    adjusted = holm(p)
    for level in np.linspace(0.001, 0.999, 300):
        rejected = set()
        for rank, i in enumerate(np.argsort(p, kind="stable")):  # step down: stop at the first that is not small enough
            if p[i] > level / (len(p) - rank):
                break
            rejected.add(int(i))
        assert rejected == set(np.flatnonzero(adjusted <= level).tolist())
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


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
