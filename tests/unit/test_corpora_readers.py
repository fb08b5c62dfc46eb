"""PubTator and ShARe readers: exact errors with file and row, counted repairs, and nothing else on damaged files."""

import gc
import gzip
import re
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mentionforge.corpora import readers
from mentionforge.corpora.concept_ids import form_of, looks_like_id, parse_ids
from mentionforge.corpora.documents import Annotation, Tally
from mentionforge.corpora.formats import pubtator, share
from mentionforge.corpora.formats.folders import COUNTS_LINE_FEEDS
from mentionforge.corpora.settings import Corpus
from mentionforge.corpora.spans import cuts_word
from mentionforge.errors import UserError

PUBTATOR = (
    "1|t|Gout and colon or lung cancer\n1|a|Flu – après aspirin.\n"
    "1\t0\t4\tGout\tDisease\tD006073\n1\t9\t29\tcolon or lung cancer\tDisease\tD003110|D008175\tcolon cancer|lung cancer\n"
    "1\t30\t33\tFlu\tDisease\t-1\n1\t42\t49\taspirin\tChemical\tD001241\n1\tCID\tD001241\tD006073\n\n"
    "2|t|\n2|a|No flu.\n2\t4\t7\tflu\tModifier\tMESH:D007251\n"
)
NOTE = "Patient has lung – and\r\ncolon cancer.\r\nNo flu."
PIPE = (
    "n1.text|12-16,30-36|C0242379|no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null|\n"
    "n1.text|24-36|CUI-less|*no|*null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null\n"
    "n1.text|42-45||no|null|patient|null|no|null|unmarked|null|unmarked|null|false|null|false|null|null|null|\n"
)


@pytest.fixture
def pubtator_of(tmp_path):
    def read(content: str | bytes, types=()):
        path = tmp_path / "corpus.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return pubtator.read(path, "MSH", types)

    return read


@pytest.fixture
def share_of(tmp_path):
    def read(pipe: str | bytes = PIPE, note: str | bytes = NOTE, files: dict[str, bytes] | None = None):
        folder = tmp_path / "notes"
        folder.mkdir(exist_ok=True)
        for name, content in {"n1.text": note, "n1.pipe": pipe, **(files or {})}.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return share.read(folder, "CUI")

    return read


# -------------------------------------------------------------------------------------------------------------- pubtator


def test_pubtator_reads_every_kind_of_line(pubtator_of):
    reading = pubtator_of(PUBTATOR, ("Disease", "Modifier"))
    first, second = reading.documents
    assert first.text == "Gout and colon or lung cancer Flu – après aspirin."
    assert first.annotations == (
        Annotation(((0, 4),), "Disease", ("MSH:D006073",)),
        Annotation(((9, 29),), "Disease", ("MSH:D003110", "MSH:D008175"), composite=True),
        Annotation(((30, 33),), "Disease", ("",)),
    )
    assert (second.text, second.annotations) == (" No flu.", (Annotation(((4, 7),), "Modifier", ("MSH:D007251",)),))
    assert +reading.skipped == {"entity type Chemical": 1, "relation CID": 1}
    assert +reading.handled == {"lists of individual mentions": 1}


@pytest.mark.parametrize(
    ("published", "ids"),
    [
        ("D1", ["MSH:D1"]),
        (" MESH:D1 ", ["MSH:D1"]),
        ("mesh:D1", ["MSH:D1"]),
        ("OMIM:123", ["OMIM:123"]),
        ("D1|OMIM:2+C3", ["MSH:D1", "OMIM:2", "MSH:C3"]),
        ("-1", [""]),
        ("", [""]),
        ("CUI-less", [""]),
        ("OMIM:", [""]),
        ("D1|-1", ["MSH:D1", ""]),
        ("UMLS:C0000001", ["CUI:C0000001"]),
        ("UMLS:C0011849|C0018099", ["CUI:C0011849", "CUI:C0018099"]),
        ("UMLS:C1|C2", ["CUI:C1", "CUI:C2"]),
        ("OMIM:201400|C535668", ["OMIM:201400", "MSH:C535668"]),  # as in NCBI's training file: the second is MeSH's by its form
        ("OMIM:604370|OMIM:612555|D010051", ["OMIM:604370", "OMIM:612555", "MSH:D010051"]),
        ("OMIM:604370|612555", ["OMIM:604370", "OMIM:612555"]),
        ("MESH:D006073;MESH:D001249", ["MSH:D006073", "MSH:D001249"]),
        ("D006073,D001249", ["MSH:D006073", "MSH:D001249"]),
        ("D006073 ; D001249 , D1", ["MSH:D006073", "MSH:D001249", "MSH:D1"]),
        ("D006073 D001249", ["MSH:D006073", "MSH:D001249"]),
        ("UMLS: C0011849 C0018099", ["CUI:C0011849", "CUI:C0018099"]),
        ("SNOMED CT:73211009", ["SNOMED CT:73211009"]),
        ("MESH: D006073", ["MSH:D006073"]),
        ("D1|", ["MSH:D1"]),
        ("None", [""]),
        ("NA", [""]),
        ("n/a", [""]),
        ("-", [""]),
        ("MESH:-", [""]),
        ("MESH:None|D1", ["", "MSH:D1"]),
        ("Lynch syndrome", ["MSH:Lynch syndrome"]),
    ],
)
def test_ids(published, ids):
    assert list(parse_ids(published, "MSH")) == ids


@pytest.mark.parametrize(
    ("concept_id", "form", "known"),
    [
        ("MSH:D006073", "MSH:A9+", True),
        ("MSH:C000598644", "MSH:A9+", True),
        ("MSH:D6073", "MSH:A9+", False),
        ("CUI:C0018099", "CUI:A9+", True),
        ("CUI:C18099", "CUI:A9+", False),
        ("OMIM:143470", "OMIM:9+", True),
        ("ICDO:8000/6", "ICDO:9+/9", True),
        ("SNOMEDCT_US:373282002", "SNOMEDCT_US:9+", True),
        ("MSH:MESH D1", "MSH:A+ A9", False),
        ("MSH:Lynch syndrome", "MSH:Aa+ a+", False),
        ("X:1", "X:9", False),
    ],
)
def test_forms_of_ids(concept_id, form, known):
    assert (form_of(concept_id), looks_like_id(concept_id)) == (form, known)


TEXT = "Gout, type2 hyperkalemia 痛風の患者 Sjo\u0308gren"


@pytest.mark.parametrize(
    ("start", "end", "cuts"),
    [
        (0, 4, False),
        (0, 3, True),
        (1, 4, True),
        (4, 5, False),
        (6, 11, False),
        (6, 10, True),
        (12, 24, False),
        (17, 24, True),
        (25, 27, False),  # no blanks part words there
        (31, 39, False),
        (31, 34, True),  # before the accent of its last letter
        (31, 35, True),
        (0, len(TEXT), False),
    ],
)
def test_surfaces_inside_words(start, end, cuts):
    assert cuts_word([(start, end)], TEXT) is cuts


@pytest.mark.parametrize(
    ("published", "used", "mention"),
    [("0\t5", (0, 4), "Gout"), ("0\t5", (0, 4), "Gout  "), ("4\t8", (5, 8), "and"), ("0\t4", (0, 4), "Gout ")],
)
def test_blanks_at_the_ends_are_a_listed_repair(pubtator_of, published, used, mention):
    reading = pubtator_of(f"1|t|Gout and\n1|a|x\n1\t{published}\t{mention}\tDisease\tD1\n")
    [repair] = reading.repairs
    assert (repair.doc_id, repair.published, repair.used) == ("1", (tuple(map(int, published.split())),), (used,))
    assert reading.documents[0].annotations[0].spans == (used,)


def test_relations_of_four_and_five_columns_are_skipped_with_their_rows(pubtator_of, tmp_path):
    """CDR's, and BioRED's with a column for the novelty."""
    relations = "1\tPositive_Correlation\tD001249\tD009765\tNo\n1\tAssociation\tD006073\tD009765\tNovel\n1\tdrug-drug\tD1\tD2\tNovel\n"
    reading = pubtator_of(PUBTATOR.replace("1\tCID", f"{relations}1\tCID"), ("Disease",))
    assert [len(d.annotations) for d in reading.documents] == [3, 0]
    wanted = {"relation Positive_Correlation": [7], "relation Association": [8], "relation drug-drug": [9], "relation CID": [10]}
    wanted |= {"entity type Chemical": [6], "entity type Modifier": [14]}
    assert {kind: list(rows) for (kind, file), rows in reading.skipped_at.items()} == wanted
    assert {file for _, file in reading.skipped_at} == {str(tmp_path / "corpus.txt")}


def test_equal_text_is_no_repair(pubtator_of):
    assert pubtator_of("1|t|Gout and\n1|a|x\n1\t0\t5\tGout \tDisease\tD1\n").repairs == []


@pytest.mark.parametrize(
    ("old", "new", "what", "row"),
    [
        ("1\t0\t4\tGout", "1\t1\t5\tGout", "wrong offset", 3),
        ("1\t0\t4\tGout", "1\t0\t4\tgout", "wrong offset", 3),
        ("1\t30\t33\tFlu", "1\t30\t399\tFlu", "span outside of text", 5),
        ("1\t0\t4\tGout", "1\t4\t0\tGout", "span outside of text", 3),
        ("1\t0\t4\tGout", "1\t4\t4\t", "span outside of text", 3),
        ("1\t0\t4\tGout", "1\t-4\t4\tGout", "bad offset", 3),
        ("1\t0\t4\tGout", "1\t٠\t4\tGout", "bad offset", 3),
        ("\tDisease\tD006073\n", "\tDis\n", "truncated line", 3),
        ("\tDisease\tD006073\n", "\n", "truncated line", 3),
        ("\tCID\tD001241\tD006073\n", "\tCID\tD001241\n", "truncated line", 7),
        ("\tD006073\n", "\tD006073\tx\ty\n", "overlong line", 3),
        ("1\t30\t33", "7\t30\t33", "line outside of its document", 5),
        ("1\t30\t33", "an odd line", "line outside of its document", 5),
        ("1|a|Flu", "7|a|Flu", "abstract without title", 2),
        ("1|t|Gout", "1|a|Gout", "abstract without title", 1),
        ("2|a|No flu.\n", "", "line outside of its document", 10),
        ("2|a|No flu.\n2\t4\t7\tflu\tModifier\tMESH:D007251\n", "", "title without abstract", 9),
    ],
)
def test_pubtator_faults_name_file_and_row(pubtator_of, old, new, what, row):
    assert old in PUBTATOR
    with pytest.raises(UserError) as caught:
        pubtator_of(PUBTATOR.replace(old, new, 1))
    assert caught.value.what == what
    assert re.search(rf"corpus\.txt:{row}$", caught.value.where)


def test_pubtator_errors_hold_no_text(pubtator_of):
    with pytest.raises(UserError) as caught:
        pubtator_of(PUBTATOR.replace("1\t0\t4\tGout", "1\t1\t5\tGout"))
    assert "out" not in str(caught.value).split(": ", 1)[1].replace("the text", "")


def test_pubtator_not_utf8(pubtator_of):
    with pytest.raises(UserError, match=r"not UTF-8 in .*corpus.txt:2: byte 0xe8"):
        pubtator_of(PUBTATOR.replace("–", "-").encode("latin-1"))


def test_pubtator_wants_a_file(tmp_path):
    with pytest.raises(UserError, match="folder where a file is needed"):
        pubtator.read(tmp_path, "MSH")


def test_crlf_and_byte_order_mark_change_nothing_but_the_counts(pubtator_of):
    plain = pubtator_of(PUBTATOR)
    changed = pubtator_of("\ufeff" + PUBTATOR.replace("\n", "\r\n"))
    assert changed.documents == plain.documents
    assert changed.handled["CRLF line ends"] == PUBTATOR.count("\n")
    assert changed.handled["byte order marks"] == 1


def test_pubtator_streams_with_flat_memory(tmp_path):
    """A file of two megabytes is read with a few hundred kilobytes: the first document is yielded before the second is read."""
    path = tmp_path / "many.txt"
    path.write_text("".join(f"{i}|t|Gout {i}\n{i}|a|{'Flu and gout. ' * 60}\n{i}\t0\t4\tGout\tDisease\tD1\n\n" for i in range(2000)))
    gc.collect()
    tracemalloc.start()
    assert sum(len(d.annotations) for d in pubtator.stream(path, "MSH", (), Tally())) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300_000 < path.stat().st_size / 5


@pytest.mark.parametrize("name", ["corpus.txt.gz", "corpus"])
def test_pubtator_gz_is_read_by_name_or_content(tmp_path, name):
    (tmp_path / "plain").write_text(PUBTATOR)
    (tmp_path / name).write_bytes(gzip.compress(PUBTATOR.encode()))
    packed = pubtator.read(tmp_path / name, "MSH").documents
    assert [(d.doc_id, d.text, d.annotations) for d in packed] == [
        (d.doc_id, d.text, d.annotations) for d in pubtator.read(tmp_path / "plain", "MSH").documents
    ]


@pytest.mark.parametrize("cut", [5, 60, -6])
def test_cut_off_gz_is_damaged(tmp_path, cut):
    (tmp_path / "corpus.gz").write_bytes(gzip.compress(PUBTATOR.encode())[:cut])
    with pytest.raises(UserError, match=r"damaged file in .*corpus.gz:\d+"):
        pubtator.read(tmp_path / "corpus.gz", "MSH")


# ----------------------------------------------------------------------------------------------------------------- share


def test_share_reads_spans_cuis_and_defaults(share_of):
    [document] = share_of().documents
    assert document.text == NOTE
    assert [a.surface(NOTE) for a in document.annotations] == ["lung cancer", "colon cancer", "flu"]
    assert [a.ids for a in document.annotations] == [("CUI:C0242379",), ("",), ("",)]
    assert document.annotations[0].spans == ((12, 16), (30, 36))


@pytest.mark.parametrize("tail", ["", "|", "|null" * 16, "|null" * 16 + "|", "|null" * 19, "|*null" * 19 + "|"])
def test_share_widths(share_of, tail):
    [document] = share_of(f"n1.text|*12-16|*C0242379{tail}\n").documents
    assert document.annotations == (Annotation(((12, 16),), "Disorder", ("CUI:C0242379",)),)


def test_share_pieces_out_of_order_are_a_listed_repair(share_of):
    reading = share_of("n1.text|30-36,12-16|C0242379|\n")
    assert reading.documents[0].annotations[0].spans == ((12, 16), (30, 36))
    assert [(r.doc_id, r.published) for r in reading.repairs] == [("n1", ((30, 36), (12, 16)))]


@pytest.mark.parametrize(
    ("pipe", "what", "row"),
    [
        ("n1.text|12-16\n", "truncated line", 1),
        ("n1.text|12-16|C1|no\n", "truncated line", 1),
        ("n1.text|12-16|C1|" + "x|" * 20 + "\n", "truncated line", 1),
        (PIPE + "n1.text|12-16|\n", "truncated line", 4),
        ("\nn2.text|12-16|C1|\n", "line of another note", 2),
        ("n1.text|12-99|C1|\n", "span outside of text", 1),
        ("n1.text|12-x|C1|\n", "bad offset", 1),
        ("n1.text|12|C1|\n", "bad offset", 1),
        ("n1.text||C1|\n", "bad offset", 1),
        ("n1.text|12-16,14-20|C1|\n", "overlapping pieces", 1),
        ("n1.text|22-24|C1|\n", "wrong offset", 1),
    ],
)
def test_share_faults_name_file_and_row(share_of, pipe, what, row):
    with pytest.raises(UserError) as caught:
        share_of(pipe)
    assert caught.value.what == what
    assert re.search(rf"n1\.pipe:{row}$", caught.value.where)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"n2.text": b"x"}, r"incomplete note in .*n2.text: no .pipe file"),
        ({"n2.pipe": b""}, r"incomplete note in .*n2.pipe: no .text or .txt file"),
        ({"n1.txt": b"x"}, r"note given twice in .*n1.txt: n1.text is there too"),
        ({"README.md": b"x"}, r"unknown file in .*README.md"),
        ({"n1.text": b"ok\ncaf\xe9"}, r"not UTF-8 in .*n1.text:2: byte 0xe9"),
        ({"n1.text": b"\xef\xbb\xbf" + NOTE.encode()}, r"byte order mark in .*n1.text:1"),
    ],
)
def test_share_folders(share_of, files, message):
    with pytest.raises(UserError, match=message):
        share_of(files=files)


def test_share_txt_hidden_files_and_empty_pipe(share_of):
    reading = share_of(files={"a.txt": b"Nothing.", "a.pipe": b"", ".hidden": b"x"})
    assert [(d.doc_id, len(d.annotations)) for d in reading.documents] == [("a", 0), ("n1", 3)]


def test_share_keeps_carriage_returns_of_the_text_and_strips_those_of_the_pipe(share_of):
    reading = share_of("\ufeff" + PIPE.replace("\n", "\r\n"))
    assert reading.documents[0].text.count("\r\n") == 2
    assert [a.spans[0] for a in reading.documents[0].annotations] == [(12, 16), (24, 36), (42, 45)]
    assert +reading.handled == {"CRLF line ends": 3, "byte order marks": 1, "texts with CRLF line ends": 1}


DOUBLE = "n1.text||Disease_Disorder||C0242379||12||16||30||36\nn1.text||Disease_Disorder||CUI-less||24||36||\nn1.txt||Finding||C1||42||45\n"


def test_share_reads_double_bars(share_of, tmp_path):
    """The layout of SemEval-2014 Task 7 and ShARe/CLEF 2013."""
    [document] = share_of(DOUBLE).documents
    assert document.annotations == (
        Annotation(((12, 16), (30, 36)), "Disease_Disorder", ("CUI:C0242379",)),
        Annotation(((24, 36),), "Disease_Disorder", ("",)),
        Annotation(((42, 45),), "Finding", ("CUI:C1",)),
    )
    (tmp_path / "notes/n1.pipe").rename(tmp_path / "notes/n1.pipe.txt")
    tally = Tally()
    [document] = share.stream(tmp_path / "notes", "CUI", ("Disease_Disorder",), tally)
    assert len(document.annotations) == 2 and +tally.skipped == {"entity type Finding": 1}


@pytest.mark.parametrize(
    ("pipe", "what", "row"),
    [
        ("n1.text||D||C1||12||16||30\n", "truncated line", 1),
        ("n1.text||D||C1||12\n", "truncated line", 1),
        ("n1.text||D||C1||12||x\n", "bad offset", 1),
        ("n1.text||D||C1||12||99\n", "span outside of text", 1),
        (DOUBLE + "n1.text|12-16|C1|\n", "truncated line", 4),
        (PIPE + "n1.text||D||C1||12||16\n", "truncated line", 4),
    ],
)
def test_share_double_bars_name_file_and_row(share_of, pipe, what, row):
    with pytest.raises(UserError) as caught:
        share_of(pipe)
    assert caught.value.what == what
    assert re.search(rf"n1\.pipe:{row}$", caught.value.where)


def crlf_notes(folder: Path, shifted: bool, line_end="\r\n") -> dict[str, list[str]]:
    """Twelve notes of words between line ends, each word of the last lines a mention; offsets by a count of its own."""
    folder.mkdir()
    words = ["asthma", "gout", "colon cancer", "flu", "type 2 diabetes", "hives"]
    wanted = {}
    for n in range(12):
        rows = ["HISTORY:", ""] + [f"{i}. {word} since 19{n}0" for i, word in enumerate(words[: 2 + n % 5])]
        (folder / f"n{n}.text").write_bytes(line_end.join(rows).encode())
        width, at, found = (1 if shifted else len(line_end)), 0, []
        for row, word in zip(rows, ["", "", *words], strict=False):
            if word:
                found.append((at + 3, at + 3 + len(word), word))
            at += len(row) + width
        (folder / f"n{n}.pipe").write_text("".join(f"n{n}.text|{a}-{b}|C0018099|\n" for a, b, _ in found))
        wanted[f"n{n}"] = [word for *_, word in found]
    return wanted


@pytest.mark.parametrize("shifted", [True, False])
def test_share_notes_with_crlf_are_read_by_either_count_of_line_ends(tmp_path, shifted):
    wanted = crlf_notes(tmp_path / "notes", shifted)
    settings = {"reader": "share", "kb": "k", "id_prefix": "CUI", "splits": {s: [str(tmp_path / "notes")] for s in ("train", "test")}}
    mended = readers.read(Corpus(**settings, text="crlf_to_lf"), "train")
    assert {d.doc_id: [a.surface(d.text) for a in d.annotations] for d in mended.documents} == wanted
    assert all("\r" not in d.text for d in mended.documents)
    if not shifted:
        as_they_are = readers.read(Corpus(**settings), "train")
        assert {d.doc_id: [a.surface(d.text) for a in d.annotations] for d in as_they_are.documents} == wanted
        assert COUNTS_LINE_FEEDS not in mended.handled
        return
    assert mended.handled[COUNTS_LINE_FEEDS] == 12
    for policy in ("none", "nfc"):
        with pytest.raises(UserError, match=r"offsets count other line ends in .*n0.pipe:1: .*crlf_to_lf"):
            readers.read(Corpus(**settings, text=policy), "train")


def test_share_notes_whose_carriage_returns_are_gone(tmp_path):
    wanted = crlf_notes(tmp_path / "notes", False)
    for path in (tmp_path / "notes").glob("*.text"):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    settings = {"reader": "share", "kb": "k", "id_prefix": "CUI", "splits": {s: [str(tmp_path / "notes")] for s in ("train", "test")}}
    with pytest.raises(UserError, match=r"offsets count other line ends in .*n0.pipe:1: the text has LF line ends"):
        readers.read(Corpus(**settings), "train")
    mended = readers.read(Corpus(**settings, text="crlf_to_lf"), "train")
    assert {d.doc_id: [a.surface(d.text) for a in d.annotations] for d in mended.documents} == wanted
    assert all("\r" not in d.text for d in mended.documents)


def test_share_a_word_that_gold_cuts_does_not_change_the_count_of_line_ends(tmp_path):
    """One of 45 mentions ends inside a word by its annotator's will; the others say how line ends count."""
    crlf_notes(tmp_path / "notes", False)
    path = tmp_path / "notes/n3.pipe"
    first, *rest = path.read_text().splitlines(keepends=True)
    start, end = map(int, first.split("|")[1].split("-"))
    path.write_text("".join([f"n3.text|{start}-{end - 1}|C0018099|\n", *rest]))
    corpus = Corpus(reader="share", kb="k", id_prefix="CUI", splits={s: [str(tmp_path / "notes")] for s in ("train", "test")})
    assert sum(len(d.annotations) for d in readers.read(corpus, "train").documents) == 45


def test_share_wants_a_folder(tmp_path):
    with pytest.raises(UserError, match="missing folder"):
        share.read(tmp_path / "none", "CUI")


# ------------------------------------------------------------------------------------------------------------------ fuzz

DAMAGE = st.tuples(
    st.integers(0, 600),
    st.integers(0, 20),
    st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"\t", b"|", b"-", b",", b"\xef\xbb\xbf", b"\xff", b"9", "\u2028".encode()]),
)


def damaged(content: str, damages) -> bytes:
    data = content.encode()
    for position, removed, inserted in damages:
        position %= len(data) + 1
        data = data[:position] + inserted + data[position + removed :]
    return data


@settings(max_examples=300, deadline=None)
@given(st.lists(DAMAGE, min_size=1, max_size=3))
@example([(4, 3, b"9" * 5000)])
def test_damaged_pubtator_gives_a_row_or_documents(damages):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus.txt")
        path.write_bytes(damaged(PUBTATOR, damages))
        try:
            reading = pubtator.read(path, "MSH")
        except UserError as error:
            assert re.search(r"corpus\.txt:\d+$", error.where)
            return
        for document in reading.documents:
            for annotation in document.annotations:
                assert annotation.surface(document.text).strip()


@settings(max_examples=300, deadline=None)
@given(st.lists(DAMAGE, min_size=1, max_size=3), st.booleans())
@example([(8, 2, b"9" * 5000)], False)
def test_damaged_share_gives_a_row_or_documents(damages, in_text):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "n1.text").write_bytes(damaged(NOTE, damages) if in_text else NOTE.encode())
        Path(folder, "n1.pipe").write_bytes(PIPE.encode() if in_text else damaged(PIPE, damages))
        try:
            reading = share.read(Path(folder), "CUI")
        except UserError as error:
            assert re.search(r"n1\.(text|pipe):\d+$", error.where)
            return
        for document in reading.documents:
            for annotation in document.annotations:
                assert annotation.surface(document.text).strip()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PUBTATOR) - 1))
def test_cut_off_pubtator_loses_only_what_follows(length):
    """A file that ends early is an error with its row, or every line before the last is there as published."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus.txt")
        path.write_text(PUBTATOR[:length], newline="")
        whole = Path(folder, "whole.txt")
        whole.write_text(PUBTATOR, newline="")
        try:
            reading = pubtator.read(path, "MSH")
        except UserError as error:
            assert re.search(r"corpus\.txt:\d+$", error.where)
            return
        published = {(d.doc_id, a.spans) for d in pubtator.read(whole, "MSH").documents for a in d.annotations}
        found = [(d.doc_id, a.spans) for d in reading.documents for a in d.annotations]
        assert set(found) <= published
        complete = [line for line in PUBTATOR[:length].split("\n") if re.match(r"\d\t\d+\t\d+\t.+\t.+\t", line)]
        assert len(found) == len(complete)
