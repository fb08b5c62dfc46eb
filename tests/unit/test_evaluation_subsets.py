"""Subsets that others score, against a few lines of pandas and counts made of the published files alone."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mentionforge import tables
from mentionforge.evaluation.normalization import gold_mentions, scored_mentions, subset_metrics
from mentionforge.evaluation.subsets import subset_recalls, subset_weights, train_and_dev, weighted_mean
from mentionforge.report.comparable import subset_table
from mentionforge.tables import SUBSETS

NAMES = ("cancer", "Cancer!", "breast cancer", "gout", "asthma", "ALD", "acute gout", "iron  overload", "iron overload")


def drawn(rng: np.random.Generator, mentions: int = 300) -> list[dict]:
    """Random mentions of three splits with few surfaces and concepts, so that all kinds of overlap occur."""
    rows = []
    for i in range(mentions):
        cuis = sorted({f"C{c}" for c in rng.integers(0, 150, rng.integers(0, 3))})
        split = ("train", "dev", "test", "test")[int(rng.integers(4))]
        name = f"{NAMES[int(rng.integers(len(NAMES)))]} {rng.integers(12)}"
        rows.append({"mention_id": f"m{i:03d}", "split": split, "surface": name, "cuis": cuis, "composite": len(cuis) > 1})
    return rows


def by_pandas(rows: list[dict]) -> dict[str, pd.Series]:
    """Weights of the test mentions by subset; a surface is its words in lower case."""
    frame = pd.DataFrame(rows).assign(surface=lambda f: f["surface"].str.lower().str.findall(r"\w+").str.join(" "))
    known, asked = frame[frame["split"] != "test"], frame[frame["split"] == "test"].set_index("mention_id")
    long = known.explode("cuis").dropna(subset="cuis")
    met = asked.reset_index().explode("cuis").merge(long[["surface", "cuis"]].drop_duplicates(), on=["surface", "cuis"])["mention_id"]
    cui_met = asked.reset_index().explode("cuis").merge(long[["cuis"]].drop_duplicates(), on="cuis")["mention_id"]
    mapped = asked["cuis"].str.len() > 0
    new = ~asked["surface"].isin(known["surface"])
    times = asked.assign(key=asked["cuis"].str.join("|")).groupby(["surface", "key"])["split"].transform("size")
    return {
        "new_pair": mapped & ~asked.index.isin(met),
        "new_surface": new,
        "new_surface_concept": mapped & new & ~asked.index.isin(cui_met),
        "one_concept": ~asked["composite"],
        "distinct": 1 / times,
        "distinct_new_surface": new / times,
    }


@pytest.mark.parametrize("seed", range(5))
def test_subsets_equal_pandas(seed: int) -> None:
    rows = drawn(np.random.default_rng(seed))
    asked = [r for r in rows if r["split"] == "test"]
    found, expected = subset_weights(asked, train_and_dev(rows)), by_pandas(rows)
    assert list(found) == list(SUBSETS)
    for name in SUBSETS:
        np.testing.assert_allclose(found[name], expected[name].reindex([r["mention_id"] for r in asked]).astype(float), err_msg=name)
        assert 0 < found[name].sum() < len(asked), name
    pairs = {(" ".join(re.findall(r"\w+", r["surface"].lower())), *r["cuis"]) for r in asked}
    assert weighted_mean(found["distinct"], found["distinct"])[1] == len(pairs), "n counts each pair once"


def test_scores_by_subset() -> None:
    """Means over the mentions of a subset; where two mentions are one, half of their sum."""
    rng = np.random.default_rng(3)
    rows = drawn(rng)
    asked = scored_mentions(rows)
    ranks = rng.choice([1.0, 2.0, 7.0, np.inf], len(asked))
    score = {(b, m): (v, n) for b, m, v, n in subset_metrics(ranks, subset_weights(asked, train_and_dev(rows)))}
    weights = by_pandas(asked + train_and_dev(rows))
    frame = pd.DataFrame({"rank": ranks}, index=[r["mention_id"] for r in asked])
    for name, weight in weights.items():
        w = weight.astype(float)
        for metric, value in (("acc@1", frame["rank"] <= 1), ("acc@5", frame["rank"] <= 5), ("mrr", 1 / frame["rank"])):
            assert score[name, metric] == (pytest.approx((value * w).sum() / w.sum()), round(w.sum())), (name, metric)
    shuffled = rng.permutation(len(asked))
    again = subset_metrics(ranks[shuffled], subset_weights([asked[i] for i in shuffled], train_and_dev(rows)))
    assert {(b, m): pytest.approx(v) for b, m, v, _ in again} == {k: v for k, (v, _) in score.items()}, "the order of mentions is nothing"


def test_empty_subsets_are_null() -> None:
    assert {(v, n) for _, _, v, n in subset_metrics(np.empty(0), subset_weights([], []))} == {(None, 0)}
    seen = [{"mention_id": "a", "surface": "Gout", "cuis": ["C1"], "composite": True}]
    scores = {b: (v, n) for b, m, v, n in subset_metrics(np.ones(1), subset_weights(seen, [seen[0] | {"split": "dev"}])) if m == "acc@1"}
    assert scores == {b: (1.0, 1) if b == "distinct" else (None, 0) for b in SUBSETS}, "dev counts as known"


def test_recall_by_subset_counts_mentions_without_a_concept() -> None:
    asked = [{"mention_id": m, "surface": s, "cuis": c, "composite": False} for m, s, c in (("a", "gout", ["C1"]), ("b", "gouty", []), ("c", "x", ["C2"]))]
    known = [{"surface": "x", "cuis": ["C2"], "split": "train"}]
    rows = {r["bucket"]: (r["value"], r["n"]) for r in subset_recalls({"b"}, asked, subset_weights(asked, known))}
    assert rows == {"new_surface": (0.5, 2), "new_surface_concept": (0.0, 1), "one_concept": (pytest.approx(1 / 3), 3)}


def test_tables_show_each_subset_with_its_n() -> None:
    cell = {"task": "normalization", "corpus": "c", "generator": "none", "strategy": "none", "system": "m", "variant": "kb", "seed": 0, "split": "test"}
    rows = [cell | {"bucket": b, "metric": "acc@1", "value": v, "n": n} for b, v, n in (("all", 0.5, 100), ("new_pair", 0.25, 40), ("distinct", None, 0))]
    rows += [row | {"strategy": s, "generator": "g"} for row in rows[:1] for s in ("naive", "supplemental")]
    shown = subset_table(pd.DataFrame(rows), "normalization").fillna("")
    assert shown["strategy"].tolist() == ["none", "supplemental"]
    assert shown.iloc[0][["subset, all", "subset, new pair", "subset, distinct"]].tolist() == ["50.0 n=100", "25.0 n=40", "– n=0†"]


def published(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Surface and ids of each mention of NCBI Disease, by split, read without the package."""
    found = {}
    for split, name in (("train", "train"), ("dev", "develop"), ("test", "test")):
        lines = (folder / "ncbi_disease" / f"NCBI{name}set_corpus.txt").read_text(encoding="utf-8").splitlines()
        cells = [line.split("\t") for line in lines]
        found[split] = [(" ".join(re.findall(r"\w+", c[3].lower())), c[5]) for c in cells if len(c) == 6]
    return found


def test_real_corpus(shared_data: Path, tmp_path: Path) -> None:
    """NCBI Disease: numbers of surfaces as counted in the file; recognition looks at them alone."""
    gold = published(shared_data)
    known = {surface for split in ("train", "dev") for surface, _ in gold[split]}
    rows = [
        {"mention_id": f"{split}{i}", "split": split, "surface": surface, "cuis": sorted(set(re.split(r"[|+]", ids))), "composite": "|" in ids or "+" in ids}
        for split, mentions in gold.items()
        for i, (surface, ids) in enumerate(mentions)
    ]
    asked = [r for r in rows if r["split"] == "test"]
    weights = subset_weights(asked, train_and_dev(rows))
    assert weights["new_surface"].sum() == sum(s not in known for s, _ in gold["test"]) == 334
    assert round(weights["distinct"].sum()) == len(set(gold["test"])) == 403
    assert round(weights["distinct_new_surface"].sum()) == len({g for g in gold["test"] if g[0] not in known}) == 218
    against_train = subset_weights(asked, [r for r in rows if r["split"] == "train"])
    assert against_train["new_surface_concept"].sum() == 165, "as Kim and Kang count them, in ids against train alone"
    assert gold_mentions([r | {"concept_cuis": [], "ood_bucket": "seen_mention"} for r in rows], "any").mention_ids.to_pylist() == [
        r["mention_id"] for r in asked
    ]
    assert tables.SLICES[2] == "subset"
