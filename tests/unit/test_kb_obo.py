"""The source `obo`: one ontology in each of its formats, below its roots, under its own ids."""

import gzip
import json

import pytest

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb import parents
from mentionforge.kb.extract import TABLES, extract
from mentionforge.kb.sources.obo import OboKb

TERMS = {
    "HP:0000001": ("All", [], "", [], []),
    "HP:0000118": ("Phenotypic abnormality", [], "", [], ["HP:0000001"]),
    "HP:0001250": ("Seizure", ["Epileptic seizure", "Fit"], "An event.", ["UMLS:C0036572", "SNOMEDCT_US:91175000"], ["HP:0000118"]),
    "HP:0007359": ("Focal-onset seizure", [], "", [], ["HP:0001250"]),
    "HP:0012823": ("Clinical modifier", [], "", [], ["HP:0000001"]),
}
IRI = "http://purl.obolibrary.org/obo/"


def iri(key):
    return IRI + key.replace(":", "_")


def as_obo(terms):
    stanzas = ["format-version: 1.2\nontology: hp\n"]
    for key, (label, synonyms, definition, xrefs, above) in terms.items():
        lines = ["[Term]", f"id: {key}", f"name: {label}", *([f'def: "{definition}" []'] if definition else [])]
        lines += [f'synonym: "{s}" EXACT []' for s in synonyms] + [f"xref: {x}" for x in xrefs] + [f"is_a: {p}" for p in above]
        stanzas.append("\n".join(lines) + "\n")
    stanzas.append("[Term]\nid: HP:0000999\nname: gone\nis_obsolete: true\n")
    return "\n".join(stanzas)


def as_graphs(terms):
    nodes = [
        {
            "id": iri(key),
            "lbl": label,
            "type": "CLASS",
            "meta": {
                "synonyms": [{"pred": "hasExactSynonym", "val": s, "xrefs": []} for s in synonyms],
                "xrefs": [{"val": x} for x in xrefs],
                **({"definition": {"val": definition, "xrefs": []}} if definition else {}),
            },
        }
        for key, (label, synonyms, definition, xrefs, _) in terms.items()
    ]
    nodes.append({"id": iri("HP:0000999"), "lbl": "gone", "type": "CLASS", "meta": {"deprecated": True}})
    edges = [{"sub": iri(key), "pred": "is_a", "obj": iri(parent)} for key, (*_, above) in terms.items() for parent in above]
    return json.dumps({"graphs": [{"id": IRI + "hp.owl", "nodes": nodes, "edges": edges}]})


def as_owl(terms):
    classes = []
    for key, (label, synonyms, definition, xrefs, above) in terms.items():
        inner = [f'<rdfs:subClassOf rdf:resource="{iri(p)}"/>' for p in above] + [f"<rdfs:label>{label}</rdfs:label>", f"<oboInOwl:id>{key}</oboInOwl:id>"]
        inner += [f"<obo:IAO_0000115>{definition}</obo:IAO_0000115>"] if definition else []
        inner += [f"<oboInOwl:hasExactSynonym>{s}</oboInOwl:hasExactSynonym>" for s in synonyms]
        inner += [f"<oboInOwl:hasDbXref>{x}</oboInOwl:hasDbXref>" for x in xrefs]
        classes.append(f'<owl:Class rdf:about="{iri(key)}">{"".join(inner)}</owl:Class>')
    return (
        '<?xml version="1.0"?><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#" '
        'xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:oboInOwl="http://www.geneontology.org/formats/oboInOwl#" '
        f'xmlns:obo="{IRI}"><owl:Ontology rdf:about="{IRI}hp.owl"/>{"".join(classes)}</rdf:RDF>'
    )


def write(folder, name):
    text = {"obo": as_obo, "json": as_graphs, "owl": as_owl}[name.split(".")[1]](TERMS)
    data = text.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


@pytest.mark.parametrize("name", ["hp.obo", "hp.obo.gz", "hp.json", "hp.owl"])
def test_each_format(tmp_path, name):
    entry = OboKb(source="obo", path=str(write(tmp_path, name)), roots=("HP:0000118",), semantic_type="T184")
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "hp", "settings": entry.model_dump(mode="json")}))
    extract(tmp_path / "spec.json", tmp_path)
    parents.extract(tmp_path / "spec.json", tmp_path, "required", tmp_path / "parents.parquet")
    concepts, names, definitions, xrefs, _, above = (
        [tuple(v if not isinstance(v, list) else tuple(v) for v in row.values()) for row in tables.read(t, tmp_path / f"{t.name}.parquet").to_pylist()]
        for t in (*TABLES, tables.PARENTS)
    )
    assert concepts == [
        ("HP:0000118", "Phenotypic abnormality", None, ("T184",)),
        ("HP:0001250", "Seizure", "An event.", ("T184",)),
        ("HP:0007359", "Focal-onset seizure", None, ("T184",)),
    ]
    assert {(c, n, source) for c, n, source, *_ in names if c == "HP:0001250"} == {("HP:0001250", n, "HPO") for n in ("Seizure", "Epileptic seizure", "Fit")}
    assert definitions == [("HP:0001250", 1, "HPO", "An event.")]
    assert {(s, code, c) for s, code, c, _ in xrefs if c == "HP:0001250"} == {
        ("HPO", "0001250", "HP:0001250"),
        ("UMLS", "C0036572", "HP:0001250"),
        ("SNOMEDCT_US", "91175000", "HP:0001250"),
    }
    assert above == [("HP:0001250", "HP:0000118", "HPO"), ("HP:0007359", "HP:0001250", "HPO")]


def test_refusals(tmp_path, capfd):
    path = write(tmp_path, "hp.obo")
    with pytest.raises(UserError, match=r"unknown root in .*hp\.obo: HP:7 is no term of it"):
        OboKb(source="obo", path=str(path), roots=("HP:7",)).read()
    (tmp_path / "x.obo").write_text("no ontology")
    with pytest.raises(UserError, match=r"unreadable ontology in .*x\.obo"):
        OboKb(source="obo", path=str(tmp_path / "x.obo")).read()
    for text in ("{}", '{"graphs": []}', '{"graphs" :\n [ ] }', '{"nodes": []}'):  # the parser in Rust would panic, and print its stack
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=r"unreadable ontology in .*x\.json: it holds no graph"):
            OboKb(source="obo", path=str(tmp_path / "x.json")).read()
    assert "panicked" not in capfd.readouterr().err
    (tmp_path / "x.obo").write_text("format-version: 1.2\n\n[Term]\nid: X:1\nname: a\nis_obsolete: true\n\n[Term]\nid: X:2\nname: b\n")
    with pytest.raises(UserError, match=r"obsolete root in .*x\.obo: X:1 is obsolete"):
        OboKb(source="obo", path=str(tmp_path / "x.obo"), roots=("X:1",)).read()
    assert OboKb(source="obo", path="a/mine.obo", licensed="ask").licence("m") == "kb m"


def test_ids_without_a_prefix_get_the_vocabulary(tmp_path):
    (tmp_path / "mine.obo").write_text("format-version: 1.2\n\n[Term]\nid: A01\nname: Typhoid\n\n[Term]\nid: A01.0\nname: Typhoid fever\nis_a: A01\n")
    assert OboKb(source="obo", path=str(tmp_path / "mine.obo")).read().concepts["cui"].to_pylist() == ["MINE:A01", "MINE:A01.0"]
    entry = OboKb(source="obo", path=str(tmp_path / "mine.obo"), vocabulary="ICD10")
    assert entry.read().concepts["cui"].to_pylist() == ["ICD10:A01", "ICD10:A01.0"]
