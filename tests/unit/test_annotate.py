"""Annotation: equal to the experiment's own predictions, exact offsets, every format read back, bad input listed, killed runs gone on with."""

import csv
import ctypes
import json
import os
import random
import re
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import annotating
import published
from annotating import CELL, TESTS, linked
from mentionforge import tables
from mentionforge import text as units
from mentionforge.annotate import bundle, cells, reading, run, writing
from mentionforge.annotate.pipeline import MAX_SECTION, MIN_SECTION, Annotator, sections
from mentionforge.annotate.reading import Options
from mentionforge.annotate.writers import FORMATS
from mentionforge.annotate.writers.contract import with_paths
from mentionforge.annotate.writers.html import page
from mentionforge.corpora.documents import Tally
from mentionforge.corpora.formats.registry import READERS
from mentionforge.errors import UserError
from mentionforge.evaluation.normalization import evaluate
from mentionforge.normalization import loaded
from mentionforge.normalization.linkers.hybrid.fusion import fuse


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return annotating.make(tmp_path_factory.mktemp("annotate"))


@pytest.fixture(scope="module")
def annotator(results):
    return Annotator(cells.find(results / CELL, linker="exact/train+kb"))


def check_equal(results, linker, index, found, decimals=9):
    """Mentions and rankings of the annotator against those of the experiment, to the last one."""
    expected = linked(results, linker, index)
    seen = set()
    for i, mentions in enumerate(found):
        for m in mentions:
            assert TESTS[i][m.start : m.end] == m.surface
            key = f"d{i}:{m.start}-{m.end}"
            seen.add(key)
            wanted = expected.get(key, [])
            assert [c.cui for c in m.concepts] == [cui for cui, _ in wanted[: len(m.concepts)]], key
            assert len(m.concepts) == min(100, len(wanted))
            assert [c.score for c in m.concepts] == pytest.approx([s for _, s in wanted[: len(m.concepts)]], abs=10**-decimals)
    rows = pq.read_table(results / CELL / "predictions.parquet").to_pylist()
    assert seen == {f"{r['doc_id']}:{r['start']}-{r['end']}" for r in rows} and len(seen) == 13


@pytest.mark.parametrize("index", ["train+kb", "coded"])
@pytest.mark.parametrize("linker", ["exact", "tfidf", "plain"])
def test_equals_the_experiment(results, tmp_path, linker, index):
    found = cells.find(results / CELL, linker=f"{linker}/{index}")
    check_equal(results, linker, index, list(Annotator(found, top=100).annotate(TESTS)))
    bundle.write(found, tmp_path / "b")
    again = Annotator(bundle.read(tmp_path / "b"), top=100)
    check_equal(results, linker, index, list(again.annotate(TESTS)))
    check_equal(results, linker, index, [m for t in TESTS for m in again.annotate([t])])


@pytest.mark.parametrize("linker", ["mention", "context"])
def test_equals_the_experiment_with_an_encoder(tmp_path, minilm, linker):
    """Vectors depend in their last digits on the batch, so scores are compared to five."""
    results = annotating.make(tmp_path, minilm)
    found = cells.find(results / CELL, linker=f"{linker}/train+kb")
    check_equal(results, linker, "train+kb", list(Annotator(found, top=100).annotate(TESTS)), 5)
    bundle.write(found, tmp_path / "b")
    kept = pq.read_table(tmp_path / "b/linkers/0/kb/entries.parquet")["text"].to_pylist()
    assert set(kept) == {""}, "strings that are compared as vectors are left out"
    check_equal(results, linker, "train+kb", list(Annotator(bundle.read(tmp_path / "b"), top=100).annotate(TESTS)), 5)


@pytest.mark.parametrize("name, lowercase, markers", [("krissbert", "auto", ("<ENT>", "</ENT>")), ("biobert", "yes", None)])
def test_a_bundle_reads_text_as_the_experiment_did(tmp_path, name, lowercase, markers):
    """Its encoder comes in the files it was published with: the bundle says how case was read, and has the markers' tokens."""
    folder = getattr(published, name)(tmp_path / "model" / "weights")
    if not (folder / "model.safetensors").exists():
        from transformers import AutoModel

        AutoModel.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)
    stamp = tmp_path / "model" / "fetched.json"
    stamp.write_text(json.dumps({"folder": "weights", "reference": {"path": "x", "lowercase": lowercase}}))
    results = annotating.make(tmp_path, stamp)
    found = cells.find(results / CELL, linker="context/train+kb")
    bundle.write(found, tmp_path / "b")
    annotator = Annotator(bundle.read(tmp_path / "b"), top=100)
    check_equal(results, "context", "train+kb", list(annotator.annotate(TESTS)), 5)
    encoder = annotator.linker.encoder
    assert encoder.markers == markers and encoder.strings(["GOUT"])[0].ids == encoder.strings(["gout"])[0].ids


def test_hybrid_equals_fuse(results, tmp_path):
    """By the stage's own `fuse` on the two linkers' rankings."""
    end = results / "end_to_end/c/none/none/dictionary/untrained/seed0"
    paths = [end / name / "train+kb/linked.parquet" for name in ("tfidf", "exact")]
    fuse(results / "specs/linkers/both.json", paths, paths, results / "corpora/c/mentions.parquet", tmp_path / "p.parquet", tmp_path / "c.parquet")
    expected: dict[str, list] = {}
    for row in pq.read_table(tmp_path / "p.parquet").to_pylist():
        expected.setdefault(row["mention_id"], []).append((row["cui"], row["score"]))
    found = cells.find(results / CELL, linker="both/train+kb")
    for i, mentions in enumerate(Annotator(found, top=100).annotate(TESTS)):
        for m in mentions:
            assert [(c.cui, c.score) for c in m.concepts] == expected[f"d{i}:{m.start}-{m.end}"]


def test_hybrid_with_tuned_weights(tmp_path):
    """Weights are those that the experiment tuned; scores are their sums over the linkers' own rankings."""
    results = annotating.make(tmp_path, gold=True)
    settings = {"kind": "hybrid", "linkers": ["tfidf", "exact"], "fusion": "score", "step": 0.1}
    spec = annotating.spec(results, "linkers", "scored", settings)
    cells_of = [results / "normalization/c/none/none" / name / "train+kb" for name in ("tfidf", "exact")]
    out = results / "normalization/c/none/none/scored/train+kb"
    predictions, others = [c / "predictions.parquet" for c in cells_of], [c / "calibration.parquet" for c in cells_of]
    fuse(spec, predictions, others, results / "corpora/c/mentions.parquet", out / "predictions.parquet", out / "calibration.parquet")
    found = cells.find(results / CELL, linker="scored/train+kb")
    assert found.weights == tables.provenance(out / "predictions.parquet")["weights"] and sum(found.weights) == pytest.approx(1)
    ranked = [{m: dict(r) for m, r in linked(results, name, "train+kb").items()} for name in ("tfidf", "exact")]
    for i, mentions in enumerate(Annotator(found, top=100).annotate(TESTS)):
        for m in mentions:
            lists = [r.get(f"d{i}:{m.start}-{m.end}", {}) for r in ranked]
            expected = {c: sum(w * x.get(c, 0) for w, x in zip(found.weights, lists, strict=True)) for c in {*lists[0], *lists[1]}}
            assert {c.cui: c.score for c in m.concepts} == pytest.approx(expected, abs=1e-6)
            assert [c.score for c in m.concepts] == sorted((c.score for c in m.concepts), reverse=True)


def test_what_a_mention_says(annotator):
    [first, second, none] = annotator.annotate(TESTS)
    assert none == []
    by = {(m.surface, m.start): m for m in first}
    huntington = next(m for (s, _), m in by.items() if s == "Huntington disease")
    assert (huntington.concept.cui, huntington.concept.name, huntington.concept.semantic_types) == ("C0020179", "Huntington disease", ("T047",))
    assert not huntington.nil and not huntington.ambiguous and huntington.score == 1
    gout = next(m for (s, _), m in by.items() if s == "gout")
    assert gout.ambiguous and {c.cui for c in gout.concepts} == {"C0018099", "C9999999"}
    hd = [m for m in first if m.surface == "HD"]
    assert [m.expanded for m in hd] == ["Huntington disease"] * 2 and all(m.concept.cui == "C0020179" for m in hd)
    assert [m.surface for m in second][-1] == "gout" and TESTS[1][second[-1].start :].startswith("gout.")


def test_thresholds_decide_about_nil(results):
    found = cells.find(results / CELL, linker="plain/coded")
    [mentions, *_] = Annotator(found, nil_threshold=0.99).annotate(TESTS)
    assert {m.nil for m in mentions} == {True, False}
    for m in mentions:
        assert m.nil == (not m.concepts or m.concepts[0].score < 0.99) and (m.concept is None) == m.nil


def test_the_threshold_is_that_of_the_evaluation(results, tmp_path):
    """With gold mentions in dev: the threshold that evaluation chooses, whether it ran before or not; the card tells its figures."""
    folder = annotating.make(tmp_path, gold=True)
    found = cells.find(folder / CELL, linker="plain/coded")
    evaluated = folder / "evaluation"
    corpus, spec = folder / "corpora/c", folder / "specs/corpora/c.json"
    paths = [folder / "normalization/c/none/none" / name / "coded/predictions.parquet" for name in ("plain", "exact")]
    evaluate(corpus, spec, folder / "normalization", paths, evaluated / "normalization/c.parquet", evaluated / "nil/c.parquet")
    rows = pq.read_table(evaluated / "nil/c.parquet").to_pylist()
    [chosen] = {r["threshold"] for r in rows if r["linker"] == "plain" and r["chosen"]}
    assert found.nil_threshold == chosen and 0 < chosen <= 1
    again = cells.find(folder / CELL, linker="plain/coded")
    assert again.nil_threshold == chosen and again.card == found.card
    told = {(m["task"], m["bucket"], m["metric"]): (m["value"], m["n"]) for m in found.card["measured"]}
    assert told["normalization", "all", "acc@1_nil"][1] == 2 and ("recognition", "all", "strict_f1") in told
    assert cells.find(results / CELL, linker="plain/coded").nil_threshold is None, "no dev mentions, no threshold"


@pytest.mark.parametrize("changed", ["names", "entries", "linker"])
def test_an_unfinished_run_is_not_gone_on_with_after_the_linker_was_made_anew(tmp_path, changed):
    """The card names the cell; what its linker is made of is told apart by the digest of its files."""
    folder = annotating.make(tmp_path)
    before = cells.find(folder / CELL, linker="plain/coded")
    assert cells.find(folder / CELL, linker="plain/coded").contents == before.contents != ""
    if changed == "names":
        rows = tables.read(tables.NAMES, folder / "kb/k/names.parquet").to_pylist()
        tables.write(tables.NAMES, folder / "kb/k/names.parquet", [{**row, "source": "other"} for row in rows])
    elif changed == "entries":
        path = folder / "embeddings/plain/kb.k/entries.parquet"
        tables.write(tables.EMBEDDED, path, tables.read(tables.EMBEDDED, path).slice(1))
    else:
        path = folder / "specs/linkers/plain.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"stage_version": 99}))
    after = cells.find(folder / CELL, linker="plain/coded")
    assert after.contents != before.contents
    assert changed == "names" or after.card == before.card


def test_sections_lose_nothing_and_change_nothing(annotator):
    """A long document gives what its paragraphs give, at their places; its abbreviations hold throughout."""
    rng = random.Random(5)
    filler = " ".join(f"word{i}" for i in range(200)) + "."
    parts = [rng.choice([filler, "Gout and diabetes mellitus were seen.", "HD came back."]) for _ in range(400)]
    long = "Huntington disease (HD) is here.\n\n" + "\n\n".join(parts)
    assert len(list(sections(long))) > 5
    covered = "".join(long[a:b] for a, b in sections(long))
    assert "".join(covered.split()) == "".join(long.split())
    [found] = annotator.annotate([long])
    assert all(long[m.start : m.end] == m.surface for m in found)
    expected = Counter(
        {"Gout": parts.count("Gout and diabetes mellitus were seen."), "diabetes mellitus": parts.count("Gout and diabetes mellitus were seen.")}
    )
    expected |= {"HD": parts.count("HD came back.") + 1, "Huntington disease": 1}
    assert Counter(m.surface for m in found) == expected
    assert all(m.expanded == "Huntington disease" for m in found if m.surface == "HD")
    [whole] = [next(iter(units.sentences([long])))]
    pieces = [(a + x, a + y) for a, b in sections(long) for x, y in next(units.sentences([long[a:b]]))]
    assert pieces == whole, "sections end where no sentence goes on"


def test_a_paragraph_without_end_is_cut():
    for text in ("x" * (3 * MAX_SECTION), "word " * MAX_SECTION, "line\n" * MAX_SECTION, " \n\n" * MIN_SECTION):
        cuts = list(sections(text))
        assert all(b - a <= MAX_SECTION for a, b in cuts)
        assert "".join("".join(text[a:b] for a, b in cuts).split()) == "".join(text.split())


# ------------------------------------------------------------------------------------------------------------------- input


@pytest.fixture
def notes(tmp_path):
    """A folder as people have them: good notes, and every kind of bad one."""
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    for i, text in enumerate(TESTS):
        (folder / "sub" / f"n{i}.txt").write_bytes(text.encode())
    (folder / "a.txt").write_bytes("\ufeffGout\r\n\u0085 und caf\u00e9".encode())
    (folder / "empty.txt").touch()
    (folder / "blank.txt").write_text(" \n\t\n")
    (folder / "latin.txt").write_bytes("Gout, caf\u00e9".encode("latin-1"))
    (folder / "wide.txt").write_bytes("Gout".encode("utf-16"))
    (folder / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (folder / "packed.txt").write_bytes(b"\x1f\x8b\x08\0")
    (folder / "letter.txt").write_bytes(b"{\\rtf1 Gout}")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    with open(folder / "huge.txt", "wb") as handle:
        handle.truncate(50_000_000)
    (folder / ".hidden").write_text("Gout")
    return folder


BAD = {
    "blank.txt": "empty", "empty.txt": "empty", "gone.txt": "no file", "huge.txt": "too large", "latin.txt": "wrong encoding", "letter.txt": "binary file",
    "packed.txt": "binary file", "picture.txt": "binary file", "wide.txt": "wrong encoding", "closed": "unreadable folder",
}  # fmt: skip


def test_bad_input_is_listed_and_the_rest_annotated(annotator, notes, tmp_path, monkeypatch):
    (notes / "closed").mkdir()
    scan = os.scandir

    def guarded(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    summary = run.annotate([str(notes)], annotator, "jsonl", tmp_path / "out", Options(), {})
    errors = [json.loads(line) for line in (tmp_path / "out/errors.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert {e["doc_id"]: e["error"] for e in errors} == BAD and len(errors) == len(BAD) == summary.errors
    records = [json.loads(line) for line in (tmp_path / "out/annotations.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert [r["doc_id"] for r in records] == ["a.txt", "sub/n0.txt", "sub/n1.txt", "sub/n2.txt"]
    for r in records:
        assert r["text"].encode() == (notes / r["doc_id"]).read_bytes(), "the text is untouched"
        assert all(r["text"][m["spans"][0]["start"] : m["spans"][0]["end"]] == m["surface"] for m in r["mentions"])
    assert [m["surface"] for m in records[0]["mentions"]] == ["Gout"]


def powerless():
    """Before a program starts, take from a privileged user what ignores the permissions of files; others have none of it."""
    with suppress(AttributeError):
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.slow
def test_what_may_not_be_read_is_listed(results, tmp_path):
    """Folders and files without permission, in a folder, behind a pattern, or named: listed, exit code 3, the rest annotated."""
    folder = tmp_path / "notes"
    for name in ("a.txt", "b/b.txt", "closed/c.txt", "z.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("Gout")
    (folder / "a.txt").chmod(0)
    (folder / "closed").chmod(0)
    closed, file = ("closed", "unreadable folder"), ("a.txt", "unreadable file")
    expected = {
        str(folder): [file, ("b/b.txt", ""), closed, ("z.txt", "")],
        str(folder / "*" / "*.txt"): [("b/b.txt", ""), closed],
        str(folder / "**" / "*.txt"): [file, ("b/b.txt", ""), ("z.txt", ""), closed],
        str(folder / "closed" / "c.txt"): [("c.txt", "unreadable folder")],
    }
    listing = "import json, sys\nfrom mentionforge.annotate.reading import *\no = Options()\nfor given in sys.argv[1:]:\n"
    listing += "    print(json.dumps([(i.doc_id, i.error) for i in read_items(list_files([given], o), o)]))"
    options = ["--from", str(results / CELL), "--linker", "exact/coded"]
    try:
        done = subprocess.run([sys.executable, "-c", listing, *expected], capture_output=True, text=True, preexec_fn=powerless)
        assert [json.loads(line) for line in done.stdout.splitlines()] == [list(map(list, found)) for found in expected.values()], done.stderr
        command = [sys.executable, "-m", "mentionforge.cli", "annotate", str(folder), *options]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=powerless)
        assert done.returncode == 3 and "4 documents read = 2 annotated + 2 errors; 2 mentions" in done.stderr, done.stderr
        assert [json.loads(line)["doc_id"] for line in done.stdout.splitlines()] == ["b/b.txt", "z.txt"]
    finally:
        (folder / "closed").chmod(0o700)


def test_a_document_that_cannot_be_annotated_costs_no_other(annotator, notes, tmp_path, monkeypatch):
    whole = annotator._read

    def failing(batch):
        if any("Parkinson" in text for _, _, text in batch):
            raise ZeroDivisionError
        whole(batch)

    monkeypatch.setattr(annotator, "_read", failing)
    summary = run.annotate([str(notes / "sub")], annotator, "jsonl", tmp_path / "out", Options(), {})
    assert (summary.documents, summary.errors) == (2, 1)
    [error] = [json.loads(line) for line in (tmp_path / "out/errors.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert (error["doc_id"], error["error"], error["why"]) == ("n1.txt", "not annotated", "ZeroDivisionError")


def texts_of(inputs, **options):
    o = Options(**options)
    return [(i.doc_id, i.text, i.error) for i in reading.read_items(reading.list_files([str(x) for x in inputs], o), o)]


def test_tables_patterns_and_lines(tmp_path, monkeypatch):
    rows = [{"id": "p1", "note": "Gout, \u201cquoted\u201d\r\n\nsecond line"}, {"id": "p1", "note": "again"}, {"id": "", "note": ""}]
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, ["id", "note"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist([*rows, {"id": None, "note": None}]), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text('{"doc_id": "j", "text": "Gout"}\n{"doc_id": "k"}\n["x"]\n{broken\n')
    expected = [("p1", rows[0]["note"], ""), ("p1-2", "again", "")]
    assert texts_of([tmp_path / "t.csv"], text_column="note") == [*expected, ("t.csv-3", "", "empty")]
    assert texts_of([tmp_path / "t.parquet"], text_column="note") == [*expected, ("t.parquet-3", "", "empty"), ("t.parquet-4", "", "empty")]
    assert texts_of([tmp_path / "t.csv"]) == [(i, "", "no text") for i in ("t.csv-1", "t.csv-2", "t.csv-3")]
    assert texts_of([tmp_path / "t.jsonl"]) == [
        ("j", "Gout", ""),
        ("t.jsonl-2", "", "no text"),
        ("t.jsonl-3", "", "no text"),
        ("t.jsonl-4", "", "broken row"),
    ]
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    assert texts_of([tmp_path / "*.txt", tmp_path / "b.txt"]) == [("a.txt", "a", ""), ("b.txt", "b", ""), ("b-2.txt", "b", "")]
    assert texts_of([tmp_path], pattern="*.txt") == [("a.txt", "a", ""), ("b.txt", "b", "")]
    for missing in (tmp_path / "none.txt", tmp_path / "*.none"):
        with pytest.raises(UserError, match="no such input"):
            texts_of([missing])
    done = subprocess.run(
        [sys.executable, "-c", "from mentionforge.annotate.reading import *\no = Options(by_line=True)\nprint([i.text for i in read_items(list_files(['-'], o), o)])"],
        input=b"Gout\n\ndiabetes\n", capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode().strip() == "['Gout', '', 'diabetes']"


# ------------------------------------------------------------------------------------------------------------------ output


def test_every_format_holds_every_document(annotator, notes, tmp_path):
    """Read back by the readers of corpora: texts, spans and concepts are those of the JSON Lines."""
    found = {}
    for form in writing.OUTPUT_NAMES:
        run.annotate([str(notes / "sub")], annotator, form, tmp_path / form, Options(), {})
        if form in READERS:
            path = tmp_path / form / writing.OUTPUT_NAMES[form]
            found[form] = list(READERS[form](path, "CUI", (), Tally()))
    assert set(writing.OUTPUT_NAMES) - set(found) == {"html", "fhir", "omop", "omop-parquet"}
    for form, documents in found.items():
        assert [d.doc_id for d in documents] == [f"n{i}" + (".txt" if form != "brat" else "") for i in range(3)], form
        for d, text, other in zip(documents, TESTS, found["jsonl"], strict=True):
            expected = text if form != "pubtator" else text.replace("\r", " ").replace("\n", " ")
            assert d.text == expected, form
            assert [a.spans for a in d.annotations] == [a.spans for a in other.annotations], form
            assert [a.ids for a in d.annotations] == [a.ids for a in other.annotations], form
    page = (tmp_path / "html/html/n0.txt.html").read_text()
    assert page.count("<mark") == 8 and "C0020179" in page
    ann = (tmp_path / "brat/brat/n0.ann").read_text()
    assert "Expanded T1" in ann and "Ambiguous" in ann and "read as Huntington disease" in ann
    conf = (tmp_path / "brat/brat/annotation.conf").read_text()
    used = {line.split("\t")[1].split()[0] for line in ann.splitlines() if line.startswith("A")}
    assert used <= {line.split("\t")[0] for line in conf.splitlines()}


def test_the_documentation_names_every_format(root):
    [item] = re.findall(r"^- Formats: .*?(?=^- |^$)", (root / "docs/annotate.md").read_text(), re.M | re.S)
    assert {form.name for form in FORMATS} == set(re.findall(r"`(\w[\w-]*)`", item))


def test_names_of_documents_are_safe_file_names():
    ids = ["../../etc/x", "a|b", "A.txt", "a.txt", "a", "/abs", "x" * 400, "..", "tab\there", "index.html"]
    for suffix in (".txt", ".html"):
        places = [place for _, place in with_paths([{"doc_id": i} for i in ids], suffix)]
        assert len({p.lower() for p in places}) == len(ids)
        assert all(not p.startswith(("/", ".")) and ".." not in p.split("/") and len(p) < 240 and p != "index.html" for p in places)


def test_markup_in_a_text_stays_text():
    r = {"doc_id": "<b>", "source": "s", "text": "<script>alert(1)</script> gout", "mentions": []}
    assert "<script>" not in page(r) and "&lt;script&gt;" in page(r)


# --------------------------------------------------------------------------------------------------------- killed runs


def test_goes_on_where_it_stopped(annotator, notes, tmp_path, monkeypatch):
    """Killed in the middle of a run, it ends with the same bytes, and annotates nothing twice."""
    monkeypatch.setattr(run, "PART_DOCUMENTS", 2)
    whole = run.annotate([str(notes)], annotator, "jsonl", tmp_path / "whole", Options(), {})
    real, calls = run.annotate_items, []

    def dying(items, a):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append([i.doc_id for i in items])
        return real(items, a)

    monkeypatch.setattr(run, "annotate_items", dying)
    with pytest.raises(KeyboardInterrupt):
        run.annotate([str(notes)], annotator, "jsonl", tmp_path / "out", Options(), {})
    assert not (tmp_path / "out/annotations.jsonl").exists()
    (tmp_path / "out/.annotate/.part-0000003.jsonl.1.tmp").write_text("half a li")
    with pytest.raises(UserError, match="folder not empty"):
        run.annotate([str(notes)], annotator, "jsonl", tmp_path / "out", Options(max_mb=1), {})
    monkeypatch.setattr(run, "annotate_items", lambda items, a: (calls.append([i.doc_id for i in items]), real(items, a))[1])
    again = run.annotate([str(notes)], annotator, "jsonl", tmp_path / "out", Options(), {})
    assert again.resumed == 6 and (again.documents, again.mentions, again.errors) == (whole.documents, whole.mentions, whole.errors)
    names = [name for call in calls for name in call]
    assert len(names) == len(set(names)) == whole.documents + whole.errors
    for file in ("annotations.jsonl", "errors.jsonl"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    calls.clear()
    assert run.annotate([str(notes)], annotator, "jsonl", tmp_path / "out", Options(), {}).documents == whole.documents and not calls
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["annotate.json", "annotations.jsonl", "errors.jsonl"]


@pytest.mark.slow
def test_command_line(results, notes, tmp_path):
    """Exit codes, and one line instead of a traceback."""
    command = [sys.executable, "-m", "mentionforge.cli", "annotate"]
    options = ["--from", str(results / CELL), "--linker", "exact/coded"]
    done = subprocess.run([*command, str(notes), *options, "--to", "brat", "--out", str(tmp_path / "o")], capture_output=True, text=True)
    assert done.returncode == 3 and "4 annotated + " in done.stderr, done.stderr
    assert (tmp_path / "o/brat/sub/n0.ann").is_file()
    done = subprocess.run([*command, "-", *options], input="Gout today", capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["mentions"][0]["surface"] == "Gout", done.stderr
    for wrong in (["--from", str(results), "--linker", "exact/nothing"], ["--from", str(notes)], [*options, "--bundle", "x"], [*options, "--to", "brat"]):
        done = subprocess.run([*command, str(notes), *wrong], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done.stderr


def test_cells_by_name(results):
    for given, recognizer, linker in (
        (results, "dictionary", "exact/coded"),
        (results, None, "c/none/none/exact/coded"),
        (results / "end_to_end/c/none/none/dictionary/untrained/seed0/exact/coded", None, None),
        (results / "normalization/c/none/none/exact/coded", "untrained/seed0", None),
    ):
        cell = cells.cell_of(Path(given), recognizer, linker)
        assert cell.recognition == ("c", "none", "none", "dictionary", "untrained", "seed0") and cell.linking == ("c", "none", "none", "exact", "coded")
    with pytest.raises(UserError, match="several cells"):
        cells.cell_of(results / CELL)
    with pytest.raises(UserError, match=r"no such cell.*dictionary"):
        cells.cell_of(results, "tagger", "exact/coded")
    with pytest.raises(UserError, match="missing file"):
        cells.find(results, None, "absent/coded")


# ----------------------------------------------------------------------------------------------------------------- bundles


def test_a_bundle_is_refused_if_anything_differs(results, tmp_path):
    found = cells.find(results / CELL, linker="tfidf/coded")
    bundle.write(found, tmp_path / "b")
    files = sorted(p for p in (tmp_path / "b").rglob("*") if p.is_file())
    assert {p.suffix for p in files} <= {".json", ".parquet", ".npy", ".md", ".safetensors", ".txt"}
    assert b"licensed words" not in b"".join(p.read_bytes() for p in files), "no definitions"
    bundle.read(tmp_path / "b")
    for path in files:
        if path.name == "bundle.json":
            continue
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match="damaged bundle"):
            bundle.read(tmp_path / "b")
        path.unlink()
        with pytest.raises(UserError, match="damaged bundle"):
            bundle.read(tmp_path / "b")
        path.write_bytes(content)
    (tmp_path / "b/more.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"damaged bundle.*more\.bin"):
        bundle.read(tmp_path / "b")
    with pytest.raises(UserError, match="no bundle"):
        bundle.read(tmp_path)
    with pytest.raises(UserError, match="bundle exists"):
        bundle.write(found, tmp_path / "b")


def test_archives_are_the_same_bundle(results, tmp_path):
    found = cells.find(results / CELL, linker="tfidf/coded")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bundle.write(found, tmp_path / name / "b.tar")
    assert (tmp_path / "one/b.tar").read_bytes() == (tmp_path / "two/b.tar").read_bytes()
    assert list((tmp_path / "one").iterdir()) == [tmp_path / "one/b.tar"]
    check_equal(results, "tfidf", "coded", list(Annotator(bundle.read(tmp_path / "one/b.tar"), top=100).annotate(TESTS)))
    for odd in (tarfile.TarInfo("../climbs"), tarfile.TarInfo("/tmp/climbs"), tarfile.TarInfo("link")):
        odd.type, odd.linkname = (tarfile.SYMTYPE, "/etc/hostname") if odd.name == "link" else (tarfile.REGTYPE, "")
        with tarfile.open(tmp_path / "odd.tar", "w") as archive:
            archive.addfile(odd)
        with pytest.raises(UserError, match=f"{odd.name} is no plain file"):
            bundle.read(tmp_path / "odd.tar")
    (tmp_path / "broken.tar").write_bytes((tmp_path / "one/b.tar").read_bytes()[:1000])
    with pytest.raises(UserError, match="bundle"):
        bundle.read(tmp_path / "broken.tar")


def test_licensed_text_must_be_asked_for(tmp_path):
    umls = annotating.make(tmp_path / "u", kb={"source": "rrf", "path": "x"})
    notes = annotating.make(tmp_path / "n", corpus=annotating.CORPUS | {"licensed": "sign"})
    snomed = annotating.make(tmp_path / "s", kb={"source": "rf2", "path": "resources/downloads/x.zip"})
    table = annotating.make(tmp_path / "t", kb={"source": "table", "path": "x.csv", "licensed": "ask"})
    for results, what in ((umls, "umls"), (notes, "corpus c"), (snomed, "snomedct"), (table, "kb k")):
        found = cells.find(results / CELL, linker="exact/train+kb")
        assert found.licensed == [what]
        with pytest.raises(UserError, match=f"licensed text.*{what}"):
            bundle.write(found, results / "b")
        assert not (results / "b").exists()
        bundle.write(found, results / "b", licensed_text=True)
        with pytest.raises(UserError, match=f"licensed text.*{what}"):
            bundle.read(results / "b")
        assert what in (results / "b/README.md").read_text()
        bundle.read(results / "b", licensed_text=True)


# -------------------------------------------------------------------------------------------------------------------- memory


MANY = r"""
import ctypes, dataclasses, random, sys
from pathlib import Path
from annotating import CELL, untrained
from mentionforge.annotate import cells
from mentionforge.annotate.pipeline import Annotator

found = cells.find(Path(sys.argv[1]) / CELL, linker="exact/train+kb")
annotator = Annotator(dataclasses.replace(found, recognizer=untrained(Path(sys.argv[2])), dictionary=None, dtype="bfloat16"))
rng = random.Random(1)
for i in range(360):
    list(annotator.annotate(["\n\n".join(" ".join("b" * rng.randrange(3, 300)) for _ in range(rng.randrange(1, 9)))]))
    if i % 120 == 119:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm") as handle:
            print(int(handle.read().split()[1]) * 4096 // 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_shapes(results, tmp_path):
    """Documents of ever new lengths in mixed precision: about 8 MiB from the 120th to the 360th, and 280 with the caches of kernels as they come."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("CACHE_CAPACITY")} | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(annotating.__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", MANY, str(results), str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first, _, last = map(int, done.stdout.split())
    assert last - first < 70, done.stdout


def test_rankings_are_remembered_within_bounds(results, monkeypatch):
    """However many mentions come: no more candidates are kept than allowed, and what is forgotten is searched again."""
    annotator = Annotator(cells.find(results / CELL, linker="tfidf/train+kb"), top=3)
    expected = list(annotator.annotate(TESTS))
    assert len(annotator.linker._known) > 2
    monkeypatch.setattr(loaded, "CACHED_CANDIDATES", 6)
    for _ in range(2):
        for text, mentions in zip(TESTS, expected, strict=True):
            assert list(annotator.annotate([text])) == [mentions]
            assert len(annotator.linker._known) <= 2


@pytest.mark.slow
def test_killed_processes(results, tmp_path):
    """kill -9 at moments of its own choosing, three times; started again, the run ends with the bytes of one that was left alone."""
    (tmp_path / "notes").mkdir()
    for i in range(300):
        (tmp_path / "notes" / f"{i:03}.txt").write_text(f"Note {i}. {TESTS[i % 3]}", encoding="utf-8", newline="")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mentionforge.annotate import cells, run\nfrom mentionforge.annotate.pipeline import Annotator\n"
        "from mentionforge.annotate.reading import Options\nrun.PART_DOCUMENTS = 5\nreal = run.annotate_items\n"
        "def slow(items, a):\n    time.sleep(0.02)\n    print('part', flush=True)\n    return real(items, a)\nrun.annotate_items = slow\n"
        f"annotator = Annotator(cells.find(Path({str(results / CELL)!r}), linker='exact/coded'))\n"
        f"run.annotate([{str(tmp_path / 'notes')!r}], annotator, 'brat', Path(sys.argv[1]), Options(), {{}})"
    )
    command = [sys.executable, "-c", code]
    rng = random.Random(3)
    parts = 0
    for _ in range(3):
        with subprocess.Popen([*command, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for _ in range(rng.randrange(3, 15)):
                parts += process.stdout.readline() == "part\n"
            process.kill()
            parts += process.stdout.read().count("part")
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True)
    assert "going on after" in done.stderr and not (tmp_path / "out/.annotate").exists(), done.stderr
    parts += done.stdout.count("part")
    assert 60 <= parts <= 63, "a killed run loses one part at most"
    subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, check=True)
    files = {p.relative_to(tmp_path / "whole"): p.read_bytes() for p in (tmp_path / "whole").rglob("*") if p.is_file() and p.name != "annotate.json"}
    assert len(files) == 602
    for name, content in files.items():
        assert (tmp_path / "out" / name).read_bytes() == content, name
