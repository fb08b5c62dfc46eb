"""Native concept ids of ontologies: a hand-made set rule by rule, and the published files against counts made here."""

import gzip
import io
import json
import re
from collections import Counter

import pytest
import zstandard

from mentionforge import tables
from mentionforge.corpora.concepts import ConceptMap
from mentionforge.corpora.settings import Corpus
from mentionforge.external.answers import PredictionFiles
from mentionforge.generation import concepts
from mentionforge.generation.kinds.replay import ReplayGenerator, selected_rows
from mentionforge.generation.settings import Concepts
from mentionforge.kb import parents, show
from mentionforge.kb.extract import extract
from mentionforge.kb.sources.ontologies import OntologyKb, merge
from mentionforge.normalization.linkers.external import ExternalLinker

MONDO = """format-version: 1.2

[Term]
id: MONDO:0000001
name: disease

[Term]
id: MONDO:0000010
name: gout
def: "Crystals in joints." [X:1]
synonym: "podagra" EXACT []
alt_id: MONDO:0009910
xref: UMLS:C0000010
xref: MESH:D000010
is_a: MONDO:0000001 ! disease

[Term]
id: MONDO:0000013
name: unknown to UMLS
xref: DOID:13
is_a: MONDO:0000010 ! gout

[Term]
id: MONDO:0000014
name: gone
is_obsolete: true
"""
DOID = """format-version: 1.2

[Term]
id: DOID:4
name: disease

[Term]
id: DOID:10
name: gout (DOID)
xref: UMLS_CUI:C0000010
is_a: DOID:4 ! disease
"""
HPO = """format-version: 1.2

[Term]
id: HP:0000118
name: Phenotypic abnormality

[Term]
id: HP:0000040
name: Fever
alt_id: HP:0000041
synonym: "Pyrexia" EXACT []
xref: UMLS:C0000040
xref: UMLS:C0000042
xref: SNOMEDCT_US:386661006
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:0000043
name: High fever
is_a: HP:0000040 ! Fever
"""
OTHER = """format-version: 1.2

[Term]
id: Orphanet:399
name: Rare gout
xref: OMIM:100399

[Term]
id: MIM:100500
name: Gout, familial
is_a: Orphanet:399 ! Rare gout
"""
MATCHES = """subject_id\tpredicate_id\tobject_id
ORPHA:399\tskos:exactMatch\tMONDO:0000010
DOID:10\tskos:exactMatch\tMONDO:0000010
DOID:4\tskos:exactMatch\tMONDO:0000010
DOID:4\tskos:exactMatch\tMONDO:0000013
MONDO:0000013\tskos:exactMatch\tMESH:D000099
"""
MESH = """D000010\tGout\tGouts\tC05.1\t
D000043\tMania\tManias\tF03.1\t
D000044\tMelanoma\t\tC04.2|C17.1\t
D000042\tAspirin\t\tD02.1\t
"""
SUPPLEMENTARY = "C000001\tOdd mania\t\tD000043\t\n"


@pytest.fixture
def settings(tmp_path):
    for name, text in {"mondo.obo": MONDO, "doid.obo": DOID, "hp.obo": HPO, "other.obo": OTHER, "m.sssom.tsv": MATCHES}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "mesh.tsv").write_text(MESH)
    (tmp_path / "supp.tsv").write_text(SUPPLEMENTARY)
    return {
        "source": "ontologies",
        "ids": "native",
        **{name: str(tmp_path / f"{file}.obo") for name, file in {"mondo": "mondo", "doid": "doid", "hpo": "hp"}.items()},
        "others": {"ORPHANET": {"path": str(tmp_path / "other.obo")}},
        "sssom": [str(tmp_path / "m.sssom.tsv")],
        "mesh_names": [str(tmp_path / "mesh.tsv"), str(tmp_path / "supp.tsv")],
    }


def concepts_of(extracted):
    return {row["cui"]: (row["preferred_name"], row["definition"], row["semantic_types"]) for row in extracted.concepts.to_pylist()}


def codes_of(extracted):
    codes = {}
    for row in extracted.xrefs.to_pylist():
        codes.setdefault(f"{row['source']}:{row['code']}", set()).add(row["cui"])
    return codes


def test_every_term_is_a_concept_under_its_own_id(settings):
    extracted = merge.read(OntologyKb(**settings))
    assert concepts_of(extracted) == {
        "MONDO:0000001": ("disease", None, ["T047"]),
        "MONDO:0000010": ("gout", "Crystals in joints.", ["T047"]),
        "MONDO:0000013": ("unknown to UMLS", None, ["T047"]),
        "DOID:4": ("disease", None, ["T047"]),
        "DOID:10": ("gout (DOID)", None, ["T047"]),
        "HP:0000040": ("Fever", None, ["T033"]),
        "HP:0000043": ("High fever", None, ["T033"]),
        "ORPHA:399": ("Rare gout", None, ["T047"]),
        "OMIM:100500": ("Gout, familial", None, ["T047"]),
        "MESH:D000010": ("Gout", None, ["T047"]),
        "MESH:D000043": ("Mania", None, ["T048"]),
        "MESH:D000044": ("Melanoma", None, ["T047", "T191"]),
        "MESH:C000001": ("Odd mania", None, ["T048"]),
    }
    names = {(row["cui"], row["name"], row["source"]) for row in extracted.names.to_pylist()}
    assert {("HP:0000040", "Pyrexia", "HPO"), ("MONDO:0000010", "podagra", "MONDO"), ("MESH:D000010", "Gouts", "MSH")} <= names
    drops = extracted.funnel["drops"]
    assert not [reason for reason in drops if "CUI" in reason]
    assert drops["MONDO: deprecated term"] == 1


def test_codes_are_own_ids_former_ids_cuis_and_matches(settings):
    assert codes_of(merge.read(OntologyKb(**settings))) == {
        "MONDO:0000001": {"MONDO:0000001"},
        "MONDO:0000010": {"MONDO:0000010"},
        "MONDO:0009910": {"MONDO:0000010"},  # its former id
        "MONDO:0000013": {"MONDO:0000013"},
        "DOID:4": {"DOID:4"},
        "DOID:10": {"DOID:10"},  # its own, whatever matches it
        "DOID:13": {"MONDO:0000013"},  # a cross-reference to a term that is not there
        "HPO:0000040": {"HP:0000040"},
        "HPO:0000041": {"HP:0000040"},
        "HPO:0000043": {"HP:0000043"},
        "ORPHANET:399": {"ORPHA:399"},
        "OMIM:100399": {"ORPHA:399"},
        "OMIM:100500": {"OMIM:100500"},
        "MSH:D000010": {"MESH:D000010"},
        "MSH:D000043": {"MESH:D000043"},
        "MSH:D000044": {"MESH:D000044"},
        "MSH:C000001": {"MESH:C000001"},
        "MSH:D000099": {"MONDO:0000013"},
        "UMLS:C0000010": {"MONDO:0000010"},  # the first ontology that has the CUI
        "UMLS:C0000040": {"HP:0000040"},
        "UMLS:C0000042": {"HP:0000040"},
        "SNOMEDCT_US:386661006": {"HP:0000040"},
    }


def test_exact_matches_join_terms_if_asked_for(settings):
    extracted = merge.read(OntologyKb(**settings, merge_matches=True))
    codes = codes_of(extracted)
    assert set(concepts_of(extracted)) == {
        "MONDO:0000001",
        "MONDO:0000010",  # with DOID:10 and ORPHA:399, by the file; with MeSH's D000010, by Mondo's cross-reference
        "MONDO:0000013",
        "DOID:4",  # matches two concepts
        "HP:0000040",
        "HP:0000043",
        "OMIM:100500",
        "MESH:D000043",
        "MESH:D000044",
        "MESH:C000001",
    }
    assert codes["DOID:10"] == codes["ORPHANET:399"] == codes["MSH:D000010"] == {"MONDO:0000010"}
    names = {row["name"] for row in extracted.names.to_pylist() if row["cui"] == "MONDO:0000010"}
    assert names == {"gout", "podagra", "gout (DOID)", "Rare gout", "Gout", "Gouts"}
    assert extracted.funnel["drops"]["DOID: term with exact matches to several concepts, not joined"] == 1


def test_the_hierarchy_has_native_ids(settings, tmp_path):
    entry = OntologyKb(**settings)
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "n", "settings": entry.model_dump(mode="json")}))
    extract(tmp_path / "spec.json", tmp_path)
    parents.extract(tmp_path / "spec.json", tmp_path, "required", tmp_path / "parents.parquet")
    rows = tables.read(tables.PARENTS, tmp_path / "parents.parquet").to_pylist()
    assert {(row["cui"], row["parent"]) for row in rows} == {
        ("MONDO:0000010", "MONDO:0000001"),
        ("MONDO:0000013", "MONDO:0000010"),
        ("DOID:10", "DOID:4"),
        ("HP:0000043", "HP:0000040"),
        ("OMIM:100500", "ORPHA:399"),
        ("MESH:C000001", "MESH:D000043"),
    }


def test_specs_written_before_the_choice_stay_as_they_are(settings):
    umls = OntologyKb(**{key: value for key, value in settings.items() if key != "ids"})
    assert not {"ids", "merge_matches"} & set(umls.model_dump(mode="json"))
    assert OntologyKb(**settings).model_dump(mode="json")["ids"] == "native"
    with pytest.raises(ValueError, match="merge_matches is for"):
        OntologyKb(source="ontologies", merge_matches=True)


@pytest.mark.slow
def test_published_hpo_and_mondo_keep_every_term(shared_data, tmp_path):
    """Terms counted in the raw files with regular expressions and a walk made here."""
    hpo = shared_data / "hpo" / "hp.obo.gz"
    mondo = shared_data / "mondo" / "MONDO-ontology-v2026-05-05.json.zst"
    entry = OntologyKb(source="ontologies", ids="native", hpo=str(hpo), mondo=str(mondo))
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "n", "settings": entry.model_dump(mode="json")}))
    stats = extract(tmp_path / "spec.json", tmp_path)
    stanzas = [s for s in gzip.decompress(hpo.read_bytes()).decode().split("\n\n") if s.startswith("[Term]")]
    ids = {re.search(r"^id: (\S+)", s, re.MULTILINE)[1]: re.findall(r"^is_a: (\S+)", s, re.MULTILINE) for s in stanzas}
    below = {"HP:0000118"}
    while grown := {key for key, above in ids.items() if key not in below and below.intersection(above)}:
        below |= grown
    terms = json.load(io.TextIOWrapper(zstandard.open(mondo, "rb"), encoding="utf-8"))
    roots = {"MONDO:0000001", "MONDO:0042489", "MONDO:0021178"}
    diseases = {key for key, t in terms.items() if key.startswith("MONDO:") and not t["deprecated"] and roots & {key, *t["ancestors"]}}
    found = tables.read(tables.CONCEPTS, tmp_path / "concepts.parquet")["cui"].to_pylist()
    assert set(found) == below - {"HP:0000118"} | diseases
    assert Counter(c.partition(":")[0] for c in found).keys() == {"HP", "MONDO"}
    assert {"HP:0001250", "MONDO:0007739"} <= set(found)
    assert stats["kb"]["concepts"] > 40_000
    labels = {row["cui"]: row["preferred_name"] for row in tables.read(tables.CONCEPTS, tmp_path / "concepts.parquet").to_pylist()}
    assert labels["HP:0001250"] == "Seizure"


def test_lists_replayed_notes_and_answers_of_others_name_native_ids(settings, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "n", "settings": OntologyKb(**settings).model_dump(mode="json")}))
    extract(tmp_path / "spec.json", tmp_path)
    (tmp_path / "list.txt").write_text("HP:0000040  # fever\nORPHA:399\nHP:9999999\n")
    chosen = Concepts(cuis=str(tmp_path / "list.txt"))
    assert concepts.select(tmp_path, chosen) == ["HP:0000040", "ORPHA:399"]
    (tmp_path / "notes.csv").write_text("cui,text\nHP:0000040,Fever at night.\nMONDO:0000010,Gout again.\n")
    generator = ReplayGenerator(kind="replay", kb="n", path="notes.csv", concepts=chosen)
    selected = set(concepts.select(tmp_path, generator.concepts))
    assert list(selected_rows(tmp_path / "notes.csv", selected, selected, None)) == [("HP:0000040-0", "HP:0000040", "Fever at night.")]
    corpus = Corpus(reader="pubtator", kb="n", splits={"train": ["a"], "test": ["b"]})
    answers = PredictionFiles(ExternalLinker(kind="external", path="x.csv"), tmp_path, corpus, {})
    known = ConceptMap.load(tmp_path)
    written = {"HP:0000040": "HP:0000040", "C0000040": "HP:0000040", "Orphanet:399": "ORPHA:399", "D000043": "MESH:D000043"}
    assert {answer: known(answers.ids(answer)[0]).cuis for answer in written} == {answer: (concept,) for answer, concept in written.items()}


def test_the_card_of_a_concept_is_found_by_its_id(settings, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "n", "settings": OntologyKb(**settings).model_dump(mode="json")}))
    extract(tmp_path / "spec.json", tmp_path)
    for query in ("HP:0000040", "hp:0000040", "pyrexia"):
        assert show.find(query, tmp_path) == ["HP:0000040"]
