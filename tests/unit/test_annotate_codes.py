"""Codes beside concepts: all of them, in an order stated by hand; licences, bundles, formats, spaCy and the service."""

import dataclasses
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import annotating
from annotating import CELL
from mentionforge import tables
from mentionforge.annotate import bundle, cells, codes, run, writing
from mentionforge.annotate.codes import Codes, ConceptCode
from mentionforge.annotate.commands import app
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.reading import Options
from mentionforge.annotate.vocabularies import is_licensed, own_code, vocabulary
from mentionforge.annotate.writers import BY_NAME
from mentionforge.corpora.documents import Tally
from mentionforge.corpora.formats.registry import READERS
from mentionforge.errors import UserError

HD, GOUT = "C0020179", "C0018099"
XREFS = [  # vocabulary, code, concept, map
    ("ICD10CM", "M10.9", GOUT, "doid"), ("ICD10CM", "M10", GOUT, "doid"), ("MSH", "D006073", GOUT, "mondo"),
    ("MSH", "D006816", HD, "doid"), ("MSH", "D006816", HD, "mondo"), ("MSH", "C1", HD, "mesh-name"), ("MSH", "D2", HD, "mondo"), ("MSH", "D2", GOUT, "mondo"),
    ("OMIM", "143100", HD, "mondo"), ("SNOMEDCT_US", "58756001", HD, "doid"), ("SNOMEDCT_US", "90560007", GOUT, "doid"), ("OMIM", "1", "C0000001", "mondo"),
]  # fmt: skip
EXPECTED = {
    HD: [("MSH", "D006816", True, "doid, mondo"), ("MSH", "C1", False, "mesh-name"), ("MSH", "D2", False, "mondo"), ("OMIM", "143100", True, "mondo")],
    GOUT: [("MSH", "D006073", True, "mondo"), ("MSH", "D2", False, "mondo")],
}
TEXT = "Huntington disease and gout.\nNo breast cancer."


def rows(xrefs=XREFS):
    return tables.build(tables.XREFS, [dict(zip(("source", "code", "cui", "via"), row, strict=True)) for row in sorted(xrefs)])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = annotating.make(tmp_path_factory.mktemp("codes"))
    tables.write(tables.XREFS, folder / "kb/k/xrefs.parquet", rows())
    return folder


def materials(results):
    return cells.find(results / CELL, linker="exact/train+kb")


@pytest.fixture(scope="module")
def annotator(results):
    found = materials(results)
    return Annotator(found, codes=codes.of_materials(found, ("MSH", "OMIM")))


@pytest.fixture(scope="module")
def packed(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "b"
    bundle.write(materials(results), path)
    return path


def as_tuples(found):
    return [(c.vocabulary, c.code, c.preferred, c.via) for c in found]


def test_all_codes_stand_in_the_order_of_the_vocabularies_with_the_preferred_first():
    book = Codes(("MSH", "OMIM"), rows())
    assert {concept: as_tuples(book.of(concept)) for concept in (HD, GOUT)} == EXPECTED
    assert [c.code for c in Codes(("OMIM", "MSH"), rows()).of(HD)] == ["143100", "D006816", "C1", "D2"]
    assert as_tuples(Codes(("ICD10CM",), rows()).of(GOUT)) == [("ICD10CM", "M10", True, "doid"), ("ICD10CM", "M10.9", False, "doid")]
    assert book.of("C9999999") == () and Codes(("MSH",), rows([])).of(HD) == ()


def test_an_id_of_a_vocabulary_is_a_code_of_it_and_preferred():
    xrefs = [("HPO", "0000001", "HP:0001250", "hpo"), ("UMLS", "C0036572", "HP:0001250", "hpo"), ("HPO", "0001250", "HP:0001250", "hpo")]
    book = Codes(("HPO", "UMLS"), rows(xrefs))
    assert as_tuples(book.of("HP:0001250")) == [
        ("HPO", "0001250", True, "concept id"), ("HPO", "0000001", False, "hpo"), ("UMLS", "C0036572", True, "hpo"),
    ]  # fmt: skip
    assert as_tuples(book.of("C0036572")) == [("UMLS", "C0036572", True, "concept id")]
    ids = {"MONDO:0007739": ("MONDO", "0007739"), "ORPHA:399": ("ORPHANET", "399"), "DOID:12858": ("DOID", "12858"), "OMIM:143100": ("OMIM", "143100")}
    ids |= {"MESH:D006816": ("MSH", "D006816"), HD: ("UMLS", HD), "local-7": None, "12": None, ":1": None, "HP:": None}
    assert {i: own_code(i) for i in ids} == ids
    assert codes.load(["hpo"], None, pa.chunked_array([["HP:0001250", "x"]])).vocabularies == ("HPO",)


def test_the_index_is_that_of_a_plain_loop(root):
    """The demo's knowledge base and a table of 3,000 rows, against sorting in Python."""
    import random

    rng = random.Random(3)
    table = {(s, str(rng.randrange(400)), f"C{rng.randrange(200):07d}", v) for s in ("A", "B", "C") for v in ("m", "mesh-name") for _ in range(500)}
    book, sharing = Codes(("C", "A"), rows(table)), {}
    for source, code, concept, _ in table:
        sharing.setdefault((source, code), set()).add(concept)
    for concept in {row[2] for row in table}:
        wanted = []
        for source in ("C", "A"):
            of_concept = {}
            for s, code, c, via in table:
                if (s, c) == (source, concept):
                    of_concept.setdefault(code, set()).add(via)
            key = {k: (len(sharing[source, k]) > 1, v == {"mesh-name"}, len(k), k) for k, v in of_concept.items()}
            wanted += [(source, k, i == 0, ", ".join(sorted(of_concept[k]))) for i, k in enumerate(sorted(key, key=key.get))]
        assert as_tuples(book.of(concept)) == wanted


def test_an_unknown_vocabulary_is_one_line_that_lists_the_known_ones(results, packed):
    for found in (materials(results), bundle.read(packed)):
        with pytest.raises(UserError, match=r"unknown vocabulary in --codes: ICD11, ABC are no vocabulary of .*; known: ICD10CM, MSH, OMIM, .*UMLS") as told:
            codes.of_materials(found, ("MSH", "ICD11", "ABC"))
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="no vocabulary in --codes"):
        codes.parse(" , ")
    assert codes.parse("MSH, HPO,MSH") == ("MSH", "HPO")
    out = CliRunner().invoke(app, ["annotate", "-", "--bundle", str(packed), "--codes", "MSH,NO"], input=TEXT)
    assert out.exit_code != 0 and isinstance(out.exception, UserError) and "NO is no vocabulary" in str(out.exception)


def test_licensed_codes_follow_the_rules_of_licensed_text(results, tmp_path, packed, capsys):
    assert [n for n in ("SNOMEDCT_US", "SNOMEDCT_VET", "MDR", "ICD10", "ICD10CM", "MSH", "HPO", "ORPHANET", "OMIM", "LNC") if is_licensed(n)] == [
        "SNOMEDCT_US", "SNOMEDCT_VET", "MDR", "ICD10",
    ]  # fmt: skip
    bundle.write(materials(results), tmp_path / "open")
    assert "licensed codes are left out of the bundle: SNOMEDCT_US (2)" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "open/bundle.json").read_text())
    # C0000001 is not in the index.
    assert manifest["codes"] == {"held": {"ICD10CM": 2, "MSH": 6, "OMIM": 1}, "left_out": {"SNOMEDCT_US": 2}} and manifest["licensed"] == []
    held = pq.read_table(tmp_path / "open/xrefs.parquet").to_pylist()
    assert {tuple(row.values()) for row in held} == {row for row in XREFS if row[0] != "SNOMEDCT_US" and row[2] != "C0000001"}
    assert "58756001" not in "".join(path.read_text(errors="ignore") for path in (tmp_path / "open").rglob("*") if path.is_file())
    card = (tmp_path / "open/README.md").read_text()
    assert "| codes | ICD10CM 2, MSH 6, OMIM 1 |" in card and "| licensed codes left out | SNOMEDCT_US 2 |" in card
    found = bundle.read(tmp_path / "open")
    with pytest.raises(UserError, match="missing codes in --codes: the bundle was written without those of SNOMEDCT_US, which are licensed; write it with"):
        codes.of_materials(found, ("SNOMEDCT_US",))

    bundle.write(materials(results), tmp_path / "licensed", licensed_text=True)
    with pytest.raises(UserError, match="codes of SNOMEDCT_US"):
        bundle.read(tmp_path / "licensed")
    found = bundle.read(tmp_path / "licensed", licensed_text=True)
    assert as_tuples(codes.of_materials(found, ("snomedct_us",)).of(HD)) == [("SNOMEDCT_US", "58756001", True, "doid")]
    # A results folder is the user's own.
    assert as_tuples(codes.of_materials(materials(results), ("SNOMEDCT_US",)).of(HD)) == [("SNOMEDCT_US", "58756001", True, "doid")]


def test_concept_ids_of_a_licensed_vocabulary_are_licensed_text(results, tmp_path):
    found = materials(results)
    table = found.concepts.to_pylist()
    native = tables.build(tables.CONCEPTS, sorted([*table, {**table[0], "cui": "SNOMEDCT:58756001"}], key=lambda row: row["cui"]))
    with pytest.raises(UserError, match=r"licensed text.*concept ids of SNOMEDCT_US"):
        bundle.write(dataclasses.replace(found, concepts=native), tmp_path / "b")
    bundle.write(dataclasses.replace(found, concepts=native), tmp_path / "b", licensed_text=True)
    assert "concept ids of SNOMEDCT_US" in (tmp_path / "b/README.md").read_text()


def test_bundles_without_codes_or_with_other_ones(results, tmp_path, capsys):
    bundle.write(dataclasses.replace(materials(results), xrefs=None), tmp_path / "b")
    assert "the bundle holds no codes" in capsys.readouterr().err
    with pytest.raises(UserError, match="MSH is no vocabulary of this knowledge base, whose bundle was written without codes; known: UMLS"):
        codes.of_materials(bundle.read(tmp_path / "b"), ("MSH",))
    bundle.write(materials(results), tmp_path / "c")
    manifest = json.loads((tmp_path / "c/bundle.json").read_text())
    tables.write(tables.XREFS, tmp_path / "c/xrefs.parquet", rows(XREFS[:3]))
    from mentionforge.annotate.bundle_manifest import sums_of
    from mentionforge.provenance import sha256_file

    manifest["files"]["xrefs.parquet"] = sha256_file(tmp_path / "c/xrefs.parquet")
    (tmp_path / "c/bundle.json").write_text(json.dumps(manifest))
    (tmp_path / "c/SHA256SUMS.txt").write_text(sums_of(tmp_path / "c"))
    with pytest.raises(UserError, match=r"damaged bundle.*xrefs.parquet has other codes than bundle.json says"):
        bundle.read(tmp_path / "c")


def test_bundle_and_results_give_the_same(results, packed, annotator):
    found = bundle.read(packed)
    of_bundle = Annotator(found, codes=codes.of_materials(found, ("MSH", "OMIM")))
    assert list(of_bundle.annotate([TEXT])) == list(annotator.annotate([TEXT]))


def test_without_codes_a_record_is_as_before(results, annotator):
    [plain] = Annotator(materials(results)).annotate([TEXT])
    assert all("codes" not in c for m in plain for c in writing.mention_record(m)["concepts"])
    [coded] = annotator.annotate([TEXT])
    records = [writing.mention_record(m) for m in coded]
    assert [m.surface for m in coded] == ["Huntington disease", "gout", "breast cancer"]
    expected = [dict(zip(("vocabulary", "code", "preferred", "via"), row, strict=True)) for row in EXPECTED[HD]]
    assert records[0]["concepts"][0]["codes"] == expected and records[2]["concepts"][0]["codes"] == []
    for record in records:
        for concept in record["concepts"]:
            del concept["codes"]
    assert records == [writing.mention_record(m) for m in plain]


def test_native_ids_are_no_cuis():
    assert writing.with_vocabulary("HP:0001250") == "HP:0001250" and writing.with_vocabulary(HD) == f"CUI:{HD}"


SEEN = {  # where each format holds the codes of the first mention
    "jsonl": '"codes": [{"vocabulary": "MSH", "code": "D006816", "preferred": true, "via": "doid, mondo"}, ',
    "brat": "codes MSH:D006816 (doid, mondo), MSH:C1 (mesh-name), MSH:D2 (mondo), OMIM:143100 (mondo)",
    "bioc": '<infon key="codes">MSH:D006816 (doid, mondo), MSH:C1 (mesh-name), MSH:D2 (mondo), OMIM:143100 (mondo)</infon>',
    "html": "<br>MSH:D006816 (doid, mondo), MSH:C1 (mesh-name), MSH:D2 (mondo), OMIM:143100 (mondo)<td>",
}


@pytest.mark.parametrize("form", ["jsonl", "brat", "bioc", "html", "parquet", "pubtator"])
def test_every_format_that_has_a_place_for_codes_holds_them(form, annotator, tmp_path):
    (tmp_path / "n.txt").write_text(TEXT)
    summary = run.annotate([str(tmp_path / "n.txt")], annotator, form, tmp_path / form, Options(), {})
    output = tmp_path / form / BY_NAME[form].output
    if form == "parquet":
        [row] = pq.read_table(output).to_pylist()
        assert [tuple(code.values()) for code in row["mentions"][0]["concepts"][0]["codes"]] == EXPECTED[HD]
    elif form == "pubtator":
        assert summary.losses["codes, for which the format has no place: left out"] == 6
    else:
        files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
        assert any(SEEN[form] in path.read_text() for path in files)
    if form != "html":  # a code is no further concept of the mention
        [document] = READERS[form](output, "CUI", {"Disease"}, Tally())
        assert [a.ids for a in document.annotations] == [(f"CUI:{HD}",), (f"CUI:{GOUT}",), ("CUI:C0006142",)]


def test_command_line(packed, tmp_path):
    (tmp_path / "n.txt").write_text(TEXT)
    arguments = ["annotate", str(tmp_path / "n.txt"), "--bundle", str(packed), "--codes", "OMIM,MSH", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    [row] = map(json.loads, (tmp_path / "out/annotations.jsonl").read_text().splitlines())
    assert [c["code"] for c in row["mentions"][0]["concepts"][0]["codes"]] == ["143100", "D006816", "C1", "D2"]
    with pytest.raises(UserError, match="folder not empty"):  # other codes are another job
        CliRunner().invoke(app, [*arguments[:5], "MSH", *arguments[6:]], catch_exceptions=False)


def test_spacy_component(packed):
    import spacy

    from mentionforge.annotate import component  # noqa: F401

    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": str(packed), "codes": ["MSH", "OMIM"]})
    doc = nlp(TEXT)
    assert [as_tuples(e._.mentionforge.concept.codes) for e in doc.ents] == [EXPECTED[HD], EXPECTED[GOUT], []]
    again = spacy.tokens.Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert [e._.mentionforge for e in again.ents] == [e._.mentionforge for e in doc.ents]
    assert isinstance(again.ents[0]._.mentionforge.concept.codes[0], ConceptCode)


def test_service(annotator, results):
    from mentionforge.annotate.service import create

    with TestClient(create(annotator), base_url="http://localhost") as client:
        answer = client.post("/annotate", json={"documents": [{"text": TEXT}]}).json()
        assert [tuple(c.values()) for c in answer["documents"][0]["mentions"][0]["concepts"][0]["codes"]] == EXPECTED[HD]
        assert client.get("/about").json()["codes"] == ["MSH", "OMIM"]
        assert "CodeOut" in client.get("/openapi.json").json()["components"]["schemas"]
    with TestClient(create(Annotator(materials(results))), base_url="http://localhost") as client:
        answer = client.post("/annotate", json={"documents": [{"text": TEXT}]}).json()
        assert "codes" not in answer["documents"][0]["mentions"][0]["concepts"][0] and answer["documents"][0]["doc_id"] is None


def test_systems_are_those_of_fhir():
    assert vocabulary("SNOMEDCT_US").system == "http://snomed.info/sct" and vocabulary("ICD10CM").system == "http://hl7.org/fhir/sid/icd-10-cm"
    assert vocabulary("NCI").system == "http://www.nlm.nih.gov/research/umls/nci" and re.fullmatch(r"\S+", vocabulary("My list, 2").system)
