"""Corpora as tables: the demo in all three formats, the published counts of the real ones, policies and errors."""

import csv
import json
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mentionforge import tables
from mentionforge.corpora import build, card, convert
from mentionforge.corpora.commands import app
from mentionforge.corpora.concept_ids import parse_id
from mentionforge.corpora.concepts import ConceptMap, MappedId
from mentionforge.corpora.formats import pubtator
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError

DEMO = {
    "semeval": {"reader": "share", "id_prefix": "CUI", "splits": {s: [f"resources/demo/semeval/{s}"] for s in tables.SPLITS}},
    "ncbi": {"reader": "pubtator", "splits": {s: [f"resources/demo/ncbi/{s}.txt"] for s in tables.SPLITS}},
    "bc5cdr": {"reader": "pubtator", "entity_types": ["Disease"], "splits": {s: [f"resources/demo/bc5cdr/{s}.txt"] for s in tables.SPLITS}},
}
NCBI = {s: [f"ncbi_disease/NCBI{f}set_corpus.txt"] for s, f in (("train", "train"), ("dev", "develop"), ("test", "test"))}
BC5CDR = {s: [f"bc5cdr/CDR_{f}Set.PubTator.txt"] for s, f in (("train", "Training"), ("dev", "Development"), ("test", "Test"))}

TRAIN = "1|t|Gout today\n1|a|Flu and gout.\n1\t0\t4\tGout\tDisease\tD1\n1\t11\t14\tFlu\tDisease\tD2\n"
TEST = "2|t|More gout\n2|a|None.\n2\t5\t9\tgout\tDisease\tD1\n"


def make_spec(folder: Path, name: str, **settings) -> Path:
    settings = Corpus.model_validate({"kb": "tiny", **settings}).model_dump(mode="json")
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"kind": "corpora", "name": name, "part": None, "stage_version": 1, "settings": settings}))
    return path


def make_kb(folder: Path, xrefs, known=()) -> Path:
    rows = [{"source": s, "code": code, "cui": cui, "via": "test"} for s, code, cui in sorted(set(xrefs))]
    cuis = sorted(set(known) | {row["cui"] for row in rows})
    tables.write(tables.XREFS, folder / "xrefs.parquet", rows)
    tables.write(tables.RETIRED, folder / "retired.parquet", [])
    names = [{"cui": cui, "name": cui, "source": "TEST", "term_type": "PT", "preferred": True} for cui in cuis]
    tables.write(tables.NAMES, folder / "names.parquet", names)
    return folder


@pytest.fixture(scope="module")
def mrconso(root):
    lines = (root / "resources/demo/umls/META/MRCONSO.RRF").read_text(encoding="utf-8").splitlines()
    return [line.split("|") for line in lines]


@pytest.fixture(scope="module")
def demo(root, mrconso, tmp_path_factory):
    """Documents, mentions and stats of the three demo corpora, mapped through the demo release read by hand."""
    folder = tmp_path_factory.mktemp("corpora")
    english = {row[0] for row in mrconso if row[1] == "ENG"}
    kb = make_kb(folder / "kb", [(row[11], row[13], row[0]) for row in mrconso if row[1] == "ENG" and row[11] in ("MSH", "OMIM")], english)
    found = {}
    for name, settings in DEMO.items():
        splits = {s: [str(root / p) for p in paths] for s, paths in settings["splits"].items()}
        out = folder / name
        stats = build.read_corpus(make_spec(folder, name, **{**settings, "splits": splits}), kb, out)
        assert json.loads((out / "stats.json").read_text()) == json.loads(json.dumps(stats))
        documents, mentions = (tables.read(t, out / f"{t.name}.parquet").to_pylist() for t in (tables.DOCUMENTS, tables.MENTIONS))
        found[name] = documents, mentions, stats, out
    return found


@pytest.fixture
def tiny(tmp_path):
    """Reads a two-file PubTator corpus; returns mentions and stats."""
    kb = make_kb(tmp_path / "kb", [("MSH", "D1", "C1"), ("MSH", "D1", "C9"), ("MSH", "D2", "C2"), ("OMIM", "7", "C7")])

    def read(train: str = TRAIN, test: str = TEST, **settings):
        for split, content in (("train", train), ("test", test)):
            (tmp_path / f"{split}.txt").write_text(content, newline="")
        splits = {s: [str(tmp_path / f"{s}.txt")] for s in ("train", "test")}
        spec = make_spec(tmp_path, "tiny", **{"reader": "pubtator", "splits": splits, **settings})
        stats = build.read_corpus(spec, kb, tmp_path / "out")
        return tables.read(tables.MENTIONS, tmp_path / "out/mentions.parquet").to_pylist(), stats

    return read


@pytest.fixture(autouse=True)
def whole_text_as_sentence(request, monkeypatch):
    """Only the demo is split into sentences by the model; tiny texts are one sentence each."""
    if "tiny" in request.fixturenames:
        monkeypatch.setattr(build.text, "sentences", lambda texts: [[(0, len(t))] for t in texts])


def assert_nothing_lost(stats):
    for split, written in stats["splits"].items():
        duplicates = stats["read"][split]["mentions_of_duplicate_documents"] + sum(d["split"] == split for d in stats["dropped"]["duplicate_mentions"])
        assert written["mentions"] == stats["read"][split]["mentions"] - duplicates + stats["rows_added_by_composite_split"][split]
        assert sum(written["buckets"].values()) == written["mentions"] == written["mapped"] + sum(written["unmapped"].values())
        assert written["buckets"]["unmapped"] == sum(written["unmapped"].values())


# ------------------------------------------------------------------------------------------------------------------ demo


@pytest.mark.parametrize("name", DEMO)
def test_demo_tables_hold_what_the_files_hold(demo, root, name):
    documents, mentions, stats, _ = demo[name]
    texts = {d["doc_id"]: d["text"] for d in documents}
    assert Counter(d["split"] for d in documents) == {"train": 60, "dev": 15, "test": 40}
    for m in mentions:
        assert m["surface"] == " ".join(texts[m["doc_id"]][s["start"] : s["end"]] for s in m["spans"])
        assert m["surface"].strip()
    assert_nothing_lost(stats)
    published = Counter()
    for split in tables.SPLITS:
        if name == "semeval":
            for pipe in (root / f"resources/demo/semeval/{split}").glob("*.pipe"):
                for line in pipe.read_text().splitlines():
                    published[split, pipe.stem, line.split("|")[1], line.split("|")[2].replace("CUI-less", "")] += 1
        else:
            for line in (root / f"resources/demo/{name}/{split}.txt").read_text().splitlines():
                fields = line.split("\t")
                if len(fields) >= 6 and fields[4] != "Chemical":
                    published[split, fields[0], f"{fields[1]}-{fields[2]}", fields[5].replace("-1", "")] += 1
    written = Counter()
    for m in mentions:
        span = ",".join(f"{s['start']}-{s['end']}" for s in m["spans"])
        written[m["split"], m["doc_id"], span, frozenset(i.split(":", 1)[1] for i in m["concept_ids"])] += 1
    expected = Counter()
    for (split, doc_id, span, ids), n in published.items():
        expected[split, doc_id, span, frozenset(i.split(":")[-1] for i in ids.replace("+", "|").split("|") if i)] += n
    assert written + Counter() == Counter(dict.fromkeys(expected, 1))
    assert sum(expected.values()) - len(expected) == len(stats["dropped"]["duplicate_mentions"])


def test_demo_composite_discontinuous_and_missing_ids_are_there(demo):
    assert sum(s["discontinuous"] for s in demo["semeval"][2]["splits"].values()) > 0
    assert sum(s["composite"] for s in demo["ncbi"][2]["splits"].values()) > 0
    assert sum(s["unmapped"].get("no_id", 0) for s in demo["bc5cdr"][2]["splits"].values()) > 0
    assert demo["bc5cdr"][2]["read"]["train"]["skipped"]["entity type Chemical"] > 0
    assert demo["bc5cdr"][2]["read"]["train"]["skipped"]["relation CID"] > 0


def test_demo_ids_map_to_all_their_cuis(demo, mrconso):
    """One-to-many kept as a set, never the last row; foreign-language rows of MeSH do not add any."""
    expected = defaultdict(set)
    for row in mrconso:
        if row[1] == "ENG" and row[11] in ("MSH", "OMIM"):
            expected[f"{row[11]}:{row[13]}"].add(row[0])
    several = 0
    for name in ("ncbi", "bc5cdr"):
        for m in demo[name][1]:
            assert m["cuis"] == sorted(set().union(*(expected[i] for i in m["concept_ids"])))
            several += any(len(expected[i]) > 1 for i in m["concept_ids"])
    assert several and several == sum(s["ambiguous"] for name in ("ncbi", "bc5cdr") for s in demo[name][2]["splits"].values())


def test_demo_cut_mentions_are_counted(demo):
    documents, mentions, stats, _ = demo["semeval"]
    sentences = {d["doc_id"]: d["sentences"] for d in documents}
    for split in tables.SPLITS:
        cut = sum(
            not any(s["start"] <= m["spans"][0]["start"] and m["spans"][-1]["end"] <= s["end"] for s in sentences[m["doc_id"]])
            for m in mentions
            if m["split"] == split
        )
        assert stats["splits"][split]["cut_by_sentence_boundary"] == cut
        assert stats["splits"][split]["sentences"] == sum(len(d["sentences"]) for d in documents if d["split"] == split)


@pytest.fixture(scope="module")
def cards(demo, tmp_path_factory):
    """Cards of the three demo corpora and the rows of overlap.csv."""
    folder = tmp_path_factory.mktemp("cards")
    kb = demo["ncbi"][3].parent / "kb"
    for name in demo:
        shutil.copytree(demo[name][3], folder / name)
    options = [str(folder / name) for name in demo] + ["--kb", str(kb)] * 3 + ["--overlap", str(folder / "overlap.csv")]
    assert CliRunner().invoke(app, ["cards", *options]).exit_code == 0
    return {name: (folder / name / "card.md").read_text() for name in demo}, list(csv.DictReader((folder / "overlap.csv").open()))


def cells(card, label):
    [line] = [line for line in card.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip().replace(",", "") for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize("name", DEMO)
def test_card_agrees_with_the_tables(demo, cards, name):
    """Counted anew from the tables."""
    documents, mentions, *_ = demo[name]
    card = cards[0][name]

    def counted(count):
        return [str(count([m for m in mentions if m["split"] == s])) for s in tables.SPLITS]

    def several(rows):
        meanings = defaultdict(set)
        for m in rows:
            if m["cuis"]:
                meanings[build.text.normalize_surface(m["surface"])].add(tuple(m["cuis"]))
        return sum(len(found) > 1 for found in meanings.values())

    assert cells(card, "documents") == [str(sum(d["split"] == s for d in documents)) for s in tables.SPLITS]
    assert cells(card, "mentions") == counted(len)
    assert cells(card, "distinct CUIs") == counted(lambda rows: len({c for m in rows for c in m["cuis"]}))
    assert cells(card, "mentions with a CUI") == counted(lambda rows: sum(bool(m["cuis"]) for m in rows))
    assert cells(card, "`unseen_concept`") == counted(lambda rows: sum(m["ood_bucket"] == "unseen_concept" for m in rows))
    assert cells(card, "mentions with an abbreviation spelled out") == counted(lambda rows: sum(m["expanded"] is not None for m in rows))
    assert cells(card, "1") == counted(lambda rows: sum(len(re.findall(r"\w+|[^\w\s]", m["surface"])) == 1 for m in rows))
    assert cells(card, "distinct surfaces of several concepts") == counted(several)
    assert cells(card, "CUIs with a name in it") == cells(card, "distinct CUIs")


def test_cards_hold_no_text(demo, cards):
    for name, written in cards[0].items():
        longest = [s for d in demo[name][0] for s in re.findall(r"\w+(?: \w+){3}", d["text"])]
        assert longest and not any(stretch in written for stretch in longest)


def test_overlap_agrees_with_brute_force(demo, cards):
    rows = cards[1]
    assert len(rows) == 3 * 2 * 3 * 3
    for row in rows:
        own, theirs = ([m for m in demo[row[c]][1] if m["split"] == row[s]] for c, s in (("corpus", "split"), ("other", "other_split")))
        shared = {c for m in own for c in m["cuis"]} & {c for m in theirs for c in m["cuis"]}
        assert int(row["concepts_shared"]) == len(shared)
        assert int(row["mentions_of_shared_concepts"]) == sum(bool(shared & set(m["cuis"])) for m in own)
        ids, other_ids = ({d["doc_id"] for d in demo[row[c]][0] if d["split"] == row[s]} for c, s in (("corpus", "split"), ("other", "other_split")))
        assert (int(row["documents"]), int(row["documents_same_id"])) == (len(ids), len(ids & other_ids))


def test_overlapping_documents_of_two_corpora_are_found(tmp_path, capsys):
    """By id and by text, told loudly where test documents of one are training documents of another."""
    kb = make_kb(tmp_path / "kb", [("MSH", "D1", "C1")])
    words = " ".join(f"w{i}" for i in range(120))
    for name, split_texts in (("a", {"train": {"1": "x"}, "test": {"2": words}}), ("b", {"train": {"9": words + " end", "8": words}, "test": {"1": "y"}})):
        rows = [{"doc_id": i, "split": s, "text": t, "sentences": []} for s, texts in split_texts.items() for i, t in texts.items()]
        tables.write(tables.DOCUMENTS, tmp_path / name / "documents.parquet", rows)
        tables.write(tables.MENTIONS, tmp_path / name / "mentions.parquet", [])
        counts = {
            "splits": {
                s: {**dict.fromkeys(SHOWN, 0), "mean_words": 0.0, "buckets": dict.fromkeys(tables.BUCKETS, 0), "words": {}, "unmapped": {}} for s in split_texts
            }
        }
        other = {"corpus": name, "kb": "kb", "policies": {}, "duplicates": {}, "dropped": {"duplicate_documents": [], "duplicate_mentions": []}, "repairs": []}
        (tmp_path / name / "stats.json").write_text(json.dumps(counts | other))
    card.write_cards([tmp_path / "a", tmp_path / "b"], [kb, kb], tmp_path / "overlap.csv")
    rows = {
        (r["corpus"], r["split"], r["other_split"]): (r["documents_same_id"], r["documents_alike"]) for r in csv.DictReader((tmp_path / "overlap.csv").open())
    }
    assert rows == {
        ("a", "train", "train"): ("0", "0"),
        ("a", "train", "test"): ("1", "0"),
        ("a", "test", "train"): ("0", "1"),
        ("a", "test", "test"): ("0", "0"),
        ("b", "train", "train"): ("0", "0"),
        ("b", "train", "test"): ("0", "2"),
        ("b", "test", "train"): ("1", "0"),
        ("b", "test", "test"): ("0", "0"),
    }
    told = capsys.readouterr().err
    assert "1 test documents of a are training documents of b" in told and "1 test documents of b are training documents of a" in told
    with pytest.raises(UserError, match="wrong folders"):
        card.write_cards([tmp_path / "a"], [], tmp_path / "overlap.csv")


SHOWN = (
    "documents",
    "sentences",
    "mentions",
    "mapped",
    "unique_ids",
    "unique_cuis",
    "unique_surfaces",
    "composite",
    "discontinuous",
    "abbreviations_expanded",
    "cut_by_sentence_boundary",
    "ambiguous",
)


def test_stats_command_prints_one_column_per_split(demo):
    result = CliRunner().invoke(app, ["stats", str(demo["ncbi"][3])])
    assert result.exit_code == 0
    assert all(word in result.output for word in ("train", "dev", "test", "unseen concept", "mentions"))
    stats = demo["ncbi"][2]["splits"]
    row = next(line for line in result.output.splitlines() if line.split("│")[1:2] and line.split("│")[1].strip() == "mentions")
    assert [int(cell.replace(",", "")) for cell in row.split("│")[2:5]] == [stats[s]["mentions"] for s in tables.SPLITS]


def test_stats_command_without_stats(tmp_path):
    result = CliRunner().invoke(app, ["stats", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert "stats.json" in str(result.exception)


# ---------------------------------------------------------------------------------------------------------- real corpora


@pytest.fixture
def real(shared_data, tmp_path, monkeypatch):
    """Reads a real corpus through a knowledge base that gives each id a CUI of its own; each document is one sentence."""
    monkeypatch.setattr(build.text, "sentences", lambda texts: [[(0, len(t))] for t in texts])

    def read(splits, **settings):
        splits = {s: [str(shared_data / p) for p in paths] for s, paths in splits.items()}
        ids = {i for paths in splits.values() for p in paths for d in pubtator.read(Path(p), "MSH").documents for a in d.annotations for i in a.ids if i}
        kb = make_kb(tmp_path / "kb", [(*i.split(":", 1), f"X{i}") for i in ids])
        stats = build.read_corpus(make_spec(tmp_path, "real", reader="pubtator", splits=splits, **settings), kb, tmp_path / "out")
        return stats, tables.read(tables.MENTIONS, tmp_path / "out/mentions.parquet").to_pylist(), tmp_path / "out"

    return read


def counts(stats, *keys):
    return [[stats[s][key] for s in tables.SPLITS] for key in keys]


def test_ncbi_has_the_published_counts(real):
    stats, mentions, out = real(NCBI)
    assert counts(stats["read"], "documents", "mentions", "mentions_without_id") == [[593, 100, 100], [5145, 787, 960], [0, 0, 0]]
    assert stats["dropped"]["duplicate_documents"] == ["8528200"]
    assert [row.split(",")[:5] for row in (out / "duplicates.csv").read_text().splitlines()[1:]] == [["id", "8528200", "train", "8528200", "train"]]
    assert stats["repairs"] == [
        {"split": "train", "doc_id": "10923035", "published": ((711, 761),), "used": ((711, 761),), "reason": "blanks at the ends differ"}
    ]
    assert len(mentions) + len(stats["dropped"]["duplicate_mentions"]) + stats["read"]["train"]["mentions_of_duplicate_documents"] == 5145 + 787 + 960
    assert counts(stats["splits"], "documents", "unique_ids") == [[592, 100, 100], [647, 170, 200]]
    # Out of distribution by id: a mention with an id, none of whose ids is one of a training mention.
    assert stats["splits"]["test"]["unseen_ids"] == stats["splits"]["test"]["buckets"]["unseen_concept"] == 165
    assert stats["splits"]["test"]["surface_unseen_in_train"]["share_lower_case"] == pytest.approx(0.377, abs=0.0005)
    assert stats["splits"]["test"]["abbreviations_expanded"] == sum(m["expanded"] is not None for m in mentions if m["split"] == "test") == 305
    assert (out / "unmapped.csv").read_text() == "ids,reason,train,dev,test,surfaces\n"


def test_bc5cdr_has_the_published_counts(real):
    stats, mentions, out = real(BC5CDR, entity_types=["Disease"])
    assert counts(stats["read"], "documents", "mentions", "mentions_without_id", "composite") == [
        [500, 500, 500],
        [4182, 4244, 4424],
        [32, 16, 61],
        [95, 98, 63],
    ]
    assert stats["dropped"] == {"duplicate_documents": [], "duplicate_mentions": []}
    assert stats["repairs"] == []
    assert len(mentions) == 4182 + 4244 + 4424
    assert stats["splits"]["test"]["unseen_ids"] == 636
    assert stats["splits"]["test"]["mapped"] == 4363
    assert stats["splits"]["test"]["surface_unseen_in_train"]["share_lower_case"] == pytest.approx(0.366, abs=0.0005)
    [_, only] = (out / "unmapped.csv").read_text().splitlines()
    assert only.startswith(",no_id,32,16,61,")


def test_published_duplicate_is_an_error_when_asked_for(real):
    with pytest.raises(UserError, match=r"document given twice in .*NCBItrainset_corpus.txt:\d+: 8528200"):
        real(NCBI, duplicates="error")


# -------------------------------------------------------------------------------------------------------------- policies


def test_ambiguous_id_keeps_all_cuis(tiny):
    mentions, stats = tiny()
    assert [m["cuis"] for m in mentions if m["split"] == "test"] == [["C1", "C9"]]
    assert stats["ambiguous_ids"] == {"MSH:D1": {"cuis": ["C1", "C9"], "mentions": 2}}
    assert_nothing_lost(stats)


def test_buckets_compare_surfaces_without_case_and_punctuation(tiny):
    train = "1|t|Gout-attack today\n1|a|x\n1\t0\t11\tGout-attack\tDisease\tD1\n"
    test = "2|t|A GOUT attack, podagra\n2|a|flu\n2\t2\t13\tGOUT attack\tDisease\tD1\n2\t15\t22\tpodagra\tDisease\tD1\n2\t23\t26\tflu\tDisease\tD2\n"
    buckets = {m["surface"]: m["ood_bucket"] for m in tiny(train=train, test=test)[0]}
    assert buckets == {"Gout-attack": "seen_mention", "GOUT attack": "seen_mention", "podagra": "seen_concept", "flu": "unseen_concept"}


@pytest.mark.parametrize("joint", ["|", "+"])
def test_composite_is_one_row_or_split(tiny, joint):
    test = TEST.replace("D1", f"D1{joint}MESH:D2{joint}OMIM:7{joint}-1")
    [one] = [m for m in tiny(test=test)[0] if m["split"] == "test"]
    assert one["composite"]
    assert one["mention_id"] == "2:5-9:0"
    assert one["concept_ids"] == ["MSH:D1", "MSH:D2", "OMIM:7"]
    assert one["cuis"] == ["C1", "C2", "C7", "C9"]
    mentions, stats = tiny(test=test, composite="split")
    parts = [m for m in mentions if m["split"] == "test"]
    assert [(m["mention_id"], m["concept_ids"], m["cuis"]) for m in parts] == [
        ("2:5-9:0.0", ["MSH:D1"], ["C1", "C9"]),
        ("2:5-9:0.1", ["MSH:D2"], ["C2"]),
        ("2:5-9:0.2", ["OMIM:7"], ["C7"]),
        ("2:5-9:0.3", [], []),
    ]
    assert all(m["composite"] and m["spans"] == [{"start": 5, "end": 9}] for m in parts)
    assert stats["rows_added_by_composite_split"] == {"train": 0, "test": 3}
    assert_nothing_lost(stats)


def test_unmapped_ids_are_listed_with_their_reason(tiny):
    test = TEST + "".join(f"2\t5\t9\tgout\tDisease\t{i}\n" for i in ("D404", "ICD10:M10", "-1", "D404|-1"))
    mentions, stats = tiny(test=test)
    assert stats["unmapped"] == {"code_not_in_kb": 2, "vocabulary_not_in_kb": 1, "no_id": 1}
    assert stats["unmapped_ids"] == {"code_not_in_kb": {"MSH:D404": 2}, "vocabulary_not_in_kb": {"ICD10:M10": 1}}
    assert sum(m["ood_bucket"] == "unmapped" for m in mentions) == 4
    assert len({m["mention_id"] for m in mentions}) == len(mentions)
    assert_nothing_lost(stats)


def test_cuis_are_known_retired_or_listed():
    xrefs = [("MSH", "D1", "C5", "map"), ("MSH", "D3", "C1", "map"), ("MSH", "D3", "C1", "other")]
    concepts = ConceptMap(["C1", "C2"], xrefs, [("C8", "SY", "C2"), ("C8", "RB", "C1"), ("C7", "DEL", ""), ("C6", "SY", "C5")])
    assert concepts("CUI:C1") == MappedId(("C1",), via="cui")
    assert concepts("CUI:C8") == MappedId(("C1", "C2"), retired="RB+SY", via="retired")
    assert concepts("CUI:C7") == MappedId((), "cui_deleted")
    assert concepts("CUI:C6") == concepts("CUI:C9") == MappedId((), "cui_not_in_kb")
    assert concepts("MSH:D3") == MappedId(("C1",), via="map+other")
    assert concepts("MSH:D1") == MappedId((), "concept_not_in_kb")
    assert concepts("MSH:D2") == MappedId((), "code_not_in_kb")
    assert concepts("OMIM:2") == MappedId((), "vocabulary_not_in_kb")
    assert concepts("") == MappedId((), "no_id")


def test_native_ids_map_by_themselves_and_cuis_as_codes():
    """As a knowledge base with native ids gives them: each id is its own code, and CUIs are codes of the vocabulary UMLS."""
    rows = [("HPO", "0000040", "HP:0000040", "id"), ("UMLS", "C0000040", "HP:0000040", "hpo"), ("ORPHANET", "399", "ORPHA:399", "id")]
    rows += [("mine", "l-17", "mine:l-17", "id"), ("HPO", "0000041", "HP:0000040", "hpo")]
    concepts = ConceptMap(["HP:0000040", "ORPHA:399", "mine:l-17"], rows)
    for written, cui in {"HP:0000040": "HP:0000040", "HPO:0000041": "HP:0000040", "ORPHA:399": "ORPHA:399", "orphanet:399": "ORPHA:399"}.items():
        assert concepts(parse_id(written, "MSH")).cuis == (cui,), written
    assert concepts(parse_id("mine:l-17", "MSH")).cuis == ("mine:l-17",)
    assert concepts("CUI:C0000040") == MappedId(("HP:0000040",), via="hpo")
    assert concepts("CUI:c0000040").cuis == ("HP:0000040",)
    assert concepts("CUI:C0000099").reason == "code_not_in_kb"
    assert concepts("HP:0000099").reason == "code_not_in_kb"
    assert concepts("DOID:1").reason == "vocabulary_not_in_kb"
    assert ConceptMap(["HP:1"], [])("CUI:C0000040").reason == "cui_not_in_kb"


def test_the_preferred_cui_of_an_ambiguous_id():
    """By map, then by the vocabulary's heading among its names, then by agreement with the heading, then by number of codes, then by CUI."""
    xrefs = [("MSH", "D1", "C1", "doid"), ("MSH", "D1", "C2", "mondo")]
    xrefs += [
        ("MSH", code, cui, "MRCONSO")
        for code, cuis in (("D2", ("C3", "C4")), ("D3", ("C5", "C6")), ("D4", ("C7", "C8")), ("D5", ("C9", "C10")))
        for cui in cuis
    ]
    xrefs += [("OMIM", "1", "C8", "MRCONSO")]
    names = [("C3", "x", "MSH", "ET", True), ("C4", "y", "MSH", "MH", True)]
    names += [(cui, "Arrhythmias, Cardiac", "MSH", "MH", False) for cui in ("C5", "C6")] + [("C6", "cardiac arrhythmia", "DOID", "PT", True)]
    known = [f"C{i}" for i in range(1, 11)]
    chosen = ConceptMap(known, xrefs, [("C90", "RO", "C1"), ("C90", "SY", "C2")], names)
    assert [chosen(f"MSH:D{i}").cuis for i in range(1, 6)] == [("C2",), ("C4",), ("C6",), ("C8",), ("C10",)]
    assert chosen("MSH:D1") == MappedId(("C2",), via="mondo", left_out=("C1",))
    assert chosen("CUI:C90") == MappedId(("C2",), retired="SY", via="retired", left_out=("C1",))
    assert ConceptMap(known, xrefs)("MSH:D1") == MappedId(("C1", "C2"), via="doid+mondo")


@pytest.mark.parametrize("written", ["SNOMED:1", "SCTID:1", "SNOMEDCT_US:1", "HP:0000002", "MIM:3", "MSH:d4", "CUI:c5"])
def test_prefixes_and_case_of_ids(written):
    xrefs = [("SNOMEDCT_US", "1", "C5", "m"), ("HPO", "0000002", "C5", "m"), ("OMIM", "3", "C5", "m"), ("MSH", "D4", "C5", "m")]
    assert ConceptMap(["C5"], xrefs)(written).cuis == ("C5",)


def test_merged_ids_are_replaced(tiny, tmp_path):
    (tmp_path / "map.csv").write_text("id,replacement\nMESH:D404,D2\nOMIM:9,OMIM:7|D2\n")
    test = TEST + "2\t5\t9\tgout\tDisease\tD404\n2\t0\t4\tMore\tDisease\tOMIM:9\n"
    mentions, stats = tiny(test=test, id_map=str(tmp_path / "map.csv"))
    assert {m["concept_ids"][0]: m["cuis"] for m in mentions if m["split"] == "test"} == {
        "MSH:D1": ["C1", "C9"],
        "MSH:D404": ["C2"],
        "OMIM:9": ["C2", "C7"],
    }
    assert stats["replaced_ids"] == {"MSH:D404": ["MSH:D2"], "OMIM:9": ["OMIM:7", "MSH:D2"]}
    for content, message in (("id,x\n", "missing column in .*map.csv:1: replacement"), ("id,replacement\nD1,\n", "bad replacement in .*map.csv:2")):
        (tmp_path / "map.csv").write_text(content)
        with pytest.raises(UserError, match=message):
            tiny(id_map=str(tmp_path / "map.csv"))


def test_unmapped_mentions_are_listed_without_surfaces_if_licensed(tiny, tmp_path):
    test = TEST + "".join(
        f"2\t{a}\t{b}\t{s}\tDisease\t{i}\n" for a, b, s, i in ((5, 9, "gout", "D404|OMIM:1"), (0, 4, "More", "D404|OMIM:1"), (5, 9, "gout", "-1"))
    )
    tiny(test=test)
    listed = (tmp_path / "out/unmapped.csv").read_text()
    assert listed == "ids,reason,train,dev,test,surfaces\nMSH:D404|OMIM:1,code_not_in_kb,0,0,2,gout; more\n,no_id,0,0,1,gout\n"
    tiny(test=test, licensed="ask the owner")
    assert (tmp_path / "out/unmapped.csv").read_text() == listed.replace("gout; more", "").replace(",gout", ",")


def test_identical_mentions_are_dropped_and_counted(tiny):
    mentions, stats = tiny(test=TEST + "2\t5\t9\tgout\tDisease\tD1\n")
    assert sum(m["split"] == "test" for m in mentions) == 1
    assert [(d["doc_id"], d["split"]) for d in stats["dropped"]["duplicate_mentions"]] == [("2", "test")]
    assert_nothing_lost(stats)


def test_mention_ids_do_not_depend_on_the_order_of_lines(tiny):
    head, *lines = TRAIN.splitlines(keepends=True)
    lines.append("1\t0\t4\tGout\tDisease\tD2\n")
    forward = tiny(train=head + "".join(lines))[0]
    backward = tiny(train=head + lines[0] + "".join(reversed(lines[1:])))[0]
    assert forward == backward


def test_a_seeded_split_is_written_down_and_can_be_given_back_as_lists(tiny, tmp_path):
    source = tmp_path / "all.txt"
    source.write_text("".join(f"{i}|t|Gout number {i}\n{i}|a|x\n{i}\t0\t4\tGout\tDisease\tD1\n" for i in range(30)))
    seeded = {"source": [str(source)], "splits": {}, "seeded_split": {"seed": 3, "shares": {"train": 0.6, "test": 0.4}}}
    mentions, stats = tiny(**seeded)
    rows = list(csv.DictReader((tmp_path / "out/split.csv").open()))
    documents = tables.read(tables.DOCUMENTS, tmp_path / "out/documents.parquet").to_pylist()
    assert rows == [{"doc_id": d["doc_id"], "split": d["split"]} for d in documents]
    assert Counter(r["split"] for r in rows) == {s: stats["splits"][s]["documents"] for s in ("train", "test")}
    assert len(rows) == len(mentions) == 30
    for split in ("train", "test"):
        (tmp_path / f"{split}.ids").write_text("".join(f"{r['doc_id']}\n" for r in rows if r["split"] == split))
    assert tiny(source=[str(source)], splits={s: [str(tmp_path / f"{s}.ids")] for s in ("train", "test")})[0] == mentions
    assert_nothing_lost(stats)


def test_every_format_gives_the_same_tables(tiny, tmp_path):
    """The same corpus, converted, read by its own reader: equal rows, whatever the format."""
    expected = tiny()[0]
    for reader, form in (("bioc", "bioc"), ("brat", "brat"), ("jsonl", "jsonl"), ("parquet", "parquet")):
        splits = {s: [str(tmp_path / f"{s}.{form}")] for s in ("train", "test")}
        for split, [path] in splits.items():
            convert.convert([tmp_path / f"{split}.txt"], "pubtator", form, Path(path))
        assert tiny(reader=reader, splits=splits)[0] == expected


def test_duplicate_document_policies(tiny):
    stats = tiny(train=f"{TRAIN}\n{TRAIN}")[1]
    assert stats["read"]["train"]["documents"] == 2
    assert stats["splits"]["train"]["documents"] == 1
    assert stats["read"]["train"]["mentions_of_duplicate_documents"] == 2
    assert stats["dropped"]["duplicate_documents"] == ["1"]
    assert_nothing_lost(stats)
    with pytest.raises(UserError, match=r"document given twice in .*train.txt:6: 1, first in .*train.txt:1;"):
        tiny(train=f"{TRAIN}\n{TRAIN}", duplicates="error")
    with pytest.raises(UserError, match=r"document given twice, and differing in .*train.txt:6"):
        tiny(train=f"{TRAIN}\n{TRAIN.replace('D2', 'D1')}")


def test_leak_between_splits_is_an_error(tiny):
    with pytest.raises(UserError, match=r"document in two splits in .*test.txt:1: 1 of test is in train too"):
        tiny(test=TRAIN)
    with pytest.raises(UserError, match=r"text in two splits in .*test.txt:1: 3 of test is 1 of train"):
        tiny(test=TRAIN.replace("1|", "3|").replace("1\t0", "3\t0").replace("1\t11", "3\t11"))


def test_training_split_with_no_concept(tiny):
    with pytest.raises(UserError, match=r"training split with no concept in config: corpora.tiny: .* tiny;"):
        tiny(train=TRAIN.replace("D1", "D404").replace("D2", "-1"))
    with pytest.raises(UserError, match="training split with no concept"):
        tiny(id_prefix="OMIM")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty split in config: corpora.tiny.splits.test"),
        ("\n\n", "empty split in config: corpora.tiny.splits.test"),
        ("2|t|More gout\n2|a|None.\n", "split without mentions in config: corpora.tiny.splits.test"),
    ],
)
def test_empty_splits(tiny, content, message):
    with pytest.raises(UserError, match=message):
        tiny(test=content)


def test_entity_type_that_never_occurs(tiny):
    with pytest.raises(UserError, match=r"unknown entity type in config: corpora.tiny.entity_types: Diseases never occurs"):
        tiny(entity_types=["Disease", "Diseases"])


def test_spec_of_another_kind_and_missing_kb(tmp_path):
    spec = make_spec(tmp_path, "tiny", reader="pubtator", splits={"train": [str(tmp_path / "no.txt")], "test": [str(tmp_path / "no.txt")]})
    with pytest.raises(UserError, match=r"unreadable file in .*no.txt"):
        build.read_corpus(spec, tmp_path, tmp_path / "out")
    spec.write_text(json.dumps({"kind": "indexes", "name": "x", "settings": {"sources": ["train"]}}))
    with pytest.raises(UserError, match=r"spec"):
        build.read_corpus(spec, tmp_path, tmp_path / "out")


def test_what_is_skipped_is_listed_with_its_rows(tiny, tmp_path):
    more = "2\t0\t4\tMore\tX\tD1\n2\tCID\tD1\tD2\n2\tAssociation\tD1\tD2\tNovel\n2\t0\t9\tMore gout\tX\tD1\n"
    _, stats = tiny(test=TEST + more, entity_types=["Disease"])
    rows = list(csv.DictReader((tmp_path / "out/skipped.csv").open()))
    assert [(r["split"], r["kind"], r["records"], Path(r["file"]).name, r["rows"]) for r in rows] == [
        ("test", "entity type X", "2", "test.txt", "4 7"),
        ("test", "relation Association", "1", "test.txt", "6"),
        ("test", "relation CID", "1", "test.txt", "5"),
    ]
    assert stats["read"]["test"]["skipped"] == {r["kind"]: int(r["records"]) for r in rows}


@pytest.mark.parametrize(("rows", "text"), [([], ""), ([0], ""), ([3], "3"), ([9, 3, 7, 8], "3 7-9"), ([1, 2, 3, 2], "1-3"), ([1, 3, 5], "1 3 5")])
def test_ranges_of_rows(rows, text):
    assert build.ranges(rows) == text


def test_surfaces_inside_words_and_odd_ids_are_told_in_log_and_card(tiny, tmp_path, capsys):
    """Two of the five mentions of the test split begin or end inside a word; two have ids like those of no vocabulary."""
    more = "2\t6\t9\tout\tDisease\tD006073\n2\t0\t3\tMor\tDisease\tgout disease\n2\t10\t14\tNone\tDisease\tMESH:12345678;D2\n2\t0\t4\tMore\tDisease\tNA\n"
    _, stats = tiny(test=TEST + more)
    said = capsys.readouterr().err
    assert "WARNING: 2 of 5 surfaces of test begin or end inside a word (40.0%)" in said and "surfaces of train" not in said
    assert "look like those of no known vocabulary, by form: MSH:9+ (1, as 'MSH:12345678'), MSH:a+ a+ (1, as 'MSH:gout disease')" in said
    assert [stats["read"][s]["surfaces_inside_words"] for s in ("train", "test")] == [0, 2]
    assert set(stats["ids_of_no_known_form"]) == {"MSH:9+", "MSH:a+ a+"}  # D1 and D2 are in the knowledge base, D006073 has MeSH's form
    result = CliRunner().invoke(app, ["cards", str(tmp_path / "out"), "--kb", str(tmp_path / "kb"), "--overlap", str(tmp_path / "overlap.csv")])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "out/card.md").read_text()
    assert cells(card, "surfaces that begin or end inside a word") == ["0", "2"]
    assert "**Warning:** 2 of 5 surfaces of test (40.0%) begin or end inside a word." in card
    assert "- `MSH:a+ a+`: 1 mentions" in card


def test_a_corpus_without_odd_surfaces_is_not_warned_of(demo, cards, capsys):
    for name in DEMO:
        assert cells(cards[0][name], "surfaces that begin or end inside a word") == ["0", "0", "0"]
        assert "**Warning" not in cards[0][name]


def test_convert_tells_what_it_skips_and_what_looks_wrong(tmp_path, capsys):
    source = tmp_path / "a.txt"
    source.write_text("1|t|Gout today\n1|a|Flu.\n1\tCID\tD1\tD2\n1\t1\t4\tout\tDisease\tx y\n1\tCID\tD1\tD2\n")
    convert.convert([source], "pubtator", "jsonl", tmp_path / "out.jsonl")
    said = capsys.readouterr().err
    assert f"relation CID: 2 (first in {source}:3)" in said
    assert "WARNING: 1 of 1 surfaces begin or end inside a word (100.0%)" in said
    assert "WARNING: 1 ids look like those of no known vocabulary, by form: MSH:a a (1, as 'MSH:x y')" in said


def test_equal_input_gives_equal_bytes(tiny, tmp_path):
    tiny()
    before = {p.name: p.read_bytes() for p in sorted((tmp_path / "out").iterdir())}
    tiny()
    assert {p.name: p.read_bytes() for p in sorted((tmp_path / "out").iterdir())} == before
    assert set(before) == {"documents.parquet", "mentions.parquet", "split.csv", "duplicates.csv", "unmapped.csv", "skipped.csv", "stats.json"}
    assert str(tmp_path).encode() not in before["stats.json"]
