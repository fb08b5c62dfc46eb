"""The source `rf2`: a made-up snapshot with every quirk, against tables computed here from its lines, and every refusal with its line."""

import json
import re
import shutil
import zipfile
from collections import defaultdict

import pytest

import snomed
from mentionforge import tables
from mentionforge.corpora.concept_ids import parse_id
from mentionforge.corpora.concepts import ConceptMap
from mentionforge.errors import UserError
from mentionforge.kb import parents
from mentionforge.kb.extract import TABLES, extract
from mentionforge.kb.sources.rf2 import Rf2Kb

ROOT, FINDING, DISEASE, PROCEDURE = map(str, (snomed.ROOT, snomed.FINDING, snomed.DISEASE, snomed.PROCEDURE))
REFSETS = [str(snomed.US), str(snomed.GB)]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return snomed.write_snapshot(tmp_path_factory.mktemp("release"), 600)


@pytest.fixture
def copy(release, tmp_path):
    return shutil.copytree(release, tmp_path / "copy")


def lines_of(release, name, *key):
    """Latest version of each component in the snapshot files of a kind, as dicts; split at tabs."""
    latest = {}
    for path in sorted(release.rglob("*.txt")):
        if re.match(rf"(sct2_|der2_cRefset_){name}_?Snapshot", path.name):
            head, *rows = path.read_text(encoding="utf-8").split("\n")
            columns = head.rstrip("\r").split("\t")
            for row in filter(None, rows):
                component = dict(zip(columns, row.rstrip("\r").split("\t"), strict=True))
                place = tuple(component[k] for k in key)
                if place not in latest or component["effectiveTime"] >= latest[place]["effectiveTime"]:
                    latest[place] = component
    return list(latest.values())


def expected(release, root=FINDING, tags=(), refsets=REFSETS):
    """Concepts, names, definitions, codes and parents as the specification has them, by plain loops."""
    active = {c["id"] for c in lines_of(release, "Concept", "id") if c["active"] == "1"}
    above = defaultdict(set)
    for r in lines_of(release, "Relationship", "id"):
        if r["active"] == "1" and r["typeId"] == str(snomed.IS_A) and r["characteristicTypeId"] != str(snomed.STATED):
            above[r["sourceId"]].add(r["destinationId"])
    selected = {root}
    while grown := {c for c in active - selected if above[c] & selected}:
        selected |= grown
    place = {}
    for m in lines_of(release, "Language", "refsetId", "referencedComponentId"):
        if m["active"] == "1" and m["refsetId"] in refsets:
            at = (m["acceptabilityId"] != str(snomed.PREFERRED), refsets.index(m["refsetId"]))
            place[m["referencedComponentId"]] = min(at, place.get(m["referencedComponentId"], at))
    described = defaultdict(list)
    for d in lines_of(release, "Description", "id"):
        if d["active"] == "1" and d["conceptId"] in selected:
            described[d["conceptId"]].append((d["typeId"] == str(snomed.FSN), place.get(d["id"]), " ".join(d["term"].split())))
    tag = {c: next(re.search(r"\(([^()]+)\)$", t)[1] for fsn, _, t in found if fsn) for c, found in described.items()}
    names, preferred = set(), {}
    for concept, found in described.items():
        if tags and tag[concept] not in tags:
            continue
        usable = sorted((fsn, at, re.sub(r" \([^()]+\)$", "", t) if fsn else t) for fsn, at, t in found if at is not None)
        if not usable:
            continue
        preferred[concept] = usable[0][2]
        names |= {(concept, t, "FN" if fsn else "SY" if at[0] else "PT") for fsn, at, t in usable}
    definitions = {}
    for d in lines_of(release, "TextDefinition", "id"):
        if d["active"] == "1" and d["id"] in place:
            definitions[d["conceptId"]] = d["term"]
    codes = {(c, c, "id") for c in preferred}
    via = {str(snomed.SAME_AS): "same-as", str(snomed.REPLACED_BY): "replaced-by"}
    for a in lines_of(release, "Association", "id"):
        if a["active"] == "1" and a["refsetId"] in via and a["targetComponentId"] in preferred:
            codes.add((a["referencedComponentId"], a["targetComponentId"], via[a["refsetId"]]))
    return preferred, names, {c: t for c, t in definitions.items() if c in preferred}, codes, above, tag


def run(folder, path, **more):
    folder.mkdir(exist_ok=True)
    entry = Rf2Kb(**{"source": "rf2", "path": str(path), **more})
    (folder / "spec.json").write_text(json.dumps({"kind": "kbs", "name": "s", "settings": entry.model_dump(mode="json")}))
    stats = extract(folder / "spec.json", folder)
    parents.extract(folder / "spec.json", folder, "required", folder / "parents.parquet")
    return stats


def rows(folder, table, *columns):
    return [tuple(row[c] for c in columns) for row in tables.read(table, folder / f"{table.name}.parquet").to_pylist()]


def number(concept):
    return concept.removeprefix("SNOMEDCT:")


def check(folder, preferred, names, definitions, codes, above, tag):
    types = {"disorder": "T047", "finding": "T033", "procedure": "T061"}
    found = {number(c): (name, text, kinds) for c, name, text, kinds in rows(folder, tables.CONCEPTS, "cui", "preferred_name", "definition", "semantic_types")}
    assert found == {c: (name, definitions.get(c), [types.get(tag[c], "T071")]) for c, name in preferred.items()}
    found_names = rows(folder, tables.NAMES, "cui", "name", "source", "term_type", "preferred")
    assert {(number(c), name, kind) for c, name, _, kind, _ in found_names} == names
    assert len(found_names) == len(names) and {source for _, _, source, _, _ in found_names} == {"SNOMEDCT_US"}
    assert all(is_preferred == (name == preferred[number(c)]) for c, name, _, _, is_preferred in found_names)
    assert {number(c): text for c, rank, text in rows(folder, tables.DEFINITIONS, "cui", "rank", "definition") if rank == 1} == definitions
    assert {(code, number(c), via) for code, c, via in rows(folder, tables.XREFS, "code", "cui", "via")} == codes

    def nearest(concept, seen=()):
        for parent in above[concept]:
            if parent in preferred:
                yield parent
            elif parent not in seen:
                yield from nearest(parent, (*seen, parent))

    found_parents = {(number(c), number(p)) for c, p in rows(folder, tables.PARENTS, "cui", "parent")}
    assert found_parents == {(c, p) for c in preferred for p in nearest(c) if p != c}


def test_tables_are_those_of_the_lines(release, tmp_path):
    stats = run(tmp_path, release)
    of_lines = expected(release)
    assert 300 < len(of_lines[0]) < 600 and len(of_lines[2]) > 5
    assert {via for _, _, via in of_lines[3]} == {"id", "same-as", "replaced-by"}
    check(tmp_path, *of_lines)
    assert stats["funnel"]["concepts"] == {"active": 600, "at or below the roots": len(of_lines[0]), "kept": len(of_lines[0])}
    assert set(stats["inputs"]) >= {"Concept_0", "Concept_1", "Description_0", "Language_1", "Relationship_0"}


def test_the_extension_adds_and_switches_off(release, tmp_path):
    run(tmp_path, release)
    names = {(number(c), name) for c, name in rows(tmp_path, tables.NAMES, "cui", "name")}
    assert (str(snomed.sctid(1, 0, "1000124")), "Local disorder") in names
    concepts = {c["id"]: c["active"] for c in lines_of(release, "Concept", "id")}
    retired = next(c["id"] for c in lines_of(release, "Concept", "id") if c["effectiveTime"] == str(snomed.LATER) and c["active"] == "0")
    assert concepts[retired] == "0" and retired not in {c for c, _ in names}


@pytest.mark.parametrize(("root", "tags"), [(PROCEDURE, ()), (ROOT, ("disorder", "procedure")), (DISEASE, ("disorder",))])
def test_other_roots_and_tags(release, tmp_path, root, tags):
    run(tmp_path, release, roots=(root,), semantic_tags=tags)
    check(tmp_path, *expected(release, root, tags))


def test_one_reference_set(release, tmp_path):
    run(tmp_path, release, language_refsets=(str(snomed.GB),))
    check(tmp_path, *expected(release, refsets=[str(snomed.GB)]))


def test_without_reference_sets_every_active_description_is_a_name(release, tmp_path):
    run(tmp_path, release, language_refsets=(), roots=())
    active = {c["id"] for c in lines_of(release, "Concept", "id") if c["active"] == "1"}
    terms = {(d["conceptId"], " ".join(d["term"].split())) for d in lines_of(release, "Description", "id") if d["active"] == "1" and d["conceptId"] in active}
    terms = {(c, re.sub(r" \([^()]+\)$", "", t)) for c, t in terms}
    assert {(number(c), name) for c, name in rows(tmp_path, tables.NAMES, "cui", "name")} == terms


@pytest.mark.parametrize(("fsn", "has"), [("as_published", True), ("none", False)])
def test_fully_specified_names(release, tmp_path, fsn, has):
    run(tmp_path, release, fsn=fsn)
    names = rows(tmp_path, tables.NAMES, "name", "term_type")
    assert any(name.endswith("(disorder)") for name, _ in names) == has
    assert any(kind == "FN" for _, kind in names) == has


def test_a_zip_and_separate_extensions_are_the_same(release, tmp_path):
    run(tmp_path / "folder", release)
    edition, extension = sorted(release.iterdir())
    run(tmp_path / "zip", snomed.zip_snapshot(release, tmp_path / "release.zip"))
    run(tmp_path / "two", snomed.zip_snapshot(edition, tmp_path / "edition.zip"), extensions=(str(extension),))
    for table in (*TABLES, tables.PARENTS):
        first = tables.read(table, tmp_path / "folder" / f"{table.name}.parquet")
        for other in ("zip", "two"):
            assert tables.read(table, tmp_path / other / f"{table.name}.parquet").equals(first), (table.name, other)


def test_corpora_map_to_it(release, tmp_path):
    run(tmp_path, release)
    concepts = ConceptMap.load(tmp_path)
    for written in (f"SNOMEDCT:{DISEASE}", f"SCTID:{DISEASE}", f"SNOMEDCT_US:{DISEASE}", f"SNOMED CT:{DISEASE}"):
        assert concepts(parse_id(written, "MSH")).cuis == (f"SNOMEDCT:{DISEASE}",)
    assert concepts(parse_id(DISEASE, "SNOMEDCT_US")).cuis == (f"SNOMEDCT:{DISEASE}",)
    old = next((code, c) for code, c, via in rows(tmp_path, tables.XREFS, "code", "cui", "via") if via == "same-as")
    assert concepts(f"SNOMEDCT:{old[0]}").cuis == (old[1],)


def only(copy, pattern):
    return next(path for path in sorted(copy.rglob("*.txt")) if re.search(pattern, path.name))


def replace(pattern, old, new, line=5):
    def change(copy):
        path = only(copy, pattern)
        lines = path.read_bytes().split(b"\n")
        lines[line - 1] = re.sub(old, new, lines[line - 1])
        path.write_bytes(b"\n".join(lines))

    return change


@pytest.mark.parametrize(
    ("change", "more", "error"),
    [
        (replace("sct2_Desc", rb"\t[^\t]*\r$", b"\r"), {}, r"truncated row in .*sct2_Description_Snapshot-en_INT_20240101\.txt:5: 8 columns, not 9"),
        (replace("sct2_Desc", rb"\r$", b"\tx\r"), {}, r"overlong row in .*sct2_Description\S*:5: 10 columns, not 9"),
        (replace("sct2_Desc", rb"[a-z]\t9", b"\xe9\t9"), {}, r"not UTF-8 in .*sct2_Description\S*:5: byte \d+ of the row"),
        (replace("sct2_Relationship_S", rb"^\d+", b"x1"), {}, r"bad value in .*sct2_Relationship_Snapshot\S*:5: id is no number"),
        (replace("sct2_Concept_S", rb"^\d+", b"9" * 25), {}, r"bad value in .*sct2_Concept_Snapshot\S*:5: id is no number of at most 18 digits"),
        (replace("sct2_Concept_S", rb"^(\d+\t\d+)\t[01]\t", rb"\1\t7\t"), {}, r"bad value in .*sct2_Concept_Snapshot\S*:5: active is neither 0 nor 1"),
        (replace("cRefset_Lang", rb"\t(\d+)\r$", b"\t\r"), {}, r"bad value in .*LanguageSnapshot\S*:5: acceptabilityId is no number"),
        (replace("sct2_Concept_S", rb"active", b"aktiv", 1), {}, r"other columns in .*sct2_Concept\S*:1: its columns are id, effectiveTime, aktiv"),
        (lambda c: [p.unlink() for p in c.rglob("sct2_Relationship_S*")], {}, r"no SNOMED CT snapshot in .*no sct2_Relationship_Snapshot"),
        (lambda c: [p.unlink() for p in c.rglob("*Language*.txt")], {}, r"missing file in .*der2_cRefset_LanguageSnapshot"),
        (lambda c: None, {"language_refsets": ("900000000000999999",)}, r"unknown reference set in .*900000000000999999 has no members"),
        (lambda c: None, {"roots": ("999999999",)}, r"unknown root in .*999999999 is no active concept"),
        (lambda c: None, {"extensions": ("nowhere",)}, r"missing file in nowhere"),
        (
            lambda c: shutil.copy(only(c, "sct2_Concept_S"), c / "sct2_Concept_Snapshot_INT_20240201.txt"),
            {},
            r"mixed releases in .*sct2_Concept_Snapshot_INT_20240201\.txt",
        ),
    ],
)
def test_refusals_name_file_and_line(copy, tmp_path, change, more, error):
    change(copy)
    with pytest.raises(UserError, match=error) as caught:
        run(tmp_path / "kb", copy, **more)
    assert "\n" not in str(caught.value)
    texts = {d["term"] for d in lines_of(copy, "TextDefinition", "id")}
    assert not any(text in str(caught.value) for text in texts)


def test_archives_that_are_none(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"unreadable archive in .*a\.zip"):
        Rf2Kb(source="rf2", path=str(tmp_path / "a.zip")).read()
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/sct2_Concept_Snapshot_INT_20240101.txt", b"0" * (1 << 27))
    with pytest.raises(UserError, match=r"zip bomb in .*b\.zip!x/sct2_Concept"):
        Rf2Kb(source="rf2", path=str(tmp_path / "b.zip")).read()


def test_names_of_files_of_extensions_and_countries(release, tmp_path):
    """Beta releases, the United Kingdom's and the Spanish edition name their files so."""
    edition = sorted(release.iterdir())[0]
    shutil.copytree(edition, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.txt"):
        new = re.sub(r"(Description|Concept|Language)_?Snapshot", lambda m: m[0].replace("Snapshot", "UKCLSnapshot"), path.name)
        path.rename(path.with_name("x" + new.replace("INT", "GB1000000") if "TextDef" not in new else new.replace("-en_INT", "-es_INT")))
    run(tmp_path / "a", edition)
    run(tmp_path / "b", tmp_path / "copy")
    for table in (*TABLES, tables.PARENTS):
        assert tables.read(table, tmp_path / "a" / f"{table.name}.parquet").equals(tables.read(table, tmp_path / "b" / f"{table.name}.parquet"))


def test_it_is_licensed_text_wherever_it_lies():
    entry = Rf2Kb(source="rf2", path="resources/downloads/release.zip")
    assert entry.licensed_text and entry.licence("mine") == "snomedct"
