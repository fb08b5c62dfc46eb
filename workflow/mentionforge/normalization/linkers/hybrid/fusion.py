"""Fusion: one ranking from the rankings of several linkers on the same cell, by ranks or by scores.

In: rankings (tables.LINKED), gold concepts of dev. Out: the fused ranking. Knows nothing of entries and vectors.
`ties` says which fused scores count as equal and how they are ordered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import provenance, tables
from mentionforge.errors import UserError
from mentionforge.normalization.linkers.hybrid import HybridLinker
from mentionforge.normalization.search import TOP, sorted_distinct
from mentionforge.progress import say
from mentionforge.specs import read_spec
from mentionforge.ties import EQUAL, level_ties

# `rank`   A concept's score is the sum over linkers of 1 / (constant + rank); a linker that does not list the concept adds nothing. Example with
#          the constant 60: ranks 1 and 3 give 1/61 + 1/63 = 0.0323, rank 1 in one linker only gives 1/61 = 0.0164.
# `score`  The weighted sum of its scores. A linker that does not list the concept counts with the score of its last concept if its list is full
#          (the concept may come right after it), and with 0 if the list is shorter. Weights come from a grid and sum to 1: those with the most dev mentions
#          right at rank 1, among equals the most even ones, then the first. Without dev mentions all weights are equal.
#
# A concept keeps the entry of the first linker that lists it.


VERSION = 4
"""Of the part normalization.fuse: raise it where earlier results would be wrong (mentionforge.versions)."""

EQUAL_RANKS = 1e-12
"""Sums of reciprocal ranks count as equal up to this difference. Ranks are exact; only the order of summation adds noise, and different sums may be close."""


class CandidateLists(NamedTuple):
    """Pairs of a mention and a concept that at least one linker lists, sorted by mention, then concept.

    Attributes:
        mention: Number of the mention, int [pairs].
        concept: Number of the concept, int [pairs].
        entry: Number of the entry among joined concepts, int [pairs].
        ranks: float64 [linkers, pairs]; infinite where a linker does not list the concept.
        scores: float64 [linkers, pairs]; where a linker does not list the concept, the value that `score` fusion counts.
    """

    mention: np.ndarray
    concept: np.ndarray
    entry: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray


def fuse(spec: Path, predictions: Sequence[Path], calibrations: Sequence[Path], mentions: Path, out: Path, calibration: Path) -> None:
    """Fuse the rankings of a cell (tables.LINKED).

    Args:
        spec: Spec of the hybrid linker.
        predictions: Predictions of its linkers, in the order of the config.
        calibrations: Their rankings of dev mentions and of test mentions without a concept, in the same order.
        mentions: tables.MENTIONS, for the gold concepts of dev.
        out: Predictions to write.
        calibration: Rankings of the other mentions to write.
    """
    linker: HybridLinker = read_spec(spec, HybridLinker)
    if not len(predictions) == len(calibrations) == len(linker.linkers):
        raise UserError(
            "wrong predictions", str(spec), f"{len(linker.linkers)} linkers are fused", "give one --predictions and --calibration for each, in order"
        )
    test, others = [tables.read(tables.LINKED, p) for p in predictions], [tables.read(tables.LINKED, p) for p in calibrations]
    everything = [*test, *others]
    cuis, sets = sorted_distinct([t["cui"] for t in everything]), sorted_distinct([t["entry"] for t in everything])
    gold = tables.read(tables.MENTIONS, mentions).filter(pc.field("split") == "dev")
    dev_ids = gold["mention_id"].combine_chunks()
    other_ids, lists = candidate_lists(others, cuis, sets)
    report: dict[str, object] = {"linkers": list(linker.linkers), "fusion": linker.fusion}
    weights = np.full(len(linker.linkers), 1 / len(linker.linkers))
    if linker.fusion == "score":
        right = gold_pairs(lists, other_ids, cuis, dev_ids, gold["cuis"].to_pylist())
        weights, accuracy, n = tune_weights(lists, right, other_ids, dev_ids, linker.step)
        report |= {"weights": weights.tolist(), "dev_acc@1": accuracy, "dev_mentions": n}
        say("weights by dev: " + ", ".join(f"{name} {w:.2f}" for name, w in zip(linker.linkers, weights, strict=True)) + f" (acc@1 {accuracy:.4f}, n={n:,})")
    inputs = {"spec": spec, "mentions": mentions}
    inputs |= {f"{kind}.{i}": p for kind, paths in (("predictions", predictions), ("calibration", calibrations)) for i, p in enumerate(paths)}
    stamp = provenance.stamp("normalization fuse", inputs, **report)
    tables.write(tables.LINKED, calibration, ranking_table(lists, fused_scores(lists, linker, weights), other_ids, cuis, sets), stamp)
    test_ids, test_lists = candidate_lists(test, cuis, sets)
    tables.write(tables.LINKED, out, ranking_table(test_lists, fused_scores(test_lists, linker, weights), test_ids, cuis, sets), stamp)
    say(f"{len(test_ids):,} test mentions ranked anew from {len(linker.linkers)} linkers")


def candidate_lists(rankings: Sequence[pa.Table], cuis: pa.Array, sets: pa.Array) -> tuple[pa.Array, CandidateLists]:
    """Distinct mention ids, and the candidates that the linkers list for them."""
    ids = sorted_distinct([t["mention_id"] for t in rankings])
    keys, columns = [], []
    for table in rankings:
        mention = pc.index_in(table["mention_id"], value_set=ids).to_numpy().astype(np.int64)
        concept = pc.index_in(table["cui"], value_set=cuis).to_numpy().astype(np.int64)
        keys.append(mention * max(len(cuis), 1) + concept)
        columns.append((mention, table["rank"].to_numpy(), table["score"].to_numpy(), pc.index_in(table["entry"], value_set=sets).to_numpy()))
    pairs = np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64)
    mention, concept = pairs // max(len(cuis), 1), pairs % max(len(cuis), 1)
    ranks, scores = np.full((len(rankings), len(pairs)), np.inf), np.zeros((len(rankings), len(pairs)))
    entry = np.full(len(pairs), -1)
    for i, (key, (owner, rank, score, number)) in enumerate(zip(keys, columns, strict=True)):
        floor = np.zeros(len(ids))
        last = rank == TOP
        floor[owner[last]] = score[last]
        scores[i] = floor[mention]
        place = np.searchsorted(pairs, key)
        ranks[i, place], scores[i, place] = rank, score
        entry[place] = np.where(entry[place] < 0, number, entry[place])
    return ids, CandidateLists(mention, concept, entry, ranks, scores)


def fused_scores(lists: CandidateLists, linker: HybridLinker, weights: np.ndarray) -> np.ndarray:
    """Fused score of each pair; scores that count as equal have one value."""
    if linker.fusion == "score":
        return level_ties(lists.mention, weighted_sum(lists.scores, weights), fusion_tolerance(lists.mention, lists.scores))
    fused = weighted_sum(1 / (linker.constant + lists.ranks), np.ones(len(lists.ranks)))
    return level_ties(lists.mention, fused, np.full(int(lists.mention.max(initial=-1)) + 1, EQUAL_RANKS))


def weighted_sum(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums of scores [linkers, pairs], added in a fixed order, which a matrix product does not guarantee."""
    total = np.zeros(scores.shape[1])
    for score, weight in zip(scores, weights, strict=True):
        total += weight * score
    return total


def fusion_tolerance(mention: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each mention, the largest difference at which fused scores count as equal: 1e-6, times its largest score if that exceeds 1.

    Args:
        mention: Mention of each pair, int [pairs].
        scores: Scores to fuse, [linkers, pairs].
    """
    largest = np.ones(int(mention.max(initial=-1)) + 1)
    for score in scores:
        np.maximum.at(largest, mention, np.abs(score))
    return EQUAL * largest


def candidate_order(lists: CandidateLists, scores: np.ndarray) -> np.ndarray:
    """Positions of the pairs, sorted by mention, then score, then the ranks of the linkers in order, then CUI."""
    return np.lexsort((lists.concept, *reversed(list(lists.ranks)), -scores, lists.mention))


def gold_pairs(lists: CandidateLists, ids: pa.Array, cuis: pa.Array, gold_ids: pa.Array, gold: Sequence[Sequence[str]]) -> np.ndarray:
    """Whether each pair's concept is one of its mention's gold concepts."""
    number = {cui: i for i, cui in enumerate(cuis.to_pylist())}
    place = {mention: i for i, mention in enumerate(ids.to_pylist())}
    keys = [
        place[m] * max(len(cuis), 1) + number[c] for m, concepts in zip(gold_ids.to_pylist(), gold, strict=True) if m in place for c in concepts if c in number
    ]
    return np.isin(lists.mention * max(len(cuis), 1) + lists.concept, keys)


def tune_weights(lists: CandidateLists, right: np.ndarray, ids: pa.Array, dev_ids: pa.Array, step: float) -> tuple[np.ndarray, float, int]:
    """Weights with the best acc@1 on dev mentions whose gold concept is listed, that accuracy, and the number of these mentions."""
    number = lists.scores.shape[0]
    equal = np.full(number, 1 / number)
    tunable = np.zeros(len(ids), bool)
    tunable[lists.mention[right]] = True  # no weights can make the other mentions right
    tunable &= pc.is_in(ids, value_set=dev_ids).to_numpy(zero_copy_only=False)
    if not tunable.any():
        return equal, 0.0, 0
    # Pairs are in the order that breaks ties, so a mention's first concept is the first pair that ties with its highest score: no sorting per weights.
    order = candidate_order(lists, np.zeros(len(lists.mention)))
    order = order[tunable[lists.mention[order]]]
    mention, is_gold, scores = lists.mention[order], right[order], np.ascontiguousarray(lists.scores[:, order])
    start = np.flatnonzero(np.diff(mention, prepend=-1))
    owner = np.repeat(np.arange(len(start)), np.diff(start, append=len(mention)))
    equal_up_to = fusion_tolerance(owner, scores)[owner]
    steps = round(1 / step)
    best: tuple[float, float, tuple[int, ...]] | None = None
    for split in itertools.product(range(steps + 1), repeat=number - 1):
        if sum(split) > steps:
            continue
        counts = (*split, steps - sum(split))
        weights = np.array(counts) / steps
        fused = weighted_sum(scores, weights)
        highest = np.flatnonzero(fused >= np.maximum.reduceat(fused, start)[owner] - equal_up_to)
        first = highest[np.flatnonzero(np.diff(owner[highest], prepend=-1))]
        candidate = (-float(is_gold[first].mean()), float(np.square(weights - equal).sum()), counts)
        best = candidate if best is None or candidate < best else best
    assert best is not None
    return np.array(best[2]) / steps, -best[0], int(tunable.sum())


def ranking_table(lists: CandidateLists, scores: np.ndarray, ids: pa.Array, cuis: pa.Array, sets: pa.Array) -> pa.Table:
    """The first concepts of each mention as rows of tables.LINKED."""
    order = candidate_order(lists, scores)
    mention = lists.mention[order]
    rank = np.arange(len(order)) - np.searchsorted(mention, mention) + 1
    order, rank, mention = (column[rank <= TOP] for column in (order, rank, mention))
    return pa.table(
        {
            "mention_id": ids.take(pa.array(mention)),
            "rank": rank,
            "cui": cuis.take(pa.array(lists.concept[order])),
            "score": scores[order],
            "entry": sets.take(pa.array(lists.entry[order])),
        }
    )
