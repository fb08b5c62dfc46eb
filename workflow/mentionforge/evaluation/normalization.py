"""Scores of linkers: accuracy at 1, 5, 10, 50, 100 and mean reciprocal rank, overall, per bucket and per subset.

In: gold mentions of a corpus and the rankings of each cell. Out: tables.METRICS, tables.NIL, tables.NORMALIZATION_ERRORS.
Every cell is scored on the same mentions: all test mentions that map to a CUI. A mention without a prediction is wrong; none is dropped.
Knows nothing of linkers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import measures, provenance, tables
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.evaluation.hierarchy import ErrorClassifier, relation_metrics
from mentionforge.evaluation.subsets import subset_weights, train_and_dev, weighted_mean
from mentionforge.layout import NormalizationCell, entry_in, levels_below
from mentionforge.progress import say
from mentionforge.specs import read_spec

# Rank of a mention: 1 plus the number of wrong concepts ranked before the mention is answered. acc@k counts ranks up to k. The corpus' policy
# for composite mentions (several concept ids) says what answers one:
#
# - `any`, `split`: the first CUI of the mention's set (in `split` corpora, each row holds one concept already).
# - `all`: one CUI of every concept of the mention, and as many CUIs as it has concepts. If each of its m concepts maps to one CUI, acc@k needs
#   all m CUIs within the first k + m - 1 ranks. Ids that map to no CUI are not required.
#
# Example for `all`: "breast and ovarian cancer" has the concepts A and B. The ranking A, X, B answers it with its third concept; one wrong concept
# comes before, so the rank is 2. The ranking A, B, X gives rank 1.
#
# acc@k_relaxed scores entries instead of concepts: the distinct entries of a ranking, in the order of their first concepts. An entry is a name or
# mention with all its concepts, and it is a hit if it shares a concept with the mention. So it does not matter which concept of an ambiguous
# name comes first. Composite policies do not change it.


VERSION = 1
"""Of the part evaluation.normalization: raise it where earlier results would be wrong (mentionforge.versions)."""


@dataclass(frozen=True)
class GoldMentions:
    """Gold mentions as flat arrays with three levels: mentions, groups, CUIs. A mention is answered when every group has a CUI in the ranking.

    Example with the policy `all`: the mention "breast and ovarian cancer" has two groups, one per concept. A mention of a single concept, or
    any mention under the policy `any`, has one group with all its CUIs.

    Attributes:
        mention_ids: Distinct ids, in table order.
        buckets: OOD bucket of each mention.
        cuis: Sorted distinct gold CUIs.
        pairs: Distinct keys, mention number * len(cuis) + CUI number, sorted.
        pair_of: For each member of a group, its position in `pairs`; members are sorted by group, groups by mention.
        group_start: Position of each group's first member.
        mention_start: Position of each mention's first group.
    """

    mention_ids: pa.Array
    buckets: np.ndarray
    cuis: pa.Array
    pairs: np.ndarray
    pair_of: np.ndarray
    group_start: np.ndarray
    mention_start: np.ndarray


def evaluate(
    corpus: Path,
    corpus_spec: Path,
    base: Path,
    predictions: list[Path],
    out: Path,
    nil: Path | None = None,
    parents: Path | None = None,
    errors: Path | None = None,
) -> None:
    """Score all normalization cells of a corpus and write tables.METRICS.

    With `nil`, each cell's calibration.parquet (tables.LINKED), beside its predictions, tunes a threshold on dev: a mention whose first score is
    below it has no concept (tables.NIL). The metrics of that threshold on test are nil_precision, nil_recall and acc@1_nil, over all test
    mentions, with or without a concept.

    Args:
        corpus: Folder with tables.MENTIONS.
        corpus_spec: Spec of the corpus, for its composite policy.
        base: Folder below which a cell's path is CORPUS/GENERATOR/STRATEGY/LINKER/INDEX/predictions.parquet.
        predictions: tables.LINKED of each cell.
        out: File to write.
        nil: File to write with the curves of precision and recall by threshold.
        parents: tables.PARENTS of the corpus' knowledge base, to classify errors by hierarchy if it has one.
        errors: File to write with the classified errors (tables.NORMALIZATION_ERRORS).

    Raises:
        UserError: A path names no cell of this corpus, or predictions contain a mention that is not scored.
    """
    settings: Corpus = read_spec(corpus_spec, Corpus)
    mentions = tables.read(tables.MENTIONS, corpus / "mentions.parquet")
    mention_rows = mentions.to_pylist()
    gold = gold_mentions(mention_rows, settings.composite)
    subsets = subset_weights(scored_mentions(mention_rows), train_and_dev(mention_rows))
    in_test = pc.equal(mentions["split"], "test")
    mapped = int(pc.sum(pc.greater(pc.list_value_length(mentions["cuis"].filter(in_test)), 0)).as_py() or 0)
    if len(gold.mention_ids) != mapped:
        raise AssertionError(f"{len(gold.mention_ids)} mentions to score, {mapped} mapped test mentions")
    composite = int(pc.sum(mentions["composite"].filter(in_test)).as_py() or 0)
    say(f"{mapped:,} of {pc.sum(in_test).as_py() or 0:,} test mentions map to a concept; {composite:,} are composite, policy {settings.composite}")
    judge, hierarchy = None, {}
    if parents:
        hierarchy = {"kb": entry_in(parents), **tables.provenance(parents).get("hierarchy", {"missing": None})}
        if hierarchy["missing"]:
            say(f"knowledge base {hierarchy['kb']} has no hierarchy, so errors are not told by it: {hierarchy['missing']}")
        else:
            judge = ErrorClassifier(tables.read(tables.PARENTS, parents), gold.mention_ids, [m["cuis"] for m in scored_mentions(mention_rows)])
    bucket_of = dict(zip(gold.mention_ids.to_pylist(), gold.buckets.tolist(), strict=True))
    wrong: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for path in sorted(predictions):
        cell = _cell(path, base, corpus.name)
        linked = tables.read(tables.LINKED, path)
        ranks, relaxed = gold_ranks(gold, linked, str(path)), relaxed_gold_ranks(gold, linked)
        cell_errors = judge.errors(linked, ranks) if judge else []
        relation_rows = relation_metrics(cell_errors, bucket_of) if judge else []
        metric_rows = [*metrics(ranks, gold.buckets), *subset_metrics(ranks, subsets), *metrics(relaxed, gold.buckets, entries=True), *relation_rows]
        names = {"corpus": cell.corpus, "generator": cell.generator, "strategy": cell.strategy, "system": cell.linker, "variant": cell.index}
        wrong += [{**{k: v for k, v in names.items() if k != "corpus"}, **row} for row in cell_errors]
        if nil:
            curve = nil_curve(mentions, settings.composite, linked, tables.read(tables.LINKED, path.with_name("calibration.parquet")), ranks)
            place = {"generator": cell.generator, "strategy": cell.strategy, "linker": cell.linker, "index": cell.index}
            curves += [{**place, **row} for row in curve]
            chosen = next(row for row in curve if row["split"] == "test" and row["chosen"])
            metric_rows += [("all", s.name, chosen[s.of_nil[0]], chosen[s.of_nil[1]]) for s in measures.of_task("normalization") if s.of_nil]
        for bucket, metric, value, n in metric_rows:
            rows.append({"task": "normalization", **names, "seed": 0, "split": "test", "bucket": bucket, "metric": metric, "value": value, "n": n})
    inputs = {"mentions": corpus / "mentions.parquet", "corpus_spec": corpus_spec}
    inputs |= {str(path.relative_to(base)): path for path in sorted(predictions)} | ({"parents": parents} if parents else {})
    stamp = provenance.stamp("evaluation normalization", inputs, composite=settings.composite, mentions=mapped)
    if nil:
        tables.write(tables.NIL, nil, [{name: value for name, value in row.items() if name != "called"} for row in curves], stamp)
    if errors:
        tables.write(tables.NORMALIZATION_ERRORS, errors, wrong, {**stamp, "hierarchy": hierarchy})
    tables.write(tables.METRICS, out, rows, stamp)


def gold_mentions(mentions: Sequence[dict[str, Any]], policy: str, split: str = "test") -> GoldMentions:
    """The mentions of a split that map to a CUI, under a composite policy (`any`, `all` or `split`).

    Args:
        mentions: Rows of tables.MENTIONS.
        policy: Composite policy of the corpus.
        split: Name of the split.
    """
    scored = scored_mentions(mentions, split)
    cuis = sorted({cui for m in scored for cui in m["cuis"]})
    number = {cui: i for i, cui in enumerate(cuis)}
    pairs = np.array(sorted(i * len(cuis) + number[c] for i, m in enumerate(scored) for c in set(m["cuis"])), np.int64)
    members: list[int] = []
    group_start: list[int] = []
    mention_start: list[int] = []
    for i, m in enumerate(scored):
        concepts = [set(cuis_of_concept) for cuis_of_concept in m["concept_cuis"] if cuis_of_concept] if policy == "all" and m["composite"] else []
        mention_start.append(len(group_start))
        for group in concepts or [set(m["cuis"])]:
            group_start.append(len(members))
            members.extend(i * len(cuis) + number[c] for c in sorted(group))
    return GoldMentions(
        pa.array([m["mention_id"] for m in scored], tables.STR),
        np.array([m["ood_bucket"] for m in scored], dtype=object),
        pa.array(cuis, tables.STR),
        pairs,
        np.searchsorted(pairs, np.array(members, np.int64)),
        np.array(group_start, np.int64),
        np.array(mention_start, np.int64),
    )


def scored_mentions(mentions: Sequence[dict[str, Any]], split: str = "test") -> list[dict[str, Any]]:
    """The mentions that are scored: those of the split that map to a CUI, in table order."""
    return [m for m in mentions if m["split"] == split and m["cuis"]]


def gold_ranks(gold: GoldMentions, linked: pa.Table, where: str) -> np.ndarray:
    """Rank of each gold mention, float64 [mentions]; infinite if the ranking does not answer it.

    Raises:
        UserError: The predictions contain a mention that is not among the gold ones.
    """
    mention = pc.index_in(linked["mention_id"], value_set=gold.mention_ids)
    if mention.null_count:
        row = pc.index(mention.is_null(), True).as_py() + 1
        raise UserError(
            "prediction for an unknown mention",
            f"{where}:{row}",
            f"mention {linked['mention_id'][row - 1]} is no test mention with a concept",
            "delete the file and rerun the workflow",
        )
    cui = pc.fill_null(pc.index_in(linked["cui"], value_set=gold.cuis), -1).to_numpy().astype(np.int64)
    gold_rows = np.flatnonzero(cui >= 0)
    keys = mention.to_numpy().astype(np.int64)[gold_rows] * len(gold.cuis) + cui[gold_rows]
    place = np.searchsorted(gold.pairs, keys)
    is_gold = (place < len(gold.pairs)) & (gold.pairs[np.minimum(place, len(gold.pairs) - 1)] == keys) if len(gold.pairs) else np.zeros(0, bool)
    best_rank = np.full(len(gold.pairs), np.inf)
    np.minimum.at(best_rank, place[is_gold], linked["rank"].to_numpy()[gold_rows[is_gold]])
    if not len(gold.mention_ids):
        return np.empty(0)
    answered = np.maximum.reduceat(np.minimum.reduceat(best_rank[gold.pair_of], gold.group_start), gold.mention_start)  # [mentions]
    # Require as many gold CUIs as groups, if the mention has so many: one CUI must not answer two concepts that share it.
    owner = gold.pairs // len(gold.cuis)
    groups = np.diff(gold.mention_start, append=len(gold.group_start))
    first = np.searchsorted(owner, np.arange(len(answered)))
    needed = np.minimum(groups, np.diff(first, append=len(owner)))
    answered = np.maximum(answered, best_rank[np.lexsort((best_rank, owner))][first + needed - 1])
    gold_before = np.bincount(owner, weights=best_rank <= answered[owner], minlength=len(answered))
    return np.where(np.isfinite(answered), answered - gold_before + 1, np.inf)


def relaxed_gold_ranks(gold: GoldMentions, linked: pa.Table) -> np.ndarray:
    """Rank of the first entry, among the distinct entries of the ranking, that shares a CUI with each gold mention, float64; infinite if none does."""
    answered = np.full(len(gold.mention_ids), np.inf)
    if not len(linked) or not len(gold.mention_ids):
        return answered
    mention = pc.index_in(linked["mention_id"], value_set=gold.mention_ids).to_numpy().astype(np.int64)
    encoded = linked["entry"].combine_chunks().dictionary_encode()
    entry = encoded.indices.to_numpy().astype(np.int64)
    # Sort rows by mention, then rank: the first row of each (mention, entry) gives the order of the entries.
    order = np.lexsort((linked["rank"].to_numpy(), mention))
    mention, entry = mention[order], entry[order]
    first = np.unique(mention * len(encoded.dictionary) + entry, return_index=True)[1]
    first.sort()
    mention, entry = mention[first], entry[first]
    rank_of_entry = np.arange(len(mention)) - np.searchsorted(mention, mention) + 1
    members = [cuis.split("|") for cuis in encoded.dictionary.to_pylist()]
    number = {cui: i for i, cui in enumerate(gold.cuis.to_pylist())}
    gold_pairs = set(gold.pairs.tolist())
    gold_cuis_of = [[number[c] for c in cuis if c in number] for cuis in members]
    for m, e, rank in zip(mention.tolist(), entry.tolist(), rank_of_entry.tolist(), strict=True):
        if rank < answered[m] and any(m * len(gold.cuis) + c in gold_pairs for c in gold_cuis_of[e]):
            answered[m] = rank
    return answered


def nil_curve(mentions: pa.Table, policy: str, linked: pa.Table, calibration: pa.Table, ranks: np.ndarray) -> list[dict[str, Any]]:
    """Rows of tables.NIL of a cell for dev and test, without the columns that name the cell, plus `called`, the number of mentions called NIL.

    Thresholds are the distinct percentiles of the first scores of dev mentions. Without dev, the only threshold lies below every score.

    Args:
        mentions: tables.MENTIONS.
        policy: Composite policy of the corpus.
        linked: Predictions of the cell.
        calibration: Rankings of the cell for the other mentions.
        ranks: Rank of each gold test mention.
    """
    mention_rows = mentions.to_pylist()
    dev = gold_mentions(mention_rows, policy, "dev")
    dev_linked = calibration.filter(pc.is_in(calibration["mention_id"], value_set=dev.mention_ids))
    answered = dict(zip(dev.mention_ids.to_pylist(), gold_ranks(dev, dev_linked, "calibration") <= 1, strict=True))
    answered |= dict(zip([m["mention_id"] for m in mention_rows if m["split"] == "test" and m["cuis"]], ranks <= 1, strict=True))
    first = pa.concat_tables([linked, calibration]).filter(pc.field("rank") == 1)
    score = dict(zip(first["mention_id"].to_pylist(), first["score"].to_pylist(), strict=True))
    arrays = {}
    for split in ("dev", "test"):
        of_split = [m for m in mention_rows if m["split"] == split]
        scores = np.array([score.get(m["mention_id"], -np.inf) for m in of_split])
        arrays[split] = scores, np.array([answered.get(m["mention_id"], False) for m in of_split], bool), np.array([not m["cuis"] for m in of_split], bool)
    scored = arrays["dev"][0][np.isfinite(arrays["dev"][0])]
    lowest = np.array([min(0.0, min(score.values(), default=0.0))])
    thresholds = np.unique(np.percentile(scored, np.arange(101), method="lower")) if len(scored) else lowest
    rows: list[dict[str, Any]] = []
    best = 0
    for split, (scores, correct, unmapped) in arrays.items():
        called = scores < thresholds[:, None]  # [thresholds, mentions]
        accuracy = (np.where(called, unmapped, correct)).sum(1) / max(len(scores), 1)
        best = int(np.argmax(accuracy)) if split == "dev" else best  # argmax takes the lowest of equally good thresholds
        hits = (called & unmapped).sum(1)
        for i, threshold in enumerate(thresholds):
            rows.append(
                {
                    "split": split,
                    "threshold": float(threshold),
                    "precision": float(hits[i] / called[i].sum()) if called[i].any() else None,
                    "recall": float(hits[i] / unmapped.sum()) if unmapped.any() else None,
                    "accuracy": float(accuracy[i]) if len(scores) else None,
                    "n": len(scores),
                    "unmapped": int(unmapped.sum()),
                    "chosen": i == best,
                    "called": int(called[i].sum()),
                }
            )
    return rows


def metrics(ranks: np.ndarray, buckets: np.ndarray, entries: bool = False) -> list[tuple[str, str, float | None, int]]:
    """Rows (bucket, metric, value, n) for all mentions and each OOD bucket of mapped ones; the value is None where n is 0.

    Args:
        ranks: Rank of each gold mention.
        buckets: Bucket of each gold mention.
        entries: Whether the ranks count entries (`relaxed_gold_ranks`).
    """
    rows: list[tuple[str, str, float | None, int]] = []
    for bucket in ("all", *(b for b in tables.BUCKETS if b != "unmapped")):
        of_bucket = ranks if bucket == "all" else ranks[buckets == bucket]
        n = len(of_bucket)
        for score in measures.of_ranks("all" if bucket == "all" else "bucket", entries):
            assert score.of_rank
            rows.append((bucket, score.name, float(np.mean(score.of_rank(of_bucket))) if n else None, n))
    return rows


def subset_metrics(ranks: np.ndarray, subsets: Mapping[str, np.ndarray]) -> list[tuple[str, str, float | None, int]]:
    """Rows (subset, metric, value, n) of the scores that other papers report by subset.

    Args:
        ranks: Rank of each gold mention.
        subsets: Weights of the mentions by subset (`subsets.subset_weights`).
    """
    scores = {score.name: score.of_rank(ranks) for score in measures.of_ranks("subset") if score.of_rank}
    return [(name, metric, *weighted_mean(values, weights)) for name, weights in subsets.items() for metric, values in scores.items()]


def _cell(path: Path, base: Path, corpus: str) -> NormalizationCell:
    cell = NormalizationCell.of(levels_below(path, base))
    if cell is None or cell.corpus != corpus:
        raise UserError(
            "path names no cell",
            str(path),
            f"expected {base}/{corpus}/GENERATOR/STRATEGY/LINKER/INDEX/predictions.parquet",
            "give predictions of this corpus, below --base",
        )
    return cell
