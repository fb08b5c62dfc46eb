"""Notes written elsewhere: every row is read, or the error names its line."""

import csv
import json
import os
import random
import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentionforge.errors import UserError
from mentionforge.generation.kinds import replay

ROWS = [("C0018099", 'He has <1CUI> gout </1CUI>, "old"\nand\r\nnew.'), ("C0021400", "The flu, après."), ("C0018099", ""), ("C0004096", "😀 asthma\u2028here")]


def write(path, rows=ROWS):
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as sink:
            csv.writer(sink).writerows([("cui", "source", "matched_output"), *((c, "x", t) for c, t in rows)])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"cui": c, "text": t}, ensure_ascii=i % 2 == 0) + "\n" for i, (c, t) in enumerate(rows)), encoding="utf-8")
    else:
        pq.write_table(pa.table({"cui": [c for c, _ in rows], "matched_output": [t for _, t in rows]}), path)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_rows_are_read_as_they_are(tmp_path, name):
    assert list(replay.read(write(tmp_path / name))) == [(i, c, t) for i, (c, t) in enumerate(ROWS, 1)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_byte_order_marks_and_blank_lines_are_no_rows(tmp_path, name):
    path = write(tmp_path / name)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert len(list(replay.read(path))) == len(ROWS)


@pytest.mark.parametrize(
    ("name", "content", "what", "row"),
    [
        ("a.csv", b"", "missing column", 1),
        ("a.csv", b"C1,some note\nC2,another\n", "missing column", 1),
        ("a.csv", b"\ncui,note\n", "missing column", 2),
        ("a.csv", b"cui,text,text\nC1,a,b\n", "column given twice", 1),
        ("a.csv", b"cui,text\nC1,a\nC2,Has gout, and asthma\n", "unreadable CSV", 3),
        ("a.csv", b"cui,text\nC1,a\nC2\n", "unreadable CSV", 3),
        ("a.csv", b'cui,text\nC1,a\nC2,"never\nclosed\n', "unreadable CSV", 3),
        ("a.csv", b'cui,text\nC1,"a\nb"\nC2,"c" d\n', "unreadable CSV", 4),
        ("a.csv", b"cui,text\nC1,a\nC2,caf\xe9\n", "not UTF-8", 3),
        ("a.csv", b"cui,text\nC1,a\n,b\n", "bad row", 3),
        ("a.jsonl", b'{"cui": "C1", "text": "a"}\n{"cui": "C2", "text": "caf\xe9"}\n', "not UTF-8", 2),
        ("a.jsonl", b'{"cui": "C1", "text": "a"}\n\n{"cui": "C2", "text": "\\ud83d"}\n', "bad row", 3),
        ("a.jsonl", b'{"cui": "C1\\udc00", "text": "a"}\n', "bad row", 1),
        ("a.jsonl", b'{"cui": "C1", "text": "a"}\n' + b"[" * 100_000, "unreadable line", 2),
        ("a.jsonl", b'{"a": ' * 100_000, "unreadable line", 1),
        ("a.jsonl", b'{"cui": "C1", "cui": "C2", "text": "a"}', "unreadable line", 1),
        ("a.jsonl", b'{"cui": ' + b"9" * 5000 + b', "text": "a"}', "unreadable line", 1),
        ("a.jsonl", b'{"cui": 7, "text": "a"}', "bad row", 1),
        ("a.jsonl", b'{"cui": "C1", "text": null}', "bad row", 1),
        ("a.jsonl", b'{"cui": "C1", "text": "a"}\n{"cui": "C1", "note": "a"}', "missing column", 2),
        ("a.jsonl", b"\xff\xfe{\x00", "not UTF-8", 1),
        ("a.parquet", b"PAR1", "unreadable Parquet file", 1),
    ],
)
def test_faults_name_file_and_row(tmp_path, name, content, what, row):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(replay.read(tmp_path / name))
    assert caught.value.what == what and caught.value.where == f"{tmp_path / name}:{row}"
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


BITS = [b"", b'"', b"'", b",", b"\n", b"\r", b"\r\n", b"\\", b"{", b"}", b"\xff", b"\xef\xbb\xbf", b"\x00", b"\\ud800", b"9" * 30, b"C1,", "\u2028".encode()]


def damaged(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at, how = rng.randrange(len(data) + 1), rng.randrange(6)
        lines = data.split(b"\n")
        if how < 3:
            data = data[:at] + rng.choice(BITS) + data[at + rng.choice((0, 0, 1, 2, 20)) :]
        elif how == 3:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif how == 4:
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines.insert(j, lines[i]) if rng.random() < 0.5 else lines.pop(i)
            data = b"\n".join(lines)
        else:
            data = data[:at] if rng.random() < 0.3 else data.decode(errors="replace").encode(rng.choice(["utf-16", "latin-1", "utf-8-sig"]), errors="replace")
    return data


def said_by_csv(data: bytes) -> int:
    """Rows of the file, by another reading of RFC 4180: rows end at line ends outside of quotes; lines without anything are none."""
    text = data.decode("utf-8-sig")
    unquoted = re.sub(r'"(?:[^"]|"")*"', "Q", text)
    return sum(bool(line) for line in re.split(r"\r\n|\n|\r", unquoted)) - 1


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_damaged_files_are_errors_with_their_row_or_lose_nothing(tmp_path, name):
    """No traceback, no hang, and no row that is neither read nor told."""
    rng = random.Random(name)
    path = tmp_path / name
    whole = write(path).read_bytes()
    outcomes = {"error": 0, "read": 0}
    for _ in range(100 * int(os.environ.get("MENTIONFORGE_FUZZ", 1))):
        data = damaged(whole, rng)
        path.write_bytes(data)
        begun = time.process_time()
        try:
            rows = list(replay.read(path))
        except UserError as error:
            outcomes["error"] += 1
            assert re.fullmatch(rf"{re.escape(str(path))}:[0-9]+", error.where) and "\n" not in str(error), str(error)
            continue
        finally:
            assert time.process_time() - begun < 10
        outcomes["read"] += 1
        if name == "a.csv":
            assert len(rows) == said_by_csv(data), data
        elif name == "a.jsonl":
            assert len(rows) == sum(bool(line.strip()) for line in data.decode("utf-8-sig").split("\n")), data
    assert outcomes["error"] and (outcomes["read"] or name == "a.parquet"), outcomes
