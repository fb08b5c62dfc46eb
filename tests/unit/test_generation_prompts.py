"""Generation: prompts as named entries, their checks, specs and markers, and the examples of few_shot. No weights."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from test_generation import CONCEPTS, document, mention, write_kb, write_spec
from test_generation_backends import chat_answer

from checkout import ROOT
from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.config_files import merge
from mentionforge.errors import UserError
from mentionforge.generation import concepts, markers, pairs, prompts, templates
from mentionforge.generation.backends.contract import WrittenNote
from mentionforge.generation.concepts import Concept
from mentionforge.generation.kinds import Generator
from mentionforge.generation.kinds import control as controls
from mentionforge.generation.kinds.few_shot import Pool
from mentionforge.generation.prompt_settings import Prompt
from mentionforge.generation.sample import as_asked, sample_shard
from mentionforge.generation.settings import STEPS, Examples
from mentionforge.generation.shipped_prompts import SHIPPED
from mentionforge.generation.templates import Asked, ShownExample, prompt_text
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec
from serving import failing_server
from tiny import tiny_model


def loaded(change: dict):
    return load_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), change))


def about(template: str, **settings) -> dict:
    """A change that lets smollm2 ask with a prompt of its own."""
    return {"prompts": {"mine": {"template": template, **settings}}, "generators": {"smollm2": {"prompt": "mine"}}}


# ------------------------------------------------------------------------------------------------------- the default


def written_out(name: str, others: list[str], definition: str | None) -> str:
    """The prompt as it was before prompts were entries."""
    text = "As a physician, write a short clinical note about a patient with " + name
    if others:
        text += " (also called " + ", ".join(others) + ")"
    text += "."
    if definition:
        words = definition.split()
        text += " Definition: " + " ".join(words[:60]) + (" …" if len(words) > 60 else "")
    return text + f" Mention the condition at least once by name, synonym or abbreviation, and put each mention in tags: <1CUI> {name} </1CUI>"


@pytest.mark.parametrize(
    "definition", [None, "", "Short  and\nwith breaks.", "{{ names }} <b> & 'so'", " ".join(map(str, range(60))), " ".join(map(str, range(61)))]
)
@pytest.mark.parametrize("others", [[], ["gout attack"], ["a", "b", "c"], ["a", "b", "c", "d", "e"], ["x & y", "{% if %}", "<1CUI>"]])
def test_the_default_asks_what_was_asked_before_it_was_an_entry(others: list[str], definition: str | None) -> None:
    assert prompt_text(SHIPPED["instruction"], Asked(("Gout", *others), definition)) == written_out("Gout", others[:3], definition)


def test_the_table_of_prompts_and_the_pairs_hold_the_same_bytes_as_before(tmp_path: Path, root: Path) -> None:
    kb, spec = write_kb(tmp_path), write_spec(tmp_path / "spec.json", root, "smollm2", "prompts")
    prompts.make_prompts(spec, kb, tmp_path / "out.parquet")
    assert [row["prompt"] for row in tables.read(tables.PROMPTS, tmp_path / "out.parquet").to_pylist()] == [
        written_out("Gout", ["gouty arthritis"], "Crystals of urate inflame a joint."),
        written_out("Huntington Disease", ["HD", "Huntington's chorea"], None),
        written_out("Fever", ["pyrexia"], "The body is too warm."),
        written_out("Sprain", [], None),
    ]


def test_control_sentences_are_those_of_before(tmp_path: Path) -> None:
    concept = Concept("C0000001", "Gout", ("podagra {{ x }}",))
    before = ["The patient has a history of Gout.", "Past medical history is notable for podagra {{ x }}.", "Discharge diagnosis: podagra {{ x }}."]
    first = prompts.seed_of(13, concept.cui) % 18
    notes = {(first + number) % 18: controls.sentence(SHIPPED["sentences"], concept, number, 13) for number in range(18)}
    assert len(notes) == 18 and len(set(notes.values())) == 18
    for number, text in zip((0, 1, 7), before, strict=True):
        name = concept.names[(number - first) % 18 % 2]
        assert notes[number] == re.sub("Gout|podagra {{ x }}", name, text)


def test_the_clinical_note_of_the_authors_names_the_concept_twice() -> None:
    generator = loaded({"generators": {"template": {"prompt": "clinical"}}}).generators["template"]
    note = generator.note(Concept("C0000001", "Gout", ("podagra",)), 1)
    assert note.count("podagra") == 2 and "Gout" not in note


# ------------------------------------------------------------------------------------------------------- what is refused

REFUSED = {
    "Write about {{ nam }}.": "unknown variable 'nam' in config: prompts.mine.template; did you mean 'names'?",
    "{{ preferred }}{% if False %}{{ cui }}{% endif %}": "unknown variable 'cui' in config: prompts.mine.template; known: close, definition, ",
    "Write {{ preferred }\nnow": "wrong template in config: prompts.mine.template: line 1: unexpected '}'; correct it",
    "{% if definition %}{{ preferred }}": "wrong template in config: prompts.mine.template: line 1: Unexpected end of template.",
    "{% if definition %}{{ preferred }}{% endif %}": "empty text in config: prompts.mine.template: for a concept with a name alone, without a definition: ",
    "Write a note.": "no name of the concept in config: prompts.mine.template: the text for a concept with a definition holds none; write {{ preferred }}",
    "Write about {{ definition }}.": "no name of the concept in config: prompts.mine.template",
    "{{ preferred }} or {{ names[1] }}": "template fails in config: prompts.mine.template: for a concept with a name alone, without a definition: UndefinedError",
    "{{ preferred }} {{ names.__class__.__mro__ }}": "template fails in config: prompts.mine.template: for a concept with a definition: SecurityError",
    "{{ names | random }}": "wrong template in config: prompts.mine.template: line 1: No filter named 'random'.",
    "{{ preferred }}{{ lipsum() }}": "unknown variable 'lipsum' in config: prompts.mine.template",
    "{{ preferred }}{% include 'x' %}": "template fails in config: prompts.mine.template",
    "{{ preferred }}{{ 1 // 0 }}": "template fails in config: prompts.mine.template: for a concept with a definition: ZeroDivisionError",
    "": "empty text in config: prompts.mine.template",
}


@pytest.mark.parametrize("template", REFUSED)
def test_a_template_that_cannot_be_used_is_one_line_before_anything_runs(template: str) -> None:
    with pytest.raises(UserError) as refused:
        loaded(about(template))
    assert str(refused.value).startswith(REFUSED[template])
    assert "\n" not in str(refused.value) and refused.value.fix


SETTINGS_REFUSED = {
    "neither": ({"prompts": {"p": {}}}, "prompts.p: give template"),
    "both": ({"prompts": {"p": {"template": "{{ preferred }}", "sentences": ["{{ name }}"]}}}, "prompts.p: give template"),
    "a sentence": ({"prompts": {"p": {"sentences": ["{{ name }}.", "None."]}}}, "config: prompts.p.sentences.1"),
    "its variable": ({"prompts": {"p": {"sentences": ["{{ name }} {{ parents }}"]}}}, "unknown variable 'parents' in config: prompts.p.sentences.0"),
    "frame": ({"prompts": {"p": {"template": "{{ preferred }}", "frame": "{prompt}"}}}, "config: prompts.p.frame"),
    "chat frame": ({"prompts": {"p": {"template": "{{ preferred }}", "style": "chat", "frame": "{prompt} {note}"}}}, "a chat prompt has no frame"),
    "markers": ({"prompts": {"p": {"template": "{{ preferred }}", "markers": ["<", ">"]}}}, "markers must be two texts"),
    "one marker": ({"prompts": {"p": {"template": "{{ preferred }}", "markers": ["**", "**"]}}}, "markers must be two texts"),
    "stop": ({"prompts": {"p": {"template": "{{ preferred }}", "stop": [""]}}}, "config: prompts.p.stop.0"),
    "name": (
        {"generators": {"smollm2": {"prompt": "instructoin"}}},
        "unknown prompt 'instructoin' in config: generators.smollm2.prompt; did you mean 'instruction'",
    ),
    "whole": ({"generators": {"smollm2": {"prompt": {"template": "{{ preferred }}"}}}}, "no name in config: generators.smollm2.prompt"),
    "sentences": ({"generators": {"smollm2": {"prompt": "sentences"}}}, "unfit prompt in config: generators.smollm2.prompt"),
    "template": ({"generators": {"template": {"prompt": "paper"}}}, "unfit prompt in config: generators.template.prompt"),
    "bare names": ({"generators": {"names": {"prompt": "clinical"}}}, "setting without use in config: generators.names.prompt"),
    "swept entry": ({"prompts": {"p": {"template": {"sweep": ["{{ preferred }}", "{{ names }}"]}}}}, "sweep not possible in config: prompts.p.template"),
    "entry's name": ({"prompts": {"a b": {"template": "{{ preferred }}"}}}, "bad name in config: prompts.a b"),
    "no examples": ({"generators": {"f": {"kind": "few_shot", "kb": "demo", "model": "smollm2"}}}, "missing key in config: generators.f.examples"),
    "unshown": (
        {"generators": {"f": {"kind": "few_shot", "kb": "demo", "model": "smollm2", "prompt": "instruction", "examples": {"corpus": "demo_ncbi"}}}},
        "unfit prompt in config: generators.f.prompt: the template of instruction shows no examples",
    ),
    "their corpus": (
        {"generators": {"f": {"kind": "few_shot", "kb": "demo", "model": "smollm2", "examples": {"corpus": "demo_nbci"}}}},
        "unknown corpus 'demo_nbci' in config: generators.f.examples.corpus; did you mean 'demo_ncbi'",
    ),
}


@pytest.mark.parametrize("case", SETTINGS_REFUSED)
def test_a_setting_of_prompts_that_does_not_fit_is_one_line(case: str) -> None:
    change, wanted = SETTINGS_REFUSED[case]
    with pytest.raises(UserError) as refused:
        loaded(change)
    assert wanted in str(refused.value) and "\n" not in str(refused.value)


def test_shipped_prompts_pass_the_checks_of_the_users() -> None:
    assert {"instruction", "paper", "few_shot", "phenotype", "chemical", "procedure", "german", "french", "spanish", "sentences", "clinical"} == set(SHIPPED)
    for name, prompt in SHIPPED.items():
        templates.check(f"config: prompts.{name}", prompt)


# ------------------------------------------------------------------------------------------------------------- specs


def specs(change: dict, name: str = "smollm2") -> dict[str, str]:
    config = loaded(change)
    return {part: spec_text(config, "generators", f"{name}/{part}") for part in STEPS}


def changed(one: dict, other: dict) -> set[str]:
    return {part for part in STEPS if specs(one)[part] != specs(other)[part]}


def test_specs_hold_a_prompt_only_if_it_is_not_the_one_that_comes_with_the_program() -> None:
    default = specs({})
    assert not any('"prompt":' in text for text in default.values())
    assert specs({"generators": {"smollm2": {"prompt": "instruction"}}}) == default
    assert specs({"prompts": {"other": {"template": "{{ preferred }}"}}}) == default
    own = {"prompts": {"instruction": {"template": "Write about {{ preferred }}."}}}
    assert changed({}, own) == {"prompts", "finetune", "sampling"}
    assert json.loads(specs(own)["prompts"])["settings"]["prompt"] == {"template": "Write about {{ preferred }}."}


def test_a_changed_text_is_in_the_specs_of_what_reads_it_and_a_name_is_in_none() -> None:
    assert changed(about("{{ preferred }}"), about("{{ preferred }}!")) == {"prompts", "finetune", "sampling"}
    assert changed(about("{{ preferred }}"), about("{{ preferred }}", stop=["\n\n"])) == {"sampling"}
    assert changed(about("{{ preferred }}"), about("{{ preferred }}", frame="Q: {prompt} A: {note}")) == {"prompts", "finetune", "sampling"}
    renamed = {"prompts": {"b": {"template": "{{ preferred }}"}}, "generators": {"smollm2": {"prompt": "b"}}}
    assert specs(renamed) == specs(about("{{ preferred }}"))
    assert specs({"generators": {"template": {"prompt": "clinical"}}}, "template")["prompts"] != specs({}, "template")["prompts"]
    assert specs({"generators": {"template": {"prompt": "clinical"}}}, "template")["locate"] == specs({}, "template")["locate"]


def test_a_prompt_is_the_same_for_every_job_that_reads_its_spec(tmp_path: Path) -> None:
    change = about("{{ open }} {{ preferred }} {{ close }} {{ language }}", markers=["[[", "]]"], language="German", stop=["###"])
    for part in ("prompts", "finetune", "sampling"):
        (tmp_path / part).write_text(specs(change)[part])
        asked = read_spec(tmp_path / part, Generator).asked
        assert prompt_text(asked, Asked(("Gicht",))) == "[[ Gicht ]] German" and asked.stop == (("###",) if part == "sampling" else ())


def test_style_and_frame_come_from_the_prompt_unless_the_generator_has_its_own() -> None:
    def of(change: dict) -> tuple[str, str]:
        generator = loaded(change).generators["smollm2"]
        return generator.prompt_style, generator.frame

    authors = "### Instruction: {prompt}\n ### Example Doctor's Note: {note}"
    assert of({"generators": {"smollm2": {"prompt": "paper"}}}) == ("plain", authors)
    assert of({"generators": {"smollm2": {"prompt": "paper", "prompt_style": "chat"}}})[0] == "chat"
    assert of({"generators": {"smollm2": {"prompt": "paper", "frame": "{prompt} {note}"}}}) == ("plain", "{prompt} {note}")
    assert of({})[0] == "chat"


def test_prompts_can_be_swept() -> None:
    config = loaded({"generators": {"smollm2": {"prompt": {"sweep": ["instruction", "paper"]}}}})
    first, second = (config.generators[f"smollm2~prompt={name}"] for name in ("instruction", "paper"))
    assert first.asked == SHIPPED["instruction"] and second.asked == SHIPPED["paper"]
    assert (first.prompt_style, second.prompt_style) == ("chat", "plain")
    assert {cell for grid in config.experiment.normalization for cell in grid.generators} >= {"smollm2~prompt=instruction", "smollm2~prompt=paper"}


# ------------------------------------------------------------------------------------------------------- what a template knows


def test_a_template_is_told_all_that_the_knowledge_base_has(tmp_path: Path, root: Path) -> None:
    kb = write_kb(tmp_path)
    above = [("C0000001", "C0000003"), ("C0000001", "C0000004"), ("C0000001", "C0000001"), ("C0000002", "C9999999")]
    tables.write(tables.PARENTS, kb / "parents.parquet", [{"cui": c, "parent": p, "source": "MSH"} for c, p in above])
    told = "{{ preferred }}|{{ names | join('/') }}|{{ definition }}|{{ semantic_type }}|{{ parents | join('/') }}|{{ examples | length }}|{{ language }}"
    change = about(told, language="Latin")
    (tmp_path / "spec.json").write_text(specs(change)["prompts"])
    prompts.make_prompts(tmp_path / "spec.json", kb, tmp_path / "out.parquet")
    assert [row["prompt"] for row in tables.read(tables.PROMPTS, tmp_path / "out.parquet").to_pylist()] == [
        "Gout|Gout/gouty arthritis|Crystals of urate inflame a joint.|Disease or Syndrome|Fever/Sprain|0|Latin",
        "Huntington Disease|Huntington Disease/HD/Huntington's chorea||Disease or Syndrome||0|Latin",
        "Fever|Fever/pyrexia|The body is too warm.|Sign or Symptom||0|Latin",
        "Sprain|Sprain||Injury or Poisoning||0|Latin",
    ]
    assert "parents" in tables.provenance(tmp_path / "out.parquet")["inputs"]


def test_a_template_that_fails_for_one_concept_names_the_concept(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(specs(about("{{ preferred }}{% if names[1:] %}{{ names[2] }}{% endif %}"))["prompts"])
    with pytest.raises(UserError, match=r"template fails in config: prompts\.\*\.template: for C0000001: UndefinedError: .*; guard what"):
        prompts.make_prompts(tmp_path / "spec.json", write_kb(tmp_path), tmp_path / "out.parquet")


def test_own_markers_are_asked_for_and_never_reach_a_table() -> None:
    prompt = Prompt(template="{{ open }}{{ preferred }}{{ close }}", markers=("[[", "]]"))
    assert prompt_text(prompt, Asked(("Gout",))) == "[[Gout]]"
    note = as_asked(WrittenNote("C0-0", "Seen for [[Gout]] and [[ gout ]].", "stop", 9), prompt)
    assert markers.strip(note.text)[0] == "Seen for Gout and gout." and len(markers.strip(note.text)[1]) == 2
    assert as_asked(note, prompt) == note
    assert markers.as_markers("A <1CUI> gout </1CUI>.", prompt.markers) == "A [[ gout ]]."


def test_a_note_ends_before_the_first_stop_string() -> None:
    prompt = Prompt(template="{{ preferred }}", stop=("\nCondition:", "###"))
    note = WrittenNote("C0-0", "Gout. ### \nCondition: fever", "length", 9)
    assert as_asked(note, prompt) == WrittenNote("C0-0", "Gout.", "stop", 9)
    assert as_asked(as_asked(note, prompt), prompt) == as_asked(note, prompt)
    assert as_asked(note, SHIPPED["instruction"]) is not None and as_asked(note, SHIPPED["instruction"]).text == note.text


# ---------------------------------------------------------------------------------------------------------- few_shot


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Eight training documents about three concepts, and documents of dev and test that no prompt may show."""
    surfaces = {"C0000001": "Gout", "C0000002": "HD", "C0000003": "pyrexia"}
    documents = [document(f"t{i}", "train", f"Patient {i} has {surfaces[f'C000000{i % 3 + 1}']} today.") for i in range(8)]
    documents += [document("d", "dev", "Secret dev text on pyrexia."), document("x", "test", "Secret test text on Gout.")]
    mentions = [mention(doc, surfaces[f"C000000{i % 3 + 1}"], [f"C000000{i % 3 + 1}"]) for i, doc in enumerate(documents[:8])]
    mentions += [mention(documents[8], "pyrexia", ["C0000003"]), mention(documents[9], "Gout", ["C0000001"])]
    folder = tmp_path / "corpus"
    folder.mkdir()
    tables.write(tables.DOCUMENTS, folder / "documents.parquet", documents, stamp("test", {}))
    tables.write(tables.MENTIONS, folder / "mentions.parquet", mentions, stamp("test", {}))
    write_kb(tmp_path / "kb")
    return folder


def few_shot(folder: Path, corpus: Path, **examples) -> dict[str, str]:
    """Prompts by note id, made by the two jobs of the workflow."""
    settings = {"corpus": "demo_ncbi", "n": 3, "context_sentences": 0} | examples
    change = {"generators": {"shown": {"kind": "few_shot", "kb": "demo", "model": "smollm2", "notes_per_concept": 2, "examples": settings}}}
    for part, text in specs(change, "shown").items():
        (folder / f"{part}.json").write_text(text)
    pairs.make_pairs(folder / "finetune.json", folder / "kb", corpus, folder / "pairs.parquet")
    generator = read_spec(folder / "prompts.json", Generator)
    generator.make_prompts(folder / "prompts.json", folder / "kb", folder / "pairs.parquet", None, folder / "prompts.parquet")
    return {row["note_id"]: row["prompt"] for row in tables.read(tables.PROMPTS, folder / "prompts.parquet").to_pylist()}


def test_examples_are_training_texts_of_other_concepts_drawn_by_seed(tmp_path: Path, corpus: Path) -> None:
    made = few_shot(tmp_path, corpus)
    assert len(made) == 2 * len(CONCEPTS)
    names = {"C0000001": "Gout", "C0000002": "Huntington Disease", "C0000003": "Fever", "C0000004": "Sprain"}
    for note_id, prompt in made.items():
        own = names[note_id.split("-")[0]]
        shown = re.findall(r"Condition: (.+)\nText: (Patient \d has <1CUI> .+ </1CUI> today\.)\n", prompt)
        assert len(shown) == 3 and len(set(shown)) == 3 and own not in {name for name, _ in shown}
        assert {name for name, _ in shown} <= set(names.values()) and "Secret" not in prompt
        assert prompt.rindex(f"Condition: {own}") > prompt.rindex("Text: ")
    assert len(set(made.values())) == len(made), "each note has a draw of its own"
    assert few_shot(tmp_path, corpus) == made
    assert few_shot(tmp_path, corpus, seed=14) != made


def test_a_document_of_another_split_stops_the_job(tmp_path: Path, corpus: Path) -> None:
    rows = tables.read(tables.DOCUMENTS, corpus / "documents.parquet").to_pylist()
    gold = tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist()
    known = concepts.load(tmp_path / "kb")
    with pytest.raises(UserError, match=r"leakage.*dev split"):
        list(pairs.training_pairs(rows[:9], gold[:8], known, 0, Counter()))


def test_too_few_examples_are_one_line(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(UserError, match=r"too few examples in config: generators\.\*\.examples\.n: .* 5 texts of other concepts than C0000001; lower it to 5"):
        few_shot(tmp_path, corpus, n=6)
    with pytest.raises(UserError, match=r"has 8 texts with a concept of the knowledge base; lower it to 8"):
        few_shot(tmp_path, corpus, n=9)


def test_draws_do_not_depend_on_other_notes_and_pairs_without_a_concept_are_counted(capsys: pytest.CaptureFixture) -> None:
    rows = [{"pair_id": f"p{i}", "doc_id": "d", "cui": None if i == 7 else f"C{i % 4}", "completion": f"<1CUI> {i} </1CUI>"} for i in range(8)]
    pool = Pool(rows, {f"C{i}": f"name {i}" for i in range(4)}, Examples(corpus="c", n=4), ("[[", "]]"))
    assert "7 texts of 4 concepts; 1 without a concept are left out" in capsys.readouterr().err
    drawn = {note: pool.draw(note, "C1") for note in ("C1-0", "C1-1")}
    assert drawn == {
        note: Pool(rows[::-1], {f"C{i}": f"name {i}" for i in range(4)}, Examples(corpus="c", n=4), ("[[", "]]")).draw(note, "C1") for note in drawn
    }
    assert all(len(set(shown)) == 4 and all(e.name != "name 1" for e in shown) for shown in drawn.values())
    assert isinstance(drawn["C1-0"][0], ShownExample) and drawn["C1-0"][0].text.startswith("[[ ")


def test_memorization_may_compare_with_the_texts_that_were_shown() -> None:
    shown = {"kind": "few_shot", "kb": "demo", "model": "smollm2", "examples": {"corpus": "demo_ncbi"}, "filters": {"memorization": {}}}
    assert loaded({"generators": {"shown": shown}}).generators["shown"].filters.pair_readers == ["memorization"]


def sampled(folder: Path, name: str, model: Path | None, backend: dict, **prompt) -> list[dict]:
    """Notes that a backend writes for the prompts of `few_shot`."""
    template = {"template": SHIPPED["few_shot"].template} | prompt
    generator = {"kind": "few_shot", "kb": "demo", "prompt": "own", "backend": backend, "dtype": "float32", "examples": {"corpus": "demo_ncbi"}}
    generator |= {"model": "smollm2", "sampling": {"max_new_tokens": 6, "temperature": 1.0, "top_p": 1.0}}
    spec, out = folder / f"{name}.json", folder / f"{name}.parquet"
    spec.write_text(specs({"prompts": {"own": template}, "generators": {"shown": generator}}, "shown")["sampling"])
    sample_shard(spec, model, folder / "prompts.parquet", None, 0, 1, out)
    return tables.read(tables.NOTES, out).to_pylist()


def test_a_server_gets_the_examples_and_its_notes_are_stored_with_tags_up_to_the_stop(tmp_path: Path, corpus: Path) -> None:
    made, got = few_shot(tmp_path, corpus), []

    def answer(number, path, body, headers):
        got.append(body["messages"][0]["content"])
        return 200, chat_answer("Seen for [[gout]].\nCondition: Fever\nText: [[Fever]]", reason="length"), {}

    with failing_server(answer) as url:
        notes = sampled(tmp_path, "server", None, {"kind": "openai", "base_url": url, "model": "m"}, markers=["[[", "]]"], stop=["\nCondition:"])
    assert sorted(got) == sorted(made.values())
    assert [(note["prompt"], markers.strip(note["text"])[0], note["finish_reason"]) for note in notes] == [
        (made[note["note_id"]], "Seen for gout.", "stop") for note in notes
    ]
    assert all(len(markers.strip(note["text"])[1]) == 1 for note in notes)


@pytest.mark.slow
def test_backends_that_load_weights_write_the_same_notes(tmp_path: Path, corpus: Path) -> None:
    few_shot(tmp_path, corpus)
    tiny = tiny_model(tmp_path / "tiny")
    notes = {kind: sampled(tmp_path, kind, tiny, {"kind": kind}) for kind in ("transformers", "continuous")}
    assert len(notes["transformers"]) == 2 * len(CONCEPTS) and all(note["text"] for note in notes["transformers"])
    assert [(n["note_id"], n["text"]) for n in notes["transformers"]] == [(n["note_id"], n["text"]) for n in notes["continuous"]]
    adapted = {"kind": "few_shot", "kb": "demo", "model": "smollm2", "examples": {"corpus": "demo_ncbi"}, "backend": {"kind": "vllm"}}
    assert loaded({"generators": {"shown": adapted}}).generators["shown"].finetune is None
