"""Generation: prompts, fine-tuning pairs, controls. No weights."""

import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.errors import UserError
from mentionforge.generation import concepts, pairs, prompts
from mentionforge.generation.concepts import Concept
from mentionforge.generation.kinds import control
from mentionforge.generation.settings import Concepts
from mentionforge.generation.shipped_prompts import SHIPPED
from mentionforge.specs import read_spec

CONCEPTS = [
    ("C0000001", "Gout", "Crystals of urate inflame a joint.", ["T047"], ["gouty arthritis", "Arthritis, Gouty"]),
    ("C0000002", "Huntington Disease", None, ["T047"], ["HD", "Huntington's chorea"]),
    ("C0000003", "Fever", "The body is too warm.", ["T184"], ["pyrexia"]),
    ("C0000004", "Sprain", None, ["T037"], []),
]


def write_kb(folder: Path, rows=CONCEPTS) -> Path:
    concept_rows = [{"cui": c, "preferred_name": p, "definition": d, "semantic_types": t} for c, p, d, t, _ in rows]
    name_rows = [
        {"cui": c, "name": n, "source": "MSH", "term_type": "MH" if n == p else "ET", "preferred": n == p}
        for c, p, _, _, synonyms in rows
        for n in (p, *synonyms)
    ]
    tables.write(tables.CONCEPTS, folder / "concepts.parquet", concept_rows)
    tables.write(tables.NAMES, folder / "names.parquet", name_rows)
    return folder


def write_spec(path: Path, root: Path, generator: str, part: str, **settings) -> Path:
    raw = yaml.safe_load((root / "config.yaml").read_text())
    for key, value in settings.items():
        old = raw["generators"][generator].get(key)
        raw["generators"][generator][key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    path.write_text(spec_text(load_config(raw), "generators", f"{generator}/{part}"))
    return path


def document(doc_id, split, *sentences):
    text, spans = "", []
    for sentence in sentences:
        text += " " if text else ""
        spans.append({"start": len(text), "end": len(text) + len(sentence)})
        text += sentence
    return {"doc_id": doc_id, "split": split, "text": text, "sentences": spans}


def mention(doc, surface, cuis, nth=0):
    start = -1
    for _ in range(nth + 1):
        start = doc["text"].index(surface, start + 1)
    return {
        "doc_id": doc["doc_id"],
        "mention_id": f"{doc['doc_id']}:{start}",
        "split": doc["split"],
        "spans": [{"start": start, "end": start + len(surface)}],
        "surface": surface,
        "expanded": None,
        "entity_type": "Disease",
        "concept_ids": [f"CUI:{c}" for c in cuis],
        "cuis": cuis,
        "concept_cuis": [[c] for c in cuis],
        "composite": False,
        "ood_bucket": "seen_mention",
    }


# --------------------------------------------------------------------------------------------------------------- prompts


def test_every_concept_gets_its_prompts_in_both_forms(tmp_path, root):
    spec = write_spec(tmp_path / "spec.json", root, "smollm2", "prompts", notes_per_concept=3)
    prompts.make_prompts(spec, write_kb(tmp_path), tmp_path / "out.parquet")
    rows = tables.read(tables.PROMPTS, tmp_path / "out.parquet").to_pylist()
    assert [r["note_id"] for r in rows] == [f"{c}-{i}" for c, *_ in CONCEPTS for i in range(3)]
    for row in rows:
        _, name, definition, *_ = next(c for c in CONCEPTS if c[0] == row["cui"])
        assert name in row["prompt"] and "<1CUI>" in row["prompt"] and "</1CUI>" in row["prompt"] and "physician" in row["prompt"]
        assert row["has_definition"] == (definition is not None) == ("Definition" in row["prompt"])
        assert definition is None or definition in row["prompt"]
    assert len({r["seed"] for r in rows}) == len(rows) and all(0 <= r["seed"] < 2**31 for r in rows)


def test_a_notes_prompt_and_seed_do_not_depend_on_other_concepts(tmp_path, root):
    spec = write_spec(tmp_path / "spec.json", root, "smollm2", "prompts")
    prompts.make_prompts(spec, write_kb(tmp_path / "all"), tmp_path / "all.parquet")
    prompts.make_prompts(spec, write_kb(tmp_path / "two", CONCEPTS[1:3]), tmp_path / "two.parquet")
    everything = tables.read(tables.PROMPTS, tmp_path / "all.parquet").to_pylist()
    assert tables.read(tables.PROMPTS, tmp_path / "two.parquet").to_pylist() == everything[1:3]


def test_concepts_are_selected_by_definition_type_and_sample(tmp_path):
    kb = write_kb(tmp_path)
    assert concepts.select(kb, Concepts(require_definition=True)) == ["C0000001", "C0000003"]
    assert concepts.select(kb, Concepts(semantic_types=("T184", "T037"))) == ["C0000003", "C0000004"]
    samples = [concepts.select(kb, Concepts(max=n, seed=5)) for n in (1, 2, 3, 4)]
    assert [len(s) for s in samples] == [1, 2, 3, 4] and all(set(a) < set(b) for a, b in itertools.pairwise(samples))
    fewer = write_kb(tmp_path / "fewer", [c for c in CONCEPTS if c[0] in samples[2]])
    assert concepts.select(fewer, Concepts(max=2, seed=5)) == samples[1]
    assert len({tuple(concepts.select(kb, Concepts(max=2, seed=s))) for s in range(20)}) > 1
    with pytest.raises(UserError, match="no concept"):
        concepts.select(kb, Concepts(semantic_types=("T999",)))


def test_concepts_are_selected_by_their_codes(tmp_path):
    kb = write_kb(tmp_path)
    codes = [("MSH", "D006073", "C0000001"), ("OMIM", "143100", "C0000002"), ("MSH", "D006816", "C0000002"), ("HPO", "HP:0001945", "C0000003")]
    tables.write(tables.XREFS, kb / "xrefs.parquet", [{"source": s, "code": c, "cui": cui, "via": "x"} for s, c, cui in codes])
    assert concepts.select(kb, Concepts(xrefs=("MSH",))) == ["C0000001", "C0000002"]
    assert concepts.select(kb, Concepts(xrefs=("MSH", "HPO"), require_definition=True)) == ["C0000001", "C0000003"]
    with pytest.raises(UserError, match="no concept"):
        concepts.select(kb, Concepts(xrefs=("SNOMEDCT_US",)))


def test_concepts_are_selected_by_rarity_source_and_list(tmp_path, capsys):
    kb = write_kb(tmp_path)
    names = defaultdict(set)
    for row in tables.read(tables.NAMES, kb / "names.parquet").to_pylist():
        names[row["cui"]].add(row["name"])
    fewest = min(map(len, names.values()))
    assert concepts.select(kb, Concepts(max_names=fewest)) == sorted(c for c, found in names.items() if len(found) == fewest)
    assert concepts.select(kb, Concepts(max_names=99)) == sorted(names)
    source = tables.read(tables.NAMES, kb / "names.parquet")["source"][0].as_py()
    assert concepts.select(kb, Concepts(sources=(source,)))
    with pytest.raises(UserError, match=r"no concept .*\(sources\)"):
        concepts.select(kb, Concepts(sources=("NOSUCH",)))
    (tmp_path / "list.txt").write_text("# wanted\nC0000003\n\nC0000001  # gout\nC0009999\n")
    assert concepts.select(kb, Concepts(cuis=str(tmp_path / "list.txt"))) == ["C0000001", "C0000003"]
    assert "1 of 3 ids are not in the knowledge base, C0009999 first" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "list.txt").write_text("C0000003\nHP:0001250\n")  # an id of another vocabulary, not in this knowledge base
    assert concepts.select(kb, Concepts(cuis=str(tmp_path / "list.txt"))) == ["C0000003"]
    (tmp_path / "list.txt").write_text("C0000003\nC12\n")
    with pytest.raises(UserError, match=r"no CUI or id in .*list\.txt:2: 'C12'"):
        concepts.select(kb, Concepts(cuis=str(tmp_path / "list.txt")))


def test_concepts_are_selected_by_training_mentions_alone(tmp_path):
    """Mentions of dev and test never decide what is written about."""
    kb = write_kb(tmp_path)
    where = [("train", ["C0000001"]), ("train", ["C0000001", "C0000002"]), ("dev", ["C0000003"]), ("test", ["C0000003"]), ("test", ["C0000004"])]
    rows = [
        {
            "doc_id": str(i),
            "mention_id": str(i),
            "split": split,
            "spans": [],
            "surface": "x",
            "expanded": None,
            "entity_type": "Disease",
            "concept_ids": [],
            "cuis": cuis,
            "concept_cuis": [[c] for c in cuis],
            "composite": False,
            "ood_bucket": "unmapped",
        }
        for i, (split, cuis) in enumerate(where)
    ]
    tables.write(tables.MENTIONS, tmp_path / "mentions.parquet", rows)
    everything = concepts.select(kb, Concepts())
    chosen = {n: concepts.select(kb, Concepts(corpus="x", max_train_mentions=n), tmp_path / "mentions.parquet") for n in (0, 1, 2)}
    assert chosen[0] == [c for c in everything if c not in ("C0000001", "C0000002")]
    assert chosen[1] == [c for c in everything if c != "C0000001"]
    assert chosen[2] == everything
    with pytest.raises(ValueError, match="go together"):
        Concepts(corpus="x")


def test_names_in_a_prompt_differ_by_more_than_spelling_and_order():
    concept = Concept("C1", "Gout", ("Gouts", "Arthritis, Gouty", "gouty arthritis", "Arthritis gouty", "podagra (old word)", "urate disease"))
    assert concept.common_names(4) == ("Gout", "gouty arthritis", "urate disease")
    assert concept.common_names(2) == ("Gout", "gouty arthritis")
    assert [concepts.fold(w) for w in ("anaemias", "tumour", "crohn's", "diabetes", "gas", "abscess")] == [
        "anemia",
        "tumor",
        "crohn",
        "diabete",
        "gas",
        "abscess",
    ]


# ----------------------------------------------------------------------------------------------------------------- pairs


@pytest.fixture
def corpus(tmp_path):
    train = document("d1", "train", "Seen by SECRETARY.", "He has gout; the gout is old.", "No fever.", "His chorea and HD worsen.", "Done.")
    odd = document("d2", "train", "A small tear of the cuff.", "Pain in the left and the right knee.")
    dev, test = document("d3", "dev", "DEVTEXT gout."), document("d4", "test", "TESTTEXT gout and fever.")
    split = mention(odd, "Pain", ["C0000003"])
    split["spans"].append({"start": odd["text"].index("knee"), "end": len(odd["text"]) - 1})
    split["surface"] = "Pain knee"
    rows = [
        mention(train, "gout", ["C0000001"]),
        mention(train, "gout", ["C0000001"], 1),
        mention(train, "fever", ["C0000003"]),
        mention(train, "HD", ["C9999999", "C0000002"]),
        mention(odd, "small tear", []),
        split,
        mention(dev, "gout", ["C0000001"]),
        mention(test, "gout", ["C0000001"]),
        mention(test, "fever", ["C0000003"]),
    ]
    tables.write(tables.DOCUMENTS, tmp_path / "corpus/documents.parquet", [train, odd, dev, test])
    tables.write(tables.MENTIONS, tmp_path / "corpus/mentions.parquet", rows)
    return tmp_path / "corpus"


def make(tmp_path, root, corpus, **finetune):
    spec = write_spec(tmp_path / "spec.json", root, "smollm2", "finetune", finetune=finetune)
    pairs.make_pairs(spec, write_kb(tmp_path / "kb"), corpus, tmp_path / "pairs.parquet")
    return tables.read(tables.PAIRS, tmp_path / "pairs.parquet").to_pylist()


def test_pairs_hold_the_tagged_sentences_around_a_mention(tmp_path, root, corpus):
    rows = {r["cui"]: r for r in make(tmp_path, root, corpus, context_sentences=0)}
    assert rows["C0000001"]["completion"] == "He has <1CUI> gout </1CUI>; the <1CUI> gout </1CUI> is old."
    assert rows["C0000003"]["completion"] == "No <1CUI> fever </1CUI>."
    assert rows["C0000002"]["completion"] == "His chorea and <1CUI> HD </1CUI> worsen.", "the first CUI in the knowledge base"
    assert rows[None]["completion"] == "A <1CUI> small tear </1CUI> of the cuff."
    assert "small tear" in rows[None]["prompt"] and "Definition" not in rows[None]["prompt"]
    assert "Crystals of urate" in rows["C0000001"]["prompt"]
    assert len(rows) == 4, "one pair per text: two mentions of gout in one sentence, a mention in two pieces left out"
    counts = tables.provenance(tmp_path / "pairs.parquet")["counts"]
    assert counts == {"discontiguous mentions skipped": 1, "mentions already in the same text": 1, "pairs without a CUI": 1}


def test_context_is_counted_in_sentences(tmp_path, root, corpus):
    rows = {r["cui"]: r["completion"] for r in make(tmp_path, root, corpus, context_sentences=1)}
    assert rows["C0000003"] == "He has gout; the gout is old. No <1CUI> fever </1CUI>. His chorea and HD worsen."
    rows = {r["cui"]: r["completion"] for r in make(tmp_path, root, corpus, context_sentences=2)}
    assert rows["C0000003"].startswith("Seen by SECRETARY.") and rows["C0000003"].endswith("Done.")


def test_the_prompt_of_a_pair_is_the_one_asked_later(tmp_path, root, corpus):
    asked = {r["cui"]: r["prompt"] for r in make(tmp_path, root, corpus)}
    prompts.make_prompts(write_spec(tmp_path / "p.json", root, "smollm2", "prompts"), tmp_path / "kb", tmp_path / "prompts.parquet")
    later = {r["cui"]: r["prompt"] for r in tables.read(tables.PROMPTS, tmp_path / "prompts.parquet").to_pylist()}
    assert {c: p for c, p in asked.items() if c} == {c: later[c] for c in asked if c}


def test_no_text_outside_the_training_split_enters_the_pairs(tmp_path, root, corpus):
    rows = make(tmp_path, root, corpus, context_sentences=5)
    text = json.dumps(rows)
    assert {r["doc_id"] for r in rows} == {"d1", "d2"} and "DEVTEXT" not in text and "TESTTEXT" not in text


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_document_or_mention_of_another_split_stops_the_stage(split):
    good, bad = document("d1", "train", "He has gout."), document("d2", split, "She has gout.")
    known = {"C0000001": Concept("C0000001", "Gout")}
    for documents, mentions in (([good, bad], []), ([good], [mention(good, "gout", ["C0000001"]) | {"split": split}])):
        with pytest.raises(UserError, match="leakage"):
            list(pairs.training_pairs(documents, mentions, known, 0, Counter()))


def test_max_pairs_is_a_seeded_sample(tmp_path, root, corpus):
    def sample(seed):
        return [r["pair_id"] for r in make(tmp_path, root, corpus, context_sentences=0, max_pairs=2, seed=seed)]

    assert len(sample(1)) == 2 and sample(1) == sample(1) and len({tuple(sample(s)) for s in range(8)}) > 1


# -------------------------------------------------------------------------------------------------------------- controls


def test_template_puts_names_in_turn_into_varied_sentences(tmp_path, root):
    sentences = SHIPPED["sentences"].sentences
    assert len(sentences) >= 15 and all(s.count("{{ name }}") == 1 for s in sentences)
    kb, spec = write_kb(tmp_path), write_spec(tmp_path / "spec.json", root, "template", "prompts", notes_per_concept=3)
    prompts.make_prompts(spec, kb, tmp_path / "prompts.parquet")
    read_spec(spec, control.ControlGenerator).make_notes(spec, kb, tmp_path / "prompts.parquet", None, tmp_path / "notes.parquet")
    rows = {r["note_id"]: r for r in tables.read(tables.NOTES, tmp_path / "notes.parquet").to_pylist()}
    assert len(rows) == 12 and {r["finish_reason"] for r in rows.values()} == {"control"} and {r["generator"] for r in rows.values()} == {"template"}
    assert "Gout" in rows["C0000001-0"]["text"] and "Arthritis, Gouty" in rows["C0000001-1"]["text"] and "gouty arthritis" in rows["C0000001-2"]["text"]
    assert len({r["text"] for r in rows.values()}) == 12


def test_names_is_the_bare_preferred_name(tmp_path, root):
    kb, spec = write_kb(tmp_path), write_spec(tmp_path / "spec.json", root, "names", "prompts")
    prompts.make_prompts(spec, kb, tmp_path / "prompts.parquet")
    read_spec(spec, control.ControlGenerator).make_notes(spec, kb, tmp_path / "prompts.parquet", None, tmp_path / "notes.parquet")
    assert tables.read(tables.NOTES, tmp_path / "notes.parquet")["text"].to_pylist() == [name for _, name, *_ in CONCEPTS]
