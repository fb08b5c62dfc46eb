"""Normalization metrics, against rank-by-rank loops over plain Python rows."""

import json

import numpy as np
import pytest

from mentionforge import tables
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.evaluation.normalization import evaluate, gold_mentions, gold_ranks, relaxed_gold_ranks
from mentionforge.tables import SUBSETS

RNG = np.random.default_rng(11)


def mention(i, cuis, split="test", sets=None, bucket="seen_mention"):
    """A mention of one concept per CUI, or of concepts with the given sets of CUIs."""
    sets = [[c] for c in cuis] if sets is None else sets
    ids = [f"MSH:{k}" for k in range(len(sets))]
    return {
        "doc_id": "d",
        "mention_id": f"m{i:03d}",
        "split": split,
        "spans": [{"start": 0, "end": 1}],
        "surface": "x",
        "expanded": None,
        "entity_type": "Disease",
        "concept_ids": ids,
        "cuis": sorted(cuis),
        "concept_cuis": sets,
        "composite": len(ids) > 1,
        "ood_bucket": bucket if cuis else "unmapped",
    }


def linked(found, entries=None):
    return tables.build(
        tables.LINKED,
        [
            {"mention_id": m, "rank": r + 1, "cui": c, "score": 1.0 - r / 1000, "entry": (entries or {}).get(c, c)}
            for m, cuis in found.items()
            for r, c in enumerate(cuis)
        ],
    )


def write_cell(base, found, *levels):
    path = base.joinpath("c", *levels, "predictions.parquet")
    tables.write(tables.LINKED, path, linked(found))
    return path


@pytest.fixture
def corpus(tmp_path):
    """120 test mentions (12 unmapped), predictions for all but some of them, and the files of a run."""
    buckets = ("seen_mention", "seen_concept", "unseen_concept")
    rows = [mention(i, [] if i % 10 == 9 else [f"C{c}" for c in set(RNG.integers(0, 40, RNG.integers(1, 4)))], bucket=buckets[i % 3]) for i in range(120)]
    rows += [mention(200 + i, ["C1"], split="train") for i in range(5)]
    tables.write(tables.MENTIONS, tmp_path / "corpora" / "c" / "mentions.parquet", rows)
    for policy in ("any", "all", "split"):
        settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}, composite=policy).model_dump(mode="json")
        (tmp_path / f"{policy}.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
    found = {m["mention_id"]: [f"C{c}" for c in RNG.permutation(120)[:100]] for m in rows if m["split"] == "test" and m["cuis"] and m["mention_id"] != "m003"}
    return tmp_path, rows, found


def run(folder, policy, *paths):
    evaluate(folder / "corpora" / "c", folder / f"{policy}.json", folder / "normalization", list(paths), folder / "out.parquet")
    return tables.read(tables.METRICS, folder / "out.parquet").to_pylist()


def by_hand(rows, found, bucket):
    """acc@k and MRR of the policy `any`, mention by mention; a mention without predictions is wrong."""
    asked = [m for m in rows if m["split"] == "test" and m["cuis"] and bucket in ("all", m["ood_bucket"])]
    hits, reciprocal = dict.fromkeys((1, 5, 10, 50, 100), 0), 0.0
    for m in asked:
        for rank, cui in enumerate(found.get(m["mention_id"], []), 1):
            if cui in m["cuis"]:
                reciprocal += 1 / rank
                for k in hits:
                    hits[k] += rank <= k
                break
    return {f"acc@{k}": h / len(asked) for k, h in hits.items()} | {"mrr": reciprocal / len(asked)}, len(asked)


@pytest.mark.parametrize("policy", ["any", "split"])
def test_equals_a_loop_by_hand(corpus, policy, capsys):
    folder, rows, found = corpus
    rows = run(folder, policy, write_cell(folder / "normalization", found, "g", "naive", "l", "train+kb")) and rows
    metrics = tables.read(tables.METRICS, folder / "out.parquet").to_pylist()
    assert {m["bucket"] for m in metrics} == {"all", "seen_mention", "seen_concept", "unseen_concept", *SUBSETS}
    for bucket in ("all", "seen_mention", "seen_concept", "unseen_concept"):
        expected, n = by_hand(rows, found, bucket)
        mine = {m["metric"]: m["value"] for m in metrics if m["bucket"] == bucket and not m["metric"].endswith("_relaxed")}
        relaxed = {m["metric"].removesuffix("_relaxed"): m["value"] for m in metrics if m["bucket"] == bucket and m["metric"].endswith("_relaxed")}
        assert relaxed == {k: v for k, v in mine.items() if k != "mrr"}  # every entry stands for one concept here
        assert mine == pytest.approx(expected, abs=1e-12)
        assert {m["n"] for m in metrics if m["bucket"] == bucket} == {n}
    first = metrics[0]
    assert [first[k] for k in ("task", "corpus", "generator", "strategy", "system", "variant", "seed", "split")] == [
        "normalization",
        "c",
        "g",
        "naive",
        "l",
        "train+kb",
        0,
        "test",
    ]
    assert "108 of 120 test mentions map to a concept" in capsys.readouterr().err


def test_every_cell_has_the_same_population(corpus):
    """Missing predictions are wrong, not dropped: n never changes, the accuracy does."""
    folder, _, found = corpus
    base = folder / "normalization"
    full = {m: ["C0", "C1", "C2", "C3"] for m in found}
    cells = [write_cell(base, f, "g", s, "l", "kb") for s, f in (("full", full), ("half", dict(list(full.items())[::2])), ("none", {}))]
    metrics = run(folder, "any", *cells)
    overall = {m["strategy"]: m for m in metrics if m["bucket"] == "all" and m["metric"] == "acc@5"}
    assert {m["n"] for m in overall.values()} == {108}
    assert overall["full"]["value"] > overall["half"]["value"] > overall["none"]["value"] == 0


def test_predictions_of_unmapped_or_unknown_mentions_are_an_error(corpus):
    folder, _, found = corpus
    for odd in ("m009", "m200", "elsewhere"):
        path = write_cell(folder / "normalization", {**found, odd: ["C1"]}, "g", odd, "l", "kb")
        with pytest.raises(UserError, match=f"unknown mention.*{odd}"):
            run(folder, "any", path)


def test_paths_that_name_no_cell(corpus):
    folder, _, found = corpus
    for path in (write_cell(folder / "normalization", found, "g", "naive", "l"), write_cell(folder / "elsewhere", found, "g", "naive", "l", "kb")):
        with pytest.raises(UserError, match="names no cell"):
            run(folder, "any", path)


def test_relaxed_asks_for_entries():
    """By hand: entries are met in the order of their first concepts, each once, and any concept of an entry answers."""
    rows = [mention(0, ["C2"]), mention(1, ["C5"]), mention(2, ["C3"]), mention(3, ["C8"])]
    found = {f"m{i:03d}": ["C1", "C2", "C3", "C4", "C5"] for i in range(4)}
    entries = {"C1": "C1|C2", "C2": "C1|C2", "C3": "C3", "C4": "C4|C8", "C5": "C5"}
    gold = gold_mentions(rows, "any")
    assert relaxed_gold_ranks(gold, linked(found, entries)).tolist() == [1, 4, 2, 3]
    assert gold_ranks(gold, linked(found, entries), "x").tolist() == [2, 5, 3, np.inf]
    assert relaxed_gold_ranks(gold, linked({})).tolist() == [np.inf] * 4


def answer(rows, policy, cuis):
    return gold_ranks(gold_mentions(rows, policy), linked({"m000": cuis}), "x")[0]


def test_composite_policies():
    """Two concepts of one CUI each: `any` takes the first, `all` wants both within the first k + 1 ranks."""
    rows = [mention(0, ["C1", "C2"])]
    assert answer(rows, "any", ["C9", "C2", "C1"]) == 2
    assert answer(rows, "all", ["C2", "C1", "C9"]) == answer(rows, "all", ["C1", "C2"]) == 1
    assert answer(rows, "all", ["C2", "C9", "C1"]) == answer(rows, "all", ["C9", "C2", "C1"]) == 2
    assert answer(rows, "all", ["C2", "C9"]) == np.inf
    one = [mention(0, ["C1", "C2"], sets=[["C1", "C2"]])]
    assert answer(one, "all", ["C9", "C2", "C1"]) == 2, "one concept with two CUIs is no composite"


def test_all_with_concepts_of_several_cuis():
    """The first concept maps to C1 and C2, the second to C3. Right concepts never count as wrong ones."""
    rows = [mention(0, ["C1", "C2", "C3"], sets=[["C1", "C2"], ["C3"]])]
    assert answer(rows, "all", ["C2", "C3"]) == answer(rows, "all", ["C1", "C2", "C3"]) == 1
    assert answer(rows, "all", ["C1", "C2", "C9", "C3"]) == 2
    assert answer(rows, "all", ["C1", "C2", "C9"]) == np.inf
    shared = [mention(0, ["C1", "C2", "C3"], sets=[["C1", "C2"], ["C2", "C3"]])]
    assert answer(shared, "all", ["C2", "C9"]) == np.inf, "one CUI does not answer two concepts"
    assert answer(shared, "all", ["C2", "C1"]) == 1
    part = [mention(0, ["C1"], sets=[["C1"], []])]
    assert answer(part, "all", ["C1"]) == 1, "a concept that maps to nothing cannot be asked for"


def test_a_bucket_without_mentions_is_null(tmp_path, corpus):
    folder, *_ = corpus
    tables.write(tables.MENTIONS, folder / "corpora" / "c" / "mentions.parquet", [mention(0, ["C1"])])
    metrics = run(folder, "any", write_cell(folder / "normalization", {"m000": ["C1"]}, "none", "none", "l", "kb"))
    assert {(m["value"], m["n"]) for m in metrics if m["bucket"] == "unseen_concept"} == {(None, 0)}
    assert {(m["value"], m["n"]) for m in metrics if m["bucket"] == "all"} == {(1.0, 1)}


def test_nil_threshold_by_hand(tmp_path):
    """Dev chooses the threshold; test is scored with it, unmapped mentions included. Against a loop over mentions."""
    rng = np.random.default_rng(2)
    rows, first = [], {}
    for i in range(400):
        split = ("train", "dev", "test")[i % 3]
        cuis = [] if i % 4 == 0 else ["C1"]
        rows.append(mention(i, cuis, split=split))
        if split != "train" and i % 17:
            first[f"m{i:03d}"] = ("C1" if rng.random() < 0.8 else "C2", round(float(rng.normal(0.5 if not cuis else 0.8, 0.15)), 2))
    tables.write(tables.MENTIONS, tmp_path / "corpora" / "c" / "mentions.parquet", rows)
    settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}).model_dump(mode="json")
    (tmp_path / "any.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
    base = tmp_path / "normalization"
    cell = base / "c" / "none" / "none" / "l" / "kb"
    predicted = {m["mention_id"] for m in rows if m["split"] == "test" and m["cuis"]}
    for name, wanted in (("predictions", lambda m: m in predicted), ("calibration", lambda m: m not in predicted)):
        found = [{"mention_id": m, "rank": 1, "cui": c, "score": s, "entry": c} for m, (c, s) in first.items() if wanted(m)]
        tables.write(tables.LINKED, cell / f"{name}.parquet", found)
    evaluate(tmp_path / "corpora" / "c", tmp_path / "any.json", base, [cell / "predictions.parquet"], tmp_path / "out.parquet", tmp_path / "nil.parquet")

    def score(split, threshold):
        of_split = [m for m in rows if m["split"] == split]
        called = [m for m in of_split if m["mention_id"] not in first or first[m["mention_id"]][1] < threshold]
        hits = sum(not m["cuis"] for m in called)
        right = hits + sum(m not in called and m["cuis"] == [first[m["mention_id"]][0]] for m in of_split)
        unmapped = sum(not m["cuis"] for m in of_split)
        return hits / len(called), hits / unmapped, right / len(of_split)

    curve = tables.read(tables.NIL, tmp_path / "nil.parquet").to_pylist()
    assert len({r["threshold"] for r in curve}) > 30
    for row in curve:
        assert (row["precision"], row["recall"], row["accuracy"]) == pytest.approx(score(row["split"], row["threshold"]))
    thresholds = sorted({r["threshold"] for r in curve})
    chosen = max(thresholds, key=lambda t: (score("dev", t)[2], -t))
    assert [r["threshold"] for r in curve if r["chosen"]] == [chosen, chosen]
    metrics = {m["metric"]: m["value"] for m in tables.read(tables.METRICS, tmp_path / "out.parquet").to_pylist() if m["bucket"] == "all"}
    assert (metrics["nil_precision"], metrics["nil_recall"], metrics["acc@1_nil"]) == pytest.approx(score("test", chosen))
