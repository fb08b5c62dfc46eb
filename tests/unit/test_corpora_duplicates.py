"""Duplicate documents, against brute-force comparison of all pairs."""

import csv
import itertools
import json
import random
import re

import pytest
from test_corpora import make_kb, make_spec

from mentionforge import tables
from mentionforge.corpora import build
from mentionforge.corpora.documents import Annotation, Document
from mentionforge.corpora.duplicates import DocumentRef, DuplicateFinder, NearDuplicateIndex, bands, hashed_ngrams, jaccard
from mentionforge.corpora.settings import Corpus, NearDuplicates
from mentionforge.errors import UserError


def shingles(text, n):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def similarity(a, b, n):
    a, b = shingles(a, n), shingles(b, n)
    return len(a & b) / len(a | b)


def some_texts(seed, families=12, variants=4, step=4):
    """Families of texts: one of 150 words, and variants with more and more words changed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(families):
        words = [f"w{rng.randrange(5000)}" for _ in range(150)]
        for k in range(variants):
            changed = list(words)
            for _ in range(k * step):
                changed[rng.randrange(150)] = f"x{rng.randrange(5000)}"
            texts.append(" ".join(changed))
    return texts


def test_jaccard_of_hashes_is_that_of_the_ngrams():
    texts = some_texts(1)
    for a, b in itertools.combinations(texts[:12], 2):
        assert jaccard(hashed_ngrams(a, 3), hashed_ngrams(b, 3)) == pytest.approx(similarity(a, b, 3))


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_every_near_duplicate_is_proposed_and_no_other(threshold):
    settings = NearDuplicates(similarity=threshold)
    missed = pairs = 0
    for seed in range(6):
        texts = some_texts(seed, step=1 if threshold == 0.9 else 4)
        index = NearDuplicateIndex(settings)
        for i, text in enumerate(texts):
            grams = index.grams(text)
            keys = index.keys(grams)
            found = {other.number for _, other in index.alike(grams, keys)}
            right = {k for k in range(i) if similarity(text, texts[k], 3) >= threshold}
            assert found <= right
            pairs, missed = pairs + len(right), missed + len(right - found)
            index.add(grams, keys, DocumentRef("train", i, str(i)))
    assert pairs > 20
    assert missed <= 1


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.9, 0.99, 1.0])
def test_bands_miss_less_than_one_in_a_thousand(similarity):
    rows, n = bands(similarity)
    assert rows * n <= 64
    assert (1 - similarity**rows) ** n <= 1e-3


GOLD = (Annotation(((0, 1),), "Disease", ("MSH:D1",)),)
LONG = some_texts(3)


def judged(documents, **settings):
    """Rows of duplicates.csv and the documents left, for (split, id, text) in order."""
    corpus = Corpus.model_validate({"reader": "pubtator", "kb": "k", "splits": {s: ["f"] for s in tables.SPLITS}, **settings})
    guard = DuplicateFinder(corpus)
    numbers = dict.fromkeys(tables.SPLITS, 0)
    left = []
    for split, doc_id, text in documents:
        guard.add(Document(doc_id, text, GOLD, f"{split}.txt:{numbers[split]}"), split, numbers[split])
        left.append((split, numbers[split], doc_id))
        numbers[split] += 1
    return [(r["kind"], r["doc_id"], r["of_doc_id"], r["action"]) for r in guard.rows], [d for s, n, d in left if (s, n) not in guard.dropped]


def test_policies_for_equal_documents():
    within = [("train", "a", "one"), ("train", "a", "one"), ("train", "b", "one"), ("test", "c", "two")]
    assert judged(within) == ([("id", "a", "a", "dropped"), ("text", "b", "a", "dropped")], ["a", "c"])
    assert judged(within[:1] + within[2:], duplicates="keep") == ([("text", "b", "a", "kept")], ["a", "b", "c"])
    across = [("train", "a", "one"), ("dev", "b", "one"), ("test", "c", "one")]
    with pytest.raises(UserError, match="text in two splits"):
        judged(across)
    assert judged(across, duplicates="drop_from_train") == ([("text", "a", "b", "dropped"), ("text", "b", "c", "dropped")], ["c"])
    same_id = [("train", "a", "one"), ("test", "a", "one")]
    assert judged(same_id, duplicates="drop_from_train") == ([("id", "a", "a", "dropped")], ["a"])
    for policy in ("drop", "error", "keep"):
        with pytest.raises(UserError, match=r"document in two splits in test\.txt:0"):
            judged(same_id, duplicates=policy)
    with pytest.raises(UserError, match=r"text given twice in train\.txt:1: b is a"):
        judged([("train", "a", "one"), ("train", "b", "one")], duplicates="error")


def test_policies_for_near_duplicates():
    a, b = LONG[0], LONG[0] + " and"
    documents = [("train", "a", a), ("train", "b", b), ("train", "x", LONG[4]), ("dev", "c", b + " so"), ("test", "d", b + " more")]
    rows, left = judged(documents)
    assert rows == [("near", d, "a", "kept") for d in ("b", "c", "d")]
    assert left == ["a", "b", "x", "c", "d"]
    rows, left = judged(documents, near_duplicates={"action": "drop"})
    assert left == ["x", "d"]
    assert rows == [("near", "b", "a", "dropped"), ("near", "a", "c", "dropped"), ("near", "c", "d", "dropped")]
    with pytest.raises(UserError, match=r"document nearly given twice in train.txt:1: b of train is nearly a of train \(similarity 0.99\)"):
        judged(documents, near_duplicates={"action": "error"})
    assert judged(documents, near_duplicates=None) == ([], ["a", "b", "x", "c", "d"])


def test_duplicates_in_the_files_of_a_corpus(tmp_path, monkeypatch):
    """A training document that test nearly repeats goes, and is listed; counts add up."""
    monkeypatch.setattr(build.text, "sentences", lambda texts: [[(0, len(t))] for t in texts])
    kb = make_kb(tmp_path / "kb", [("MSH", "D1", "C1")])
    line = "{0}|t|Gout\n{0}|a|{1}\n{0}\t0\t4\tGout\tDisease\tD1\n\n"
    (tmp_path / "train.txt").write_text("".join(line.format(i, LONG[4 * i]) for i in range(3)))
    (tmp_path / "test.txt").write_text(line.format(7, LONG[4] + " too"))
    splits = {s: [str(tmp_path / f"{s}.txt")] for s in ("train", "test")}
    spec = make_spec(tmp_path, "c", reader="pubtator", splits=splits, near_duplicates={"action": "drop"})
    stats = build.read_corpus(spec, kb, tmp_path / "out")
    assert [(d["doc_id"], d["split"]) for d in tables.read(tables.DOCUMENTS, tmp_path / "out/documents.parquet").to_pylist()] == [
        ("0", "train"),
        ("2", "train"),
        ("7", "test"),
    ]
    [row] = csv.DictReader((tmp_path / "out/duplicates.csv").open())
    assert (row["doc_id"], row["of_doc_id"], row["action"]) == ("1", "7", "dropped")
    assert stats["duplicates"] == {"near": {"test and train": 1}}
    assert stats["read"]["train"]["mentions_of_duplicate_documents"] == 1
    assert stats["splits"]["train"]["mentions"] == 2
    assert json.loads((tmp_path / "out/stats.json").read_text())["dropped"]["duplicate_documents"] == ["1"]
