"""Configuration: validation, sweeps, specs, cells."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checkout import BIN, ROOT
from mentionforge.config import (
    DictionaryRecognizer,
    LlmGenerator,
    OntologyKb,
    RrfKb,
    TaggerRecognizer,
    cross_cells,
    load_config,
    merge,
    normalization_cells,
    read_spec,
    recognition_cells,
    spec_text,
    swept_settings,
    unfold_sweeps,
)
from mentionforge.errors import UserError


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
            assert read_spec(path) == entry


def test_parts_of_a_generator_hold_only_their_settings(tmp_path) -> None:
    config = load_config(raw())
    hotter = load_config(merge(raw(), {"generators": {"smollm2": {"sampling": {"temperature": 0.3}}}}))
    for part in ("prompts", "finetune", "locate"):
        assert spec_text(config, "generators", f"smollm2/{part}") == spec_text(hotter, "generators", f"smollm2/{part}")
    assert spec_text(config, "generators", "smollm2/sampling") != spec_text(hotter, "generators", "smollm2/sampling")
    path = tmp_path / "spec.json"
    path.write_text(spec_text(hotter, "generators", "smollm2/sampling"))
    entry = read_spec(path)
    assert isinstance(entry, LlmGenerator) and entry.sampling.temperature == 0.3


def test_kinds_of_knowledge_base() -> None:
    ontology = {"open": {"source": "ontologies", "hpo": "x.obo"}}
    config = load_config(merge(raw(), {"kbs": ontology}))
    assert isinstance(config.kbs["open"], OntologyKb) and isinstance(config.kbs["demo"], RrfKb)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "linkers"}', '{"kind": "nope", "settings": {}}', '{"kind": "linkers", "settings": {"kind": "x"}}'])
def test_a_broken_spec_is_one_clear_line(text: str, tmp_path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(UserError, match="unreadable spec"):
        read_spec(path)


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


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("a: [", "while parsing"), ("- a", "no keys")])
def test_a_file_that_is_no_overlay_is_one_line(text: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "overlay.yaml"
    if text is not None:
        file.write_text(text)
    command = [BIN / "mentionforge", "config", "check", ROOT / "config.yaml", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: unreadable file in {file}: ") and why in done.stderr


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
    with pytest.raises(UserError, match=r"recognizers\.minilm.*kind is tagger or dictionary"):
        load_config(merge(raw(), {"recognizers": {"minilm": {"kind": "tager"}}}))
    with pytest.raises(UserError, match=r"unknown key in config: recognizers\.dictionary\.min_lenght; did you mean 'min_length'"):
        load_config(merge(raw(), {"recognizers": {"dictionary": {"min_lenght": 3}}}))


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
