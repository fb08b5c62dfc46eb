"""FHIR and OMOP: valid by checkers that are not ours, offsets in the text itself, contexts by the specifications, and no text besides the mentions."""

import csv
import json
import os
import random
import re
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from test_annotate_codes import GOUT, HD, rows

import annotating
from annotating import CELL
from mentionforge.annotate import bundle, cells, run
from mentionforge.annotate.codes import Codes
from mentionforge.annotate.context import Context
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.reading import Options
from mentionforge.annotate.vocabularies import own_code
from mentionforge.annotate.writers import BY_NAME

NOTES = {
    "a/n1.txt": "Secretword \U0001f600\U0001f600 gout and Huntington disease (HD).\r\n\r\nNo diabetes mellitus. Family history: breast cancer.\nRule out Parkinson disease.",
    "n2.txt": "Nothing of the kind, secretword.",
    "caf\u00e9 3.txt": "caf\u00e9\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467 GOUT\u00a0secretword. Mother has no gout.",
}
XREFS = [
    ("MSH", "D006073", GOUT, "mondo"), ("SNOMEDCT_US", "90560007", GOUT, "doid"), ("SNOMEDCT_US", "190828008", GOUT, "doid"),
    ("SNOMEDCT_US", "58756001", HD, "doid"), ("HPO", "0001997", GOUT, "sssom"), ("ORPHANET", "399", HD, "mondo"),
]  # fmt: skip


@pytest.fixture(scope="module")
def annotator(tmp_path_factory):
    results = annotating.make(tmp_path_factory.mktemp("exchange"))
    found = cells.find(results / CELL, linker="exact/train+kb")
    return Annotator(found, context=Context(), codes=Codes(("SNOMEDCT_US", "MSH", "HPO", "ORPHANET"), rows(XREFS)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notes")
    for name, text in NOTES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, newline="")
    return folder


@pytest.fixture(scope="module")
def fhir(annotator, folder, tmp_path_factory):
    """Path of the output, its Bundles by document, and the losses."""
    out = tmp_path_factory.mktemp("fhir") / "out"
    summary = run.annotate([str(folder)], annotator, "fhir", out, Options(), {})
    lines = (out / "annotations.fhir.ndjson").read_text().splitlines()
    return out, {b["identifier"]["value"]: b for b in map(json.loads, lines)}, summary.losses


def record(**changes):
    """A record with one mention of everything."""
    concept = {"cui": HD, "name": "Huntington disease", "semantic_types": ["T047"], "score": 0.5}
    mention = {"spans": [{"start": 0, "end": 2}], "surface": "HD", "entity_type": "Disease", "concept_ids": [f"CUI:{HD}"], "composite": False, "score": 0.25}
    mention |= {"name": "x", "semantic_types": [], "nil": False, "expanded": None, "ambiguous": False, "context": [], "concepts": [concept]}
    return {"doc_id": "d", "source": "s", "text": "HD", "mentions": [mention | changes]}


def one_resource(tmp_path, **changes):
    losses = BY_NAME["fhir"].write([record(**changes)], tmp_path / "f")
    entries = json.loads((tmp_path / "f").read_text()).get("entry", [])
    return (entries[0]["resource"] if entries else None), losses


def extension(parts, url="urn:mentionforge:fhir:mention"):
    [found] = [e for e in parts if e["url"] == url]
    return {part["url"]: value for part in found["extension"] for key, value in part.items() if key.startswith("value")}


# ---------------------------------------------------------------------------------------------------------------------- FHIR


def by_models():
    """Checker of Bundles by the models of fhir.resources."""
    r4b = pytest.importorskip("fhir.resources.R4B")
    model = r4b.get_fhir_model_class("Bundle")

    def check(found):
        assert json.loads(model.model_validate(found).model_dump_json()) == found

    return check


def by_schema():
    """Checker of Bundles by the published schema; resources first, since the error of a Bundle names no element."""
    path = os.environ.get("MENTIONFORGE_FHIR_SCHEMA")
    if not path:
        pytest.skip("MENTIONFORGE_FHIR_SCHEMA names no fhir.schema.json of R4")
    import jsonschema

    schema = json.loads(Path(path).read_text())
    assert schema["id"].endswith("/4.0")
    kinds = ("Bundle", "Condition", "FamilyMemberHistory")
    head = {"$schema": schema["$schema"], "definitions": schema["definitions"]}
    validators = {kind: jsonschema.Draft6Validator({**head, "$ref": f"#/definitions/{kind}"}) for kind in kinds}

    def check(found):
        for resource in (*(entry["resource"] for entry in found.get("entry", [])), found):
            if errors := list(validators[resource["resourceType"]].iter_errors(resource)):
                raise ValueError(errors[0].message)

    return check


@pytest.mark.parametrize("checker", [by_models, by_schema])
def test_fhir_is_valid_by_checkers_of_others(checker, fhir, tmp_path):
    check = checker()
    for found in fhir[1].values():
        check(found)
    for key in ("subject", "patient", "relationship", "code"):  # it does find what is missing
        broken = json.loads(json.dumps(fhir[1]["a/n1.txt"]))
        for entry in broken["entry"]:
            entry["resource"].pop(key, None)
        if key == "code":  # optional in a Condition
            broken["entry"] = [entry | {"resource": entry["resource"] | {"code": "gout"}} for entry in broken["entry"]]
        with pytest.raises(ValueError, match=key):
            check(broken)
    rng = random.Random(5)
    records = []
    for i in range(60):
        letters = [chr(rng.choice([rng.randrange(0x300), rng.randrange(0x2000, 0x3100), rng.randrange(0xE000, 0x110000)])) for _ in range(40)]
        odd, context = "".join(letters), rng.choice([[], ["negated"], ["hypothetical"], ["family"]])
        records += [{**record(surface="x" + odd, expanded=odd[:9] or None, context=context, ambiguous=True), "doc_id": f"d{odd[:8]}{i}"}]
    BY_NAME["fhir"].write(records, tmp_path / "f")
    lines = (tmp_path / "f").read_text().splitlines()
    assert len(lines) == len(records)
    for line in lines:
        check(json.loads(line))


def test_fhir_offsets_are_characters_of_the_text(fhir):
    assert set(fhir[1]) == set(NOTES)
    seen = []
    for doc_id, found in fhir[1].items():
        for entry in found.get("entry", []):
            resource = entry["resource"]
            if resource["resourceType"] == "Condition":
                [evidence] = resource["evidence"]
                place, code, document = extension(evidence["extension"]), resource["code"], evidence["detail"][0]
            else:
                [condition] = resource["condition"]
                place, code = extension(condition["extension"]), condition["code"]
                document = place["document"]
            assert NOTES[doc_id][place["start"] : place["end"]] == code["text"] and 0 < place["score"] <= 1
            assert document == {"type": "DocumentReference", "identifier": found["identifier"]}
            seen.append((doc_id, code["text"], resource["resourceType"], resource.get("verificationStatus", {}).get("coding", [{}])[0].get("code")))
    assert seen == [
        ("a/n1.txt", "gout", "Condition", None), ("a/n1.txt", "Huntington disease", "Condition", None), ("a/n1.txt", "HD", "Condition", None),
        ("a/n1.txt", "diabetes mellitus", "Condition", "refuted"), ("a/n1.txt", "breast cancer", "FamilyMemberHistory", None),
        ("a/n1.txt", "Parkinson disease", "Condition", "unconfirmed"), ("caf\u00e9 3.txt", "GOUT", "Condition", None),
    ]  # fmt: skip
    assert fhir[2] == {"mentions about the family that are negated or hypothetical, for which FHIR has no place: left out": 1}
    assert "entry" not in fhir[1]["n2.txt"]


def test_fhir_ids_are_distinct_and_stay(fhir, annotator, folder, tmp_path):
    entries = [entry for found in fhir[1].values() for entry in found.get("entry", [])]
    ids = [entry["resource"]["id"] for entry in entries] + [found["id"] for found in fhir[1].values()]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", i) for i in ids)
    assert all(entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}" for entry in entries)
    run.annotate([str(folder)], annotator, "fhir", tmp_path / "again", Options(), {})
    assert (tmp_path / "again/annotations.fhir.ndjson").read_bytes() == (fhir[0] / "annotations.fhir.ndjson").read_bytes()


def test_no_text_besides_the_mentions(fhir, annotator, folder, tmp_path):
    run.annotate([str(folder)], annotator, "omop", tmp_path / "o", Options(), {})
    run.annotate([str(folder)], annotator, "omop-parquet", tmp_path / "p", Options(), {})
    written = (fhir[0] / "annotations.fhir.ndjson").read_text() + "".join(path.read_text() for path in (tmp_path / "o/omop").iterdir())
    written += "".join(str(pq.read_table(path).to_pylist()) for path in (tmp_path / "p/omop").iterdir())
    assert "ecretword" not in written and "Mother" not in written and "\U0001f600" not in written
    assert "GOUT" in written


def test_fhir_codings(fhir, tmp_path):
    gout, huntington = (entry["resource"]["code"]["coding"] for entry in fhir[1]["a/n1.txt"]["entry"][:2])
    assert [(c["system"], c["code"]) for c in gout[1:]] == [
        ("http://snomed.info/sct", "90560007"), ("http://snomed.info/sct", "190828008"), ("http://www.nlm.nih.gov/research/umls/msh", "D006073"),
        ("http://human-phenotype-ontology.org", "HP:0001997"),
    ]  # fmt: skip
    assert gout[0]["system"] == "http://www.nlm.nih.gov/research/umls" and gout[0]["code"] in (GOUT, "C9999999") and gout[0]["display"] == "Gout"
    provenance = [extension(c["extension"], "urn:mentionforge:fhir:map") for c in gout[1:]]
    assert [(p["via"], p["preferred"]) for p in provenance] == [("doid", True), ("doid", False), ("mondo", True), ("sssom", True)]
    assert ("http://www.orpha.net", "399") in [(c["system"], c["code"]) for c in huntington]
    native = {"cui": "HP:0001250", "name": "Seizure", "semantic_types": [], "score": 1.0}
    native |= {"codes": [{"vocabulary": "HPO", "code": "0001250", "preferred": True, "via": "concept id"}]}
    resource, _ = one_resource(tmp_path, concepts=[native])
    assert resource["code"]["coding"] == [{"system": "http://human-phenotype-ontology.org", "code": "HP:0001250", "display": "Seizure"}]
    resource, _ = one_resource(tmp_path, concepts=[native | {"cui": "my  id", "name": ""}])
    assert resource["code"]["coding"][0] == {"system": "urn:mentionforge:fhir:concept-id", "code": "my id"} and own_code("my  id") is None
    assert one_resource(tmp_path, nil=True)[0]["code"] == {"text": "HD"}
    assert one_resource(tmp_path, nil=True, concepts=[])[0]["code"] == {"text": "HD"}


@pytest.mark.parametrize(
    ("context", "kind", "status"),
    [
        ([], "Condition", None), (["negated"], "Condition", "refuted"), (["hypothetical"], "Condition", "unconfirmed"),
        (["negated", "hypothetical"], "Condition", "unconfirmed"), (["family"], "FamilyMemberHistory", None), (["negated", "family"], None, None),
        (["family", "hypothetical"], None, None),
    ],
)  # fmt: skip
def test_fhir_contexts(context, kind, status, tmp_path):
    resource, losses = one_resource(tmp_path, context=context)
    assert (resource and resource["resourceType"]) == kind and sum(losses.values()) == (kind is None)
    if resource:
        [told] = [c["code"] for c in resource["verificationStatus"]["coding"]] if "verificationStatus" in resource else [None]
        assert told == status
        place = resource["evidence"][0]["extension"] if kind == "Condition" else resource["condition"][0]["extension"]
        assert [part["valueCode"] for part in place[0]["extension"] if part["url"] == "context"] == context


def test_fhir_replaces_what_its_strings_do_not_allow(tmp_path):
    odd = "".join(chr(c) for c in range(0x3100) if not 0xD800 <= c < 0xE000) + "\ufeff"
    resource, losses = one_resource(tmp_path, surface=odd)
    text = resource["code"]["text"]
    # White space of ECMA-262, by which the schema's pattern "[ \\r\\n\\t\\S]+" is read, and control characters.
    ecma = {*"\t\v\f\n\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff", *map(chr, range(0x2000, 0x200B))}
    assert len(text) == len(odd)
    for before, after in zip(odd, text, strict=True):
        if before in " \t\r\n":
            assert after == before
        elif before in ecma or ord(before) < 32:
            assert after == " "
        else:
            assert after == before or before in "\x7f\x85"
    assert losses == {"characters that a FHIR string does not allow: replaced": sum(a != b for a, b in zip(odd, text, strict=True))}


# ---------------------------------------------------------------------------------------------------------------------- OMOP

DDL = """
CREATE TABLE note_nlp (
    note_nlp_id integer NOT NULL PRIMARY KEY, note_id integer NOT NULL, section_concept_id integer, snippet varchar CHECK (length(snippet) <= 250),
    "offset" varchar CHECK (length("offset") <= 50), lexical_variant varchar NOT NULL CHECK (length(lexical_variant) <= 250),
    note_nlp_concept_id integer, note_nlp_source_concept_id integer, nlp_system varchar CHECK (length(nlp_system) <= 250), nlp_date date NOT NULL,
    nlp_datetime timestamp, term_exists varchar CHECK (length(term_exists) <= 1), term_temporal varchar CHECK (length(term_temporal) <= 50),
    term_modifiers varchar CHECK (length(term_modifiers) <= 2000)
)
"""
"""NOTE_NLP of OMOP CDM 5.4, with the lengths that DuckDB would not check."""


@pytest.fixture(scope="module")
def omop(annotator, folder, tmp_path_factory):
    """A database with the tables of the CSV files, and the folder of the output."""
    out = tmp_path_factory.mktemp("omop")
    (out / "rows.csv").write_text('note_id,text\n17,"Gout, no cancer"\n007,gout\n' + "18,Nothing\n")
    run.annotate([str(folder), str(out / "rows.csv")], annotator, "omop", out / "csv", Options(text_column="text", id_column="note_id"), {})
    run.annotate([str(folder), str(out / "rows.csv")], annotator, "omop-parquet", out / "parquet", Options(text_column="text", id_column="note_id"), {})
    db = duckdb.connect()
    db.execute(DDL)
    db.execute(f"INSERT INTO note_nlp SELECT * FROM read_csv('{out}/csv/omop/note_nlp.csv', all_varchar = true)")
    for table in ("note_nlp_codes", "notes"):
        db.execute(f"CREATE TABLE {table} AS SELECT * FROM read_csv('{out}/csv/omop/{table}.csv', all_varchar = true)")
    return db, out


def test_omop_rows_fit_the_table_and_the_text(omop):
    db, out = omop
    header = (out / "csv/omop/note_nlp.csv").read_text().splitlines()[0].split(",")
    assert header == [row[0] for row in db.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 'note_nlp' ORDER BY column_index").fetchall()]
    texts = {**NOTES, "17": "Gout, no cancer", "007": "gout", "18": "Nothing"}
    names = dict(db.execute("SELECT note_id::integer, doc_id FROM notes").fetchall())
    assert set(names.values()) == set(texts) and {i for i in names if i > 0} == {17, 18} and {i for i in names if i < 0} == {-1, -2, -3, -4}
    found = db.execute('SELECT note_id, "offset"::integer, lexical_variant, term_exists, term_modifiers FROM note_nlp ORDER BY note_nlp_id').fetchall()
    for note, start, term, exists, modifiers in found:
        assert texts[names[note]][start : start + len(term)] == term
        assert (exists == "Y") == (modifiers == "Negation=false,Subject=patient,Conditional=false")
    told = {(names[note], term): modifiers for note, _, term, exists, modifiers in found if exists == "N"}
    assert told == {
        ("a/n1.txt", "diabetes mellitus"): "Negation=true,Subject=patient,Conditional=false",
        ("a/n1.txt", "breast cancer"): "Negation=false,Subject=family,Conditional=false",
        ("a/n1.txt", "Parkinson disease"): "Negation=false,Subject=patient,Conditional=true",
        ("caf\u00e9 3.txt", "gout"): "Negation=true,Subject=family,Conditional=false",
        ("17", "cancer"): "Negation=true,Subject=patient,Conditional=false",
    }
    assert db.execute("SELECT count(*), count(snippet), count(DISTINCT nlp_system), max(note_nlp_concept_id) FROM note_nlp").fetchone() == (len(found), 0, 1, 0)


def test_parquet_holds_what_csv_holds(omop):
    _, out = omop
    for table in ("note_nlp", "note_nlp_codes", "notes"):
        with open(out / f"csv/omop/{table}.csv", newline="", encoding="utf-8") as handle:
            plain = list(csv.DictReader(handle))
        typed = pq.read_table(out / f"parquet/omop/{table}.parquet").to_pylist()
        assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in typed] == plain and plain


def test_the_statements_of_the_documentation_fill_the_concepts(omop, root):
    db, _ = omop
    db = db.cursor()
    db.execute("BEGIN")
    db.execute("CREATE TABLE concept (concept_id integer, vocabulary_id varchar, concept_code varchar)")
    db.execute("CREATE TABLE concept_relationship (concept_id_1 integer, concept_id_2 integer, relationship_id varchar, invalid_reason varchar)")
    db.execute("INSERT INTO concept VALUES (440674, 'SNOMED', '90560007'), (1, 'SNOMED', '190828008'), (374341, 'SNOMED', '58756001'), (2, 'MeSH', 'D006073')")
    db.execute("INSERT INTO concept_relationship VALUES (440674, 440674, 'Maps to', NULL), (374341, 3, 'Is a', NULL), (374341, 4, 'Maps to', 'D')")
    [statements] = re.findall(r"## OMOP\n.*?```sql\n(.*?)```", (root / "docs/annotate.md").read_text(), flags=re.DOTALL)
    for statement in statements.split(";\n"):
        db.execute(statement)
    found = set(db.execute("SELECT lower(lexical_variant), note_nlp_source_concept_id, note_nlp_concept_id FROM note_nlp").fetchall())
    db.execute("ROLLBACK")
    assert {("gout", 440674, 440674), ("huntington disease", 374341, 0), ("breast cancer", 0, 0)} <= found
    assert {term: source for term, source, _ in found}["hd"] == 374341


def test_omop_codes(omop):
    db, _ = omop
    query = """SELECT k.vocabulary_id, k.concept_code, k.vocabulary, k.preferred, k.via FROM note_nlp_codes k JOIN note_nlp n
               ON n.note_nlp_id = k.note_nlp_id::integer WHERE n.lexical_variant = 'Huntington disease'"""
    assert db.execute(query).fetchall() == [
        (None, HD, "UMLS", "Y", "concept id"), ("SNOMED", "58756001", "SNOMEDCT_US", "Y", "doid"), (None, "399", "ORPHANET", "Y", "mondo"),
    ]  # fmt: skip


def test_long_mentions_are_cut_and_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    losses = BY_NAME["omop"].write([record(surface="x" * 251), record(surface="y" * 250, nil=True)], tmp_path / "o")
    assert losses["mentions of more than 250 characters: cut in lexical_variant"] == 1
    with open(tmp_path / "o/note_nlp.csv", newline="") as handle:
        found = list(csv.DictReader(handle))
    assert [row["lexical_variant"] for row in found] == ["x" * 250, "y" * 250] and {row["nlp_date"] for row in found} == {str(date(1970, 1, 2))}
    assert len((tmp_path / "o/note_nlp_codes.csv").read_text().splitlines()) == 2


# ------------------------------------------------------------------------------------------------------------------- command


@pytest.mark.parametrize("form", ["fhir", "omop"])
def test_contexts_are_read_without_being_asked_for(form, annotator, tmp_path):
    from typer.testing import CliRunner

    from mentionforge.annotate.commands import app

    bundle.write(annotator.materials, tmp_path / "b")
    (tmp_path / "n.txt").write_text("No gout.")
    arguments = [str(tmp_path / "n.txt"), "--bundle", str(tmp_path / "b"), "--to", form, "--out", str(tmp_path / "o")]
    assert CliRunner().invoke(app, ["annotate", *arguments]).exit_code == 0
    written = "".join(path.read_text() for path in (tmp_path / "o").rglob("*") if path.is_file())
    assert ('"refuted"' in written) if form == "fhir" else ("Negation=true" in written)
