"""Abbreviations: hand-made definitions, mentions spelled out, and the real corpora."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentionforge.abbreviations import Expander, definitions, expand, long_forms
from mentionforge.corpora.formats import pubtator
from mentionforge.text import plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Carriers of Duchenne muscular dystrophy (DMD) were seen.", {"DMD": "Duchenne muscular dystrophy"}),
        ("It is DMD (Duchenne muscular dystrophy), an X-linked disease.", {"DMD": "Duchenne muscular dystrophy"}),
        ("a non-insulin-dependent diabetes mellitus [NIDDM; MIM 125853]", {"NIDDM": "non-insulin-dependent diabetes mellitus"}),
        ("von Hippel-Lindau (VHL) disease and (unclosed ataxia-telangiectasia (A-T)", {"VHL": "von Hippel-Lindau", "A-T": "ataxia-telangiectasia"}),
        ("Myotonic dystrophy (DM) and congenital myotonic dystrophy (CDM)", {"DM": "Myotonic dystrophy", "CDM": "congenital myotonic dystrophy"}),
        ("Huntington disease (the HD gene) and Huntington disease (HD gene)", {"HD": "Huntington disease"}),
        ('ornithine transcarbamylase ("OTC") deficiency', {"OTC": "ornithine transcarbamylase"}),
        ("adverse drug reactions (ADRs) differ", {"ADRs": "adverse drug reactions"}),
        ("adult dystonia. Patients (AD) and a dose (12 mg) with risk (P < .01) or (see Table)", {}),
        (
            "glial-derived neurotrophic factor (GDNF) and GDNF antibody (GA)",
            {"GDNF": "glial-derived neurotrophic factor", "GA": "glial-derived neurotrophic factor antibody"},
        ),
        ("autosomal disease myotonic dystrophy (DM)", {"DM": "myotonic dystrophy"}),
        ("infarction (ANT-MI) and eight with inferior infarction (INF-MI)", {}),
        ("(insulin-dependent) diabetes mellitus (IDDM)", {}),
        ("cancer (MIM 114480) of DMD gene (DMD)", {}),
    ],
)
def test_definitions_by_hand(text, expected):
    assert long_forms(text) == expected


def test_words_that_follow_a_short_form_are_not_doubled():
    known = {"HIT": "heparin-induced thrombocytopenia type II"}
    assert expand("HIT type II", known) == expand("HIT", known) == "heparin-induced thrombocytopenia type II"
    assert expand("HIT II", known) == "heparin-induced thrombocytopenia type II"
    assert expand("HIT IIb", known) == "heparin-induced thrombocytopenia type II IIb"


def test_first_definition_counts():
    assert long_forms("atrial tachycardia (AT), then ataxia telangiectasia (AT)") == {"AT": "atrial tachycardia"}


@pytest.mark.parametrize(
    ("surface", "expected"),
    [
        ("DMD", "Duchenne muscular dystrophy"),
        ("DMDs", "Duchenne muscular dystrophy"),
        ("DMD carriers", "Duchenne muscular dystrophy carriers"),
        ("non-DMD/ADR", "non-Duchenne muscular dystrophy/adverse drug reactions"),
        ("ADR", "adverse drug reactions"),
        ("duchenne muscular  dystrophy (DMD)", "duchenne muscular dystrophy"),
        ("DMDX", None),
        ("dmd", None),
        ("muscular  dystrophy", None),
    ],
)
def test_mentions_are_spelled_out(surface, expected):
    assert expand(surface, {"DMD": "Duchenne muscular dystrophy", "ADRs": "adverse drug reactions"}) == expected
    assert expand(surface, {}) is None


@given(st.text(alphabet='abcDMx ()[]-.;,\n"é', max_size=80))
def test_any_text_gives_exact_spans_that_spell_the_short_form(text):
    for d in definitions(text):
        assert text[slice(*d.short_span)] == d.short
        assert text[slice(*d.long_span)] == d.long
        assert set(filter(str.isalnum, d.short.lower())) <= set(d.long.lower())
        assert len(d.long) > len(d.short)
    expanded = expand(text, long_forms(text))
    assert expanded is None or (expanded != text and expanded == " ".join(expanded.split()))


@pytest.mark.parametrize(
    ("file", "types", "short", "left"),
    [("ncbi_disease/NCBItestset_corpus.txt", (), 300, 32), ("bc5cdr/CDR_TestSet.PubTator.txt", ("Disease",), 375, 27)],
)
def test_short_surfaces_of_the_real_corpora(shared_data, file, types, short, left):
    """Of the test mentions in capitals, up to six letters, those that stay are ones whose abstract does not define them (listed in docs/corpora.md)."""
    surfaces = []
    for d in pubtator.read(shared_data / file, "MSH", types).documents:
        known = long_forms(d.text)
        surfaces += [(s, expand(s, known)) for s in (a.surface(d.text) for a in d.annotations) if s.isupper() and len(s) <= 6]
    assert len(surfaces) == short
    assert sum(expanded is None for _, expanded in surfaces) <= left


def test_text_without_sentences_takes_time_by_its_length():
    """A table of findings without a full stop: definitions are found as in short texts, and the time does not grow by the square."""
    line = "Huntington disease (HD) seen, glucose level (HIGH) 12 mg sodium\n"
    once = definitions(line)
    begun = time.process_time()
    many = definitions(line * 5_000)
    assert time.process_time() - begun < 20, "it took many minutes"
    assert [(d.short, d.long) for d in many] == [(d.short, d.long) for d in once] * 5_000


def test_definitions_of_a_decomposed_text_stand_at_its_own_places():
    composed = "Known Sjögren syndrome (SjS) and o\ufb03ce \ufb01brosis (OF). SjS is primary."
    apart = unicodedata.normalize("NFD", composed)
    for text in (composed, apart):
        found = definitions(text)
        assert [(d.short, d.long) for d in found] == [("SjS", "Sjögren syndrome"), ("OF", "office fibrosis")]
        assert [plain(text[slice(*d.long_span)]) for d in found] == [d.long for d in found]
        assert [text[slice(*d.short_span)] for d in found] == ["SjS", "OF"]
        known = long_forms(text)
        assert expand("primary SjS", known) == "primary Sjögren syndrome"
        assert expand(unicodedata.normalize("NFD", "Sjögren syndrome (SjS)"), known) == "Sjögren syndrome"
        assert expand(unicodedata.normalize("NFD", "Sjögren syndrome"), known) is None


FORMS = st.dictionaries(st.text("ABCs1-", min_size=2, max_size=4), st.text("abc AB", min_size=1, max_size=8), max_size=6)


@given(FORMS, st.text("ABCs1-()[] abc", max_size=14))
def test_the_forms_that_occur_in_a_mention_are_all_that_change_it(forms, surface):
    expander = Expander(forms)
    assert expander.expand(surface) == expand(surface, forms)
    for short in forms:
        others = {s: long for s, long in forms.items() if s.removesuffix("s") != short.removesuffix("s")}
        if all(s[-2:-1] in "ABC1" for s in (*forms, short) if s.endswith("s")):
            assert expander.expand(surface, short) == expand(surface, others)


def test_a_mention_costs_the_same_however_many_abbreviations_its_document_has():
    """A document of many notes defines thousands; 4,000 mentions and 2,000 definitions took twenty seconds when each mention looked at all of them."""
    letters = "ABCDEFGHIJKLMNOPQRST"
    shorts = [a + b + c for a in letters for b in letters for c in letters][:2000]
    text = " ".join(f"We saw {s[0].lower()}omal {s[1].lower()}ypic {s[2].lower()}oma ({s}) again." for s in shorts)
    begun = time.process_time()
    forms = long_forms(text)
    expander = Expander(forms)
    assert [expander.expand(f"acute {s}") for s in shorts] == [f"acute {s[0].lower()}omal {s[1].lower()}ypic {s[2].lower()}oma" for s in shorts]
    assert all(expander.expand("heart failure") is None for _ in range(2000))
    assert time.process_time() - begun < 3
