"""Recognition metrics: strict entity scores by seqeval, partial and token-level scores beside them, strict scores per OOD bucket.

Protocol: words of `mentionforge.text.words`, one IOB2 sequence per document. Gold mentions are reduced by
`mentionforge.gold.flatten` with the corpus' policy on mentions in pieces; a mention that begins or ends inside a word
counts as the whole words, and of mentions that share a word the longest is scored. The others are in no denominator;
their number is printed and stored with the table, and each gold mention is asserted to be counted exactly once.

Rows: split x level x (precision, recall, F1), named `LEVEL_precision` and so on, with bucket `all`:
- `strict`: a prediction is right if both its ends are those of a gold mention.
- `partial`: a prediction and a gold mention that share a word make a pair, each in one pair at most; as many as can be.
- `token`: a word is right if gold and prediction both hold it, whichever the mention.
`n` counts gold for recall and F1 and predictions for precision: mentions, for `token` words.

And `strict` by bucket: gold mentions of the bucket, and as false positives every wrong prediction that overlaps one of them, and
every prediction that overlaps no gold mention at all: it is one of every bucket, for it might have been meant for any.

Strict recall is also given by the subsets of the test mentions that others score (`subsets`).

A variant SCHEDULE~train=CORPUS is a model trained on another corpus; its buckets are against that corpus' training split.
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
from mentionforge.evaluation.subsets import learned_from, subset_recalls, subset_weights
from mentionforge.gold import Discontinuous, flatten, tags
from mentionforge.layout import PREDICTIONS, TRAINED_ON, RecognitionCell, levels_below
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec
from mentionforge.text import Span

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
        corpus_spec: Resolved settings of the corpus, for its policy on mentions in pieces.
        base: Folder below which a prediction lies at CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN/predictions.parquet.
        predictions: The tables of predicted mentions.
        out: Metrics table to write.
        errors: Table of errors to write.
        sources: Folders of the other corpora that models were trained on; the folder's name is the corpus'.

    Raises:
        UserError: A path names no cell, or a prediction is not a stretch of whole words of a document of its split, or
            overlaps another one, or the corpus that a model was trained on is not among `sources`.
    """
    policy = read_spec(corpus_spec, Corpus).discontinuous
    gold, counts = load_gold(corpus, policy)
    for split, counted in counts.items():
        left_out = {k.removeprefix("dropped_"): n for k, n in counted.items() if k.startswith("dropped_") and n}
        reasons = "".join(f", {n:,} left out ({reason})" for reason, n in sorted(left_out.items()))
        say(f"{split}: {counted['kept']:,} of {counted['mentions']:,} gold mentions scored, {counted['widened']:,} widened to whole words{reasons}")
    known = {source.name: source for source in sources}
    mentions = tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist()
    asked = scored_test(gold, mentions)
    subsets = {"": subset_weights(asked, learned_from(mentions))}
    golds = {"": gold}  # by the corpus trained on, where it is another one
    rows: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    inputs: dict[str, str | Path] = {"corpus_spec": corpus_spec, "documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    for path in sorted(predictions):
        names = cell(path, base)
        inputs[f"predictions of {path.relative_to(base).parent.as_posix()}"] = path
        found = load_predictions(path, gold)
        source = names["variant"].partition(TRAINED_ON)[2]
        if source not in golds:
            if source not in known:
                given = f"the corpora given are {', '.join(known)}" if known else "no corpus is given with --source"
                raise UserError("unknown training corpus", str(path), f"trained on {source}, but {given}", "give the folder of that corpus with --source")
            golds[source] = rebucketed(gold, corpus / "mentions.parquet", known[source] / "mentions.parquet")
            subsets[source] = subset_weights(asked, learned_from(tables.read(tables.MENTIONS, known[source] / "mentions.parquet").to_pylist()))
            inputs[f"mentions of {source}"] = known[source] / "mentions.parquet"
        for split in counts:
            rows += [{"task": "recognition", **names, "split": split, **row} for row in score(golds[source], found, split)]
            if split == "test":
                right = found_mentions(gold, found)
                rows += [{"task": "recognition", **names, "split": split, **row} for row in subset_recalls(right, asked, subsets[source])]
            place = {k: v for k, v in names.items() if k != "corpus"} | {"split": split}
            wrong += [{**place, **row} for row in error_rows({d: g for d, g in golds[source].items() if g.split == split}, found)]
    made = stamp("evaluation recognition", inputs, discontinuous=policy, gold={s: dict(sorted(c.items())) for s, c in counts.items()})
    if errors:
        tables.write(tables.RECOGNITION_ERRORS, errors, wrong, made)
    tables.write(tables.METRICS, out, rows, made)
    say(f"{len(predictions):,} cells scored, {len(wrong):,} errors")


def rebucketed(gold: Mapping[str, GoldDocument], mentions: Path, source: Path) -> dict[str, GoldDocument]:
    """The same gold with the buckets that its mentions have against the training split of another corpus."""
    buckets = Buckets()
    for row in tables.read(tables.MENTIONS, source).to_pylist():
        if row["split"] == "train":
            buckets.add(text.normalize_surface(row["surface"]), row["cuis"], True)
    rows = tables.read(tables.MENTIONS, mentions).to_pylist()
    bucket = {row["mention_id"]: buckets.add(text.normalize_surface(row["surface"]), row["cuis"], False) for row in rows}
    return {doc_id: replace(doc, buckets=tuple(bucket[m] for m in doc.mention_ids)) for doc_id, doc in gold.items()}


def scored_test(gold: Mapping[str, GoldDocument], mentions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of tables.MENTIONS that are scored on test: those that `gold` keeps."""
    kept = {mention for doc in gold.values() if doc.split == "test" for mention in doc.mention_ids}
    return [row for row in mentions if row["mention_id"] in kept]


def found_mentions(gold: Mapping[str, GoldDocument], found: Mapping[str, Sequence[Span]]) -> set[str]:
    """Ids of the gold mentions that are predicted with both their ends."""
    return {m for doc_id, doc in gold.items() for span, m in zip(doc.spans, doc.mention_ids, strict=True) if span in found.get(doc_id, ())}


def cell(path: Path, base: Path) -> dict[str, Any]:
    """Names of the cell that a prediction's path below `base` spells.

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
    """Gold of the dev and test documents, and by split the counts of `flatten`; splits without documents are left out."""
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
    found: dict[str, list[Span]] = {}
    starts, ends = ({doc_id: {word[side]: i for i, word in enumerate(doc.words)} for doc_id, doc in gold.items()} for side in (0, 1))
    for number, row in enumerate(tables.read(tables.RECOGNIZED, path).sort_by([("doc_id", "ascending"), ("start", "ascending")]).to_pylist(), 1):
        doc_id, where = row["doc_id"], f"{path}:{number}"
        if doc_id not in gold or gold[doc_id].split != row["split"]:
            raise UserError("unknown document", where, f"{doc_id} is none of the {row['split']} documents", "delete the predictions and rerun the workflow")
        first, last = starts[doc_id].get(row["start"]), ends[doc_id].get(row["end"])
        spans = found.setdefault(doc_id, [])
        if first is None or last is None or last < first or (spans and first < spans[-1][1]):
            reason = "it overlaps the one before it" if first is not None and last is not None and last >= first else "it does not begin and end with a word"
            raise UserError("misplaced prediction", where, f"{doc_id} {row['start']}-{row['end']}: {reason}", "delete the predictions and rerun the workflow")
        spans.append((first, last + 1))
    return found


def score(gold: Mapping[str, GoldDocument], found: Mapping[str, Sequence[Span]], split: str) -> list[dict[str, Any]]:
    """Rows (bucket, metric, value, n) of one cell and split."""
    documents = {doc_id: doc for doc_id, doc in gold.items() if doc.split == split}
    true = [tags(len(doc.words), doc.spans) for doc in documents.values()]
    predicted = [tags(len(doc.words), found.get(doc_id, ())) for doc_id, doc in documents.items()]
    n_gold = sum(len(doc.spans) for doc in documents.values())
    n_predicted = sum(len(found.get(doc_id, ())) for doc_id in documents)
    words = Counter((t != "O", p != "O") for one, other in zip(true, predicted, strict=True) for t, p in zip(one, other, strict=True))
    both, n_gold_words, n_predicted_words = words[True, True], words[True, True] + words[True, False], words[True, True] + words[False, True]
    pairs = sum(paired(doc.spans, found.get(doc_id, ())) for doc_id, doc in documents.items())

    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for doc_id, doc in documents.items():
        own = set(found.get(doc_id, ()))
        for span, bucket in zip(doc.spans, doc.buckets, strict=True):
            total[bucket] += 1
            right[bucket] += span in own
        for first, last in own - set(doc.spans):
            overlapped = {b for (a, z), b in zip(doc.spans, doc.buckets, strict=True) if a < last and z > first}
            wrong.update(overlapped or tables.BUCKETS)
    rows = _rows("strict", right.total(), n_gold, n_predicted, given=strict(true, predicted)._asdict())
    rows += _rows("token", both, n_gold_words, n_predicted_words) + _rows("partial", pairs, n_gold, n_predicted)
    # Two counts by independent ways: seqeval over tags, and sets of spans per bucket.
    recall = next(row["value"] for row in rows if row["metric"] == "strict_recall")
    if total.total() != n_gold or abs((recall or 0.0) * n_gold - right.total()) > 1e-6:
        raise AssertionError(f"{split}: {right.total()} of {total.total()} gold mentions found by bucket, seqeval's recall of {n_gold} is {recall}")
    for bucket in tables.BUCKETS:
        given = right[bucket] + wrong[bucket]
        rows += _rows("strict", right[bucket], total[bucket], given, bucket)
    return rows


def paired(gold: Sequence[Span], found: Sequence[Span]) -> int:
    """The most pairs of a gold and a predicted mention that overlap, each in one pair at most.

    Args:
        gold: Spans in order, no two overlapping.
        found: Likewise.
    """
    pairs = i = j = 0
    while i < len(gold) and j < len(found):
        # Whichever ends first can meet nothing further on; if the two meet, no better use of the first of them is lost.
        if gold[i][0] < found[j][1] and found[j][0] < gold[i][1]:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif gold[i][1] <= found[j][0]:
            i += 1
        else:
            j += 1
    return pairs


def strict(true: list[list[str]], predicted: list[list[str]]) -> Scores:
    """Entity scores of tag sequences by seqeval, as its mode `strict` computes them, micro-averaged."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2, Entities

    n_gold, n_predicted = (sum(map(len, Entities(side, IOB2).entities)) for side in (true, predicted))
    if not (n_gold and n_predicted):
        return Scores(0.0 if n_predicted else None, 0.0 if n_gold else None, 0.0 if n_gold else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a score of 0 is a result
        precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="micro", scheme=IOB2, zero_division=0)
    return Scores(float(precision), float(recall), float(f1))


def _rows(level: str, right: int, gold: int, predicted: int, bucket: str = "all", given: Mapping[str, float | None] | None = None) -> list[dict[str, Any]]:
    """Rows (bucket, metric, value, n) of the scores of a level from its counts, or with the value that is given under the name of the ratio."""
    rows = []
    for score in measures.of_level(level, "all" if bucket == "all" else "bucket"):
        value, n = score.counted(right, gold, predicted)
        assert score.ratio
        rows.append({"bucket": bucket, "metric": score.name, "value": (given or {}).get(score.ratio.name, value), "n": n})
    return rows
