"""All scores: name, task and label, which way is better, how they are computed, and where they are shown.

In: ranks or counts. Out: shares from 0 to 1; people see per cent. Evaluation, comparisons, tables, figures and the page loop over `SCORES`, so a new
score is one more entry. Knows nothing of files and tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

# A score is computed in one of four ways:
#
#     of_rank    mean of a value of each mention's rank:                 acc@5 = mean(rank <= 5), mrr = mean(1 / rank)
#     ratio      a ratio of the counts right, gold and predicted:        strict_precision = right / predicted, at the level `strict`
#     of_nil     a column of nil_curve in the row of the threshold:      nil_recall (evaluation.normalization.nil_curve)
#     relation   share of mentions whose first wrong concept has it:     error_sibling (evaluation.hierarchy)

Task = Literal["recognition", "normalization", "end_to_end"]


@dataclass(frozen=True)
class Ratio:
    """A ratio of the counts right, gold and predicted; counts may be arrays.

    Attributes:
        name: Suffix in names of scores.
        short: Label in heads of tables.
        of: Numerator and denominator from (right, gold, predicted).
        rests_on: The count that is the `n` of the ratio; the ratio has no value if it is 0.
    """

    name: str
    short: str
    of: Callable[[Any, Any, Any], tuple[Any, Any]]
    rests_on: Literal["gold", "predicted"]


PRECISION = Ratio("precision", "P", lambda right, gold, predicted: (right, predicted), "predicted")
RECALL = Ratio("recall", "R", lambda right, gold, predicted: (right, gold), "gold")
F1 = Ratio("f1", "F1", lambda right, gold, predicted: (2 * right, gold + predicted), "gold")


@dataclass(frozen=True)
class Score:
    """A score of a task.

    Attributes:
        name: Value in the column `metric`.
        task: The task.
        label: Name in tables and figures.
        of_rank: Value of a mention by its rank (normalization); ranks are an array, infinite for mentions without the concept in their ranking.
        entries: Whether `of_rank` takes ranks of distinct entries (names with all their concepts) instead of concepts.
        ratio: Ratio of counts (recognition, end to end).
        level: Which predictions are right: strict, partial or token; end to end, span_concept with or without the threshold.
        of_nil: Columns of value and n in the row of the chosen threshold.
        relation: Relation of the first wrong concept to the mention's concept.
        better: Which way is better.
        groups: Groups of mentions with this score, besides all mentions: out-of-distribution buckets, subsets of other papers.
        compared: Groupings of mentions on which cells are compared by this score (tables.SLICES).
        shown: Buckets in which tables of seeds and of external systems show this score.
        on_page: Whether the report page lists it; metrics.csv lists all scores.
        on_card: Whether the card of a bundle states it.
    """

    name: str
    task: Task
    label: str
    of_rank: Callable[[Any], Any] | None = None
    entries: bool = False
    ratio: Ratio | None = None
    level: str = ""
    of_nil: tuple[str, str] | None = None
    relation: str = ""
    better: Literal["higher", "lower"] = "higher"
    groups: tuple[Literal["bucket", "subset"], ...] = ()
    compared: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    on_page: bool = True
    on_card: bool = False

    @property
    def short(self) -> str:
        """The label without the level: recall, not strict recall."""
        return self.label.removeprefix(f"{self.level} ")

    @property
    def head(self) -> str:
        """The label in heads of tables: F1, R."""
        return self.ratio.short if self.ratio else self.label

    @property
    def title(self) -> str:
        """The label, to begin a sentence."""
        return self.label[0].upper() + self.label[1:]

    def counted(self, right: int, gold: int, predicted: int) -> tuple[float | None, int]:
        """Value and n of a score that is a ratio; the value is None if n is 0."""
        assert self.ratio
        numerator, denominator = self.ratio.of(right, gold, predicted)
        n = predicted if self.ratio.rests_on == "predicted" else gold
        return (numerator / denominator if n else None), n


EVERY_GROUP = ("all", "bucket", "train_mentions", "names", "semantic_type", "notes", "subset")
"""All groupings of mentions, as in tables.SLICES."""


def _accuracy(k: int, **more: Any) -> Score:
    return Score(f"acc@{k}", "normalization", f"acc@{k}", lambda ranks: ranks <= k, **more)


def _relaxed(k: int) -> Score:
    label = f"acc@{k}, relaxed"
    return Score(f"acc@{k}_relaxed", "normalization", label, lambda ranks: ranks <= k, entries=True, groups=("bucket",), on_page=k < 10)


def _level(level: str, ratio: Ratio, task: Task = "recognition", label: str = "", **more: Any) -> Score:
    return Score(f"{level}_{ratio.name}", task, label or f"{level} {ratio.short if ratio is F1 else ratio.name}", ratio=ratio, level=level, **more)


SCORES: tuple[Score, ...] = (
    _level("strict", PRECISION, groups=("bucket",), compared=("all",), on_card=True),
    _level("strict", RECALL, groups=("bucket", "subset"), compared=EVERY_GROUP, shown=("unseen_concept",), on_card=True),
    _level("strict", F1, groups=("bucket",), compared=("all",), shown=("all",), on_card=True),
    *(_level("partial", ratio) for ratio in (PRECISION, RECALL, F1)),
    *(_level("token", ratio, on_page=False) for ratio in (PRECISION, RECALL, F1)),
    _accuracy(1, groups=("bucket", "subset"), compared=EVERY_GROUP, shown=("all", "unseen_concept"), on_card=True),
    _accuracy(5, groups=("bucket", "subset")),
    *(_accuracy(k, groups=("bucket",), on_page=False) for k in (10, 50, 100)),
    Score("mrr", "normalization", "mrr", lambda ranks: 1 / ranks, groups=("bucket", "subset"), compared=("all", "bucket")),
    *(_relaxed(k) for k in (1, 5, 10, 50, 100)),
    Score("nil_precision", "normalization", "precision of no concept", of_nil=("precision", "called")),
    Score("nil_recall", "normalization", "recall of no concept", of_nil=("recall", "unmapped")),
    Score("acc@1_nil", "normalization", "acc@1 with threshold", of_nil=("accuracy", "n"), on_card=True),
    *(
        Score(f"error_{relation}", "normalization", f"error, {relation}", relation=relation, better="lower", groups=("bucket",))
        for relation in ("ancestor", "descendant", "sibling", "unrelated", "unplaced", "missing")
    ),
    _level("span_concept", PRECISION, "end_to_end", "span + concept precision"),
    _level("span_concept", RECALL, "end_to_end", "span + concept recall", groups=("bucket",)),
    _level("span_concept", F1, "end_to_end", "span + concept F1", shown=("all",)),
    *(_level("span_concept_nil", ratio, "end_to_end", f"span + concept {ratio.short} with threshold") for ratio in (PRECISION, RECALL, F1)),
)
"""All scores by task, in the order of tables."""

MAIN: dict[str, str] = {"normalization": "acc@1", "recognition": "strict_f1", "end_to_end": "span_concept_f1"}
"""The main score of each task, over all mentions."""

OF_GROUPS: dict[str, str] = {"normalization": "acc@1", "recognition": "strict_recall", "end_to_end": "span_concept_recall"}
"""The score of each task on groups of gold mentions; its n is their number."""

WORDS = {"all": "all mentions", "seen_mention": "seen mentions", "seen_concept": "seen concepts", "unseen_concept": "unseen concepts"}
"""Names of buckets after the label of a score."""

BY_NAME: dict[str, Score] = {score.name: score for score in SCORES}


def accuracy_at(k: int, entries: bool = False) -> Score:
    """The accuracy at a rank, of concepts, or of entries (relaxed)."""
    return BY_NAME[f"acc@{k}{'_relaxed' if entries else ''}"]


def main(task: str) -> Score:
    """The main score of a task."""
    return BY_NAME[MAIN[task]]


def of_groups(task: str) -> Score:
    """The score of a task on groups of gold mentions."""
    return BY_NAME[OF_GROUPS[task]]


def of_task(task: str) -> list[Score]:
    """The scores of a task."""
    return [score for score in SCORES if score.task == task]


def of_level(level: str, group: str = "all") -> list[Score]:
    """The ratios of a level on all mentions, or on groups of a kind."""
    return [score for score in SCORES if score.level == level and (group == "all" or group in score.groups)]


def of_ranks(group: str = "all", entries: bool = False) -> list[Score]:
    """The scores of ranks on all mentions, or on groups of a kind."""
    return [score for score in SCORES if score.of_rank and score.entries == entries and (group == "all" or group in score.groups)]


def compared(task: str, slice_: str) -> list[Score]:
    """The scores by which cells are compared on groups of a slice."""
    return [score for score in of_task(task) if slice_ in score.compared]


def ranked(*tasks: str) -> tuple[str, ...]:
    """Names of the scores by which cells of these tasks are compared: on all mentions, and on groups."""
    return tuple(dict.fromkeys(by[task] for task in tasks for by in (MAIN, OF_GROUPS)))


def shown() -> dict[tuple[str, str, str], str]:
    """Labels of the main scores by task, bucket and name of the score."""
    return {(score.task, bucket, score.name): f"{score.label}, {WORDS[bucket]}" for score in SCORES for bucket in score.shown}
