"""Families of comparisons: corrections against their definitions and scipy, randomizations that go on, and families in which nothing can be significant."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mentionforge.evaluation.families import Family, benjamini_hochberg, corrected_rows, family_of, holm, most_resamples
from mentionforge.evaluation.settings import Statistics
from mentionforge.evaluation.statistics import Contrast, estimate

DECLARED = Family("confirmatory", "baseline: mention, train")


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


def test_benjamini_hochberg_equals_scipy():
    rng = np.random.default_rng(8)
    for size in (1, 2, 30):
        p = np.concatenate([rng.uniform(0, 1, size) ** 2, [0.02] * (size // 3)])
        assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p, method="bh"))


def family(**changed: str) -> Family:
    row = {"against": "baseline", "reference": "none", "system": "mention", "variant": "train", "strategy": "naive", "slice_": "all", "group": "all"}
    return family_of(**(row | {"metric": "acc@1"} | changed), settings=Statistics())


def test_what_is_confirmed_and_what_is_explored():
    assert family() == DECLARED and family(slice_="bucket", group="unseen_concept") == DECLARED and family(strategy="ideal") == DECLARED
    assert family(against="control", reference="names") == Family("confirmatory", "control names: mention, train")
    assert family(variant="kb") != DECLARED and family(system="tfidf") != DECLARED
    assert family(metric="strict_f1").role == "confirmatory" and family(slice_="bucket", group="unseen_concept", metric="strict_recall").role == "confirmatory"
    explored = [family(slice_=s, group=g) for s, g in (("notes", "1"), ("names", "2-5"), ("train_mentions", "0"), ("semantic_type", "T047"))]
    explored += [family(slice_="bucket", group="seen_mention"), family(against="kb"), family(metric="mrr"), family(metric="strict_recall")]
    assert {f.role for f in explored} == {"exploratory"} and {f.adjustment for f in explored} == {"bh"}
    assert family(slice_="notes", group="1") == family(slice_="notes", group="6-20", system="tfidf")
    # A group that is called as a bucket is none, and the config declares.
    assert family(slice_="semantic_type", group="unseen_concept").role == "exploratory"
    narrow = Statistics.model_validate({"confirmatory": {"strategies": ["ideal"], "groups": ["all"]}})
    names = ("baseline", "none", "mention", "train")
    roles = [family_of(*names, s, "all", "all", "acc@1", narrow).role for s in ("naive", "ideal", "ideal~notes_per_concept=2")]
    assert roles == ["exploratory", "confirmatory", "confirmatory"]


@pytest.mark.parametrize("size", [1, 10, 136, 680, 4000])
def test_a_family_has_as_many_randomizations_as_it_needs(size):
    """With B randomizations the smallest p is 1/(B + 1), which Holm multiplies by the size."""
    settings = Statistics(most_resamples=10**7)
    most = most_resamples(DECLARED, size, settings)
    assert most >= settings.resamples and most + 1 >= 20 * size
    rows = [{"family": DECLARED, "p": 1 / (most + 1), "floor": 1 / (most + 1)} for _ in range(size)]
    assert {(r["reachable"], r["p_adjusted"] <= 0.05, r["family_size"]) for r in corrected_rows(rows, 0.05)} == {(True, True, size)}
    assert most_resamples(Family("exploratory", "x"), size, settings) == settings.resamples


def test_too_many_comparisons_for_the_randomizations_are_said():
    """More than 500 comparisons of 9,999 randomizations: no adjusted p value can be 0.05."""
    settings = Statistics(most_resamples=9999)
    for size, holds in ((500, True), (501, False)):
        floor = 1 / (most_resamples(DECLARED, size, settings) + 1)
        rows = corrected_rows([{"family": DECLARED, "p": floor, "floor": floor} for _ in range(size)], 0.05)
        assert {(r["reachable"], r["p_adjusted"] <= 0.05) for r in rows} == {(holds, holds)}
    # Benjamini and Hochberg's correction has no such limit where many are small.
    rows = corrected_rows([{"family": Family("exploratory", "x"), "p": 1e-4, "floor": 1e-4} for _ in range(680)], 0.05)
    assert all(r["reachable"] and r["p_adjusted"] <= 0.05 and r["role"] == "exploratory" for r in rows)


@pytest.mark.parametrize("documents", range(1, 9))
def test_floor_is_that_of_all_swaps(documents):
    """The clearest difference that so many documents can show, with every swap listed."""
    outcomes = np.array([np.ones(documents), np.zeros(documents)])
    gaps = [abs(sum(s)) for s in itertools.product((-1, 1), repeat=documents)]
    exact = np.mean([g == documents for g in gaps])
    found = estimate(outcomes, np.ones(documents), [Contrast((0,), (1,))], resamples=9999)
    assert found.floor[0] == pytest.approx(max(exact, 1e-4)) and found.p[0] == pytest.approx(exact, abs=0.02)
    rows = corrected_rows([{"family": DECLARED, "p": found.p[0], "floor": found.floor[0]}], 0.05)
    assert rows[0]["reachable"] == (exact <= 0.05) == (documents >= 6)


def test_randomizations_go_on_where_the_first_leave_it_open():
    """A clear difference, a possible one and none: the last is settled by the first swaps, and p values are those of many swaps."""
    rng = np.random.default_rng(9)
    outcomes = np.stack([rng.binomial(5, share, 60) for share in (0.5, 0.5, 0.6, 0.8)]).astype(float)
    contrasts = [Contrast((i,), (0,), most=40_000) for i in (1, 2, 3)]
    found = estimate(outcomes, np.full(60, 5.0), contrasts, resamples=199, settled=20)
    assert found.swaps[0] == 199 and found.swaps[2] == 40_000 and found.p[2] < 1e-3
    exact = estimate(outcomes, np.full(60, 5.0), [Contrast(c.runs, c.reference) for c in contrasts], resamples=200_000)
    assert found.p == pytest.approx(exact.p, rel=0.3, abs=0.05)
    assert np.array_equal(exact.difference, found.difference) and set(exact.swaps) == {200_000}


def test_looks_do_not_depend_on_what_other_comparisons_find():
    """A comparison beside one that goes on, and beside one that is settled at once: the same swaps, the same p value."""
    rng = np.random.default_rng(17)
    possible, beside = rng.binomial(5, 0.44, 60), rng.binomial(5, 0.5, 60)
    found = []
    for other in (rng.binomial(5, 0.9, 60), beside):  # clear; no difference at all
        outcomes = np.stack([possible, beside, other]).astype(float)
        contrasts = [Contrast((0,), (1,), most=5_000), Contrast((2,), (1,), most=300)]
        estimates = estimate(outcomes, np.full(60, 5.0), contrasts, resamples=199, settled=20)
        found.append((estimates.p[0], estimates.swaps[0]))
    assert estimates.swaps[1] == 199 and found[0] == found[1]


def test_p_values_that_stop_early_are_valid():
    """Where there is no difference, p is at most u with a chance of at most u, for every u: looks at 19, 79 and 319 swaps, settled by 3."""
    rng = np.random.default_rng(10)
    p = []
    for i in range(150):
        outcomes = rng.normal(0, 1, (60, 40))
        p.append(estimate(outcomes, np.ones(40), [Contrast((a,), (a + 30,), most=319) for a in range(30)], resamples=19, settled=3, seed=i).p)
    p = np.concatenate(p)
    for level in (1 / 320, 2 / 320, 1 / 80, 3 / 80, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 0.9):
        assert np.mean(p <= level + 1e-9) <= level + 3 * np.sqrt(level * (1 - level) / len(p))
    assert np.mean(p <= 0.05) > 0.035


@pytest.mark.parametrize("runs", [1, 3])
def test_scores_with_a_denominator_of_their_own_are_swapped_run_by_run(runs):
    """F1 of several runs: all swaps of 7 documents, with the mean over all pairs of runs, in plain loops."""
    rng = np.random.default_rng(11)
    above = rng.integers(1, 6, (2 * runs, 7)).astype(float)
    below = above + rng.integers(1, 5, (2 * runs, 7))

    def score(run, other, swap):
        a = [above[other if s else run][d] for d, s in enumerate(swap)]
        b = [below[other if s else run][d] for d, s in enumerate(swap)]
        return sum(a) / sum(b)

    pairs = list(itertools.product(range(runs), range(runs, 2 * runs)))
    values = [np.mean([score(i, j, swap) - score(j, i, swap) for i, j in pairs]) for swap in itertools.product((0, 1), repeat=7)]
    exact = np.mean(np.abs(values) >= abs(values[0]) - 1e-12)
    # Seeds that differ by nothing beyond the documents add no deviation, which is what the loops leave out.
    found = estimate(above, below, [Contrast(tuple(range(runs)), tuple(range(runs, 2 * runs)))], resamples=20_000)
    assert found.difference[0] == pytest.approx(values[0])
    assert found.p[0] == pytest.approx(exact, abs=0.012)
