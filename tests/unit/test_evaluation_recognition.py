"""Recognition metrics: seqeval against sets of spans, every gold mention counted once, cells named by their path."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentionforge import tables, text
from mentionforge.errors import UserError
from mentionforge.evaluation.errors import error_rows, error_table
from mentionforge.evaluation.recognition import GoldDocument, cell_columns, evaluate, load_gold, overlapping_pairs, rebucketed, seqeval_scores, split_rows
from mentionforge.gold import tags


def spans(length):
    """Strategy: word spans of a document, any two of them disjoint, often adjacent."""
    return st.lists(st.sampled_from(["O", "new", "more"]), min_size=length, max_size=length).map(_runs)


def _runs(marks):
    found = []
    for i, mark in enumerate(marks):
        if mark == "new":
            found.append((i, i + 1))
        elif mark == "more" and found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1)
    return found


pair = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), spans(n), spans(n)))


@settings(deadline=None, max_examples=60)
@given(st.lists(pair, min_size=1, max_size=4))
def test_seqeval_equals_sets_of_spans(documents):
    gold = {(i, s) for i, (_, true, _) in enumerate(documents) for s in true}
    found = {(i, s) for i, (_, _, predicted) in enumerate(documents) for s in predicted}
    right = len(gold & found)
    result = seqeval_scores([tags(n, true) for n, true, _ in documents], [tags(n, predicted) for n, _, predicted in documents])
    assert result.precision == (pytest.approx(right / len(found)) if found else None)
    assert result.recall == (pytest.approx(right / len(gold)) if gold else None)
    assert result.f1 == (pytest.approx(2 * right / (len(gold) + len(found))) if gold else None)


ADVERSARIAL = [
    ([(0, 1), (1, 2)], [(0, 2)], 0),  # adjacent mentions read as one: the IO fault
    ([(0, 2)], [(0, 1), (1, 2)], 0),  # one mention read as two
    ([(0, 3)], [(0, 2)], 0),  # cut short
    ([(0, 3)], [(1, 3)], 0),  # begun late
    ([(0, 1), (1, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)], 3),
    ([(2, 3)], [(2, 3)], 1),  # at the end of the document
]


@pytest.mark.parametrize(("true", "predicted", "right"), ADVERSARIAL)
def test_boundaries_are_strict(true, predicted, right):
    result = seqeval_scores([tags(3, true)], [tags(3, predicted)])
    assert result == pytest.approx((right / len(predicted), right / len(true), 2 * right / (len(true) + len(predicted))))


@settings(deadline=None, max_examples=40)
@given(st.lists(pair, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_buckets_add_up_to_all(documents, chance):
    gold = {
        str(i): GoldDocument("test", [(k, k + 1) for k in range(n)], tuple(true), tuple(chance.choice(tables.BUCKETS) for _ in true))
        for i, (n, true, _) in enumerate(documents)
    }
    found = {str(i): predicted for i, (_, _, predicted) in enumerate(documents)}
    rows = {(r["bucket"], r["metric"]): r for r in split_rows(gold, found, "test")}
    everything = rows["all", "strict_recall"]
    buckets = [rows[b, "strict_recall"] for b in tables.BUCKETS]
    assert sum(b["n"] for b in buckets) == everything["n"] == sum(len(t) for _, t, _ in documents)
    assert sum((b["value"] or 0) * b["n"] for b in buckets) == pytest.approx((everything["value"] or 0) * everything["n"])
    covered = [({w for s in true for w in range(*s)}, {w for s in predicted for w in range(*s)}) for _, true, predicted in documents]
    both, true_words, found_words = (sum(len(f(t, p)) for t, p in covered) for f in (lambda t, p: t & p, lambda t, p: t, lambda t, p: p))
    assert rows["all", "token_precision"]["n"] == found_words and rows["all", "token_recall"]["n"] == true_words
    assert rows["all", "token_recall"]["value"] == (pytest.approx(both / true_words) if true_words else None)
    assert rows["all", "token_precision"]["value"] == (pytest.approx(both / found_words) if found_words else None)


def intersecting(one, other):
    return one[0] < other[1] and other[0] < one[1]


@settings(deadline=None, max_examples=100)
@given(pair)
def test_partial_pairs_are_a_largest_matching(document):
    """Against a general algorithm for matchings."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    _, true, predicted = document
    if true and predicted:
        meets = csr_matrix([[int(intersecting(t, p)) for p in predicted] for t in true])
        assert overlapping_pairs(true, predicted) == int((maximum_bipartite_matching(meets, perm_type="column") >= 0).sum())
    else:
        assert overlapping_pairs(true, predicted) == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(pair, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_scores_by_bucket_equal_those_of_a_scorer_of_spans(documents, chance):
    """A scorer that knows only sets of (document, start, end), for `all` and for each bucket, and seqeval's for `all`."""
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    gold = {
        str(i): GoldDocument("test", [(k, k + 1) for k in range(n)], tuple(true), tuple(chance.choice(tables.BUCKETS) for _ in true))
        for i, (n, true, _) in enumerate(documents)
    }
    found = {str(i): predicted for i, (_, _, predicted) in enumerate(documents)}
    rows = {(r["bucket"], r["metric"]): r for r in split_rows(gold, found, "test")}
    bucket_of = {(d, *s): b for d, doc in gold.items() for s, b in zip(doc.spans, doc.buckets, strict=True)}
    predicted = {(d, *s) for d, spans in found.items() for s in spans}
    for bucket in ("all", *tables.BUCKETS):
        mine = {m for m, b in bucket_of.items() if bucket in ("all", b)}
        right = mine & predicted
        others = {m for m, b in bucket_of.items() if m not in mine}
        wrong = set()
        for p in predicted - set(bucket_of):
            met = {m for m in bucket_of if m[0] == p[0] and intersecting(m[1:], p[1:])}
            if not met or met - others:
                wrong.add(p)
        precision = len(right) / (len(right) + len(wrong)) if right or wrong else None
        recall = len(right) / len(mine) if mine else None
        f1 = 2 * len(right) / (len(mine) + len(right) + len(wrong)) if mine else None
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert rows[bucket, f"strict_{name}"]["value"] == (None if value is None else pytest.approx(value)), (bucket, name)
    if bucket_of and predicted:
        sequences = [[tags(len(doc.words), s[d]) for d, doc in gold.items()] for s in ({d: doc.spans for d, doc in gold.items()}, found)]
        report = classification_report(*sequences, scheme=IOB2, mode="strict", output_dict=True, zero_division=0)["micro avg"]
        assert [rows["all", f"strict_{m}"]["value"] for m in ("precision", "recall", "f1")] == pytest.approx(
            [report["precision"], report["recall"], report["f1-score"]]
        )


def test_what_overlaps_nothing_is_wrong_in_every_bucket():
    words = [(k, k + 1) for k in range(10)]
    gold = {"d": GoldDocument("test", words, ((0, 2), (3, 5), (8, 9)), ("seen_mention", "unseen_concept", "unseen_concept"))}
    # Right on the first; short of the second; one that meets nothing; the third missed.
    rows = {(r["bucket"], r["metric"]): (r["value"], r["n"]) for r in split_rows(gold, {"d": [(0, 2), (3, 4), (6, 7)]}, "test")}
    assert rows["seen_mention", "strict_precision"] == (1 / 2, 2) and rows["seen_mention", "strict_f1"] == (pytest.approx(2 / 3), 1)
    assert rows["unseen_concept", "strict_precision"] == (0.0, 2) and rows["unseen_concept", "strict_f1"] == (0.0, 2)
    assert rows["seen_concept", "strict_precision"] == (0.0, 1) and rows["seen_concept", "strict_f1"] == (None, 0)
    assert rows["all", "strict_precision"] == (pytest.approx(1 / 3), 3)
    assert rows["all", "partial_precision"] == (pytest.approx(2 / 3), 3) == rows["all", "partial_recall"]


# ------------------------------------------------------------------------------------------------------------- errors


@settings(deadline=None, max_examples=60)
@given(st.lists(pair, min_size=1, max_size=4))
def test_every_mention_not_found_is_one_error_and_every_stray_prediction_another(documents):
    gold = {str(i): GoldDocument("test", [(3 * k, 3 * k + 2) for k in range(n)], tuple(t), ("unmapped",) * len(t)) for i, (n, t, _) in enumerate(documents)}
    found = {str(i): predicted for i, (_, _, predicted) in enumerate(documents)}
    rows = list(error_rows(gold, found))
    expected = set()
    for i, (_, true, predicted) in enumerate(documents):
        for t in set(true) - set(predicted):
            met = [p for p in predicted if intersecting(p, t)]
            expected.add((str(i), "boundary" if met else "missed", 3 * t[0], 3 * t[1] - 1))
        expected |= {(str(i), "spurious", 3 * p[0], 3 * p[1] - 1) for p in predicted if not any(intersecting(p, t) for t in true)}
    assert {(r["doc_id"], r["error"], r["start"], r["end"]) for r in rows} == expected and len(rows) == len(expected)
    for r in rows:
        assert 3 * r["words"] == r["end"] - r["start"] + 1
        if r["error"] == "boundary":
            words = [set(range(*s)) for s in found[r["doc_id"]]]
            own = set(range(r["start"] // 3, r["end"] // 3 + 1))
            named = set(range(r["predicted_start"] // 3, r["predicted_end"] // 3 + 1))
            assert named in words and len(named & own) == max(len(w & own) for w in words)
        else:
            assert r["predicted_start"] is None is r["predicted_end"]
        assert r["bucket"] == (None if r["error"] == "spurious" else "unmapped")


# ------------------------------------------------------------------------------------------------------ whole tables

TEXT = "Anemia asthma fever and breast cancer or ALDgene."


@pytest.fixture
def corpus(tmp_path):
    """Two test documents and one dev document; adjacent, nested, repeated, split and half-word mentions."""
    at = {name: (TEXT.index(name), TEXT.index(name) + len(name)) for name in ("Anemia", "asthma", "fever", "breast cancer", "cancer", "ALD")}
    gold = {
        "t1": [[at["Anemia"]], [at["asthma"]], [at["breast cancer"]], [at["cancer"]], [at["ALD"]], [at["Anemia"]]],
        "t2": [[at["Anemia"], at["breast cancer"]]],
        "d1": [[at["fever"]]],
    }
    splits = {"t1": "test", "t2": "test", "d1": "dev", "x": "train"}
    folder = tmp_path / "corpora/c"
    tables.write(
        tables.DOCUMENTS,
        folder / "documents.parquet",
        [{"doc_id": d, "split": s, "text": TEXT, "sentences": [{"start": 0, "end": len(TEXT)}]} for d, s in splits.items()],
    )
    buckets = itertools.cycle(tables.BUCKETS)
    rows = [
        {
            "doc_id": d,
            "mention_id": f"{d}-{i}",
            "split": splits[d],
            "spans": [{"start": a, "end": b} for a, b in pieces],
            "surface": "s",
            "expanded": None,
            "entity_type": "Disease",
        }
        | {"concept_ids": [], "cuis": [], "concept_cuis": [], "composite": False, "ood_bucket": next(buckets)}
        for d, mentions in gold.items()
        for i, pieces in enumerate(mentions)
    ]
    tables.write(tables.MENTIONS, folder / "mentions.parquet", rows)
    return folder


@pytest.fixture
def write(tmp_path, corpus):
    """Evaluates predictions given as (doc_id, split, start, end); returns the metrics by (split, bucket, metric)."""
    spec = tmp_path / "corpus.json"
    spec.write_text('{"kind": "corpora", "settings": {"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}}}')

    def run(predictions, cell="c/none/none/minilm/real_only/seed3", sources=()):
        path = tmp_path / "recognition" / cell / "predictions.parquet"
        tables.write(tables.RECOGNIZED, path, [{"doc_id": d, "start": a, "end": b, "split": s, "score": 0.5} for d, s, a, b in predictions])
        evaluate(corpus, spec, tmp_path / "recognition", [path], tmp_path / "metrics.parquet", tmp_path / "errors.parquet", sources)
        return tables.read(tables.METRICS, tmp_path / "metrics.parquet").to_pylist()

    return run


def test_gold_is_counted_once(corpus):
    gold, counts = load_gold(corpus, "longest")
    assert counts["test"] == {"mentions": 7, "kept": 5, "dropped_overlap": 2, "discontinuous": 1, "widened": 1}
    assert sum(len(d.spans) for d in gold.values() if d.split == "test") == 5 and set(gold) == {"t1", "t2", "d1"}
    words = text.words(TEXT)
    assert [tuple(TEXT[words[a][0] : words[b - 1][1]] for a, b in gold[d].spans) for d in ("t1", "t2")] == [
        ("Anemia", "asthma", "breast cancer", "ALDgene"),
        ("breast cancer",),
    ]
    _, dropped = load_gold(corpus, "drop")
    assert dropped["test"]["kept"] == 4 and dropped["test"]["dropped_discontinuous"] == 1


def test_metrics_of_known_predictions(write):
    # t1: one adjacent pair read apart (2 right), "cancer" for "breast cancer" (wrong); t2: right; dev: nothing.
    cancer = TEXT.index("cancer")
    rows = write([("t1", "test", 0, 6), ("t1", "test", 7, 13), ("t1", "test", cancer, cancer + 6), ("t2", "test", cancer - 7, cancer + 6)])
    by = {(r["split"], r["bucket"], r["metric"]): (r["value"], r["n"]) for r in rows}
    assert by["test", "all", "strict_precision"] == (0.75, 4) and by["test", "all", "strict_recall"] == (0.6, 5)
    assert by["test", "all", "strict_f1"] == (pytest.approx(2 * 3 / 9), 5)
    assert by["test", "all", "token_precision"] == (1.0, 5) and by["test", "all", "token_recall"] == (pytest.approx(5 / 7), 7)
    assert by["dev", "all", "strict_recall"] == (0.0, 1) and by["dev", "all", "strict_precision"] == (None, 0)
    assert sum(by["test", b, "strict_recall"][1] for b in tables.BUCKETS) == 5
    names = {(r["task"], r["corpus"], r["generator"], r["strategy"], r["system"], r["variant"], r["seed"]) for r in rows}
    assert names == {("recognition", "c", "none", "none", "minilm", "real_only", 3)}


def test_merging_adjacent_mentions_costs_both(write):
    rows = write([("t1", "test", 0, 13)])
    assert [r["value"] for r in rows if (r["split"], r["bucket"], r["metric"]) == ("test", "all", "strict_recall")] == [0.0]


def test_no_prediction_at_all(write):
    by = {(r["split"], r["bucket"], r["metric"]): r["value"] for r in write([])}
    assert by["test", "all", "strict_f1"] == 0.0 and by["test", "all", "strict_precision"] is None


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([("t1", "test", 1, 6)], "does not begin and end with a word"),
        ([("t1", "test", 0, 13), ("t1", "test", 7, 13)], "overlaps"),
        ([("zz", "test", 0, 6)], "zz is none of the test documents"),
        ([("t1", "dev", 0, 6)], "t1 is none of the dev documents"),
        ([("x", "test", 0, 6)], "x is none of the test documents"),
    ],
)
def test_misplaced_predictions_are_errors(write, predictions, message):
    with pytest.raises(UserError, match=message):
        write(predictions)


def test_cells_are_named_by_their_path(tmp_path):
    names = cell_columns(tmp_path / "ncbi/smollm2~lr=2e-4/naive/minilm/synthetic_then_real/seed12/predictions.parquet", tmp_path)
    assert names == {"corpus": "ncbi", "generator": "smollm2~lr=2e-4", "strategy": "naive", "system": "minilm", "variant": "synthetic_then_real", "seed": 12}
    for wrong in (
        "a/b/c/d/e/predictions.parquet",
        "a/b/c/d/e/seedx/predictions.parquet",
        "a/b/c/d/e/f/seed1/predictions.parquet",
        "a/b/c/d/e/seed1/model.parquet",
    ):
        with pytest.raises(UserError, match="no recognition cell"):
            cell_columns(tmp_path / wrong, tmp_path)
    with pytest.raises(UserError, match="no recognition cell"):
        cell_columns(tmp_path / "a/b/c/d/e/seed1/predictions.parquet", tmp_path / "elsewhere")


def test_order_of_predictions_does_not_matter(tmp_path, corpus, write):
    cells = [f"c/none/none/minilm/real_only/seed{i}" for i in range(3)]
    for i, name in enumerate(cells):
        write([("t1", "test", 0, 6)][: i % 2], name)
    paths = [tmp_path / "recognition" / name / "predictions.parquet" for name in cells]
    results = []
    for order in (1, 2):
        random.Random(order).shuffle(paths)
        evaluate(corpus, tmp_path / "corpus.json", tmp_path / "recognition", paths, tmp_path / "m.parquet")
        results.append((tmp_path / "m.parquet").read_bytes())
    assert results[0] == results[1]


def test_errors_are_written_with_offsets_and_counted(tmp_path, write):
    cancer = TEXT.index("cancer")
    write([("t1", "test", 0, 6), ("t1", "test", cancer, cancer + 6), ("t2", "test", 14, 19)])
    rows = tables.read(tables.RECOGNITION_ERRORS, tmp_path / "errors.parquet").to_pylist()
    short = [(r["split"], r["doc_id"], r["error"], r["start"], r["end"], r["words"], r["predicted_start"]) for r in rows]
    assert short == [
        ("dev", "d1", "missed", 14, 19, 1, None),
        ("test", "t1", "boundary", cancer - 7, cancer + 6, 2, cancer),
        ("test", "t1", "missed", 7, 13, 1, None),
        ("test", "t1", "missed", TEXT.index("ALD"), TEXT.index("ALD") + 7, 1, None),
        ("test", "t2", "missed", cancer - 7, cancer + 6, 2, None),
        ("test", "t2", "spurious", 14, 19, 1, None),
    ]
    table = error_table(tmp_path / "errors.parquet")
    assert "spurious" in table and "cancer" not in table and "Anemia" not in table


def test_models_of_other_corpora_get_the_buckets_of_what_they_were_trained_on(tmp_path, corpus, write):
    with pytest.raises(UserError, match=r"unknown training corpus.*trained on other, but no corpus is given with --source"):
        write([], "c/none/none/minilm/real_only~train=other/seed1")
    other = tmp_path / "corpora/other"
    row = {"doc_id": "o", "mention_id": "o-0", "split": "train", "spans": [{"start": 0, "end": 1}], "surface": "S", "expanded": None, "entity_type": "Disease"}
    row |= {"concept_ids": [], "cuis": ["C2"], "concept_cuis": [], "composite": False, "ood_bucket": "seen_mention"}
    later = row | {"mention_id": "o-1", "split": "test", "cuis": ["C1"]}
    tables.write(tables.MENTIONS, other / "mentions.parquet", [row, later])
    gold = tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist()
    for r in gold:
        number = int(r["mention_id"].partition("-")[2])
        r |= {"cuis": [[], ["C1"], ["C2"], ["C2"], ["C2", "C3"], [], []][number], "surface": "t" if number == 4 else "s"}
    tables.write(tables.MENTIONS, corpus / "mentions.parquet", gold)
    loaded, _ = load_gold(corpus, "longest")
    moved = rebucketed(loaded, corpus / "mentions.parquet", other / "mentions.parquet")
    # Kept of t1: mentions 0 (no CUI), 1 (C1, only in the other's test split), 2 (same surface and C2), 4 (C2, new surface).
    assert moved["t1"].mention_ids == ("t1-0", "t1-1", "t1-2", "t1-4")
    assert moved["t1"].buckets == ("unmapped", "unseen_concept", "seen_mention", "seen_concept") and moved["t1"].spans == loaded["t1"].spans
    rows = write([("t1", "test", 0, 6)], "c/none/none/minilm/real_only~train=other/seed1", [other])
    by = {(r["split"], r["bucket"], r["metric"]): r for r in rows}
    assert by["test", "seen_concept", "strict_recall"]["n"] == 1 and by["test", "all", "strict_recall"]["variant"] == "real_only~train=other"
