"""Leakage between a generator's texts and test documents, against brute-force comparison."""

import csv
import json
import random

import pytest
from typer.testing import CliRunner

from mentionforge import tables
from mentionforge.corpora.commands import app
from mentionforge.corpora.leakage import COLUMNS, NgramIndex, check
from mentionforge.corpora.settings import LeakageGuard
from mentionforge.errors import UserError

RNG = random.Random(5)


def prose(n):
    return " ".join(
        RNG.choice(["gout", "pain", "acute", "of", "the", "Flu", "knee", "No"]) + str(RNG.randrange(30)) + RNG.choice(["", "", ","]) for _ in range(n)
    )


def grams(text, n):
    words = text.lower().replace(",", "").split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def by_hand(documents, text, n):
    shares = {i: len(grams(text, n) & grams(d, n)) / min(len(grams(text, n)), len(grams(d, n))) for i, d in documents.items()}
    return max(shares.values())


TEST = {f"t{i}": prose(80) for i in range(8)}
TRAIN = {f"r{i}": prose(80) for i in range(8)}


@pytest.fixture
def folder(tmp_path):
    """Two corpora with test and training documents, notes and pairs that share nothing with them; `write` puts others in their place."""

    def write(notes=None, pairs=None, train=None, other=None):
        for name, split_texts in (("c", {"train": train or TRAIN, "test": TEST}), ("other", {"train": other or {"o1": prose(80)}, "test": {"o2": prose(80)}})):
            rows = [{"doc_id": i, "split": s, "text": t, "sentences": []} for s, texts in split_texts.items() for i, t in texts.items()]
            tables.write(tables.DOCUMENTS, tmp_path / name / "documents.parquet", rows)
        rows = [{"note_id": i, "cui": "C1", "text": t, "sentences": []} for i, t in (notes or {"n1": prose(30)}).items()]
        tables.write(tables.LOCATED, tmp_path / "located.parquet", rows)
        rows = [{"pair_id": i, "doc_id": "d", "cui": "C1", "prompt": "p", "completion": t} for i, t in (pairs or {"p1": prose(30)}).items()]
        tables.write(tables.PAIRS, tmp_path / "pairs.parquet", rows)
        return tmp_path

    return write


def run(folder, finetuned_on="c", **settings):
    check(folder / "c", LeakageGuard(**settings), folder / "out.csv", folder / "located.parquet", folder / "pairs.parquet", folder / finetuned_on)
    return list(csv.DictReader((folder / "out.csv").open()))


def test_shares_are_those_of_brute_force():
    settings = LeakageGuard(n=3)
    known = NgramIndex(TEST.items(), settings)
    found = 0
    for cut in range(0, 70, 5):
        text = " ".join(TEST["t3"].split()[cut : cut + 20]) + " " + prose(cut)
        match = known.match("note", "x", text)
        assert match.share == pytest.approx(by_hand(TEST, text, 3), abs=5e-5)
        assert match.leak == (match.share > 0.5 and match.shared >= 10)
        found += match.leak
    assert 0 < found < 14
    assert known.match("note", "x", "too short") is None


def test_nothing_shared_is_no_leak(folder, capsys):
    assert run(folder()) == []
    assert "leak" not in capsys.readouterr().err


def test_a_note_that_repeats_a_test_document_stops(folder, capsys):
    copy = " ".join(TEST["t2"].upper().split()[5:40])
    root = folder(notes={"C1-0": copy, "C1-1": prose(40)})
    with pytest.raises(UserError, match=r"leakage in test split of c: 1 texts .*note C1-0 and t2 \(100%\)"):
        run(root)
    assert not (root / "out.csv").exists()
    [row] = run(root, action="report")
    assert [row[c] for c in COLUMNS] == ["note", "C1-0", "t2", "28", "28", "1.0", "False", "True"]
    assert "WARNING: leakage" in capsys.readouterr().err
    assert run(root, max_share=1)[0]["leak"] == "False"
    assert run(root, min_shared=29)[0]["leak"] == "False"


def test_pairs_and_training_documents(folder, capsys):
    """Within a corpus they stop the workflow; from another one they are told, unless that is to stop too."""
    root = folder(pairs={"p": TEST["t4"]}, other={"o1": TEST["t5"] + " more", "t6": "short"})
    with pytest.raises(UserError, match="pair p and t4"):
        run(root)
    rows = run(root, finetuned_on="other")
    assert [(r["kind"], r["id"], r["doc_id"], r["same_id"]) for r in rows] == [
        ("document", "o1", "t5", "False"),
        ("document", "t6", "t6", "True"),
        ("pair", "p", "t4", "False"),
    ]
    assert "3 texts" in capsys.readouterr().err
    with pytest.raises(UserError, match="document o1 and t5"):
        run(root, finetuned_on="other", across_corpora="error")


def test_command(folder):
    root = folder(notes={"C1-0": TEST["t2"]})
    options = ["leakage", "--corpus", str(root / "c"), "--notes", str(root / "located.parquet"), "--out", str(root / "out.csv")]
    assert isinstance(CliRunner().invoke(app, options).exception, UserError)
    assert CliRunner().invoke(app, [*options, "--settings", json.dumps({"action": "report"})]).exit_code == 0
    assert "--settings: m" in str(CliRunner().invoke(app, [*options, "--settings", '{"max_shar": 1}']).exception)


def test_real_corpora_share_no_documents(shared_data):
    """NCBI and BC5CDR: no training document of one is a test document of the other, and none is nearly one of its own."""
    from mentionforge.corpora.formats import pubtator

    files = {
        "ncbi": ("ncbi_disease/NCBItrainset_corpus.txt", "ncbi_disease/NCBItestset_corpus.txt"),
        "bc5cdr": ("bc5cdr/CDR_TrainingSet.PubTator.txt", "bc5cdr/CDR_TestSet.PubTator.txt"),
    }
    read = {name: [[(d.doc_id, d.text) for d in pubtator.read(shared_data / f, "MSH").documents] for f in pair] for name, pair in files.items()}
    for _, test in read.values():
        known = NgramIndex(test, LeakageGuard())
        for name, (train, _) in read.items():
            matches = [m for doc_id, text in train if (m := known.match("document", doc_id, text, doc_id))]
            assert matches, name
            assert not [m for m in matches if m.leak]
            assert max(m.share for m in matches) < 0.12
