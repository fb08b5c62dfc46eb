"""Sentences, words and surface forms keep exact offsets."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mentionforge.text import normalize_surface, sentences, words


@given(st.text())
def test_words_cover_everything_but_blanks(text: str) -> None:
    spans = words(text)
    assert all(a < b for a, b in spans) and all(x[1] <= y[0] for x, y in pairwise(spans))
    covered = {i for a, b in spans for i in range(a, b)}
    assert covered == {i for i, c in enumerate(text) if not c.isspace()}


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
