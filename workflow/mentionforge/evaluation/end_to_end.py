"""End-to-end scores: a predicted mention is right if its span is that of a gold mention and its first concept is the gold one.

In: gold mentions, predicted mentions and their rankings. Out: tables.METRICS.
Knows nothing of the recognizers and linkers behind the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mentionforge import measures, tables
from mentionforge.errors import UserError
from mentionforge.layout import end_to_end_cell, mentions_linked_in
from mentionforge.progress import say
from mentionforge.provenance import stamp

# SemEval-2015 Task 14 scored strictly in this way: the span must match to the character. Every gold mention of the split counts, also a discontinuous one
# or one inside another, which no tag sequence can predict. A prediction answers one gold mention at most. A gold mention without a concept (CUI-less, or with
# an id that the knowledge base does not map) is right if the span is predicted and no concept is given.
#
# Rows: split x (`span_concept_precision`, `span_concept_recall`, `span_concept_f1`) with the first concept of each predicted mention, and the same
# named `span_concept_nil_…`, where a first concept that scores below a threshold counts as no concept. The threshold is the lowest of those with the best F1
# on dev. `span_concept_recall` is also given per bucket of the gold mentions.


VERSION = 1
"""Of the part evaluation.end_to_end: raise it where earlier results would be wrong (mentionforge.versions)."""

MentionKey = tuple[str, int, int]
"""Document id, start and end (characters) of a mention."""


@dataclass(frozen=True)
class GoldMention:
    """A gold mention: its CUIs and its bucket."""

    cuis: frozenset[str]
    bucket: str


@dataclass(frozen=True)
class SplitGold:
    """Gold mentions of a split: the continuous ones by position (`at`), and the number of all mentions by bucket (`total`)."""

    at: Mapping[MentionKey, Sequence[GoldMention]]
    total: Mapping[str, int]


def evaluate(corpus: Path, base: Path, linked: Sequence[Path], out: Path) -> None:
    """Score every end-to-end cell of a corpus on dev and test, and write a metrics table.

    Args:
        corpus: Folder with mentions.parquet.
        base: Folder below which rankings lie at CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN/LINKER/INDEX/linked.parquet,
            and the mentions they rank at CORPUS/…/seedN/mentions.parquet.
        linked: Rankings of each cell.
        out: Metrics table to write; the system is RECOGNIZER/LINKER and the variant SCHEDULE/INDEX.

    Raises:
        UserError: A path names no cell of this corpus.
    """
    gold = gold_by_split(tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist())
    rows: list[dict[str, Any]] = []
    inputs: dict[str, str | Path] = {"mentions": corpus / "mentions.parquet"}
    for path in sorted(linked):
        named = end_to_end_cell(path, base)
        if named is None or named[0].corpus != corpus.name:
            expected = f"{base}/{corpus.name}/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN/LINKER/INDEX/linked.parquet"
            raise UserError("path names no cell", str(path), "it does not name a recognizer and a linker of this corpus", f"give {expected}")
        mentions = mentions_linked_in(path)
        inputs |= {f"linked {path.relative_to(base).parent}": path, f"mentions {path.relative_to(base).parent}": mentions}
        first_concept = {row["mention_id"]: (row["cui"], row["score"]) for row in tables.read(tables.LINKED, path).to_pylist() if row["rank"] == 1}
        predicted: dict[str, dict[MentionKey, tuple[str, float] | None]] = {split: {} for split in gold}
        for row in tables.read(tables.MENTIONS, mentions).to_pylist():
            if row["split"] != "train":
                span = row["spans"][0]
                predicted[row["split"]][row["doc_id"], span["start"], span["end"]] = first_concept.get(row["mention_id"])
        threshold = best_threshold(gold.get("dev"), predicted.get("dev", {}))
        run, linker, index = named
        cell = {"task": "end_to_end", "corpus": corpus.name, "generator": run.generator, "strategy": run.strategy, "seed": run.seed}
        cell |= {"system": f"{run.recognizer}/{linker}", "variant": f"{run.schedule}/{index}"}
        for split in gold:
            rows += [cell | {"split": split, **row} for row in score(gold[split], predicted[split], "span_concept")]
            rows += [cell | {"split": split, **row} for row in score(gold[split], drop_low_scores(predicted[split], threshold), "span_concept_nil")]
    tables.write(tables.METRICS, out, rows, stamp("evaluation end-to-end", inputs))
    say(f"{len(linked):,} cells scored end to end")


def gold_by_split(mentions: Sequence[Mapping[str, Any]]) -> dict[str, SplitGold]:
    """Gold mentions of dev (if there are any) and test."""
    gold: dict[str, SplitGold] = {}
    for split in ("dev", "test"):
        at: dict[MentionKey, list[GoldMention]] = {}
        total = dict.fromkeys(tables.BUCKETS, 0)
        for row in (m for m in mentions if m["split"] == split):
            total[row["ood_bucket"]] += 1
            if len(row["spans"]) == 1:
                place = row["doc_id"], row["spans"][0]["start"], row["spans"][0]["end"]
                at.setdefault(place, []).append(GoldMention(frozenset(row["cuis"]), row["ood_bucket"]))
        if sum(total.values()) or split == "test":
            gold[split] = SplitGold(at, total)
    return gold


def drop_low_scores(predicted: Mapping[MentionKey, tuple[str, float] | None], threshold: float) -> dict[MentionKey, tuple[str, float] | None]:
    """The predictions, without the concepts that score below the threshold."""
    return {place: None if concept is None or concept[1] < threshold else concept for place, concept in predicted.items()}


def best_threshold(gold: SplitGold | None, predicted: Mapping[MentionKey, tuple[str, float] | None]) -> float:
    """The lowest threshold with the most right predictions, which also gives the best precision, recall and F1; -inf without dev.

    Candidates are at most 100 of the predictions' scores, evenly spaced by rank, and the two extremes: drop no concept, drop all.
    """
    scores = sorted({concept[1] for concept in predicted.values() if concept})
    if gold is None or not scores:
        return -np.inf
    tried = [-np.inf, *sorted({scores[int(i)] for i in np.linspace(0, len(scores) - 1, 100)}), np.inf]
    return max(tried, key=lambda t: (len(correct_mentions(gold, drop_low_scores(predicted, t))), -t))


def correct_mentions(gold: SplitGold, predicted: Mapping[MentionKey, tuple[str, float] | None]) -> list[GoldMention]:
    """The gold mentions that are predicted with span and concept; of several that one prediction answers, the first."""
    answered = []
    for place, concept in predicted.items():
        hits = (m for m in gold.at.get(place, ()) if (concept[0] in m.cuis if concept else not m.cuis))
        answered += [m for m in (next(hits, None),) if m is not None]
    return answered


def score(gold: SplitGold, predicted: Mapping[MentionKey, tuple[str, float] | None], level: str) -> list[dict[str, Any]]:
    """Rows (bucket, metric, value, n) of one cell and split; buckets have recall only, because a prediction belongs to no bucket."""
    answered = correct_mentions(gold, predicted)
    total = sum(gold.total.values())
    rows: list[dict[str, Any]] = []
    for measure in measures.of_level(level):
        value, n = measure.counted(len(answered), total, len(predicted))
        rows.append({"bucket": "all", "metric": measure.name, "value": value, "n": n})
    for bucket in tables.BUCKETS:
        hits = sum(m.bucket == bucket for m in answered)
        for measure in measures.of_level(level, "bucket"):
            value, n = measure.counted(hits, gold.total[bucket], 0)
            rows.append({"bucket": bucket, "metric": measure.name, "value": value, "n": n})
    return rows
