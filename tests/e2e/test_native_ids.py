"""What users of other linkers ask for: phenotypes linked to HPO ids, a dictionary of one's own that links, ids that UMLS does not have.

Two small BRAT collections go from text to scores and to annotated files, with a dictionary as recognizer, so that nothing is trained or fetched.
"""

import re
from pathlib import Path

import pytest
import yaml

from checkout import copy_checkout, snakemake
from mentionforge import tables
from mentionforge.annotate import bundle, cells, run, writing
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.reading import Options
from mentionforge.corpora.concepts import ConceptMap
from mentionforge.corpora.documents import Tally
from mentionforge.corpora.formats.registry import READERS

HPO = """format-version: 1.2

[Term]
id: HP:0000118
name: Phenotypic abnormality

[Term]
id: HP:0001250
name: Seizure
alt_id: HP:0001303
synonym: "Epileptic seizure" EXACT []
synonym: "Convulsion" RELATED []
is_a: HP:0000118

[Term]
id: HP:0007359
name: Focal-onset seizure
synonym: "Partial seizure" EXACT []
is_a: HP:0001250

[Term]
id: HP:0001513
name: Obesity
xref: UMLS:C0028754
is_a: HP:0000118

[Term]
id: HP:0001252
name: Hypotonia
synonym: "Muscle hypotonia" EXACT []
is_a: HP:0000118
"""
DICTIONARY = """code,label,other,up
ICU-1,Ventilator failure,respirator failure|vent down,
ICU-2,Line infection,CLABSI,ICU-1
ICU-3,Pressure sore,decubitus|bedsore,
"""
NOTES = {
    "hp": {
        "train": {"a": [("Seizure", "HP:0001250"), (" and ", ""), ("obesity", "HP:0001513"), (".", "")]},
        "dev": {"b": [("Muscle hypotonia", "HP:0001252"), (" was seen.", "")]},
        "test": {
            "c": [("Focal-onset seizures", "HP:0007359"), (", then ", ""), ("convulsion", "HP:0001303"), (".", "")],  # a former id of HP:0001250
            "d": [("Hypotonia", "HP:0001252"), (" in ", ""), ("obesity", "UMLS:C0028754"), (", no ", ""), ("fever", "HP:0001945"), (".", "")],
        },
    },
    "icu": {
        "train": {"a": [("Vent down", "ICU:ICU-1"), (" at night.", "")]},
        "dev": {"b": [("CLABSI", "ICU:ICU-2"), (" treated.", "")]},
        "test": {"c": [("Bedsore", "icu:ICU-3"), (" and ", ""), ("respirator failure", "ICU:ICU-1"), (".", "")]},
    },
}
GOLD = {
    "hp": {"Focal-onset seizures": ["HP:0007359"], "convulsion": ["HP:0001250"], "Hypotonia": ["HP:0001252"], "obesity": ["HP:0001513"], "fever": []},
    "icu": {"Bedsore": ["ICU:ICU-3"], "respirator failure": ["ICU:ICU-1"]},
}
"""Concepts of the test mentions, as the comments above say."""

CONFIG = {
    "kbs": {
        "hp": {"source": "obo", "path": "native/hp.obo", "roots": ["HP:0000118"]},
        "icu": {"source": "table", "path": "native/icu.csv", "prefix": "ICU", "columns": {"id": "code", "name": "label", "synonyms": "other", "parents": "up"}},
    },
    "corpora": {kb: {"reader": "brat", "kb": kb, "splits": {s: [f"native/{kb}/{s}"] for s in tables.SPLITS}} for kb in NOTES},
    "experiment": {
        "normalization": [{"corpora": ["hp", "icu"], "strategies": ["none"], "linkers": ["exact", "tfidf"], "indexes": ["kb"]}],
        "recognition": [
            {"corpora": ["hp", "icu"], "strategies": ["none"], "recognizers": ["dictionary"], "linkers": ["tfidf"], "indexes": ["kb"]},
        ],
    },
}


def write_inputs(folder: Path) -> None:
    (folder / "native").mkdir()
    (folder / "native/hp.obo").write_text(HPO)
    (folder / "native/icu.csv").write_text(DICTIONARY)
    for kb, splits in NOTES.items():
        for split, notes in splits.items():
            below = folder / "native" / kb / split
            below.mkdir(parents=True)
            for name, pieces in notes.items():
                text, lines = "", []
                for piece, concept in pieces:
                    if concept:
                        number = len(lines) // 2 + 1
                        lines.append(f"T{number}\tDisease {len(text)} {len(text) + len(piece)}\t{piece}\n")
                        lines.append(f"N{number}\tReference T{number} {concept}\t{piece}\n")
                    text += piece
                (below / f"{name}.txt").write_text(text)
                (below / f"{name}.ann").write_text("".join(lines))
    (folder / "native.yaml").write_text(yaml.safe_dump(CONFIG))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment run to its end, report included."""
    folder = copy_checkout(tmp_path_factory.mktemp("native") / "mentionforge")
    write_inputs(folder)
    snakemake(folder, "--configfile", "native.yaml")
    return folder / "results"


@pytest.mark.parametrize("kb", ["hp", "icu"])
def test_gold_mentions_have_native_ids_and_linkers_answer_them(results: Path, kb: str) -> None:
    gold = [row for row in tables.read(tables.MENTIONS, results / f"corpora/{kb}/mentions.parquet").to_pylist() if row["split"] == "test"]
    assert {row["surface"]: row["cuis"] for row in gold} == GOLD[kb]
    surface = {row["mention_id"]: row["surface"] for row in gold}
    for linker in ("exact", "tfidf"):
        rows = tables.read(tables.LINKED, results / f"normalization/{kb}/none/none/{linker}/kb/predictions.parquet").to_pylist()
        first = {surface[row["mention_id"]]: [row["cui"]] for row in rows if row["rank"] == 1}
        assert first == {s: cuis for s, cuis in GOLD[kb].items() if cuis}, linker


def test_what_does_not_map_is_listed(results: Path) -> None:
    unmapped = (results / "corpora/hp/unmapped.csv").read_text()
    assert "HPO:0001945" in unmapped.replace("HP:", "HPO:") and "code_not_in_kb" in unmapped
    assert "no_id" not in unmapped
    assert len((results / "corpora/icu/unmapped.csv").read_text().splitlines()) == 1


def test_the_report_and_the_hierarchy_know_the_ids(results: Path) -> None:
    parents = tables.read(tables.PARENTS, results / "kb/hp/parents.parquet").to_pylist()
    assert {(row["cui"], row["parent"]) for row in parents} >= {("HP:0007359", "HP:0001250"), ("HP:0001250", "HP:0000118")}
    assert (results / "report/index.html").stat().st_size > 10_000


@pytest.mark.parametrize(("kb", "text", "expected"), [
    ("hp", "Partial seizure, hypotonia.", [("Partial seizure", "HP:0007359"), ("hypotonia", "HP:0001252")]),
    ("icu", "A decubitus; vent down.", [("decubitus", "ICU:ICU-3"), ("vent down", "ICU:ICU-1")]),
])  # fmt: skip
def test_annotated_files_hold_the_ids_in_every_format(results: Path, tmp_path: Path, kb: str, text: str, expected: list[tuple[str, str]]) -> None:
    (tmp_path / "note.txt").write_text(text)
    found = cells.find(results / f"recognition/{kb}/none/none/dictionary/untrained/seed0", linker="tfidf/kb")
    bundle.write(found, tmp_path / "my.bundle")
    concepts = ConceptMap.load(results / "kb" / kb)
    for form, reader in (("brat", "brat"), ("jsonl", "jsonl"), ("parquet", "parquet"), ("bioc", "bioc"), ("pubtator", "pubtator")):
        out = tmp_path / form
        annotator = Annotator(bundle.read(tmp_path / "my.bundle"), top=3)
        run.annotate([str(tmp_path / "note.txt")], annotator, form, out, Options(), {})
        [document] = READERS[reader](out / writing.OUTPUT_NAMES[form], "MSH", (), Tally())
        read_back = [(document.text[a.spans[0][0] : a.spans[-1][1]], concepts(a.ids[0]).cuis) for a in document.annotations]
        assert read_back == [(surface, (cui,)) for surface, cui in expected], form
    ann = next((tmp_path / "brat").rglob("*.ann")).read_text()
    assert re.findall(r"^N\d+\tReference T\d+ (\S+)\t", ann, re.M) == [cui for _, cui in expected]
