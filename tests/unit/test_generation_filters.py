"""Quality filters: what each drops and keeps, on notes written for the purpose; the chain's tables; replayed corpora."""

import csv
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import published
from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.encoder_settings import NoteEncoder
from mentionforge.errors import UserError
from mentionforge.generation import filtering, filters, funnel, locate, markers
from mentionforge.generation.concepts import Concept
from mentionforge.generation.filters.contract import FilterContext, Note, grams, word_list
from mentionforge.generation.kinds import replay
from mentionforge.text import normalize_surface

KNOWN = {
    "C1": Concept("C1", "Gout", ("podagra",)),
    "C2": Concept("C2", "Influenza", ("flu",)),
    "C3": Concept("C3", "Anemia"),
    "C4": Concept("C4", "Aplastic anemia", ("bone marrow failure",)),
}
PLAIN = "She was seen in clinic for gout and started on a low dose of medication last week."
GERMAN = "Die Patientin wurde wegen Gicht in der Klinik gesehen und bekam eine niedrige Dosis eines Medikaments."


def note(text, cui="C1", raw=None, prompt="", number=0, mentions=()):
    return Note(f"{cui}-{number}", cui, prompt, raw or text, text, tuple(mentions), word_list(text))


def dropped(name, notes, context=None, **settings):
    given = getattr(filters, "".join(part.capitalize() for part in name.split("_")))(**settings)
    return filters.FILTERS[name](notes, given, context or FilterContext(KNOWN))


def test_the_chain_in_config_tables_and_code_is_the_same():
    assert tuple(filters.Filters.model_fields) == tables.FILTERS == tuple(filters.FILTERS)


@pytest.mark.parametrize(
    ("name", "settings", "bad", "good"),
    [
        (
            "parse",
            {},
            ["She has gout.<|im_end|> user", "[INST] gout", "He has <b>gout</b>", "gout \ufffd now", "Instruction: write"],
            [PLAIN, "p < 0.05 and x > 3; note: gout"],
        ),
        ("length", {"min_words": 3, "max_words": 6}, ["Gout.", "one two three four five six seven"], ["He has gout.", "one two three four five six"]),
        ("refusal", {}, ["As an AI language model, I do not write about gout.", "I’m sorry, but gout is private."], [PLAIN, "He cannot walk because of gout."]),
        ("refusal", {"phrases": ("gout is bad",)}, ["My view: gout is bad."], [PLAIN]),
        ("language", {}, [GERMAN], [PLAIN, "Morbus Gout cordis"]),
        ("repetition", {}, ["He has gout in the toe. " * 4], [PLAIN, "He has gout. " * 1]),
    ],
)
def test_filters_of_single_notes(name, settings, bad, good):
    assert list(dropped(name, [note(text, number=i) for i, text in enumerate(bad)], **settings)) == [f"C1-{i}" for i in range(len(bad))]
    assert dropped(name, [note(text, number=i) for i, text in enumerate(good)], **settings) == {}


def test_tags_can_be_required():
    notes = [note("He has gout.", raw="He has <1CUI> gout </1CUI>."), note("He has gout.", raw="He has <1CUI> gout.", number=1), note("He has gout.", number=2)]
    assert list(dropped("parse", notes, require_tags=True)) == ["C1-1", "C1-2"]


def test_prompt_echo_counts_the_prompts_own_words():
    prompt = "As a physician, write a short clinical note about a patient with gout. Definition: crystals of urate inflame a joint."
    echo = note("Definition: crystals of urate inflame a joint. A short clinical note about a patient with gout.", prompt=prompt)
    assert list(dropped("prompt_echo", [echo], n=4)) == ["C1-0"] and not dropped("prompt_echo", [note(PLAIN, prompt=prompt)], n=4)


def test_near_duplicates_are_those_of_a_brute_force_jaccard():
    draw = random.Random(3)
    words = [*PLAIN.split(), "toe", "knee", "pain", "swelling", "red", "warm", "joint", "again", "today", "urate", "high", "tophi", "none"]
    base = [draw.choice(words) for _ in range(60)]
    texts = [" ".join(base)]
    for changes in (1, 2, 9, 20, 40):
        changed = list(base)
        for i in draw.sample(range(60), changes):
            changed[i] = f"other{i}"
        texts.append(" ".join(changed))
    notes = [note(text, number=i) for i, text in enumerate(texts)]

    def jaccard(a, b):
        x, y = set(grams(a.words, 3)), set(grams(b.words, 3))
        return len(x & y) / len(x | y)

    found = dropped("near_duplicate", notes, similarity=0.7)
    for other in notes[1:]:
        similarity = jaccard(notes[0], other)
        assert not 0.62 < similarity < 0.78, "no case at the edge, where an estimate may differ"
        assert (other.note_id in found) == (similarity > 0.7)
    assert found and not dropped("near_duplicate", [note(texts[0]), note(texts[0], cui="C2")])
    masked = [note(f"{w} of the toe for many long weeks", cui=c, mentions=[{"start": 0, "end": len(w)}]) for c, w in (("C1", "gout"), ("C2", "flu"))]
    assert list(dropped("near_duplicate", masked, across_concepts=True)) == ["C2-0"]


def test_near_duplicates_solve_for_their_bands_once(monkeypatch):
    """Not for every note or concept: that took 28 ms each time."""
    from datasketch import lsh

    solve, solved = lsh._optimal_param, []
    monkeypatch.setattr(lsh, "_optimal_param", lambda *given: solved.append(given) or solve(*given))
    notes = [note(f"He has gout and number {i} of many.", cui=f"C{i}") for i in range(9)]
    assert not dropped("near_duplicate", notes, similarity=0.9) and len(solved) == 1


@pytest.mark.parametrize(("name", "field"), [("leakage", "test_texts"), ("memorization", "completions")])
def test_long_stretches_of_other_texts_drop_a_note_and_are_not_quoted(name, field):
    secret = "Mrs Doe of Elm Street was seen for <1CUI> gout </1CUI> on the third of May after a long walk."
    context = FilterContext(KNOWN, **{field: [secret]})
    more = {"corpora": ("x",)} if name == "leakage" else {}
    copied = note("Note: mrs doe of elm street was SEEN for gout, on the third of May!")
    found = dropped(name, [copied, note(PLAIN, number=1)], context, n=6, **more)
    assert list(found) == ["C1-0"] and "elm" not in found["C1-0"].lower()
    assert not dropped(name, [note("Seen for gout on a third floor.")], context, n=6, **more)


def test_contradiction_is_a_tagged_name_of_another_concept():
    def tagged(raw, cui, mentions=()):
        return note(markers.strip(raw)[0], cui=cui, raw=raw, mentions=mentions)

    own = {"start": 7, "end": 11}
    assert dropped("contradiction", [tagged("He has <1CUI> gout </1CUI> and <1CUI> flu </1CUI>.", "C1", [own])])
    assert not dropped("contradiction", [tagged("He has <1CUI> gout </1CUI> and <1CUI> sneezes </1CUI> and flu.", "C1", [own])])
    inside = note("Severe aplastic anemia was found.", cui="C3", mentions=[{"start": 16, "end": 22}])
    assert not dropped("contradiction", [inside]) and dropped("contradiction", [inside], untagged=True)
    assert not dropped("contradiction", [note("Severe anemia was found.", cui="C3", mentions=[{"start": 7, "end": 13}])], untagged=True)


def test_agreement_ranks_concepts_by_the_encoder(minilm):
    def found(surface, cui, number=0):
        return note(f"Seen for {surface}.", cui=cui, number=number, mentions=[{"start": 9, "end": 9 + len(surface), "surface": surface}])

    context = FilterContext(KNOWN, encoder=(minilm, NoteEncoder(model="minilm")))
    both = Note("C1-5", "C1", "", "", "gout, flu", ({"start": 0, "end": 4, "surface": "gout"}, {"start": 6, "end": 9, "surface": "flu"}), ("gout", "flu"))
    notes = [found("gouty toe", "C1"), found("the flu", "C1", 1), found("failure of the bone marrow", "C4", 2), both]
    assert list(dropped("agreement", notes, context, k=1)) == ["C1-1"] and context.disagreeing == {("C1-5", 6)}
    assert not dropped("agreement", notes, FilterContext(KNOWN, encoder=context.encoder), k=4)


def test_agreement_in_context_is_that_of_the_mentions_tokens_in_the_note(minilm):
    """Against ranks from vectors made here, a note at a time, with the library's own model and tokenizer."""
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    from mentionforge.models import folder

    tokenizer, model = AutoTokenizer.from_pretrained(folder(minilm)), AutoModel.from_pretrained(folder(minilm)).eval()

    def vector(text, span=None):
        given = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = given.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            hidden = model(**given).last_hidden_state[0]
        chosen = [i for i, (a, b) in enumerate(offsets) if span is None or (a < span[1] and span[0] < b)]
        mean = hidden[chosen].mean(0)
        return (mean / mean.norm()).numpy()

    texts = [("His toe is red, and he was told that it was gout.", "gout"), ("A cold, or the flu, in winter.", "flu"), ("Marrow that fails: anemia.", "anemia")]
    names = [(c.cui, vector(normalize_surface(n))) for c in KNOWN.values() for n in c.names]
    for text, surface in texts:
        span = (text.index(surface), text.index(surface) + len(surface))
        scores: dict[str, float] = {}
        for cui, name in names:
            scores[cui] = max(scores.get(cui, -2.0), round(float(np.dot(vector(text, span), name)), 4))
        for cui, score in scores.items():
            rank = 1 + sum(other > score for other in scores.values())
            one = note(text, cui=cui, mentions=[{"start": span[0], "end": span[1], "surface": surface}])
            for k in (1, 2, 3):
                context = FilterContext(KNOWN, encoder=(minilm, NoteEncoder(model="minilm")))
                assert bool(dropped("agreement", [one], context, k=k, by="context")) == (rank > k), (text, cui, rank, k)


def test_agreement_in_context_by_an_encoder_of_marked_mentions(tmp_path):
    """KrissBERT: [CLS] of the marked mention, against that of each name, marked; without markers it is an error before anything is computed."""
    import numpy as np
    import torch
    from transformers import BertModel, BertTokenizer

    folder = published.krissbert(tmp_path / "weights", safetensors=True)
    (tmp_path / "fetched.json").write_text(json.dumps({"folder": "weights"}))
    tokenizer, model = BertTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()

    def vector(left, mention, right):
        a, b, c = (tokenizer.encode(part, add_special_tokens=False) for part in (left, mention, right))
        opening, closing = tokenizer.convert_tokens_to_ids(["<ENT>", "</ENT>"])
        ids = [tokenizer.cls_token_id, *a, opening, *b, closing, *c, tokenizer.sep_token_id]
        with torch.no_grad():
            state = model(torch.tensor([ids])).last_hidden_state[0, 0]
        return (state / state.norm()).numpy()

    chosen = NoteEncoder(model="k", pooling="cls", max_tokens=64)
    for left, surface, right in (("It was ", "gout", "."), ("A cold, or the ", "flu", ", in winter."), ("Marrow fails: ", "anemia", ".")):
        scores: dict[str, float] = {}
        for concept in KNOWN.values():
            scores[concept.cui] = max(float(np.dot(vector(left, surface, right), vector("", normalize_surface(n), ""))) for n in concept.names)
        for cui, score in scores.items():
            rank = 1 + sum(other > score for other in scores.values())
            one = note(left + surface + right, cui=cui, mentions=[{"start": len(left), "end": len(left + surface), "surface": surface}])
            for k in (1, 2, 3):
                context = FilterContext(KNOWN, encoder=(tmp_path / "fetched.json", chosen))
                assert bool(dropped("agreement", [one], context, k=k, by="context")) == (rank > k), (surface, cui, rank, k)
    plain = published.sapbert(tmp_path / "plain")
    (tmp_path / "fetched.json").write_text(json.dumps({"folder": str(plain)}))
    with pytest.raises(UserError, match="no markers"):
        dropped("agreement", [one], FilterContext(KNOWN, encoder=(tmp_path / "fetched.json", chosen)), k=1, by="context")


def test_diversity_of_a_concept_counted_by_hand():
    notes = [{"cui": "C1", "text": "Gout again. Gout"}, {"cui": "C1", "text": "gouty toe"}]
    mentions = [{"cui": "C1", "surface": s} for s in ("Gout", "gout", "gouty toe", "podagra")]
    [row] = funnel.diversity(notes, mentions, {"C1": {"gout", "podagra"}})
    # Tokens: gout again . gout | gouty toe: 6, of which 5 distinct; bigrams: gout again, again ., . gout | gouty toe: 4 distinct of 4.
    assert row == {"cui": "C1", "notes": 2, "mentions": 4, "surfaces": 3, "unlisted_share": 0.25, "distinct_1": round(5 / 6, 4), "distinct_2": 1.0}


# ---------------------------------------------------------------------------------------------------------------- stage


def kb_folder(folder: Path) -> Path:
    rows = [{"cui": c.cui, "preferred_name": c.preferred, "definition": None, "semantic_types": []} for c in KNOWN.values()]
    tables.write(tables.CONCEPTS, folder / "concepts.parquet", rows)
    names = [{"cui": c.cui, "name": n, "source": "S", "term_type": "T", "preferred": n == c.preferred} for c in KNOWN.values() for n in c.names]
    tables.write(tables.NAMES, folder / "names.parquet", names)
    return folder


def spec_file(path, root, generator, part):
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["g"] = {"kb": "demo", **generator}
    path.write_text(spec_text(load_config(raw), "generators", f"g/{part}"))
    return path


TEXTS = {
    "C1-0": "Seen for <1CUI> gout </1CUI> of the left toe, doing well.",
    "C1-1": "As an AI, I cannot write about <1CUI> gout </1CUI> for you today.",
    "C1-2": "Seen for <1CUI> gout </1CUI> of the left toe, doing well.",
    "C2-0": "<1CUI> Flu </1CUI>.",
    "C2-1": "No mention of it in this note at all.",
    "C2-2": "She has the <1CUI> flu </1CUI> with a cough, and rests at home.",
}


@pytest.mark.parametrize("licensed", [False, True])
def test_the_chain_writes_tables_that_add_up(tmp_path, root, licensed, capsys):
    kb = kb_folder(tmp_path / "kb")
    row = {"generator": "g", "prompt": "p", "seed": 1, "finish_reason": "stop", "tokens": 9}
    tables.write(tables.NOTES, tmp_path / "notes.parquet", [{"note_id": i, "cui": i[:2], "text": t, **row} for i, t in TEXTS.items()])
    prompts = [{"note_id": i, "cui": i[:2], "prompt": "p", "has_definition": False, "seed": 1} for i in TEXTS]
    tables.write(tables.PROMPTS, tmp_path / "prompts.parquet", prompts)
    generator = {"kind": "template", "filters": {"length": {"min_words": 3}, "refusal": {}, "near_duplicate": {}}}
    at = {"kb": kb, "prompts": tmp_path / "prompts.parquet", "notes": tmp_path / "notes.parquet"}
    locate.locate_notes(spec_file(tmp_path / "l.json", root, generator, "locate"), out=tmp_path / "found", **at)
    capsys.readouterr()
    spec = spec_file(tmp_path / "f.json", root, generator, "filter")
    found = filtering.filter_notes(spec, located_folder=tmp_path / "found", out=tmp_path, licensed=licensed, **at)
    rejected = {r["note_id"]: r["reason"] for r in tables.read(tables.REJECTED, tmp_path / "rejected.parquet").to_pylist()}
    assert rejected == {"C1-1": "refusal", "C1-2": "near_duplicate", "C2-0": "length", "C2-1": "no_mention"}
    assert tables.read(tables.LOCATED, tmp_path / "located.parquet")["note_id"].to_pylist() == ["C1-0", "C2-2"]
    assert set(tables.read(tables.SYNTHETIC_MENTIONS, tmp_path / "mentions.parquet")["note_id"].to_pylist()) == {"C1-0", "C2-2"}
    assert json.loads((tmp_path / "funnel.json").read_text()) == found
    assert found["filters"] == {"length": {"in": 5, "out": 4}, "refusal": {"in": 4, "out": 3}, "near_duplicate": {"in": 3, "out": 2}}
    assert found["generated"] == 6 == found["located"] + found["rejected"]
    with open(tmp_path / "filters.csv", newline="") as source:
        assert [tuple(r.values()) for r in csv.DictReader(source)] == [("length", "5", "4"), ("refusal", "4", "3"), ("near_duplicate", "3", "2")]
    examples = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert {(e["filter"], e["note_id"]) for e in examples} == {(r, i) for i, r in rejected.items() if r != "no_mention"}
    assert all(("text" in e) != licensed and (licensed or e["text"] == TEXTS[e["note_id"]]) for e in examples)
    picture = (tmp_path / "funnel.svg").read_text()
    assert picture.startswith("<svg") and "near_duplicate" in picture and not (licensed and "gout" in picture)
    logged = capsys.readouterr().err.lower()
    assert "length: 5 in, 4 out" in logged and "gout" not in logged and "flu" not in logged.replace("influenza", "")


def test_without_filters_everything_located_is_kept(tmp_path, root):
    kb = kb_folder(tmp_path / "kb")
    row = {"generator": "g", "prompt": "p", "seed": 1, "finish_reason": "stop", "tokens": 9}
    tables.write(tables.NOTES, tmp_path / "notes.parquet", [{"note_id": i, "cui": i[:2], "text": t, **row} for i, t in TEXTS.items()])
    tables.write(tables.PROMPTS, tmp_path / "prompts.parquet", [{"note_id": i, "cui": i[:2], "prompt": "p", "has_definition": False, "seed": 1} for i in TEXTS])
    at = {"kb": kb, "prompts": tmp_path / "prompts.parquet", "notes": tmp_path / "notes.parquet"}
    generator = {"kind": "template"}
    before = locate.locate_notes(spec_file(tmp_path / "l.json", root, generator, "locate"), out=tmp_path / "found", **at)
    after = filtering.filter_notes(spec_file(tmp_path / "f.json", root, generator, "filter"), located_folder=tmp_path / "found", out=tmp_path, **at)
    assert {k: v for k, v in after.items() if k != "diversity"} == before
    for name in ("located", "mentions", "rejected"):
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(pq.read_table(tmp_path / f"found/{name}.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filters": {"agreement": {}}}, "missing encoder in config: generators.smollm2.encoder"),
        ({"locate": {"tag_similarity": 0.8}}, "missing encoder"),
        ({"filters": {"memorization": {}}, "finetune": None}, "generators.smollm2.filters.memorization"),
        ({"filters": {"leakage": {"corpora": ["nope"]}}}, "unknown corpus 'nope' in config: generators.smollm2.filters.leakage.corpora"),
        ({"filters": {"lenght": {}}}, "did you mean 'length'?"),
        ({"model": None, "finetune": None, "filters": {}}, "generators.smollm2.model: backend transformers needs weights"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(root, change, message):
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["smollm2"].update(change)
    with pytest.raises(UserError) as error:
        load_config(raw)
    assert message in str(error.value)


# --------------------------------------------------------------------------------------------------------------- replay

ROWS = [("C1", 'He has <1CUI> gout </1CUI>, "old"\nand new.'), ("C2", "The flu."), ("C9", "Of no known concept."), ("C1", "More gout.")]


def corpus_file(folder: Path, kind: str) -> Path:
    path = folder / f"notes.{kind}"
    if kind == "csv":
        with open(path, "w", newline="", encoding="utf-8") as sink:
            csv.writer(sink).writerows([("cui", "matched_output"), *ROWS])
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"cui": c, "text": t}) + "\n" for c, t in ROWS))
    else:
        pq.write_table(pa.table({"cui": [c for c, _ in ROWS], "matched_output": [t for _, t in ROWS]}), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_corpus_made_elsewhere_is_replayed(tmp_path, root, kind, capsys):
    kb, path = kb_folder(tmp_path / "kb"), corpus_file(tmp_path, kind)
    for limit, wanted in ((None, {"C1-0": ROWS[0][1], "C1-1": ROWS[3][1], "C2-0": ROWS[1][1]}), (1, {"C1-0": ROWS[0][1], "C2-0": ROWS[1][1]})):
        generator = {"kind": "replay", "path": str(path), "notes_per_concept": limit}
        spec = spec_file(tmp_path / "p.json", root, generator, "prompts")
        replay.make_prompts(spec, kb, path, tmp_path / "prompts.parquet")
        replay.make_notes(spec, kb, tmp_path / "prompts.parquet", path, tmp_path / "written.parquet")
        rows = tables.read(tables.NOTES, tmp_path / "written.parquet").to_pylist()
        assert {r["note_id"]: r["text"] for r in rows} == wanted and {r["finish_reason"] for r in rows} == {"replay"}
        with open(tmp_path / "left_out.csv", newline="") as source:
            listed = list(csv.reader(source))
        beyond = [["C1", "1", "beyond notes_per_concept"]] if limit else []
        assert listed == [["cui", "notes", "reason"], *beyond, ["C9", "1", "the concept is not in the knowledge base"]]
    assert "1 rows of 1 CUIs left out: the concept is not in the knowledge base" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "cui,output\nC1,x\n", "missing column in"),
        ("a.csv", 'cui,matched_output\nC1,"x\n', "unreadable CSV"),
        ("a.csv", "cui,matched_output\nC1,x\n,y\n", "a.csv:3"),
        ("a.jsonl", '{"cui": "C1", "text": "x"}\n[1]\n', "a.jsonl:2"),
        ("a.jsonl", "{", "a.jsonl:1"),
        ("a.txt", "", "unknown format"),
        ("a.parquet", "no", "unreadable Parquet"),
    ],
)
def test_a_bad_corpus_file_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        list(replay.read(tmp_path / name))
    assert message in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="missing file"):
        list(replay.read(tmp_path / "gone.csv"))
