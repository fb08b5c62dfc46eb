"""Annotation with the recognizer that the mini experiment trained, against the experiment's own predictions."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mentionforge.annotate import bundle, cells
from mentionforge.annotate.pipeline import Annotator
from mentionforge.normalization.predicted import link_predicted
from mentionforge.recognition.mentions import as_mentions

CELL = "recognition/demo_ncbi/none/none/minilm/real_only/seed1"


@pytest.mark.parametrize(("generator", "strategy", "linker", "index"), [("none", "none", "mention", "train+kb"), ("smollm2", "naive", "context", "train")])
def test_equals_the_experiment(finished: Path, tmp_path: Path, generator: str, strategy: str, linker: str, index: str) -> None:
    """The dev and test documents of the corpus: the same mentions, the same first concepts, from the results and from a bundle.

    A recognizer in mixed precision and vectors depend in their last digits on the batch: scores are compared to that.
    """
    results, resources = finished / "results", finished / "resources"
    corpus, corpus_spec = results / "corpora/demo_ncbi", results / "specs/corpora/demo_ncbi.json"
    as_mentions(results / CELL / "predictions.parquet", corpus, corpus_spec, tmp_path / "mentions")
    embedded, kb = results / "embeddings" / linker, results / "kb/demo"
    more = {"kb": embedded / "kb.demo/entries.parquet", "names": kb / "names.parquet", "xrefs": kb / "xrefs.parquet"} if "kb" in index else {}
    if generator != "none":
        more |= {"synthetic": embedded / f"generator.{generator}/entries.parquet"}
        more |= {"chosen": results / "augmentation/demo_ncbi" / generator / strategy / "notes.parquet"}
    spec, index_spec = results / f"specs/linkers/{linker}.json", results / f"specs/indexes/{index}.json"
    link_predicted(spec, [index_spec], tmp_path / "mentions", [tmp_path / "linked.parquet"], resources / "models/minilm/fetched.json", **more)
    linked: dict[str, list[tuple[str, float]]] = {}
    for row in pq.read_table(tmp_path / "linked.parquet").to_pylist():
        linked.setdefault(row["mention_id"], []).append((row["cui"], row["score"]))
    predicted = {(r["doc_id"], r["start"], r["end"]): r["score"] for r in pq.read_table(results / CELL / "predictions.parquet").to_pylist()}
    documents = [r for r in pq.read_table(corpus / "documents.parquet").to_pylist() if r["split"] != "train"]

    found = cells.find(results, f"demo_ncbi/none/none/{CELL.partition('/none/none/')[2]}", f"demo_ncbi/{generator}/{strategy}/{linker}/{index}")
    bundle.write(found, tmp_path / "b", licensed_text=True)
    for materials in (found, bundle.read(tmp_path / "b", licensed_text=True)):
        seen, same = set(), 0
        for row, mentions in zip(documents, Annotator(materials, top=3).annotate(d["text"] for d in documents), strict=True):
            for m in mentions:
                key = (row["doc_id"], m.start, m.end)
                seen.add(key)
                if key not in predicted:
                    continue
                assert m.score == pytest.approx(predicted[key], abs=0.02)
                ranking = linked[f"{row['doc_id']}:{m.start}-{m.end}"]
                assert [c.score for c in m.concepts] == pytest.approx([score for _, score in ranking[:3]], abs=1e-4)
                same += [c.cui for c in m.concepts] == [cui for cui, _ in ranking[:3]]
        assert len(seen ^ set(predicted)) <= len(predicted) // 200 and len(predicted) > 300
        assert same >= 0.99 * len(seen)
