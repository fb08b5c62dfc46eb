"""How long the statistics of 200 cells with 10,000 mentions take, from files to comparisons and all groups: `make bench-statistics`.

The target is 2 minutes on 2 cores.
"""

import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from mentionforge import tables
from mentionforge.corpora.settings import Corpus
from mentionforge.evaluation.compare import compare
from mentionforge.evaluation.settings import Statistics

MENTIONS, DOCUMENTS, CONCEPTS, DEPTH = 10_000, 1_000, 3_000, 100


def main() -> None:
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cuis = np.array([f"C{i:07d}" for i in range(CONCEPTS)])
        of_mention = cuis[(CONCEPTS * rng.random(2 * MENTIONS) ** 2).astype(int)]
        rows = []
        for i in range(2 * MENTIONS):
            doc, split, cui = i // (MENTIONS // DOCUMENTS), "test" if i < MENTIONS else "train", str(of_mention[i])
            row = {"doc_id": f"d{doc:05d}", "mention_id": f"m{i:05d}", "split": split, "spans": [{"start": 0, "end": 1}], "surface": "x"}
            row |= {"entity_type": "Disease", "concept_ids": [f"MSH:{cui}"], "cuis": [cui], "composite": False, "ood_bucket": tables.BUCKETS[i % 3]}
            rows.append(row | {k: v for k, v in (("expanded", None), ("concept_cuis", [[cui]])) if k in tables.MENTIONS.schema.names})
        tables.write(tables.MENTIONS, folder / "c/mentions.parquet", rows)
        docs = sorted({(r["doc_id"], r["split"]) for r in rows})
        tables.write(tables.DOCUMENTS, folder / "c/documents.parquet", [{"doc_id": d, "split": s, "text": "x", "sentences": []} for d, s in docs])
        types = [f"T{i:03d}" for i in (19, 20, 33, 37, 46, 47, 48, 49, 50, 184, 190, 191)]
        concepts = [{"cui": c, "preferred_name": c, "definition": None, "semantic_types": [types[i % 12]]} for i, c in enumerate(cuis.tolist())]
        tables.write(tables.CONCEPTS, folder / "kb/concepts.parquet", concepts)
        names = [(c, f"n{j}") for i, c in enumerate(cuis.tolist()) for j in range(1 + i % 25)]
        names = [{"cui": c, "name": n, "source": "X", "term_type": "PT", "preferred": n == "n0"} for c, n in names]
        tables.write(tables.NAMES, folder / "kb/names.parquet", names)
        settings = Corpus(reader="pubtator", kb="k", splits={"train": ("a",), "test": ("b",)}).model_dump(mode="json")
        (folder / "corpus.json").write_text(json.dumps({"kind": "corpora", "name": "c", "settings": settings}))
        predictions, chosen = [], []
        strategies = [f"s{i}" for i in range(16)]
        cells = [("none", "none"), *((g, s) for g in ("llm", "names", "template", "replay") for s in strategies)][:67]
        ids = np.repeat([f"m{i:05d}" for i in range(MENTIONS)], DEPTH)
        for generator, strategy in cells:
            for index in ("train", "kb", "train+kb"):
                found = cuis[(np.arange(DEPTH)[None] + rng.integers(0, CONCEPTS, MENTIONS)[:, None]) % CONCEPTS]
                hit = rng.random(MENTIONS) < 0.7
                found[hit, 0] = of_mention[:MENTIONS][hit]
                concepts, ranks = found.ravel(), np.tile(np.arange(1, DEPTH + 1), MENTIONS)
                table = {"mention_id": ids, "rank": ranks, "cui": concepts, "score": np.zeros(len(ids)), "entry": concepts}
                path = folder / f"normalization/c/{generator}/{strategy}/mention/{index}/predictions.parquet"
                tables.write(tables.LINKED, path, pa.table({k: pa.array(v) for k, v in table.items()}))
                predictions.append(path)
            if strategy != "none":
                path = folder / f"augmentation/c/{generator}/{strategy}/notes.parquet"
                tables.write(tables.CHOSEN, path, [{"note_id": f"{c}-{j}", "cui": c} for i, c in enumerate(cuis.tolist()) for j in range(i % 4)])
                chosen.append(path)
        print(f"{len(predictions)} cells, {MENTIONS:,} mentions in {DOCUMENTS:,} documents, {DEPTH} ranks each")
        start = time.perf_counter()
        with_kb, controls = ["train=train+kb"], ["names", "template"]
        base, out = folder / "normalization", folder / "out"
        compare(
            "normalization", folder / "c", folder / "corpus.json", folder / "kb", base, predictions, chosen, controls, with_kb, Statistics(), out, threads=2
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{seconds:.0f} s, {peak:,.0f} MiB at most")
        if seconds > 120:
            raise SystemExit("slower than 2 minutes")


if __name__ == "__main__":
    main()
