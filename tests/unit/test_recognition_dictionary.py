"""The dictionary recognizer: longest names, word boundaries, what is skipped and stopped, against a search of every stretch."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentionforge import tables, text
from mentionforge.errors import UserError
from mentionforge.recognition.kinds.dictionary import Dictionary, folded_words, match
from mentionforge.recognition.sentences import tokenized_document

WORD = st.sampled_from(["breast", "Cancer", "ovarian", "of", "type", "2", "gout", "é", "-", ",", "."])


def found(names, string, sentences=None, **settings):
    doc = tokenized_document("d", string, sentences or [{"start": 0, "end": len(string)}])
    return [string[doc.words[a][0] : doc.words[b - 1][1]] for a, b in Dictionary(names, **settings).find(doc)]


def test_the_longest_name_wins_at_word_boundaries_in_any_case():
    names = ["cancer", "breast cancer", "Cancer of the breast", "gout"]
    assert found(names, "Breast cancer, CANCER of the breast, and gouty cancers; a gout.") == ["Breast cancer", "CANCER of the breast", "gout"]
    assert found(["type 2 diabetes"], "type 1 and type 2") == []


def test_hyphens_and_apostrophes_do_not_count_but_other_punctuation_does():
    assert found(["Huntington's disease", "ataxia-telangiectasia"], "Huntington\u2019s disease; ataxia telangiectasia") == [
        "Huntington\u2019s disease",
        "ataxia telangiectasia",
    ]
    assert found(["diabetes mellitus, type 2"], "diabetes mellitus type 2, diabetes mellitus, type 2") == ["diabetes mellitus, type 2"]
    assert found(["fever pain"], "fever, pain. fever. pain") == []


def test_abbreviations_keep_their_case_and_stopped_or_short_names_are_not_searched():
    assert found(["ALL", "AS", "NF-1"], "all such ALL and as AS, nf 1") == ["ALL", "AS", "nf 1"]
    assert found(["ALL", "AS", "Disease", "gout"], "disease AS gout ALL", min_length=3, stop=["disease"]) == ["gout", "ALL"]


def test_no_name_crosses_a_sentence():
    string = "He had breast cancer"
    assert found(["breast cancer"], string, [{"start": 0, "end": 13}, {"start": 14, "end": 20}]) == []


@settings(deadline=None)
@given(st.lists(st.lists(WORD, min_size=1, max_size=3).map(" ".join), max_size=6), st.lists(WORD, max_size=15).map(" ".join))
def test_equals_a_search_of_every_stretch(names, string):
    words = text.words(string)
    wanted = {folded_words(name) for name in names if any(c.isalnum() for c in name)}
    expected, at = [], 0
    while at < len(words):
        ends = [
            e
            for e in range(len(words), at, -1)
            if not {string[words[at][0]], string[words[e - 1][0]]} & {"-"} and folded_words(string[words[at][0] : words[e - 1][1]]) in wanted
        ]
        if ends:
            expected.append(string[words[at][0] : words[ends[0] - 1][1]])
            at = ends[0]
        else:
            at += 1
    assert found(names, string) == expected


def test_predictions_of_a_corpus(tmp_path):
    string = "Gout and fever. Gout too."
    rows = [{"doc_id": s, "split": s, "text": string, "sentences": [{"start": 0, "end": 15}, {"start": 16, "end": 25}]} for s in ("train", "dev", "test")]
    tables.write(tables.DOCUMENTS, tmp_path / "c/documents.parquet", rows)
    mention = {
        "doc_id": "train",
        "mention_id": "m",
        "split": "train",
        "spans": [{"start": 9, "end": 14}],
        "surface": "fever",
        "expanded": None,
        "entity_type": "",
    }
    mention |= {"concept_ids": [], "cuis": [], "concept_cuis": [], "composite": False, "ood_bucket": "unmapped"}
    tables.write(
        tables.MENTIONS,
        tmp_path / "c/mentions.parquet",
        [mention, mention | {"doc_id": "test", "split": "test", "mention_id": "n", "spans": [{"start": 20, "end": 23}]}],
    )
    name = {"cui": "C1", "name": "gout", "source": "s", "term_type": "PT", "preferred": True}
    tables.write(tables.NAMES, tmp_path / "names.parquet", [name])
    spec, corpus_spec = tmp_path / "spec.json", tmp_path / "corpus.json"
    corpus_spec.write_text(json.dumps({"kind": "corpora", "settings": {"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}}}))

    def run(names=tmp_path / "names.parquet", **entry):
        spec.write_text(json.dumps({"kind": "recognizers", "settings": {"kind": "dictionary", **entry}}))
        match(spec, tmp_path / "c", corpus_spec, tmp_path / "out.parquet", names)
        return [(r["doc_id"], r["start"], r["end"]) for r in tables.read(tables.RECOGNIZED, tmp_path / "out.parquet").to_pylist()]

    gout = [(d, a, a + 4) for d in ("dev", "test") for a in (0, 16)]
    assert run() == gout
    assert run(sources=["kb", "train"]) == sorted([*gout, ("dev", 9, 14), ("test", 9, 14)])
    assert run(names=None, sources=["train"]) == [("dev", 9, 14), ("test", 9, 14)]
    with pytest.raises(UserError, match="missing names"):
        run(names=None)
    with pytest.raises(UserError, match="empty dictionary"):
        run(stop=["GOUT"])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_found_in_any_characters_that_write_them(form):
    names = ["Sjögren syndrome", "office fibrosis", "vitamin B12 deficiency", "CFTR", "Type II diabetes"]
    said = "Sjögren syndrome; o\ufb03ce \ufb01bro\u00adsis, vitamin B\u2081\u2082 de\ufb01ciency, \uff23\uff26\uff34\uff32, type\u00a0\u2161 diabetes, x\u0302 and 10\u2075."
    assert found(names, unicodedata.normalize(form, said)) == [
        unicodedata.normalize(form, surface)
        for surface in (
            "Sjögren syndrome",
            "o\ufb03ce \ufb01bro\u00adsis",
            "vitamin B\u2081\u2082 de\ufb01ciency",
            "\uff23\uff26\uff34\uff32",
            "type\u00a0\u2161 diabetes",
        )
    ]
    assert found([unicodedata.normalize("NFD", name) for name in names], said) == found(names, said)


def test_superscripts_are_no_digits():
    assert found(["105", "gout1", "T4"], "10\u2075, gout\u00b9, T\u2074") == []
