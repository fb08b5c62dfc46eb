"""Locating mentions: tags, names at word boundaries, fuzzy matches, and what must not match."""

import itertools
import json
import random
import re
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.generation import locate, markers
from mentionforge.generation.concepts import Concept, fold, words_of
from mentionforge.generation.confusion import confusable
from mentionforge.generation.matching import Matcher
from mentionforge.generation.matching.forms import fold_case, keys_and_forms, reachable_slip_keys, stem_of, word_starts
from mentionforge.generation.matching.names import Name
from mentionforge.generation.settings import Locate
from mentionforge.text import plain

HUNTINGTON = Concept("C0020179", "Huntington Disease", ("HD", "Huntington's chorea", "Chorea, Huntington"))
GOUT, FLU, FEVER = Concept("C1", "Gout"), Concept("C2", "Influenza", ("flu",)), Concept("C3", "Fever", ("pyrexia",))
THYROID = Concept("C4", "Congenital hyperthyroidism", ("hyperthyroidism",))


def find(raw, concept, vocabulary=(), **given):
    """Surface, match and score of the mentions of a raw note."""
    text, tagged = markers.strip(raw)
    found = Matcher(concept, Locate(**given), vocabulary).find(text, tagged)
    return text, [(text[m.start : m.end], m.match, m.score) for m in found]


def surfaces(raw, concept, vocabulary=(), **given):
    return [surface for surface, _, _ in find(raw, concept, vocabulary, **given)[1]]


# ------------------------------------------------------------------------------------------------------------------ tags


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("He has <1CUI> gout </1CUI>, and pain.", "He has gout, and pain."),
        ("He has <1CUI>gout</1CUI>.", "He has gout."),
        ("He has<1CUI>gout</1CUI>again", "He has gout again"),
        ("( <1CUI> gout </1CUI> )", "(gout)"),
        ("He has < 1 cui >gout< / 1CUI > now", "He has gout now"),
        ("He has <1CUI> gout <1CUI> now", "He has gout now"),
        ("He has <1CUI> gout", "He has gout"),
        ("He has gout </1CUI> now", "He has gout now"),
        ("He has <1CUI> </1CUI> gout", "He has gout"),
        ("He has <1CUI gout> now", "He has gout now"),
        ("He has <1CUI> gout </1CUI", "He has gout"),
        ("He has <1CUI> gout </1", "He has gout"),
        ("He has <1CUI> gout <", "He has gout"),
        ("He has 1CUI> gout /1CUI> now", "He has gout now"),
        ("<1CUI> Gout </1CUI>'s course", "Gout's course"),
        ("Line one\n<1CUI> gout </1CUI>\nline two", "Line one\ngout\nline two"),
        ("Line\n\n\n\n<1CUI>  gout  </1CUI>  \n\n\n now", "Line\n\ngout\n\nnow"),
        ("<1CUI></1CUI>", ""),
        ("<1CUI> <1CUI> gout </1CUI> </1CUI>", "gout"),
        ("He has <CUI> gout </CUI> now", "He has gout now"),
        ("p < 0.05 and 5 > 3", "p < 0.05 and 5 > 3"),
        ("He has [1CUI] gout [/1CUI] now", "He has gout now"),
        ("He has [1cui]gout[/ 1 CUI ] now", "He has gout now"),
        ("He has [1CUI gout] now", "He has gout now"),
        ("He has &lt;1CUI&gt; gout &lt;/1CUI&gt; now", "He has gout now"),
        ("He has &amp;lt;1CUI&amp;gt; gout &#60;/1CUI&#62; now", "He has gout now"),
        ("He has &lt;1CUI gout&gt; now", "He has gout now"),
        ("He has <1CUI> gout <\\1CUI> now", "He has gout now"),
        ("He has \\<1CUI\\> gout \\</1CUI\\> now", "He has gout now"),
        ("He has < 1 CUI > gout < / 1 CUI > now", "He has gout now"),
        ("He has <1_CUI> gout </1_CUI> now", "He has gout now"),
        ("He has <<1CUI>> gout <</1CUI>> now", "He has gout now"),
        ("He has <|1CUI|> gout <|/1CUI|> now", "He has gout now"),
        ("He has {1CUI} gout {/1CUI} now", "He has gout now"),
        ("He has (1CUI) gout (/1CUI) now", "He has gout now"),
        ("He has `<1CUI>` gout `</1CUI>` now", "He has gout now"),
        ("He has \uff1c1CUI\uff1egout\uff1c/1CUI\uff1e now", "He has gout now"),
        ("He has hyper1CUI>tension now", "He has hypertension now"),
        ("He has hyper/1CUI>tension now", "He has hypertension now"),
        ("He has hyper<1CUItension now", "He has hypertension now"),
        ("He has hyper</1CUI>tension now", "He has hypertension now"),
        ("He has hyper&lt;/1CUItension now", "He has hypertension now"),
        ("non-<1CUI> Hodgkin lymphoma </1CUI>", "non-Hodgkin lymphoma"),
        ("A [1, 2] and (b) {c} & d [cuirass] 11 cuisine", "A [1, 2] and (b) {c} & d [cuirass] 11 cuisine"),
        ("p &lt; 0.05 & 5 &gt; 3", "p &lt; 0.05 & 5 &gt; 3"),
    ],
)
def test_no_marker_text_is_left_and_blanks_are_tidy(raw, text):
    assert markers.strip(raw)[0] == text


@pytest.mark.parametrize(
    "raw",
    [
        "Known <1CUI> HD </1CUI>.",
        "Known <1CUI>HD</1CUI>.",
        "Known <1CUI> HD <1CUI> for years.",
        "Known <1CUI> HD",
        "Known <1CUI> HD for many years, as her mother had before her and all of her many aunts too.",
        "Known <1CUI HD> for years.",
        "Known <1cui> HD < /1CUI >",
        "Known <1CUI> (HD). </1CUI> Stable.",
        "Known [1CUI] HD [/1CUI].",
        "Known [1CUI HD] for years.",
        "Known &lt;1CUI&gt;HD&lt;/1CUI&gt;.",
        "Known <1CUI> HD <\\1CUI>.",
        "Known < 1 CUI > HD < / 1 CUI >.",
        "Known {1CUI}HD{/1CUI}.",
        "Known <1CUI> HD [/1CUI].",
    ],
)
def test_tags_in_any_shape_give_the_mention(raw):
    assert find(raw, HUNTINGTON)[1] == [("HD", "tag", 100.0)]


def test_a_tag_counts_only_around_a_name_a_near_variant_or_an_initialism():
    assert find("<1CUI> Huntingtons disease </1CUI>", HUNTINGTON)[1][0][:2] == ("Huntingtons disease", "tag")
    assert find("<1CUI> Huntingon disease </1CUI>", HUNTINGTON)[1][0][:2] == ("Huntingon disease", "tag")
    ehlers = Concept("C5", "Ehlers-Danlos syndrome")
    assert find("Classic <1CUI> EDS </1CUI> with EDS type.", ehlers)[1] == [("EDS", "tag", 100.0), ("EDS", "tag", 100.0)]
    assert find("<1CUI> EH-G4. </1CUI>", ehlers) == ("EH-G4.", [])
    assert find("<1CUI> maple </1CUI> syrup", Concept("C6", "Maple syrup urine disease")) == ("maple syrup", [])
    assert find("<1CUI> asthma </1CUI> and HD", HUNTINGTON) == ("asthma and HD", [("HD", "synonym", 100.0)])
    assert find("<1CUI> early Huntington disease of her family </1CUI>", HUNTINGTON)[1] == [("Huntington disease", "exact", 100.0)]
    assert surfaces("EDS without a tag", ehlers) == [], "an initialism needs the tag"


def test_a_long_tag_is_no_mention():
    name = Concept("C7", "one two three four five")
    assert find("<1CUI> one two three four five </1CUI>", name)[1][0][1] == "tag"
    assert find("<1CUI> one two three four five </1CUI>", name, max_tag_tokens=4)[1][0][1] == "exact"


# ----------------------------------------------------------------------------------------------------------------- names


def test_all_hits_are_found_with_their_case_and_exact_spans():
    raw = "HUNTINGTON DISEASE and <1CUI> HD </1CUI>; huntington-disease, Huntington’s\nchorea, HD, hd."
    _text, found = find(raw, HUNTINGTON)
    assert [(s, m) for s, m, _ in found] == [
        ("HUNTINGTON DISEASE", "exact"),
        ("HD", "tag"),
        ("huntington-disease", "exact"),
        ("Huntington’s\nchorea", "synonym"),
        ("HD", "synonym"),
    ]
    assert "hd" not in [s for s, *_ in found], "abbreviations keep their case"


def test_adjacent_mentions_stay_apart_and_the_longest_wins():
    assert surfaces("fever pyrexia fever", FEVER) == ["fever", "pyrexia", "fever"]
    both = Concept("C8", "Gout", ("Gouty arthritis", "Acute gouty arthritis", "arthritis"))
    assert surfaces("acute gouty arthritis, arthritis", both) == ["acute gouty arthritis", "arthritis"]


def test_names_inside_words_do_not_match():
    assert surfaces("The patient felt it throughout; he bought a gouttière.", GOUT) == []
    assert surfaces("The fluid under the influence of reflux, fluent.", FLU) == []
    assert surfaces("All of them fall at all hours", Concept("C9", "Acute lymphoblastic leukemia", ("ALL",))) == []
    assert surfaces("ALL was treated", Concept("C9", "Acute lymphoblastic leukemia", ("ALL",))) == ["ALL"]
    assert surfaces("a cat, an aid, it is sad", Concept("C9", "x", ("CAT", "AID", "SAD", "IT"))) == []


def test_a_name_does_not_reach_over_punctuation():
    pain = Concept("C10", "Abdominal pain")
    assert surfaces("Discomfort is abdominal. Pain elsewhere.", pain) == []
    assert surfaces("Abdominal\n\nPain", pain) == []


def test_names_with_symbols_are_found_whole():
    concept = Concept("C11", "22q11.2 deletion syndrome", ("Diabetes mellitus, type 2", "Osteoarthritis (knee)", "(something)", "C++", "***"))
    text = "22q11.2 deletion syndrome; diabetes mellitus, type 2. Osteoarthritis (knee) hurts; 22q11 2 deletion."
    assert surfaces(text, concept) == ["22q11.2 deletion syndrome", "diabetes mellitus, type 2", "Osteoarthritis (knee)"]


# ----------------------------------------------------------------------------------------------------------------- fuzzy


def test_another_form_of_a_word_and_slips_of_the_pen_match():
    seizure, anemia = Concept("C12", "Seizure"), Concept("C13", "Sickle cell anemia")
    assert find("Two seizures today.", seizure)[1] == [("seizures", "fuzzy", round(100 * (1 - 1 / 7), 1))]
    assert find("Known sickle-cell anaemia.", anemia)[1] == [("sickle-cell anaemia", "fuzzy", round(100 * (1 - 1 / 18), 1))]
    assert surfaces("sickle cel anemia, sicckle cell anemia, sickle cell amenia", anemia) == ["sickle cel anemia", "sicckle cell anemia"]
    assert surfaces("Huntingdon disease", HUNTINGTON) == ["Huntingdon disease"]


def test_fuzzy_matching_respects_length_and_setting():
    assert surfaces("goutt, gouts, fevers, pyrexias", Concept("C14", "Gout", ("Fever",))) == []
    assert surfaces("rikets", Concept("C15", "Rickets")) == ["rikets"], "what is left of a slip by the name's length counts as one from a half up"
    assert surfaces("rikkets", Concept("C15", "Rickets")) == ["rikkets"]
    assert surfaces("rinkests, rikest", Concept("C15", "Rickets")) == [], "but not two"
    assert surfaces("rikets", Concept("C15", "Rickets"), fuzzy_score=95) == []
    assert surfaces("Huntingdon disease", HUNTINGTON, fuzzy_score=99) == []
    assert surfaces("seizures", Concept("C12", "Seizure"), fuzzy_min_length=8) == []


def test_another_disease_is_no_slip_of_the_pen():
    vocabulary = {fold(w) for w in ("congenital", "hyperthyroidism", "hypothyroidism", "macrocytic", "microcytic", "anemia")}
    assert surfaces("Congenital hypothyroidism was found.", THYROID, vocabulary) == []
    assert surfaces("A microcytic anemia.", Concept("C16", "Macrocytic anemia"), vocabulary) == []
    assert surfaces("A maccrocytic anemia.", Concept("C16", "Macrocytic anemia"), vocabulary) == ["maccrocytic anemia"]
    assert surfaces("diabetes mellitus type 1", Concept("C17", "Diabetes mellitus type 2")) == []
    assert surfaces("alcoholic fatty liver disease", Concept("C18", "Nonalcoholic fatty liver disease")) == []
    assert surfaces("acute lymphocytic leukemia", Concept("C19", "Chronic lymphocytic leukemia")) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hyperparathyroidism", "hypoparathyroidism"),
        ("glomerulonephritis", "glomerulonephrosis"),
        ("macrocytosis", "microcytosis"),
        ("arthritis", "arteritis"),
        ("dysphagia", "dysphasia"),
        ("adduction", "abduction"),
        ("ileitis", "iliitis"),
        ("perineal", "peroneal"),
        ("hypernatremia", "hyponatremia"),
        ("rubella", "rubeola"),
        ("cystitis", "cystinosis"),
        ("fibroma", "fibrosis"),
        ("neurosis", "necrosis"),
        ("ataxia", "ataxic"),
        ("insomnia", "insomniac"),
        ("neutropenia", "neutropenic"),
    ],
)
def test_two_words_a_slip_apart_stay_apart_whatever_the_vocabulary(one, other):
    for name, said in ((one, other), (other, one)):
        assert confusable(name, said) or OSA.distance(name, said) > 1
        for pattern in ("{}", "Chronic {}", "{} of the newborn", "{}, familial type"):
            assert surfaces(f"A {pattern.format(said)} was seen.", Concept("C1", pattern.format(name)), fuzzy_score=75) == [], (name, said)
            assert surfaces(f"A {pattern.format(name)} was seen.", Concept("C1", pattern.format(name))) == [pattern.format(name)]


@pytest.mark.parametrize("name", ["Hodgkin lymphoma", "Small cell carcinoma", "Diabetes", "Gout"])
@pytest.mark.parametrize("before", ["non-", "Non-", "non ", "NON\u2011", "non\u2013", "pseudo-", "pre-", "non- "])
def test_what_non_stands_before_is_no_hit_unless_a_name_has_it(name, before):
    said = f"A {before}{name} was seen, and a {name} as well."
    assert surfaces(said, Concept("C1", name)) == [name], "only where nothing stands before it"
    assert surfaces(said.replace(name, f"<1CUI> {name} </1CUI>", 1), Concept("C1", name)) == [name]
    whole = Concept("C1", f"{before}{name}".strip())
    assert len(surfaces(f"A {before}{name} was seen.", whole)) == 1
    assert surfaces(f"A nonspecific pain, none of it {name}.", Concept("C1", name)) == [name]


LATIN = [
    "metastasis",
    "metastases",
    "diverticulum",
    "diverticula",
    "thrombus",
    "thrombi",
    "petechia",
    "petechiae",
    "bacterium",
    "bacteria",
    "ganglion",
    "ganglia",
    "carcinoma",
    "carcinomata",
    "varix",
    "varices",
    "cortex",
    "cortices",
    "phalanx",
    "phalanges",
    "vertebra",
    "vertebrae",
    "diagnosis",
    "diagnoses",
    "fistula",
    "fistulae",
    "calculus",
    "calculi",
    "foramen",
    "foramina",
    "dermatitis",
    "dermatitides",
    "biopsy",
    "biopsies",
    "dystrophy",
    "dystrophies",
    "abscess",
    "abscesses",
    "virus",
    "viruses",
    "headache",
    "headaches",
    "rash",
    "rashes",
    "complex",
    "complexes",
    "prolapse",
    "prolapses",
    "disease",
    "diseases",
    "stigma",
    "stigmata",
    "septum",
    "septa",
    "phenomenon",
    "phenomena",
    "syndrome",
    "syndromes",
    "paralysis",
    "paralyses",
    "hernia",
    "hernias",
    "pneumonia",
    "pneumonias",
]


@pytest.mark.parametrize(("singular", "plural"), [*zip(LATIN[::2], LATIN[1::2], strict=True)])
def test_a_word_and_its_plural_are_the_same(singular, plural):
    assert stem_of(singular) == stem_of(plural)
    assert surfaces(f"Two renal {plural}.", Concept("C1", f"Renal {singular}")) == [f"renal {plural}"]
    assert surfaces(f"A renal {singular}.", Concept("C1", f"Renal {plural}")) == [f"renal {singular}"]


def test_words_of_a_demo_name_have_the_stem_of_no_other_word(root):
    """Endings are taken off for plurals only: no two words of the demo's names become one but in number, spelling or accents."""
    alike: dict[str, set[str]] = {}
    for word in {w.casefold() for n in demo_names(root) for w, _ in words_of(n) if w.isalpha() and len(w) > 4}:
        alike.setdefault(stem_of(word), set()).add(word)
    together = {tuple(sorted(words)) for words in alike.values() if len(words) > 1}
    assert len(together) > 100
    for words in together:
        plainly = [unicodedata.normalize("NFD", word).encode("ascii", "ignore").decode().replace("ae", "e").replace("oe", "e") for word in words]
        assert all(a[:4] == b[:4] and OSA.distance(a, b) <= 3 for a, b in itertools.pairwise(plainly)), words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Alpha-galactosidase deficiency", "deficiency of alpha-galactosidase"),
        ("Alpha-galactosidase deficiency", "deficiency of the alpha galactosidase"),
        ("Deficiency of alpha-galactosidase", "alpha-galactosidase deficiency"),
        ("Squamous cell lung carcinoma", "lung carcinoma of squamous cell"),
        ("Lung squamous cell carcinoma", "squamous cell carcinoma of the lung"),
        ("Malignant neoplasm of breast", "malignant breast neoplasms"),
        ("Pain, Abdominal", "abdominal pain"),
        ("Pleural effusion", "effusion of the pleura"),
        ("Leukemia, Lymphoblastic, Acute", "acute lymphoblastic leukaemia"),
        ("Diabetes mellitus, type 2", "Diabetis mellitus, type 2"),
        ("Diabetes mellitus, type 2", "diabetes mellitus (type 2)"),
        ("Osteoarthritis (knee)", "Osteoarthrtis (knee)"),
        ("Non-Hodgkin lymphoma", "nonhodgkin lymphoma"),
        ("Vitamin A deficiency", "deficiency of vitamin A"),
        ("Alpha-galactosidase A deficiency", "deficiency of alpha-galactosidase A"),
        ("Hepatitis A infection", "infection, hepatitis A"),
    ],
)
def test_word_order_and_punctuation_may_differ(name, said):
    for text in (f"Known {said} for years.", f"Known <1CUI> {said} </1CUI> for years."):
        assert surfaces(text, Concept("C1", name)) == [said]
    assert surfaces(f"Known {said.split()[0]}. For {' '.join(said.split()[1:])}", Concept("C1", name)) == []


@pytest.mark.parametrize("text", ["A deficiency of vitamin E.", "Deficiency of a vitamin.", "Deficiency of vitamin D, a problem.", "Deficiency of vitamins."])
def test_the_letter_of_a_name_is_no_article(text):
    assert surfaces(text, Concept("C1", "Vitamin A deficiency")) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Mucopolysaccharidosis type II", "mucopolysaccharidosis type 2"),
        ("Mucopolysaccharidosis type 2", "mucopolysaccharidosis, type II"),
        ("Factor VIII deficiency", "factor 8 deficiency"),
        ("Type 2 diabetes mellitus", "type two diabetes mellitus"),
        ("Diabetes mellitus type 1", "diabetes mellitus (type 1)"),
        ("Type 2 diabetes mellitus", "diabetes mellitus, type 2"),
        ("Essential tremor", "tremor, essential"),
        ("Essential tremor", "tremor (essential)"),
        ("Obstructive sleep apnea", "apnoea, sleep, obstructive"),
        ("Calculus of kidney", "calculus, kidney"),
        ("Posttraumatic stress disorder", "post traumatic stress disorder"),
        ("Posttraumatic stress disorder", "post-traumatic stress disorder"),
        ("Hay fever", "hayfever"),
        ("Headache", "head ache"),
        ("Vitamin B12 deficiency", "vitamin B 12 deficiency"),
        ("Alpha-1 antitrypsin deficiency", "\u03b11-antitrypsin deficiency"),
        ("Beta thalassemia", "\u03b2-thalassaemia"),
        ("Leukocytosis", "leucocytosis"),
        ("Generalized anxiety disorder", "generalised anxiety disorder"),
        ("Hemophilia A", "h\u00e6mophilia A"),
        ("Pulmonary embolism", "pulmonary emboli"),
    ],
)
def test_numerals_letters_blanks_and_spelling_may_differ(name, said):
    for text in (f"Known {said} for years.", f"Known <1CUI> {said} </1CUI> for years.", f"{said[0].upper()}{said[1:]}, stable."):
        assert [s.casefold() for s in surfaces(text, Concept("C1", name))] == [said.casefold()]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Borreliosis", "borelliosis"),
        ("Cholera", "colera"),
        ("Pneumonia", "neumonia"),
        ("Psoriasis", "soriasis"),
        ("Eczema", "exzema"),
        ("Diarrhea", "diarreah"),
        ("Hemorrhage", "hemorage"),
        ("Glaucoma", "laucoma"),
        ("Syphilis", "siphillis"),
    ],
)
def test_what_sounds_alike_or_lacks_its_first_letter_is_a_slip(name, said):
    assert surfaces(f"A {said} was seen.", Concept("C1", name)) == [said]
    assert surfaces(f"A {said} was seen.", Concept("C1", name), {fold(said)}) == [], "not where the knowledge base has that word"


@pytest.mark.parametrize(
    ("name", "said"), [("Chorea", "Korea"), ("Atypical pain", "typical pain"), ("Fascia", "fashion"), ("Factor VIII deficiency", "factor VII deficiency")]
)
def test_what_only_sounds_alike_is_no_slip(name, said):
    assert surfaces(f"There was {said} again.", Concept("C1", name)) == []


def test_a_comma_between_two_items_of_a_list_makes_no_name():
    tremor, cancer, pain = Concept("C1", "Essential tremor"), Concept("C2", "Lung cancer"), Concept("C3", "Pain, Abdominal")
    assert surfaces("Known tremor, essential, on propranolol.", tremor) == ["tremor, essential"]
    assert surfaces("Tremor, essential hypertension, gout.", tremor) == []
    assert surfaces("Cancer, lung: stage II.", cancer) == ["Cancer, lung"]
    assert surfaces("Breast cancer, lung nodules. Bone cancer, lung, and liver.", cancer) == []
    assert surfaces("Pain, abdominal distension. Pain, abdominal.", pain) == ["Pain, abdominal"]
    assert surfaces("Umbilical hernia; inguinal nodes.", Concept("C4", "Hernia, inguinal")) == []


@pytest.mark.parametrize(
    ("name", "there", "elsewhere"),
    [
        ("CVA", "CVA in 2012", "no CVA tenderness"),
        ("PE", "PE was excluded", "PE: lungs clear"),
        ("PE", "a large PE", "On PE the lungs are clear"),
        ("PE", "PE, DVT", "PE tubes"),
        ("RA", "RA since 2004", "97% on RA"),
        ("ED", "known ED, on sildenafil", "seen in the ED"),
        ("PD", "PD with falls", "anti-PD-L1 therapy, PD-1"),
        ("FH", "FH, LDL 240", "FH: mother with gout"),
        ("ALL", "ALL in remission", "REVIEW OF ALL SYSTEMS"),
        ("ALL", "PROBLEMS: ALL, GOUT", "ALL: penicillin"),
        ("HD", "HD since 2001", "dialysis: on HD, HD catheter"),
    ],
)
def test_an_abbreviation_that_means_something_else_there_is_no_hit(name, there, elsewhere):
    concept = Concept("C1", "Some long disease", (name,))
    assert surfaces(f"{there}.", concept) == [name]
    assert surfaces(f"{elsewhere}.", concept) == []
    assert surfaces(f"Seen <1CUI> {name} </1CUI>.", concept) == [name], "a tag is taken at its word"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(["tremor", "essential", "Essential tremor", ",", "(", ")", "of", "the", "-", "hand", "\n", "tremors.", "x"]), max_size=10).map(
        " ".join
    )
)
def test_runs_leave_out_nothing_that_a_plain_expression_finds(text):
    """A name is looked for only where its words are near one another in their order; the expression looks everywhere."""
    found = Matcher(Concept("C1", "Essential tremor"), Locate(), ()).find(text, [])
    for hit in pattern("essential tremor").finditer(text.casefold()):
        assert any(m.start <= hit.start() and hit.end() <= m.end for m in found), text


def test_what_is_no_name_in_another_order():
    assert surfaces("meningitis of bacterial origin", Concept("C1", "Bacterial meningitis")) == []
    assert surfaces("acute leukemia of myeloid type", Concept("C1", "Acute myeloid leukemia")) == []
    assert surfaces("a syndrome (RTT) of girls", Concept("C1", "Syndrome, Rett")) == []
    assert surfaces("hearing loss (conductive and sensorineural)", Concept("C1", "Hearing loss, sensorineural")) == []


def test_tagged_words_of_a_name_in_any_order_are_the_name():
    assert find("<1CUI> bladder carcinoma, urinary </1CUI>", Concept("C1", "Urinary bladder carcinoma"))[1][0][:2] == ("bladder carcinoma, urinary", "tag")
    assert surfaces("carcinoma bladder, urinary", Concept("C1", "Urinary bladder carcinoma")) == []


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            ["Sjögren syndrome", "Ménière disease", "office \ufb01brosis", "naïve ", " and ", "non-", "gout\u00ad", "<1CUI> ", " </1CUI>", "x\u0302 "]
        ),
        max_size=8,
    ).map("".join)
)
def test_a_decomposed_note_has_the_mentions_of_the_composed_one(raw):
    concept = Concept("C1", "Sjögren syndrome", ("Ménière disease", "Office fibrosis", "Gout"))
    seen = []
    for form in ("NFC", "NFD"):
        text, tagged = markers.strip(unicodedata.normalize(form, raw))
        found = Matcher(concept, Locate(), ()).find(text, tagged)
        assert all(not unicodedata.combining(text[m.end : m.end + 1] or " ") for m in found)
        seen.append([(plain(text[m.start : m.end]), m.match, m.score) for m in found])
    assert seen[0] == seen[1]


def demo_names(root: Path) -> list[str]:
    rows = (line.split("|") for line in (root / "resources/demo/umls/META/MRCONSO.RRF").read_text(encoding="utf-8").splitlines())
    return sorted({row[14] for row in rows if row[1] == "ENG" and row[16] == "N"})


def demo_texts(root: Path) -> list[str]:
    files = sorted((root / "resources/demo/semeval").glob("*/*.text"))
    abstracts = [line.split("|", 2)[2] for f in sorted((root / "resources/demo").glob("*/train.txt")) for line in f.read_text().splitlines() if "|a|" in line]
    return [f.read_text(encoding="utf-8") for f in files] + abstracts


def test_names_hardly_ever_match_unrelated_text(root):
    """Every demo name of up to 8 characters against each demo document that lacks it (plural included) by a plain expression."""
    texts = demo_texts(root)[::2]
    assert len(texts) > 50
    tried = hits = 0
    vocabulary = {fold(w.casefold()) for n in demo_names(root) for w, _ in words_of(n)}
    for name in (n for n in demo_names(root) if len(n) <= 8):
        matcher = Matcher(Concept("C", name), Locate(), vocabulary)
        present = re.compile(rf"\b{re.escape(name)}(s|es|'s)?\b", re.IGNORECASE)
        for text in texts:
            if not present.search(text):
                tried += 1
                hits += bool(matcher.find(text, []))
    assert tried > 10_000 and hits / tried < 0.01, (hits, tried)


def test_one_insertion_deletion_or_substitution_is_found(root):
    """METHOD: an insertion was missed in 85 % of cases; here every kind of slip in a long name is found."""
    draw = random.Random(7)
    names = [n for n in demo_names(root) if 12 <= len(n) <= 40 and re.fullmatch(r"[A-Za-z ]+", n) and min(map(len, n.split())) > 4]
    assert len(names) > 100
    for kind in ("insert", "delete", "substitute"):
        found = 0
        for name in names:
            at = draw.choice([i for i in range(1, len(name) - 1) if name[i - 1 : i + 2].isalpha()])
            letter = draw.choice("bcdfghjklmnpqrtvwxyz")
            slip = {"insert": name[:at] + letter + name[at:], "delete": name[:at] + name[at + 1 :], "substitute": name[:at] + letter + name[at + 1 :]}[kind]
            found += bool(surfaces(f"The patient was seen for {slip.lower()} last week.", Concept("C", name)))
        assert found / len(names) > 0.97, kind


GAP = r"(?:[^\S\n]+|[^\S\n]*[-‐‑–—/'’\n][^\S\n]*)"


def pattern(name: str) -> re.Pattern[str]:
    """The rule of exact hits as one expression: words in a row, any gap, an article after "of", what stands at the edges if it is there."""
    before, *inside, after = re.split(r"(\w+)", name)
    body, word = "", ""
    for i, piece in enumerate(inside):
        if i % 2 == 0:
            word = piece
            body += re.escape(piece)
        else:
            gap = GAP if re.fullmatch(GAP, piece) else re.escape(piece)
            body += gap + (f"(?:the{GAP})?" if word.lower() == "of" else "")
    edges = [f"(?:{re.escape(piece)})?" if piece.strip() else "" for piece in (before, after)]
    return re.compile(rf"(?<!\w){edges[0]}{body}{edges[1]}(?!\w)", re.IGNORECASE)


SAID = ["Cancer", "of", "the", "Liver", "[D]", "(acute)", "liver", "OF", "the the", "cancer", "s", "D", "", "type-2"]
BETWEEN = [" ", "  ", "-", " - ", ", ", "\n", "'", " the ", "_", ""]
NAMES = ["Cancer of liver", "Cancer of the liver", "[D]Cancer", "Cancer (acute)", "Cancer, liver", "Liver cancer's", "type-2 cancer", "liver of the the cancer"]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.lists(st.tuples(st.sampled_from(SAID), st.sampled_from(BETWEEN)), max_size=9))
def test_exact_hits_are_those_of_a_plain_expression(name, said):
    text = "".join(a + b for a, b in said).strip()
    one = Name.of(name, "exact", 6)
    folded = fold_case(text)
    assert list(one.spans(folded, word_starts(folded, one.first_word))) == [m.span() for m in pattern(name).finditer(text)]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.text("abces", min_size=4, max_size=22), st.randoms(use_true_random=False))
def test_no_slip_gets_lost_before_words_are_compared(word, draw):
    """What the comparison would accept always shares what slips leave, whatever the slips and wherever they are."""
    stem, most = stem_of(word), max(1, int(len(stem_of(word)) * 0.12))
    form = word
    for _ in range(most):
        at = draw.randrange(1, len(form))
        form = draw.choice(
            [form[:at] + "x" + form[at:], form[:at] + form[at + 1 :], form[:at] + "x" + form[at + 1 :], form[:at] + form[at:][:2][::-1] + form[at + 2 :]]
        )
    other = stem_of(form)
    near = min(OSA.distance(stem, other), OSA.distance(word, form)) <= most and abs(len(stem) - len(other)) <= most + 2
    if len(stem) >= 4 and len(other) >= 3 and set("ae").intersection(other) and near and stem[0] == other[0]:
        left = {kept for text in (stem, word) for kept in reachable_slip_keys(stem[0], text, most)}
        (found,) = keys_and_forms(form)[1]
        assert left.intersection(found.slip_keys), (word, form)


# --------------------------------------------------------------------------------------------------- labelled test set

TAG = re.compile(r"(?:<|&lt;|\{|\x01)\s*[/\\]?\s*1?\s*CUI\s*(?:>|&gt;|\}|\x02)?|/?1CUI(?:>|&gt;)", re.IGNORECASE)  # \x01 and \x02: brackets of the note


def labelled(root: Path) -> list[tuple[Concept, str, list[tuple[int, int]]]]:
    """Concept, raw note, and gold spans, counted in characters that are neither blank nor part of a tag."""
    notes, concept, held = [], None, ""
    for line in (root / "tests/data/location.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            preferred, *others = line[2:].split(" | ")
            concept = Concept(f"C{len({c.preferred for c, *_ in notes}):07}", preferred, tuple(others))
        elif line and not line.startswith("#"):
            held += line.replace("\\[", "\x01").replace("\\]", "\x02")
            if held.count("[") > held.count("]"):  # a mention over a line break
                held += "\n"
                continue
            gold, at = [], 0
            for piece in re.split(r"([\[\]])", TAG.sub("", held)):
                if piece == "[":
                    begun = at
                elif piece == "]":
                    gold.append((begun, at))
                else:
                    at += len("".join(piece.split()))
            notes.append((concept, held.replace("[", "").replace("]", "").replace("\x01", "[").replace("\x02", "]"), gold))
            held = ""
    return notes


def dense(text: str, start: int, end: int) -> tuple[int, int]:
    before, inside = ("".join(part.split()) for part in (text[:start], text[start:end]))
    return len(before), len(before) + len(inside)


def test_precision_and_recall_on_the_labelled_notes(root):
    notes = labelled(root)
    vocabulary = {fold(w.casefold()) for c, *_ in notes for n in c.names for w, _ in words_of(n)}
    right = given = wanted = 0
    wrong = []
    for concept, raw, gold in notes:
        text, tagged = markers.strip(raw)
        found = {dense(text, m.start, m.end) for m in Matcher(concept, Locate(), vocabulary).find(text, tagged)}
        right, given, wanted = right + len(found & set(gold)), given + len(found), wanted + len(gold)
        if found != set(gold):
            wrong.append((concept.preferred, raw))
    assert len(notes) >= 1100 and wanted >= 770 and sum(not gold for *_, gold in notes) >= 300
    assert right / given >= 0.99 and right / wanted >= 0.97, (right / given, right / wanted, wrong)


# ----------------------------------------------------------------------------------------------------------------- whole

PIECES = [
    "<1CUI>",
    "</1CUI>",
    "<1CUI",
    "</1CUI",
    "1CUI>",
    "< 1 CUI >",
    "<",
    ">",
    "/",
    "1",
    "CUI",
    " ",
    "\n",
    ".",
    "'s",
    "(",
    ")",
    "Huntington disease",
    "HD",
    "seizure",
]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_note_gives_clean_text_and_true_spans(raw):
    text, tagged = markers.strip(raw)
    assert not re.search(r"1\s?CUI\s?>|<\s*/?\s*1?\s*CUI", text, re.IGNORECASE) and not markers.has_mark(text)
    assert text == text.strip() and "  " not in text
    for stretch in tagged:
        assert 0 <= stretch.start < stretch.end <= len(text) and text[stretch.start : stretch.end].strip() == text[stretch.start : stretch.end]
    mentions = Matcher(HUNTINGTON, Locate(), ()).find(text, tagged)
    assert all(a.end <= b.start for a, b in itertools.pairwise(mentions))
    named = [m for m in mentions if m.match in ("exact", "synonym")]
    assert all(text[m.start : m.end] in ("HD", "Huntington disease") for m in named)
    for hit in re.finditer(r"(?<!\w)(?:HD|Huntington disease)(?!\w)", text):
        assert any(m.start <= hit.start() and hit.end() <= m.end for m in mentions), "none is missed"


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["fever", "gout", "a b", "x, y (z)"]), st.sampled_from([" and ", ". ", ", ", " then "])), max_size=5))
def test_wrap_and_strip_are_inverse(parts):
    text, spans = "He had ", []
    for name, gap in parts:
        spans.append((len(text), len(text) + len(name)))
        text += name + gap
    text += "then left."
    found, tagged = markers.strip(markers.wrap(text, spans))
    assert found == text and [(t.start, t.end) for t in tagged] == spans


def test_the_funnel_adds_up(tmp_path, root):
    concepts = [("C1", "Gout", []), ("C2", "Influenza", ["flu"]), ("C3", "Sickle cell anemia", [])]
    tables.write(
        tables.CONCEPTS, tmp_path / "kb/concepts.parquet", [{"cui": c, "preferred_name": n, "definition": None, "semantic_types": []} for c, n, _ in concepts]
    )
    names = [{"cui": c, "name": x, "source": "S", "term_type": "T", "preferred": x == n} for c, n, more in concepts for x in (n, *more)]
    tables.write(tables.NAMES, tmp_path / "kb/names.parquet", names)
    texts = {
        ("C1", 0): "Seen for <1CUI> gout </1CUI>. Gout is old.",
        ("C1", 1): "Nothing said throughout.",
        ("C2", 0): "The flu is here. Flu again, and the flu.",
        ("C2", 1): "<1CUI> </1CUI>",
        ("C2", 2): "Influenza or <1CUI> fluid </1CUI>.",
        ("C3", 0): "Has sickle cell anaemia <1CU",
    }
    notes = [
        {
            "note_id": f"{c}-{i}",
            "cui": c,
            "generator": "g",
            "prompt": "p",
            "text": t,
            "seed": 1,
            "finish_reason": "length" if c == "C3" else "stop",
            "tokens": 5,
        }
        for (c, i), t in texts.items()
    ]
    tables.write(tables.NOTES, tmp_path / "notes.parquet", notes)
    prompts = [{"note_id": n["note_id"], "cui": n["cui"], "prompt": "p", "has_definition": False, "seed": 1} for n in notes]
    tables.write(tables.PROMPTS, tmp_path / "prompts.parquet", prompts)
    raw = yaml.safe_load((root / "config.yaml").read_text())
    (tmp_path / "spec.json").write_text(spec_text(load_config(raw), "generators", "smollm2/locate"))
    locate.locate_notes(tmp_path / "spec.json", tmp_path / "kb", tmp_path / "prompts.parquet", tmp_path / "notes.parquet", tmp_path)

    funnel = json.loads((tmp_path / "funnel.json").read_text())
    assert funnel == {
        "prompted": 6,
        "generated": 6,
        "finished_by_length": 1,
        "with_tags": 4,
        "located": 4,
        "located_by_match": {"tag": 1, "exact": 1, "synonym": 1, "fuzzy": 1},
        "rejected": 2,
        "rejected_by_reason": {"empty": 1, "no_mention": 1},
        "mentions": 7,
        "mentions_by_match": {"tag": 1, "exact": 2, "synonym": 3, "fuzzy": 1},
        "notes_by_mentions": {"1": 2, "2": 1, "3": 1},
        "concepts_prompted": 3,
        "concepts_covered": 3,
        "unlisted_surface_share": round(1 / 7, 4),
    }
    located = {r["note_id"]: r for r in tables.read(tables.LOCATED, tmp_path / "located.parquet").to_pylist()}
    mentions = tables.read(tables.SYNTHETIC_MENTIONS, tmp_path / "mentions.parquet").to_pylist()
    assert located["C1-0"]["text"] == "Seen for gout. Gout is old." and len(located["C1-0"]["sentences"]) == 2
    assert all(located[m["note_id"]]["text"][m["start"] : m["end"]] == m["surface"] for m in mentions)
    assert [m["surface"] for m in mentions if m["note_id"] == "C2-0"] == ["flu", "Flu", "flu"]
    assert tables.read(tables.REJECTED, tmp_path / "rejected.parquet").to_pylist() == [
        {"note_id": "C1-1", "cui": "C1", "reason": "no_mention"},
        {"note_id": "C2-1", "cui": "C2", "reason": "empty"},
    ]
