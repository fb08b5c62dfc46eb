"""Normalization's speed, against a plain loop; and exact search among a million names. Run by `make bench-linking`, which makes the inputs.

The plain loop embeds every mention and name of every cell anew, in shuffled batches padded to their longest, builds one index
per cell and searches it. It would take hours on the whole grid, so its parts are timed on stated samples and added up
linearly; that it predicts the same is checked on cells small enough to run whole. The grid is that of the open preset for the linker
`mention` on NCBI Disease with the generators that need no language model.

    python tests/benchmarks/linking.py [--results results/open] [--part grid|million]
"""

import argparse
import itertools
import json
import resource
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow.compute as pc
import torch
from transformers import AutoModel, AutoTokenizer

from mentionforge import tables
from mentionforge.models import folder
from mentionforge.normalization import embed, linking
from mentionforge.normalization.linkers import EncoderLinker
from mentionforge.normalization.linkers.encoder import VectorRetriever
from mentionforge.normalization.search import IndexedEntries, best_concepts
from mentionforge.normalization.settings import Index

CORPUS, GENERATORS, STRATEGIES, INDEXES = (
    "ncbi_disease",
    ("names", "template"),
    ("naive", "ideal", "supplemental", "ablation"),
    ("train", "kb", "train+kb"),
)
SAMPLE, SMALL = 2000, 2000
SHARED = "mention_abbr"
"""Linker whose embeddings of names and notes are those of `mention` too: the two differ in how a mention is read."""


def spec(path: Path, kind: str, entry) -> Path:
    path.write_text(json.dumps({"kind": kind, "name": path.stem, "part": None, "stage_version": 2, "settings": entry.model_dump(mode="json")}))
    return path


class PlainLoop:
    """What one writes first: no sorting, no caching, one index per cell."""

    def __init__(self, stamp: Path) -> None:
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(folder(stamp)), AutoModel.from_pretrained(folder(stamp)).eval()

    def embed(self, texts: list[str]) -> np.ndarray:
        order = np.random.default_rng(0).permutation(len(texts))
        vectors = np.empty((len(texts), 384), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), 128):
                some = order[start : start + 128]
                inputs = self.tokenizer([texts[i] for i in some], padding=True, truncation=True, max_length=25, return_tensors="pt")
                hidden = self.model(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1)
                vectors[some] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
        return vectors

    def search(self, vectors: np.ndarray, cuis: list[list[str]], queries: np.ndarray, top: int = 100) -> list[list[tuple[str, float]]]:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        values, rows = index.search(queries, min(4 * top, len(vectors)))
        found = []
        for scores, entries in zip(values, rows, strict=True):
            concepts: dict[str, list[float]] = {}
            for score, entry in zip(scores, entries, strict=True):
                for cui in cuis[entry]:
                    concepts.setdefault(cui, []).append(round(float(score), 6))
            order = sorted(concepts, key=lambda c: (-max(concepts[c]), -concepts[c].count(max(concepts[c])), c))
            found.append([(cui, max(concepts[cui])) for cui in order[:top]])
        return found


def timed(what: str, action):
    begun = time.perf_counter()
    result = action()
    seconds = time.perf_counter() - begun
    print(f"    {what}: {seconds:.1f} s", flush=True)
    return result, seconds


def grid(results: Path, resources: Path) -> None:
    stamp = resources / "models" / "minilm" / "fetched.json"
    kb = results / "kb" / "open"
    plain = PlainLoop(stamp)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        linker = spec(place / "linker.json", "linkers", EncoderLinker(kind="mention", model="minilm", pooling="mean"))
        indexes = {name: spec(place / f"{name}.json", "indexes", Index(sources=tuple(name.split("+")))) for name in INDEXES}
        cells = [("none", "none", i) for i in INDEXES] + list(itertools.product(GENERATORS, STRATEGIES, INDEXES))
        print(f"this project, all {len(cells)} cells of the linker `mention` on {CORPUS}:")

        embedding = 0.0
        folders = {"kb": "kb.open", "corpus": f"corpus.{CORPUS}", **{g: f"generator.{g}" for g in GENERATORS}}
        for name, source in folders.items():
            by = "mention" if name == "corpus" else SHARED
            (place / name).symlink_to((results / "embeddings" / by / source).resolve())
            embedding += float((results / "benchmarks" / "embeddings" / by / f"{source}.tsv").read_text().splitlines()[1].split("\t")[0])
        print(f"    embeddings, once: {embedding:.1f} s, as their jobs took")

        def link(generator: str, strategy: str, outs: dict[str, Path], entries: Path = place) -> None:
            found = place / "found.parquet"
            files = [linking.IndexFiles(indexes[i], out, out.with_suffix(".calibration"), found if "kb" in i else None) for i, out in outs.items()]
            more: dict[str, Path] = {}
            if generator != "none":
                more |= {"synthetic": entries / generator / "entries.parquet"}
                more |= {"chosen": results / "augmentation" / CORPUS / generator / strategy / "notes.parquet"}
            linking.link(linker, entries / "corpus" / "entries.parquet", files, **more)

        def search(names: Path) -> None:
            xrefs = kb / "xrefs.parquet"
            linking.search_kb(
                linker, indexes["kb"], place / "corpus" / "entries.parquet", names / "entries.parquet", kb / "names.parquet", xrefs, place / "found.parquet"
            )

        _, searching = timed("search of the names, once", lambda: search(place / "kb"))
        jobs = [(g, s, {i: place / f"{g}.{s}.{i}.parquet" for i in INDEXES}) for g, s in dict.fromkeys(cell[:2] for cell in cells)]
        _, linked = timed("cells", lambda: [link(*job) for job in jobs])
        ours = embedding + searching + linked

        print(f"plain loop, timed on samples ({SAMPLE:,} names; one index of all names):")
        names = tables.read(tables.EMBEDDED, place / "kb" / "entries.parquet")
        chosen = np.sort(np.random.default_rng(1).choice(len(names), SAMPLE, replace=False))
        texts = names["text"].take(chosen).to_pylist()
        _, per_sample = timed(f"embedding {SAMPLE:,} names", lambda: plain.embed(texts))
        tables.write(tables.NAMES, place / "sample.parquet", [{"cui": "C", "name": t, "source": "S", "term_type": "T", "preferred": True} for t in texts])
        _, sorted_sample = timed("the same names, this project", lambda: embed.embed_kb(linker, stamp, place / "sample.parquet", place / "sample"))
        vectors = np.load(place / "kb" / "vectors.npy")
        mentions = tables.read(tables.EMBEDDED, place / "corpus" / "entries.parquet")
        test = mentions.filter(pc.and_(pc.equal(mentions["split"], "test"), pc.greater(pc.list_value_length(mentions["cuis"]), 0)))
        queries = np.load(place / "corpus" / "vectors.npy")[test["vector"].to_numpy()]
        dense, cuis = vectors[names["vector"].to_numpy()], names["cuis"].to_pylist()
        _, per_search = timed("index and search of all names", lambda: plain.search(dense, cuis, queries))
        train = mentions.filter(pc.and_(pc.equal(mentions["split"], "train"), pc.greater(pc.list_value_length(mentions["cuis"]), 0)))
        total = 0.0
        for generator, strategy, index in cells:
            notes = 0
            if generator != "none":
                notes = len(tables.read(tables.CHOSEN, results / "augmentation" / CORPUS / generator / strategy / "notes.parquet"))
            searched = len(train) * ("train" in index) + len(names) * ("kb" in index) + notes
            total += (searched + len(test)) * per_sample / SAMPLE + searched * per_search / len(names)
        print(f"  whole grid: {ours:.0f} s against {total:,.0f} s by extrapolation: {total / ours:.0f} times")
        print(f"  embedding alone, the same {SAMPLE:,} names: {per_sample / sorted_sample:.1f} times")

        print(f"predictions on the sample (train whole; train+kb with {SMALL:,} names; train with template by supplemental):")
        small = names.take(np.sort(np.random.default_rng(2).choice(len(names), SMALL, replace=False)))
        tables.write(tables.EMBEDDED, place / "small" / "entries.parquet", small)
        np.save(place / "small" / "vectors.npy", vectors)
        search(place / "small")
        asked = plain.embed(test["text"].to_pylist())
        for generator, strategy, index in (("none", "none", "train"), ("none", "none", "train+kb"), ("template", "supplemental", "train")):
            texts, concepts = train["text"].to_pylist(), train["cuis"].to_pylist()
            if "kb" in index:
                texts, concepts = texts + small["text"].to_pylist(), concepts + small["cuis"].to_pylist()
            if generator != "none":
                entries = tables.read(tables.EMBEDDED, place / generator / "entries.parquet")
                notes = tables.read(tables.CHOSEN, results / "augmentation" / CORPUS / generator / strategy / "notes.parquet")["note_id"]
                entries = entries.filter(pc.is_in(entries["note_id"], value_set=notes.combine_chunks()))
                texts, concepts = texts + entries["text"].to_pylist(), concepts + entries["cuis"].to_pylist()
            expected = plain.search(plain.embed(texts), concepts, asked)
            link(generator, strategy, {index: place / "check.parquet"})
            found: dict[str, list[tuple[str, float]]] = {}
            for row in tables.read(tables.LINKED, place / "check.parquet").to_pylist():
                found.setdefault(row["mention_id"], []).append((row["cui"], row["score"]))
            same, close, odd = 0, 0, 0
            for mention, theirs in zip(test["entry_id"].to_pylist(), expected, strict=True):
                mine = found[mention]
                same += mine[0][0] == theirs[0][0]
                if mine[0][0] != theirs[0][0]:
                    close += abs(mine[0][1] - theirs[0][1]) < 2e-6
                    odd += abs(mine[0][1] - theirs[0][1]) >= 2e-6
            print(
                f"    {index} {generator}: {same:,} of {len(test):,} first concepts are the same, {close} differ at scores equal within 2e-6, {odd} otherwise"
            )
            if odd:
                raise SystemExit("predictions differ")


def million() -> None:
    """Exact search of 5,000 mentions among a million names of 384 dimensions, two names per concept."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "vectors.npy"
        stored = np.lib.format.open_memmap(path, "w+", np.float32, (1_000_000, 384))
        for start in range(0, len(stored), 100_000):
            block = rng.standard_normal((100_000, 384), dtype=np.float32)
            stored[start : start + 100_000] = block / np.linalg.norm(block, axis=1, keepdims=True)
        queries = stored[rng.choice(len(stored), 5000, replace=False)] + 0.02 * rng.standard_normal((5000, 384), dtype=np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        stored.flush()
        del stored
        row = np.arange(1_000_000)
        names = IndexedEntries(np.load(path, mmap_mode="r"), row, row // 2, np.ones(1_000_000, np.int64), row // 2)
        found, _ = timed("search of 5,000 among 1,000,000", lambda: best_concepts(queries, names, VectorRetriever("cosine")))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"    {len(found.query):,} rows, 100 concepts for each query: {bool((np.bincount(found.query) >= 100).all())}; peak memory {peak:.2f} GiB")
        exact = np.load(path, mmap_mode="r")
        for query in rng.choice(5000, 20, replace=False):
            scores = np.concatenate([exact[i : i + 100_000] @ queries[query] for i in range(0, len(exact), 100_000)])
            expected = np.sort(np.maximum(scores[::2], scores[1::2]))[::-1][:100]
            np.testing.assert_allclose(found.score[(found.query == query) & (found.rank <= 100)], expected, atol=2e-6)
        print("    20 queries equal brute force")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, default=Path("results/open"))
    parser.add_argument("--resources", type=Path, default=Path("resources"))
    parser.add_argument("--part", choices=("grid", "million"))
    given = parser.parse_args()
    print(f"torch with {torch.get_num_threads()} threads")
    if given.part != "grid":
        million()
    if given.part != "million":
        grid(given.results, given.resources)
