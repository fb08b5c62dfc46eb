"""Sentences, words and surface forms keep exact offsets."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentionforge import text as units
from mentionforge.corpora import pubtator
from mentionforge.text import normalize_surface, sentences, words


@given(st.text())
def test_words_cover_everything_but_blanks(text: str) -> None:
    spans = words(text)
    assert all(a < b for a, b in spans) and all(x[1] <= y[0] for x, y in pairwise(spans))
    covered = {i for a, b in spans for i in range(a, b)}
    assert covered == {i for i, c in enumerate(text) if not c.isspace()}


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


@pytest.mark.parametrize("piece", ["He has gout. ", "\t \n"])
def test_a_text_of_more_than_a_million_characters_is_split(piece):
    long = piece * (1_000_100 // len(piece))
    found = next(units.sentences([long]))
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    covered = sum(len(long[start:end].split()) for start, end in found)
    assert covered == len(long.split())
    if piece.startswith("He"):
        assert len(found) == len(long) // len(piece) and {long[start:end] for start, end in found} == {"He has gout."}
