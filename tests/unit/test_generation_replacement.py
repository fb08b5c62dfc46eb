"""Replacement: training sentences in which one mention gives way to another name. Labels are recomputed from the sentences themselves."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from test_generation import document, mention, write_kb

from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.errors import UserError
from mentionforge.generation import filtering, locate
from mentionforge.generation.kinds.replacement import Plan, ReplacementGenerator
from mentionforge.generation.training_sentences import training_sentences
from mentionforge.generation.wording import Case, article, capitalized, head_noun, is_plural, reads_like_text
from mentionforge.recognition.phases import chosen_notes
from mentionforge.specs import read_spec

RCC, GOUT, ASTHMA, PARKINSON, FEVERS, COUGH, APC = (f"C000000{i}" for i in range(1, 8))
KB = [
    (RCC, "Renal Cell Carcinoma", None, ["T191"], ["carcinoma, renal cell", "Kidney Carcinoma", "RCC"]),
    (GOUT, "Gout", "Crystals.", ["T047"], ["gouty arthritis"]),
    (ASTHMA, "Asthma", None, ["T047"], ["bronchial asthma"]),
    (PARKINSON, "Parkinson Disease", None, ["T047"], ["early-onset Parkinson disease"]),
    (FEVERS, "Periodic fevers", None, ["T184"], []),
    (COUGH, "Cough", None, ["T184"], ["coughing"]),
    (APC, "Polyposis, Adenomatous", None, ["T191"], ["APC"]),
]
TRAIN = [
    document("1", "train", "A gout attack was seen.", "He has gout and a cough, not asthma.", "Nothing here."),
    document("2", "train", "Asthma is common.", "An asthma is rarer than fevers (periodic fevers).", "We saw polyposis (APC) in one of nine."),
    document("3", "train", "Patients with breast and lung cancer came.", "Gout-like pain, and gout."),
]
OTHERS = [document("4", "dev", "The gout of dev."), document("5", "test", "The asthma of test.")]
MENTIONS = [
    mention(TRAIN[0], "gout", [GOUT]),
    mention(TRAIN[0], "gout", [GOUT], 1),
    mention(TRAIN[0], "cough", [COUGH]),
    mention(TRAIN[0], "asthma", [ASTHMA]),
    mention(TRAIN[1], "Asthma", [ASTHMA]),
    mention(TRAIN[1], "asthma", [ASTHMA]),
    mention(TRAIN[1], "fevers", []),
    mention(TRAIN[1], "periodic fevers", [FEVERS]),
    mention(TRAIN[1], "polyposis", [APC]),
    mention(TRAIN[1], "APC", [APC]) | {"expanded": "polyposis"},
    mention(TRAIN[2], "breast and lung cancer", [RCC, APC]) | {"spans": [{"start": 14, "end": 20}, {"start": 25, "end": 36}]},
    mention(TRAIN[2], "Gout", [GOUT]),
    mention(TRAIN[2], "gout", [GOUT]),
    mention(OTHERS[0], "gout", [GOUT]),
    mention(OTHERS[1], "asthma", [ASTHMA]),
]
MAY_GIVE_WAY = {m["mention_id"] for i, m in enumerate(MENTIONS) if i in (0, 1, 2, 3, 4, 5, 7, 12)}
"""All mentions but: one without a concept, an abbreviation, its long form, one in pieces, and one inside a longer word."""


def write_corpus(folder: Path, documents=(*TRAIN, *OTHERS), mentions=MENTIONS) -> Path:
    tables.write(tables.DOCUMENTS, folder / "documents.parquet", documents)
    tables.write(tables.MENTIONS, folder / "mentions.parquet", mentions)
    return folder


def spec_file(path: Path, root: Path, part: str, **settings) -> Path:
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["swap"] = {"kind": "replacement", "kb": "demo", "corpus": "demo_ncbi", **settings}
    path.write_text(spec_text(load_config(raw), "generators", f"swap/{part}"))
    return path


def made(tmp_path: Path, root: Path, **settings) -> dict[str, dict]:
    """Located notes by id, each with its plan, mentions and the row of `notes`."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    kb, corpus = write_kb(folder / "kb", KB), write_corpus(folder / "corpus")
    specs = {part: spec_file(folder / f"{part}.json", root, part, **settings) for part in ("prompts", "locate", "filter")}
    generator = read_spec(specs["prompts"], ReplacementGenerator)
    generator.make_prompts(specs["prompts"], kb, None, None, folder / "prompts.parquet", corpus)
    generator.make_notes(specs["prompts"], kb, folder / "prompts.parquet", None, folder / "notes.parquet", corpus)
    locate.locate_notes(specs["locate"], kb, folder / "prompts.parquet", folder / "notes.parquet", folder / "found")
    filtering.filter_notes(specs["filter"], kb, folder / "prompts.parquet", folder / "notes.parquet", folder / "found", folder / "out")
    notes = {row["note_id"]: row for row in tables.read(tables.LOCATED, folder / "out/located.parquet").to_pylist()}
    rows = {row["note_id"]: row for row in tables.read(tables.NOTES, folder / "notes.parquet").to_pylist()}
    found = tables.read(tables.SYNTHETIC_MENTIONS, folder / "out/mentions.parquet").to_pylist()
    for note_id, note in notes.items():
        note |= {"folder": folder, "row": rows[note_id], "plan": Plan.read(rows[note_id]["prompt"]), "mentions": [m for m in found if m["note_id"] == note_id]}
    return notes


def gold_of(plan: Plan) -> str:
    """Id of the mention that gave way."""
    return f"{plan.document}:{plan.mention[0]}"


# ------------------------------------------------------------------------------------------------------- notes and labels


@pytest.mark.parametrize("by", ["concept", "synonym"])
@pytest.mark.parametrize("case", ["as_listed", "running_text"])
def test_a_note_is_a_training_sentence_with_one_other_name_and_all_its_labels(tmp_path, root, by, case):
    """Put the gold surface back into the note: it is the sentence again, and its labels are the gold mentions of this sentence."""
    names = {cui: {preferred, *others} for cui, preferred, _, _, others in KB}
    by_place = {(m["doc_id"], m["spans"][0]["start"]): m for m in MENTIONS}
    notes = made(tmp_path, root, by=by, notes_per_concept=6, fit={"case": case, "article": False})
    assert len(notes) >= 5
    for note in notes.values():
        (own,) = [m for m in note["mentions"] if m["match"] != "gold"]
        gold = by_place[note["plan"].document, note["plan"].mention[0]]
        assert gold["split"] == "train" and (note["cui"] in gold["cuis"]) == (by == "synonym")
        text = next(d["text"] for d in TRAIN if d["doc_id"] == gold["doc_id"])
        restored = note["text"][: own["start"]] + gold["surface"] + note["text"][own["end"] :]
        (sentence,) = [s for d in TRAIN if d["doc_id"] == gold["doc_id"] for s in d["sentences"] if text[s["start"] : s["end"]] == restored]
        assert note["text"] == note["row"]["text"] and note["sentences"] == [{"start": 0, "end": len(note["text"])}]
        assert note["text"][own["start"] : own["end"]] == own["surface"] != gold["surface"] and own["cui"] == note["cui"]
        assert own["surface"].casefold() in {name.casefold() for name in names[note["cui"]]}
        assert case == "running_text" or own["surface"] in names[note["cui"]]
        beside = [m for m in MENTIONS if m["doc_id"] == gold["doc_id"] and m is not gold and sentence["start"] <= m["spans"][0]["start"] < sentence["end"]]
        assert sorted((m["surface"], m["cui"]) for m in note["mentions"] if m["match"] == "gold") == sorted(
            (m["surface"], m["cuis"][0] if len(m["cuis"]) == 1 else "") for m in beside
        )
        assert all(note["text"][m["start"] : m["end"]] == m["surface"] for m in note["mentions"])


def test_only_mentions_give_way_whose_place_is_that_of_a_name(tmp_path, root):
    notes = made(tmp_path, root, notes_per_concept=9)
    assert {gold_of(note["plan"]) for note in notes.values()} == MAY_GIVE_WAY
    counts = tables.provenance(notes[f"{GOUT}-0"]["folder"] / "prompts.parquet")["counts"]
    assert counts == {
        "in a sentence with a mention in pieces": 1,
        "inside a longer word": 1,
        "that are abbreviations": 1,
        "whose abbreviation follows": 1,
        "without a concept": 1,
    }


def test_dev_and_test_are_never_read(tmp_path, root):
    with pytest.raises(UserError, match="leakage") as caught:
        training_sentences(TRAIN, MENTIONS, Counter())
    assert caught.value.where == "4"
    with pytest.raises(UserError, match="leakage"):
        training_sentences([*TRAIN, OTHERS[1]], [m for m in MENTIONS if m["split"] == "train"], Counter())
    notes = made(tmp_path, root, notes_per_concept=9)
    assert all("of dev" not in note["text"] and "of test" not in note["text"] for note in notes.values())


def test_a_mention_over_the_end_of_a_sentence_leaves_the_sentence_out():
    doc = document("9", "train", "He has gout", "and more.")
    counts = Counter()
    assert training_sentences([doc], [mention(doc, "gout and", [GOUT])], counts) == [] and counts == {"in a sentence whose end cuts a mention": 2}


def test_a_place_is_used_once_for_a_concept_and_what_is_missing_is_listed(tmp_path, root):
    notes = made(tmp_path, root, notes_per_concept=9)
    for cui in (GOUT, ASTHMA):
        used = [gold_of(note["plan"]) for note in notes.values() if note["cui"] == cui]
        assert len(used) == len(set(used))
    with open(notes[f"{GOUT}-0"]["folder"] / "left_out.csv", newline="") as source:
        rows = {row["cui"]: (int(row["notes"]), row["reason"]) for row in csv.DictReader(source)}
    assert rows[GOUT] == (9 - 5, "no mention that fits is left")  # three of the eight are its own
    assert rows[RCC] == (1, "no mention that fits is left")
    assert rows[APC] == (9, "no name to write")  # an inversion and an abbreviation


def test_a_synonym_is_another_name_and_none_asks_for_each_name(tmp_path, root):
    notes = made(tmp_path, root, by="synonym", notes_per_concept=None)
    assert {cui: sorted(n["plan"].name for n in notes.values() if n["cui"] == cui) for cui in (GOUT, ASTHMA, RCC)} == {
        GOUT: ["gouty arthritis"],  # "Gout" is what stands there already
        ASTHMA: ["bronchial asthma"],
        RCC: [],
    }


# --------------------------------------------------------------------------------------------------------------- what fits

TYPES = {cui: set(types) for cui, _, _, types, _ in KB}


def qualities(cui: str, name: str, gold: dict) -> tuple[bool, bool, bool]:
    """Type, number and head noun, written down by hand for the words of this file."""
    plural = {"Periodic fevers", "periodic fevers"}
    head = {"Renal Cell Carcinoma": "carcinoma", "Kidney Carcinoma": "carcinoma", "gouty arthritis": "arthritis", "bronchial asthma": "asthma"}
    head |= {"Parkinson Disease": "disease", "early-onset Parkinson disease": "disease", "Periodic fevers": "fever", "periodic fevers": "fever"}
    types = set().union(*(TYPES[c] for c in gold["cuis"]))
    heads = {head.get(text, text.lower()) for text in (name, gold["surface"])}
    return bool(types & TYPES[cui]), (name in plural) == (gold["surface"] in plural), len(heads) == 1


@pytest.mark.parametrize(
    "fit",
    [
        {},
        {"semantic_type": "required"},
        {"semantic_type": "ignored", "number": "required"},
        {"semantic_type": "ignored", "number": "ignored", "head_noun": "preferred"},
        {"head_noun": "required"},
    ],
)
def test_the_best_place_that_is_left_is_taken(tmp_path, root, fit):
    demands = [fit.get(key, default) for key, default in (("semantic_type", "preferred"), ("number", "preferred"), ("head_noun", "ignored"))]
    notes = made(tmp_path, root, notes_per_concept=8, fit=fit) if fit != {"head_noun": "required"} else {}
    if not notes:
        with pytest.raises(UserError, match="no replacement"):
            made(tmp_path, root, fit=fit)
    places = {m["mention_id"]: m for m in MENTIONS if m["mention_id"] in MAY_GIVE_WAY}
    for cui, *_ in KB:
        left = {key: gold for key, gold in places.items() if cui not in gold["cuis"]}
        for number in range(8):
            note = notes.get(f"{cui}-{number}")
            if note is None:
                continue
            name = note["plan"].name
            values = {
                key: tuple(same and demand == "preferred" for same, demand in zip(qualities(cui, name, gold), demands, strict=True))
                for key, gold in left.items()
                if all(same or demand != "required" for same, demand in zip(qualities(cui, name, gold), demands, strict=True))
            }
            assert values[gold_of(note["plan"])] == max(values.values()), note["note_id"]
            del left[gold_of(note["plan"])]


def test_seed_share_and_growth(tmp_path, root):
    few, many = made(tmp_path, root, notes_per_concept=2), made(tmp_path, root, notes_per_concept=5)
    assert {key: note["row"] for key, note in many.items() if key in few} == {key: note["row"] for key, note in few.items()} and len(many) > len(few)
    (tmp_path / "list.txt").write_text(f"{GOUT}\n{COUGH}\n")
    two = made(tmp_path, root, notes_per_concept=2, concepts={"cuis": str(tmp_path / "list.txt")})
    assert {key: note["row"] for key, note in two.items()} == {key: note["row"] for key, note in few.items() if note["cui"] in (GOUT, COUGH)}
    other = made(tmp_path, root, notes_per_concept=2, seed=14)
    assert any(other[key]["text"] != few[key]["text"] for key in few.keys() & other.keys())
    assert all(0 <= note["row"]["seed"] < 2**31 for note in few.values()) and len({note["row"]["seed"] for note in few.values()}) == len(few)
    half = {gold_of(n["plan"]) for n in made(tmp_path, root, notes_per_concept=9, share=0.5).values()}
    most = {gold_of(n["plan"]) for n in made(tmp_path, root, notes_per_concept=9, share=0.8).values()}
    assert half < MAY_GIVE_WAY and half <= most <= MAY_GIVE_WAY


# ----------------------------------------------------------------------------------------------------------------- wording


@pytest.mark.parametrize(
    ("name", "head", "plural"),
    [
        ("Renal Cell Carcinoma", "carcinoma", False),
        ("renal cell carcinomas", "carcinoma", True),
        ("Carcinoma of the kidney, stage II", "carcinoma", False),
        ("cancers of the lung", "cancer", True),
        ("Diabetes Mellitus, Type 2", "mellitus", False),
        ("diabetes mellitus type 2", "mellitus", False),
        ("type II diabetes", "diabete", False),
        ("herpes", "herpe", False),
        ("metastases", "metastas", True),
        ("arthritis", "arthritis", False),
        ("multiple sclerosis", "scleros", False),
        ("bullae", "bulla", True),
        ("virus infections due to HIV", "infectia", True),
        ("anaemia", "anemia", False),
    ],
)
def test_head_noun_and_number(name, head, plural):
    from mentionforge.generation.matching.forms import stem_of

    assert is_plural(name) is plural
    assert head_noun(name) == stem_of(head) or head_noun(name) == head


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("eczema", "an"), ("renal cyst", "a"), ("ulcer", "an"), ("uterine rupture", "a"), ("unilateral loss", "a"), ("unintended harm", "an"),
        ("HIV infection", "an"), ("MRI", "an"), ("DNA defect", "a"), ("X-linked disease", "an"), ("8-day fever", "an"), ("European", "a"), ("hour", "an"),
    ],
)  # fmt: skip
def test_article(text, wanted):
    assert article(text) == wanted


def test_names_are_written_as_in_running_text():
    sentences = ["Patients with Crohn disease and renal failure came.", "Renal failure is common in Asia."]
    names = [
        "Renal Cell Carcinoma",
        "Heart Attack",
        "heart attacks",
        "early-onset Parkinson disease",
        "Parkinson Disease",
        "Asthma",
        "HIV Infections",
        "Gehrig disease",
    ]
    case = Case(sentences, names)
    wanted = {
        "Renal Cell Carcinoma": "renal Cell carcinoma",  # nothing tells of "Cell": it is no last word, and nowhere in lower case
        "Heart Attack": "heart attack",
        "Crohn Disease": "Crohn disease",
        "Parkinson Disease": "Parkinson disease",
        "Asthma": "asthma",
        "HIV Infections": "HIV infections",
        "Gehrig disease": "Gehrig disease",
        "mTOR defect, type VIIa": "mTOR defect, type VIIa",
    }
    assert {name: case.write(name) for name in wanted} == wanted
    assert [capitalized(text) for text in ("asthma", "mTOR defect", "X-linked")] == ["Asthma", "mTOR defect", "X-linked"]


def test_names_that_no_sentence_would_use():
    assert [
        name
        for name in ("Asthma", "carcinoma, renal cell", "RCC", "Gout (disorder)", "Gout NOS", "a b c d e f g", "CAT EYE SYNDROME", "HIV infection")
        if reads_like_text(name)
    ] == [
        "Asthma",
        "HIV infection",
    ]


def test_articles_and_first_words_agree_with_the_name(tmp_path, root):
    texts = {note["text"] for note in made(tmp_path, root, notes_per_concept=9).values()}
    assert any(text.startswith("An asthma attack") for text in texts) or any(text.startswith("A renal") for text in texts)
    assert not any(text.startswith(("A asthma", "A early", "An renal", "An cough")) for text in texts)
    assert all(text[0].isupper() for text in texts)


# ------------------------------------------------------------------------------------------------ tables and what reads them


def test_recognition_learns_every_label_and_linking_the_own_one(tmp_path, root):
    from mentionforge.normalization.embed import embed_generator

    notes = made(tmp_path, root, notes_per_concept=4)
    folder = next(iter(notes.values()))["folder"]
    tables.write(tables.CHOSEN, folder / "chosen.parquet", [{"note_id": key, "cui": note["cui"]} for key, note in notes.items()])
    learned = chosen_notes(folder / "chosen.parquet", folder / "out")
    assert {key: sorted(spans) for key, spans in learned.mentions.items()} == {
        key: sorted([(m["start"], m["end"])] for m in note["mentions"]) for key, note in notes.items()
    }
    assert any(len(spans) > 1 for spans in learned.mentions.values())
    raw = load_config(yaml.safe_load((root / "config.yaml").read_text()))
    (folder / "tfidf.json").write_text(spec_text(raw, "linkers", "tfidf"))
    embed_generator(folder / "tfidf.json", None, folder / "out", folder / "embedded")
    entries = tables.read(tables.EMBEDDED, folder / "embedded/entries.parquet").to_pylist()
    assert len(entries) == len(notes)
    for entry in entries:
        note = notes[entry["entry_id"].partition(":")[0]]
        assert entry["cuis"] == [note["cui"]] and entry["text"] in {m["surface"] for m in note["mentions"] if m["match"] != "gold"}


def test_filters_count_own_mentions_and_drop_labels_with_their_note(tmp_path, root):
    everything = made(tmp_path, root, notes_per_concept=9)
    kept = made(tmp_path, root, notes_per_concept=9, filters={"length": {"min_words": 5}, "contradiction": {"untagged": True}, "near_duplicate": {}})
    folder = next(iter(kept.values()))["folder"]
    funnel = json.loads((folder / "out/funnel.json").read_text())
    found = tables.read(tables.SYNTHETIC_MENTIONS, folder / "out/mentions.parquet").to_pylist()
    assert 0 < len(kept) < len(everything) and funnel["mentions"] == funnel["located"] == len(kept)
    assert {m["note_id"] for m in found} == set(kept) and len(found) > len(kept)
    assert {m["match"] for m in found} <= {"exact", "synonym", "gold"}


def test_settings_that_do_not_fit_together(root):
    def config(**settings):
        raw = yaml.safe_load((root / "config.yaml").read_text())
        raw["generators"]["swap"] = {"kind": "replacement", "kb": "demo", "corpus": "demo_ncbi", **settings}
        return load_config(raw)

    assert config().generators["swap"].control
    with pytest.raises(UserError, match=r"unknown corpus 'demo_ncb'.*generators\.swap\.corpus.*did you mean 'demo_ncbi'"):
        config(corpus="demo_ncb")
    with pytest.raises(UserError, match=r"filter without use.*filters\.memorization"):
        config(filters={"memorization": {}})
