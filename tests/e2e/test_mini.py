"""The finished mini experiment, recomputed independently."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def cells(finished: Path) -> list[Path]:
    return sorted((finished / "results/normalization").rglob("predictions.parquet"))


def brute_force(finished: Path, corpus: str, generator: str, strategy: str, linker: str, index: str) -> dict[str, list[str]]:
    """Ranked concepts of every test mention: all similarities, best entry per concept, ties by number of entries, then CUI."""
    results = finished / "results"

    def load(source: str) -> tuple[pd.DataFrame, np.ndarray]:
        folder = results / "embeddings" / linker / source
        frame = pd.read_parquet(folder / "entries.parquet")
        return frame, np.load(folder / "vectors.npy")[frame["vector"].to_numpy()].astype(np.float64)

    frame, vectors = load(f"corpus.{corpus}")
    queries = ((frame["split"] == "test") & (frame["cuis"].str.len() > 0)).to_numpy()  # mentions without a concept are embedded, not ranked
    parts = []
    if "train" in index.split("+"):
        train = (frame["split"] == "train").to_numpy()
        parts.append((frame[train], vectors[train]))
    if "kb" in index.split("+"):
        parts.append(load("kb.demo"))
    if strategy != "none":
        synthetic, matrix = load(f"generator.{generator}")
        chosen = set(pd.read_parquet(results / f"augmentation/{corpus}/{generator}/{strategy}/notes.parquet")["note_id"])
        keep = synthetic["note_id"].isin(chosen).to_numpy()
        parts.append((synthetic[keep], matrix[keep]))
    cuis = [set(c) for part, _ in parts for c in part["cuis"]]
    similarity = vectors[queries] @ np.concatenate([matrix for _, matrix in parts]).T
    ranked = {}
    for mention, row in zip(frame[queries]["entry_id"], np.round(similarity, 6), strict=True):
        scores: dict[str, list[float]] = {}
        for concepts, score in zip(cuis, row, strict=True):
            for cui in concepts:
                scores.setdefault(cui, []).append(score)
        # Score, then how many entries of the concept have it, then CUI.
        ranked[mention] = sorted(scores, key=lambda cui: (-max(scores[cui]), -scores[cui].count(max(scores[cui])), cui))
    return ranked


@pytest.mark.parametrize("linker", ["mention", "context"])
def test_accuracy_equals_brute_force(finished: Path, linker: str) -> None:
    """acc@k and MRR of every cell, recomputed from the vectors, agree to the last mention."""
    results = finished / "results"
    checked = 0
    for path in cells(finished):
        corpus, generator, strategy, cell_linker, index = path.relative_to(results / "normalization").parts[:-1]
        if cell_linker != linker:
            continue
        gold = pd.read_parquet(results / f"corpora/{corpus}/mentions.parquet")
        gold = gold[(gold["split"] == "test") & (gold["ood_bucket"] != "unmapped")]
        ranked = brute_force(finished, corpus, generator, strategy, linker, index)
        assert set(ranked) == set(gold["mention_id"])
        ranks = []
        for mention, cuis in zip(gold["mention_id"], gold["cuis"], strict=True):
            ranks.append(next((i for i, cui in enumerate(ranked[mention], 1) if cui in set(cuis)), 10**9))
        gold = gold.assign(rank=ranks)
        metrics = pd.read_parquet(results / f"evaluation/normalization/{corpus}.parquet")
        metrics = metrics[
            (metrics["generator"] == generator) & (metrics["strategy"] == strategy) & (metrics["system"] == linker) & (metrics["variant"] == index)
        ]
        for bucket in ("all", "seen_mention", "seen_concept", "unseen_concept"):
            part = gold if bucket == "all" else gold[gold["ood_bucket"] == bucket]
            for k in (1, 5, 10, 50, 100):
                row = metrics[(metrics["bucket"] == bucket) & (metrics["metric"] == f"acc@{k}")].iloc[0]
                assert row["n"] == len(part)
                assert round(row["value"] * len(part)) == (part["rank"] <= k).sum(), (path, bucket, k)
            row = metrics[(metrics["bucket"] == bucket) & (metrics["metric"] == "mrr")].iloc[0]
            assert row["value"] == pytest.approx((1 / part["rank"].where(part["rank"] <= 100, np.inf)).mean(), abs=1e-9)
        checked += 1
    assert checked == 2 * 3 * 5


def test_baseline_is_zero_on_unseen_concepts_by_construction(finished: Path) -> None:
    frame = pd.read_csv(finished / "results/summary/normalization.csv", keep_default_na=False)
    base = frame[(frame["strategy"] == "none") & (frame["index"] == "train")]
    assert len(base) == 4 and (base["test.unseen_concept.acc@1"].astype(float) == 0).all()
    named = frame[(frame["strategy"] == "none") & (frame["index"] == "kb")]
    assert (named["test.unseen_concept.acc@1"].astype(float) > 0.2).all()


def test_summary_has_a_row_for_every_cell(finished: Path) -> None:
    summary = finished / "results/summary"
    normalization = pd.read_csv(summary / "normalization.csv", keep_default_na=False)
    recognition = pd.read_csv(summary / "recognition.csv", keep_default_na=False)
    generation = pd.read_csv(summary / "generation.csv", keep_default_na=False)
    assert len(normalization) == len(cells(finished)) == 60
    assert len(recognition) == 2 and len(generation) == 2
    for frame in (normalization, recognition):
        assert frame["git_revision"].astype(bool).all() and frame["corpus_digest"].astype(bool).all() and frame["models"].astype(bool).all()
    page = (summary / "summary.md").read_text()
    assert "unseen concept" in page and "smollm2" in page


def test_funnel_adds_up(finished: Path) -> None:
    for generator in ("smollm2", "names"):
        folder = finished / "results/generation" / generator
        funnel = json.loads((folder / "funnel.json").read_text())
        notes, located, rejected = (len(pd.read_parquet(folder / f"{name}.parquet")) for name in ("notes", "located", "rejected"))
        assert funnel["prompted"] == funnel["generated"] == notes == located + rejected


def test_no_marker_reaches_training_text(finished: Path) -> None:
    for generator in ("smollm2", "names"):
        located = pd.read_parquet(finished / f"results/generation/{generator}/located.parquet")
        mentions = pd.read_parquet(finished / f"results/generation/{generator}/mentions.parquet")
        text = dict(zip(located["note_id"], located["text"], strict=True))
        assert not any("CUI>" in t for t in text.values())
        assert all(text[m.note_id][m.start : m.end] == m.surface for m in mentions.itertuples())


def test_generation_never_saw_test_text(finished: Path) -> None:
    """Every fine-tuning completion, tags removed, is a stretch of the training document it is said to come from."""
    results = finished / "results"
    pairs = pd.read_parquet(results / "generation/smollm2/pairs.parquet")
    documents = pd.read_parquet(results / "corpora/demo_semeval/documents.parquet").set_index("doc_id")
    assert len(pairs) > 50 and set(documents.loc[pairs["doc_id"], "split"]) == {"train"}
    letters = {doc: "".join(text.split()) for doc, text in documents["text"].items()}
    for pair in pairs.itertuples():
        text = "".join(pair.completion.replace("<1CUI>", " ").replace("</1CUI>", " ").split())
        assert len(text) > 3 and text in letters[pair.doc_id], pair.pair_id


def test_comparisons_agree_with_the_metrics(finished: Path) -> None:
    """Both sides of every comparison are what the metrics tables say, for both tasks."""
    results = finished / "results"
    checked = 0
    for path in sorted((results / "statistics").rglob("comparisons.parquet")):
        task, corpus = path.parts[-3:-1]
        metrics = pd.read_parquet(results / f"evaluation/{task}/{corpus}.parquet")
        metrics = metrics[metrics["split"] == "test"].set_index(["generator", "strategy", "system", "variant", "bucket", "metric"])["value"]
        frame = pd.read_parquet(path)
        for row in frame[frame["slice"].isin(["all", "bucket"])].itertuples():
            for value, generator, strategy, variant in (
                (row.value, row.generator, row.strategy, row.variant),
                (row.reference, row.reference_generator, row.reference_strategy, row.reference_variant),
            ):
                assert value == pytest.approx(metrics[generator, strategy, row.system, variant, row.group, row.metric]), (path, row)
                checked += 1
    assert checked > 500
