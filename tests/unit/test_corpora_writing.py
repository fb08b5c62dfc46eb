"""Writers: what was written reads back as the same documents, and what a format cannot hold is an error or counted."""

import gzip
import re
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mentionforge import tables
from mentionforge.corpora import convert
from mentionforge.corpora.commands import app
from mentionforge.corpora.concept_ids import parse_id
from mentionforge.corpora.documents import Annotation, Document, ReadResult, annotation_from_ids, sorted_annotations
from mentionforge.corpora.formats import pubtator, registry
from mentionforge.corpora.formats.registry import READERS
from mentionforge.errors import UserError

FORMATS = sorted(registry.WRITERS)
MODELS = ("jsonl", "parquet")
"""Formats that hold everything."""

NASTY = 'ab \n\r\t|+;:-<&"{\ufeff\u2028\x85\x00\x1fé\u0301😀\xa0'
ALPHABETS = {
    "pubtator": "ab. |+;:-<\ufeff\u2028\x85\x00é\u0301😀",
    "brat": "ab. \n\r\t|+;:-<\u2028\x85\x00é\u0301😀",
    "bioc": "ab. \n\r\t|+;:-<&\"'>]\ufeff\u2028\x85é\u0301😀",
    "jsonl": NASTY,
    "parquet": NASTY,
}


@st.composite
def ids(draw, alphabet="aD1 :.-"):
    """Ids as readers give them: with vocabulary, or empty where there is none."""
    found = draw(st.lists(st.text(alphabet, max_size=6).map(lambda i: parse_id(i, "MSH")), min_size=0, max_size=3))
    return [parse_id(i, "") for i in found]


@st.composite
def mentions(draw, text, pieces=3, types="aZ_-", id_alphabet="aD1 :.-"):
    """Mentions of a text, in order: any pieces that are not blank and do not overlap."""
    found = []
    for _ in range(draw(st.integers(0, 4)) if text else 0):
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=2 * pieces)))
        spans = [s for s in zip(cuts[::2], cuts[1::2], strict=False) if text[slice(*s)].strip()]
        if spans:
            found.append(annotation_from_ids(spans, draw(st.text(types, min_size=1, max_size=4)), draw(ids(id_alphabet))))
    return sorted_annotations(found)


@st.composite
def documents(draw, form):
    """Documents that the format can hold, as far as it is easily said."""
    names = draw(st.lists(st.text("a1.-_é", min_size=1, max_size=4).filter(lambda n: not n.startswith(".")), unique=True, max_size=3))
    found = []
    for name in sorted(names):
        text = draw(st.text(ALPHABETS[form], min_size=2, max_size=30))
        if form == "pubtator":
            text += " " + draw(st.text(ALPHABETS[form], max_size=30))
        wild = form in MODELS
        kept = draw(mentions(text, 1 if form == "pubtator" else 3, NASTY if wild else "aZ_-", "aD1 :.-|+,;\t" if wild else "aD1 :.-"))
        if not wild:
            kept = tuple(a for a in kept if not any(map(is_list, a.ids)))
        found.append(Document(name, text, kept, "made:1"))
    return found


def refused_by_brat(folder: Path) -> list[str]:
    """T lines that BRAT would not take. Its rule: the text column is the marked pieces joined by one blank, and no piece holds a line end.

    Read here by Python's own line ends, as BRAT reads the file.
    """
    bad = []
    for path in sorted(folder.rglob("*.ann")):
        text = path.with_suffix(".txt").read_bytes().decode()
        for line in path.read_bytes().decode().splitlines():
            if line.startswith("T"):
                _, place, surface = line.split("\t", 2)
                pieces = [tuple(map(int, piece.split(" "))) for piece in place.split(" ", 1)[1].split(";")]
                marked = [text[start:end] for start, end in pieces]
                if " ".join(marked) != surface or any(len(piece.splitlines()) != 1 or piece.splitlines() != [piece] for piece in marked):
                    bad.append(line)
            elif not line.startswith(("N", "A", "#")):
                bad.append(line)
    return bad


@st.composite
def tokenized(draw):
    """Documents of tokens between single blanks, with mentions of whole tokens."""
    found = []
    for name in draw(st.lists(st.text("a1.-_é ", min_size=1, max_size=4).filter(lambda n: n == n.strip() and n), unique=True, max_size=3)):
        sentences = draw(st.lists(st.lists(st.text("ab.|-;\u0301é😀\x00", min_size=1, max_size=4), min_size=1, max_size=5), max_size=3))
        annotations, at = [], 0
        for sentence in sentences:
            spans = []
            for token in sentence:
                spans.append((at, at + len(token)))
                at += len(token) + 1
            i = 0
            while i < len(spans):
                n = draw(st.integers(0, 3))
                if n:
                    last = min(i + n, len(spans)) - 1
                    annotations.append(annotation_from_ids([(spans[i][0], spans[last][1])], draw(st.text("aZ_- ", max_size=4)), draw(ids("aD1:.-"))))
                i += max(n, 1)
        found.append(Document(name, "\n".join(map(" ".join, sentences)), sorted_annotations(annotations), "made:1"))
    return found


def read(form: str, path: Path, prefix="NONE") -> ReadResult:
    reading = ReadResult()
    reading.documents.extend(READERS[form](path, prefix, (), reading))
    return reading


def content(found):
    return [(d.doc_id, d.text, d.annotations) for d in found]


def check_identity(form: str, found) -> None:
    if form == "brat":
        found = [replace(d, annotations=tuple(a for a in d.annotations if not over_line_ends(a.spans, d.text))) for d in found]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        written = registry.write(found, form, out)
        reading = read(form, out)
        assert content(reading.documents) == content(found)
        assert reading.repairs == [] and +reading.skipped == {}
        assert written.losses == {}
        assert (written.documents, written.mentions) == (len(found), sum(len(d.annotations) for d in found))
        assert [p.name for p in Path(folder).iterdir()] == ["out"]


@pytest.mark.parametrize("form", sorted(ALPHABETS))
def test_reading_back_is_the_identity(form):
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(documents(form))
    def check(found):
        check_identity(form, found)

    check()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents("brat"))
@example([Document("a", "Known coronary artery\ndisease and gout.", (Annotation(((6, 29),), "D", ("MSH:D1",)), Annotation(((34, 38),), "D", ("",))), "made:1")])
@example([Document("a", "coronary \r\n \u2028artery", (Annotation(((0, 19),), "D", ("",)),), "made:1")])
def test_brat_takes_every_mention_that_is_written(found):
    with tempfile.TemporaryDirectory() as folder:
        registry.write(found, "brat", Path(folder, "out"), "count")
        assert refused_by_brat(Path(folder, "out")) == []
        again = read("brat", Path(folder, "out"))
        assert again.repairs == []
        assert [len(d.annotations) for d in again.documents] == [len(d.annotations) for d in found]


def test_brat_writes_pieces_at_line_ends_and_reads_them_as_one(tmp_path):
    note = Document("n", "x" * 49 + "\n" + "coronary artery\ndisease", (Annotation(((50, 73),), "D", ("CUI:C0010054",)),), "made:1")
    registry.write([note], "brat", tmp_path / "out")
    assert (tmp_path / "out/n.ann").read_text().split("\n")[0] == "T1\tD 50 65;66 73\tcoronary artery disease"
    assert content(read("brat", tmp_path / "out").documents) == content([note])
    convert.convert([tmp_path / "out"], "brat", "jsonl", tmp_path / "out.jsonl")
    assert content(read("jsonl", tmp_path / "out.jsonl").documents) == content([note])


@settings(max_examples=100, deadline=None)
@given(st.text("ab. \n\r\t\u2028\x85\x0bé", min_size=1, max_size=40), st.data())
@example("Known coronary artery\ndisease and\tgout.", None)
def test_brat_takes_every_mention_that_is_annotated(text, data):
    """The same of what `annotate` writes, whose mentions are stretches of words."""
    from mentionforge.annotate import writing as annotated

    spans = [(6, 29), (34, 38), (30, 38)] if data is None else data.draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3))
    spans = [(start, end) for start, end in spans if text[start:end].strip() and text[start:end] == text[start:end].strip()]
    nothing = {"concept_ids": [], "score": 0.5, "name": None, "nil": True, "expanded": None, "ambiguous": False, "context": [], "concepts": []}
    kept = [{"spans": [{"start": s, "end": min(e, len(text))}], "surface": text[s:e], **nothing} for s, e in spans]
    with tempfile.TemporaryDirectory() as folder:
        annotated.write([{"doc_id": "n", "source": "n", "text": text, "mentions": kept}], "brat", Path(folder, "out"))
        assert refused_by_brat(Path(folder, "out")) == []
        [document] = read("brat", Path(folder, "out")).documents
        assert sorted(a.spans for a in document.annotations) == sorted(((s, min(e, len(text))),) for s, e in spans)


@settings(max_examples=200, deadline=None)
@given(tokenized())
def test_reading_conll_back_is_the_identity(found):
    check_identity("conll", found)


def is_list(concept_id: str) -> bool:
    """Whether an id looks like several, as `D1 D2`: words with digits."""
    words = re.sub(r"\s*:\s*", ":", concept_id).split()
    return len(words) > 1 and all(any(c.isdecimal() for c in w) or w == "-" for w in words) and all(re.fullmatch(r"[\w:./-]+", w) for w in words)


def over_line_ends(spans, text) -> bool:
    """Whether a mention begins or ends with a line end, or has nothing else (but blanks) between two of its pieces."""
    gaps = [text[a[1] : b[0]] for a, b in pairwise(spans)]
    ends = [text[s:e][: len(text[s:e]) - len(text[s:e].lstrip())] for s, e in spans] + [text[s:e][len(text[s:e].rstrip()) :] for s, e in spans]
    return any(not gap.strip() and len(f"a{gap}a".splitlines()) > 1 for gap in gaps) or any(len(f"a{end}a".splitlines()) > 1 for end in ends)


def cannot_hold(form: str, document: Document) -> bool:
    """What the docs say a format cannot hold, said once more."""
    text, found = document.text, document.annotations
    column = form != "bioc" and any(re.search("[\t\n\r]|^\ufeff", a.entity_type) for a in found)
    # An id with | + , or ; becomes two, as one of codes between blanks does; one with a tab or line end another column.
    column |= any(re.search("[|+,;\t\n\r]|^\ufeff", i) or is_list(i) for a in found for i in a.ids)
    if form == "pubtator":
        blank = " " not in text
        return column or blank or bool(re.search("[\n\r]", text)) or any(len(a.spans) > 1 or "\t" in a.surface(text) for a in found)
    if form == "brat":
        kinds = any(not a.entity_type or re.search(r"\s|\ufeff", a.entity_type) for a in found)
        return column or text.startswith("\ufeff") or kinds or any(over_line_ends(a.spans, text) for a in found)
    if form == "bioc":
        control = "[\x00-\x08\x0b\x0c\x0e-\x1f]"
        return column or bool(re.search(control, text)) or any(re.search(control, a.entity_type + "".join(a.ids)) for a in found)
    if form == "conll":
        lines = text.split("\n") if text else []
        if any(re.search(r"^\ufeff|[\t\r]", t) or not t.strip() or t == "-DOCSTART-" for line in lines for t in line.split(" ")):
            return True
        edges = {0, len(text)} | {m.end() for m in re.finditer("[ \n]", text)} | {m.start() for m in re.finditer("[ \n]", text)}
        covered = [i for a in found for i in range(a.spans[0][0], a.spans[-1][1])]
        whole = all(len(a.spans) == 1 and set(a.spans[0]) <= edges and a.surface(text) == a.surface(text).strip(" \n") for a in found)
        return column or not whole or len(covered) > len(set(covered)) or any("\n" in a.surface(text) for a in found)
    return False


@st.composite
def nasty(draw):
    """One document of anything."""
    text = draw(st.text(NASTY, max_size=25))
    return Document("d1", text, draw(mentions(text, 2, NASTY, NASTY + "D1")), "made:1")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_what_a_format_cannot_hold_is_an_error_or_counted(form):
    """With `error` exactly what it cannot hold stops; with `count` every mention is there or counted as left out."""

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(nasty())
    @example(Document("d1", "a -DOCSTART- b", (), "made:1"))
    @example(Document("d1", "", (), "made:1"))
    @example(Document("d1", "\ufeff", (Annotation(((0, 1),), "X", ("",)),), "made:1"))
    @example(Document("d1", "a b", (Annotation(((0, 1),), "X", ("",)), Annotation(((0, 3),), "X", ("MSH:D1",))), "made:1"))
    def check(document):
        with tempfile.TemporaryDirectory() as folder:
            try:
                registry.write([document], form, Path(folder, "strict"))
            except UserError as error:
                assert error.what == "format cannot hold this"
                assert cannot_hold(form, document)
                assert list(Path(folder).iterdir()) == []
            else:
                assert not cannot_hold(form, document)
                assert content(read(form, Path(folder, "strict")).documents) == content([document])
            written = registry.write([document], form, Path(folder, "loose"), "count")
            assert bool(written.losses) == cannot_hold(form, document)
            reading = read(form, Path(folder, "loose"))
            [again] = reading.documents
            left_out = sum(n for kind, n in written.losses.items() if kind.startswith("mentions left out"))
            assert len(again.annotations) == written.mentions == len(document.annotations) - left_out
            assert reading.repairs == []

    check()


@pytest.mark.parametrize("form", FORMATS)
def test_formats_convert_into_each_other(form, tmp_path, root):
    """The demo's PubTator file, through each format: the same mentions at the same offsets (CoNLL: the same words)."""
    source = root / "resources/demo/bc5cdr/test.txt"
    published = pubtator.read(source, "MSH")
    convert.convert([source], "pubtator", form, tmp_path / "out", policy="count")
    documents = read(form, tmp_path / "out").documents
    assert {d.doc_id for d in documents} == {d.doc_id for d in published.documents}
    by_id = {d.doc_id: d for d in documents}
    for document in published.documents:
        again = by_id[document.doc_id]
        if form == "conll":
            for one, other in zip(document.annotations, again.annotations, strict=True):
                assert one.ids == other.ids
                assert re.sub(r"\W", "", one.surface(document.text)) in re.sub(r"\W", "", other.surface(again.text))
        else:
            assert (again.text, again.annotations) == (document.text, document.annotations)


@pytest.mark.parametrize("form", ["pubtator", "brat", "bioc", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("name", "documents", "mentions"), [("ncbi_disease/NCBItrainset_corpus.txt", 592, 5134), ("bc5cdr/CDR_TestSet.PubTator.txt", 500, 9809)]
)
def test_published_corpora_go_through_every_format(shared_data, tmp_path, form, name, documents, mentions):
    """To the last mention; NCBI's document that is there twice, once (with its 11 mentions)."""
    published = {d.doc_id: d for d in pubtator.read(shared_data / name, "MSH").documents}
    registry.write(published.values(), form, tmp_path / "out")
    again = read(form, tmp_path / "out")
    assert sorted(content(again.documents)) == sorted(content(published.values()))
    assert (len(again.documents), sum(len(d.annotations) for d in again.documents)) == (documents, mentions)


@pytest.mark.parametrize("form", ["pubtator", "conll", "jsonl", "bioc"])
def test_gz_is_written_and_read_and_always_the_same(form, tmp_path):
    document = Document("1", "Gout here", (Annotation(((0, 4),), "D", ("MSH:D1",)),), "made:1")
    for name in ("a.gz", "b.gz"):
        registry.write([document], form, tmp_path / name)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes())
    assert content(read(form, tmp_path / "a.gz").documents) == content([document])


@pytest.mark.parametrize("doc_id", ["../x", "a/b", "a\\b", ".hidden", "", "a" * 300, "a\0"])
def test_brat_names_stay_in_their_folder(tmp_path, doc_id):
    with pytest.raises(UserError, match="bad document id"):
        registry.write([Document(doc_id, "x", (), "made:1")], "brat", tmp_path / "in" / "out", "count")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_brat_mixes_no_runs_and_counts_documents_given_twice(tmp_path):
    twice = [Document("1", "flu", (Annotation(((0, 3),), "D", ("",)),), "made:1")] * 2
    with pytest.raises(UserError, match=r"document 1: documents given twice"):
        registry.write(twice, "brat", tmp_path / "out")
    written = registry.write(twice, "brat", tmp_path / "out", "count")
    assert str(written) == "1 documents, 1 mentions; documents given twice: 1; mentions left out: of documents given twice: 1"
    with pytest.raises(UserError, match="folder not empty"):
        registry.write(twice[:1], "brat", tmp_path / "out")


@pytest.mark.parametrize(("form", "doc_id"), [("pubtator", "a|b"), ("pubtator", "a\tb"), ("conll", "O"), ("conll", "(a)"), ("bioc", "a\x01"), ("conll", " a")])
def test_ids_that_cannot_be_fields(tmp_path, form, doc_id):
    with pytest.raises(UserError, match="bad document id"):
        registry.write([Document(doc_id, "x y", (), "made:1")], form, tmp_path / "out", "count")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "out").write_text("old")

    def broken():
        yield Document("1", "flu a", (), "made:1")
        raise UserError("broken source")

    for form in FORMATS:
        if form != "brat":
            with pytest.raises(UserError, match="broken source"):
                registry.write(broken(), form, tmp_path / "out")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out", "old")]


# ---------------------------------------------------------------------------------------------------------------- export


@pytest.fixture
def folder(tmp_path):
    """A corpus that was read, written by hand."""
    rows = [("1", "train", "Gout and flu"), ("2", "test", "No flu."), ("3", "train", "Nothing here")]
    documents = [{"doc_id": i, "split": s, "text": t, "sentences": [{"start": 0, "end": len(t)}]} for i, s, t in rows]
    shared = {"entity_type": "Disease", "ood_bucket": "unmapped", "expanded": None, "concept_cuis": []}
    found = [
        {
            "doc_id": "1",
            "mention_id": "1:0-4:0",
            "split": "train",
            "spans": [{"start": 0, "end": 4}],
            "surface": "Gout",
            "concept_ids": ["MSH:D1"],
            "cuis": ["C1", "C2"],
            "composite": False,
        },
        {
            "doc_id": "1",
            "mention_id": "1:0-12:0",
            "split": "train",
            "spans": [{"start": 0, "end": 4}, {"start": 9, "end": 12}],
            "surface": "Gout flu",
            "concept_ids": ["MSH:D1"],
            "cuis": [],
            "composite": True,
        },
        {
            "doc_id": "2",
            "mention_id": "2:3-6:0",
            "split": "test",
            "spans": [{"start": 3, "end": 6}],
            "surface": "flu",
            "concept_ids": [],
            "cuis": [],
            "composite": False,
        },
    ]
    names = {c.name for c in tables.MENTIONS.columns}
    tables.write(tables.DOCUMENTS, tmp_path / "built/documents.parquet", documents)
    tables.write(tables.MENTIONS, tmp_path / "built/mentions.parquet", [{k: v for k, v in {**shared, **m}.items() if k in names} for m in found])
    return tmp_path / "built"


@pytest.mark.parametrize("form", ["jsonl", "parquet", "brat", "bioc"])
def test_export_writes_a_file_per_split(folder, tmp_path, form):
    convert.export(folder, form, tmp_path / "out")
    ending = registry.ENDINGS[form]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"test{ending}", f"train{ending}"]
    train = read(form, tmp_path / f"out/train{ending}").documents
    assert [(d.doc_id, d.text) for d in train] == [("1", "Gout and flu"), ("3", "Nothing here")]
    assert train[0].annotations == (
        Annotation(((0, 4),), "Disease", ("MSH:D1",)),
        Annotation(((0, 4), (9, 12)), "Disease", ("MSH:D1",), composite=True),
    )
    [test] = read(form, tmp_path / f"out/test{ending}").documents
    assert test.annotations == (Annotation(((3, 6),), "Disease", ("",)),)


def test_export_of_cuis_and_of_one_split(folder, tmp_path):
    result = CliRunner().invoke(
        app, ["export", str(folder), "--to", "pubtator", "--out", str(tmp_path / "out"), "--split", "train", "--ids", "cuis", "--losses", "count"]
    )
    assert result.exit_code == 0, result.output
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["train.txt"]
    lines = (tmp_path / "out/train.txt").read_text().splitlines()
    assert lines[:4] == ["1|t|Gout", "1|a|and flu", "1\t0\t4\tGout\tDisease\tUMLS:C1|UMLS:C2", "1\t0\t12\tGout and flu\tDisease\t-1"]


def test_export_wants_a_corpus(folder, tmp_path):
    with pytest.raises(UserError, match="unknown split"):
        convert.export(folder, "jsonl", tmp_path / "out", ["dev"])
    with pytest.raises(UserError, match="unreadable table"):
        convert.export(tmp_path / "none", "jsonl", tmp_path / "out")
    with pytest.raises(UserError, match="unknown format"):
        convert.export(folder, "share", tmp_path / "out")
    tables.write(tables.DOCUMENTS, folder / "documents.parquet", [])
    with pytest.raises(UserError, match="mentions of no document"):
        list(convert.corpus_documents(folder, "train"))


def test_convert_command(tmp_path, root):
    args = ["convert", str(root / "resources/demo/semeval/test"), "--from", "share", "--out", str(tmp_path / "out.jsonl")]
    assert CliRunner().invoke(app, [*args, "--to", "jsonl", "--text", "nfc", "--note-ids", "none"]).exit_code == 0
    demo = read("share", root / "resources/demo/semeval/test", "CUI")
    assert content(read("jsonl", tmp_path / "out.jsonl").documents) == content(demo.documents)
    for bad in (
        ["--to", "share"],
        ["--to", "jsonl", "--text", "NFC"],
        ["--to", "jsonl", "--losses", "maybe"],
        ["--to", "jsonl", "--note-ids", "some"],
        ["--to", "jsonl", "--from", "x"],
    ):
        assert isinstance(CliRunner().invoke(app, [*args, *bad]).exception, UserError)
