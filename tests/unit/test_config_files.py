"""Shipped files of the configuration against the JSON schemas, by a validator that is none of ours."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from checkout import ROOT
from mentionforge.config import file_schema, load_config, unfold_sweeps
from mentionforge.config_files import merge, overlay, read

FILES = sorted([ROOT / "config.yaml", *(ROOT / "config").glob("*.yaml"), *(ROOT / "tests").glob("*.yaml")])
SCHEMAS = ROOT / "workflow" / "schemas"
BELOW = {
    "comparison": ["open"],
    "schedules": ["open"],
    "schedules-one-seed": ["open", "schedules"],
    "paper-lite": ["paper"],
    "paper-chat": ["paper"],
    "released": ["open"],
    "released-bert": ["open", "released"],
}
"""What lies below a preset, by the comments in it."""


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def problems(value: object, schema: str = "file.schema.json") -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator(schema).iter_errors(value)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_file_names_the_schema_and_keeps_it(path: Path) -> None:
    """As editors check it: the file alone, read by YAML's own rules."""
    text = path.read_text(encoding="utf-8")
    hint = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert hint and (path.parent / hint[1]).resolve() == SCHEMAS / "file.schema.json"
    assert problems(yaml.safe_load(text)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_file_on_what_it_lies_on_is_a_whole_configuration(path: Path) -> None:
    files = [ROOT / "config.yaml", *(ROOT / "config" / f"{name}.yaml" for name in BELOW.get(path.stem, [])), path]
    if path.stem == "rich":
        files.insert(1, ROOT / "tests" / "mini.yaml")
    merged: dict = {}
    for file in files:
        merge(merged, yaml.safe_load(file.read_text(encoding="utf-8")))
    assert problems(unfold_sweeps(merged), "config.schema.json") == []
    load_config(merged)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("linkerz: {}", "linkerz"),
        ("linkers: {mention: {poolin: cls}}", "linkers.mention"),
        ("linkers: {mention: {pooling: many}}", "linkers.mention"),
        ("generators: {llama2: {sampling: {temperature: {swep: [1]}}}}", "generators.llama2"),
        ("results: 3", "results"),
    ],
)
def test_editors_mark_what_a_run_would_refuse(text: str, where: str) -> None:
    assert any(where in problem for problem in problems(yaml.safe_load(text)))


def test_editors_accept_sweeps_and_parts_of_entries() -> None:
    text = "generators: {llm: {sampling: {temperature: {sweep: [0.7, 0.9]}}, notes_per_concept: {zip: {few: 1, many: 3}}}}\nlinkers: {mention: {pooling: cls}}"
    assert problems(yaml.safe_load(text)) == []


def test_the_committed_schema_of_files_is_the_current_one() -> None:
    assert (SCHEMAS / "file.schema.json").read_text(encoding="utf-8") == file_schema(), "run `make generated`"


def test_keys_keep_their_explanations_for_editors() -> None:
    whole, file = (json.loads((SCHEMAS / name).read_text(encoding="utf-8")) for name in ("config.schema.json", "file.schema.json"))
    explained = 0
    for name, definition in whole["$defs"].items():
        for key, setting in definition.get("properties", {}).items():
            assert file["$defs"][name]["properties"][key].get("description") == setting.get("description")
            explained += "description" in setting
    assert explained > 200


def test_values_over_files_have_no_position(tmp_path: Path) -> None:
    """As in a module, whose configuration is the outer workflow's."""
    (tmp_path / "a.yaml").write_text("results: a\nlinkers:\n  x: {kind: tfidf}\n  y: {kind: exact}\n")
    written = overlay(read([tmp_path / "a.yaml"]), {"linkers": {"x": {"kind": "exact"}}, "report": {"title": "t"}})
    assert written.data == {"results": "a", "linkers": {"x": {"kind": "exact"}, "y": {"kind": "exact"}}, "report": {"title": "t"}}
    assert ("linkers", "x", "kind") not in written.positions and ("linkers", "y", "kind") in written.positions and ("results",) in written.positions
