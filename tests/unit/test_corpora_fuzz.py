"""Damaged input, every reader: an error that names file and row, or documents that hold whatever the file still says.

The count of what a file says is made here, by other means than the readers': lines and their columns, `json`, regular expressions on XML.
"""

import json
import os
import random
import re
import tempfile
import time
import traceback
from itertools import pairwise
from pathlib import Path

import pytest

from mentionforge.corpora.documents import Annotation, Document, ReadResult, sorted_annotations
from mentionforge.corpora.formats import brat, registry
from mentionforge.corpora.formats.registry import READERS
from mentionforge.errors import UserError

HARMLESS = {("conll", "numbers"), ("conll untyped", "numbers"), ("conll untyped", "reordered"), ("jsonl", "reordered")}
"""CoNLL has no numbers but in ids; a line of JSON Lines is a document."""

ROUNDS = 16 * int(os.environ.get("MENTIONFORGE_FUZZ", 1))
"""Damaged files per layout and kind of damage: about a thousand together; MENTIONFORGE_FUZZ=10 makes ten times as many."""

SECONDS = 10
"""No damaged file of a few hundred bytes may take longer."""

LAYOUTS = {**{name: name for name in READERS if name != "parquet"}, "bioc json": "bioc", "share double bars": "share", "conll untyped": "conll"}
"""What is damaged, and its reader."""


def mention(*spans, kind="Disease", ids=("MSH:D1",)) -> Annotation:
    return Annotation(spans, kind, ids, composite=len(ids) > 1)


ONE_PIECE = [
    Document(
        "11",
        "Gout – après flu . Colon or lung cancer",
        sorted_annotations([mention((0, 4)), mention((13, 16), ids=("",)), mention((19, 39), ids=("MSH:D2", "OMIM:3"))]),
        "",
    ),
    Document("12", "No flu . Aspirin 😀 helps", sorted_annotations([mention((3, 6), kind="Modifier"), mention((9, 16), kind="Chemical")]), ""),
    Document("13", "Nothing here", (), ""),
]
PIECES = [Document("14", "Colon or\r\nlung cancer", sorted_annotations([mention((0, 5), (15, 21)), mention((10, 21)), mention((0, 21))]), ""), *ONE_PIECE[:2]]


def seed(reader: str, out: Path) -> None:
    """A whole corpus in the layout of the reader."""
    if LAYOUTS.get(reader) == "share":
        out.mkdir()
        for d in PIECES:
            (out / f"{d.doc_id}.text").write_text(d.text, newline="")
            spans = [",".join(f"{s}-{e}" for s, e in a.spans) for a in d.annotations]
            pairs = ["||".join(f"{s}||{e}" for s, e in a.spans) for a in d.annotations]
            single = [f"{d.doc_id}.text|{s}|C000000{i}|\n" for i, s in enumerate(spans)]
            double = [f"{d.doc_id}.text||Disease||C000000{i}||{s}\n" for i, s in enumerate(pairs)]
            (out / f"{d.doc_id}.pipe").write_text("".join(single if reader == "share" else double))
    elif reader == "bioc json":
        out.write_text(json.dumps({"source": "x", "documents": list(map(bioc_json, PIECES))}, indent=1, ensure_ascii=False), encoding="utf-8", newline="")
    elif reader == "conll untyped":
        seed("conll", out)
        out.write_text(re.sub(r"([BI])-\w+(\t.*)?", r"\1", out.read_text()))
    elif reader in ("pubtator", "medmentions"):
        registry.write(ONE_PIECE, "pubtator", out)
        out.write_text(out.read_text().replace("11\t13", "11\tCID\tD1\tD2\n11\t13"))
    elif reader == "conll":
        registry.write(ONE_PIECE, "conll", out)
    else:
        registry.write(PIECES, reader, out)
        if reader == "brat":
            with open(out / "11.ann", "a") as handle:
                handle.write("R1\tOf Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tsure\n#2\tAnnotatorNotes T2\tD006073 D001249\n")


def bioc_json(d: Document) -> dict:
    """A document as BioC JSON: its text in two passages where no mention crosses the border, a relation, and infons of every kind."""
    borders = [m.end() for m in re.finditer(" ", d.text) if not any(a.spans[0][0] < m.end() < a.spans[-1][1] for a in d.annotations)]
    cuts = [0, *borders[:1], len(d.text)]
    passages = []
    for start, end in pairwise(cuts):
        own = [a for a in d.annotations if start <= a.spans[0][0] < end]
        passages.append({"offset": start, "text": d.text[start:end], "annotations": [annotation_json(a, d.text) for a in own]})
    return {"id": d.doc_id, "passages": passages, "relations": [{"infons": {"type": "CID"}}]}


def annotation_json(a: Annotation, text: str) -> dict:
    infons = {"type": a.entity_type, "identifier": "|".join(a.ids) or None, "valid": True}
    return {"infons": infons, "text": a.surface(text), "locations": [{"offset": s, "length": e - s} for s, e in a.spans]}


# What a damaged file still says: documents, and mentions or other lines that a reader keeps or counts as skipped.


def lines_of(data: bytes) -> list[str]:
    return [line.removesuffix("\r").removeprefix("\ufeff") for line in data.decode().split("\n") if line.removesuffix("\r").removeprefix("\ufeff").strip()]


def said_by_pubtator(data: bytes) -> tuple[int, int]:
    found = lines_of(data)
    texts = [line for line in found if re.match(r"[^|\t]+\|[ta]\|", line)]
    assert len(texts) % 2 == 0
    return len(texts) // 2, len(found) - len(texts)


def said_by_conll(data: bytes) -> tuple[int, int]:
    found = [line.split("\t") if "\t" in line else line.split() for line in lines_of(data)]
    return sum(columns[0] == "-DOCSTART-" for columns in found), sum(columns[0] != "-DOCSTART-" for columns in found)


def said_by_jsonl(data: bytes) -> tuple[int, int]:
    records = [json.loads(line) for line in lines_of(data)]
    return len(records), sum(len(r["mentions"]) for r in records)


def said_by_bioc(data: bytes) -> tuple[int, int]:
    data = data.replace(b"\0", b"")  # UTF-16, which XML may be in
    return len(re.findall(rb"<document[\s>/]", data)), len(re.findall(rb"<annotation[\s>/]", data))


def said_by_bioc_json(data: bytes) -> tuple[int, int]:
    """Documents, and annotations and relations, wherever they stand in what is read."""
    top = json.loads(data.decode("utf-8-sig"))
    documents = [d for part in (top if isinstance(top, list) else [top]) for d in (part.get("documents") or part.get("PubTator3") or [part])]
    passages = [p for d in documents for p in d.get("passages") or []]
    levels = [*documents, *passages, *(s for p in passages for s in p.get("sentences") or [])]
    return len(documents), sum(len(level.get(key) or []) for level in levels for key in ("annotations", "relations"))


def check_counts(reader: str, path: Path, damaged: Path, reading: ReadResult) -> None:
    """Documents, and mentions with what was skipped, are as many as the file says."""
    mentions = sum(len(d.annotations) for d in reading.documents)
    kept = mentions + sum(reading.skipped.values())
    if LAYOUTS[reader] in ("share", "brat"):
        kept += reading.handled[brat.READ_NOTES]
        files = {".pipe": 0, ".ann": 0}
        for other in path.iterdir():
            if other.suffix in files:
                found = [line for line in lines_of(other.read_bytes()) if not line.startswith("N")]
                files[other.suffix] += len(found)
        assert kept == sum(files.values())
        assert len(reading.documents) == len(list(path.iterdir())) / 2
        return
    data = damaged.read_bytes()
    documents, rest = {
        "pubtator": said_by_pubtator,
        "medmentions": said_by_pubtator,
        "conll": said_by_conll,
        "conll untyped": said_by_conll,
        "bioc json": said_by_bioc_json,
        "jsonl": said_by_jsonl,
        "bioc": said_by_bioc,
    }[reader](data)
    if LAYOUTS[reader] == "conll":
        # Each line is a token of a text; a B tag (or an I tag that was counted) is a mention.
        assert sum(len(re.split("[ \n]", d.text)) for d in reading.documents if d.text) == rest
        rows = [line.split("\t") if "\t" in line else line.split() for line in lines_of(data)]
        begun = sum(r[-1 if len(r) == 4 else 1].startswith(("B-", "B")) for r in rows if r[0] != "-DOCSTART-")
        assert kept == begun + reading.handled["mentions that begin with an I tag"]
        assert not documents or len(reading.documents) == documents
        return
    assert len(reading.documents) == documents
    # Unknown keys of a JSON object are counted too, and are no mentions.
    unknown = sum(n for key, n in reading.skipped.items() if key.startswith("key "))
    assert sum(len(rows) for rows in reading.skipped_at.values()) == sum(reading.skipped.values())
    assert kept - unknown == rest


# ---------------------------------------------------------------------------------------------------------------- damage

BITS = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b"\t",
    b"|",
    b"-",
    b",",
    b";",
    b'"',
    b"<",
    b">",
    b"&",
    b"{",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x00",
    b"9" * 30,
    "\u2028".encode(),
]


def spliced(data: bytes, rng: random.Random) -> bytes:
    """A few bytes removed or inserted anywhere."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(BITS) + data[at + rng.choice((0, 0, 1, 2, 20)) :]
    return data


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def reordered(data: bytes, rng: random.Random) -> bytes:
    """Lines swapped, repeated or lost."""
    found = data.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        i, j = rng.randrange(len(found)), rng.randrange(len(found))
        how = rng.randrange(3)
        if how == 0:
            found[i], found[j] = found[j], found[i]
        elif how == 1:
            found.insert(j, found[i])
        elif len(found) > 1:
            del found[i]
    return b"\n".join(found)


def encoded(data: bytes, rng: random.Random) -> bytes:
    text = data.decode(errors="replace")
    how = rng.choice(["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "utf-8-sig", "utf-7"])
    return text.encode(how, errors="replace")


def windows(data: bytes, rng: random.Random) -> bytes:
    """CRLF, sometimes with a byte order mark, sometimes twice."""
    changed = data.replace(b"\n", b"\r\n" * rng.choice((1, 1, 2)))
    return b"\xef\xbb\xbf" * rng.randrange(2) + changed


def numbers(data: bytes, rng: random.Random) -> bytes:
    """Another number here and there: offsets that overlap, cross or leave the text."""
    return re.sub(rb"[0-9]+", lambda m: str(rng.randrange(45)).encode() if rng.random() < 0.15 else m.group(), data)


def binary(data: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"\x1f\x8b", b"PAR1", b"<?xml "]) + rng.randbytes(rng.randrange(300)) + rng.choice([b"", b"PAR1"])


DAMAGES = {f.__name__: f for f in (spliced, cut, reordered, encoded, windows, numbers, binary)}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("reader", sorted(LAYOUTS))
def test_damaged_input_is_an_error_with_its_row_or_loses_nothing(reader, kind):
    rng = random.Random(f"{reader} {kind}")
    outcomes = {"error": 0, "read": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus")
        seed(reader, path)
        whole = {p: p.read_bytes() for p in sorted(path.iterdir() if path.is_dir() else [path])}
        damaged = path
        for _ in range(ROUNDS):
            if damaged in whole:
                damaged.write_bytes(whole[damaged])
            damaged = rng.choice(list(whole))
            damaged.write_bytes(DAMAGES[kind](whole[damaged], rng))
            reading = ReadResult()
            begun = time.process_time()
            try:
                reading.documents.extend(READERS[LAYOUTS[reader]](path, "MSH", rng.choice([(), ("Disease", "Entity")]), reading))
            except UserError as error:
                outcomes["error"] += 1
                assert re.fullmatch(rf"{re.escape(str(path))}(/[^/:]+)?:[0-9]+", error.where), str(error)
                assert "\n" not in str(error) and error.fix
                continue
            except Exception:
                pytest.fail(f"{kind} {reader}: {traceback.format_exc()}\n{damaged.read_bytes()!r}")
            finally:
                assert time.process_time() - begun < SECONDS
            outcomes["read"] += 1
            check_counts(reader, path, damaged, reading)
            for document in reading.documents:
                for a in document.annotations:
                    assert all(0 <= s < e <= len(document.text) and document.text[s:e].strip() for s, e in a.spans)
    # A test that sees errors alone, or none, has tried nothing; a few rounds may.
    if ROUNDS < 100:
        return
    assert outcomes["error"] or kind == "windows" or (reader, kind) in HARMLESS
    assert outcomes["read"] or kind in ("binary", "encoded", "cut")


@pytest.mark.parametrize("kind", ["spliced", "cut", "binary", "flipped"])
def test_damaged_parquet_is_an_error_or_reads_the_same(kind):
    """Pages have checksums, so that no damage is read as other text."""

    def flipped(data: bytes, rng: random.Random) -> bytes:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)

    rng = random.Random(kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.parquet")
        registry.write(PIECES, "parquet", path)
        whole = path.read_bytes()
        published = [(d.doc_id, d.text, d.annotations) for d in PIECES]
        for _ in range(ROUNDS):
            path.write_bytes({**DAMAGES, "flipped": flipped}[kind](whole, rng))
            reading = ReadResult()
            try:
                reading.documents.extend(READERS["parquet"](path, "MSH", (), reading))
            except UserError as error:
                assert re.fullmatch(rf"{re.escape(str(path))}:[0-9]+", error.where), str(error)
                continue
            except Exception:
                pytest.fail(traceback.format_exc())
            assert [(d.doc_id, d.text, d.annotations) for d in reading.documents] == published


def test_a_seed_reads_whole(tmp_path):
    """The undamaged files hold what they are meant to."""
    for reader in [*LAYOUTS, "parquet"]:
        seed(reader, tmp_path / reader)
        reading = ReadResult()
        reading.documents.extend(READERS[LAYOUTS.get(reader, reader)](tmp_path / reader, "MSH", (), reading))
        wanted = ONE_PIECE if reader in ("pubtator", "medmentions", "conll", "conll untyped") else PIECES
        assert sorted(d.doc_id for d in reading.documents) == sorted(d.doc_id for d in wanted)
        assert sorted(len(d.annotations) for d in reading.documents) == sorted(len(d.annotations) for d in wanted)
        if reader != "parquet":
            check_counts(reader, tmp_path / reader, tmp_path / reader, reading)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_documents_are_yielded_before_the_file_is_read_on(reader, tmp_path):
    """The first document is there although the file breaks off behind the others: nothing waits for the end."""
    path = tmp_path / "corpus"
    if reader in ("share", "brat"):
        seed(reader, path)
        last = sorted(p for p in path.iterdir() if p.suffix in (".ann", ".pipe"))[-1]
        last.write_text("damaged\n")
    else:
        documents = (Document(f"d{i}", f"Gout number {i} .", (mention((0, 4)),), "") for i in range(3000))
        registry.write(documents, "pubtator" if reader == "medmentions" else reader, path)
        if reader == "parquet":
            path = _third_group_damaged(path)
        else:
            path.write_bytes(path.read_bytes()[:-9] + b"\xff\n")
    found = READERS[reader](path, "MSH", (), ReadResult())
    assert len(next(found).annotations) >= 1
    with pytest.raises(UserError):
        list(found)


def _third_group_damaged(path: Path) -> Path:
    import pyarrow.parquet as pq

    column = pq.ParquetFile(path).metadata.row_group(2).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[start + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    return path
