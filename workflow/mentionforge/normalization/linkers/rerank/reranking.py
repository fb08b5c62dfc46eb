"""Reranking: a cross-encoder reads a mention in its sentence together with a candidate's name and definition.

In: rankings of a first stage, the corpus, the knowledge base. Out: trained weights, and rankings whose first concepts are reordered.
Knows nothing of how the first stage ranks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import provenance, tables, tokenization
from mentionforge.encoders import check_whole, fast_bfloat16
from mentionforge.errors import UserError
from mentionforge.models import folder
from mentionforge.normalization.linkers.hybrid.fusion import candidate_lists, fusion_tolerance, gold_pairs, tune_weights, weighted_sum
from mentionforge.normalization.linkers.rerank import RerankLinker
from mentionforge.normalization.search import sorted_distinct
from mentionforge.progress import say, track
from mentionforge.specs import read_spec
from mentionforge.text import plain
from mentionforge.ties import level_ties

# Training pairs a mention with its concept and with the first wrong concepts that the first stage ranks (hard negatives); the loss is the softmax
# over them. Reranking orders the first concepts by a weighted sum of the first stage's score and the cross-encoder's probability. The weight is tuned
# on dev, so a cross-encoder that does not help gets weight 0. Later concepts keep their ranks.


VERSION = 3
"""Of the part normalization.rerank: raise it where earlier results would be wrong (mentionforge.versions)."""


def train(spec: Path, model: Path, kb: Path, corpus: Path, embedded: Path, kb_rankings: Path, out: Path) -> None:
    """Train a cross-encoder on the training split; writes weights (safetensors, tokenizer) and their stamp, fetched.json.

    Args:
        spec: Spec of the reranker.
        model: Stamp of the weights to start from.
        kb: Folder with tables.CONCEPTS.
        corpus: Folder with tables.DOCUMENTS and tables.MENTIONS.
        embedded: Mentions of the corpus as the first stage embeds them (entries.parquet).
        kb_rankings: Rankings of the first stage on the names (tables.RETRIEVED).
        out: Folder to write.

    Raises:
        UserError: No training mention has both a concept of the knowledge base and a wrong candidate.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    linker: RerankLinker = read_spec(spec, RerankLinker)
    torch.manual_seed(linker.seed)
    rng = np.random.default_rng(linker.seed)
    texts = concept_texts(kb)
    contexts, gold = _mention_contexts(corpus)
    groups = [g for g in _candidate_groups(linker, gold, texts, embedded, kb_rankings) if len(g[1]) > 1]
    if not groups:
        raise UserError("nothing to train on", str(kb_rankings), "no training mention has a concept and a wrong candidate", "check the index that is named")
    if linker.max_mentions is not None and len(groups) > linker.max_mentions:
        groups = [groups[i] for i in sorted(rng.choice(len(groups), linker.max_mentions, replace=False))]
    path = folder(model)
    tokenizer = tokenization.load(path, tokenization.case_of(model))
    network: Any
    network, report = AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=1, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    check_whole(report, path)
    tokenization.check_rows(tokenizer, network, path)
    limit = tokenization.longest_input(tokenizer, network.config)
    if limit is not None and linker.max_tokens > limit:
        why = f"{linker.max_tokens} asked, {limit} possible with this model"
        raise UserError("too many tokens", "config: linkers.*.max_tokens", why, f"give at most {limit}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=linker.learning_rate, weight_decay=0.01)
    per_step = max(1, linker.batch_size // (1 + linker.negatives))
    steps = linker.epochs * -(-len(groups) // per_step)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / warm, max(0.0, (steps - s) / max(1, steps - warm))))
    losses: list[float] = []
    say(f"{len(groups):,} training mentions, {sum(len(c) for _, c in groups):,} pairs, {steps:,} updates")
    with track("training the cross-encoder", steps) as tick:
        for _ in range(linker.epochs):
            order = rng.permutation(len(groups))
            for start in range(0, len(order), per_step):
                chosen = [groups[i] for i in order[start : start + per_step]]
                firsts = [plain(contexts[mention]) for mention, candidates in chosen for _ in candidates]
                seconds = [plain(texts[cui]) for _, candidates in chosen for cui in candidates]
                inputs = tokenizer(firsts, seconds, padding=True, truncation=True, max_length=linker.max_tokens, return_tensors="pt").to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
                    scores = network(**inputs).logits[:, 0].float()
                scores_by_mention = torch.split(scores, [len(candidates) for _, candidates in chosen])
                loss = torch.stack([-torch.log_softmax(of_mention, 0)[0] for of_mention in scores_by_mention]).mean()  # the gold concept comes first
                loss.backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                losses.append(float(loss.detach()))
                tick(1, f"loss {np.mean(losses[-50:]):.3f}")
    weights = out / "weights"
    temporary = out / f".weights.{os.getpid()}.tmp"
    network.save_pretrained(temporary, safe_serialization=True)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(weights, ignore_errors=True)
    os.replace(temporary, weights)
    inputs_read = {"spec": spec, "model": model, "concepts": kb / "concepts.parquet", "mentions": corpus / "mentions.parquet", "found": kb_rankings}
    inputs_read |= {"documents": corpus / "documents.parquet", "embedded": embedded}
    stamp = provenance.stamp("normalization rerank-train", inputs_read, mentions=len(groups), first_loss=losses[0], last_loss=float(np.mean(losses[-50:])))
    card = {"folder": weights.name, "reference": {"trained": stamp["inputs"]}, "training": stamp}
    target = out / f".fetched.{os.getpid()}.tmp"
    target.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    os.replace(target, out / "fetched.json")


def rerank(spec: Path, model: Path, kb: Path, corpus: Path, predictions: Path, calibration: Path, out: Path, out_calibration: Path) -> None:
    """Reorder the first concepts of each ranking (tables.LINKED).

    Args:
        spec: Spec of the reranker.
        model: Stamp of the trained cross-encoder.
        kb: Folder with tables.CONCEPTS.
        corpus: Folder with tables.DOCUMENTS and tables.MENTIONS.
        predictions: Predictions of the first stage on the same cell.
        calibration: Rankings of the first stage for the other mentions.
        out: Predictions to write.
        out_calibration: The other rankings to write.
    """
    linker: RerankLinker = read_spec(spec, RerankLinker)
    texts = concept_texts(kb)
    contexts, gold = _mention_contexts(corpus)
    rankings = [tables.read(tables.LINKED, p) for p in (predictions, calibration)]
    firsts = [t.filter(pc.less_equal(t["rank"], linker.top)) for t in rankings]
    pairs = sorted({(contexts[m], texts[c]) for t in firsts for m, c in zip(t["mention_id"].to_pylist(), t["cui"].to_pylist(), strict=True) if c in texts})
    value = dict(zip(pairs, _cross_encoder_scores(model, linker, pairs), strict=True))

    def crossed(table: pa.Table) -> pa.Table:
        scores = [value.get((contexts[m], texts.get(c, "")), 0.0) for m, c in zip(table["mention_id"].to_pylist(), table["cui"].to_pylist(), strict=True)]
        return table.set_column(table.schema.get_field_index("score"), "score", pa.array(scores, tables.FLOAT))

    crossed_firsts = [crossed(t) for t in firsts]
    cuis, sets = sorted_distinct([t["cui"] for t in firsts]), sorted_distinct([t["entry"] for t in firsts])
    ids, lists = candidate_lists([firsts[1], crossed_firsts[1]], cuis, sets)
    dev = [m for m, (split, concepts) in gold.items() if split == "dev" and concepts]
    right = gold_pairs(lists, ids, cuis, pa.array(dev, tables.STR), [sorted(gold[m][1]) for m in dev])
    weights, accuracy, n = tune_weights(lists, right, ids, pa.array(dev, tables.STR), 0.05)
    say(f"weights by dev: first stage {weights[0]:.2f}, cross-encoder {weights[1]:.2f} (acc@1 {accuracy:.4f} of the n={n:,} whose concept is among the first)")
    inputs = {"spec": spec, "model": model, "predictions": predictions, "calibration": calibration, "mentions": corpus / "mentions.parquet"}
    stamp = provenance.stamp("normalization rerank", inputs, weights=weights.tolist(), **{"dev_acc@1": accuracy})
    for table, first, cross, path in zip(rankings, firsts, crossed_firsts, (out, out_calibration), strict=True):
        tables.write(tables.LINKED, path, reorder_ranking(table, first, cross, weights), stamp)


def reorder_ranking(table: pa.Table, first: pa.Table, cross: pa.Table, weights: np.ndarray) -> pa.Table:
    """A ranking with its first rows reordered by the weighted scores of both stages; scores never rise with rank.

    Args:
        table: The ranking of the first stage.
        first: Its first rows, with the scores of the first stage.
        cross: The same rows, with the probabilities of the cross-encoder.
        weights: Weights of the two.
    """
    scores = np.stack([first["score"].to_numpy(), cross["score"].to_numpy()])
    owner = first["mention_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    fused = level_ties(owner, weighted_sum(scores, weights), fusion_tolerance(owner, scores))
    frame: dict[str, list[tuple[float, int, str, str]]] = {}
    for mention, rank, cui, entry, score in zip(*(first[c].to_pylist() for c in ("mention_id", "rank", "cui", "entry")), fused.tolist(), strict=True):
        frame.setdefault(mention, []).append((-score, rank, cui, entry))
    depth = {mention: len(rows) for mention, rows in frame.items()}
    rows = [
        {"mention_id": mention, "rank": place, "cui": cui, "score": -negative, "entry": entry}
        for mention, concepts in frame.items()
        for place, (negative, _, cui, entry) in enumerate(sorted(concepts), 1)
    ]
    lowest = {mention: -max(concepts)[0] for mention, concepts in frame.items()}
    for row in table.to_pylist():
        if row["rank"] > depth[row["mention_id"]]:
            rows.append({**row, "score": min(weights[0] * row["score"], lowest[row["mention_id"]])})
    return tables.build(tables.LINKED, rows)


def concept_texts(kb: Path) -> dict[str, str]:
    """Input of the cross-encoder for each concept: its preferred name and, if there is one, its definition."""
    table = tables.read(tables.CONCEPTS, kb / "concepts.parquet")
    rows = zip(table["cui"].to_pylist(), table["preferred_name"].to_pylist(), table["definition"].to_pylist(), strict=True)
    return {cui: f"{name} : {definition}" if definition else name for cui, name, definition in rows}


def _mention_contexts(corpus: Path) -> tuple[dict[str, str], dict[str, tuple[str, frozenset[str]]]]:
    """Input of the cross-encoder for each mention (surface and sentence), and the split and gold concepts of each mention."""
    documents = {d["doc_id"]: d for d in tables.read(tables.DOCUMENTS, corpus / "documents.parquet").to_pylist()}
    contexts, gold = {}, {}
    for m in tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist():
        document = documents[m["doc_id"]]
        start, end = m["spans"][0]["start"], m["spans"][-1]["end"]
        inside = [s for s in document["sentences"] if s["start"] < end and s["end"] > start]
        sentence = document["text"][inside[0]["start"] : inside[-1]["end"]] if inside else ""
        contexts[m["mention_id"]] = f"{m['expanded'] or m['surface']} : {sentence}"
        gold[m["mention_id"]] = m["split"], frozenset(m["cuis"])
    return contexts, gold


def _candidate_groups(
    linker: RerankLinker, gold: dict[str, tuple[str, frozenset[str]]], texts: dict[str, str], embedded: Path, kb_rankings: Path
) -> Iterator[tuple[str, list[str]]]:
    """For each training mention: its id, and a gold concept followed by wrong ones. Mentions with the same input and concepts occur once."""
    table = tables.read(tables.RETRIEVED, kb_rankings)
    order = np.lexsort((table["rank"].to_numpy(), table["query"].to_numpy()))
    candidates: dict[int, list[str]] = {}
    for query, cui in zip(table["query"].to_numpy()[order].tolist(), table["cui"].take(pa.array(order)).to_pylist(), strict=True):
        candidates.setdefault(query, []).append(cui)
    seen = set()
    for entry in tables.read(tables.EMBEDDED, embedded).filter(pc.field("split") == "train").to_pylist():
        right = sorted(cui for cui in entry["cuis"] if cui in texts)
        key = entry["vector"], tuple(right)
        if entry["entry_id"] in gold and right and key not in seen:
            seen.add(key)
            wrong = [cui for cui in candidates.get(entry["vector"], ()) if cui not in entry["cuis"] and cui in texts]
            yield entry["entry_id"], [right[0], *wrong[: linker.negatives]]


def _cross_encoder_scores(model: Path, linker: RerankLinker, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The cross-encoder's probability of each pair, in the order of `pairs`; computed sorted by length to save padding."""
    import torch
    from transformers import AutoModelForSequenceClassification

    path = folder(model)
    tokenizer = tokenization.load(path, tokenization.case_of(model))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network: Any = AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True, dtype=torch.float32).to(device).eval()
    order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i][0]) - len(pairs[i][1]), i))
    values = np.zeros(len(pairs))
    size = 8 * linker.batch_size
    with torch.inference_mode(), track("reading mentions and candidates", len(pairs)) as tick:
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            firsts, seconds = [plain(pairs[i][0]) for i in batch], [plain(pairs[i][1]) for i in batch]
            inputs = tokenizer(firsts, seconds, padding=True, truncation=True, max_length=linker.max_tokens, return_tensors="pt").to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
                logits = network(**inputs).logits[:, 0]
            values[batch] = torch.sigmoid(logits.float()).cpu().numpy()
            tick(len(batch))
    return values.tolist()
