"""Configuration: validation, sweeps, specs, cells."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checkout import ROOT
from mentionforge.config import Config, cross_cells, load_config, normalization_cells, recognition_cells, spec_text, swept_settings, unfold_sweeps
from mentionforge.config_files import check_command_line, merge, position_of, read, read_file
from mentionforge.errors import UserError
from mentionforge.generation.kinds import Generator, LlmGenerator
from mentionforge.kb.sources.ontologies import OntologyKb
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.normalization.linkers import Linker
from mentionforge.recognition.kinds.dictionary import DictionaryRecognizer
from mentionforge.recognition.kinds.tagger import TaggerRecognizer
from mentionforge.specs import read_spec


def raw() -> dict:
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def test_default_is_valid_and_counts_its_cells() -> None:
    config = load_config(raw(), root=ROOT)
    normalization, recognition = normalization_cells(config), recognition_cells(config)
    # 3 corpora x 3 indexes x (2 linkers x (1 baseline + 4 strategies x 3 generators) + 1 linker without generators)
    assert len(normalization) == 3 * 3 * (2 * 13 + 1)
    assert {(c.corpus, c.strategy) for c in recognition} >= {("demo_semeval", s) for s in config.strategies}
    assert {c.corpus for c in recognition} == set(config.corpora)
    assert all((c.strategy == "none") == (c.generator == "none") for c in [*normalization, *recognition])
    assert len(set(normalization)) == len(normalization)


def test_entries_survive_their_spec_file(tmp_path) -> None:
    config = load_config(raw())
    for kind in ("models", "downloads", "kbs", "corpora", "generators", "strategies", "recognizers", "linkers", "indexes"):
        for name, entry in getattr(config, kind).items():
            path = tmp_path / "spec.json"
            path.write_text(spec_text(config, kind, name))
            assert read_spec(path, get_args(Config.__pydantic_fields__[kind].annotation)[1]) == entry


def test_parts_of_a_generator_hold_only_their_settings(tmp_path) -> None:
    config = load_config(raw())
    hotter = load_config(merge(raw(), {"generators": {"smollm2": {"sampling": {"temperature": 0.3}}}}))
    for part in ("prompts", "finetune", "locate"):
        assert spec_text(config, "generators", f"smollm2/{part}") == spec_text(hotter, "generators", f"smollm2/{part}")
    assert spec_text(config, "generators", "smollm2/sampling") != spec_text(hotter, "generators", "smollm2/sampling")
    path = tmp_path / "spec.json"
    path.write_text(spec_text(hotter, "generators", "smollm2/sampling"))
    entry = read_spec(path, Generator)
    assert isinstance(entry, LlmGenerator) and entry.sampling.temperature == 0.3


def test_kinds_of_knowledge_base() -> None:
    ontology = {"open": {"source": "ontologies", "hpo": "x.obo"}}
    config = load_config(merge(raw(), {"kbs": ontology}))
    assert isinstance(config.kbs["open"], OntologyKb) and isinstance(config.kbs["demo"], RrfKb)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "linkers"}', '{"kind": "nope", "settings": {}}', '{"kind": "linkers", "settings": {"kind": "x"}}'])
def test_a_broken_spec_is_one_clear_line(text: str, tmp_path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"(unreadable|wrong) spec"):
        read_spec(path, Linker)


def test_several_mistakes_are_announced() -> None:
    bad = merge(raw(), {"recognizers": {"minilm": {"batch_size": 0, "max_tokens": "many"}}})
    with pytest.raises(UserError, match=r"recognizers\.minilm\.batch_size.*1 more"):
        load_config(bad)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"models": {"minilm": {"hub": "a/b@"}}}, "config: models.minilm.hub: write ORG/NAME or ORG/NAME@REVISION (got 'a/b@')"),
        ({"models": {"minilm": {"hub": "a/b@main@x"}}}, "config: models.minilm.hub: write ORG/NAME or ORG/NAME@REVISION (got 'a/b@main@x')"),
        ({"models": {"minilm": {"hub": ""}}}, "config: models.minilm.hub: write ORG/NAME or ORG/NAME@REVISION (got '')"),
        ({"models": {"minilm": {"path": ""}}}, "config: models.minilm.path: String should have at least 1 character"),
        (
            {"generators": {"smollm2": {"finetune": {"eval_steps": 0}}}},
            "config: generators.smollm2.finetune.eval_steps: Input should be greater than or equal to 1, or Input should be 'epoch' (got 0); correct it",
        ),
        ({"generators": {"llama2": {"shards": 16}}}, "missing key in config: generators.llama2.kind: "),
        ({"kbs": {"umls": {"path": "META"}}}, "missing key in config: kbs.umls.source: "),
    ],
)
def test_a_bad_value_is_named_by_its_key(change: dict, line: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(merge(raw(), change))
    assert line in str(caught.value) and "more after this" not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "../x", "a b", "-x", ""])
def test_names_must_be_folders(name: str) -> None:
    with pytest.raises(UserError, match="bad name"):
        load_config(merge(raw(), {"linkers": {name: {"kind": "mention", "model": "minilm"}}}))


def test_none_is_reserved() -> None:
    with pytest.raises(UserError, match="reserved name"):
        load_config(merge(raw(), {"generators": {"none": {"kind": "names", "kb": "demo"}}}))


# ---------------------------------------------------------------------------------------------------------------- sweeps


def test_sweep_unfolds_into_named_variants_and_grids_follow() -> None:
    data = raw()
    merge(data, {"linkers": {"context": {"max_tokens": {"sweep": [32, 64]}, "pooling": {"sweep": ["cls", "mean"]}}}})
    config = load_config(data)
    names = [
        "context~pooling=cls~max_tokens=32",
        "context~pooling=cls~max_tokens=64",
        "context~pooling=mean~max_tokens=32",
        "context~pooling=mean~max_tokens=64",
    ]
    assert sorted(name for name in config.linkers if name.startswith("context")) == names
    assert config.linkers[names[0]].max_tokens == 32 and config.linkers[names[3]].pooling == "mean"
    assert set(config.experiment.normalization[0].linkers) == {"mention", *names}


def test_nested_sweep() -> None:
    config = load_config(merge(raw(), {"generators": {"smollm2": {"finetune": {"lora": {"r": {"sweep": [4, 8]}}}}}}))
    assert config.generators["smollm2~r=8"].finetune.lora.r == 8


def test_empty_sweep_is_an_error() -> None:
    with pytest.raises(UserError, match="empty sweep"):
        load_config(merge(raw(), {"linkers": {"mention": {"pooling": {"sweep": []}}}}))


def test_zipped_lists_advance_together_and_cross_with_sweeps() -> None:
    entry = {"lora": {"r": {"zip": [4, 8]}, "alpha": {"zip": [8, 16]}}, "rate": {"sweep": [1, 2, 3]}}
    found = unfold_sweeps({"linkers": {"x": entry}})["linkers"]
    assert list(found) == [f"x~r={r}~alpha={2 * r}~rate={rate}" for r in (4, 8) for rate in (1, 2, 3)]
    assert all(e["lora"]["alpha"] == 2 * e["lora"]["r"] for e in found.values())
    with pytest.raises(UserError, match=r"different lengths.*r has 2, alpha has 3"):
        unfold_sweeps({"linkers": {"x": {"r": {"zip": [1, 2]}, "alpha": {"zip": [1, 2, 3]}}}})


def test_variants_are_named_after_labels_and_tell_equal_keys_apart() -> None:
    found = unfold_sweeps({"recognizers": {"x": {"real": {"epochs": {"sweep": [1, 2]}}, "synthetic": {"epochs": {"sweep": [1]}}}}})["recognizers"]
    assert list(found) == ["x~real.epochs=1~synthetic.epochs=1", "x~real.epochs=2~synthetic.epochs=1"]
    found = unfold_sweeps({"linkers": {"x": {"steps": {"sweep": {"all": ["plural", "order"], "none": []}}}}})["linkers"]
    assert {name: e["steps"] for name, e in found.items()} == {"x~steps=all": ["plural", "order"], "x~steps=none": []}
    assert list(unfold_sweeps({"linkers": {"x": {"expand": {"sweep": [True, None]}}}})["linkers"]) == ["x~expand=true", "x~expand=null"]
    with pytest.raises(UserError, match="give its value a label"):
        unfold_sweeps({"linkers": {"x": {"steps": {"sweep": [["plural"]]}}}})
    with pytest.raises(UserError, match="value given twice"):
        unfold_sweeps({"linkers": {"x": {"k": {"sweep": [1, 1]}}}})
    with pytest.raises(UserError, match="name given twice"):
        unfold_sweeps({"linkers": {"x": {"k": {"sweep": [1]}}, "x~k=1": {}}})


def test_a_swept_corpus_is_tested_in_all_grids() -> None:
    data = unfold_sweeps(merge(raw(), {"corpora": {"demo_ncbi": {"composite": {"sweep": ["any", "all"]}}}}))
    named = [c for c in data["experiment"]["normalization"][0]["corpora"] if c.startswith("demo_ncbi")]
    assert named == ["demo_ncbi~composite=any", "demo_ncbi~composite=all"]


def test_what_varies_is_told_by_setting() -> None:
    data = {"linkers": {"x": {"a": {"sweep": [1, 2]}, "b": {"c": {"zip": ["p~a=1", "q"]}, "d": {"zip": [5, 6]}}}, "y": {"a": 1}}}
    found = swept_settings(data)
    assert found["linkers", "x~a=2~c=p~a=1~d=5"] == {"linkers.x.a": "2", "linkers.x.b.c": "p~a=1", "linkers.x.b.d": "5"}
    assert {name for _, name in found} == set(unfold_sweeps(data)["linkers"]) - {"y"}


@given(st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True), st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True))
def test_sweeps_give_the_product(first: list[int], second: list[int]) -> None:
    entry = {"a": {"sweep": first}, "b": {"c": {"sweep": second}}, "d": 1}
    unfolded = unfold_sweeps({"linkers": {"x": entry}})["linkers"]
    assert sorted((e["a"], e["b"]["c"]) for e in unfolded.values()) == sorted((a, b) for a in first for b in second)
    assert entry == json.loads(json.dumps(entry))


def test_merge_lays_mappings_over_and_replaces_lists() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"c": [3]}, "e": {"f": 1}}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": 1}}


def test_recognizers_are_taggers_unless_they_say_otherwise() -> None:
    config = load_config(raw())
    assert isinstance(config.recognizers["minilm"], TaggerRecognizer) and isinstance(config.recognizers["dictionary"], DictionaryRecognizer)
    with pytest.raises(UserError, match=r"recognizers\.minilm.*kind is tagger, dictionary or external"):
        load_config(merge(raw(), {"recognizers": {"minilm": {"kind": "tager"}}}))
    with pytest.raises(UserError, match=r"unknown key in config: recognizers\.dictionary\.min_lenght; did you mean 'min_length'"):
        load_config(merge(raw(), {"recognizers": {"dictionary": {"min_lenght": 3}}}))
    with pytest.raises(UserError, match=r"unknown key in config: recognizers\.dictionary\.model: its place is in entries of another kind") as refused:
        load_config(merge(raw(), {"recognizers": {"dictionary": {"model": "minilm"}}}))
    assert "did you mean" not in str(refused.value)


def test_every_pair_of_corpora_is_crossed_once() -> None:
    grid = {"corpora": ["demo_ncbi", "demo_bc5cdr"], "generators": ["names"], "strategies": ["none", "naive"], "recognizers": ["minilm", "dictionary"]}
    grid |= {"schedules": ["real_only", "mixed"], "seeds": [1, 2], "test_corpora": ["demo_ncbi", "demo_bc5cdr", "demo_semeval"]}
    config = load_config(merge(raw(), {"experiment": {"recognition": [grid, grid]}}))
    trained = [c for c in recognition_cells(config) if c.recognizer == "minilm"]
    untrained = [c for c in recognition_cells(config) if c.recognizer == "dictionary"]
    assert len(trained) == 2 * 2 * 2 and len(untrained) == 2 and {(c.schedule, c.seed, c.strategy) for c in untrained} == {("untrained", 0, "none")}
    crossed = cross_cells(config)
    assert {(c.corpus, c.schedule, c.generator, c.strategy, c.seed) for c in crossed} == {
        (to, f"{c.schedule}~train={c.corpus}", c.generator, c.strategy, c.seed) for c in trained for to in grid["test_corpora"] if to != c.corpus
    }
    assert len(crossed) == 2 * len(trained) and not cross_cells(load_config(raw()))
    with pytest.raises(UserError, match=r"unknown corpus 'nope' in config: experiment\.recognition\.0\.test_corpora"):
        load_config(merge(raw(), {"experiment": {"recognition": [grid | {"test_corpora": ["nope"]}]}}))


def test_strategies_that_are_declared_confirmatory_exist() -> None:
    declared = {"statistics": {"confirmatory": {"strategies": ["naive"], "groups": ["all"]}}}
    settings = load_config(merge(raw(), declared)).statistics
    assert settings.confirmatory.strategies == ("naive",) and settings.confirmatory.against == ("baseline", "control")
    swept = {"strategies": {"naive": {"notes_per_concept": {"sweep": [1, 2]}}}}
    assert load_config(merge(merge(raw(), declared), swept)).statistics == settings
    with pytest.raises(UserError, match=r"unknown strategy 'naiv' in config: statistics\.confirmatory\.strategies; did you mean 'naive'"):
        load_config(merge(raw(), {"statistics": {"confirmatory": {"strategies": ["naiv"]}}}))
    with pytest.raises(UserError, match=r"statistics\.confirmatory\.groups"):
        load_config(merge(raw(), {"statistics": {"confirmatory": {"groups": ["rare"]}}}))


# ------------------------------------------------------------------------------------------------------- files, read strictly


def nested(opening: str, closing: str) -> str:
    """Ten levels of ten aliases each: ten thousand million values, as lists or mappings."""
    keys = "abcdefghij"
    inner = ",".join("x" if opening == "[" else f"{k}: x" for k in keys)
    rows = [f"a0: &a0 {opening}{inner}{closing}"]
    for i in range(1, 10):
        inner = ",".join(f"*a{i - 1}" if opening == "[" else f"{k}: *a{i - 1}" for k in keys)
        rows.append(f"a{i}: &a{i} {opening}{inner}{closing}")
    return "\n".join(rows)


BROKEN: dict[str, tuple[str | bytes, int, str]] = {
    "tab": ("results: x\nlinkers:\n\ta: {kind: exact}\n", 3, "begins with a tab"),
    "tab after blanks": ("linkers:\n  a:\n  \tkind: exact\n", 3, "begins with a tab"),
    "open bracket": ("linkers:\n  a: [\n", 3, "no YAML"),
    "open quote": ('results: "x\n', 2, "no YAML"),
    "two colons": ("results: x\nreport: b: c\n", 2, "no YAML"),
    "dedent": ("linkers:\n    a: 1\n  b: 2\n", 3, "no YAML"),
    "two documents": ("results: x\n---\nresults: y\n", 2, "several documents"),
    "list": ("# settings\n- results\n", 2, "a list stands"),
    "scalar": ("results\n", 1, "a single value stands"),
    "null": ("~\n", 1, "a single value stands"),
    "empty": ("", 1, "there is nothing in it"),
    "comment": ("# nothing\n\n", 1, "there is nothing in it"),
    "latin-1": ("results: x\n# caf\u00e9\n".encode("latin-1"), 2, "byte 0xe9 is no UTF-8"),
    "utf-16": ("results: x\n".encode("utf-16"), 1, "it is UTF-16"),
    "utf-16 without mark": ("results: x\n".encode("utf-16-le"), 1, "zero byte"),
    "zero byte": ("results: x\na: \0\n", 2, "zero byte"),
    "control": ("results: x\na: \x07\n", 2, "no YAML"),
    "surrogate": ('a: 1\nresults: "\\ud800"\n', 2, "no YAML"),
    "python tag": ("results: x\nreport: !!python/object/apply:os.getcwd []\n", 2, "unknown tag"),
    "python name": ("results: !!python/name:os.system\n", 1, "unknown tag"),
    "other tag": ("results: x\nreport: !vault abc\n", 2, "unknown tag in"),
    "tag of a set": ("results: !!set {a, b}\n", 1, "unknown tag"),
    "tag of binary": ("results: !!binary aGk=\n", 1, "unknown tag"),
    "tag of another kind": ("results: !!str [a]\n", 1, "stands before a collection"),
    "tag of a number": ("a: 1\nb: !!int x\n", 2, "'x' is no int"),
    "key twice": ("results: x\nreport: {}\nresults: y\n", 3, "'results' stands in row 1 too"),
    "key twice inside": ("linkers: {a: {kind: exact,\n kind: tfidf}}\n", 2, "key given twice"),
    "key no": ("linkers:\n  no: {kind: exact}\n", 2, 'YAML reads no as false; quote it: "no":'),
    "key on": ("on: 1\n", 1, 'YAML reads on as true; quote it: "on":'),
    "key Yes": ("linkers:\n  Yes: {kind: exact}\n", 2, 'quote it: "Yes":'),
    "key of a number": ("linkers:\n  1.10: {kind: exact}\n", 2, 'YAML reads 1.10 as the number 1.1; quote it: "1.10":'),
    "key of a whole number": ("linkers:\n  7: {kind: exact}\n", 2, 'quote it: "7":'),
    "key of a date": ("linkers:\n  2026-11-28: {kind: exact}\n", 2, "as a date"),
    "key null": ("linkers:\n  ~: {kind: exact}\n", 2, "YAML reads ~ as null"),
    "no key": ("linkers:\n  ? \n  : {kind: exact}\n", 2, "none before the colon"),
    "key of a list": ("? [a, b]\n: c\n", 1, "a list or mapping stands where a key"),
    "nan": ("a: 1\nb: .nan\n", 2, "no finite number"),
    "infinity": ("a: 1\nb: [1, -.inf]\n", 2, "no finite number"),
    "too large": ("b: 1.0e+400\n", 1, "no finite number"),
    "too long": ("b: " + "9" * 5000, 1, "is no int"),
    "date": ("a: 2026-11-28\n", 1, 'as a date; quote it: "2026-11-28"'),
    "time": ("a: 2026-11-28 10:00:00\n", 1, "as a date"),
    "no date": ("a: 2026-13-28\n", 1, "quote it"),
    "base 60": ("a: 12:30\n", 1, 'YAML reads 12:30 as the number 750; quote it: "12:30"'),
    "base 60 with a point": ("a: 1:30.5\n", 1, "as the number 90.5"),
    "base 8": ("a: 010\n", 1, 'YAML reads 010 as the number 8; quote it: "010"'),
    "unknown alias": ("a: 1\nb: *c\n", 2, "nothing is called &c"),
    "itself": ("a: &a [1, *a]\n", 1, "*a would hold itself"),
    "merge of a text": ("a: {<<: b}\n", 1, "<< takes a mapping"),
    "bomb of lists": (nested("[", "]"), 0, "more than 200,000 values"),
    "bomb of mappings": (nested("{", "}"), 0, "more than 200,000 values"),
    "bomb of merges": ("a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)), 0, "values"),
    "deep list": ("a: " + "[" * 100_000, 1, "levels deep"),
    "deep mapping": ("a: " + "{a: " * 5000 + "1" + "}" * 5000, 1, "levels deep"),
    "deep by aliases": ("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000)), 0, "levels deep"),
    "JSON with a key twice": ('{"results": "x",\n"results": "y"}', 2, "key given twice"),
    "JSON with NaN": ('{"a": 1,\n"b": NaN}', 2, "not finite"),
    "JSON with a surrogate": ('{"a": "\\ud800"}', 1, "no text has"),
    "large": ("# " + "x" * 5_000_000, 1, "larger than 4 MB"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line_with_its_row(case: str, tmp_path: Path) -> None:
    content, row, message = BROKEN[case]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    begun = time.process_time()
    with pytest.raises(UserError) as raised:
        read_file(path)
    assert time.process_time() - begun < 10
    said = str(raised.value)
    assert message in said and "\n" not in said and len(said) < 400 + len(str(path))
    file, _, at = raised.value.where.rpartition(":")
    assert file == str(path) and (int(at) == row or (not row and int(at) > 0)), said
    assert raised.value.fix


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing file in .*gone\.yaml"):
        read_file(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match="unreadable file"):
        read_file(tmp_path)
    with pytest.raises(UserError, match="unreadable file"):
        read_file("a" * 300)


@pytest.mark.parametrize(
    "name", sorted(p.relative_to(ROOT).as_posix() for p in [ROOT / "config.yaml", *(ROOT / "config").glob("*.yaml"), *(ROOT / "tests").glob("*.yaml")])
)
def test_what_is_plain_reads_as_yaml_does(name: str) -> None:
    data, places = read_file(ROOT / name)
    assert data == yaml.safe_load((ROOT / name).read_text())
    rows = (ROOT / name).read_text().splitlines()
    for key, place in places.items():
        if key and not key[-1].isdigit():
            assert key[-1] in rows[place.row - 1], (key, place)


def test_plain_values_of_every_kind(tmp_path: Path) -> None:
    text = """\ufeffa: [1, -2, 0x10, 1_000, 0, 1.5, 1.0e-5, true, No, ~, null, "no", '1.10', 1e3, 12:3x, 0.5, !!str 10, ! 5, !!int 3]
b: &b {x: 1, y: &y {z: 2}}
c: {<<: *b, x: 3}
d: *y
e:
f: |
  two
  lines
"<<": quoted
"""
    path = tmp_path / "a.yaml"
    path.write_text(text, newline="")
    found, _ = read_file(path)
    wanted_list = [1, -2, 16, 1000, 0, 1.5, 1e-5, True, False, None, None, "no", "1.10", "1e3", "12:3x", 0.5, "10", "5", 3]
    wanted = {"a": wanted_list, "b": {"x": 1, "y": {"z": 2}}, "c": {"x": 3, "y": {"z": 2}}, "d": {"z": 2}, "e": None, "f": "two\nlines\n", "<<": "quoted"}
    assert found == wanted
    path.write_text('{"a":\t[1, "b", null]}')
    assert read_file(path)[0] == {"a": [1, "b", None]}
    path.write_text(text.replace("\n", "\r\n"), newline="")
    assert read_file(path)[0] == wanted


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1.10", 'YAML reads 1.10 as the number 1.1; quote it: "1.10"'),
        ("no", 'YAML reads no as false; quote it: "no"'),
        ("1_000", 'YAML reads 1_000 as the number 1000; quote it: "1_000"'),
        ("~", 'YAML reads ~ as null; quote it: "~"'),
        ("0x1F", 'YAML reads 0x1F as the number 31; quote it: "0x1F"'),
    ],
)
def test_a_value_that_yaml_makes_something_else_of_is_shown_as_written(value: str, said: str, tmp_path: Path) -> None:
    """In a text, and in a list of names; of the overlay that says it."""
    overlay = tmp_path / "o.yaml"
    for rows in (f"report: {{}}\nresults: {value}\n", f"linkers:\n  mention: {{model: {value}}}\n"):
        overlay.write_text(rows)
        written = read([ROOT / "config.yaml", overlay])
        with pytest.raises(UserError) as raised:
            load_config(written.data, positions=written.positions)
        assert said in str(raised.value) and str(raised.value).endswith(f"({overlay}:2)")


def test_a_text_that_looks_like_a_number_to_others_stays_one(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("results: 1e3\n")
    assert load_config(read([ROOT / "config.yaml", tmp_path / "o.yaml"]).data).results == "1e3"


def test_errors_name_the_file_and_row_that_count(tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("linkers:\n  a.b: {kind: tfidf, shortest: 2}\n  c:\n    kind: mention\n    model: minilm\n    pooling: {sweep: [cls, wrong.ly]}\n")
    second.write_text("\nlinkers:\n  a.b:\n    shortest: many\n")

    def said(*files: Path) -> str:
        written = read([ROOT / "config.yaml", *files])
        with pytest.raises(UserError) as raised:
            load_config(written.data, positions=written.positions)
        return str(raised.value)

    assert said(first, second).endswith(f"({second}:4)")
    assert said(first).endswith(f"({first}:6)") and "linkers.c~pooling=wrong.ly.pooling" in said(first)
    second.write_text("strategies:\n  none:\n    kep: all\n")
    assert said(second).endswith(f"did you mean 'keep'? ({second}:3)")
    js = tmp_path / "a.json"
    js.write_text('{"results": "x",\n "strategies": {"none":\n  {"kep": "all"}}}')
    assert said(js).endswith(f"did you mean 'keep'? ({js}:3)")
    # A list replaces a list; places of the old one are gone.
    one, two = tmp_path / "3.yaml", tmp_path / "4.yaml"
    one.write_text("experiment:\n  recognition:\n  - corpora: [demo_ncbi]\n    recognizers: [minilm]\n")
    two.write_text("experiment: {recognition: [{corpora: [demo_ncbi]}]}\n")
    places = read([one, two]).positions
    assert position_of(places, "experiment.recognition.0.recognizers").file == str(two)  # type: ignore[union-attr]
    assert position_of(places, "nothing.of.the.kind") is None


def test_values_of_the_command_line_stand_in_no_file(tmp_path: Path) -> None:
    for settings, end in (
        ({"results": 1.1}, 'reads 1.1 as the number 1.1; quote it: "1.1" (--config)'),
        ({"linkers": {"mention": {"pooling": "x"}}}, "(--config)"),
        ({"linkers": {"mention": 3}}, "(--config)"),
        ({"linkers": {"mention": {}}, "report": {"x": 1}}, "(--config)"),
    ):
        written = read([ROOT / "config.yaml"], settings)
        data = merge(written.data, settings)
        with pytest.raises(UserError) as raised:
            load_config(data, positions=written.positions)
        assert str(raised.value).endswith(end)
    with pytest.raises(UserError, match=r"config\.yaml:[0-9]+\)$"):
        written = read([ROOT / "config.yaml"], {"report": {}})
        load_config(merge(written.data, {"results": "x"}) | {"strategies": {}}, positions=written.positions)


@pytest.mark.parametrize(
    "change",
    [
        {"linkers": {"mention": {"sweep": [1, 2]}}},
        {"linkers": {"mention": {"zip": {"a": {}}}}},
        {"linkers": {"mention": {k: {"sweep": list(range(100))} for k in ("max_tokens", "batch_size", "pooling", "metric", "model", "kind")}}},
        {"linkers": 3},
        {"linkers": [1]},
        {"linkers": {"a": None}},
        {"experiment": {"recognition": {"corpora": 3}}},
        {"kbs": {"demo": {"path": "x" * 5000}}},
        {"kbs": {"demo": {"path": "a/" + "x" * 300}}},
        {"corpora": {"demo_ncbi": {"splits": {"test": ["a\0b"]}}}},
        {"results": float("nan")},
        {"results": {1: 2}},
        {"generators": {"smollm2": {"path": "x" * 300}}},
    ],
    ids=str,
)
def test_an_odd_mapping_is_one_line(change: dict) -> None:
    """What comes by `snakemake --config` passes no file."""
    data = {**raw(), **{k: {**raw()[k], **v} if isinstance(v, dict) and isinstance(raw().get(k), dict) else v for k, v in change.items()}}
    begun = time.process_time()
    with pytest.raises(UserError) as raised:
        load_config(data, root=ROOT)
    assert "\n" not in str(raised.value) and time.process_time() - begun < 10


@pytest.mark.parametrize("data", [None, [], "x", 3, {1: 2}, {"results": b"x"}])
def test_no_mapping_is_one_line(data: object) -> None:
    with pytest.raises(UserError):
        load_config(data)  # type: ignore[arg-type]


def test_the_command_ends_with_code_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("linkers:\n  no: {kind: exact}\n")
    command = [sys.executable, "-m", "mentionforge.cli", "config", "check", str(ROOT / "config.yaml"), "bad.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == 'error: no key in bad.yaml:2: YAML reads no as false; quote it: "no":\n'


def test_files_of_the_command_line_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("results: x\n")
    bad.write_text("- a\n")
    check_command_line(["-n", "--configfile", str(good), "--", str(bad)])
    check_command_line(["-n", "all", "--config", str(bad)])
    for arguments in (["--configfile", str(good), str(bad)], [f"--configfiles={bad}"], ["x", "--configfile", str(bad), "-n"]):
        with pytest.raises(SystemExit) as ended:
            check_command_line(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"error: no configuration in {bad}:1: a list stands where keys are wanted; give keys at the top, as `linkers:`\n"
