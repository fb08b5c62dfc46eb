"""Throughput of annotation on the test texts of NCBI Disease and BC5CDR, against a loop that handles one document at a time, and memory over 10,000.

    python tests/benchmarks/bench_annotate.py --from results/open --linker mention_abbr/train+kb_coded

The loop uses the same models, index and search: for each document it splits sentences, recognizes, embeds each mention and searches it. Both sides take turns in
one process; results are compared, and also with the experiment's own predictions, where the results folder has them. Times are of annotation alone, with everything loaded; the time to load a bundle is measured in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from mentionforge import abbreviations
from mentionforge import text as units
from mentionforge.annotate import bundle, cells, run
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.reading import Options
from mentionforge.normalization.loaded import Searcher
from mentionforge.recognition.sentences import tokenized_document

LOAD = """
import sys, time
begun, used = time.perf_counter(), time.process_time()
from pathlib import Path
from mentionforge.annotate import bundle
from mentionforge.annotate.pipeline import Annotator
annotator = Annotator(bundle.read(Path(sys.argv[1]), True))
loaded, spent = time.perf_counter(), time.process_time()
list(annotator.annotate(["Huntington disease."]))
print(f"{loaded - begun:.1f} {spent - used:.1f} {time.perf_counter() - loaded:.1f}")
"""


def one_by_one(annotator: Annotator, searcher: Searcher, text: str) -> list[tuple[int, int, str | None]]:
    """What a plain loop does with a document: nothing is shared with other documents or mentions."""
    [sentences] = units.sentences([text])
    doc = tokenized_document("d", text, [{"start": a, "end": b} for a, b in sentences])
    known = abbreviations.long_forms(text)
    found = []
    annotator.recognizer.forget()
    for (first, last), _ in annotator.recognizer.recognize([doc])["d"]:
        start, end = doc.words[first][0], doc.words[last - 1][1]
        searcher._known.clear()
        surface = text[start:end]
        [ranks] = searcher.rank([surface], [abbreviations.expand(surface, known)], [text], [(0, ((start, end),))])
        found.append((start, end, ranks[0].cui if ranks else None))
    return found


def batched(annotator: Annotator, texts: list[str]) -> list[list[tuple[int, int, str | None]]]:
    """The annotator, with nothing remembered of earlier rounds."""
    if isinstance(annotator.linker, Searcher):
        annotator.linker._known.clear()  # sentences are forgotten by each call of `annotate`
    return [[(m.start, m.end, m.concepts[0].cui if m.concepts else None) for m in mentions] for mentions in annotator.annotate(texts)]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--from", dest="given", type=Path, default=Path("results/open"))
    arguments.add_argument("--recognizer", default="ncbi_disease/none/none/minilm/real_only/seed1")
    arguments.add_argument("--linker", default="mention_abbr/train+kb_coded")
    arguments.add_argument("--kb")
    arguments.add_argument("--corpora", nargs="*", default=["ncbi_disease", "bc5cdr"])
    arguments.add_argument("--loop", type=int, default=30, help="Documents per turn of the loop.")
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--length", type=int, default=500, help="Characters of each half of a document of the memory test.")
    arguments.add_argument("--many", type=int, default=10_000, help="Documents of the memory test; 0: not run.")
    given = arguments.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")
    with tempfile.TemporaryDirectory() as scratch:
        materials = cells.find(given.given, given.recognizer, given.linker, given.kb)
        place = Path(scratch) / "bundle"
        begun = time.perf_counter()
        bundle.write(materials, place, licensed_text=True)
        size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
        print(f"bundle: {size / 1e6:.0f} MB written in {time.perf_counter() - begun:.1f} s")
        done = subprocess.run([sys.executable, "-c", LOAD, str(place)], capture_output=True, text=True, check=True)
        load, used, first = done.stdout.split()
        print(f"bundle: loaded in {load} s ({used} s of CPU time), imports and digests included; first document after {first} s more", flush=True)
        annotator = Annotator(bundle.read(place, True))
        for corpus in given.corpora:
            rows = pq.read_table(given.given / "corpora" / corpus / "documents.parquet").to_pylist()
            texts = {r["doc_id"]: r["text"] for r in rows if r["split"] == "test"}
            found = measure(corpus, annotator, list(texts.values()), given.loop, given.turns)
            print(compared(given.given, cells.cell_of(given.given, given.recognizer, given.linker), corpus, dict(zip(texts, found, strict=True))), flush=True)
        if given.many:
            memory(annotator, given.given, Path(scratch), given.many, given.length)


def compared(results: Path, cell: cells.AnnotatorCell, corpus: str, found: dict[str, list[tuple[int, int, str | None]]]) -> str:
    """How much of the experiment's own predictions on these documents was found: mentions, and first concepts where a gold mention has the same place."""
    own, generator, strategy, recognizer, schedule, seed = cell.recognition
    schedule = schedule if corpus == own else f"{schedule}~train={own}"
    path = results / "recognition" / corpus / generator / strategy / recognizer / schedule / seed / "predictions.parquet"
    if not path.is_file():
        return f"{corpus}: the experiment has not read it with this recognizer"
    predicted = {(r["doc_id"], r["start"], r["end"]) for r in pq.read_table(path).to_pylist() if r["doc_id"] in found}
    ours = {(doc_id, start, end): cui for doc_id, mentions in found.items() for start, end, cui in mentions}
    told = f"{corpus}: {len(predicted & set(ours))} of the experiment's {len(predicted)} predicted mentions found, {len(set(ours) - predicted)} others"
    path = results / "normalization" / Path(*cell.linking) / "predictions.parquet"
    if corpus != cell.linking[0] or not path.is_file():
        return told
    gold = pq.read_table(results / "corpora" / corpus / "mentions.parquet").to_pylist()
    places = {r["mention_id"]: (r["doc_id"], r["spans"][0]["start"], r["spans"][0]["end"]) for r in gold if len(r["spans"]) == 1}
    first = {places[r["mention_id"]]: r["cui"] for r in pq.read_table(path).to_pylist() if r["rank"] == 1 and r["mention_id"] in places}
    both = sorted(set(first) & set(ours))
    return f"{told}; of {len(both)} at the place of a gold mention, {sum(first[k] == ours[k] for k in both)} with the experiment's first concept"


def measure(corpus: str, annotator: Annotator, texts: list[str], some: int, turns: int) -> list[list[tuple[int, int, str | None]]]:
    """Both sides in turns, on the same texts; returns what was found."""
    tokens = sum(len(units.words(t)) for t in texts)
    assert isinstance(annotator.linker, Searcher)
    searcher = annotator.linker
    ours, loop, equal, count = [], [], 0, 0
    cpu: dict[str, list[float]] = {"ours": [], "loop": []}
    batched(annotator, texts[:5])
    for turn in range(turns):
        begun, used = time.perf_counter(), time.process_time()
        found = batched(annotator, texts)
        ours.append((time.perf_counter() - begun) / len(texts))
        cpu["ours"].append((time.process_time() - used) / len(texts))
        part = range(turn * some % len(texts), min(turn * some % len(texts) + some, len(texts)))
        begun, used = time.perf_counter(), time.process_time()
        plain = [one_by_one(annotator, searcher, texts[i]) for i in part]
        loop.append((time.perf_counter() - begun) / len(part))
        cpu["loop"].append((time.process_time() - used) / len(part))
        for i, mentions in zip(part, plain, strict=True):
            count += len(mentions)
            equal += len(set(mentions) & set(found[i]))
    best, slow = sorted(ours)[turns // 2], sorted(loop)[turns // 2]
    mine, theirs = (sorted(cpu[side])[turns // 2] for side in ("ours", "loop"))
    print(
        f"{corpus}: {len(texts)} documents, {tokens:,} tokens, {sum(map(len, found)):,} mentions; {1 / best:.1f} documents/s, {tokens / len(texts) / best:,.0f}"
        f" tokens/s; one at a time {1 / slow:.2f} documents/s ({some} documents a turn); {slow / best:.1f} times; medians of {turns} turns;"
        f" by CPU time {1 / mine:.1f} and {1 / theirs:.2f} documents/s, {theirs / mine:.1f} times;"
        f" ours {' '.join(f'{1 / x:.1f}' for x in ours)}, loop {' '.join(f'{1 / x:.2f}' for x in loop)}; {equal} of {count} mentions and concepts equal",
        flush=True,
    )
    return found


def memory(annotator: Annotator, results: Path, scratch: Path, many: int, length: int) -> None:
    """Resident memory while many documents are annotated to a folder, no two of them the same."""
    texts = [r["text"] for c in ("ncbi_disease", "bc5cdr") for r in pq.read_table(results / "corpora" / c / "documents.parquet").to_pylist()]
    with open(scratch / "many.jsonl", "w", encoding="utf-8") as sink:
        for i in range(many):
            # Beginning and end of different abstracts, and a word of its own: new sentences, words and mentions throughout.
            a, b = texts[i % len(texts)], texts[(i * 7 + i // len(texts)) % len(texts)]
            words = " ".join(f"disease{i}x{k}" for k in range(5))
            sink.write(json.dumps({"doc_id": str(i), "text": f"{a[:length]} Patient {words}. {b[-length:]}"}) + "\n")
    real, seen = run.annotate_items, []

    def watched(items: object, a: Annotator) -> list[dict]:
        records = real(items, a)
        with open("/proc/self/statm") as handle:
            seen.append(int(handle.read().split()[1]) * resource.getpagesize() / 2**20)
        return records

    run.annotate_items = watched
    begun = time.perf_counter()
    summary = run.annotate([str(scratch / "many.jsonl")], annotator, "jsonl", scratch / "out", Options(), {})
    took = time.perf_counter() - begun
    tenth = max(1, len(seen) // 10)
    print(
        f"{summary.documents:,} documents, {summary.mentions:,} mentions in {took:.0f} s ({summary.documents / took:.1f} documents/s); resident MiB after the"
        f" first tenth {max(seen[:tenth]):.0f}, half {max(seen[: len(seen) // 2]):.0f}, end {seen[-1]:.0f}, highest {max(seen):.0f}"
    )


if __name__ == "__main__":
    main()
