"""The RRF reader against a plain reading of the same files, and against broken ones."""

import gzip
import hashlib
import json
import os
import random
import re
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.umls import write_release
from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.extract import TABLES, extract
from mentionforge.kb.sources.rrf import RrfKb, SemanticGroup
from mentionforge.kb.sources.rrf import read as rrf
from mentionforge.kb.sources.rrf.files import FORMATS
from mentionforge.kb.sources.rrf.release import CHUNK, open_release
from mentionforge.kb.sources.rrf.sieve import ByCui, RotatingFile, _line_ends, sieve
from mentionforge.provenance import sha256_paths
from mentionforge.semantics import GROUPS, NAMES

DISORDERS = {"T019", "T020", "T033", "T037", "T046", "T047", "T048", "T049", "T050", "T184", "T190", "T191"}


def read_plainly(
    folder,
    languages=("ENG",),
    suppress=("O", "E", "Y"),
    include_sources=(),
    exclude_sources=(),
    definition_sources=(),
    require_definition=False,
    max_names_per_concept=None,
):
    """What the release says, read row by row with str.split: the five tables as dicts and sets of tuples."""

    def rows(name):
        path = folder / f"{name}.RRF"
        if not path.exists():
            return []
        return [line.split("|")[:-1] for line in path.read_bytes().decode("utf-8").split("\n")[:-1]]

    types = defaultdict(set)
    for cui, tui, *_ in rows("MRSTY"):
        if tui in DISORDERS:
            types[cui].add(tui)
    rank = {}
    for value, sab, tty, _ in rows("MRRANK"):
        rank[sab, tty] = max(int(value), rank.get((sab, tty), -1))
    atoms, candidates, language_of, codes = set(), defaultdict(list), {}, set()
    for row in rows("MRCONSO"):
        cui, lat, ts, stt, ispref, aui, sab, tty, code, text, flag = (row[i] for i in (0, 1, 2, 4, 6, 7, 11, 12, 13, 14, 16))
        if cui not in types:
            continue
        language_of[cui, aui] = lat
        if lat == "ENG" and flag not in suppress and code not in ("", "NOCODE"):
            codes.add((sab, code.split(":", 1)[-1], cui))
        if lat not in languages or flag in suppress or sab in exclude_sources or (include_sources and sab not in include_sources) or not text:
            continue
        atoms.add((cui, text, sab, tty))
        candidates[cui].append((languages.index(lat), -rank.get((sab, tty), -1), ts != "P", stt != "PF", ispref != "Y", text))
    preferred = {cui: min(found)[-1] for cui, found in candidates.items()}
    told = defaultdict(dict)
    source_rank = defaultdict(lambda: -1)
    for (sab, _), value in rank.items():
        source_rank[sab] = max(source_rank[sab], value)
    for cui, aui, atui, _, sab, text, flag, _ in rows("MRDEF"):
        if cui in preferred and text and flag not in suppress and language_of.get((cui, aui), languages[0]) in languages:
            first = definition_sources.index(sab) if sab in definition_sources else len(definition_sources)
            order = (first, -source_rank[sab], sab, atui, text)
            told[cui][sab, text] = min(order, told[cui].get((sab, text), order))
    definitions = {(c, i, o[2], o[4]) for c, found in told.items() for i, o in enumerate(sorted(found.values()), start=1)}
    if require_definition:
        preferred = {cui: name for cui, name in preferred.items() if told[cui]}
    kept = {}
    for cui in preferred:
        distinct = list(dict.fromkeys(order[-1] for order in sorted(candidates[cui])))
        kept[cui] = distinct[:max_names_per_concept]
    concepts = {cui: (name, next((d[3] for d in definitions if d[:2] == (cui, 1)), None), sorted(types[cui])) for cui, name in preferred.items()}
    xrefs = {
        (sab, code, cui, "MRCONSO")
        for sab, code, cui in codes
        if cui in preferred and sab in ("MSH", "OMIM", "SNOMEDCT_US", "ICD10CM", "ORPHANET", "HPO", "MONDO")
    }
    moved, deleted, retired = defaultdict(set), set(), set()
    for old, _, rel, _, _, new, _ in rows("MRCUI"):
        if old in preferred:
            continue
        if new in preferred:
            moved[old].add((old, rel, new))
        elif rel == "DEL" and not new:
            deleted.add(old)
    for targets in moved.values():
        retired |= {t for t in targets if t[1] == "SY"} or targets
    retired |= {(old, "DEL", "") for old in deleted if old not in moved}
    names = {(c, n, s, t, n == preferred[c]) for c, n, s, t in atoms if c in preferred and n in kept[c]}
    return concepts, names, xrefs, definitions, retired


def as_python(found):
    """The reader's tables in the same form, checked against their declarations."""
    concepts = {r["cui"]: (r["preferred_name"], r["definition"], r["semantic_types"]) for r in tables.build(tables.CONCEPTS, found.concepts).to_pylist()}
    names, xrefs, definitions, retired = (
        {tuple(r.values()) for r in tables.build(table, getattr(found, table.name)).to_pylist()}
        for table in (tables.NAMES, tables.XREFS, tables.DEFINITIONS, tables.RETIRED)
    )
    return concepts, names, xrefs, definitions, retired


def read(folder, **more):
    """The reader on a folder or zip whose files need not be a whole release."""
    return rrf.read(RrfKb(source="rrf", path=str(folder), **{"inconsistent": "warn", **more}))


def release(folder, **files):
    """Write a release: rows as lists of fields."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.RRF").write_bytes("".join("|".join(row) + "|\n" for row in rows).encode())
    return folder


def atom(cui, text, sab="MSH", tty="MH", code="D1", lat="ENG", suppress="N", ts="P", stt="PF", ispref="Y", aui="A1"):
    return [cui, lat, ts, "L1", stt, "S1", ispref, aui, "", "", "", sab, tty, code, text, "0", suppress, ""]


def sty(cui, tui):
    return [cui, tui, "", "", "", ""]


def spec(tmp_path, folder, **more):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"kind": "kbs", "name": "x", "settings": {"source": "rrf", "path": str(folder), **more}}))
    return path


@pytest.fixture
def small(tmp_path):
    return release(
        tmp_path / "META",
        MRCONSO=[
            atom("C0000001", 'Say "ah" syndrome'),
            atom("C0000001", "SAS", tty="ET"),
            atom("C0000002", "Gout", code="D2"),
            atom("C0000003", "Aspirin", code="D3"),
        ],
        MRSTY=[sty("C0000001", "T047"), sty("C0000002", "T047"), sty("C0000003", "T121")],
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"languages": ("ENG", "SPA")},
        {"exclude_sources": ("MSH",)},
        {"include_sources": ("MSH", "OMIM")},
        {"suppress": ("O",)},
        {"require_definition": True},
        {"max_names_per_concept": 2},
        {"definition_sources": ("NCI", "MSH")},
    ],
    ids=["default", "two languages", "exclude", "include", "suppress", "require definition", "two names", "definition sources"],
)
def test_demo_equals_plain_reading(root, more):
    folder = root / "resources" / "demo" / "umls" / "META"
    expected = read_plainly(folder, **more)
    assert as_python(rrf.read(RrfKb(source="rrf", path=str(folder), **more))) == expected
    assert len(expected[0]) > 100


def test_demo_drops_sum_to_rows(root):
    funnel = rrf.read(RrfKb(source="rrf", path=str(root / "resources" / "demo" / "umls" / "META"))).funnel
    for name in ("MRCONSO", "MRDEF", "MRCUI"):
        assert sum(funnel["drops"][name].values()) == funnel["rows"][name], name
    assert funnel["rows"] == funnel["rows_declared"]
    for reason in ("language", "suppressed", "other semantic type"):
        assert funnel["drops"]["MRCONSO"][reason] > 0


def test_foreign_mesh_is_not_mesh(tmp_path):
    folder = release(
        tmp_path,
        MRCONSO=[
            atom("C0000001", "Gout", code="D006073"),
            atom("C0000002", "Gota", sab="MSHSPA", lat="SPA", code="D006073"),
            atom("C0000002", "Arthritis"),
            atom("C0000002", "Podagra", code="D006073", lat="LAT"),
        ],
        MRSTY=[sty("C0000001", "T047"), sty("C0000002", "T047")],
    )
    _, names, xrefs, *_ = as_python(read(folder, languages=("ENG", "SPA")))
    assert {x for x in xrefs if x[1] == "D006073"} == {("MSH", "D006073", "C0000001", "MRCONSO")}
    assert "Gota" in {n[1] for n in names}


def test_codes_keep_all_their_concepts_without_prefix(tmp_path):
    folder = release(
        tmp_path,
        MRCONSO=[
            atom("C0000001", "Neoplasm", code="D009369"),
            atom("C0000002", "Cancer", code="D009369", tty="ET"),
            atom("C0000001", "Tumour", sab="HPO", code="HP:0002664"),
            atom("C0000002", "Malignancy", sab="OMIM", code="NOCODE"),
        ],
        MRSTY=[sty("C0000001", "T191"), sty("C0000002", "T191")],
    )
    xrefs = as_python(read(folder))[2]
    assert {x[:3] for x in xrefs} == {("MSH", "D009369", "C0000001"), ("MSH", "D009369", "C0000002"), ("HPO", "0002664", "C0000001")}


def test_preferred_name_by_rank_then_flags_then_name(tmp_path):
    folder = release(
        tmp_path,
        MRRANK=[["0009", "OMIM", "PT", "N"], ["0010", "MSH", "MH", "N"]],  # numbers, not text: 10 is above 9
        MRCONSO=[
            atom("C0000001", "by omim", sab="OMIM", tty="PT"),
            atom("C0000001", "by mesh"),
            atom("C0000002", "a", ts="S"),
            atom("C0000002", "b", stt="VO"),
            atom("C0000002", "c", ispref="N"),
            atom("C0000003", "y", ispref="N"),
            atom("C0000003", "x", ispref="N"),
        ],
        MRSTY=[sty(f"C000000{i}", "T047") for i in (1, 2, 3)],
    )
    concepts = as_python(read(folder))[0]
    assert [concepts[f"C000000{i}"][0] for i in (1, 2, 3)] == ["by mesh", "c", "x"]


def test_definition_by_source_rank_not_suppressed_not_foreign(tmp_path):
    definition = lambda cui, aui, atui, sab, text, flag="N": [cui, aui, atui, "", sab, text, flag, ""]  # noqa: E731
    folder = release(
        tmp_path,
        MRRANK=[["0001", "NCI", "PT", "N"], ["0002", "MSH", "MH", "N"]],
        MRCONSO=[atom("C0000001", "Gout"), atom("C0000001", "Gota", lat="SPA", aui="A2", sab="MSHSPA"), atom("C0000002", "Flu", aui="A3")],
        MRSTY=[sty("C0000001", "T047"), sty("C0000002", "T047")],
        MRDEF=[
            definition("C0000001", "A2", "AT1", "MSHSPA", "Una enfermedad"),
            definition("C0000001", "A1", "AT2", "MSH", "Old text", "O"),
            definition("C0000001", "A1", "AT3", "NCI", "From NCI"),
            definition("C0000001", "A1", "AT5", "MSH", "Later"),
            definition("C0000001", "A1", "AT4", "MSH", 'From "MeSH"'),
            definition("C0000002", "A3", "AT6", "MSH", ""),
            definition("C0000009", "A9", "AT7", "MSH", "Elsewhere"),
        ],
    )
    found = read(folder)
    concepts = as_python(found)[0]
    assert (concepts["C0000001"][1], concepts["C0000002"][1]) == ('From "MeSH"', None)
    assert [r["definition"] for r in found.definitions.to_pylist()] == ['From "MeSH"', "Later", "From NCI"]
    assert as_python(read(folder, definition_sources=("NCI",)))[0]["C0000001"][1] == "From NCI"
    assert found.funnel["drops"]["MRDEF"] == {
        "same text and source": 0,
        "definitions": 3,
        "empty definition": 1,
        "language": 1,
        "other concept": 1,
        "suppressed": 1,
    }


def test_retired_cuis_prefer_synonyms_and_never_shadow_a_current_one(small):
    release(
        small,
        MRCUI=[
            ["C0000011", "2019AA", "SY", "", "", "C0000001", "Y"],
            ["C0000011", "2019AA", "RO", "", "", "C0000002", "Y"],
            ["C0000012", "2019AA", "RB", "", "", "C0000002", "Y"],
            ["C0000013", "2019AA", "DEL", "", "", "", ""],
            ["C0000014", "2019AA", "SY", "", "", "C0000003", "Y"],
            ["C0000002", "2019AA", "SY", "", "", "C0000001", "Y"],
        ],
    )
    found = read(small)
    assert as_python(found)[4] == {("C0000011", "SY", "C0000001"), ("C0000012", "RB", "C0000002"), ("C0000013", "DEL", "")}
    assert found.funnel["drops"]["MRCUI"] == {
        "CUI still current": 1,
        "leads to no selected concept": 1,
        "merged or related": 2,
        "deleted": 1,
        "repeated, or a synonym preferred": 1,
    }


def test_concept_without_a_remaining_name_is_counted(small):
    release(small, MRSTY=[sty("C0000001", "T047"), sty("C0000002", "T047"), sty("C0000008", "T047")])
    found = read(small)
    assert set(as_python(found)[0]) == {"C0000001", "C0000002"}
    assert found.funnel["drops"]["MRSTY"] == {"concepts": 3, "concepts without a name": 1}


words = st.text(st.characters(blacklist_characters="|\r\n\x00", blacklist_categories=("Cs",)), max_size=6) | st.sampled_from(
    ['"', '"a', "'", "é", "naïve \\", "#x", " ", "NULL"]
)
cuis = st.sampled_from([*(f"C000000{i}" for i in range(1, 6)), "X1", "C00000001"])  # the last two are no CUIs as UMLS writes them
sabs = st.sampled_from(["MSH", "MSHSPA", "OMIM", "HPO", "NCI"])
ttys = st.sampled_from(["MH", "PT", "SY"])
flags = st.sampled_from(["N", "N", "O", "E", "Y", ""])
languages = st.sampled_from(["ENG", "ENG", "SPA"])
codes = st.sampled_from(["D1", "D2", "HP:1", "NOCODE", ""])
atoms = st.builds(
    lambda *a: [a[0], a[1], a[2], "", a[3], "", a[4], a[5], "", "", "", a[6], a[7], a[8], a[9], "", a[10], ""],
    cuis,
    languages,
    st.sampled_from("PS"),
    st.sampled_from(["PF", "VO"]),
    st.sampled_from("YN"),
    words,
    sabs,
    ttys,
    codes,
    words,
    flags,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    conso=st.lists(atoms, max_size=14),
    types=st.lists(st.tuples(cuis, st.sampled_from(["T047", "T191", "T121"])), max_size=6),
    defs=st.lists(st.tuples(cuis, words, sabs, flags), max_size=5),
    ranks=st.lists(st.tuples(sabs, ttys), max_size=8),
    moved=st.lists(st.tuples(cuis, st.sampled_from(["SY", "RO", "DEL"]), cuis | st.just("")), max_size=5),
    more=st.fixed_dictionaries(
        {
            "definition_sources": st.sampled_from([(), ("NCI", "OMIM")]),
            "require_definition": st.booleans(),
            "max_names_per_concept": st.sampled_from([None, 1, 2]),
        }
    ),
    packed=st.booleans(),
    part=st.sampled_from([1, 200, RotatingFile.SIZE]),
)
def test_random_releases_equal_plain_reading(tmp_path, conso, types, defs, ranks, moved, more, packed, part):
    unique = {row[7]: row for row in conso}  # an atom has one row
    folder = release(
        tmp_path / "META",
        MRCONSO=list(unique.values()),
        MRSTY=[sty(c, t) for c, t in types] + [sty("C0000009", "T047")],
        MRDEF=[[c, f"A{i}", f"AT{i}", "", sab, text, flag, ""] for i, (c, text, sab, flag) in enumerate(defs)],
        MRRANK=[[f"{i:04}", sab, tty, "N"] for i, (sab, tty) in enumerate(ranks)],
        MRCUI=[[old, "", rel, "", "", new, ""] for old, rel, new in moved],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RotatingFile, "SIZE", part)  # rows of MRCONSO are parsed in many files, or in one
        found = read(pack(folder, tmp_path / "release.zip") if packed else folder, **more)
    assert as_python(found) == read_plainly(folder, **more)
    for name in ("MRCONSO", "MRDEF", "MRCUI"):
        assert sum(found.funnel["drops"][name].values()) == found.funnel["rows"][name]


def pack(folder, target, below="2026AA/META/", **settings):
    """A zip of the release's files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, **settings) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, below + path.name)
    return target


def edit(path, row, change):
    lines = path.read_bytes().split(b"\n")
    lines[row - 1] = change(lines[row - 1])
    path.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (3, lambda line: b"|".join(line.split(b"|")[:12]) + b"|", "truncated row in {}:3: 12 fields, not 18"),
        (4, lambda line: line[:20], "truncated row in {}:4: 5 fields, not 18"),
        (2, lambda line: line[:-1], "truncated row in {}:2: 17 fields, not 18"),
        (2, lambda line: line + b"x", "overlong row in {}:2: 19 fields, not 18"),
        (2, lambda line: line + b"|", "overlong row in {}:2: 19 fields, not 18"),
        (3, lambda line: line + b"\n", "truncated row in {}:4: 0 fields, not 18"),
        (3, lambda line: line.replace(b"Gout", b"Go\xfct"), "not UTF-8 in {}:3"),
        (3, lambda line: line.replace(b"Gout", b"Go\rut"), "broken row in {}:3"),
    ],
)
def test_broken_row_is_named_exactly(small, row, change, message):
    edit(small / "MRCONSO.RRF", row, change)
    with pytest.raises(UserError) as error:
        read(small)
    assert message.format(small / "MRCONSO.RRF") in str(error.value)
    assert "Go" not in str(error.value).replace(str(small), "")  # the text of a licensed row is not shown


@pytest.mark.parametrize("number", ["9" * 10, "9" * 5000, "\u0663", "-1", "1.5", "", "x"])
def test_a_rank_that_is_no_number_is_named(small, number):
    release(small, MRRANK=[["0001", "MSH", "MH", "N"], [number, "MSH", "ET", "N"]])
    with pytest.raises(UserError, match=r"wrong rank in .*MRRANK\.RRF:2: RANK is not a number"):
        read(small)


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "two", "\u0663", "-3"])
def test_a_number_of_rows_that_is_none_is_named(small, number):
    release(small, MRFILES=[["X.RRF", "", "", "1", "x", "1"], ["MRSTY.RRF", "", FORMATS["MRSTY"], "6", number, "1"]])
    with pytest.raises(UserError, match=r"wrong number of rows in .*MRFILES\.RRF:2: RWS"):
        read(small)


@pytest.mark.parametrize(("name", "column"), [("MRDEF", "DEF"), ("MRCONSO", "STR")])
def test_a_row_too_long_is_named(small, name, column):
    """DuckDB takes rows of two million bytes; its own message has no row, and shows the text."""
    long = "z" * 2_100_000
    rows = {"MRDEF": ["C0000002", "A1", "AT1", "", "MSH", long, "N", ""], "MRCONSO": atom("C0000002", long, aui="A7")}
    with open(small / f"{name}.RRF", "a") as handle:
        handle.write("|".join(rows[name]) + "|\n")
    number = len((small / f"{name}.RRF").read_text().splitlines())
    with pytest.raises(UserError, match=rf"row too long in .*{name}\.RRF:{number}: .*{column} alone 2,100,000") as error:
        read(small)
    assert "zzz" not in str(error.value)


@pytest.mark.parametrize("cui", ["C000001", "C00000012", "X0000001", "c0000001", "", "C000000\u0661"])
def test_rows_left_out_for_a_bad_cui_are_counted_by_that_name(small, cui, capsys):
    """In each file: as many as were put in, with the row of the first; no other count has them."""
    plain = read(small).funnel["drops"]
    with open(small / "MRCONSO.RRF", "a") as handle:
        handle.write("".join("|".join(atom(cui, name)) + "|\n" for name in ("Gout", "Podagra")))
    with open(small / "MRSTY.RRF", "a") as handle:
        handle.write("|".join(sty("C0000009", "T121")) + "|\n")
    definitions = [[c, "A1", f"AT{i}", "", "MSH", "x", "N", ""] for i, c in enumerate(["C0000001", "C0000003", cui])]
    moved = [["C0000011", "", "SY", "", "", "C0000001", ""], [cui, "", "SY", "", "", "C0000077", ""], ["C0000012", "", "RO", "", "", "C0000088", ""]]
    release(small, MRDEF=definitions, MRCUI=moved)
    funnel = read(small).funnel
    assert funnel["drops"]["MRCONSO"] == {**plain["MRCONSO"], "bad CUI": 2}
    assert funnel["drops"]["MRDEF"] == {"other concept": 1, "bad CUI": 1, "same text and source": 0, "definitions": 1}
    assert funnel["drops"]["MRCUI"] == {
        "CUI still current": 0,
        "leads to no selected concept": 1,
        "bad CUI": 1,
        "merged or related": 1,
        "deleted": 0,
        "repeated, or a synonym preferred": 0,
    }
    first = {"MRCONSO": 5, "MRDEF": 3, "MRCUI": 2}
    assert funnel["bad_cuis"] == {name: {"rows": 1 + (name == "MRCONSO"), "first": row} for name, row in first.items()}
    said = capsys.readouterr().err
    assert all(f"bad CUI in {small / name}.RRF:{row}:" in said for name, row in first.items())


def test_a_concept_with_a_bad_cui_and_no_name_stops_with_its_row(small, capsys):
    with open(small / "MRSTY.RRF", "a") as handle:
        handle.write("|".join(sty("C000008", "T047")) + "|\n")
    with pytest.raises(UserError, match=r"bad CUI in .*MRSTY\.RRF:4"):
        read(small, inconsistent="error")
    assert read(small).funnel["drops"]["MRSTY"] == {"concepts": 3, "concepts without a name": 1, "bad CUI": 1}


def test_errors_that_cancel_out_are_found(small):
    edit(small / "MRCONSO.RRF", 2, lambda line: line + b"|")
    edit(small / "MRCONSO.RRF", 3, lambda line: line.replace(b"|Gout|", b"Gout|"))
    with pytest.raises(UserError, match=r"overlong row in .*MRCONSO\.RRF:2: 19 fields"):
        read(small)


def test_errors_of_types_that_cancel_out_are_found(small):
    edit(small / "MRSTY.RRF", 1, lambda line: line + b"|")
    edit(small / "MRSTY.RRF", 2, lambda line: line.replace(b"T047|", b"T047"))
    with pytest.raises(UserError, match=r"overlong row in .*MRSTY\.RRF:1: 7 fields"):
        read(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda line: line.replace(b"Otra", b"Otr\xe1"), "not UTF-8"), (lambda line: line.replace(b"|Otra|", b"|"), "truncated row")],
)
@pytest.mark.parametrize("lat", ["ENG", "SPA"])
def test_bad_rows_of_concepts_left_out_stop_as_well(small, change, message, lat):
    path = small / "MRCONSO.RRF"
    before = path.read_bytes()
    row = before.count(b"\n") + 1
    path.write_bytes(before + change("|".join(atom("C0000099", "Otra", lat=lat)).encode() + b"|") + b"\n")
    with pytest.raises(UserError, match=rf"{message} in .*MRCONSO\.RRF:{row}:"):
        read(small)


def test_types_in_any_order_and_repeated(small):
    rows = [sty("C0000002", "T191"), sty("C0000001", "T047"), sty("C0000002", "T047"), sty("C0000002", "T191")]
    release(small, MRSTY=rows)
    assert read(small).concepts.select(["cui", "semantic_types"]).to_pylist() == [
        {"cui": "C0000001", "semantic_types": ["T047"]},
        {"cui": "C0000002", "semantic_types": ["T047", "T191"]},
    ]


def test_last_row_cut_without_newline(small):
    path = small / "MRSTY.RRF"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(UserError, match=r"truncated row in .*MRSTY\.RRF:3: .* not 6"):
        read(small)


def test_row_check_across_read_boundaries(tmp_path):
    row = "|".join(atom("C0000001", "x" * 99)) + "|\n"
    path = tmp_path / "MRCONSO.RRF"
    path.write_text(row * 50_000)  # several chunks
    assert path.stat().st_size > 3 * CHUNK
    member = open_release(tmp_path, ("MRCONSO",), tmp_path).members["MRCONSO"]
    assert sieve(member, 18, ByCui(np.array([1])), tmp_path / "kept") == (50_000, 50_000, True)
    assert (tmp_path / "kept").read_bytes() == path.read_bytes()
    assert sieve(member, 18, ByCui(np.array([2])), tmp_path / "kept") == (50_000, 0, True)


def test_parts_are_whole_rows_handed_on_in_order(tmp_path, monkeypatch):
    lines = [("|".join(atom(f"C000000{i % 3}", "x" * (i % 50))) + "|\n").encode() for i in range(60_000)]
    (tmp_path / "MRCONSO.RRF").write_bytes(b"".join(lines))
    member = open_release(tmp_path, ("MRCONSO",), tmp_path).members["MRCONSO"]
    monkeypatch.setattr(RotatingFile, "SIZE", 100_000)
    parts = []
    found = sieve(member, 18, ByCui(np.array([1])), RotatingFile(tmp_path / "part", lambda path: parts.append(path.read_bytes())))
    assert b"".join(parts) == b"".join(lines[1::3])
    assert len(parts) > 2 and all(part.endswith(b"|\n") for part in parts) and all(len(part) >= 100_000 for part in parts[:-1])
    assert found == (60_000, 20_000, True)


def test_no_vocabularies_give_no_cross_references(small):
    assert read(small, xref_sources=()).xrefs.num_rows == 0


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    starts=st.lists(st.sampled_from(["C0000001", "C0000002", "C0000003", "C000000", "C000000:", "D0000001", "C00000012", "", "C000000é"]), max_size=12),
    after=st.lists(st.sampled_from(["|ENG|x|", "|SPA|x|", "|FRE|x|", "||ENG|", "|EN|x|", "|eng|x|", "|SPAX|", "|", "", "|SPA"]), min_size=12, max_size=12),
)
def test_rows_are_chosen_as_a_plain_reading_chooses_them(tmp_path, starts, after):
    lines = [f"{start}{rest}".encode() for start, rest in zip(starts, after, strict=False)]
    content = b"".join(line + b"\n" for line in lines)
    (tmp_path / "MRCONSO.RRF").write_bytes(content)
    member = open_release(tmp_path, ("MRCONSO",), tmp_path).members["MRCONSO"]
    wanted = ByCui(np.array([1, 2, 10]), ["ENG"], np.array([2]))
    found = sieve(member, 3, wanted, tmp_path / "kept")
    regular = [re.fullmatch(rb"(C[0-9]{7})\|(?:([A-Z]{3})\|)?.*", line) for line in lines]
    chosen = [m is None or m[1] in (b"C0000001", b"C0000002") for m in regular]
    foreign = [m is not None and m[1] == b"C0000001" and m[2] in (b"SPA", b"FRE") for m in regular]
    expected = [line for line, keep, other in zip(lines, chosen, foreign, strict=True) if keep and not other]
    assert (tmp_path / "kept").read_bytes() == b"".join(line + b"\n" for line in expected)
    assert (found.rows, found.kept, wanted.foreign) == (len(lines), len(expected), sum(foreign))
    assert wanted.irregular == sum(m is None for m in regular)
    assert set(np.flatnonzero(wanted.seen)) == {int(m[1][1:]) for m, keep in zip(regular, chosen, strict=True) if m and keep}
    assert found.sound == (content.count(b"|") == 3 * len(lines) and all(line.endswith(b"|") for line in lines))


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.sampled_from([b"\n", b"x", b"\n\n", b"long enough for a word\n", b"12345678", b"\x01"]), max_size=40))
def test_line_ends_are_where_they_are(pieces):
    data = b"".join(pieces)
    found = _line_ends(np.frombuffer(data, np.uint8), np.ones(8 * (len(data) // 8 + 1), bool))
    assert found.tolist() == [i for i, byte in enumerate(data) if byte == 10]


def test_a_concept_with_foreign_rows_only_is_not_lost(small):
    with open(small / "MRCONSO.RRF", "ab") as handle:
        handle.write("|".join(atom("C0000008", "Gota", lat="SPA")).encode() + b"|\n")
    release(small, MRSTY=[sty("C0000001", "T047"), sty("C0000002", "T047"), sty("C0000008", "T047")])
    found = read(small, inconsistent="error")
    assert found.concepts["cui"].to_pylist() == ["C0000001", "C0000002"]
    assert found.funnel["drops"]["MRCONSO"]["language"] == 1
    assert found.funnel["drops"]["MRSTY"] == {"concepts": 3, "concepts without a name": 1}


def test_repeated_rows_are_written_once(small):
    path = small / "MRCONSO.RRF"
    path.write_bytes(path.read_bytes() * 2)
    found = read(small)
    assert found.names["name"].to_pylist() == ["SAS", 'Say "ah" syndrome', "Gout"]
    assert found.xrefs.select(["code", "cui"]).to_pylist() == [{"code": "D1", "cui": "C0000001"}, {"code": "D2", "cui": "C0000002"}]
    assert found.funnel["drops"]["MRCONSO"]["same name, source and term type"] == 3


def test_windows_line_ends_and_missing_last_one_change_nothing(small):
    expected = as_python(read(small))
    path = small / "MRCONSO.RRF"
    content = path.read_bytes()
    for other in (content.replace(b"\n", b"\r\n"), content[:-1]):
        path.write_bytes(other)
        assert as_python(read(small)) == expected


@pytest.mark.parametrize("name", ["MRCONSO", "MRSTY"])
def test_missing_file(small, name):
    (small / f"{name}.RRF").unlink()
    with pytest.raises(UserError, match=rf"missing file in .*META: there is no {name}\.RRF"):
        read(small)


def test_other_columns_than_declared(small):
    release(
        small, MRFILES=[["MRSTY.RRF", "", ",".join(["CUI", "TUI", "STN", "STY", "ATUI", "CVF"]), "6", "3", ""], ["MRCONSO.RRF", "", "CUI,STR", "2", "4", ""]]
    )
    with pytest.raises(UserError, match=r"other columns in .*MRFILES\.RRF:2: MRCONSO\.RRF has CUI,STR"):
        read(small)


def test_mixed_releases_stop_or_are_said(small, capsys):
    release(small, MRFILES=[["MRSTY.RRF", "", FORMATS["MRSTY"], "6", "3", ""], ["MRCONSO.RRF", "", FORMATS["MRCONSO"], "18", "5", ""]])
    with pytest.raises(UserError, match=r"mixed releases, or a file cut short in .*MRFILES\.RRF:2: MRCONSO\.RRF has 4 rows, not 5; .*inconsistent"):
        read(small, inconsistent="error")
    assert read(small).funnel["rows_declared"] == {"MRSTY": 3, "MRCONSO": 5}
    assert "MRCONSO.RRF has 4 rows, not 5" in " ".join(capsys.readouterr().err.split())


def test_concepts_that_one_file_lacks_stop(small):
    release(small, MRSTY=[sty("C0000001", "T047"), sty("C0000002", "T047"), sty("C0000007", "T121"), sty("C0000008", "T047")])
    with pytest.raises(UserError, match=r"mixed releases in .*MRSTY\.RRF:4: MRCONSO\.RRF lacks 1 concepts of MRSTY\.RRF, C0000008 first"):
        read(small, inconsistent="error")


@pytest.mark.parametrize("group", ["anatomy", "disorders", "procedures", None])
def test_semantic_group_by_name(tmp_path, group):
    kinds = {"C0000001": "T047", "C0000002": "T023", "C0000003": "T061"}
    folder = release(tmp_path, MRCONSO=[atom(c, c) for c in kinds], MRSTY=[sty(c, t) for c, t in kinds.items()])
    wanted = {"anatomy": {"C0000002"}, "disorders": {"C0000001"}, "procedures": {"C0000003"}, None: set(kinds)}[group]
    assert set(as_python(read(folder, semantic_group=group))[0]) == wanted


def test_all_fifteen_groups_and_their_types():
    assert len(GROUPS) == 15
    assert sum(map(len, GROUPS.values())) == len(NAMES) == 127
    assert set(GROUPS) == set(get_args(SemanticGroup))
    assert set(GROUPS["disorders"]) == DISORDERS


# ------------------------------------------------------------------------------------------------------ where files lie


@pytest.fixture
def demo(root):
    return root / "resources" / "demo" / "umls" / "META"


def in_pieces(folder, target):
    """The layout of a full release: an archive in the zip that holds the large files in packed pieces."""
    inner = target.with_suffix(".nlm")
    with zipfile.ZipFile(inner, "w") as archive:
        for path in sorted(folder.iterdir()):
            if path.suffix != ".RRF":
                archive.write(path, f"2026AA/META/{path.name}")
                continue
            data = path.read_bytes()
            for i, letter in enumerate("abc"):
                archive.writestr(f"2026AA/META/{path.name}.a{letter}.gz", gzip.compress(data[i * len(data) // 3 : (i + 1) * len(data) // 3]))
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(inner, "2026AA-full/2026aa-1-meta.nlm")
        archive.writestr("2026AA-full/mmsys.zip", b"installer")
    return target


@pytest.mark.parametrize("layout", ["parent", "gz", "zip", "zip without folders", "full release"])
def test_every_layout_gives_the_same_tables(demo, tmp_path, layout):
    expected = rrf.read(RrfKb(source="rrf", path=str(demo)))
    if layout == "parent":
        path = demo.parent
    elif layout == "gz":
        path = tmp_path / "META"
        path.mkdir()
        for file in demo.iterdir():
            (path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        (path / "release.dat").write_bytes((demo / "release.dat").read_bytes()) if (demo / "release.dat").is_file() else None
    elif layout == "full release":
        path = in_pieces(demo, tmp_path / "umls-2026AA-full.zip")
    else:
        path = pack(demo, tmp_path / "r.zip", *([""] if layout == "zip without folders" else []))
    before = set(Path(tempfile.gettempdir()).glob("mentionforge-kb-*"))
    found = rrf.read(RrfKb(source="rrf", path=str(path)))
    assert set(Path(tempfile.gettempdir()).glob("mentionforge-kb-*")) <= before  # nothing of the release stays behind
    assert as_python(found) == as_python(expected)
    assert found.funnel["drops"] == expected.funnel["drops"]
    assert found.funnel["rows"] == expected.funnel["rows"]


def bomb(folder, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "MRSTY.RRF", "META/MRSTY.RRF")
        archive.writestr("META/MRCONSO.RRF", b"\0" * (80 << 20))
    return target


def climbing(folder, target):
    pack(folder, target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("../META/MRDEF.RRF", b"")
    return target


def two(folder, target):
    pack(folder, target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.write(folder / "MRCONSO.RRF", "2025AB/META/MRCONSO.RRF")
    return target


def encrypted(folder, target):
    pack(folder, target)
    data = bytearray(target.read_bytes())
    place = data.index(b"PK\x01\x02")
    while place >= 0:  # the flag of every entry of the directory
        data[place + 8] |= 1
        place = data.find(b"PK\x01\x02", place + 4)
    target.write_bytes(data)
    return target


def cut(folder, target):
    pack(folder, target)
    target.write_bytes(target.read_bytes()[:-40])
    return target


def spoiled(folder, target):
    pack(folder, target)
    data = bytearray(target.read_bytes())
    data[60] ^= 0xFF  # inside the packed data of the first member
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bomb, r"zip bomb in .*r\.zip!META/MRCONSO\.RRF: unpacks to more than 100 times"),
        (climbing, r"unsafe member in .*r\.zip: '\.\./META/MRDEF\.RRF' leads out"),
        (two, r"mixed releases in .*r\.zip: MRCONSO lies in 2025AB/META and in 2026AA/META"),
        (encrypted, r"encrypted member in .*r\.zip: 2026AA/META/MRCONSO\.RRF"),
        (cut, r"unreadable archive in .*r\.zip"),
        (spoiled, r"unreadable file in .*r\.zip!2026AA/META/MRCONSO\.RRF"),
    ],
)
def test_bad_archives(small, tmp_path, make, message):
    path = make(small, tmp_path / "r.zip")
    with pytest.raises(UserError, match=message):
        extract(spec(tmp_path, path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", ["not utf-8", "truncated"])
def test_bad_rows_in_a_zip_are_named_as_well(small, tmp_path, bad):
    edit(small / "MRCONSO.RRF", 3, lambda line: line.replace(b"Gout", b"Go\xfct") if bad == "not utf-8" else line[:-9])
    wanted = {"not utf-8": "not UTF-8", "truncated": "truncated row"}[bad]
    with pytest.raises(UserError, match=rf"{wanted} in .*r\.zip!2026AA/META/MRCONSO\.RRF:3"):
        read(pack(small, tmp_path / "r.zip"))


def test_packed_file_under_a_plain_name(small):
    path = small / "MRCONSO.RRF"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r"packed file in .*MRCONSO\.RRF:1: it holds gzip data, not text; unpack it, or name it MRCONSO\.RRF\.gz"):
        read(small)


def test_neither_folder_nor_zip(tmp_path):
    with pytest.raises(UserError, match="missing file"):
        read(tmp_path / "nowhere.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match=r"unreadable archive in .*text\.zip"):
        read(tmp_path / "text.zip")


def test_made_up_release_at_scale_equals_plain_reading(tmp_path):
    """The generator of the benchmark, small: quotes, accents and bars in many rows."""
    folder = write_release(tmp_path / "META", atoms=30_000)
    assert as_python(read(folder, inconsistent="error")) == read_plainly(folder)
    content = (folder / "MRCONSO.RRF").read_text(encoding="utf-8")
    assert content.count('"') > 100
    assert "é" in content


def test_wrong_rank(small):
    release(small, MRRANK=[["0001", "MSH", "MH", "N"], ["first", "MSH", "ET", "N"]])
    with pytest.raises(UserError, match=r"wrong rank in .*MRRANK\.RRF:2"):
        read(small)


@pytest.mark.parametrize("more", [{"semantic_types": ["T999"]}, {"include_sources": ["NOSUCH"]}])
def test_empty_selection(tmp_path, small, more):
    with pytest.raises(UserError, match="empty selection"):
        extract(spec(tmp_path, small, **more), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_extract_writes_the_same_bytes_again(root, tmp_path):
    folder = root / "resources" / "demo" / "umls" / "META"
    stats = extract(spec(tmp_path, folder), tmp_path / "a")
    extract(spec(tmp_path, folder), tmp_path / "b")
    for name in (*(f"{table.name}.parquet" for table in TABLES), "stats.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "stats.json").read_text()) == stats
    kept = tables.provenance(tmp_path / "a" / "names.parquet")
    assert kept["funnel"] == stats["funnel"]
    assert set(kept["funnel"]["rows"]) == {"MRCONSO", "MRSTY", "MRDEF", "MRCUI"}
    assert kept["rows_out"]["names"] == stats["kb"]["names"]
    assert kept["settings"]["languages"] == ["ENG"]
    assert kept["inputs"]["MRCONSO"] == sha256_paths([folder / "MRCONSO.RRF"])
    content = (folder / "MRCONSO.RRF").read_bytes()
    assert kept["inputs"]["MRCONSO"] == hashlib.sha256(f"MRCONSO.RRF\0{hashlib.sha256(content).hexdigest()}\n".encode()).hexdigest()
    names = read_plainly(folder)[1]
    bearers = defaultdict(set)
    for cui, name, *_ in names:
        bearers[name].add(cui)
    assert stats["kb"]["ambiguous_names"] == sum(len(c) > 1 for c in bearers.values())
    assert stats["kb"]["names"] == len(names)


VALUES = [b"", b"-1", b"9" * 25, b"C1", b"C00000012", b"T047", b"ENG", b"SPA", b"N", b"O", b'"', b"\xc2\xa0", b"\x00", b"x" * 300]
BITS = [b"", b"|", b"\n", b"\r", b"\r\n", b"\xff", b"\x00", b'"', b"9" * 30, b"\xef\xbb\xbf", "é".encode()]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Another value in a field, or some bytes removed, exchanged or put in, or a row twice or lost."""
    lines = data.split(b"\n")
    row = rng.randrange(len(lines) - 1)
    how = rng.randrange(6)
    if how < 4:
        fields = lines[row].split(b"|")
        fields[rng.randrange(len(fields) - 1)] = rng.choice([*VALUES, rng.choice(fields)])
        lines[row] = b"|".join(fields)
        return b"\n".join(lines)
    if how == 4:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice(BITS) + data[at + rng.choice((0, 0, 1, 2, 20)) :]
    lines[row : row + 1] = [] if rng.random() < 0.5 else [lines[row]] * 2
    return b"\n".join(lines)


@pytest.mark.slow
def test_damaged_releases_are_errors_with_their_row_or_count_every_row(small):
    """No traceback, and no row that is neither read nor counted."""
    definition = ["C0000001", "A1", "AT1", "", "MSH", "text", "N", ""]
    release(
        small,
        MRDEF=[definition, ["C0000002", "A5", "AT2", "", "MSH", "texto", "N", ""]],
        MRCUI=[["C0000011", "2019AA", "SY", "", "", "C0000001", "Y"], ["C0000013", "2019AA", "DEL", "", "", "", ""]],
        MRRANK=[["0001", "MSH", "MH", "N"], ["0002", "MSH", "ET", "N"]],
        MRFILES=[["MRCONSO.RRF", "", FORMATS["MRCONSO"], "18", "4", "1"]],
        MRSAB=[["x"] * 21 + ["Y", "Y", "s", "c"]],
    )
    whole = {path: path.read_bytes() for path in sorted(small.iterdir())}
    rng = random.Random(7)
    outcomes = {"read": 0, "error": 0}
    for _ in range(30 * int(os.environ.get("MENTIONFORGE_FUZZ", 1))):
        path = rng.choice(list(whole))
        path.write_bytes(damaged(whole[path], rng))
        try:
            found = read(small)
        except UserError as error:
            outcomes["error"] += 1
            assert re.search(r"\.RRF:[0-9]+$", error.where) or error.what == "empty selection", str(error)
        else:
            outcomes["read"] += 1
            as_python(found)
            for name in ("MRCONSO", "MRDEF", "MRCUI"):
                assert sum(found.funnel["drops"].get(name, {}).values()) == found.funnel["rows"].get(name, 0)
        path.write_bytes(whole[path])
    assert min(outcomes.values()) > 5, outcomes
