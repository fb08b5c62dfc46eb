"""The hierarchy of a knowledge base: a hand-made MRREL and hand-made ontologies, and published ones against walks made here."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import get_args

import networkx
import pyarrow as pa
import pytest
import zstandard

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb import parents
from mentionforge.kb.sources import Kb
from mentionforge.kb.sources.contract import KnowledgeBase
from mentionforge.kb.sources.hierarchy import cycles_of
from mentionforge.kb.sources.ontologies import OntologyKb
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.versions import VERSIONED_CODE

COLUMNS = "CUI1,AUI1,STYPE1,REL,CUI2,AUI2,STYPE2,RELA,RUI,SRUI,SAB,SL,RG,DIR,SUPPRESS,CVF"
"""The published order of MRREL's columns; REL and RELA say what CUI2 is to CUI1."""

CUIS = [f"C000000{i}" for i in range(1, 8)]


def relation(one: str, rel: str, two: str, rela: str = "", sab: str = "SNOMEDCT_US", suppress: str = "N") -> str:
    values = {"CUI1": one, "AUI1": "A1", "STYPE1": "SCUI", "REL": rel, "CUI2": two, "AUI2": "A2", "STYPE2": "SCUI", "RELA": rela, "RUI": "R1"}
    values |= {"SAB": sab, "SL": sab, "SUPPRESS": suppress}
    return "".join(f"{values.get(column, '')}|" for column in COLUMNS.split(","))


C1, C2, C3, C4, C5, C6, C7 = CUIS
RELATIONS = [
    relation(C2, "PAR", C1, "inverse_isa"),  # C1 is C2's parent, told in both directions
    relation(C1, "CHD", C2, "isa"),
    relation(C2, "PAR", C1, sab="MSH"),  # by another source, too
    relation(C1, "CHD", C3),  # told in one direction alone
    relation(C3, "RB", C2, "inverse_isa"),  # a broader concept, by RELA
    relation(C2, "RN", C4, "isa"),
    relation(C4, "RO", C5, "has_finding_site"),  # no hierarchy
    relation(C4, "SY", C4),
    relation(C5, "PAR", C5),  # within one concept
    relation(C5, "PAR", C1, suppress="O"),  # suppressed
    relation(C5, "PAR", "C9999999"),  # a parent outside the knowledge base stays
    relation("C9999999", "PAR", C1),  # a child outside does not
    relation("C9999999", "CHD", C6),  # nor is a row read whose first concept is outside
    relation(C6, "PAR", C7),  # a cycle
    relation(C7, "PAR", C6),
]
EXPECTED = [
    (C2, C1, "MSH"),
    (C2, C1, "SNOMEDCT_US"),
    (C3, C1, "SNOMEDCT_US"),
    (C3, C2, "SNOMEDCT_US"),
    (C4, C2, "SNOMEDCT_US"),
    (C5, "C9999999", "SNOMEDCT_US"),
    (C6, C7, "SNOMEDCT_US"),
    (C7, C6, "SNOMEDCT_US"),
]


def release(folder: Path, rows: list[str] | None, columns: str = COLUMNS) -> Path:
    """A META folder with MRREL; the knowledge base's tables lie in `kb` beside it."""
    meta = folder / "META"
    meta.mkdir()
    (meta / "MRCONSO.RRF").write_text("")
    (meta / "MRFILES.RRF").write_text(f"MRREL.RRF|Relations|{columns}|16|1|1|\n" if columns != COLUMNS else "")
    if rows is not None:
        (meta / "MRREL.RRF").write_text("".join(f"{row}\n" for row in rows))
    concepts = [{"cui": cui, "preferred_name": cui, "definition": None, "semantic_types": ["T047"]} for cui in CUIS]
    tables.write(tables.CONCEPTS, folder / "kb/concepts.parquet", concepts)
    write_spec(folder, RrfKb(source="rrf", path=str(meta)))
    return meta


def write_spec(folder: Path, entry: RrfKb | OntologyKb) -> None:
    (folder / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "k", "settings": entry.model_dump(mode="json")}))


def run(folder: Path, wanted: str = "auto") -> tuple[list[tuple[str, str, str]], dict]:
    parents.extract(folder / "spec.json", folder / "kb", wanted, folder / "kb/parents.parquet")
    rows = tables.read(tables.PARENTS, folder / "kb/parents.parquet").to_pylist()
    return [(r["cui"], r["parent"], r["source"]) for r in rows], tables.provenance(folder / "kb/parents.parquet")["hierarchy"]


def test_relations_of_a_release(tmp_path: Path) -> None:
    release(tmp_path, RELATIONS)
    rows, told = run(tmp_path)
    assert rows == EXPECTED
    assert told == {
        "missing": None,
        "pairs": 8,
        "by_source": {"MSH": 1, "SNOMEDCT_US": 7},
        "cycles": 1,
        "concepts_in_cycles": 2,
        "funnel": {"rows": 15, "hierarchical, of a concept": 11, "suppressed": 1, "within one concept": 1},
    }


@pytest.mark.parametrize("packed", ["gz", "zip"])
def test_packed_releases_are_the_same(tmp_path: Path, packed: str) -> None:
    meta = release(tmp_path, RELATIONS)
    if packed == "gz":
        (meta / "MRREL.RRF.gz").write_bytes(gzip.compress((meta / "MRREL.RRF").read_bytes()))
        (meta / "MRREL.RRF").unlink()
    else:
        with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
            for file in meta.iterdir():
                archive.write(file, f"2026AA/META/{file.name}")
        write_spec(tmp_path, RrfKb(source="rrf", path=str(tmp_path / "release.zip")))
    assert run(tmp_path)[0] == EXPECTED


def test_other_columns_are_found_by_their_names(tmp_path: Path) -> None:
    """MRFILES says which columns there are: RELA and SUPPRESS may be missing."""
    kept = [i for i, column in enumerate(COLUMNS.split(",")) if column not in ("RELA", "SUPPRESS")]
    rows = ["".join(f"{row.split('|')[i]}|" for i in kept) for row in RELATIONS]
    release(tmp_path, rows, ",".join(COLUMNS.split(",")[i] for i in kept))
    by_rel = {(C2, C1, "MSH"), (C2, C1, "SNOMEDCT_US"), (C3, C1, "SNOMEDCT_US"), (C5, C1, "SNOMEDCT_US"), (C5, "C9999999", "SNOMEDCT_US")}
    assert set(run(tmp_path)[0]) == by_rel | set(EXPECTED[-2:])


@pytest.mark.parametrize(
    ("rows", "columns", "why"),
    [
        (None, COLUMNS, "MRREL.RRF is not in the release"),
        (RELATIONS, COLUMNS.replace(",REL,", ",RELATION,"), "MRREL.RRF has no column REL"),
        ([row.removesuffix("|") for row in RELATIONS[:2]], COLUMNS, "MRREL.RRF has 15 columns, not 16"),
        ([relation(C1, "RO", C2)], COLUMNS, "no source gives a parent"),
    ],
)
def test_no_hierarchy_is_one_line_unless_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture, rows: list | None, columns: str, why: str) -> None:
    release(tmp_path, rows, columns)
    found, told = run(tmp_path)
    assert found == [] and told["missing"] == why
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"no hierarchy: {why}"
    with pytest.raises(UserError, match=f"no hierarchy.*{why}"):
        run(tmp_path, "required")


def test_nothing_is_read_if_none_is_wanted(tmp_path: Path) -> None:
    release(tmp_path, ["broken"])
    assert run(tmp_path, "none") == (
        [],
        {"missing": "the setting `hierarchy` is none", "pairs": 0, "by_source": {}, "cycles": 0, "concepts_in_cycles": 0, "funnel": {}},
    )


def test_a_broken_row_is_an_error_with_its_number(tmp_path: Path) -> None:
    release(tmp_path, [*RELATIONS, "C0000001|A1|"])
    with pytest.raises(UserError, match=r"truncated row.*MRREL.RRF:16: 2 fields, not 16"):
        run(tmp_path)


def test_ontologies_by_hand(tmp_path: Path) -> None:
    """is_a of a term list, trees and headings of MeSH; terms without a concept are stepped over."""
    mondo = {
        "MONDO:1": {"label": "disease", "deprecated": False, "ancestors": {}},
        "MONDO:2": {"label": "no concept", "deprecated": False, "ancestors": {"MONDO:1": 1}},
        "MONDO:3": {"label": "gout", "deprecated": False, "ancestors": {"MONDO:2": 1, "MONDO:1": 2}},
        "MONDO:4": {"label": "gone", "deprecated": True, "ancestors": {"MONDO:3": 1}},
    }
    (tmp_path / "mondo.json").write_text(json.dumps(mondo))
    doid = [{"id": "DOID:4", "name": "disease"}, {"id": "DOID:5", "name": "gout", "relations": {"is_a": ["DOID:4"]}}]
    (tmp_path / "doid.json").write_text(json.dumps(doid))
    mesh = ["D1\tdiseases\t\tC05", "D2\tno concept\t\tC05.550", "D3\tgout\t\tC05.550.354|J01.2", "D4\tnot below\t\tJ01", "S1\trare gout\t\t*D3,D9"]
    (tmp_path / "mesh.tsv").write_text("".join(f"{row}\n" for row in mesh))
    codes = [("MONDO", "1", C1), ("MONDO", "3", C3), ("MONDO", "3", C4), ("MONDO", "4", C5), ("DOID", "4", C1), ("DOID", "5", C3)]
    codes += [("MSH", "D1", C1), ("MSH", "D3", C3), ("MSH", "D4", C7), ("MSH", "S1", C6)]
    tables.write(tables.XREFS, tmp_path / "kb/xrefs.parquet", [{"source": s, "code": c, "cui": cui, "via": "x"} for s, c, cui in codes])
    entry = OntologyKb(source="ontologies", mondo=str(tmp_path / "mondo.json"), doid=str(tmp_path / "doid.json"), mesh_names=(str(tmp_path / "mesh.tsv"),))
    write_spec(tmp_path, entry)
    rows, told = run(tmp_path)
    assert rows == [(C3, C1, "DOID"), (C3, C1, "MONDO"), (C3, C1, "MSH"), (C4, C1, "MONDO"), (C6, C3, "MSH")]
    assert told["cycles"] == 0 and told["funnel"]["terms"] == {"MONDO": 3, "DOID": 2, "MSH": 4}


def test_published_obo(tmp_path: Path) -> None:
    terms = ["[Term]\nid: HP:1\nname: all", "[Term]\nid: HP:2\nname: pain\nis_a: HP:1", "[Term]\nid: HP:3\nname: old\nis_a: HP:2\nis_obsolete: true"]
    (tmp_path / "hp.obo").write_text("format-version: 1.2\nontology: hp\n\n" + "\n\n".join(terms) + "\n")
    xrefs = [{"source": "HPO", "code": str(i), "cui": cui, "via": "hpo"} for i, cui in ((1, C1), (2, C2), (3, C3))]
    tables.write(tables.XREFS, tmp_path / "kb/xrefs.parquet", xrefs)
    write_spec(tmp_path, OntologyKb(source="ontologies", hpo=str(tmp_path / "hp.obo")))
    assert run(tmp_path)[0] == [(C2, C1, "HPO")]


def test_mondo_as_published_equals_a_walk_of_networkx(shared_data: Path, tmp_path: Path) -> None:
    """Each concept of Mondo and the nearest concepts above it, by another library, from the published file and its own map to UMLS."""
    source = shared_data / "mondo"
    [file] = source.glob("MONDO-*.json.zst")
    with zstandard.open(file, "rb") as handle:
        terms = json.load(io.TextIOWrapper(handle, encoding="utf-8"))
    concepts: dict[str, set[str]] = {}
    with open(source / "mondo_exactmatch_umls.sssom.tsv", encoding="utf-8") as handle:
        for row in csv.DictReader((line for line in handle if not line.startswith("#")), delimiter="\t"):
            concepts.setdefault(row["subject_id"], set()).add(row["object_id"].removeprefix("UMLS:"))
    concepts = {key: cuis for key, cuis in concepts.items() if key in terms}
    graph = networkx.DiGraph((child, parent) for child, t in terms.items() if not t["deprecated"] for parent, steps in t["ancestors"].items() if steps == 1)
    assert networkx.is_directed_acyclic_graph(graph)
    above: dict[str, set[str]] = {}
    for term in reversed(list(networkx.topological_sort(graph))):  # parents come first
        above[term] = set().union(*(concepts.get(parent) or above[parent] for parent in graph.successors(term)))
    expected = {(cui, parent, "MONDO") for term, own in concepts.items() for cui in own for parent in above.get(term, ()) if parent != cui}
    xrefs = [{"source": "MONDO", "code": key.removeprefix("MONDO:"), "cui": cui, "via": "mondo"} for key, cuis in concepts.items() for cui in cuis]
    tables.write(tables.XREFS, tmp_path / "kb/xrefs.parquet", xrefs)
    write_spec(tmp_path, OntologyKb(source="ontologies", mondo=str(file)))
    rows, told = run(tmp_path)
    assert len(rows) > 20_000 and set(rows) == expected
    strong = [c for c in networkx.strongly_connected_components(networkx.DiGraph((c, p) for c, p, _ in rows)) if len(c) > 1]
    assert told["cycles"] == len(strong) and told["concepts_in_cycles"] == sum(map(len, strong))


def test_cycles_are_counted_as_networkx_does() -> None:
    import random

    rng = random.Random(5)
    pairs = sorted({(f"C{rng.randrange(80)}", f"C{rng.randrange(80)}") for _ in range(110)})
    graph = networkx.DiGraph(pairs)
    expected = sorted(len(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1)
    rows = tables.build(tables.PARENTS, [{"cui": c, "parent": p, "source": "X"} for c, p in pairs])
    assert parents.cycles(rows) == expected != []
    members = sorted((sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1), key=lambda c: (len(c), c))
    assert cycles_of(rows) == members
    assert parents.cycles(pa.table(rows)[:0]) == []


def test_every_source_names_a_part_of_the_code_and_reads_itself() -> None:
    """What `kb extract`, rules, specs and costs ask; a new source without an answer fails here."""
    kinds = get_args(get_args(Kb)[0])
    assert [(kind.part, kind.of_umls, kind.usual_size) for kind in kinds] == [
        ("kb.rrf", True, (47_654, 1_200_000)),
        ("kb.ontologies", False, (25_440, 190_441)),
        ("kb.ontologies", False, (25_440, 190_441)),
        ("kb.rf2", False, (4_000, 380_000)),
        ("kb.table", False, (25_440, 190_441)),
    ]
    assert {kind.part for kind in kinds} <= set(VERSIONED_CODE)
    assert all(getattr(kind, name) is not getattr(KnowledgeBase, name) for kind in kinds for name in ("files", "read", "parents"))


def test_a_small_release_bounds_the_size_that_costs_assume(tmp_path: Path) -> None:
    entry = RrfKb(source="rrf", path="META")
    assert entry.estimated_size(tmp_path) == (47_654, 1_200_000)
    (tmp_path / "META").mkdir()
    (tmp_path / "META/MRCONSO.RRF").write_bytes(b"x" * 1_050)
    assert entry.estimated_size(tmp_path) == (0, 10)
