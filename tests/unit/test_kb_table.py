"""The source `table`: the same concepts in four formats, what is joined and left out, and every refusal with its row."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentionforge import tables
from mentionforge.corpora.concept_ids import parse_id
from mentionforge.corpora.concepts import ConceptMap
from mentionforge.errors import UserError
from mentionforge.kb import parents
from mentionforge.kb.extract import extract
from mentionforge.kb.sources.table import TableKb

ROWS = [
    {"code": "L-1", "label": "Gout", "other": ["Podagra", "Gouty  arthritis"], "kind": ["T047"], "text": "Crystals in joints.", "up": [], "map": ["MESH:D006073", "UMLS:C0018099"]},
    {"code": "L-2", "label": "Acute gout", "other": [], "kind": [], "text": "", "up": ["L-1"], "map": []},
    {"code": "L-2", "label": "Gout attack", "other": [], "kind": [], "text": "Sudden.", "up": [], "map": []},
    {"code": "L-2", "label": "Acute gout", "other": [], "kind": [], "text": "", "up": ["L-9"], "map": ["M10"]},
    {"code": "L-3", "label": " ", "other": ["never"], "kind": [], "text": "", "up": ["L-1"], "map": []},
    {"code": "HP:0001250", "label": "Seizure", "other": ["Fit"], "kind": ["T184", "T033"], "text": "", "up": ["L-1", "HP:0001250"], "map": ["LOCAL:L-1"]},
]  # fmt: skip
COLUMNS = {"id": "code", "name": "label", "synonyms": "other", "type": "kind", "definition": "text", "parents": "up", "xrefs": "map"}


def write(folder, ending, rows=ROWS):
    path = folder / f"mine{ending}"
    if ending == ".jsonl":
        path.write_text("".join(json.dumps({key: value for key, value in row.items() if value not in ("", [])}) + "\n" for row in rows))
    elif ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with open(path, "w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0], delimiter="\t" if ending == ".tsv" else ",")
            writer.writeheader()
            writer.writerows({key: "|".join(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows)
    return path


def entry(path, **more):
    return TableKb(**{"source": "table", "path": str(path), "columns": COLUMNS, "prefix": "LOCAL", **more})


@pytest.fixture(params=[".csv", ".tsv", ".parquet", ".jsonl"])
def kb(request, tmp_path):
    path = write(tmp_path, request.param)
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "mine", "settings": entry(path).model_dump(mode="json")}))
    stats = extract(tmp_path / "spec.json", tmp_path)
    parents.extract(tmp_path / "spec.json", tmp_path, "auto", tmp_path / "parents.parquet")
    return tmp_path, stats


def rows(folder, table, *columns):
    return [tuple(row[c] for c in columns) for row in tables.read(table, folder / f"{table.name}.parquet").to_pylist()]


def test_tables(kb):
    folder, _ = kb
    assert rows(folder, tables.CONCEPTS, "cui", "preferred_name", "definition", "semantic_types") == [
        ("HP:0001250", "Seizure", None, ["T033", "T184"]),
        ("LOCAL:L-1", "Gout", "Crystals in joints.", ["T047"]),
        ("LOCAL:L-2", "Acute gout", "Sudden.", ["T047"]),
    ]
    assert rows(folder, tables.NAMES, "cui", "name", "source", "term_type", "preferred") == [
        ("HP:0001250", "Fit", "HPO", "SY", False),
        ("HP:0001250", "Seizure", "HPO", "PT", True),
        ("LOCAL:L-1", "Gout", "LOCAL", "PT", True),
        ("LOCAL:L-1", "Gouty arthritis", "LOCAL", "SY", False),
        ("LOCAL:L-1", "Podagra", "LOCAL", "SY", False),
        ("LOCAL:L-2", "Acute gout", "LOCAL", "PT", True),
        ("LOCAL:L-2", "Gout attack", "LOCAL", "SY", False),
    ]
    assert rows(folder, tables.XREFS, "source", "code", "cui", "via") == [
        ("HPO", "0001250", "HP:0001250", "id"),
        ("LOCAL", "L-1", "LOCAL:L-1", "id"),
        ("LOCAL", "L-2", "LOCAL:L-2", "id"),
        ("MSH", "D006073", "LOCAL:L-1", "table"),
        ("UMLS", "C0018099", "LOCAL:L-1", "table"),
    ]
    assert rows(folder, tables.PARENTS, "cui", "parent", "source") == [("HP:0001250", "LOCAL:L-1", "HPO"), ("LOCAL:L-2", "LOCAL:L-1", "LOCAL")]


def test_what_is_joined_and_left_out_is_counted_and_listed(kb):
    folder, stats = kb
    listed = {
        "cross-reference to another concept of the table": ["HP:0001250: LOCAL:L-1"],
        "cross-reference without a vocabulary": ["4: LOCAL:L-2"],
        "empty name": ["5: LOCAL:L-3"],
        "id given again, its name added": ["3: LOCAL:L-2"],
        "repeated row": ["4: LOCAL:L-2"],
    }
    assert stats["funnel"] == {"rows": 6, "drops": {reason: len(found) for reason, found in listed.items()}, "listed": listed}
    hierarchy = tables.provenance(folder / "parents.parquet")["hierarchy"]
    assert hierarchy["funnel"]["listed"] == {"parent of itself": ["6: HP:0001250"], "unknown parent": ["4: LOCAL:L-2 LOCAL:L-9"]}
    assert hierarchy["pairs"] == 2


def test_corpora_map_to_it(kb):
    concepts = ConceptMap.load(kb[0])
    assert concepts(parse_id("L-1", "LOCAL")).cuis == ("LOCAL:L-1",)
    assert concepts(parse_id("local:l-1", "MSH")).cuis == ("LOCAL:L-1",)
    assert concepts(parse_id("D006073", "MSH")).cuis == ("LOCAL:L-1",)
    assert concepts(parse_id("UMLS:C0018099", "MSH")).cuis == ("LOCAL:L-1",)
    assert concepts(parse_id("HP:0001250", "MSH")).cuis == ("HP:0001250",)
    assert concepts(parse_id("L-7", "LOCAL")).reason == "code_not_in_kb"


def test_cycles_are_listed(tmp_path):
    up = {"A:1": ["A:2"], "A:2": ["A:3"], "A:3": ["A:1"], "A:4": ["A:1"], "A:5": ["A:6"], "A:6": ["A:5"]}
    path = write(tmp_path, ".jsonl", [{"id": key, "name": key, "parents": value} for key, value in up.items()])
    found = entry(path, columns={}, prefix=None).parents(tmp_path)
    assert found.funnel["drops"] == {"cycle": 2}
    assert found.funnel["listed"] == {"cycle": ["A:5 A:6", "A:1 A:2 A:3"]}
    assert len(found.rows) == 7 - 1


def test_half_a_cross_reference_is_counted(tmp_path):
    path = write(tmp_path, ".csv", [{"id": "A:1", "name": "Gout", "xrefs": "MSH:|:D1|M10|MSH:D006073"}])
    found = entry(path, columns={}, prefix=None).read()
    assert [(row["source"], row["code"]) for row in found.xrefs.to_pylist()] == [("A", "1"), ("MSH", "D006073")]
    assert found.funnel["drops"] == {"cross-reference without a code": 1, "cross-reference without a vocabulary": 2}


def test_cuis_stay_cuis(tmp_path):
    path = write(tmp_path, ".csv", [{"id": "C0018099", "name": "Gout"}, {"id": "UMLS:C0036572", "name": "Seizures"}])
    assert entry(path, columns={}, prefix="CUI").read().concepts["cui"].to_pylist() == ["C0018099", "C0036572"]
    assert not len(entry(path, columns={}, prefix="CUI").read().xrefs)


def test_separators_and_lists_do_not_depend_on_the_format(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("id,name,synonyms\nA:1,Gout,Podagra; Gouty arthritis\n")
    assert entry(path, columns={}, separator=";").read().names["name"].to_pylist() == ["Gout", "Gouty arthritis", "Podagra"]


@pytest.mark.parametrize(
    ("text", "more", "error"),
    [
        ("id,name\n", {}, r"empty table in .*mine\.csv: no rows"),
        ("id,label\nA:1,x\n", {}, r"missing column in .*mine\.csv: there is no 'name' for name; there are id, label"),
        ("id,name\nA:1,x\n", {"columns": {"parents": "up"}}, r"there is no 'up' for parents"),
        ("id,name\nA:1,x\n,y\n", {}, r"empty id in .*mine\.csv:2: id: nothing in it"),
        ("id,name\nA:1,x\n17,y\n", {"prefix": None}, r"id without a vocabulary in .*mine\.csv:2: .* set prefix: NAME"),
        ("id,name\nA:1 2,x\n", {}, r"bad id in .*mine\.csv:1"),
        ("id,name\nA:,x\n", {}, r"bad id in .*mine\.csv:1"),
        ("id,name\nC12,x\n", {"prefix": "CUI"}, r"wrong CUI in .*mine\.csv:1"),
        ("id,name\nA:1,x,y\n", {}, r"broken row in .*mine\.csv:1: line 2: 3 fields, 2 in the header"),
        ("id,name\nA:1,x\nA:\u200b1,y\n", {}, r"bad id in .*mine\.csv:2: id: it holds a character that nobody sees"),
        ("id,name\nA:\x071,x\n", {}, r"bad id in .*mine\.csv:1"),
        ("id,name\nA:1,x\0y\n", {}, r"bad value in .*mine\.csv:1: name: U\+0000 in it"),
        ("id,name,name\nA:1,x,y\n", {}, r"unreadable table in .*column name stands twice"),
    ],
)
def test_refusals_name_file_and_row(tmp_path, text, more, error):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UserError, match=error):
        entry(tmp_path / "mine.csv", **{"columns": {}, **more}).read()


def test_other_refusals(tmp_path):
    (tmp_path / "mine.csv").write_bytes(b"id,name\nA:1,x\nA:2,\xe9\n")
    with pytest.raises(UserError, match=r"wrong encoding in .*mine\.csv:2"):
        entry(tmp_path / "mine.csv", columns={}).read()
    (tmp_path / "mine.jsonl").write_text('{"id": "A:1", "name": ["x"]}\n')
    with pytest.raises(UserError, match=r"bad value in .*mine\.jsonl:1: name: a list where one value stands"):
        entry(tmp_path / "mine.jsonl", columns={}).read()
    (tmp_path / "mine.jsonl").write_text('{"id": "A:1", "name": "x"}\n{"id": "A:2", "name": "\\ud800"}\n')
    with pytest.raises(UserError, match=r"mine\.jsonl:2.*U\+D800"):
        entry(tmp_path / "mine.jsonl", columns={}).read()
    (tmp_path / "mine.jsonl").write_text('{"id": "A:1", "name": "x", "syns": ["y"]}\n')
    with pytest.raises(UserError, match=r"missing column in .*mine\.jsonl: there is no 'syn' for synonyms; there are id, name, syns"):
        entry(tmp_path / "mine.jsonl", columns={"synonyms": "syn"}).read()
    with pytest.raises(UserError, match=r"unreadable table in .*none\.csv"):
        entry(tmp_path / "none.csv").read()
    with pytest.raises(ValueError, match="a table is a file that ends in"):
        entry("mine.xlsx")


def test_a_licensed_table_is_licensed_text_of_a_bundle(tmp_path):
    assert entry("mine.csv").licence("mine") is None
    assert entry("mine.csv", licensed="ask").licence("mine") == "kb mine"
