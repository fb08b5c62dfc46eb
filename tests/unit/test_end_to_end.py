"""End to end: predicted mentions become mentions, are linked like gold ones, and are scored by span and concept."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkout import ROOT
from mentionforge import tables
from mentionforge.config import end_to_end_cells, load_config
from mentionforge.config_files import merge
from mentionforge.errors import UserError
from mentionforge.evaluation.end_to_end import best_threshold, drop_low_scores, evaluate, gold_by_split, score
from mentionforge.normalization.embed import embed_kb
from mentionforge.normalization.predicted import link_predicted
from mentionforge.recognition.mentions import as_mentions

TEXT = "Huntington disease (HD) and gout. HD again, colon and breast cancer."


def mention(number, split, spans, cuis, bucket="seen_mention", doc=None):
    surface = " ".join(TEXT[a:b] for a, b in spans)
    row = {"doc_id": doc or split, "mention_id": f"{split}-{number}", "split": split, "spans": [{"start": a, "end": b} for a, b in spans], "surface": surface}
    row |= {"expanded": None, "entity_type": "Disease", "concept_ids": [], "cuis": cuis, "concept_cuis": [], "composite": False, "ood_bucket": bucket}
    return row


def at(text, nth=0):
    start = -1
    for _ in range(nth + 1):
        start = TEXT.index(text, start + 1)
    return (start, start + len(text))


@pytest.fixture
def corpus(tmp_path):
    """A train, a dev and a test document with the same text; in test one mention in pieces and one without a concept."""
    folder = tmp_path / "corpora/c"
    rows = [{"doc_id": s, "split": s, "text": TEXT, "sentences": [{"start": 0, "end": 33}, {"start": 34, "end": len(TEXT)}]} for s in tables.SPLITS]
    tables.write(tables.DOCUMENTS, folder / "documents.parquet", rows)
    gold = []
    for split in tables.SPLITS:
        gold += [mention(0, split, [at("Huntington disease")], ["C1"]), mention(1, split, [at("gout")], ["C2", "C3"], "unseen_concept")]
        gold += [mention(2, split, [at("breast cancer")], [], "unmapped"), mention(3, split, [at("colon"), at("cancer")], ["C4"], "unseen_concept")]
        gold += [mention(4, split, [at("HD", 1)], ["C1"], "seen_concept")]
    tables.write(tables.MENTIONS, folder / "mentions.parquet", gold)
    names = [{"cui": c, "name": n, "source": "s", "term_type": "PT", "preferred": True} for c, n in (("C1", "Huntington disease"), ("C3", "Gout"))]
    tables.write(tables.NAMES, tmp_path / "names.parquet", names)
    tables.write(tables.XREFS, tmp_path / "xrefs.parquet", [])
    settings = {"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}}
    (tmp_path / "corpus.json").write_text(json.dumps({"kind": "corpora", "settings": settings}))
    (tmp_path / "linker.json").write_text(json.dumps({"kind": "linkers", "settings": {"kind": "exact", "expand_abbreviations": True}}))
    (tmp_path / "index.json").write_text(json.dumps({"kind": "indexes", "settings": {"sources": ["kb"]}}))
    return folder


def predict(tmp_path, found):
    rows = [{"doc_id": s, "start": a, "end": b, "split": s, "score": 0.5} for s, (a, b) in found]
    tables.write(tables.RECOGNIZED, tmp_path / "predictions.parquet", rows)
    return tmp_path / "predictions.parquet"


def test_from_predictions_to_scores(tmp_path, corpus):
    cell = tmp_path / "end_to_end/c/none/none/tagger/real_only/seed2"
    found = [("test", at(t, n)) for t, n in (("Huntington disease", 0), ("gout", 0), ("HD", 1), ("breast cancer", 0), ("again", 0))]
    as_mentions(predict(tmp_path, found), corpus, tmp_path / "corpus.json", cell)
    rows = tables.read(tables.MENTIONS, cell / "mentions.parquet").to_pylist()
    assert [r["mention_id"] for r in rows if r["split"] == "train"] == [f"train-{i}" for i in range(5)]
    predicted = [r for r in rows if r["split"] != "train"]
    assert all(not r["cuis"] and r["ood_bucket"] == "unmapped" for r in predicted), "nothing of gold"
    assert [r["expanded"] for r in predicted if r["surface"] == "HD"] == ["Huntington disease"]

    embed_kb(tmp_path / "linker.json", None, tmp_path / "names.parquet", tmp_path / "kb")
    linked = cell / "exact/kb/linked.parquet"
    more = {"kb": tmp_path / "kb/entries.parquet", "names": tmp_path / "names.parquet", "xrefs": tmp_path / "xrefs.parquet"}
    link_predicted(tmp_path / "linker.json", [tmp_path / "index.json"], cell, [linked], **more)
    assert {r["mention_id"].partition(":")[2]: r["cui"] for r in tables.read(tables.LINKED, linked).to_pylist() if r["rank"] == 1} == {
        "{}-{}".format(*at("Huntington disease")): "C1",
        "{}-{}".format(*at("gout")): "C3",
        "{}-{}".format(*at("HD", 1)): "C1",
    }
    assert not list(linked.parent.glob(".linking*"))
    with pytest.raises(UserError, match="wrong index"):
        link_predicted(tmp_path / "linker.json", [tmp_path / "index.json"], cell, [linked])

    evaluate(corpus, tmp_path / "end_to_end", [linked], tmp_path / "metrics.parquet")
    rows = tables.read(tables.METRICS, tmp_path / "metrics.parquet").to_pylist()
    assert {(r["task"], r["system"], r["variant"], r["seed"]) for r in rows} == {("end_to_end", "tagger/exact", "real_only/kb", 2)}
    by = {(r["split"], r["bucket"], r["metric"]): (r["value"], r["n"]) for r in rows}
    # Right: Huntington disease, gout (C3 is one of its CUIs), HD, and breast cancer, which has no concept and got none. Wrong: "again"; missed: colon cancer.
    assert by["test", "all", "span_concept_precision"] == (4 / 5, 5) and by["test", "all", "span_concept_recall"] == (4 / 5, 5)
    assert by["test", "all", "span_concept_f1"] == (4 / 5, 5)
    assert by["test", "unseen_concept", "span_concept_recall"] == (1 / 2, 2) and by["test", "unmapped", "span_concept_recall"] == (1.0, 1)
    assert by["dev", "all", "span_concept_recall"] == (0.0, 5)
    with pytest.raises(UserError, match="path names no cell"):
        evaluate(corpus, tmp_path, [linked], tmp_path / "metrics.parquet")


def test_predictions_outside_the_documents_are_errors(tmp_path, corpus):
    for place in (("train", (0, 4)), ("test", (60, 400))):
        with pytest.raises(UserError, match="unknown document"):
            as_mentions(predict(tmp_path, [place]), corpus, tmp_path / "corpus.json", tmp_path / "x")


SPANS = st.sampled_from([(0, 3), (4, 9), (2, 5), (10, 12)])
CUIS = st.lists(st.sampled_from(["A", "B", "C"]), max_size=2, unique=True)


@settings(deadline=None)
@given(
    st.lists(st.tuples(SPANS, CUIS), max_size=6),
    st.dictionaries(SPANS, st.none() | st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from([0.1, 0.4, 0.7]))),
)
def test_scores_equal_a_count_by_hand(annotated, given_spans):
    """By a largest matching of predictions and gold mentions, and by trying every threshold there can be."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    gold = gold_by_split([mention(i, "test", [span], cuis) for i, (span, cuis) in enumerate(annotated)])["test"]
    found = {("test", *span): concept for span, concept in given_spans.items()}

    def hits(predictions):
        ok = [[int(p[1:] == s and (c[0] in cuis if c else not cuis)) for s, cuis in annotated] for p, c in predictions.items()]
        return int((maximum_bipartite_matching(csr_matrix(ok), perm_type="column") >= 0).sum()) if annotated and ok else 0

    rows = {(r["bucket"], r["metric"]): (r["value"], r["n"]) for r in score(gold, found, "span_concept")}
    n = hits(found)
    assert rows["all", "span_concept_precision"] == (n / len(found) if found else None, len(found))
    assert rows["all", "span_concept_recall"] == (n / len(annotated) if annotated else None, len(annotated))
    threshold = best_threshold(gold, found)
    tried = [-math.inf, 0.1, 0.2, 0.4, 0.5, 0.7, 0.8]
    counts = [hits({p: c if c and c[1] >= t else None for p, c in found.items()}) for t in tried]
    assert hits(drop_low_scores(found, threshold)) == max(counts)
    if counts[0] == max(counts):
        assert threshold == -math.inf, "no concept is taken back without need"


def test_cells_and_unfit_linkers():
    raw = __import__("yaml").safe_load((ROOT / "config.yaml").read_text())
    grid = {
        "corpora": ["demo_ncbi"],
        "generators": ["names"],
        "strategies": ["none", "naive"],
        "recognizers": ["minilm", "dictionary"],
        "schedules": ["real_only", "mixed"],
    }
    config = load_config(merge(raw, {"experiment": {"recognition": [grid | {"linkers": ["mention"], "indexes": ["kb", "train"]}]}}))
    cells = end_to_end_cells(config)
    assert len(cells) == 3 * 2 and {(c.recognizer, c.schedule, c.strategy) for c, _, _ in cells} == {
        ("minilm", "real_only", "none"),
        ("minilm", "mixed", "naive"),
        ("dictionary", "untrained", "none"),
    }
    with pytest.raises(UserError, match="half a grid"):
        load_config(merge(raw, {"experiment": {"recognition": [grid | {"linkers": ["mention"]}]}}))
    both = {"linkers": {"both": {"kind": "hybrid", "linkers": ["mention", "context"]}}}
    with pytest.raises(UserError, match="unfit linker"):
        load_config(merge(raw, both | {"experiment": {"recognition": [grid | {"linkers": ["both"], "indexes": ["kb"]}]}}))
