"""Export of synthetic notes: each layout read back by a reader of its own, checksums by sha256sum."""

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.corpora.documents import Tally
from mentionforge.corpora.formats.registry import READERS
from mentionforge.errors import UserError
from mentionforge.export.layouts import LAYOUTS
from mentionforge.export.synthetic import export
from mentionforge.generation import markers
from mentionforge.generation.kinds import replay

NOTES = {
    "C0000001-0": ("C0000001", "He has gout. The gout, a form of (Gouty arthritis), hurts.", ["gout", "gout", "Gouty arthritis"]),
    "C0000001-1": ("C0000001", "Gout.\nSeen by a physician, \u00e9l\u00e8ve.", ["Gout"]),
    "C0000002-0": ("C0000002", 'No "HD", but Huntington disease; 5 < 6 & 7 > 3', ["Huntington disease"]),
}


def spans(text, surfaces):
    found, at = [], 0
    for surface in surfaces:
        at = text.index(surface, at)
        found.append((at, at + len(surface)))
        at += 1
    return found


@pytest.fixture
def results(tmp_path, root):
    """What the generation stage leaves of a generator, and its settings."""
    folder = tmp_path / "results/generation/writer"
    row = {"generator": "writer", "prompt": "p", "seed": 5, "finish_reason": "stop", "tokens": 9}
    tables.write(tables.NOTES, folder / "notes.parquet", [{"note_id": i, "cui": c, "text": t, **row} for i, (c, t, _) in NOTES.items()])
    located = [{"note_id": i, "cui": c, "text": t, "sentences": [{"start": 0, "end": len(t)}]} for i, (c, t, _) in NOTES.items()]
    tables.write(tables.LOCATED, folder / "located.parquet", located, {"mentionforge": "1", "git_revision": "abc"})
    rows = [
        {"note_id": i, "start": a, "end": b, "cui": c, "surface": t[a:b], "match": "exact", "score": 100.0}
        for i, (c, t, surfaces) in NOTES.items()
        for a, b in spans(t, surfaces)
    ]
    tables.write(tables.SYNTHETIC_MENTIONS, folder / "mentions.parquet", rows)
    (folder / "funnel.json").write_text(json.dumps({"generated": 4, "mentions_by_match": {"exact": 5}, "unlisted_surface_share": 0.2}))
    (folder / "filters.csv").write_text("filter,in,out\nparse,4,4\nlength,4,3\n")
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["smollm2"]["concepts"] = {"cuis": "/home/somebody/list.txt"}
    specs = tmp_path / "results/specs/generators/writer"
    specs.mkdir(parents=True)
    for part in ("prompts", "finetune", "sampling", "filter"):
        (specs / f"{part}.json").write_text(spec_text(load_config(raw), "generators", f"smollm2/{part}"))
    return folder


def test_the_released_layout_is_read_back_by_replay(tmp_path, results):
    export(results, "csv", tmp_path / "out")
    lines = (tmp_path / "out/SYNTHETIC_MENTIONS.csv").read_text().splitlines()
    assert lines[0] == "cui,matched_output" and "He has <1CUI> gout </1CUI>. The <1CUI> gout </1CUI>" in lines[1]
    for (_, cui, tagged), (wanted, text, surfaces) in zip(replay.read(tmp_path / "out/SYNTHETIC_MENTIONS.csv"), NOTES.values(), strict=True):
        bare, found = markers.strip(tagged)
        assert (cui, bare) == (wanted, text) and [(t.start, t.end) for t in found] == spans(text, surfaces) and all(t.closed for t in found)


def test_json_lines_and_a_hugging_face_dataset_hold_the_same(tmp_path, results):
    from datasets import load_dataset

    export(results, "jsonl", tmp_path / "jsonl")
    export(results, "hf", tmp_path / "hf")
    rows = [json.loads(line) for line in (tmp_path / "jsonl/notes.jsonl").read_text().splitlines()]
    assert [(r["note_id"], r["cui"], r["text"], [(m["start"], m["end"]) for m in r["mentions"]]) for r in rows] == [
        (i, c, t, spans(t, surfaces)) for i, (c, t, surfaces) in NOTES.items()
    ]
    assert all(m["surface"] == r["text"][m["start"] : m["end"]] and (m["match"], m["score"]) == ("exact", 100) for r in rows for m in r["mentions"])
    loaded = load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]
    assert [dict(row) for row in loaded] == rows


@pytest.mark.parametrize(("layout", "reader", "name"), [("brat", "brat", "notes"), ("pubtator", "pubtator", "notes.txt"), ("conll", "conll", "notes.tsv")])
def test_annotation_formats_are_read_back(tmp_path, results, layout, reader, name):
    export(results, layout, tmp_path / "out")
    documents = {d.doc_id: d for d in READERS[reader](tmp_path / "out" / name, "", (), Tally())}
    assert sorted(documents) == sorted(NOTES)
    for note_id, (cui, text, surfaces) in NOTES.items():
        d = documents[note_id]
        found = [(a.surface(d.text), a.entity_type, a.ids) for a in d.annotations]
        assert found == [(s, "Disease", (f"CUI:{cui}",)) for s in surfaces]
        assert layout != "brat" or (d.text == text and [a.spans[0] for a in d.annotations] == spans(text, surfaces))
    card = (tmp_path / "out/README.md").read_text()
    assert ("could not hold" in card) == (layout != "brat")


def test_checksums_and_the_card(tmp_path, results):
    for out in ("a", "b"):
        export(results, "hf", tmp_path / out)
    files = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}, "the same bytes again"
    assert set(map(str, files)) == {"README.md", "SHA256SUMS", "data/train-00000-of-00001.parquet"}
    listed = dict(reversed(line.split("  ")) for line in (tmp_path / "a/SHA256SUMS").read_text().splitlines())
    assert listed == {str(p): hashlib.sha256(data).hexdigest() for p, data in files.items() if p != Path("SHA256SUMS")}
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "a").returncode == 0
    card = (tmp_path / "a/README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}] and head["license"] == "other"
    for said in (
        "| notes | 3 of 4 written |",
        "| mentions | 5, of 2 concepts |",
        "`smollm2`",
        "r=16",
        "`demo_semeval`",
        "temperature 0.9",
        "| `length` | 4 | 3 |",
        "Licence",
    ):
        assert said in card
    assert "somebody" not in card, "no path of this machine"


def test_a_folder_with_files_and_tables_of_two_runs_are_one_line(tmp_path, results):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    with pytest.raises(UserError, match="folder not empty"):
        export(results, "csv", tmp_path / "full")
    rows = tables.read(tables.SYNTHETIC_MENTIONS, results / "mentions.parquet").to_pylist()
    tables.write(tables.SYNTHETIC_MENTIONS, results / "mentions.parquet", [r | {"surface": "another"} for r in rows])
    with pytest.raises(UserError, match="misplaced mention"):
        export(results, "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_the_documentation_names_every_layout(root):
    section = (root / "docs/generation.md").read_text().split("## Export")[1].split("\n## ")[0]
    rows = {name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w-]+)`", line.split("|")[1])}
    assert rows == {layout.name for layout in LAYOUTS}


def test_a_hub_folder_is_a_dataset_whose_card_the_hubs_library_reads(tmp_path, results):
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    export(results, "hub-folder", tmp_path / "hub", licence="cc-by-4.0")
    export(results, "hf", tmp_path / "hf")
    loaded, same = (load_dataset(str(tmp_path / name), cache_dir=str(tmp_path / "cache" / name))["train"] for name in ("hub", "hf"))
    assert [dict(row) for row in loaded] == [dict(row) for row in same] and len(loaded) == 3
    head = DatasetCard.load(tmp_path / "hub/README.md").data.to_dict()
    assert head["license"] == "cc-by-4.0" and head["size_categories"] == ["n<1K"] and head["task_categories"] == ["token-classification"]
    assert head["annotations_creators"] == ["machine-generated"] and head["language"] == "en" and head["configs"][0]["config_name"] == "default"
    card = (tmp_path / "hub/README.md").read_text()
    assert "| mentions | 5, of 2 concepts |" in card and "Set `license`" not in card
    with pytest.raises(UserError, match="unknown licence in --license: 'CC BY'"):
        export(results, "hub-folder", tmp_path / "bad", licence="CC BY")
    export(results, "hub-folder", tmp_path / "open")
    head = DatasetCard.load(tmp_path / "open/README.md").data.to_dict()
    assert (head["license"], head["license_name"]) == ("other", "not-set") and "Set `license`" in (tmp_path / "open/README.md").read_text()


@pytest.fixture
def swapped(results, root):
    """The generator as one of kind replacement: a mention of its corpus stands beside the own one."""
    specs = results.parent.parent / "specs"
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["writer"] = {"kind": "replacement", "kb": "demo", "corpus": "demo_ncbi"}
    raw["corpora"]["notes"] = {**raw["corpora"]["demo_ncbi"], "licensed": "sign the agreement"}
    config = load_config(raw)
    for path in (specs / "generators/writer").iterdir():
        path.unlink()
    for part in ("prompts", "filter"):
        (specs / f"generators/writer/{part}.json").write_text(spec_text(config, "generators", f"writer/{part}"))
    (specs / "corpora").mkdir()
    (specs / "corpora/demo_ncbi.json").write_text(spec_text(config, "corpora", "demo_ncbi"))
    (specs / "corpora/licensed.json").write_text(spec_text(config, "corpora", "notes"))
    rows = tables.read(tables.SYNTHETIC_MENTIONS, results / "mentions.parquet").to_pylist()
    rows[0] |= {"match": "gold", "cui": ""}
    tables.write(tables.SYNTHETIC_MENTIONS, results / "mentions.parquet", rows)
    return results


def test_sentences_of_an_open_corpus_are_exported_with_what_they_are(tmp_path, swapped):
    export(swapped, "jsonl", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "They are no patients' records" not in card and "They hold the corpus' text" in card
    assert "one mention gave way to a name of another concept" in card and "the training split of the corpus `demo_ncbi`" in card
    note = json.loads((tmp_path / "out/notes.jsonl").read_text().splitlines()[0])
    assert note["matched_output"] == "He has gout. The <1CUI> gout </1CUI>, a form of (<1CUI> Gouty arthritis </1CUI>), hurts."
    assert [(m["match"], m["cui"]) for m in note["mentions"]] == [("gold", ""), ("exact", "C0000001"), ("exact", "C0000001")]
    export(swapped, "brat", tmp_path / "brat")
    (document,) = (d for d in READERS["brat"](tmp_path / "brat/notes", "", (), Tally()) if d.doc_id == "C0000001-0")
    assert [a.ids for a in document.annotations] == [("",), ("CUI:C0000001",), ("CUI:C0000001",)]  # the first has no concept


@pytest.mark.parametrize("spec", ["licensed.json", None, "moved"])
def test_sentences_of_a_licensed_corpus_need_permission(tmp_path, swapped, spec):
    """Licensed: it says so; nothing is known of it; or its files are neither the repository's nor published downloads."""
    corpora = swapped.parent.parent / "specs/corpora"
    text = (corpora / "demo_ncbi.json").read_text()
    (corpora / "demo_ncbi.json").unlink()
    if spec == "moved":
        (corpora / "demo_ncbi.json").write_text(text.replace("resources/demo/ncbi/train.txt", "mine/train.txt"))
    elif spec:
        (corpora / spec).rename(corpora / "demo_ncbi.json")
    with pytest.raises(UserError, match=r"licensed text.*sentences of the corpus demo_ncbi.*add --licensed-text"):
        export(swapped, "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(swapped, "csv", tmp_path / "out", licensed_text=True)
    assert (tmp_path / "out/SYNTHETIC_MENTIONS.csv").is_file()
