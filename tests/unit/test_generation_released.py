"""The authors' published notes: reading, prompts, location and filters of a made file of the same layout, and what is said of its licence."""

import csv
import json
import re
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from test_generation import write_kb

import made_release
from mentionforge import tables
from mentionforge.config import load_config, spec_text
from mentionforge.generation import filtering, locate
from mentionforge.generation.kinds import replay
from mentionforge.generation.kinds.replay import ReplayGenerator
from mentionforge.specs import read_spec

TAG = re.compile(r"</?1CUI>")
CUIS = [f"C00000{i:02d}" for i in range(40)]
KB = [
    (cui, f"wombat{chr(97 + i % 26)}{'x' * (i // 26)} fever", "Defined.", ["T047"], [f"fever of wombat{chr(97 + i % 26)}{'x' * (i // 26)}"])
    for i, cui in enumerate(CUIS)
]


def spec_file(path: Path, root: Path, part: str, **settings) -> Path:
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["generators"]["released"] = {"kind": "replay", "kb": "demo", "path": "notes.csv", **settings}
    path.write_text(spec_text(load_config(raw), "generators", f"released/{part}"))
    return path


def test_a_made_release_is_read_located_and_filtered(tmp_path, root):
    """Rows of CUIs outside the knowledge base are listed; every other row is a note, whose tagged name is found where the tags stood."""
    kb, path = write_kb(tmp_path / "kb", KB), tmp_path / "SYNTHETIC_MENTIONS.csv"
    counts = made_release.write(kb, path, rows=200, cuis=60)
    with open(path, newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    assert len(rows) == sum(counts.values()) == 200 and len(counts) == 60
    specs = {part: spec_file(tmp_path / f"{part}.json", root, part, filters={"parse": {}}) for part in ("prompts", "locate", "filter")}
    generator = read_spec(specs["prompts"], ReplayGenerator)
    generator.make_prompts(specs["prompts"], kb, path, None, tmp_path / "prompts.parquet")
    generator.make_notes(specs["prompts"], kb, tmp_path / "prompts.parquet", path, tmp_path / "notes.parquet")
    notes = {note["note_id"]: note for note in tables.read(tables.NOTES, tmp_path / "notes.parquet").to_pylist()}
    inside = [row for row in rows if row["cui"] in CUIS]
    number: dict[str, int] = {}
    for row in inside:
        number[row["cui"]] = number.get(row["cui"], -1) + 1
        row["note_id"] = f"{row['cui']}-{number[row['cui']]}"
    assert {row["note_id"]: row["matched_output"] for row in inside} == {key: note["text"] for key, note in notes.items()}
    with open(tmp_path / "left_out.csv", newline="", encoding="utf-8") as source:
        listed = {row["cui"]: (int(row["notes"]), row["reason"]) for row in csv.DictReader(source)}
    assert listed == {cui: (n, "the concept is not in the knowledge base") for cui, n in counts.items() if cui not in CUIS} and len(listed) == 20

    locate.locate_notes(specs["locate"], kb, tmp_path / "prompts.parquet", tmp_path / "notes.parquet", tmp_path / "found")
    filtering.filter_notes(specs["filter"], kb, tmp_path / "prompts.parquet", tmp_path / "notes.parquet", tmp_path / "found", tmp_path / "out")
    located = {note["note_id"]: note["text"] for note in tables.read(tables.LOCATED, tmp_path / "out/located.parquet").to_pylist()}
    mentions = tables.read(tables.SYNTHETIC_MENTIONS, tmp_path / "out/mentions.parquet").to_pylist()
    assert set(located) == set(notes)
    for row in inside:
        before, name, _ = (piece.strip() for piece in TAG.split(row["matched_output"]))
        of_note = [m for m in mentions if m["note_id"] == row["note_id"]]
        tagged = [m for m in of_note if m["match"] == "tag"]
        assert [m["surface"] for m in tagged] == [name] and " ".join(located[row["note_id"]][: tagged[0]["start"]].split()) == " ".join(before.split())
        assert len(of_note) == 2 and not TAG.search(located[row["note_id"]])  # each note has a second, untagged one


@pytest.mark.slow
def test_reading_a_file_of_the_published_size_needs_no_memory_for_it(tmp_path):
    path = tmp_path / "SYNTHETIC_MENTIONS.csv"
    made_release.write(write_kb(tmp_path / "kb", KB), path)
    began = time.process_time()
    assert sum(1 for _ in replay.read(path)) == made_release.ROWS
    assert time.process_time() - began < 20  # 1.3 s on an idle processor
    tracemalloc.start()
    try:
        cuis = {cui for _, cui, _ in replay.read(path)}
        assert len(cuis) == made_release.CUIS and tracemalloc.get_traced_memory()[1] < 0.4 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_licence_and_citation_are_in_one_spec_where_given_and_in_none_where_not(tmp_path, root):
    for part in ("prompts", "locate", "filter"):
        assert not {"licence", "cite"} & set(json.loads(spec_file(tmp_path / "a.json", root, part).read_text())["settings"])
        with_both = json.loads(spec_file(tmp_path / "b.json", root, part, licence="ODC-By 1.0", cite="Sasse 2025").read_text())["settings"]
        assert ({"licence", "cite"} <= set(with_both)) == (part == "filter")
    settings = json.loads((tmp_path / "b.json").read_text())["settings"]
    assert ReplayGenerator.licences(settings, "") == ["- the file that was replayed: ODC-By 1.0. Cite: Sasse 2025"]
    assert ReplayGenerator.licences({}, "") == ["- the file that was replayed: it has its own licence"]
