"""Readers of the other formats, text policies and splits: what is read, what is counted, and errors with file and row."""

import gzip
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mentionforge import splitting
from mentionforge.config import load_config
from mentionforge.config_files import merge
from mentionforge.corpora import readers, texts
from mentionforge.corpora.documents import Annotation, Document, ReadResult, Tally
from mentionforge.corpora.formats import bioc, brat, conll, pubtator, records, registry
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError


def read(reader, path: Path, prefix="MSH", types=()) -> ReadResult:
    reading = ReadResult()
    reading.documents.extend(reader(path, prefix, types, reading))
    return reading


def fails(reader, path: Path, what: str, place: str) -> None:
    with pytest.raises(UserError) as caught:
        read(reader, path)
    assert caught.value.what == what
    assert caught.value.where.endswith(place)


# ------------------------------------------------------------------------------------------------------------------ brat

NOTE = "Gout – and colon\r\nor lung cancer. No flu."
ANN = (
    "T1\tDisease 0 4\tGout\nN1\tReference T1 MESH:D006073\tGout\n"
    "T2\tDisease 11 16;26 32\tcolon cancer\nT3\tDisease 11 32\tcolon  or lung cancer\n"
    "N2\tReference T3 MESH:D003110\tcolon cancer\nN3\tReference T3 UMLS:C0242379\n"
    "T4\tModifier 37 40\tflu\nN4\tReference T4 MESH:D007251\tInfluenza\n"
    "R1\tOf Arg1:T1 Arg2:T2\t\nE1\tX:T1\nA1\tNegated T4\n*\tAlias T1 T2\n#1\tAnnotatorNotes T1\tsure\n"
)


@pytest.fixture
def brat_of(tmp_path):
    def write(ann=ANN, note=NOTE, files=None) -> Path:
        folder = tmp_path / "brat"
        folder.mkdir(exist_ok=True)
        for name, content in {"n1.txt": note, "n1.ann": ann, "annotation.conf": "[entities]", **(files or {})}.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write


def test_brat_reads_pieces_and_concepts_and_counts_the_rest(brat_of):
    reading = read(brat.stream, brat_of(), types=("Disease",))
    [document] = reading.documents
    assert document.text == NOTE
    assert document.annotations == (
        Annotation(((0, 4),), "Disease", ("MSH:D006073",)),
        Annotation(((11, 16), (26, 32)), "Disease", ("",)),
        Annotation(((11, 32),), "Disease", ("MSH:D003110", "CUI:C0242379"), composite=True),
    )
    assert +reading.skipped == {"entity type Modifier": 1, "relation": 1, "event": 1, "attribute": 1, "equivalence": 1, "note": 1}
    assert +reading.handled == {"texts with CRLF line ends": 1, "files annotation.conf": 1}
    assert reading.repairs == []


def test_brat_blanks_are_a_repair(brat_of):
    [repair] = read(brat.stream, brat_of("T1\tDisease 11 32\tcolon or lung cancer\n")).repairs
    assert (repair.doc_id, repair.used, repair.reason) == ("n1", ((11, 32),), "blanks differ")


NOTES = (
    "T1\tENFERMEDAD 0 4\tGout\n#1\tAnnotatorNotes T1\tC0018099\n"
    "T2\tENFERMEDAD 7 16\tand colon\n#2\tAnnotatorNotes T2\tC0011849 C0018099\n#3\tAnnotatorNotes T2\tUMLS:C0000001\n"
    "T3\tENFERMEDAD 37 40\tflu\nN1\tReference T3 UMLS:C0021400\tx\n#4\tAnnotatorNotes T3\tC0000002\n"
    "T4\tENFERMEDAD 21 25\tlung\n#5\tAnnotatorNotes T4\tnot sure, C0000003\n#6\tAnnotatorNotes R1\tC0000004\n"
    "T5\tENFERMEDAD 26 32\tcancer\n#7\tAnnotatorNotes T5\t-\n#8\tNormalization T5\tC0000005\n"
)


@pytest.mark.parametrize(
    ("note_ids", "ids", "notes"),
    [
        ("auto", [["C0018099"], ["C0011849", "C0018099", "C0000001"], ["C0021400"], [""], [""]], 5),
        ("all", [["C0018099"], ["C0011849", "C0018099", "C0000001"], ["C0021400"], ["not sure", "C0000003"], [""]], 3),
        ("none", [[""], [""], ["C0021400"], [""], [""]], 8),
    ],
)
def test_brat_ids_in_notes(brat_of, note_ids, ids, notes):
    """As in QUAERO, Mantra and CANTEMIST; a mention with an N line has its ids there."""
    folder = brat_of(NOTES)
    corpus = Corpus(reader="brat", kb="k", id_prefix="CUI", note_ids=note_ids, splits={s: [str(folder)] for s in ("train", "test")})
    reading = readers.read(corpus, "train")
    [document] = reading.documents
    found = {a.surface(document.text): [i.removeprefix("CUI:") for i in a.ids] for a in document.annotations}
    assert list(map(found.get, ("Gout", "and colon", "flu", "lung", "cancer"))) == ids
    assert reading.skipped["note"] == notes
    assert reading.handled["notes read as concept ids"] == 8 - notes


@pytest.mark.parametrize(
    ("prefix", "code", "read_so"),
    [
        ("ICDO", "8000/6", True),
        ("ICDO", "8010/3/H", True),
        ("SNOMEDCT_US", "373282002", True),
        ("MSH", "C0018099", False),
        ("MSH", "C0018099 C0011849", False),
        ("MSH", "D006073", True),
        ("ACME", "17", False),
    ],
)
def test_brat_notes_are_ids_by_the_form_of_their_vocabulary(brat_of, prefix, code, read_so):
    folder = brat_of(f"T1\tX 0 4\tGout\n#1\tAnnotatorNotes T1\t{code}\n")
    reading = read(brat.stream, folder, prefix)
    assert reading.documents[0].annotations[0].ids == ((f"{prefix}:{code}",) if read_so else ("",))
    assert reading.skipped["note"] == (not read_so)
    assert (brat.OTHER_NOTES in reading.handled) != read_so
    assert {kind: list(rows) for (kind, _), rows in reading.skipped_at.items()} == ({} if read_so else {"note": [2]})


@pytest.mark.parametrize(
    ("note", "ann", "spans"),
    [
        ("Known coronary artery\ndisease and gout.", "T1\tD 6 21;22 29\tcoronary artery disease", ((6, 29),)),
        ("Known coronary artery \n  disease and gout.", "T1\tD 6 21;25 32\tcoronary artery disease", ((6, 32),)),
        ("Known coronary artery\r\ndisease and gout.", "T1\tD 6 21;23 30\tcoronary artery disease", ((6, 30),)),
        ("Known coronary\nartery\ndisease and gout.", "T1\tD 6 14;15 21;22 29\tcoronary artery disease", ((6, 29),)),
        ("Known coronary or left\nartery\ndisease.", "T1\tD 6 14;23 29;30 37\tcoronary artery disease", ((6, 14), (23, 37))),
        ("Known coronary artery disease.", "T1\tD 6 14;15 21\tcoronary artery", ((6, 14), (15, 21))),
    ],
)
def test_brat_pieces_at_line_ends_are_one(brat_of, note, ann, spans):
    reading = read(brat.stream, brat_of(ann + "\n", note))
    assert [a.spans for a in reading.documents[0].annotations] == [spans]
    assert reading.repairs == []


CRLF = "Two brothers.\r\nOne had gout.\r\nOne had asthma or colon\r\ncancer.\r\n"
LF_ANN = "T1\tDisease 22 26\tgout\nT2\tDisease 36 42\tasthma\nT3\tDisease 46 51;52 58\tcolon cancer\n"


def test_brat_counts_of_line_ends(brat_of):
    """BRAT itself counts CRLF as one character; the marked texts tell."""
    folder = brat_of(LF_ANN, CRLF)
    fails(brat.stream, folder, "offsets count other line ends", "n1.ann:1")
    corpus = Corpus(reader="brat", kb="k", text="crlf_to_lf", splits={s: [str(folder)] for s in ("train", "test")})
    reading = readers.read(corpus, "train")
    [document] = reading.documents
    assert document.text == CRLF.replace("\r\n", "\n")
    assert [a.surface(document.text) for a in document.annotations] == ["gout", "asthma", "colon\ncancer"]
    assert reading.handled["texts with CRLF line ends whose offsets count them as one character"] == 1
    # Offsets that count both characters are read by either policy, and a wrong one stays an error.
    both = "T1\tDisease 23 27\tgout\nT2\tDisease 38 44\tasthma\n"
    for policy in ("none", "crlf_to_lf"):
        corpus = Corpus(reader="brat", kb="k", text=policy, splits={s: [str(brat_of(both, CRLF))] for s in ("train", "test")})
        [document] = readers.read(corpus, "train").documents
        assert [a.surface(document.text) for a in document.annotations] == ["gout", "asthma"]
    fails(brat.stream, brat_of(LF_ANN + "T4\tDisease 0 3\tOne\n", CRLF), "wrong offset", "n1.ann:1")


def test_brat_offsets_of_a_text_whose_carriage_returns_are_gone(brat_of):
    """The other way: annotated with CRLF, and converted since."""
    ann = "T1\tDisease 23 27\tgout\nT2\tDisease 38 44\tasthma\nT3\tDisease 48 53;55 61\tcolon cancer\n"
    folder = brat_of(ann, CRLF.replace("\r\n", "\n"))
    with pytest.raises(
        UserError, match=r"offsets count other line ends in .*n1.ann:1: the text has LF line ends, .* as two characters; set `text: crlf_to_lf`"
    ):
        read(brat.stream, folder)
    corpus = Corpus(reader="brat", kb="k", text="crlf_to_lf", splits={s: [str(folder)] for s in ("train", "test")})
    [document] = readers.read(corpus, "train").documents
    assert document.text == CRLF.replace("\r\n", "\n")
    assert [a.surface(document.text) for a in document.annotations] == ["gout", "asthma", "colon\ncancer"]


@pytest.mark.parametrize(
    ("ann", "what", "row"),
    [
        ("T1\tDisease 0 4\n", "truncated line", 1),
        ("T1\tDisease 0 4\tGout\nT1\tDisease 0 4\tGout\n", "id given twice", 2),
        ("T1\tDisease 0 4\tFlu\n", "wrong offset", 1),
        ("T1\tDisease 0\tGout\n", "bad offset", 1),
        ("T1\tDisease 0 4;4 999\tGout\n", "span outside of text", 1),
        ("T1\tDisease 0 4;2 6\tGout\n", "overlapping pieces", 1),
        ("T1\tDisease 4 5\t \n", "wrong offset", 1),
        ("\nN1\tReference T1 MESH:D1\tx\n", "concept of no mention", 2),
        ("T1\tDisease 0 4\tGout\nN1\tReference T1 D1\tx\n", "bad normalization", 2),
        ("T1\tDisease 0 4\tGout\nN1\n", "bad normalization", 2),
        ("R1 Of\n", "truncated line", 1),
        ("Gout\n", "line of no known kind", 1),
        ("T 0 4\n", "line of no known kind", 1),
    ],
)
def test_brat_faults_name_file_and_row(brat_of, ann, what, row):
    fails(brat.stream, brat_of(ann), what, f"n1.ann:{row}")


def test_brat_folders(brat_of, tmp_path):
    fails(brat.stream, brat_of(files={"n2.txt": "x"}), "incomplete note", "n2.txt")
    fails(brat.stream, tmp_path / "none", "missing folder", "none")


# ----------------------------------------------------------------------------------------------------------------- conll

CONLL = (
    "-DOCSTART-\t7\n\nGout\tB-Disease\tD006073\nand\tO\ncolon\tB-Disease\tD003110|D008175\ncancer\tI-Disease\tD003110|D008175\n"
    "flu\tB-Disease\n\n\nNo\tO\t_\naspirin\tB-Chemical\tD1\n.\tO\n-DOCSTART-\t(8)\nflu\tI-Disease\t-1\n"
)


def write(tmp_path, content, name="corpus.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_conll_rebuilds_text_by_its_rules(tmp_path):
    reading = read(conll.stream, write(tmp_path, CONLL), types=("Disease",))
    assert [(d.doc_id, d.text) for d in reading.documents] == [("7", "Gout and colon cancer flu\nNo aspirin ."), ("8", "flu")]
    assert reading.documents[0].annotations == (
        Annotation(((0, 4),), "Disease", ("MSH:D006073",)),
        Annotation(((9, 21),), "Disease", ("MSH:D003110", "MSH:D008175"), composite=True),
        Annotation(((22, 25),), "Disease", ("",)),
    )
    assert reading.documents[1].annotations == (Annotation(((0, 3),), "Disease", ("",)),)
    assert +reading.skipped == {"entity type Chemical": 1}
    assert +reading.handled == {"mentions that begin with an I tag": 1}


def test_conll_without_document_starts_has_a_document_per_sentence(tmp_path):
    documents = read(conll.stream, write(tmp_path, "A O\nflu B-X\n\n\nB\tO\n", "train.tsv")).documents
    assert [(d.doc_id, d.text, len(d.annotations)) for d in documents] == [("train.1", "A flu", 1), ("train.2", "B", 0)]


def test_conll_tags_without_types(tmp_path):
    """As in the files that come with BioBERT: a token and its tag, B, I or O."""
    reading = read(conll.stream, write(tmp_path, "Identification\tO\nof\tO\nadenomatous\tB\npolyposis\tI\ncoli\tI\ngout\tB\n.\tO\n\nflu\tI\n", "train.tsv"))
    found = [(d.doc_id, [(a.surface(d.text), a.entity_type) for a in d.annotations]) for d in reading.documents]
    assert found == [("train.1", [("adenomatous polyposis coli", "Entity"), ("gout", "Entity")]), ("train.2", [("flu", "Entity")])]
    assert +reading.handled == {"mentions whose tags have no type: taken for Entity": 2, "mentions that begin with an I tag": 1}
    assert read(conll.stream, tmp_path / "train.tsv", types=("Disease",)).skipped == {"entity type Entity": 3}


def test_conll_2003_has_four_columns(tmp_path):
    documents = read(conll.stream, write(tmp_path, "-DOCSTART- -X- -X- O\n\nthe DT B-NP O\nflu NN I-NP B-X\n")).documents
    assert [(d.doc_id, d.text, [a.surface(d.text) for a in d.annotations]) for d in documents] == [("corpus.1", "the flu", ["flu"])]


@pytest.mark.parametrize(
    ("content", "what", "row"),
    [
        ("flu\n", "truncated line", 1),
        ("\nflu\tB-X\ta\tb\tc\n", "overlong line", 2),
        ("flu\tS-X\n", "tag that is not IOB2", 1),
        ("flu\tX\n", "tag that is not IOB2", 1),
        ("flu\tB-X\nof\tE-X\n", "tag that is not IOB2", 2),
        ("a b\tB-X\n", "bad token", 1),
        ("\tB-X\n", "bad token", 1),
        ("a\tB-X\tD1\nb\tI-X\tD2\n", "mention with differing ids", 2),
        ("a\tO\tD1\n", "ids without mention", 1),
        ("a\tO\n\n-DOCSTART-\t1\n", "document start after sentences", 3),
    ],
)
def test_conll_faults_name_file_and_row(tmp_path, content, what, row):
    fails(conll.stream, write(tmp_path, content), what, f"corpus.txt:{row}")


# ----------------------------------------------------------------------------------------------------------------- jsonl

GOOD = {
    "doc_id": "1",
    "text": "Gout and flu",
    "mentions": [{"spans": [[0, 4], [9, 12]], "concept_ids": ["MESH:D1", None, "D1", "NA"]}, {"spans": [{"start": 9, "end": 12}]}],
}


def test_jsonl_reads_the_model(tmp_path):
    more = {**GOOD, "doc_id": "2", "year": 1, "mentions": [{"spans": [[0, 4]], "entity_type": "X", "surface": "Gout", "note": ""}]}
    path = write(tmp_path, "\ufeff" + json.dumps(GOOD) + "\r\n\r\n" + json.dumps(more), "a.jsonl")
    reading = read(records.stream_jsonl, path)
    assert reading.documents[0].annotations == (
        Annotation(((0, 4), (9, 12)), "", ("MSH:D1", ""), composite=True),
        Annotation(((9, 12),), "", ("",)),
    )
    assert reading.documents[1].annotations == (Annotation(((0, 4),), "X", ("",)),)
    assert reading.documents[1].where == f"{path}:3"
    assert +reading.skipped == {"key year": 1, "key of mentions: note": 1}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"doc_id": "1", "doc_id": "2", "text": "", "mentions": []}', "no JSON object"),
        ('{"doc_id": "1", "text": ""}', "missing key"),
        ('{"doc_id": 1, "text": "", "mentions": []}', "bad value"),
        ('{"doc_id": "", "text": "", "mentions": []}', "document without id"),
        ('{"doc_id": "1", "text": "\\ud800", "mentions": []}', "bad value"),
        ('{"doc_id": "1", "text": "", "mentions": [1]}', "bad value"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{}]}', "missing key"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{"spans": []}]}', "mention without span"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{"spans": [[0, true]]}]}', "bad offset"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{"spans": [[-1, 2]]}]}', "bad offset"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{"spans": [[0, 9]]}]}', "span outside of text"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{"spans": [[0, 3]], "surface": "cold"}]}', "wrong offset"),
        ('{"doc_id": "1", "text": "flu", "mentions": [{"spans": [[0, 3]], "concept_ids": ["A", "B"], "composite": false}]}', "bad value"),
    ],
)
def test_jsonl_faults_name_file_and_row(tmp_path, line, what):
    fails(records.stream_jsonl, write(tmp_path, json.dumps(GOOD) + "\n" + line, "a.jsonl"), what, "a.jsonl:2")


def test_parquet_reads_the_model_and_names_the_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**GOOD, "mentions": [{"spans": [{"start": 0, "end": 4}], "concept_ids": None}], "year": 1}, {**GOOD, "doc_id": "2", "mentions": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    reading = read(records.stream_parquet, tmp_path / "a.parquet")
    assert [(d.doc_id, d.annotations) for d in reading.documents] == [("1", (Annotation(((0, 4),), "", ("",)),)), ("2", ())]
    assert +reading.skipped == {"key year": 2}
    rows[1]["mentions"] = [{"spans": [{"start": 0, "end": 40}], "concept_ids": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    fails(records.stream_parquet, tmp_path / "a.parquet", "span outside of text", "a.parquet:2")
    fails(records.stream_parquet, write(tmp_path, b"PAR1", "b.parquet"), "damaged file", "b.parquet:1")


# ------------------------------------------------------------------------------------------------------------------ bioc


def bioc_xml(body: str, head="") -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<collection><source/><date/><key/>\n<document><id>1</id>\n{body}</document></collection>'


MENTION = '<annotation id="0"><infon key="type">Disease</infon>{ids}<location offset="{at}" length="{n}"/><text>{text}</text></annotation>\n'
PASSAGES = "<passage><offset>0</offset><text>Gout &amp; colon</text>\n{first}</passage>\n<passage><offset>13</offset><sentence><offset>13</offset><text>or lung</text></sentence><sentence><offset>21</offset><text>cancer</text>{second}</sentence></passage>\n"


def mention(at, text, ids="", n=None):
    return MENTION.format(at=at, n=len(text) if n is None else n, text=text, ids=ids)


def test_bioc_reads_passages_sentences_and_infons(tmp_path):
    first = mention(0, "Gout", '<infon key="MESH">D006073</infon>')
    parts = '<annotation id="2"><infon key="type">Disease</infon><infon key="identifier">MESH:D003110|-1</infon><location offset="21" length="6"/><location offset="7" length="5"/><text>cancer colon</text></annotation>'
    single = mention(16, "lung", '<infon key="CompositeRole">IndividualMention</infon>')
    relation = '<relation id="R0"><infon key="relation">CID</infon></relation>'
    other = mention(16, "lung").replace("Disease", "Chemical")
    # An annotation with pieces in two passages belongs to the document.
    path = write(
        tmp_path, bioc_xml(PASSAGES.format(first=first, second=other + single) + parts + relation, '<!DOCTYPE collection SYSTEM "BioC.dtd">\n'), "a.xml"
    )
    reading = read(bioc.stream, path, types=("Disease",))
    [document] = reading.documents
    assert document.text == "Gout & colon or lung cancer"
    assert document.annotations == (
        Annotation(((0, 4),), "Disease", ("MSH:D006073",)),
        Annotation(((7, 12), (21, 27)), "Disease", ("MSH:D003110", ""), composite=True),
    )
    assert +reading.skipped == {"entity type Chemical": 1, "individual mention of a composite one": 1, "relation CID": 1}
    assert [r.reason for r in reading.repairs] == ["pieces not in rising order"]


@pytest.mark.parametrize(
    ("content", "what", "row"),
    [
        (bioc_xml(PASSAGES.format(first="", second=mention(22, "cancer"))), "span outside of text", 6),
        (bioc_xml(PASSAGES.format(first=mention(1, "Gout"), second="")), "wrong offset", 5),
        (bioc_xml(PASSAGES.format(first=mention("x", "Gout"), second="")), "bad offset", 5),
        (bioc_xml(PASSAGES.format(first="", second="").replace("<offset>13", "<offset>3", 2)), "passages overlap", 6),
        (bioc_xml(PASSAGES.format(first="", second="").replace("<offset>21", "<offset>99999999")), "bad offset", 6),
        (bioc_xml(PASSAGES.format(first="<anotation/>", second="")), "unknown element", 5),
        (bioc_xml("<document><id>2</id></document>"), "element out of place", 4),
        (bioc_xml("").replace("<key/>", mention(0, "Gout")), "element out of place", 2),
        (bioc_xml("")[:-20], "no well-formed XML", 4),
        (bioc_xml("").replace("<id>1</id>", ""), "document without id", 3),
        ("<html/>", "no BioC collection", 1),
        ("", "no well-formed XML", 1),
        (bioc_xml("<passage><offset>0</offset><text>Gout<text/></text></passage>"), "element out of place", 4),
        (bioc_xml("\n<infon key='x'>Gout&x;</infon>", '<!DOCTYPE collection SYSTEM "BioC.dtd">'), "entity in a document", 5),
        (bioc_xml("<passage><offset>0</offset><text>Gout</text><text>flu</text></passage>"), "element given twice", 4),
        (bioc_xml("<passage><offset>0</offset><text>Gout</text></passage>") + "<x/>", "no well-formed XML", 4),
    ],
)
def test_bioc_faults_name_file_and_row(tmp_path, content, what, row):
    fails(bioc.stream, write(tmp_path, content, "a.xml"), what, f"a.xml:{row}")


def two_passages(second: str, third: str = "", text: str = "Gout was seen in two brothers.") -> str:
    first = mention(0, "Gout")
    return bioc_xml(
        f"<passage><offset>0</offset><text>Gout in families.</text>{first}</passage>\n"
        f"<passage><offset>18</offset><text>{text}</text>\n{second}\n{third}</passage>\n"
    )


def test_bioc_offsets_from_the_passage_are_read_where_all_are(tmp_path):
    """kindred and other writers count them so. BioC's own count from the document's beginning."""
    path = write(tmp_path, two_passages(mention(0, "Gout"), mention(17, "two brothers")), "a.xml")
    reading = read(bioc.stream, path)
    [document] = reading.documents
    assert [(a.spans, a.surface(document.text)) for a in document.annotations] == [
        (((0, 4),), "Gout"),
        (((18, 22),), "Gout"),
        (((35, 47),), "two brothers"),
    ]
    assert reading.handled[bioc.COUNTS_FROM_PASSAGE] == 2


@pytest.mark.parametrize(
    ("second", "third", "what", "row"),
    [
        (mention(18, "Gout"), mention(17, "two brothers"), "offsets of two kinds", 9),
        (mention(0, "Gout"), mention(35, "two brothers"), "offsets of two kinds", 9),
        (mention(8, "families"), "", "annotation outside of its passage", 7),
        (mention(0, "Gout").replace("<text>Gout</text>", ""), "", "annotation outside of its passage", 7),
        (mention(12, "lies. Gout"), "", "annotation outside of its passage", 7),
        (mention(0, "Flu"), "", "annotation outside of its passage", 7),
        (mention(18, "Flu "), "", "wrong offset", 7),
    ],
)
def test_bioc_annotations_lie_in_their_passage(tmp_path, second, third, what, row):
    fails(bioc.stream, write(tmp_path, two_passages(second, third), "a.xml"), what, f"a.xml:{row}")


def test_bioc_annotations_of_the_first_passage_do_not_lie_in_the_second(tmp_path):
    content = two_passages("").replace('offset="0" length="4"/><text>Gout', 'offset="31" length="2"/><text>in')
    fails(bioc.stream, write(tmp_path, content, "a.xml"), "annotation outside of its passage", "a.xml:4")


@pytest.mark.parametrize("ids", ["MESH:D006073;MESH:D001249", "D006073,D001249", "D006073|D001249", "MESH:D006073|D001249", "D006073 D001249"])
@pytest.mark.parametrize("key", ["identifier", "MESH"])
def test_bioc_lists_of_ids(tmp_path, ids, key):
    body = (
        f"<passage><offset>0</offset><text>Gout and asthma</text>{mention(0, 'Gout and asthma', f'<infon key={chr(34)}{key}{chr(34)}>{ids}</infon>')}</passage>"
    )
    [document] = read(bioc.stream, write(tmp_path, bioc_xml(body), "a.xml")).documents
    assert document.annotations[0].ids == ("MSH:D006073", "MSH:D001249") and document.annotations[0].composite


@pytest.mark.parametrize("none", ["-", "-1", "", "None", "NA"])
def test_bioc_ids_of_a_vocabulary_stand_in_where_the_identifier_is_none(tmp_path, none):
    body = f"<passage><offset>0</offset><text>Gout</text>{mention(0, 'Gout', f'<infon key={chr(34)}identifier{chr(34)}>{none}</infon><infon key={chr(34)}MESH{chr(34)}>D006073</infon>')}</passage>"
    [document] = read(bioc.stream, write(tmp_path, bioc_xml(body), "a.xml")).documents
    assert document.annotations[0].ids == ("MSH:D006073",)


# ------------------------------------------------------------------------------------------------------------- bioc, json


def as_json(source: Path, layout: str) -> str:
    """A PubTator file as BioC JSON, by the bioc library alone, in the layouts that services give."""
    from bioc import biocjson, biocxml

    bioc_of(source, source.parent / "via.xml")
    with open(source.parent / "via.xml", "rb") as handle:
        collection = biocxml.load(handle)
    whole = json.loads(biocjson.dumps(collection))
    return {
        "collection": lambda: biocjson.dumps(collection),
        "indented": lambda: biocjson.dumps(collection, indent=1),
        "list of collections": lambda: json.dumps([whole]),
        "list of documents": lambda: json.dumps(whole["documents"]),
        "PubTator3": lambda: json.dumps({"PubTator3": whole["documents"]}),
        "a document per line": lambda: "\n".join(map(json.dumps, whole["documents"])) + "\n",
    }[layout]()


@pytest.mark.parametrize("layout", ["collection", "indented", "list of collections", "list of documents", "PubTator3", "a document per line"])
@pytest.mark.parametrize("name", ["a.json", "a.xml", "a.json.gz"])
def test_bioc_json_has_what_pubtator_has(tmp_path, root, layout, name):
    source = tmp_path / "source.txt"
    source.write_bytes((root / "resources/demo/bc5cdr/test.txt").read_bytes())
    content = ("\ufeff" * (layout == "indented") + as_json(source, layout)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    published, converted = pubtator.read(source, "MSH", ("Disease",)), read(bioc.stream, tmp_path / name, types=("Disease",))
    assert len(published.documents) == 40
    assert [(d.doc_id, d.text, d.annotations) for d in converted.documents] == [(d.doc_id, d.text.rstrip(), d.annotations) for d in published.documents]
    for kind in ("relation CID", "entity type Chemical"):
        assert converted.skipped[kind] == published.skipped[kind] > 0


JSON = {
    "source": "x",
    "documents": [
        {
            "id": 7,
            "_id": "7|None",
            "pmcid": None,
            "passages": [
                {"offset": 0, "infons": {"type": "title"}, "text": "Gout – here", "sentences": [], "annotations": [], "relations": []},
                {
                    "offset": 12,
                    "sentences": [
                        {"offset": 12, "text": "Flu.", "annotations": []},
                        {
                            "offset": 17,
                            "text": "No gout.",
                            "annotations": [
                                {
                                    "id": "1",
                                    "infons": {"identifier": None, "MESH": ["D006073", "D1"], "type": "Disease", "valid": True},
                                    "text": "gout",
                                    "locations": [{"offset": 20, "length": 4}],
                                }
                            ],
                        },
                    ],
                },
            ],
            "annotations": [{"id": "2", "infons": {"type": "X"}, "locations": [{"offset": "0", "length": "4"}, {"offset": 12, "length": 3}]}],
            "relations": [{"infons": {"type": "CID"}}],
        }
    ],
}


def test_bioc_json_reads_every_level(tmp_path):
    reading = read(bioc.stream, write(tmp_path, json.dumps(JSON), "a.json"))
    [document] = reading.documents
    assert (document.doc_id, document.text) == ("7", "Gout – here Flu. No gout.")
    assert document.annotations == (
        Annotation(((0, 4), (12, 15)), "X", ("",)),
        Annotation(((20, 24),), "Disease", ("MSH:D006073", "MSH:D1"), composite=True),
    )
    assert +reading.skipped == {"relation CID": 1, "key of documents: _id": 1}
    assert +reading.handled == {"infons valid: not read": 1}


@pytest.mark.parametrize(
    ("content", "what", "row"),
    [
        ('{"documents": [\n{"id": "1", "passages": []},\n{"id": "2"', "no well-formed JSON", 3),
        ('{"documents": [{"id": "1", "id": "2", "passages": []}]}', "no well-formed JSON", 1),
        ('{"documents": []}', "no BioC collection", 1),
        ("[" * 100_000, "no well-formed JSON", 1),
        ('{"documents": [' + '{"a":' * 100_000, "no well-formed JSON", 1),
        ('{"documents": [\n1]}', "bad value", 2),
        ('{"documents": [\n{"passages": []}]}', "document without id", 2),
        ('{"documents": [\n{"id": "1", "passages": {}}]}', "bad value", 2),
        ('{"documents": [\n{"id": "1", "passages": [{"text": "Gout"}]}]}', "bad offset", 2),
        ('{"documents": [\n{"id": "1", "passages": [{"offset": 1.5, "text": "Gout"}]}]}', "bad value", 2),
        ('{"documents": [\n{"id": "1", "passages": [{"offset": 0, "text": "\\ud800"}]}]}', "bad value", 2),
        ('{"documents": [\n{"id": "1", "passages": [{"offset": %s, "text": ""}]}]}' % ("9" * 5000), "no well-formed JSON", 2),
        (
            '{"documents": [\n\n{"id": "1", "passages": [{"offset": 0, "text": "Flu", "annotations": [{"locations": [{"offset": 0, "length": 9}]}]}]}]}',
            "span outside of text",
            3,
        ),
        ('{"documents": [{"id": "1", "passages": [{"offset": 0, "text": "Flu", "annotations": [{}]}]}]}', "mention without span", 1),
        ('{"documents": [{"id": "1", "passages": []}]} x', "no well-formed JSON", 1),
    ],
)
def test_bioc_json_faults_name_file_and_row(tmp_path, content, what, row):
    fails(bioc.stream, write(tmp_path, content, "a.json"), what, f"a.json:{row}")


def test_bioc_resolves_no_entities(tmp_path):
    secret = write(tmp_path, "secret")
    body = "<passage><offset>0</offset><text>{}</text></passage>"
    for declared in (f'<!ENTITY x SYSTEM "{secret.as_uri()}">', '<!ENTITY x "secret">', f'<!ENTITY % p SYSTEM "{secret.as_uri()}"> %p;'):
        path = write(tmp_path, bioc_xml(body.format("&x;"), f"<!DOCTYPE collection [{declared}]>\n"), "a.xml")
        with pytest.raises(UserError) as caught:
            read(bioc.stream, path)
        assert caught.value.what in ("entities in the document type", "no well-formed XML") and "secret" not in str(caught.value)


def test_bioc_counts_the_infons_it_does_not_read(tmp_path):
    infons = '<infon key="MeSH">D1|D2</infon><infon key="Origin">x</infon>'
    body = f"<passage><offset>0</offset><text>Gout</text>{mention(0, 'Gout', infons)}</passage>"
    reading = read(bioc.stream, write(tmp_path, bioc_xml(body), "a.xml"), "CUI")
    assert reading.documents[0].annotations[0].ids == ("MSH:D1", "MSH:D2")
    assert +reading.handled == {"infons origin: not read": 1}


def test_bioc_is_no_bomb(tmp_path):
    """Entities of entities, in text and in an attribute, end at once and in an error."""
    declared = '<!ENTITY a "0000000000">' + "".join(f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefghi", "bcdefghij", strict=True))
    for body in ("<infon key='&j;'/>", "<passage><text>&j;</text></passage>"):
        with pytest.raises(UserError) as caught:
            read(bioc.stream, write(tmp_path, bioc_xml(body, f"<!DOCTYPE collection [{declared}]>"), "a.xml"))
        assert caught.value.what in ("entities in the document type", "no well-formed XML")


def test_bioc_declares_its_encoding(tmp_path):
    content = bioc_xml("<passage><offset>0</offset><text>Sjögren</text></passage>").replace("UTF-8", "ISO-8859-1")
    [document] = read(bioc.stream, write(tmp_path, content.encode("latin-1"), "a.xml")).documents
    assert document.text == "Sjögren"


def bioc_of(path: Path, out: Path) -> None:
    """A PubTator file as BioC XML, by the bioc library alone: title and abstract are passages, BC5CDR's ids an infon MESH."""
    import bioc as library
    from bioc import biocxml
    from bioc import pubtator as published

    collection = library.BioCCollection()
    for found in published.load(path.open(encoding="utf-8")):
        document = library.BioCDocument()
        document.id = found.pmid
        starts = [0, len(found.title) + 1]
        for offset, text in zip(starts, (found.title, found.abstract), strict=True):
            passage = library.BioCPassage()
            passage.offset, passage.text = offset, text
            document.add_passage(passage)
        for i, a in enumerate(found.annotations):
            annotation = library.BioCAnnotation()
            annotation.id, annotation.text = str(i), a.text
            annotation.infons = {"type": a.type, "MESH": a.id}
            annotation.add_location(library.BioCLocation(a.start, a.end - a.start))
            document.passages[a.start >= starts[1]].add_annotation(annotation)
        for i, _ in enumerate(found.relations):
            relation = library.BioCRelation()
            relation.id, relation.infons = f"R{i}", {"relation": "CID"}
            document.add_relation(relation)
        collection.add_document(document)
    out.write_text(biocxml.dumps(collection), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "documents", "mentions"),
    [
        ("ncbi_disease/NCBItrainset_corpus.txt", 593, 5145),
        ("ncbi_disease/NCBIdevelopset_corpus.txt", 100, 787),
        ("ncbi_disease/NCBItestset_corpus.txt", 100, 960),
        ("bc5cdr/CDR_TrainingSet.PubTator.txt", 500, 4182),
        ("bc5cdr/CDR_DevelopmentSet.PubTator.txt", 500, 4244),
        ("bc5cdr/CDR_TestSet.PubTator.txt", 500, 4424),
    ],
)
def test_bioc_has_what_pubtator_has(shared_data, tmp_path, name, documents, mentions):
    bioc_of(shared_data / name, tmp_path / "a.xml")
    types = ("Disease",) if "bc5cdr" in name else ()
    published, converted = pubtator.read(shared_data / name, "MSH", types), read(bioc.stream, tmp_path / "a.xml", types=types)
    assert (len(converted.documents), sum(len(d.annotations) for d in converted.documents)) == (documents, mentions)
    assert [d.doc_id for d in converted.documents] == [d.doc_id for d in published.documents]
    for one, other in zip(converted.documents, published.documents, strict=True):
        assert one.text == other.text.rstrip()  # the library strips lines
        assert one.annotations == other.annotations
    assert converted.skipped["relation CID"] == published.skipped["relation CID"]


# ----------------------------------------------------------------------------------------------------------- medmentions

FULL = "1|t|Gout here\n1|a|No DCTN4.\n1\t0\t4\tGout\tT047,T033\tC0018099\n1\t13\t18\tDCTN4\tT116,T123\tC4308010\n"


@pytest.mark.parametrize("written", ["C0018099", "UMLS:C0018099"])
def test_medmentions_ids_and_types(tmp_path, written):
    path = tmp_path / "corpus_pubtator.txt.gz"
    path.write_bytes(gzip.compress(FULL.replace("C0018099", written).encode()))
    corpus = Corpus(reader="medmentions", kb="k", source=(str(path),), splits={"train": ["a"], "test": ["b"]}, entity_types=["T047"])
    reading = read(registry.READERS["medmentions"], path, corpus.id_prefix, corpus.entity_types)
    assert reading.documents[0].annotations == (Annotation(((0, 4),), "T047,T033", ("CUI:C0018099",)),)
    assert +reading.skipped == {"entity type T116,T123": 1}


def test_the_prefix_of_a_reader_is_a_default(tmp_path):
    splits = {"train": ["a"], "test": ["b"]}
    assert Corpus(reader="medmentions", kb="k", splits=splits, id_prefix="MSH").id_prefix == "MSH"
    assert Corpus(reader="pubtator", kb="k", splits=splits).id_prefix == "MSH"


# ---------------------------------------------------------------------------------------------------------------- splits

MANY = "".join(
    f"{i}|t|Gout {i}\n{i}|a|Flu.\n{i}\t0\t4\tGout\tDisease\tD1\n{i}\t{len(str(i)) + 6}\t{len(str(i)) + 9}\tFlu\tX\tD2\n{i}\tCID\tD1\tD2\n\n" for i in range(40)
)


def by_split(corpus: Corpus):
    found = {}
    for split in corpus.split_names:
        reading = readers.read(corpus, split)
        found[split] = [d.doc_id for d in reading.documents], reading
    return found


def test_lists_of_ids_split_one_source_and_lose_nothing(tmp_path):
    source = write(tmp_path, MANY)
    train, test = (write(tmp_path, "\r\n".join(map(str, ids)) + "\n# end\n", f"{ids.start}.txt") for ids in (range(0, 25), range(30, 40)))
    corpus = Corpus(reader="pubtator", kb="k", source=[str(source)], splits={"test": [str(test)], "train": [str(train)]}, entity_types=["Disease"])
    found = by_split(corpus)
    assert found["train"][0] == [str(i) for i in range(25)]
    assert found["test"][0] == [str(i) for i in range(30, 40)]
    skipped = Counter()
    for _, reading in found.values():
        skipped += reading.skipped
    assert skipped == {"entity type X": 40, "relation CID": 40, "documents of no split": 5, "mentions of documents of no split": 5}
    assert found["test"][1].skipped == {"entity type X": 10, "relation CID": 10}


def test_lists_name_notes_of_one_folder(tmp_path):
    (tmp_path / "notes").mkdir()
    for i in range(3):
        (tmp_path / f"notes/n{i}.text").write_text(f"flu {i}")
        (tmp_path / f"notes/n{i}.pipe").write_text(f"n{i}.text|0-3|C1|\n")
    lists = {split: [str(write(tmp_path, names, split))] for split, names in (("train", "n2.text\nn0\n"), ("test", "n1.pipe"))}
    found = by_split(Corpus(reader="share", kb="k", source=[str(tmp_path / "notes")], splits=lists))
    assert {split: ids for split, (ids, _) in found.items()} == {"train": ["n0", "n2"], "test": ["n1"]}


def test_lists_are_checked(tmp_path):
    source = write(tmp_path, MANY)
    train = write(tmp_path, "1\n2\n", "train")

    def corpus(test: str) -> Corpus:
        return Corpus(reader="pubtator", kb="k", source=[str(source)], splits={"train": [str(train)], "test": [str(write(tmp_path, test, "test"))]})

    with pytest.raises(UserError, match=r"document listed twice in .*test:2: 2 is in .*train:2 too"):
        by_split(corpus("3\n2\n"))
    with pytest.raises(UserError, match=r"listed document missing in .*test:1: 77 is not in the source, nor are 1 more"):
        by_split(corpus("77\n78\n3"))
    with pytest.raises(UserError, match=r"empty list in .*test"):
        by_split(corpus("\n"))
    with pytest.raises(UserError, match=r"unreadable list in .*none"):
        splitting.read_lists({"train": [tmp_path / "none"]})


def test_the_config_checks_lists_before_anything_runs(root, tmp_path):
    import yaml

    for split in ("train", "test"):
        write(tmp_path, "1\n", split)
    entry = {"reader": "pubtator", "kb": "demo", "source": [str(write(tmp_path, MANY))], "splits": {s: [str(tmp_path / s)] for s in ("train", "test")}}
    raw = yaml.safe_load((root / "config.yaml").read_text())
    raw["experiment"]["recognition"][0]["corpora"] = ["mine"]
    with pytest.raises(UserError, match="document listed twice"):
        load_config(merge(raw, {"corpora": {"mine": entry}}), root=root)
    write(tmp_path, "2\n", "test")
    load_config(raw, root=root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": {}, "source": []}, "splits lacks test and train"),
        ({"seeded_split": {"shares": {"train": 0.5, "test": 0.5}}}, "seeded_split needs source, and no splits"),
        ({"splits": {}, "source": ["a"], "seeded_split": {"shares": {"train": 0.5, "test": 0.4}}}, "shares add up to 0.9, not 1"),
        ({"splits": {}, "source": ["a"], "seeded_split": {"shares": {"train": 0.5, "dev": 0.5}}}, "shares lacks test"),
    ],
)
def test_forms_of_splits(change, message):
    with pytest.raises(ValueError, match=message):
        Corpus.model_validate({"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}, **change})


def test_a_seeded_split_is_stable_and_near_its_shares(tmp_path):
    shares = {"test": 0.2, "train": 0.7, "dev": 0.1}
    before = {i: splitting.by_seed(str(i), 13, shares) for i in range(5000)}
    counts = Counter(before.values())
    # three standard deviations of a binomial with n = 5000
    assert all(abs(counts[s] - 5000 * p) < 3 * (5000 * p * (1 - p)) ** 0.5 for s, p in shares.items())
    assert before != {i: splitting.by_seed(str(i), 14, shares) for i in range(5000)}
    corpus = Corpus(reader="pubtator", kb="k", source=[str(write(tmp_path, MANY))], seeded_split={"shares": shares})
    found = by_split(corpus)
    assert sorted(i for ids, _ in found.values() for i in ids) == sorted(str(i) for i in range(40))
    assert all(before[int(i)] == split for split, (ids, _) in found.items() for i in ids)
    assert sum(r.skipped["relation CID"] for _, r in found.values()) == 40


def test_a_seeded_split_by_hand():
    """sha256sum of "13:1" begins 828aba01 and of "13:2" c997e26c: 0.50993 and 0.78747 of the way."""
    assert splitting.by_seed("1", 13, {"train": 0.51, "test": 0.49}) == "train"
    assert splitting.by_seed("1", 13, {"train": 0.5, "test": 0.5}) == "test"
    assert splitting.by_seed("2", 13, {"train": 0.6, "dev": 0.187, "test": 0.213}) == "test"
    assert splitting.by_seed("2", 13, {"train": 0.6, "dev": 0.188, "test": 0.212}) == "dev"


# ----------------------------------------------------------------------------------------------------------- text policy


def test_crlf_moves_offsets(tmp_path):
    document = Document("1", "Gout\r\nand\rcolon\r\ncancer\r\n", (Annotation(((0, 4),), "D", ("",)), Annotation(((10, 15), (17, 23)), "D", ("",))), "x")
    tally = Tally()
    changed = texts.normalized(document, "crlf_to_lf", tally)
    assert changed.text == "Gout\nand\rcolon\ncancer\n"
    assert [a.surface(changed.text) for a in changed.annotations] == ["Gout", "colon cancer"]
    assert tally.handled == {"texts changed by crlf_to_lf": 1, "places changed by crlf_to_lf": 3}
    assert tally.repairs == []
    assert texts.normalized(document, "none", tally) is document


def test_nfc_moves_offsets_and_widens_a_mention_that_cuts_a_letter():
    text = "Sjo\u0308gren e\u0301 flu"
    document = Document("1", text, (Annotation(((0, 8),), "D", ("",)), Annotation(((9, 10),), "D", ("",)), Annotation(((12, 15),), "D", ("",))), "x")
    tally = Tally()
    changed = texts.normalized(document, "nfc", tally)
    assert changed.text == unicodedata.normalize("NFC", text)
    assert [a.surface(changed.text) for a in changed.annotations] == ["Sjögren", "é", "flu"]
    assert [(r.published, r.used, r.reason) for r in tally.repairs] == [(((9, 10),), ((8, 9),), "widened by nfc")]


COMBINING = st.text(
    st.sampled_from("ae가각ᄀ\u1161\u11a8\u0301\u0308\u0323\u0344\u0f71\u0f73\u0958\u212b\u2126\u09be\u09c7 \r\n") | st.characters(codec="utf-8"), max_size=30
)


@settings(max_examples=300, deadline=None)
@given(COMBINING, st.data())
@example("\u0f71\u0f73\u0f71", None)
def test_text_policies_move_every_offset(text, data):
    """Whatever the text, it becomes what the standard library makes of it; a mention's text too, unless it was widened."""
    spans = sorted(data.draw(st.lists(st.tuples(st.integers(0, len(text)), st.integers(0, len(text))), max_size=3))) if data else []
    found = tuple(Annotation((span,), "D", ("",)) for span in spans if span[0] < span[1])
    for policy, change in (("nfc", lambda t: unicodedata.normalize("NFC", t)), ("crlf_to_lf", lambda t: t.replace("\r\n", "\n"))):
        tally = Tally()
        changed = texts.normalized(Document("1", text, found, "x"), policy, tally)
        assert changed.text == change(text)
        assert len(changed.annotations) == len(found)
        repaired = Counter(r.published for r in tally.repairs)
        wanted = Counter(change(a.surface(text)).removesuffix("\r" if policy == "crlf_to_lf" else "") for a in found if not repaired[a.spans])
        assert not wanted - Counter(a.surface(changed.text).removesuffix("\r" if policy == "crlf_to_lf" else "") for a in changed.annotations)


def test_policies_reach_the_reader(tmp_path):
    (tmp_path / "n").mkdir()
    (tmp_path / "n/a.text").write_bytes(b"No\r\nflu")
    (tmp_path / "n/a.pipe").write_text("a.text|4-7|C1|\n")
    corpus = Corpus(reader="share", kb="k", splits={s: [str(tmp_path / "n")] for s in ("train", "test")}, text="crlf_to_lf")
    [document] = readers.read(corpus, "train").documents
    assert (document.text, document.annotations[0].spans) == ("No\nflu", ((3, 6),))


@pytest.mark.parametrize("name", sorted(set(registry.READERS) - {"share", "brat"}))
def test_readers_of_files_want_files(tmp_path, name):
    with pytest.raises(UserError, match="folder where a file is needed"):
        read(registry.READERS[name], tmp_path)
    with pytest.raises(UserError) as caught:
        read(registry.READERS[name], tmp_path / "none")
    assert re.search("none", caught.value.where)
