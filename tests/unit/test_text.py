"""Sentences, words and surface forms keep exact offsets."""

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentionforge import text as units
from mentionforge.corpora.formats import pubtator
from mentionforge.text import normalize_surface, sentences, words


@given(st.text())
def test_words_cover_everything_but_blanks(text: str) -> None:
    spans = words(text)
    assert all(a < b for a, b in spans) and all(x[1] <= y[0] for x, y in pairwise(spans))
    covered = {i for a, b in spans for i in range(a, b)}
    seen = {i for i, c in enumerate(text) if not c.isspace()}
    assert covered - {i for i, c in enumerate(text) if c in units._UNSEEN} == seen - {i for i, c in enumerate(text) if c in units._UNSEEN}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("X-linked/autosomal", "X - linked / autosomal"),
        ("β-thalassaemia, α1-antitrypsin", "β - thalassaemia , α1 - antitrypsin"),
        ("(p<0.05)", "( p < 0 . 05 )"),
        ("3.5mg/kg±2", "3 . 5mg / kg ± 2"),
        ("factor VIII(C) 5'-UTR", "factor VIII ( C ) 5 ' - UTR"),
        ("t(9;22)(q34;q11)", "t ( 9 ; 22 ) ( q34 ; q11 )"),
    ],
)
def test_words_of_biomedical_text(text: str, expected: str) -> None:
    assert [text[a:b] for a, b in words(text)] == expected.split()


MARKS = st.sampled_from(["-", "/", "(", ")", ".", ",", "'", "+", ">", "±", "–", " ", "\u00a0"])
RUNS = st.text(alphabet=st.characters(categories=("Lu", "Ll", "Lo", "Nd")) | st.sampled_from("αβγΔµ09_"), min_size=1, max_size=6)


@given(st.lists(st.tuples(RUNS, MARKS), max_size=8))
def test_runs_of_letters_and_digits_stay_whole_between_any_marks(pieces: list[tuple[str, str]]) -> None:
    """A mention between such marks begins and ends at word boundaries."""
    text, expected = "", []
    for run, mark in pieces:
        expected += [(len(text), len(text) + len(run))] + ([(len(text) + len(run), len(text) + len(run) + 1)] if not mark.isspace() else [])
        text += run + mark
    assert words(text) == expected


def test_gold_mentions_begin_and_end_at_words(shared_data: Path) -> None:
    """But for two NCBI annotations that lack the last letter of a word."""
    inside = []
    for pattern, types in (("ncbi_disease/NCBI*set_corpus.txt", ()), ("bc5cdr/CDR_*Set.PubTator.txt", ("Disease",))):
        for path in sorted(shared_data.glob(pattern)):
            for document in pubtator.read(path, "MSH", types).documents:
                spans = words(document.text)
                starts, ends = {a for a, _ in spans}, {b for _, b in spans}
                inside += [document.doc_id for m in document.annotations if m.spans[0][0] not in starts or m.spans[-1][1] not in ends]
    assert sorted(inside) == ["10802668", "2792129"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["The patient has gout.", "No fever", "p < 0.05.", "E. coli, Fig. 1", "\n\n", "\n \n", " ", "É. Ω."])).map(" ".join))
def test_sentences_lose_no_text_and_cross_no_empty_line(text: str) -> None:
    (spans,) = sentences([text])
    assert all(x[1] <= y[0] for x, y in pairwise(spans))
    covered = {i for a, b in spans for i in range(a, b)}
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
    assert not any("\n\n" in text[a:b] for a, b in spans)
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)


def test_abbreviations_do_not_end_sentences() -> None:
    text = "As shown in Fig. 1, serum levels rose (p < 0.05). Patients with E. coli sepsis died."
    (spans,) = sentences([text])
    assert [text[a:b] for a, b in spans] == ["As shown in Fig. 1, serum levels rose (p < 0.05).", "Patients with E. coli sepsis died."]


def test_normalized_surfaces() -> None:
    assert normalize_surface("Huntington's  Disease") == normalize_surface("HUNTINGTON'S disease")
    assert normalize_surface("type 1") != normalize_surface("type 2")
    assert normalize_surface("non-small") == normalize_surface("non small")
    assert normalize_surface("--") == "--"


@pytest.mark.parametrize(("window", "margin"), [(20_000, 2_000), (3_000, 300)])
def test_sentences_of_long_texts_are_right_across_the_cuts(root, monkeypatch, window, margin):
    """A text in one line that spaCy could take at once is split the same in overlapping windows."""
    lines = (root / "resources/demo/bc5cdr/train.txt").read_text(encoding="utf-8").split("\n")
    long = " ".join(line.split("|", 2)[2] for line in lines if re.match(r"\d+\|[ta]\|", line))[:60_000]
    whole = next(units.sentences([long]))
    assert len(whole) > 200
    monkeypatch.setattr(units, "MAX_BLOCK", 10_000)
    monkeypatch.setattr(units, "_WINDOW", window)
    monkeypatch.setattr(units, "_MARGIN", margin)
    assert list(units.sentences(["Short. Text.", long, f"One.\n\n{long}"])) == [
        next(units.sentences(["Short. Text."])),
        whole,
        [(0, 4), *((start + 6, end + 6) for start, end in whole)],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["He has gout. ", "\t \n"])
def test_a_text_of_more_than_a_million_characters_is_split(piece):
    long = piece * (1_000_100 // len(piece))
    found = next(units.sentences([long]))
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    covered = sum(len(long[start:end].split()) for start, end in found)
    assert covered == len(long.split())
    if piece.startswith("He"):
        assert len(found) == len(long) // len(piece) and {long[start:end] for start, end in found} == {"He has gout."}


# ------------------------------------------------------------------------------------------------------ normalized view

ODD = st.sampled_from(
    [
        *"aeoSux -\n.\t=\u0308\u0323\u0338\u0344\ufb01\ufb03\u00ad\u200b\ufeff\u2075\u2082\u2161\uff21\uff08\u1112\u1161\u11ab\ud55c\u09c7\u09be\u0915\u093f\u00a0\u2011\u00b5\u017f"
    ]
)
MORE = st.sampled_from(["o\u0308", "e\u0301", *"\u1e9b\u212b\ud800\U0001d6fd\u0e33\ufdfa", "\uff76\uff9e"])
ODDS = st.lists(ODD | MORE, max_size=12).map("".join)


def seen(text: str) -> str:
    """The view, by Unicode's own normalization of the whole text after each character has been replaced."""
    return unicodedata.normalize("NFC", "".join(units._mapped(c)[0] for c in text))


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.one_of(ODDS, st.text(max_size=30)))
def test_a_view_is_the_normalized_text_and_knows_its_places(text: str) -> None:
    shown = units.view(text)
    assert shown.text == seen(text) and units.plain(shown.text) == shown.text and shown.length == len(text)
    if shown.starts is None:
        assert shown.text == text
        return
    assert len(shown.starts) == len(shown.ends) == len(shown.text)
    assert list(shown.starts) == sorted(shown.starts) and list(shown.ends) == sorted(shown.ends)
    assert all(0 <= a < b <= len(text) for a, b in zip(shown.starts, shown.ends, strict=True))
    places = [i for i, c in enumerate(text) if c not in units._UNSEEN]
    assert {i for a, b in zip(shown.starts, shown.ends, strict=True) for i in range(a, b)} >= set(places), "every character is in it"
    for a in range(len(shown.text)):
        for b in range(a + 1, len(shown.text) + 1):
            start, end = shown.to_original(a, b)
            low, high = shown.to_view(start, end)
            assert low <= a and b <= high and shown.to_original(low, high) == (start, end)
            assert seen(text[start:end]) == shown.text[low:high], "whole characters: what stands there alone reads as it does in the text"


@settings(max_examples=600, deadline=None, derandomize=True)
@given(ODDS)
def test_words_of_any_characters_do_not_overlap_and_hold_all_that_is_seen(text: str) -> None:
    spans = words(text)
    assert all(a < b for a, b in spans) and all(x[1] <= y[0] for x, y in pairwise(spans))
    covered = {i for a, b in spans for i in range(a, b)}
    assert {i for i, c in enumerate(text) if not c.isspace() and c not in units._UNSEEN} <= covered
    assert [units.plain(text[a:b]) for a, b in spans] == [units.plain(text)[a:b] for a, b in words(units.plain(text))]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet=st.characters(categories=("Lu", "Ll", "Nd", "Zs", "Po")), max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_a_composed_and_a_decomposed_text_have_the_same_words(text: str, a: int, b: int) -> None:
    composed, apart = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert [units.plain(composed[x:y]) for x, y in words(composed)] == [units.plain(apart[x:y]) for x, y in words(apart)]
    start, end = sorted((min(a, len(text)), min(b, len(text))))
    assert all(start <= x < y <= end for x, y in words(text, start, end))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sjo\u0308gren", "Sj\u00f6gren"),
        ("\ufb01brosis, e\ufb00usion, o\ufb03ce", "fibrosis, effusion, office"),
        ("dia\u00adbetes", "diabetes"),
        ("hyper\u200btension", "hypertension"),
        ("vitamin B\u2081\u2082", "vitamin B12"),
        ("10\u2075 cells, gout\u00b9", "10\u2075 cells, gout\u00b9"),
        ("type\u00a0\u2161 \u00b5g", "type II \u03bcg"),
        ("non\u2011Hodgkin\u2019s \u2013 3\u00bd\u2026\u2122 \u2116", "non-Hodgkin\u2019s \u2013 3\u00bd\u2026\u2122 \u2116"),
        ("\uff27\uff2f\uff35\uff34\uff08\uff11\uff09", "GOUT(1)"),
        ("\ufeffgout", "gout"),
    ],
)
def test_what_a_view_shows(text: str, expected: str) -> None:
    assert units.plain(text) == expected
    assert normalize_surface(text) == normalize_surface(expected)


@pytest.mark.parametrize("text", ["Sjögren, β-thalassaemia", "10⁵ … ½", "हिन्दी", "±–’“”°é", ""])
def test_a_normalized_text_is_its_own_view(text: str) -> None:
    shown = units.view(text)
    assert shown.text is text and shown.starts is None and shown.to_original(1, 2) == shown.to_view(1, 2) == (1, 2)


def test_accents_that_cannot_be_composed_stay_with_their_word() -> None:
    for text in ("x\u0302y gout", "हिन्दी शब्द", "\u0915\u093f-\u0915"):
        found = [text[a:b] for a, b in words(text)]
        assert found == [piece for part in text.split() for piece in re.split(r"(-)", part)], text


def test_a_text_of_nothing_but_accents_takes_no_time() -> None:
    shown = units.view("e" + "\u0301\u0323" * 50_000)
    assert shown.length == 100_001 and len(words("e" + "\u0301\u0323" * 50_000)) == 1


def test_sentences_of_a_decomposed_text_stand_at_its_own_places() -> None:
    composed = "Known Sjögren syndrome. E\ufb00usion of Ménière\u00addisease was seen. Behçet disease."
    apart = unicodedata.normalize("NFD", composed)
    (whole,), (split,) = sentences([composed]), sentences([apart])
    assert len(whole) == 3 and [units.plain(composed[a:b]) for a, b in whole] == [units.plain(apart[a:b]) for a, b in split]
