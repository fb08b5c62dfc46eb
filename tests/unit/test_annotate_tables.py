"""Tables to annotate: every row is a document or an error of its own, whatever the rows beside it hold; ids keep their form."""

import csv
import json
import os
import random
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import annotating
from annotating import CELL
from mentionforge.annotate import cells, reading, run
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.reading import Options, ReadCounts


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return annotating.make(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def annotator(results):
    return Annotator(cells.find(results / CELL, linker="exact/train+kb"))


def rows_of(path, content=None, **options):
    """(id, text) or (id, None, error) per row; sources count the rows."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    o, read = Options(**options), ReadCounts()
    found = list(reading.read_items(reading.list_files([str(path)], o), o, counts=read))
    assert read.documents == read.rows == len(found)
    return [(i.doc_id, None, i.error) if i.error else (i.doc_id, i.text) for i in found]


def why_of(path, row):
    return next(i for i in reading.read_items(reading.list_files([str(path)], Options()), Options()) if i.source == f"{path}:{row}").why


CSV = {
    "quoted": ('id,text\nN1,"Gout, ""so called"",\r\nand asthma"\nN2,Flu\n', [("N1", 'Gout, "so called",\r\nand asthma'), ("N2", "Flu")]),
    "never closed": ('id,text\nN1,Gout\nN2,"Has asthma\nN3,Flu\nN4,"Croup, too"\n', [("N1", "Gout"), ("t.csv-2", None, "broken row"), ("N3", "Flu"), ("N4", "Croup, too")]),
    "never closed, to the end": ('id,text\nN1,"Gout\nN2,Flu\nN3,Croup', [("t.csv-1", None, "broken row"), ("N2", "Flu"), ("N3", "Croup")]),
    "text after the quotation mark": ('id,text\nN1,"Gout" he said\nN2,Flu\n', [("t.csv-1", None, "broken row"), ("N2", "Flu")]),
    "comma without quotation marks": ("id,text\nN1,Has gout, and asthma\nN2,Flu\n", [("t.csv-1", None, "broken row"), ("N2", "Flu")]),
    "too few fields": ("id,text,x\nN1,Gout\nN2,Flu,\n", [("t.csv-1", None, "broken row"), ("N2", "Flu")]),
    "quotation mark inside": ('id,text\nN1,a 5" scar\n', [("N1", 'a 5" scar')]),
    "CRLF, blank lines, byte order mark": ("\ufeffid,text\r\n\r\n007,Gout\r\n\r\n", [("007", "Gout")]),
    "carriage returns only": ("id,text\rN1,Gout\rN2,Flu\r", [("N1", "Gout"), ("N2", "Flu")]),
    "other line ends are text": ("id,text\nN1,a\u2028b\x0bc\x85d\nN2,Flu", [("N1", "a\u2028b\x0bc\x85d"), ("N2", "Flu")]),
    "one bad byte": (b"id,text\nN1,Gout\nN2,caf\xe9\nN3,Flu\n", [("N1", "Gout"), ("t.csv-2", None, "wrong encoding"), ("N3", "Flu")]),
    "nothing": ("", [("t.csv", None, "empty")]),
    "header alone": ("id,text\n", [("t.csv", None, "empty")]),
    "broken header": ('id,"text\nN1,Gout\n', [("t.csv", None, "unreadable table")]),
    "a column twice": ("id,text,text\nN1,Gout,Flu\n", [("t.csv", None, "unreadable table")]),
    "packed": (b"\x1f\x8b\x08\0\0", [("t.csv", None, "unreadable table")]),
    "wide": ("id,text\nN1,Gout".encode("utf-16"), [("t.csv", None, "unreadable table")]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CSV)
def test_csv(tmp_path, kind):
    content, expected = CSV[kind]
    assert rows_of(tmp_path / "t.csv", content) == expected


TSV = {
    "begins with a quotation mark": ('id\ttext\nN1\t"Gout" is known\nN2\t"Flu\nN3\tCroup "mild"\n', [("N1", '"Gout" is known'), ("N2", '"Flu'), ("N3", 'Croup "mild"')]),
    "quoted throughout": ('id\ttext\nN1\t"Gout ""so called"""\n"N2"\t"Flu\tCroup"\n', [("N1", 'Gout "so called"'), ("N2", "Flu\tCroup")]),
    "quoted over lines": ('id\ttext\nN1\t"Gout\n\nand flu"\nN2\tCroup\n', [("N1", "Gout\n\nand flu"), ("N2", "Croup")]),
    "looks quoted over rows": ('id\ttext\nN1\t"Gout\nN2\ta scar of 5"\nN3\tFlu\n', [("N1", '"Gout'), ("N2", 'a scar of 5"'), ("N3", "Flu")]),
    "a tab too many": ("id\ttext\nN1\tGout\tFlu\nN2\tCroup\n", [("t.tsv-1", None, "broken row"), ("N2", "Croup")]),
    "a line end in the text": ("id\ttext\nN1\tGout\nand flu\nN2\tCroup\n", [("N1", "Gout"), ("t.tsv-2", None, "broken row"), ("N2", "Croup")]),
    "one quotation mark": ('id\ttext\nN1\t"\nN2\t""\nN3\tFlu\n', [("N1", '"'), ("N2", None, "empty"), ("N3", "Flu")]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TSV)
def test_tsv(tmp_path, kind):
    content, expected = TSV[kind]
    assert rows_of(tmp_path / "t.tsv", content) == expected


@pytest.mark.parametrize("suffix, delimiter", [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_the_standard_library_writes(tmp_path, suffix, delimiter, quoting):
    """Fields of any characters but lone carriage returns; in tab-separated files no field has both tabs and line ends."""
    rng = random.Random(7)
    letters = ['"', '""', ",", "\n", "\r\n", "gout", " ", "\u00e9", *([] if suffix == "tsv" else ["\t"])]
    rows = [(f"{i:03}", "x" + "".join(rng.choices(letters, k=rng.randrange(9)))) for i in range(300)]
    with open(tmp_path / f"t.{suffix}", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter=delimiter, quoting=quoting)
        writer.writerows([("id", "text"), *rows])
    assert rows_of(tmp_path / f"t.{suffix}") == rows


def test_no_row_is_lost_whatever_is_broken(tmp_path):
    """Good rows between broken ones of every kind: each is read, and each broken line is an error with its place."""
    rng = random.Random(3)
    broken = [b'X,"open', b"X,a,b", b"X", b'X,"a"b', b"X,\xff", b'"X,y']
    for _ in range(200):
        lines, good = [], []
        for i in range(20):
            if rng.random() < 0.4:
                lines.append(rng.choice(broken))
            else:
                good.append((f"N{i}", f"Gout {i}"))
                lines.append(f"N{i},Gout {i}".encode())
        found = rows_of(tmp_path / "t.csv", b"id,text\n" + b"\n".join(lines))
        assert [f for f in found if len(f) == 2] == good and len(found) == 20
    assert why_of(tmp_path / "t.csv", 1 + lines.index(next(line for line in lines if line in broken)))


def test_json_lines(tmp_path):
    deep = "[" * 100_000
    content = b'\xef\xbb\xbf{"id": 1, "text": "Gout"}\n{"id": 2, "te\n\n{"id": 3, "text": "caf\xe9"}\n{"id": 4, "text": "Flu \\ud83d"}\n'
    content += b'{"id": "\\udc00", "text": "Flu"}\n{"id": 6, "text": "a", "text": "b"}\n' + f'{{"id": {deep}\n{{"id": {"9" * 5000}}}\n'.encode()
    content += b'{"id": 9007199254740993, "text": "Flu"}\n{"id": 10.0, "text": "Flu"}\n{"id": true, "text": 7}\n{"id": NaN, "text": "Flu"}'
    assert rows_of(tmp_path / "t.jsonl", content) == [
        ("1", "Gout"),
        ("t.jsonl-2", None, "broken row"),
        ("t.jsonl-3", None, "wrong encoding"),
        ("4", None, "wrong encoding"),
        ("t.jsonl-5", None, "wrong encoding"),
        ("t.jsonl-6", None, "broken row"),
        ("t.jsonl-7", None, "broken row"),
        ("t.jsonl-8", None, "broken row"),
        ("9007199254740993", "Flu"),
        ("10", "Flu"),
        ("true", None, "no text"),
        ("t.jsonl-12", "Flu"),
    ]
    assert "line 2 " in why_of(tmp_path / "t.jsonl", 2)


def test_parquet_ids_keep_their_form(tmp_path):
    big = 2**62 + 1
    for ids, expected in (
        (pa.array([10001.0, None, 1e15]), ["10001", "t.parquet-2", "1000000000000000"]),
        (pa.array([10001, None, big]), ["10001", "t.parquet-2", str(big)]),
        (pa.array([2**64 - 1, 0, 1], pa.uint64()), [str(2**64 - 1), "0", "1"]),
        (pa.array(["007", " 8 ", ""]), ["007", "8", "t.parquet-3"]),
        (pa.array([b"007", b"8", b"\xff"]), ["007", "8", "t.parquet-3"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a-2"]),
        (pa.array([Decimal("12345678901234567890123"), Decimal("1"), None], pa.decimal128(38, 0)), ["12345678901234567890123", "1", "t.parquet-3"]),
        (pa.array(["a", "b", "c"], pa.large_string()), ["a", "b", "c"]),
    ):
        pq.write_table(pa.table({"text": ["Gout", "Flu", "Croup"], "x": [1, 2, 3], "note_id": ids}), tmp_path / "t.parquet")
        assert [row[0] for row in rows_of(tmp_path / "t.parquet")] == expected


def test_parquet_rows_that_cannot_be_read(tmp_path):
    """A string that is no UTF-8 costs its row; a damaged row group costs its rows, each listed; the others are read."""
    bad = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\4\0\0\0\5\0\0\0\x08\0\0\0"), pa.py_buffer(b"Gout\xffFlu"))
    pq.write_table(pa.table({"text": bad}), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet") == [("t.parquet-1", "Gout"), ("t.parquet-2", None, "wrong encoding"), ("t.parquet-3", "Flu")]
    table = pa.table({"id": [str(i) for i in range(300)], "text": [f"Gout {i}" for i in range(300)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100, compression="zstd")
    with pq.ParquetFile(tmp_path / "t.parquet") as file:
        at = file.metadata.row_group(1).column(1).data_page_offset
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[at : at + 60] = b"\xff" * 60
    found = rows_of(tmp_path / "t.parquet", bytes(content))
    assert found == [
        *((str(i), f"Gout {i}") for i in range(100)),
        *((f"t.parquet-{i + 1}", None, "broken row") for i in range(100, 200)),
        *((str(i), f"Gout {i}") for i in range(200, 300)),
    ]
    assert rows_of(tmp_path / "t.parquet", b"PAR1 and no more") == [("t.parquet", None, "unreadable table")]
    pq.write_table(table.slice(0, 0), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet") == [("t.parquet", None, "empty")]


def test_long_rows_cost_themselves_alone(tmp_path):
    long = "Gout " * 1000
    for name, content in (
        ("t.csv", f"id,text\n1,Flu\n2,{long}\n3,Croup\n"),
        ("t.jsonl", "".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in ((1, "Flu"), (2, long), (3, "Croup")))),
    ):
        assert [row[1:] for row in rows_of(tmp_path / name, content, max_mb=0.001)] == [("Flu",), (None, "too large"), ("Croup",)]
        huge = content.replace(long, long * 100)
        assert [row[1:] for row in rows_of(tmp_path / name, huge, max_mb=0.001)] == [("Flu",), (None, "too large"), ("Croup",)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "shift_jis"])
def test_lines_of_standard_input(tmp_path, encoding):
    """One undecodable byte costs its line; all lines are counted, in every encoding."""
    bad = {"utf-8": b"caf\xe9\n", "utf-16": b"\0\xd8\n\0", "cp1252": b"\x81\n", "shift_jis": b"\xff\n"}[encoding]
    data = "Gout\r\n\nFlu\n".encode(encoding) + bad + "Croup\n".encode(encoding.replace("16", "16-le"))
    code = "import sys, json\nfrom mentionforge.annotate.reading import *\no = Options(by_line=True, encoding=sys.argv[1])\n"
    code += "print(json.dumps([(i.text, i.error) for i in read_items(list_files(['-'], o), o)]))"
    done = subprocess.run([sys.executable, "-c", code, encoding], input=data, capture_output=True, check=True)
    expected = [["Gout", ""], ["", "empty"], ["Flu", ""], ["", "wrong encoding"], ["Croup", ""]]
    assert json.loads(done.stdout) == expected


def test_file_names_that_are_no_text(annotator, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "w") as handle:
        handle.write("Gout")
    (folder / "b.txt").write_text("Gout")
    for form in ("jsonl", "brat"):
        summary = run.annotate([str(folder)], annotator, form, tmp_path / form, Options(), {})
        assert (summary.read, summary.documents, summary.errors) == (2, 2, 0)
    records = [json.loads(line) for line in (tmp_path / "jsonl/annotations.jsonl").read_text().splitlines()]
    assert [r["doc_id"] for r in records] == ["b.txt", "caf\\udce9.txt"]


@pytest.mark.slow
def test_the_end_says_what_became_of_every_row(results, annotator, tmp_path, monkeypatch):
    (tmp_path / "t.jsonl").write_bytes(b'{"id": 7, "text": "Gout"}\n{"id": 7, "text": "No gout"}\n{bro\n{"id": 8, "text": ""}\n{"id": 7.0, "text": "Gout"}\n')
    command = [sys.executable, "-m", "mentionforge.cli", "annotate", str(tmp_path / "t.jsonl"), "--from", str(results / CELL), "--linker", "exact/coded"]
    done = subprocess.run([*command, "--out", str(tmp_path / "o")], capture_output=True, text=True)
    assert done.returncode == 3 and "5 rows read = 3 annotated + 2 errors; 3 mentions; ids given more than once: 2, named ID-2 and so on" in done.stderr
    assert [json.loads(line)["doc_id"] for line in (tmp_path / "o/annotations.jsonl").read_text().splitlines()] == ["7", "7-2", "7-3"]
    errors = [json.loads(line) for line in (tmp_path / "o/errors.jsonl").read_text().splitlines()]
    assert [e["source"] for e in errors] == [f"{tmp_path}/t.jsonl:3", f"{tmp_path}/t.jsonl:4"]
    (tmp_path / "b.txt").write_text("Gout")
    both = [str(tmp_path / "t.jsonl"), str(tmp_path / "b.txt")]
    monkeypatch.setattr(run, "PART_DOCUMENTS", 2)
    whole = run.annotate(both, annotator, "jsonl", tmp_path / "whole", Options(), {})
    assert whole.message().startswith("6 documents and rows read = 4 annotated + 2 errors")
    real, calls = run.annotate_items, []

    def dying(items, a):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return real(items, a)

    monkeypatch.setattr(run, "annotate_items", dying)
    with pytest.raises(KeyboardInterrupt):
        run.annotate(both, annotator, "jsonl", tmp_path / "again", Options(), {})
    monkeypatch.setattr(run, "annotate_items", real)
    again = run.annotate(both, annotator, "jsonl", tmp_path / "again", Options(), {})
    assert again.resumed == 4 and again.message() == whole.message(), "rows done before a kill are counted too"
