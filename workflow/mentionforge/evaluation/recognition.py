"""Scores of recognizers: strict, partial and token precision, recall and F1; strict scores per bucket and subset.

In: gold mentions of a corpus and predicted mentions of each cell. Out: tables.METRICS and tables.RECOGNITION_ERRORS.
Knows nothing of how a cell was trained, except the training corpus in its path (SCHEDULE~train=CORPUS).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mentionforge import measures, tables, text
from mentionforge.buckets import Buckets
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.evaluation.documents import GoldDocument
from mentionforge.evaluation.errors import error_rows
from mentionforge.evaluation.subsets import subset_recalls, subset_weights, train_and_dev
from mentionforge.gold import Discontinuous, flatten, tags
from mentionforge.layout import PREDICTIONS, TRAINED_ON, RecognitionCell, levels_below
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec
from mentionforge.text import Span

# Protocol. Texts are split by `mentionforge.text.words`; a document is one IOB2 sequence. `mentionforge.gold.flatten` reduces gold mentions with
# the corpus' policy on discontinuous mentions: a mention that begins or ends inside a word counts as the whole words, and of mentions that share
# a word the longest is scored. The others are in no denominator; their number is printed and stored with the table. An assertion checks that
# each gold mention is counted exactly once.
#
# Rows: split x level x (precision, recall, F1), named `LEVEL_precision` and so on, with bucket `all`. `n` counts gold mentions for recall and F1 and
# predictions for precision; for `token` it counts words. The levels, on the gold mention [breast cancer] and the prediction [hereditary breast cancer]:
#
# - `strict`: a prediction is right if both its ends are those of a gold mention. Here: wrong.
# - `partial`: a prediction and a gold mention that share a word make a pair; each is in one pair at most, and the most pairs possible count. Here: one pair.
# - `token`: a word is right if it is in a gold mention and in a prediction, whichever they are. Here: two right words, one wrong.
#
# Strict scores by bucket: gold mentions of the bucket; false positives are the wrong predictions that overlap one of these mentions, and all
# predictions that overlap no gold mention. The latter count in every bucket, because nothing says which bucket they were meant for.
# For a model trained on another corpus, buckets are derived from the training split of that corpus. `subsets` defines further groups, for strict recall.


VERSION = 1
"""Of the part evaluation.recognition: raise it where earlier results would be wrong (mentionforge.versions)."""


class Scores(NamedTuple):
    """Precision, recall and F1, each None where its n is 0."""

    precision: float | None
    recall: float | None
    f1: float | None


def evaluate(
    corpus: Path, corpus_spec: Path, base: Path, predictions: Sequence[Path], out: Path, errors: Path | None = None, sources: Sequence[Path] = ()
) -> None:
    """Score the predictions of every cell of a corpus on dev and test, and write a metrics table.

    Args:
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Resolved settings of the corpus, for its policy on discontinuous mentions.
        base: Folder below which a prediction lies at CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN/predictions.parquet.
        predictions: The tables of predicted mentions.
        out: Metrics table to write.
        errors: Table of errors to write.
        sources: Folders of the other corpora that models were trained on; the folder's name is the corpus'.

    Raises:
        UserError: A path names no cell, a prediction does not consist of whole words of a document of its split or overlaps
            another one, or the corpus that a model was trained on is not among `sources`.
    """
    policy = read_spec(corpus_spec, Corpus).discontinuous
    gold, counts = load_gold(corpus, policy)
    for split, counted in counts.items():
        left_out = {k.removeprefix("dropped_"): n for k, n in counted.items() if k.startswith("dropped_") and n}
        reasons = "".join(f", {n:,} left out ({reason})" for reason, n in sorted(left_out.items()))
        say(f"{split}: {counted['kept']:,} of {counted['mentions']:,} gold mentions scored, {counted['widened']:,} widened to whole words{reasons}")
    known = {source.name: source for source in sources}
    mentions = tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist()
    scored = scored_test_mentions(gold, mentions)
    subsets = {"": subset_weights(scored, train_and_dev(mentions))}
    golds = {"": gold}  # by training corpus; empty: the corpus itself
    rows: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    inputs: dict[str, str | Path] = {"corpus_spec": corpus_spec, "documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    for path in sorted(predictions):
        names = cell_columns(path, base)
        inputs[f"predictions of {path.relative_to(base).parent.as_posix()}"] = path
        predicted = load_predictions(path, gold)
        source = names["variant"].partition(TRAINED_ON)[2]
        if source not in golds:
            if source not in known:
                known_sources = f"the corpora given are {', '.join(known)}" if known else "no corpus is given with --source"
                raise UserError(
                    "unknown training corpus", str(path), f"trained on {source}, but {known_sources}", "give the folder of that corpus with --source"
                )
            golds[source] = rebucketed(gold, corpus / "mentions.parquet", known[source] / "mentions.parquet")
            subsets[source] = subset_weights(scored, train_and_dev(tables.read(tables.MENTIONS, known[source] / "mentions.parquet").to_pylist()))
            inputs[f"mentions of {source}"] = known[source] / "mentions.parquet"
        for split in counts:
            rows += [{"task": "recognition", **names, "split": split, **row} for row in split_rows(golds[source], predicted, split)]
            if split == "test":
                right = correct_mentions(gold, predicted)
                rows += [{"task": "recognition", **names, "split": split, **row} for row in subset_recalls(right, scored, subsets[source])]
            place = {k: v for k, v in names.items() if k != "corpus"} | {"split": split}
            wrong += [{**place, **row} for row in error_rows({d: g for d, g in golds[source].items() if g.split == split}, predicted)]
    provenance = stamp("evaluation recognition", inputs, discontinuous=policy, gold={s: dict(sorted(c.items())) for s, c in counts.items()})
    if errors:
        tables.write(tables.RECOGNITION_ERRORS, errors, wrong, provenance)
    tables.write(tables.METRICS, out, rows, provenance)
    say(f"{len(predictions):,} cells scored, {len(wrong):,} errors")


def rebucketed(gold: Mapping[str, GoldDocument], mentions: Path, source: Path) -> dict[str, GoldDocument]:
    """The gold documents, with the buckets of mentions derived from the training split of another corpus."""
    buckets = Buckets()
    for row in tables.read(tables.MENTIONS, source).to_pylist():
        if row["split"] == "train":
            buckets.add(text.normalize_surface(row["surface"]), row["cuis"], True)
    rows = tables.read(tables.MENTIONS, mentions).to_pylist()
    bucket = {row["mention_id"]: buckets.add(text.normalize_surface(row["surface"]), row["cuis"], False) for row in rows}
    return {doc_id: replace(doc, buckets=tuple(bucket[m] for m in doc.mention_ids)) for doc_id, doc in gold.items()}


def scored_test_mentions(gold: Mapping[str, GoldDocument], mentions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of tables.MENTIONS that are scored on test: the mentions that `gold` keeps."""
    kept = {mention for doc in gold.values() if doc.split == "test" for mention in doc.mention_ids}
    return [row for row in mentions if row["mention_id"] in kept]


def correct_mentions(gold: Mapping[str, GoldDocument], predicted: Mapping[str, Sequence[Span]]) -> set[str]:
    """Ids of the gold mentions that are predicted with both boundaries."""
    return {m for doc_id, doc in gold.items() for span, m in zip(doc.spans, doc.mention_ids, strict=True) if span in predicted.get(doc_id, ())}


def cell_columns(path: Path, base: Path) -> dict[str, Any]:
    """Columns of tables.METRICS that name the cell of a prediction, from its path below `base`.

    Raises:
        UserError: The path has another shape.
    """
    run = RecognitionCell.of(levels_below(path, base))
    if run is None or path.name != PREDICTIONS:
        raise UserError(
            "no recognition cell",
            str(path),
            "its path does not name one",
            f"give {base}/CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN/predictions.parquet",
        )
    return {
        "corpus": run.corpus,
        "generator": run.generator,
        "strategy": run.strategy,
        "system": run.recognizer,
        "variant": run.schedule,
        "seed": run.seed,
    }


def load_gold(corpus: Path, policy: Discontinuous) -> tuple[dict[str, GoldDocument], dict[str, Counter[str]]]:
    """Gold documents of dev and test, and the counts of `flatten` by split; splits without documents are left out."""
    mentions: dict[str, list[dict[str, Any]]] = {}
    rows = tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist()
    for row in rows:
        mentions.setdefault(row["doc_id"], []).append(row)
    gold: dict[str, GoldDocument] = {}
    counts: dict[str, Counter[str]] = {}
    for row in tables.read(tables.DOCUMENTS, corpus / "documents.parquet").to_pylist():
        if row["split"] == "train":
            continue
        words = text.words(row["text"])
        own = mentions.get(row["doc_id"], [])
        flat = flatten(words, [[(s["start"], s["end"]) for s in m["spans"]] for m in own], policy)
        kept = [own[i] for i in flat.sources]
        gold[row["doc_id"]] = GoldDocument(row["split"], words, flat.spans, tuple(m["ood_bucket"] for m in kept), tuple(m["mention_id"] for m in kept))
        counts.setdefault(row["split"], Counter()).update(flat.counts)
    annotated = Counter(row["split"] for row in rows)
    for split, counted in counts.items():
        dropped = sum(n for k, n in counted.items() if k.startswith("dropped_"))
        if not annotated[split] == counted["mentions"] == counted["kept"] + dropped:
            raise AssertionError(f"{split}: {annotated[split]} gold mentions, {counted['kept']} scored and {dropped} left out")
    return gold, {split: counts[split] for split in tables.SPLITS if split in counts}


def load_predictions(path: Path, gold: Mapping[str, GoldDocument]) -> dict[str, list[Span]]:
    """Predicted word spans by document, in order.

    Raises:
        UserError: A prediction names no dev or test document, is in the wrong split, does not begin and end with a
            word, or overlaps the one before it.
    """
    predicted: dict[str, list[Span]] = {}
    starts, ends = ({doc_id: {word[side]: i for i, word in enumerate(doc.words)} for doc_id, doc in gold.items()} for side in (0, 1))
    for number, row in enumerate(tables.read(tables.RECOGNIZED, path).sort_by([("doc_id", "ascending"), ("start", "ascending")]).to_pylist(), 1):
        doc_id, where = row["doc_id"], f"{path}:{number}"
        if doc_id not in gold or gold[doc_id].split != row["split"]:
            raise UserError("unknown document", where, f"{doc_id} is none of the {row['split']} documents", "delete the predictions and rerun the workflow")
        first, last = starts[doc_id].get(row["start"]), ends[doc_id].get(row["end"])
        spans = predicted.setdefault(doc_id, [])
        if first is None or last is None or last < first or (spans and first < spans[-1][1]):
            reason = "it overlaps the one before it" if first is not None and last is not None and last >= first else "it does not begin and end with a word"
            raise UserError("misplaced prediction", where, f"{doc_id} {row['start']}-{row['end']}: {reason}", "delete the predictions and rerun the workflow")
        spans.append((first, last + 1))
    return predicted


def split_rows(gold: Mapping[str, GoldDocument], predicted: Mapping[str, Sequence[Span]], split: str) -> list[dict[str, Any]]:
    """Rows (bucket, metric, value, n) of one cell and split."""
    documents = {doc_id: doc for doc_id, doc in gold.items() if doc.split == split}
    gold_tags = [tags(len(doc.words), doc.spans) for doc in documents.values()]
    predicted_tags = [tags(len(doc.words), predicted.get(doc_id, ())) for doc_id, doc in documents.items()]
    n_gold = sum(len(doc.spans) for doc in documents.values())
    n_predicted = sum(len(predicted.get(doc_id, ())) for doc_id in documents)
    words = Counter((t != "O", p != "O") for one, other in zip(gold_tags, predicted_tags, strict=True) for t, p in zip(one, other, strict=True))
    both, n_gold_words, n_predicted_words = words[True, True], words[True, True] + words[True, False], words[True, True] + words[False, True]
    pairs = sum(overlapping_pairs(doc.spans, predicted.get(doc_id, ())) for doc_id, doc in documents.items())

    true_positives: Counter[str] = Counter()
    total: Counter[str] = Counter()
    false_positives: Counter[str] = Counter()
    for doc_id, doc in documents.items():
        spans = set(predicted.get(doc_id, ()))
        for span, bucket in zip(doc.spans, doc.buckets, strict=True):
            total[bucket] += 1
            true_positives[bucket] += span in spans
        for first, last in spans - set(doc.spans):
            overlapped = {b for (a, z), b in zip(doc.spans, doc.buckets, strict=True) if a < last and z > first}
            false_positives.update(overlapped or tables.BUCKETS)
    rows = _rows("strict", true_positives.total(), n_gold, n_predicted, values=seqeval_scores(gold_tags, predicted_tags)._asdict())
    rows += _rows("token", both, n_gold_words, n_predicted_words) + _rows("partial", pairs, n_gold, n_predicted)
    # Cross-check of two independent counts: seqeval on tags, and sets of spans per bucket.
    recall = next(row["value"] for row in rows if row["metric"] == measures.OF_GROUPS["recognition"])
    if total.total() != n_gold or abs((recall or 0.0) * n_gold - true_positives.total()) > 1e-6:
        raise AssertionError(f"{split}: {true_positives.total()} of {total.total()} gold mentions found by bucket, seqeval's recall of {n_gold} is {recall}")
    for bucket in tables.BUCKETS:
        n_counted = true_positives[bucket] + false_positives[bucket]
        rows += _rows("strict", true_positives[bucket], total[bucket], n_counted, bucket)
    return rows


def overlapping_pairs(gold: Sequence[Span], predicted: Sequence[Span]) -> int:
    """Largest number of pairs of an overlapping gold and predicted mention, with each mention in at most one pair.

    Args:
        gold: Spans in order, without overlap.
        predicted: Spans in order, without overlap.
    """
    pairs = i = j = 0
    while i < len(gold) and j < len(predicted):
        # The span that ends first overlaps no later span. So pairing two overlapping spans loses no better pair.
        if gold[i][0] < predicted[j][1] and predicted[j][0] < gold[i][1]:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif gold[i][1] <= predicted[j][0]:
            i += 1
        else:
            j += 1
    return pairs


def seqeval_scores(true: list[list[str]], predicted: list[list[str]]) -> Scores:
    """Micro-averaged entity scores of tag sequences by seqeval in its mode `strict`."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2, Entities

    n_gold, n_predicted = (sum(map(len, Entities(side, IOB2).entities)) for side in (true, predicted))
    if not (n_gold and n_predicted):
        return Scores(0.0 if n_predicted else None, 0.0 if n_gold else None, 0.0 if n_gold else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a score of 0 is a result
        precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="micro", scheme=IOB2, zero_division=0)
    return Scores(float(precision), float(recall), float(f1))


def _rows(level: str, right: int, gold: int, predicted: int, bucket: str = "all", values: Mapping[str, float | None] | None = None) -> list[dict[str, Any]]:
    """Rows (bucket, metric, value, n) of the scores of a level from its counts; `values` (by ratio) replace the computed ones."""
    rows = []
    for score in measures.of_level(level, "all" if bucket == "all" else "bucket"):
        value, n = score.counted(right, gold, predicted)
        assert score.ratio
        rows.append({"bucket": bucket, "metric": score.name, "value": (values or {}).get(score.ratio.name, value), "n": n})
    return rows
