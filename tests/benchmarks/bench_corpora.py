"""Reading corpora: NCBI Disease and BC5CDR with their ids mapped, and a corpus of 200,000 documents, with memory while it streams.

python tests/benchmarks/bench_corpora.py --data FOLDER [--kb FOLDER] [--documents 200000] [--sentences model|none] [--texts distinct|same]

FOLDER holds ncbi_disease/ and bc5cdr/ as published. Without --kb every id maps to a CUI of its own. The large corpus is BC5CDR in copies with
new ids; with `distinct` the letters outside of mentions are exchanged too, in each copy by another permutation, so that offsets stay and all
texts differ. Every measurement is a process of its own, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mentionforge import tables
from mentionforge.corpora.formats import pubtator

READ = """
import sys
from pathlib import Path
from mentionforge import text
from mentionforge.corpora.build import read_corpus
if sys.argv[4] == "none":
    text.sentences = lambda texts: ([(0, len(t))] for t in texts)
read_corpus(*map(Path, sys.argv[1:4]))
"""
NCBI = {s: f"ncbi_disease/NCBI{f}set_corpus.txt" for s, f in (("train", "train"), ("dev", "develop"), ("test", "test"))}
BC5CDR = {s: f"bc5cdr/CDR_{f}Set.PubTator.txt" for s, f in (("train", "Training"), ("dev", "Development"), ("test", "Test"))}


def main() -> None:
    """Measure, and print a line for each corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ncbi_disease and bc5cdr")
    parser.add_argument("--kb", type=Path, help="folder of a knowledge base")
    parser.add_argument("--documents", type=int, default=200_000, help="documents of the large corpus; 0: leave it out")
    parser.add_argument("--sentences", choices=("model", "none"), default="model", help="of the large corpus")
    parser.add_argument("--texts", choices=("distinct", "same"), default="distinct", help="of the large corpus")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mentionforge-bench-") as scratch:
        base = Path(scratch)
        published = {name: {s: given.data / f for s, f in files.items()} for name, files in (("ncbi_disease", NCBI), ("bc5cdr", BC5CDR))}
        kb = given.kb or write_kb(base / "kb", [path for files in published.values() for path in files.values()])
        for sentences in ("none", "model"):
            both = 0.0
            for name, files in published.items():
                seconds, _, peak = read(base, name, files, kb, sentences, "drop")
                both += seconds
                print(f"{name}, sentences by {sentences}: {seconds:.1f} s, at most {peak:.0f} MiB", flush=True)
            print(f"both, sentences by {sentences}: {both:.1f} s", flush=True)
        if given.documents:
            copies = -(-given.documents // 1500)
            files = {split: replicate(path, base / f"{split}.txt", copies, given.texts == "distinct") for split, path in published["bc5cdr"].items()}
            print(f"{copies * 1500:,} documents, {sum(p.stat().st_size for p in files.values()) / 1e6:.0f} MB", flush=True)
            seconds, over_time, peak = read(base, "large", files, kb, given.sentences, "keep")
            shown = ", ".join(f"{over_time[min(len(over_time) - 1, len(over_time) * k // 8)]:.0f}" for k in range(1, 9))
            print(f"large, {given.texts} texts, sentences by {given.sentences}: {seconds:.0f} s, at most {peak:.0f} MiB; after each eighth of the time {shown}")


def read(base: Path, name: str, files: dict[str, Path], kb: Path, sentences: str, duplicates: str) -> tuple[float, list[float], float]:
    """Wall seconds, resident MiB every half second, and the peak, of reading a corpus; processor time is printed."""
    settings = {"reader": "pubtator", "kb": "kb", "entity_types": ["Disease"] if name != "ncbi_disease" else [], "duplicates": duplicates}
    spec = base / f"{name}.json"
    spec.write_text(json.dumps({"kind": "corpora", "name": name, "settings": {**settings, "splits": {s: [str(p)] for s, p in files.items()}}}))
    begun, over_time, before = time.monotonic(), [], resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([sys.executable, "-c", READ, str(spec), str(kb), str(base / "out" / name), sentences], stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status")
        if status.exists() and (found := re.search(r"VmRSS:\s+(\d+)", status.read_text())):
            over_time.append(int(found[1]) / 1024)
        time.sleep(0.5)
    told = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise SystemExit(f"reading {name} failed: {told[-500:]}")
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{told.splitlines()[-1]}; {spent:.1f} s of processor time", flush=True)
    return seconds, over_time, max(over_time)


def write_kb(folder: Path, paths: list[Path]) -> Path:
    """A knowledge base in which every id of the files has a CUI of its own."""
    ids = {i for path in paths for d in pubtator.read(path, "MSH").documents for a in d.annotations for i in a.ids if i}
    xrefs = [{"source": i.split(":")[0], "code": i.split(":", 1)[1], "cui": f"X{i}", "via": "bench"} for i in ids]
    tables.write(tables.XREFS, folder / "xrefs.parquet", xrefs)
    tables.write(tables.RETIRED, folder / "retired.parquet", [])
    names = [{"cui": row["cui"], "name": row["cui"], "source": "B", "term_type": "PT", "preferred": True} for row in xrefs]
    tables.write(tables.NAMES, folder / "names.parquet", names)
    return folder


def replicate(path: Path, out: Path, copies: int, distinct: bool) -> Path:
    """Write a PubTator file's documents `copies` times, with new ids."""
    blocks = [block.split("\n") for block in path.read_text(encoding="utf-8").strip().split("\n\n")]
    with open(out, "w", encoding="utf-8") as handle:
        for copy in range(copies):
            letters = list(string.ascii_lowercase)
            random.Random(copy).shuffle(letters)
            exchange = str.maketrans(string.ascii_lowercase, "".join(letters)) if distinct else {}
            for block in blocks:
                handle.write("\n".join(renamed(block, copy, exchange)) + "\n\n")
    return out


def renamed(block: list[str], copy: int, exchange: dict[int, int]) -> Iterator[str]:
    """The lines of a document with another id, and with letters outside of mentions exchanged."""
    (old, _, title), (_, _, abstract) = (line.split("|", 2) for line in block[:2])
    text = f"{title} {abstract}"
    changed = list(text.translate(exchange))
    rows = [line.split("\t") for line in block[2:]]
    for row in rows:
        if len(row) >= 6:
            start, end = int(row[1]), int(row[2])
            changed[start:end] = text[start:end]
    yield f"{copy}_{old}|t|{''.join(changed[: len(title)])}"
    yield f"{copy}_{old}|a|{''.join(changed[len(title) + 1 :])}"
    for row in rows:
        yield "\t".join([f"{copy}_{old}", *row[1:]])


if __name__ == "__main__":
    main()
