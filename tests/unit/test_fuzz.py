"""Two thousand damaged inputs: one line or an answer each; no traceback, no hang, no row that is neither read nor counted.

MENTIONFORGE_FUZZ=10 (`make fuzz`) makes ten times as many. What an input still says is counted here by other means than the program's.
"""

import contextlib
import copy
import csv
import dataclasses
import io
import json
import os
import random
import re
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import test_corpora_fuzz as corpora
import test_generation_replay as replays
import yaml
from fastapi.testclient import TestClient

import annotating
from annotating import CELL, TESTS
from checkout import ROOT
from mentionforge.annotate import bundle, cells, reading
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.service import create
from mentionforge.config import load_config
from mentionforge.config_files import merge, read
from mentionforge.corpora.documents import ReadResult
from mentionforge.corpora.formats.registry import READERS
from mentionforge.errors import UserError
from mentionforge.generation.kinds import replay
from mentionforge.provenance import sha256_file

FACTOR = int(os.environ.get("MENTIONFORGE_FUZZ", 1))
INPUTS = {"readers": 450, "tables": 300, "replay": 300, "config": 350, "settings": 200, "bundle": 150, "service": 250}
assert sum(INPUTS.values()) == 2000
SECONDS = 10.0
"""No input of a few kilobytes may take longer."""


class HangError(BaseException):
    """An input took too long; no part of the program catches it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def late(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Tally:
    """What became of the inputs."""

    inputs: int = 0
    refused: int = 0
    answered: int = 0
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def count(self, label: str, one: Callable[[], bool]) -> None:
        """Try an input: true for an answer, `UserError` or false for a refusal, AssertionError where something is lost."""
        self.inputs += 1
        try:
            with limited(SECONDS):
                answered = one()
        except UserError as error:
            answered = False
            if "\n" in str(error) or not error.what or not str(error).isprintable():
                self.lost.append(f"{label}: {str(error)!r}")
        except AssertionError:
            self.lost.append(f"{label}: {traceback.format_exc(limit=-2)}")
            return
        except HangError:
            self.hangs.append(label)
            return
        except Exception:
            self.tracebacks.append(f"{label}: {traceback.format_exc(limit=-4)}")
            return
        self.answered += answered
        self.refused += not answered


Target = Callable[[Path, random.Random, Tally, int], None]


def fuzz_readers(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """Corpora of every layout; what a whole one holds is either read or counted."""
    for i in range(n):
        layout, kind = rng.choice(sorted(corpora.LAYOUTS)), rng.choice(sorted(corpora.DAMAGES))
        path = folder / str(i)
        corpora.seed(layout, path)
        damaged = rng.choice(sorted(path.iterdir()) if path.is_dir() else [path])
        damaged.write_bytes(corpora.DAMAGES[kind](damaged.read_bytes(), rng))

        def one(layout: str = layout, path: Path = path, damaged: Path = damaged) -> bool:
            reading_ = ReadResult()
            try:
                reading_.documents.extend(READERS[corpora.LAYOUTS[layout]](path, "MSH", (), reading_))
            except UserError as error:
                assert re.fullmatch(rf"{re.escape(str(path))}(/[^/:]+)?:[0-9]+", error.where), str(error)
                raise
            corpora.check_counts(layout, path, damaged, reading_)
            return True

        tally.count(f"{layout} {kind} {damaged.read_bytes()!r:.400}", one)


def rows_of(data: bytes) -> int:
    """Lines of a JSONL file that are not blank."""
    return sum(bool(line.strip(b" \t\r\xef\xbb\xbf\x0b\x0c\x1c\x1d\x1e\x1f\x85")) for line in data.split(b"\n"))


def fuzz_tables(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """JSONL of notes to annotate: each row is a document or an error; CSV and TSV: nothing raises, and what is read is counted."""
    texts = ["Gout, après; flu", 'He said "no gout"', "Line one\nline two", "😀 asthma\u2028here", "x" * 300]
    for i in range(n):
        suffix, kind = rng.choice([".jsonl", ".csv", ".tsv"]), rng.choice(sorted(corpora.DAMAGES))
        if suffix == ".jsonl":
            whole = "".join(json.dumps({"id": f"n{k}", "text": t}, ensure_ascii=k % 2 == 0) + "\n" for k, t in enumerate(texts)).encode()
        else:
            out = io.StringIO()
            csv.writer(out, delimiter="," if suffix == ".csv" else "\t").writerows([("id", "text"), *((f"n{k}", t) for k, t in enumerate(texts))])
            whole = out.getvalue().encode()
        path = folder / f"{i}{suffix}"
        path.write_bytes(corpora.DAMAGES[kind](whole, rng))

        def one(path: Path = path, suffix: str = suffix) -> bool:
            options, count = reading.Options(), reading.ReadCounts()
            found = list(reading.read_items(reading.list_files([str(path)], options), options, counts=count))
            assert count.documents == len(found)
            of_file = len(found) == 1 and found[0].error in ("empty", "unreadable table", "unreadable file")
            if not of_file:
                assert count.rows == len(found)
                assert suffix != ".jsonl" or len(found) == rows_of(path.read_bytes()), (len(found), rows_of(path.read_bytes()))
            return not of_file

        tally.count(f"{kind} {path.read_bytes()!r:.400}", one)


def fuzz_replay(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """Notes written elsewhere: as many as the file has rows, or the row that is wrong."""
    for i in range(n):
        suffix, kind = rng.choice([".jsonl", ".csv", ".parquet"]), rng.choice(sorted(corpora.DAMAGES))
        path = replays.write(folder / f"{i}{suffix}")
        if suffix == ".parquet":  # with checksums of its pages, without which no reader can tell one letter from another
            pq.write_table(pq.read_table(path), path, write_page_checksum=True)
        path.write_bytes(corpora.DAMAGES[kind](path.read_bytes(), rng))

        def one(path: Path = path, suffix: str = suffix) -> bool:
            try:
                found = list(replay.read(path))
            except UserError as error:
                assert re.fullmatch(rf"{re.escape(str(path))}:[0-9]+", error.where), str(error)
                raise
            if suffix == ".jsonl":
                assert len(found) == rows_of(path.read_bytes())
            elif suffix == ".csv":
                with open(path, newline="", encoding="utf-8-sig") as handle:
                    assert len(found) == sum(bool(row) for row in csv.reader(handle)) - 1
            else:
                assert [(c, t) for _, c, t in found] == replays.ROWS
            return True

        tally.count(f"{kind} {path.read_bytes()!r:.400}", one)


WORDS = [
    "&a ",
    "*a",
    "!x ",
    "!!python/name:os.system ",
    "!!set ",
    "<<: *a",
    "---\n",
    "...\n",
    "\t",
    ": ",
    "no",
    "12:30",
    "1.10",
    ".nan",
    "1e999",
    "010",
    "2026-11-28",
]
WORDS += [
    "- ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "|\n",
    ">-\n",
    "%",
    "@",
    "`",
    "? ",
    "\\ud800",
    "\\x00",
    "~",
    "sweep: [1, 2]",
    "zip: {a: 1}",
    "\n",
    "\r\n",
    "  ",
    "#",
    "\u2028",
    "\ufeff",
]


def worded(data: bytes, rng: random.Random) -> bytes:
    """Pieces of YAML put anywhere."""
    text = data.decode()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(WORDS) + text[at + rng.choice((0, 0, 1, 5)) :]
    return text.encode()


def fuzz_config(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """Files: refused, or all that YAML says of them."""
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    seeds = [(ROOT / name).read_bytes() for name in ("tests/mini.yaml", "config.yaml", "config/ablation.yaml")]
    damages = {**corpora.DAMAGES, "worded": worded}
    for i in range(n):
        kind = rng.choice(["worded"] * 6 + sorted(damages))
        path = folder / f"{i}.yaml"
        path.write_bytes(damages[kind](rng.choice(seeds), rng))

        def one(path: Path = path) -> bool:
            written = read([path])
            assert written.data == yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
            load_config(merge(copy.deepcopy(base), written.data), root=ROOT, positions=written.positions)
            return True

        tally.count(f"{kind} {path.read_bytes()!r:.2000}", one)


ODD: list[Any] = [None, "", "x", "a/b", "~", "x" * 400, "\ud800", "a\0", -1, 0, 3, 10**30, 2.5, True, [], {}, [None], ["x"], [[]], {"x": 1}, {"sweep": [1, 2]}]
ODD += [{"zip": {"a": 1}}, {"sweep": []}, {"sweep": {}}, {"kind": "exact"}, float("nan"), float("inf"), {1: 2}, {"sweep": list(range(200))}]


def fuzz_settings(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """Mappings, as `snakemake --config` gives them: any value anywhere."""
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    for _ in range(n):
        raw = copy.deepcopy(base)
        for _ in range(rng.choice((1, 1, 2))):
            node: Any = raw
            while True:
                key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
                inner = node[key]
                if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
                    node = inner
                    continue
                node[key] = copy.deepcopy(rng.choice(ODD))
                break

        def one(raw: Any = raw) -> bool:
            load_config(raw, root=ROOT)
            return True

        tally.count(f"{raw!r:.4000}", one)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Some bits the other way."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)) if changed else ():
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def fuzz_bundle(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """A file of a bundle changed: refused; with digests that fit the change, refused or of use; an archive of it changed: refused, or the same."""
    found = cells.find(annotating.make(folder) / CELL, linker="tfidf/coded")
    bundle.write(found, folder / "b")
    bundle.write(dataclasses.replace(found, linkers=cells.find(folder / "results" / CELL, linker="exact/coded").linkers), folder / "b.tar")
    archive = (folder / "b.tar").read_bytes()
    mentions = [m.surface for found in Annotator(bundle.read(folder / "b.tar")).annotate(TESTS) for m in found]
    whole = {p: p.read_bytes() for p in sorted((folder / "b").rglob("*")) if p.is_file()}
    manifest, sums = folder / "b/bundle.json", folder / "b/SHA256SUMS.txt"
    damages = {**corpora.DAMAGES, "flipped": flipped}
    for i in range(n):
        if i % 4 == 0:
            kind = rng.choice(sorted(damages))
            (folder / "b.tar").write_bytes(damages[kind](archive, rng))

            def packed() -> bool:
                annotator = Annotator(bundle.read(folder / "b.tar", scratch=folder))
                assert [m.surface for found in annotator.annotate(TESTS) for m in found] == mentions
                return True

            tally.count(f"{kind} of a .tar", packed)
            while bundle._unpacked_folders:
                bundle._unpacked_folders.pop().cleanup()
            continue
        kind, path, fitting = rng.choice(sorted(damages)), rng.choice(sorted(whole)), rng.random() < 0.6
        changed = damages[kind](whole[path], rng)
        if changed == whole[path]:
            changed += b"\n"
        path.write_bytes(changed)
        if fitting and path != sums:
            if path != manifest:
                data = json.loads(whole[manifest])
                data["files"][path.relative_to(folder / "b").as_posix()] = sha256_file(path)
                manifest.write_text(json.dumps(data))
            sums.write_text(f"{sha256_file(manifest)}  bundle.json\n")

        def one(fitting: bool = fitting and path != sums) -> bool:
            annotator = Annotator(bundle.read(folder / "b"))
            list(annotator.annotate(TESTS))
            assert fitting, "a change that the digests do not allow"
            return True

        tally.count(f"{kind} {path.name} {fitting} {changed!r:.600}", one)
        for other in {path, manifest, sums}:
            other.write_bytes(whole[other])


def fuzz_service(folder: Path, rng: random.Random, tally: Tally, n: int) -> None:
    """Bodies of requests: as many answers as documents, or a refusal that says why; and the next good one is answered."""
    annotator = Annotator(cells.find(annotating.make(folder) / CELL, linker="exact/train+kb"))
    good = json.dumps({"documents": [{"text": t, "doc_id": f"d{k}"} for k, t in enumerate(TESTS)]}).encode()
    kinds = {"Content-Type": "application/json"}
    with TestClient(create(annotator), base_url="http://localhost") as client:
        for _ in range(n):
            kind = rng.choice(sorted(corpora.DAMAGES))
            body = corpora.DAMAGES[kind](good, rng)
            if rng.random() < 0.5:
                at = rng.randrange(len(good))
                body = (
                    good[:at]
                    + rng.choice([rb"\ud800", rb"\udfff", b"[" * 3000, b"9" * 400, b"NaN", b"null", b'"', rb"\u0000", b"\x00", "é".encode()])
                    + good[at:]
                )

            def one(body: bytes = body) -> bool:
                answer = client.post("/annotate", content=body, headers=kinds)
                if answer.status_code != 200:
                    assert answer.status_code in (400, 413, 422) and answer.json()["detail"], answer.text
                    assert client.post("/annotate", content=b'{"documents": [{"text": "Gout"}]}', headers=kinds).status_code == 200
                    return False
                asked = json.loads(body)["documents"]
                assert [d["doc_id"] for d in answer.json()["documents"]] == [d.get("doc_id") for d in asked]
                return True

            tally.count(f"{kind} {body!r:.600}", one)


TARGETS: dict[str, Target] = {name.removeprefix("fuzz_"): value for name, value in list(globals().items()) if name.startswith("fuzz_")}
assert TARGETS.keys() == INPUTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("target", INPUTS)
def test_no_traceback_no_hang_nothing_lost(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    TARGETS[target](tmp_path, random.Random(f"{target} {FACTOR}"), tally, INPUTS[target] * FACTOR)
    with capsys.disabled():
        print(
            f"\n{target}: {tally.inputs:,} inputs, {tally.answered:,} read, {tally.refused:,} refused; "
            f"{len(tally.tracebacks)} tracebacks, {len(tally.hangs)} hangs, {len(tally.lost)} with rows lost"
        )
    assert tally.inputs == INPUTS[target] * FACTOR
    assert not tally.tracebacks, "\n\n".join(tally.tracebacks[:5])
    assert not tally.hangs, tally.hangs[:5]
    assert not tally.lost, "\n\n".join(tally.lost[:5])
    assert tally.refused and tally.answered, "a test that sees errors alone, or none, has tried nothing"
