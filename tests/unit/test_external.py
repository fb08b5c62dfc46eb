"""Predictions of other systems: every format, every check, and scores that equal those counted by hand."""

import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import annotating
from mentionforge import tables
from mentionforge.annotate import cells
from mentionforge.config import load_config, normalization_cells, recognition_cells
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.evaluation.compare import ComparedCell, MentionGroup, Outcomes, cell_and_seeds, comparison_rows, comparisons
from mentionforge.evaluation.normalization import evaluate
from mentionforge.evaluation.recognition import evaluate as evaluate_recognition
from mentionforge.evaluation.settings import Statistics
from mentionforge.external.questions import write_questions
from mentionforge.external.rankings import read_rankings
from mentionforge.external.spans import read_spans
from mentionforge.normalization.linkers.external import ExternalLinker
from mentionforge.recognition.kinds.external import ExternalRecognizer

TEXTS = {
    "t1": ("train", "Old gout."),
    "d1": ("dev", "Dev gout."),
    "1": ("test", "Gout and acute renal failure."),
    "2": ("test", "No lupus; odd pain, left and right arm."),
}
MENTIONS = [
    ("t1", [(4, 8)], ["MSH:D006073"], ["C0018099"]),
    ("d1", [(4, 8)], ["MSH:D006073"], ["C0018099"]),
    ("1", [(0, 4)], ["MSH:D006073"], ["C0018099"]),
    ("1", [(9, 28)], ["MSH:D058186", "MSH:D051437"], ["C0022660", "C0035078"]),
    ("2", [(3, 8)], ["MSH:D008180"], ["C0024141"]),
    ("2", [(10, 18)], [], []),
    ("2", [(20, 24), (35, 38)], ["OMIM:1"], ["C0000001"]),
]
SURFACES = {"1:0-4:0": "Gout", "1:9-28:0": "acute renal failure", "2:3-8:0": "lupus", "2:10-18:0": "odd pain", "2:20-38:0": "left arm"}
XREFS = [("MSH", "D006073", "C0018099"), ("MSH", "D058186", "C0022660"), ("MSH", "D051437", "C0035078"), ("MSH", "D008180", "C0024141")]
XREFS += [("OMIM", "1", "C0000001"), ("OMIM", "2", "C0000001"), ("OMIM", "2", "C0000002")]
RIGHT = {"1:0-4:0": "C0018099", "1:9-28:0": "MESH:D051437", "2:3-8:0": "D008180", "2:10-18:0": "None", "2:20-38:0": "OMIM:1"}
"""The right answer of each test mention, in all ways in which ids may be written."""


def mention(doc_id, pieces, ids, cuis):
    surface = " ".join(TEXTS[doc_id][1][a:b] for a, b in pieces)
    return {
        "doc_id": doc_id,
        "mention_id": f"{doc_id}:{pieces[0][0]}-{pieces[-1][1]}:0",
        "split": TEXTS[doc_id][0],
        "spans": [{"start": a, "end": b} for a, b in pieces],
        "surface": surface,
        "expanded": None,
        "entity_type": "Disease",
        "concept_ids": ids,
        "cuis": cuis,
        "concept_cuis": [[c] for c in cuis],
        "composite": len(ids) > 1,
        "ood_bucket": "unmapped" if not cuis else "seen_mention" if surface.lower() == "gout" else "unseen_concept",
    }


@pytest.fixture
def corpus(tmp_path):
    """A corpus of four documents with its knowledge base, and its spec."""
    documents = [{"doc_id": d, "split": s, "text": t, "sentences": [{"start": 0, "end": len(t)}]} for d, (s, t) in TEXTS.items()]
    tables.write(tables.DOCUMENTS, tmp_path / "c/documents.parquet", documents)
    tables.write(tables.MENTIONS, tmp_path / "c/mentions.parquet", [mention(*m) for m in MENTIONS])
    names = [{"cui": c, "name": f"name of {c}", "source": "MSH", "term_type": "MH", "preferred": True} for c in sorted({x[2] for x in XREFS})]
    tables.write(tables.NAMES, tmp_path / "kb/names.parquet", names)
    tables.write(tables.XREFS, tmp_path / "kb/xrefs.parquet", [dict(zip(("source", "code", "cui", "via"), (*x, "sssom"), strict=True)) for x in XREFS])
    tables.write(tables.RETIRED, tmp_path / "kb/retired.parquet", [])
    return tmp_path


def specs(folder, entry, **of_corpus):
    settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}, **of_corpus).model_dump(mode="json")
    (folder / "corpus.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
    kind = "linkers" if isinstance(entry, ExternalLinker) else "recognizers"
    (folder / "spec.json").write_text(json.dumps({"kind": kind, "name": "peer", "settings": entry.model_dump(mode="json")}))
    return folder / "spec.json", folder / "corpus.json"


def link(folder, path, of_corpus=None, **settings):
    spec, corpus_spec = specs(folder, ExternalLinker(kind="external", path=str(path), **settings), **(of_corpus or {}))
    out = folder / "normalization/c/none/none/peer/external/predictions.parquet"
    counts = read_rankings(spec, path, folder / "c", corpus_spec, folder / "kb", out, out.with_name("calibration.parquet"))
    rows = tables.read(tables.LINKED, out).to_pylist()
    found = {}
    for row in rows:
        found.setdefault(row["mention_id"], []).append(row["cui"])
    return counts, found, out


def recognize(folder, path, of_corpus=None, **settings):
    spec, corpus_spec = specs(folder, ExternalRecognizer(kind="external", path=str(path), **settings), **(of_corpus or {}))
    out = folder / "recognition/c/none/none/peer/external/seed0/predictions.parquet"
    counts = read_spans(spec, path, folder / "c", corpus_spec, out)
    return counts, [(r["doc_id"], r["start"], r["end"], r["score"]) for r in tables.read(tables.RECOGNIZED, out).to_pylist()], out


def table(folder, rows, name="peer.csv"):
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(dict.fromkeys(key for row in rows for key in row)), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def by_span(mention_id, **more):
    doc_id, span, _ = mention_id.split(":")
    start, _, end = span.partition("-")
    return {"doc_id": doc_id, "start": int(start), "end": int(end), **more}


def answers(**changes):
    return [{"mention_id": m, "concept": changes.get(m, c)} for m, c in RIGHT.items()]


ALL_RIGHT = {"1:0-4:0": ["C0018099"], "1:9-28:0": ["C0035078"], "2:3-8:0": ["C0024141"], "2:20-38:0": ["C0000001"]}


# ---------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["peer.csv", "peer.tsv", "peer.jsonl"])
@pytest.mark.parametrize("place", ["mention_id", "span", "surface"])
def test_tables_by_mention_and_by_span(corpus, name, place):
    rows = answers()
    if place != "mention_id":
        surface = {m: {"surface": s} if place == "surface" else {} for m, s in SURFACES.items()}
        rows = [by_span(r["mention_id"], concept=r["concept"], **surface[r["mention_id"]]) for r in rows]
    counts, found, out = link(corpus, table(corpus, rows, name))
    assert found == ALL_RIGHT
    assert counts["test"] == {"mentions": 5, "answered": 5, "no_concept": 1, "missing": 0, "first_missing": []}
    assert counts["dev"]["missing"] == 1 and counts["concepts_not_in_kb"] == 0
    made = tables.provenance(out)
    assert made["external"]["system"] == "peer" and len(made["inputs"]["predictions"]) == 64 and made["counts"] == counts


def test_columns_of_other_names_and_ends_that_are_the_last_character(corpus):
    rows = [by_span(m, cui=c) for m, c in RIGHT.items()]
    rows = [{"pmid": r["doc_id"], "from": r["start"], "to": r["end"] - 1, "cui": r["cui"]} for r in rows]
    columns = {"doc_id": "pmid", "start": "from", "end": "to", "concept": "cui"}
    path = table(corpus, rows)
    assert link(corpus, path, columns=columns, end="inclusive")[1] == ALL_RIGHT
    with pytest.raises(UserError, match=r"unknown mention in .*peer\.csv:1: 1 0-3"):
        link(corpus, path, columns=columns)
    with pytest.raises(UserError, match=r"missing column.*concept is 'cuis'; there are pmid, from, to, cui"):
        link(corpus, path, columns=columns | {"concept": "cuis"})
    with pytest.raises(UserError, match=r"missing column.*: concept; there are pmid"):
        link(corpus, path)


def test_parquet_with_lists_and_whole_numbers_that_became_floats(corpus):
    import pandas as pd

    rows = [by_span(m, concept=["C0000002", c] if c != "None" else []) for m, c in RIGHT.items()]
    frame = pd.DataFrame(rows).assign(start=lambda f: f["start"].astype(float))
    frame.to_parquet(corpus / "peer.parquet")
    assert link(corpus, corpus / "peer.parquet")[1] == {m: ["C0000002", *c] for m, c in ALL_RIGHT.items()}


BRAT = {
    "1": ["T1\tDisease 0 4\tGout", "N1\tReference T1 UMLS:C0018099\tgout", "T2\tDisease 9 28\tacute renal failure", "N2\tReference T2 MESH:D051437\tx"],
    "2": ["T1\tDisease 3 8\tlupus", "N1\tReference T1 MESH:D008180\tx", "T2\tDisease 10 18\todd pain", "T3\tDisease 20 24;35 38\tleft arm"],
}
BRAT["2"].append("N3\tReference T3 OMIM:1\tx")


def brat(folder):
    place = folder / "brat"
    place.mkdir()
    for doc_id, lines in BRAT.items():
        (place / f"{doc_id}.txt").write_text(TEXTS[doc_id][1])
        (place / f"{doc_id}.ann").write_text("".join(f"{line}\n" for line in lines))
    return place


def pubtator(folder, doc_2="No lupus; odd pain, left and right arm."):
    lines = ["1|t|Gout and acute", "1|a|renal failure.", "1\t0\t4\tGout\tDisease\tMESH:D006073", "1\t9\t28\tacute renal failure\tDisease\tMESH:D051437", ""]
    lines += [f"2|t|{doc_2[:9]}", f"2|a|{doc_2[10:]}", "2\t3\t8\tlupus\tDisease\tD008180", "2\t10\t18\todd pain\tDisease\t-1"]
    (folder / "peer.txt").write_text("\n".join([*lines, "2\t20\t38\tleft and right arm\tDisease\tC0000001", ""]))
    return folder / "peer.txt"


def documents(folder):
    rows = [{"doc_id": d, "text": TEXTS[d][1], "mentions": []} for d in ("1", "2")]
    for m, concept in RIGHT.items():
        row = next(r for r in rows if r["doc_id"] == m[0])
        spans = next(p for d, p, *_ in MENTIONS if m == f"{d}:{p[0][0]}-{p[-1][1]}:0")
        row["mentions"].append({"spans": spans, "entity_type": "Disease", "concept_ids": [] if concept == "None" else [concept]})
    return table(folder, rows, "documents.jsonl")


FOLDERS = {"brat": brat, "pubtator": pubtator, "jsonl": documents}


@pytest.mark.parametrize("reader", FOLDERS)
def test_annotated_documents(corpus, reader):
    path = FOLDERS[reader](corpus)
    counts, found, _ = link(corpus, path, reader=reader)
    assert found == ALL_RIGHT and counts["test"]["no_concept"] == 1
    counts, spans, _ = recognize(corpus, path, reader=reader)
    expected = [("1", 0, 4, 1.0), ("1", 9, 28, 1.0), ("2", 3, 8, 1.0), ("2", 10, 18, 1.0)]
    assert spans == [*expected, ("2", 20, 38 if reader == "pubtator" else 24, 1.0)]
    assert counts["test"]["not_in_file"] == 0 and counts["dev"]["not_in_file"] == 1 == counts["dev"]["without_predictions"]


def test_documents_with_another_text_are_refused(corpus):
    path = pubtator(corpus, "No lupus; odd pain, left and right arms")
    with pytest.raises(UserError, match=r"another text in .*peer\.txt:6: 2 differs from the corpus from character 38"):
        link(corpus, path, reader="pubtator")


def test_mentions_in_pieces_follow_the_policy_of_the_corpus(corpus):
    path = documents(corpus)
    for policy, last in (("longest", [("2", 20, 24, 1.0)]), ("hull", [("2", 20, 38, 1.0)]), ("drop", [])):
        _, spans, _ = recognize(corpus, path, {"discontinuous": policy}, reader="jsonl")
        assert spans[4:] == last


def test_the_examples_of_the_docs_are_read(corpus, root):
    """Each format of docs/external.md, on the corpus that it is about: the same answers, and the same mentions."""
    page = (root / "docs/external.md").read_text(encoding="utf-8")
    examples = {kind: re.search(rf"```{kind}\n(.*?)```", page, re.S)[1] for kind in ("csv", "jsonl", "pubtator", "brat")}
    (corpus / "brat").mkdir()
    (corpus / "brat/1.txt").write_text(TEXTS["1"][1])
    for kind, name in (("csv", "a.csv"), ("jsonl", "a.jsonl"), ("pubtator", "a.txt"), ("brat", "brat/1.ann")):
        (corpus / name).write_text(examples[kind])
        path = corpus / name if kind != "brat" else corpus / "brat"
        reader = {"reader": kind} if kind in ("pubtator", "brat") else {}
        counts, found, _ = link(corpus, path, missing="wrong", **reader)
        assert found["1:0-4:0"] == ["C0018099", "C0000002"][: 1 + (not reader)] and found["1:9-28:0"][0] == "C0022660" and len(found) == 2
        assert counts["test"]["no_concept"] == (not reader)
        if reader:
            assert [s[:3] for s in recognize(corpus, path, **reader)[1]] == [("1", 0, 4), ("1", 9, 28)]
    (corpus / "found.csv").write_text(re.findall(r"```csv\n(.*?)```", page, re.S)[1])
    assert recognize(corpus, corpus / "found.csv")[1] == [("1", 0, 4, 0.98), ("1", 9, 28, 0.71)]


# --------------------------------------------------------------------------------------------------------------- rankings


def test_rankings_by_rank_by_score_and_as_a_list(corpus):
    ranked = [{"mention_id": m, "rank": r, "concept": c} for m in RIGHT for r, c in ((7, "C0000002"), (2, "C0018099"))]
    scored = [{"mention_id": m, "score": s, "concept": c} for m in RIGHT for s, c in ((0.5, "C0000002"), (0.5, "C0000001"), (2.5, "C0018099"))]
    listed = [{"mention_id": m, "concept": ["C0018099", "C0000002"], "score": [3, 2]} for m in RIGHT]
    _, found, out = link(corpus, table(corpus, ranked))
    assert set(map(tuple, found.values())) == {("C0018099", "C0000002")}
    assert {(r["rank"], r["score"]) for r in tables.read(tables.LINKED, out).to_pylist()} == {(1, 1.0), (2, 0.5)}
    assert set(map(tuple, link(corpus, table(corpus, scored))[1].values())) == {("C0018099", "C0000002", "C0000001")}, "equal scores: as in the file"
    _, found, out = link(corpus, table(corpus, listed, "peer.jsonl"))
    assert set(map(tuple, found.values())) == {("C0018099", "C0000002")}
    assert {(r["rank"], r["score"]) for r in tables.read(tables.LINKED, out).to_pylist()} == {(1, 3.0), (2, 2.0)}


def test_ids_of_several_concepts_and_of_none_keep_their_ranks(corpus):
    rows = [{"mention_id": m, "concept": ["MSH:D999999", "OMIM:2", "C0000002", "C0018099"]} for m in RIGHT]
    counts, found, out = link(corpus, table(corpus, rows, "peer.jsonl"))
    assert set(map(tuple, found.values())) == {("MSH:D999999", "C0000001", "C0000002", "C0018099")}
    assert [r["entry"] for r in tables.read(tables.LINKED, out).to_pylist()[:4]] == ["MSH:D999999", *["C0000001|C0000002"] * 2, "C0018099"]
    assert (counts["concepts_not_in_kb"], counts["ids_of_several_concepts"], counts["repeated_concepts"]) == (5, 5, 5)
    assert counts["examples_not_in_kb"] == ["MSH:D999999"]


def test_texts_in_the_wrong_column_are_in_no_message(corpus, capfd):
    """A file without a header, columns that are shifted, and names in place of ids: what they hold may be text of a patient, or licensed."""
    (corpus / "bare.csv").write_text("1,0,4,Gout,C0018099\n1,9,28,acute renal failure,C0022660\n")
    rows = {name: [{"mention_id": m, "concept": c, name: SURFACES[m]} for m, c in RIGHT.items()] for name in ("rank", "score")}
    for path in (corpus / "bare.csv", *(table(corpus, own, f"{name}.csv") for name, own in rows.items())):
        with pytest.raises(UserError) as error:
            link(corpus, path)
        assert "gout" not in str(error.value).lower() and str(path) in str(error.value)
    rows = [{"mention_id": m, "concept": "DISEASE9" if m == "1:0-4:0" else s} for m, s in SURFACES.items()]
    counts, _, out = link(corpus, table(corpus, rows))
    assert counts["concepts_not_in_kb"] >= 5 and counts["examples_not_in_kb"] == ["MSH:DISEASE9"]
    said = capfd.readouterr().err + json.dumps(tables.provenance(out))
    assert not any(surface in said for surface in SURFACES.values())
    counts, _, _ = link(corpus, table(corpus, [{"mention_id": m, "concept": s} for m, s in SURFACES.items()]))
    assert counts["examples_not_in_kb"] == [] and "have not the form of codes" in capfd.readouterr().err


def test_one_answer_for_all_mentions_of_a_span(corpus):
    """A composite mention whose concepts are gold rows of their own has one place, and both rows are asked of it."""
    rows = [mention(*m) for m in MENTIONS]
    whole = rows.pop(3)
    for k in (0, 1):
        part = {key: whole[key][k : k + 1] for key in ("concept_ids", "cuis", "concept_cuis")}
        rows.append(whole | part | {"mention_id": f"1:9-28:0.{k}"})
    tables.write(tables.MENTIONS, corpus / "c/mentions.parquet", rows)
    given = [by_span(m, concept="MSH:D058186|MSH:D051437" if m == "1:9-28:0" else c) for m, c in RIGHT.items()]
    counts, found, _ = link(corpus, table(corpus, given), {"composite": "split"})
    assert found["1:9-28:0.0"] == found["1:9-28:0.1"] == ["C0022660", "C0035078"] and counts["test"]["answered"] == 6


def test_questions_hold_no_answers_and_can_be_answered(corpus):
    """The table of what is asked, with a column of concepts put behind, is a file of answers."""
    assert write_questions(corpus / "c", corpus / "asked.csv") == 6
    text = (corpus / "asked.csv").read_text(encoding="utf-8")
    assert "C00" not in text and "MSH" not in text
    with open(corpus / "asked.csv", encoding="utf-8", newline="") as handle:
        rows = [row | {"concept": RIGHT.get(row["mention_id"], "C0018099")} for row in csv.DictReader(handle)]
    assert [r["surface"] for r in rows if r["mention_id"] == "2:20-38:0"] == ["left arm"]
    counts, found, _ = link(corpus, table(corpus, rows))
    assert found == ALL_RIGHT and counts["dev"]["answered"] == 1 and counts["of_train"] == 0


def test_questions_that_cannot_be_written_are_one_line(corpus):
    with pytest.raises(UserError, match=r"^missing corpus in \S+nowhere: .*, or read the corpus: snakemake \S+nowhere/mentions\.parquet$"):
        write_questions(corpus / "nowhere", corpus / "asked.csv")
    (corpus / "taken").write_text("")
    for out in (corpus / "taken/asked.csv", corpus):
        with pytest.raises(UserError, match=r"^file that cannot be written in \S+: .*; correct --out$"):
            write_questions(corpus / "c", out)
    assert not list(corpus.parent.glob(".*.tmp"))


def test_prefixes_of_ids(corpus):
    path = table(corpus, answers(**{"2:3-8:0": "C0024141"}))
    assert link(corpus, path)[1] == ALL_RIGHT
    assert link(corpus, table(corpus, answers()), id_prefix="MSH")[0]["examples_not_in_kb"] == ["MSH:C0018099"]
    path = table(corpus, answers(**{"2:3-8:0": "C0024141"}))
    counts, found, _ = link(corpus, path, {"id_prefix": "OMIM"})
    assert found == ALL_RIGHT and counts["concepts_not_in_kb"] == 0


def test_no_more_than_a_hundred_ranks(corpus):
    rows = [{"mention_id": m, "concept": [f"C1{n:06d}" for n in range(120)]} for m in RIGHT]
    counts, found, _ = link(corpus, table(corpus, rows, "peer.jsonl"))
    assert {len(f) for f in found.values()} == {100} and counts["ranks_left_out"] == 5 * 20


def test_scores_equal_those_counted_by_hand(corpus):
    """acc@1 of three right of four, NIL by the system's own answers; and what changes with one mention unanswered."""
    rows = answers(**{"2:3-8:0": "C0000002"})
    _, _, out = link(corpus, table(corpus, rows))

    def scored():
        evaluate(corpus / "c", corpus / "corpus.json", corpus / "normalization", [out], corpus / "out.parquet", corpus / "nil.parquet")
        read = tables.read(tables.METRICS, corpus / "out.parquet").to_pylist()
        assert {(r["generator"], r["strategy"], r["system"], r["variant"]) for r in read} == {("none", "none", "peer", "external")}
        return {r["metric"]: (r["value"], r["n"]) for r in read if r["bucket"] == "all"}

    values = scored()
    assert values["acc@1"] == values["acc@100"] == values["mrr"] == (3 / 4, 4)
    assert values["acc@1_nil"] == (4 / 5, 5) and values["nil_precision"] == (1.0, 1) == values["nil_recall"]
    for left_out, right, nil in (("2:10-18:0", 3 / 4, 3 / 5), ("1:0-4:0", 2 / 4, 3 / 5)):
        link(corpus, table(corpus, [r for r in rows if r["mention_id"] != left_out]), missing="wrong")
        values = scored()
        assert values["acc@1"] == (right, 4) and values["acc@1_nil"] == (nil, 5), left_out


def test_negative_scores_without_dev_call_nothing_nil(corpus):
    rows = [{**row, "score": -3.5} for row in answers()]
    _, _, out = link(corpus, table(corpus, rows))
    evaluate(corpus / "c", corpus / "corpus.json", corpus / "normalization", [out], corpus / "out.parquet", corpus / "nil.parquet")
    values = {r["metric"]: r["value"] for r in tables.read(tables.METRICS, corpus / "out.parquet").to_pylist() if r["bucket"] == "all"}
    assert values["acc@1"] == values["acc@1_nil"] == 1.0


# ----------------------------------------------------------------------------------------------------------------- checks


def test_each_test_mention_is_answered(corpus):
    path = table(corpus, answers()[:1])
    with pytest.raises(UserError) as error:
        link(corpus, path)
    assert "test mentions without an answer" in str(error.value) and "4 of 5, 1 of them without a concept: 1:9-28:0, " in str(error.value)
    assert "acute renal failure" not in str(error.value), "texts of notes are not for logs"
    counts, found, _ = link(corpus, path, missing="wrong")
    assert found == {"1:0-4:0": ["C0018099"]}
    assert counts["test"]["missing"] == 4 and counts["test"]["first_missing"] == ["1:9-28:0", "2:10-18:0", "2:20-38:0", "2:3-8:0"]


def test_each_mention_is_answered_once(corpus):
    again = {"mention_id": "1:0-4:0", "concept": "C0018099"}
    counts, _, _ = link(corpus, table(corpus, [*answers(), again]))
    assert counts["repeated"] == 1
    path = table(corpus, [*answers(), again | {"concept": "C0000001"}])
    with pytest.raises(UserError, match=r"answered twice in \S+peer\.csv:6: \S+peer\.csv:1 says something else about the same mention"):
        link(corpus, path)
    rows = [{**row, "rank": 1} for row in answers()]
    with pytest.raises(UserError, match=r"answered twice in \S+peer\.csv:6: .* for rank 1;"):
        link(corpus, table(corpus, [*rows, rows[0] | {"concept": "C0000001"}]))
    rows = [{**row, "score": 0.5} for row in answers()]
    with pytest.raises(UserError, match=r"answered twice in \S+peer\.csv:6"):
        link(corpus, table(corpus, [*rows, rows[0] | {"score": 0.25}]))
    with pytest.raises(UserError, match=r"answered twice in \S+peer\.csv:6.*all of its candidates a rank, or a score, or neither"):
        link(corpus, table(corpus, [*rows, rows[0] | {"score": "", "rank": 2}]))


def test_unknown_mentions(corpus):
    rows = [by_span(m, concept=c) for m, c in RIGHT.items()]
    rows += [by_span("1:0-8:0", concept="C1"), by_span("9:0-8:0", concept="C1"), by_span("t1:4-8:0", concept="C0018099")]
    path = table(corpus, rows)
    with pytest.raises(UserError, match=r"unknown mention in \S+peer\.csv:7: 9, and 1 more; correct it, or set unknown: skip"):
        link(corpus, path)
    counts, found, _ = link(corpus, path, unknown="skip")
    assert found == ALL_RIGHT and counts["unknown"] == {"n": 2, "first": [{"where": "peer.csv:7", "what": "9"}, {"where": "peer.csv:6", "what": "1 0-8"}]}
    assert counts["of_train"] == 1
    with pytest.raises(UserError, match=r"unknown mention in \S+:6: 1:0-4:7"):
        link(corpus, table(corpus, [*answers(), {"mention_id": "1:0-4:7", "concept": "C1"}]))


ROW = {"doc_id": "1", "start": 0, "end": 4, "concept": "C0018099"}
BAD = {
    "span outside of text": (ROW | {"end": 40}, "span outside of text in PEER:1: 0-40 in a text of 29 characters"),
    "empty span": (ROW | {"end": 0}, "span outside of text in PEER:1"),
    "surface": (ROW | {"surface": "lupus"}, "wrong offset in PEER:1: the text at 0-4 is not the surface"),
    "offset": (ROW | {"start": -1}, "bad offset in PEER:1"),
    "half an offset": (ROW | {"start": ""}, "bad offset in PEER:1"),
    "rank": (ROW | {"rank": 0}, "bad rank in PEER:1: '0' is no number from 1"),
    "score": (ROW | {"score": "nan"}, "bad score in PEER:1: 'nan' is no finite number"),
    "nothing": (ROW | {"doc_id": ""}, "answer for nothing in PEER:1"),
    "another place": (ROW | {"mention_id": "1:9-28:0"}, "mention at another place in PEER:1: mention 1:9-28:0 is at 1 9-28, not at 1 0-4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(corpus, case):
    row, message = BAD[case]
    path = table(corpus, [row])
    with pytest.raises(UserError) as error:
        link(corpus, path)
    assert str(error.value).startswith(message.replace("PEER", str(path)))
    if case not in ("rank", "another place"):
        with pytest.raises(UserError) as error:
            recognize(corpus, path)
        assert str(path) in str(error.value)


BROKEN = {
    "peer.csv": ['mention_id,concept\n1:0-4:0,C1\n"x', "broken row in PEER:2: line 3: a quotation mark opens a field and none closes it"],
    "fields.csv": ["mention_id,concept\n1:0-4:0,C1,C2\n", "broken row in PEER:1: line 2: 3 fields, 2 in the header"],
    "peer.jsonl": ['{"mention_id": "1:0-4:0", "concept": "C1"', "broken row in PEER:1: line 1 is no JSON"],
    "twice.jsonl": ['{"mention_id": "a", "mention_id": "b", "concept": "C1"}', "broken row in PEER:1: a key stands in it twice"],
    "list.jsonl": ["[1]", "broken row in PEER:1: no JSON object"],
    "empty.csv": ["mention_id,concept\n", "empty table in PEER: no rows in it"],
    "nothing.csv": ["", "empty table in PEER"],
    "bad.parquet": ["PAR1", "unreadable table in PEER: no Parquet file"],
    "scores.jsonl": ['{"mention_id": "1:0-4:0", "concept": ["C1"], "score": [1, 2]}', "scores do not fit in PEER:1: 2 scores of 1 concepts"],
    "nil.jsonl": ["".join(json.dumps({"mention_id": m, "concept": ["C1", "NIL"]}) + "\n" for m in RIGHT), "no concept, and others beside in PEER:1"],
    "rising.jsonl": [
        "".join(json.dumps({"mention_id": m, "concept": ["C1", "C2"], "score": [0, 1]}) + "\n" for m in RIGHT),
        "scores rise along a ranking in PEER:1: 1 follows 0",
    ],
    "latin.csv": ["mention_id,concept\n1:0-4:0,\udce9\n", "wrong encoding in PEER:1: not utf-8: byte 0xe9 in it"],
    "utf16.csv": [
        ("\ufeff" + "mention_id,concept\n1:0-4:0,C1\n").encode("utf-16-le").decode("utf-8", "surrogateescape"),
        "wrong encoding in PEER: not UTF-8: byte 0xff in its header; convert the file to UTF-8",
    ],
    "excel.csv": [
        "mention_id;concept\n1:0-4:0;C1\n",
        "missing column in PEER: concept; there are mention_id;concept; its columns are separated by `;`: a .csv file has commas, a .tsv file tabs",
    ],
    "tabs.csv": ["mention_id\tconcept\n1:0-4:0\tC1\n", "missing column in PEER: concept; there are mention_id concept; its columns are separated by a tab"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(corpus, name):
    content, message = BROKEN[name]
    (corpus / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as error:
        link(corpus, corpus / name)
    assert str(error.value).startswith(message.replace("PEER", str(corpus / name)))


def test_a_folder_of_tables(corpus):
    """The docs promise one: its name needs no ending."""
    (corpus / "peer").mkdir()
    for number, answer in enumerate(answers()):
        table(corpus, [answer], f"peer/{number}.csv")
    counts, *_ = link(corpus, corpus / "peer")
    assert counts["test"]["answered"] == len(RIGHT)
    (corpus / "peer/1.ann").write_text("")
    with pytest.raises(UserError, match=r"unknown file in \S+1\.ann: no table; .*or name the reader of their format: reader: brat"):
        link(corpus, corpus / "peer")


def test_advice_is_that_for_predictions(corpus):
    """Readers of corpora speak of `splits`, and a linker's advice does not fit a recognizer."""
    for call, reader in ((link, "pubtator"), (recognize, "brat")):
        with pytest.raises(UserError) as error:
            call(corpus, corpus / "nowhere", reader=reader)
        assert "splits" not in str(error.value) and str(error.value).endswith("; correct the path, or the reader")
    (corpus / "empty.csv").write_text("doc_id,start,end\n")
    with pytest.raises(UserError, match=r"no rows in it; put the predictions there$"):
        recognize(corpus, corpus / "empty.csv")


def test_ids_none_of_which_the_knowledge_base_has_are_warned_of(corpus, capsys):
    link(corpus, table(corpus, answers()), id_prefix="auto")
    assert "WARNING" not in capsys.readouterr().err
    link(corpus, table(corpus, [a | {"concept": "22660"} for a in answers()]))
    assert (
        "WARNING: 5 candidates that are no concept of the knowledge base, and so wrong: MSH:22660; most are: check concept and id_prefix"
        in capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="id_prefix"):
        ExternalLinker(kind="external", path="x.csv", id_prefix="")


# ------------------------------------------------------------------------------------------------------------------ spans


def test_spans_are_scored_as_counted_by_hand(corpus):
    rows = [by_span(m, score=0.5) for m in ("1:0-4:0", "1:15-28:0", "2:3-8:0", "2:3-18:0", "t1:4-8:0")]
    counts, spans, out = recognize(corpus, table(corpus, [*rows, rows[0]]))
    assert spans == [("1", 0, 4, 0.5), ("1", 15, 28, 0.5), ("2", 3, 18, 0.5)], "of two that overlap the longest"
    assert counts["repeated"] == counts["of_train"] == 1 and counts["test"]["dropped_overlap"] == 1 and counts["dev"]["without_predictions"] == 1
    evaluate_recognition(corpus / "c", corpus / "corpus.json", corpus / "recognition", [out], corpus / "out.parquet")
    values = {(r["split"], r["metric"]): r["value"] for r in tables.read(tables.METRICS, corpus / "out.parquet").to_pylist() if r["bucket"] == "all"}
    assert values["test", "strict_precision"] == 1 / 3 and values["test", "strict_recall"] == 1 / 5 and values["test", "strict_f1"] == 2 / 8
    assert values["test", "partial_recall"] == 3 / 5


def test_spans_inside_words_are_widened_as_gold_is(corpus):
    counts, spans, _ = recognize(corpus, table(corpus, [by_span("1:9-12:0"), by_span("2:3-7:0")]))
    assert spans == [("1", 9, 14, 1.0), ("2", 3, 8, 1.0)] and counts["test"]["widened"] == 2


def test_unknown_documents_and_types(corpus):
    rows = [by_span("1:0-4:0", type="Disease"), by_span("1:9-28:0", type="Chemical"), by_span("9:0-4:0", type="Disease")]
    path = table(corpus, rows)
    with pytest.raises(UserError, match=r"unknown document in \S+peer\.csv:3: 9;"):
        recognize(corpus, path)
    counts, spans, _ = recognize(corpus, path, unknown="skip", entity_types=["Disease"])
    assert [s[:3] for s in spans] == [("1", 0, 4)] and counts["unknown"]["n"] == 1
    with pytest.raises(UserError, match=r"span given twice in \S+peer\.csv:2: with another score in \S+peer\.csv:1"):
        recognize(corpus, table(corpus, [by_span("1:0-4:0", score=1), by_span("1:0-4:0", score=0.5)]))
    with pytest.raises(UserError, match=r"missing column in \S+peer\.csv: doc_id, start and end"):
        recognize(corpus, table(corpus, answers()))


# ------------------------------------------------------------------------------------------------------------ configuration


def raw(path, grid=("a", "b"), **more):
    corpus = {"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}}
    return {
        "kbs": {"k": {"source": "rrf", "path": "x"}},
        "corpora": {"a": corpus, "b": corpus},
        "strategies": {"none": {"keep": "none"}},
        "linkers": {"exact": {"kind": "exact"}, "peer": {"kind": "external", "path": path, **more}},
        "recognizers": {"found": {"kind": "external", "path": path, **more}, "words": {"kind": "dictionary"}},
        "indexes": {"kb": {"sources": ["kb"]}},
        "experiment": {
            "normalization": [{"corpora": list(grid), "strategies": ["none"], "linkers": ["exact", "peer"], "indexes": ["kb"]}],
            "recognition": [{"corpora": list(grid), "strategies": ["none"], "recognizers": ["found", "words"], "linkers": ["exact"], "indexes": ["kb"]}],
        },
    }


def test_one_cell_per_corpus():
    config = load_config(raw("x/{corpus}.csv"))
    cells = [c for c in normalization_cells(config) if c.linker == "peer"]
    assert [(c.corpus, c.generator, c.strategy, c.index) for c in cells] == [("a", "none", "none", "external"), ("b", "none", "none", "external")]
    found = [c for c in recognition_cells(config) if c.recognizer == "found"]
    assert [(c.corpus, c.generator, c.strategy, c.schedule, c.seed) for c in found] == [(c, "none", "none", "external", 0) for c in "ab"]
    assert config.linkers["peer"].path_for("a") == "x/a.csv" == config.linkers["peer"].path_for("a~composite=split")


def test_mappings_may_leave_corpora_out():
    with pytest.raises(
        UserError, match=r"no predictions for a corpus in config: recognizers\.found\.path: the grid asks for b, and path names a; add `b: FILE`"
    ):
        load_config(raw({"a": "x.csv"}))
    config = load_config(raw({"a": "x.csv"}, missing_corpora="skip"))
    assert [c.corpus for c in normalization_cells(config) if c.linker == "peer"] == ["a"]


def test_each_cell_is_compared_with_each_external_system_once():
    """Overall and by bucket alone; and two external systems with each other."""
    ours = [ComparedCell("none", "none", "m", "kb"), ComparedCell("llm", "naive", "m", "kb")]
    others = [ComparedCell("none", "none", "a", "external"), ComparedCell("none", "none", "b", "external")]
    found = comparisons([*ours, *others], [], {})
    assert {(c.cell, c.reference) for c in found if c.against == "external"} == {*itertools.product(ours, others), (others[0], others[1])}
    assert [c.against for c in found].count("baseline") == 1 and len(found) == 6
    right = np.arange(40).reshape(4, 10) % 3 == 0
    outcomes = Outcomes(
        {c: {cell_and_seeds(*c)[1]: i} for i, c in enumerate([*ours, *others])},
        np.arange(10),
        [f"m{i}" for i in range(10)],
        right.astype(float),
        {"mrr": right / 2},
    )
    groups = [MentionGroup("all", "all", np.arange(10)), MentionGroup("bucket", "x", np.arange(5)), MentionGroup("names", "1", np.arange(5))]
    rows = comparison_rows(outcomes, found, groups, Statistics(resamples=99))
    assert {r["slice"] for r in rows if r["against"] == "external"} == {"all", "bucket"} and {r["slice"] for r in rows} == {"all", "bucket", "names"}
    for r in rows:
        if r["slice"] == "all" and r["metric"] == "acc@1" and r["against"] == "external":
            here, there = (
                next(i for i, c in enumerate([*ours, *others]) if c[:3] == k)
                for k in ((r["generator"], r["strategy"], r["system"]), (r["reference_generator"], r["reference_strategy"], r["reference_system"]))
            )
            assert r["difference"] == pytest.approx(right[here].mean() - right[there].mean())


WRONG = {
    "reserved index": (lambda r: r["indexes"].update(external={"sources": ["kb"]}), r"reserved name in config: indexes\.external"),
    "unknown corpus": (
        lambda r: r["linkers"]["peer"].update(path={"c": "x.csv"}),
        r"unknown corpus 'c' in config: linkers\.peer\.path; known: a, b|: known: a, b",
    ),
    "one file": (
        lambda r: r["linkers"]["peer"].update(path="x.csv"),
        r"one file for several corpora in config: linkers\.peer\.path: the grid asks for a and b",
    ),
    "placeholder": (
        lambda r: r["linkers"]["peer"].update(path="{linker}.csv"),
        r"bad value in config: linkers\.peer\.path: \{corpus\} is the only placeholder",
    ),
    "format": (lambda r: r["linkers"]["peer"].update(path="{corpus}.ann"), r"bad value in config: linkers\.peer: \{corpus\}\.ann is no table"),
    "columns": (lambda r: r["linkers"]["peer"].update(reader="brat", path="{corpus}", columns={"rank": "r"}), "columns and end are those of tables"),
    "hybrid": (lambda r: r["linkers"].update(both={"kind": "hybrid", "linkers": ["exact", "peer"]}), "wrong part.*peer is an external linker"),
    "end to end": (lambda r: r["experiment"]["recognition"][0].update(linkers=["peer"]), "unfit linker.*peer is an external linker"),
    "column": (lambda r: r["linkers"]["peer"].update(columns={"cui": "x"}), r"config: linkers\.peer\.columns"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_one_line(case):
    change, message = WRONG[case]
    data = raw("x/{corpus}.csv")
    change(data)
    with pytest.raises(UserError, match=message):
        load_config(data)


def test_missing_files_are_told_before_any_job(tmp_path: Path):
    data = raw("x/{corpus}.csv", grid=("a",))
    (tmp_path / "x").mkdir()
    for name in ("a", "b", "x/y"):
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=r"missing file in config: recognizers\.found\.path: x/a\.csv does not exist"):
        load_config(data, root=tmp_path)
    (tmp_path / "x/a.csv").write_text("mention_id,concept\n")
    load_config(data, root=tmp_path)


def test_a_folder_of_documents_without_its_reader_is_told_before_any_job(tmp_path: Path):
    data = raw("x/{corpus}", grid=("a",))
    (tmp_path / "x/a").mkdir(parents=True)
    for name in ("x/a/1.csv", "a", "b", "x/y"):
        (tmp_path / name).write_text("")
    load_config(data, root=tmp_path)
    (tmp_path / "x/a/1.ann").write_text("")
    with pytest.raises(UserError, match=r"^no table in config: \S+: x/a: 1\.ann is none; name the reader of its format"):
        load_config(data, root=tmp_path)


def test_external_systems_annotate_no_new_text(tmp_path: Path):
    results = annotating.make(tmp_path)
    annotating.spec(results, "linkers", "peer", {"kind": "external", "path": "x.csv"})
    annotating.spec(results, "recognizers", "found", {"kind": "external", "path": "x.csv"})
    for name in ("normalization/c/none/none/peer/external", "recognition/c/none/none/found/external/seed0"):
        (results / name).mkdir(parents=True)
        (results / name / "predictions.parquet").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"^external recognizer cannot annotate new text in --recognizer found: found holds predictions that another system made"
    ):
        cells.find(results, "found", "exact/coded")
    with pytest.raises(UserError, match=r"^external linker cannot annotate new text in --linker peer: .*; name a linker of another kind"):
        cells.find(results, "dictionary", "peer/external")
    assert cells.cell_of(results, None, "c/none/none/exact/coded").recognition[3] == "dictionary", "the only one that can"
