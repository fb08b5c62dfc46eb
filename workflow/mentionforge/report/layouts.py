"""Tables of all scores of a run, laid out as in the paper.

In: frames of `tidy` and `comparable`. Out: a `ReportTable` for each table that has rows, the paper's first. Knows nothing of files, Markdown,
LaTeX or HTML.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from mentionforge import measures, tables
from mentionforge.entries import EXTERNAL, NONE
from mentionforge.layout import TRAINED_ON
from mentionforge.report import external
from mentionforge.report.comparable import SUBSETS_NOTE, hierarchy_tables, subset_table
from mentionforge.report.confidence import family_table
from mentionforge.report.entry_order import MAIN_INDEX, by_index, by_strategy
from mentionforge.report.formatting import FEW, ReportTable, counted, interval
from mentionforge.report.tidy import CELL, seed_scores, seeds_as_column

BUCKETS = {"seen_mention": "seen mention", "seen_concept": "seen concept", "unseen_concept": "unseen concept"}


def accuracy_table(metrics: pd.DataFrame, comparisons: pd.DataFrame, index: str = MAIN_INDEX) -> pd.DataFrame:
    """The main score of normalization in per cent on all mentions and on unseen concepts, with the gain over `none` and its interval.

    One row per linker, generator and strategy; two columns per corpus. The paper's table has one index, that of training mentions.
    """
    cells = metrics[
        (metrics["task"] == "normalization")
        & (metrics["metric"] == measures.MAIN["normalization"])
        & (metrics["variant"] == index)
        & (metrics["split"] == "test")
    ]
    cells = (
        seeds_as_column(cells)
        .groupby(["corpus", "system", "generator", "strategy", "bucket"], sort=False)
        .agg(value=("value", "mean"), n=("n", "max"))
        .reset_index()
    )
    differences = comparisons[
        (comparisons["against"] == "baseline")
        & (comparisons["metric"] == measures.OF_GROUPS["normalization"])
        & (comparisons["variant"] == index)
        & comparisons["slice"].isin(["all", "bucket"])
    ]
    gains: dict[Any, Any] = {(g.corpus, g.system, g.generator, g.strategy, g.group): g for g in differences.itertuples()}
    rows: dict[Any, dict[str, str]] = {}
    records: Any = cells[cells["bucket"].isin(["all", "unseen_concept"])].itertuples()
    for row in records:
        text = "" if pd.isna(row.value) else f"{100 * row.value:.1f}"
        key = (row.corpus, row.system, row.generator, row.strategy, row.bucket)
        if key in gains:
            text += interval(gains[key].difference, gains[key].low, gains[key].high)
        column = f"{row.corpus}, {'all' if row.bucket == 'all' else 'unseen'} (n={counted(row.n)})"
        rows.setdefault((row.system, row.generator, row.strategy), {})[column] = text
    ordered = sorted(rows, key=lambda k: (k[0], k[1] != NONE, k[1], k[2]))
    table = pd.DataFrame([{"linker": k[0], "generator": k[1], "strategy": k[2], **rows[k]} for k in ordered])
    return (
        table[["linker", "generator", "strategy", *sorted(c for c in table.columns if c not in ("linker", "generator", "strategy"))]] if len(table) else table
    )


def recognition_table(metrics: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """The main score of recognition, and that of groups on unseen concepts, in per cent, mean over seeds, with the gain over `real_only` and its interval."""
    cells = seeds_as_column(metrics[(metrics["task"] == "recognition") & (metrics["split"] == "test") & ~metrics["variant"].str.contains(TRAINED_ON)])
    labels = {
        ("all", measures.MAIN["recognition"]): measures.main("recognition").head,
        ("unseen_concept", measures.OF_GROUPS["recognition"]): f"{measures.of_groups('recognition').short}, unseen",
    }
    differences = comparisons[(comparisons["against"] == "baseline") & comparisons["slice"].isin(["all", "bucket"])]
    gains: dict[Any, Any] = {(g.corpus, g.system, g.generator, g.strategy, g.variant, g.group, g.metric): g for g in differences.itertuples()}
    rows: list[dict[str, Any]] = []
    for key, cell_rows in cells.groupby(["system", "generator", "strategy", "variant"], sort=False):
        row: dict[str, Any] = dict(zip(["recognizer", "generator", "strategy", "schedule"], key, strict=True))
        for corpus, corpus_rows in cell_rows.groupby("corpus"):
            for (bucket, metric), label in labels.items():
                values = corpus_rows[(corpus_rows["bucket"] == bucket) & (corpus_rows["metric"] == metric)]
                if values["value"].notna().any():
                    gain = gains.get((corpus, *key, bucket, metric))
                    column = f"{corpus}, {label} (n={counted(values['n'].max())})"
                    row[column] = f"{100 * values['value'].mean():.1f}" + ("" if gain is None else interval(gain.difference, gain.low, gain.high))
        row["seeds"] = cell_rows["seed"].nunique()
        rows.append(row)
    rows.sort(key=lambda r: (r["recognizer"], r["generator"] != NONE, r["generator"], r["strategy"], r["schedule"]))
    return pd.DataFrame(rows)


def recognition_scores(metrics: pd.DataFrame, errors: pd.DataFrame, crossed: bool = False) -> pd.DataFrame:
    """For every recognition cell: partial and token F1, strict recall and F1 per bucket (per cent, mean over seeds), and errors of each kind.

    Args:
        metrics: `tidy_metrics`.
        errors: `error_counts`.
        crossed: Whether to show the cells whose model was trained on another corpus, instead of the others.
    """
    cells = seeds_as_column(
        metrics[(metrics["task"] == "recognition") & (metrics["split"] == "test") & (metrics["variant"].str.contains(TRAINED_ON) == crossed)]
    )
    columns = {
        **{f"{s.level}, {s.head}": ("all", s.name) for s in measures.of_task("recognition") if s.ratio is measures.F1},
        **{
            f"{column}, {s.ratio.short}": (bucket, s.name)
            for bucket, column in BUCKETS.items()
            for s in measures.of_level("strict")
            if s.ratio in (measures.RECALL, measures.F1)
        },
    }
    rows = []
    for key, cell_rows in cells.groupby(["corpus", "system", "generator", "strategy", "variant"], sort=False):
        schedule, _, source = str(key[4]).partition(TRAINED_ON)
        row: dict[str, Any] = {"corpus": key[0], **({"trained on": source} if crossed else {})}
        row |= {"recognizer": key[1], "generator": key[2], "strategy": key[3], "schedule": schedule}
        means = cell_rows.groupby(["bucket", "metric"])["value"].mean()
        for column, score_key in columns.items():
            row[column] = "" if pd.isna(means.get(score_key)) else f"{100 * means[score_key]:.1f}"
        error_counts = errors[(errors[["corpus", "system", "generator", "strategy", "variant"]] == list(key)).all(axis=1)].set_index("error")["count"]
        row |= {f"{kind}, n": f"{error_counts.get(kind, 0):,.1f}".removesuffix(".0") for kind in tables.ERRORS} if len(error_counts) else {}
        row |= {
            "n": counted(cell_rows.loc[cell_rows["metric"] == measures.OF_GROUPS["recognition"]].groupby("bucket")["n"].max().get("all", 0)),
            "seeds": cell_rows["seed"].nunique(),
        }
        rows.append(row)
    rows.sort(key=lambda r: (r["corpus"], r.get("trained on", ""), r["recognizer"], r["generator"] != NONE, r["generator"], r["strategy"], r["schedule"]))
    return pd.DataFrame(rows)


def end_to_end_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall and F1 of span and concept together, and recall per bucket: per cent, mean over seeds."""
    cells = seeds_as_column(metrics[(metrics["task"] == "end_to_end") & (metrics["split"] == "test")])
    columns = {
        **{f"all, {s.ratio.short}": ("all", s.name) for s in measures.of_level("span_concept") if s.ratio},
        **{f"with threshold, {s.ratio.short}": ("all", s.name) for s in measures.of_level("span_concept_nil") if s.ratio is measures.F1},
        **{f"{column}, {measures.of_groups('end_to_end').head}": (bucket, measures.OF_GROUPS["end_to_end"]) for bucket, column in BUCKETS.items()},
    }
    rows = []
    for key, cell_rows in cells.groupby(["corpus", "system", "generator", "strategy", "variant"], sort=False):
        (recognizer, linker), (schedule, index) = str(key[1]).split("/"), str(key[4]).split("/")
        row: dict[str, Any] = {"corpus": key[0], "recognizer": recognizer, "linker": linker, "index": index}
        row |= {"generator": key[2], "strategy": key[3], "schedule": schedule}
        means = cell_rows.groupby(["bucket", "metric"])["value"].mean()
        for column, score_key in columns.items():
            row[column] = "" if pd.isna(means.get(score_key)) else f"{100 * means[score_key]:.1f}"
        row |= {
            "n": counted(cell_rows.loc[(cell_rows["metric"] == measures.OF_GROUPS["end_to_end"]) & (cell_rows["bucket"] == "all"), "n"].max()),
            "seeds": cell_rows["seed"].nunique(),
        }
        rows.append(row)
    rows.sort(key=lambda r: [str(r[k]) for k in ("corpus", "recognizer", "linker", "index", "strategy", "generator", "schedule")])
    return pd.DataFrame(rows)


def seeds_table(seeds: pd.DataFrame) -> pd.DataFrame:
    """Score of each seed, mean and standard deviation in per cent, from `seed_scores`; one row per cell and measure."""
    rows = []
    for key, seed_rows in seeds.groupby([*CELL, "measure"], sort=False):
        cell = dict(zip([*CELL, "measure"], key, strict=True))
        row = {"corpus": cell["corpus"], "system": cell["system"], "generator": cell["generator"], "strategy": cell["strategy"]}
        row |= {"variant": cell["variant"], "measure": cell["measure"]}
        row |= {"mean, sd": f"{seed_rows['mean'].iloc[0]:.1f} ± {seed_rows['sd'].iloc[0]:.1f}"}
        row |= {"by seed, each": "; ".join(f"{r.seed}: {r.percent:.1f}" for r in seed_rows.itertuples()), "n": counted(seed_rows["n"].max())}
        rows.append(row)
    return pd.DataFrame(rows)


SLICES = {
    "train_mentions": "by training mentions of the concept",
    "names": "by names of the concept in the knowledge base",
    "semantic_type": "by semantic type",
    "notes": "by synthetic notes of the concept (dose)",
}


def group_table(comparisons: pd.DataFrame, slice_: str) -> pd.DataFrame:
    """Gains over `none` by group of mentions, in points with interval and n, one row per corpus, linker, generator and strategy.

    The index is that of training mentions, or the first in the alphabet if the run has none. The dose has all strategies, other slices only
    `supplemental`, or the first in the alphabet.
    """
    differences = comparisons[
        (comparisons["task"] == "normalization") & (comparisons["against"] == "baseline") & (comparisons["metric"] == measures.OF_GROUPS["normalization"])
    ]
    differences = differences[differences["slice"] == slice_]
    if differences.empty:
        return pd.DataFrame()
    index = min(differences["variant"].unique(), key=by_index)
    differences = differences[differences["variant"] == index]
    if slice_ != "notes":
        differences = differences[differences["strategy"] == min(differences["strategy"].unique(), key=by_strategy)]
    order = {"0": 0, "1": 1, "2-5": 2, "6-20": 3, "21+": 4}
    rows: dict[Any, dict[str, str]] = {}
    records: Any = differences.itertuples()
    for row in records:
        text = interval(row.difference, row.low, row.high).strip() + f" n={counted(row.n)}"
        rows.setdefault((row.corpus, row.system, row.generator, row.strategy), {})[row.group] = text
    groups = sorted(set(differences["group"]), key=lambda g: (order.get(g, 9), g))
    label = {"train_mentions": "training mentions", "names": "names", "semantic_type": "type", "notes": "notes"}[slice_]
    table = pd.DataFrame(
        [
            {"corpus": k[0], "linker": k[1], "index": index, "generator": k[2], "strategy": k[3], **{f"{label}, {g}": rows[k].get(g, "") for g in groups}}
            for k in sorted(rows)
        ]
    )
    return table


TABLES_NOTE = (
    "Test split. Scores in per cent; behind each the difference to none in points with its 95 % interval (paired bootstrap by document, with several seeds "
    "over seeds too). Unseen: concepts that the training split lacks; with the index of training mentions their baseline is 0 by construction."
)


def report_tables(
    metrics: pd.DataFrame, comparisons: pd.DataFrame, errors: pd.DataFrame, few: int = 30, hierarchy: pd.DataFrame | None = None
) -> list[ReportTable]:
    """All tables that have rows, the paper's first.

    Args:
        metrics: `tidy_metrics`.
        comparisons: `tidy_comparisons`.
        errors: `error_counts`.
        few: Smallest n that is not marked as few.
        hierarchy: `comparable.hierarchy_counts`.
    """
    linking = comparisons[comparisons["task"] == "normalization"]
    few_note = f" {FEW}: n below {few}."
    collected = []
    for index in sorted(metrics.loc[metrics["task"] == "normalization", "variant"].unique(), key=by_index):
        collected.append(
            ReportTable(
                f"Normalization, {measures.main('normalization').label}, {'external systems' if index == EXTERNAL else f'index {index}'}",
                accuracy_table(metrics, linking, index),
                TABLES_NOTE + few_note,
                f"tab:den-{index.replace('+', '-')}",
            )
        )
    recognized = recognition_table(metrics, comparisons[comparisons["task"] == "recognition"])
    strict_caption = (
        "Strict entity scores on the test split in per cent, mean over seeds; behind each the difference to real text alone in points with its 95 % interval, "
        "over documents and, with several seeds, over seeds."
    )
    collected.append(ReportTable("Recognition, strict entity scores", recognized, strict_caption + few_note, "tab:der"))
    by_group, overall = measures.of_groups("recognition"), measures.main("recognition")
    other_scores_caption = (
        "Test split, per cent, mean over seeds. Partial: a prediction that shares a word with a gold mention; token: single words; by bucket "
        f"{by_group.label} ({by_group.head}) and {overall.label}; then errors, mean number per seed: gold mentions missed, found with another boundary, and spurious predictions. n: gold mentions."
    )
    collected.append(ReportTable("Recognition, other scores and errors", recognition_scores(metrics, errors), other_scores_caption + few_note, "tab:der-more"))
    cross_caption = "Models read the test split of a corpus that they were not trained on; buckets are against the corpus trained on. " + other_scores_caption
    collected.append(ReportTable("Recognition across corpora", recognition_scores(metrics, errors, crossed=True), cross_caption + few_note, "tab:der-cross"))
    end_to_end_caption = (
        "Predicted mentions, linked: right are span and concept together, per cent, mean over seeds, test split. With threshold: first concepts that score below "
        "one chosen on dev are taken back. n: gold mentions."
    )
    collected.append(ReportTable("End to end, recognition into normalization", end_to_end_table(metrics), end_to_end_caption + few_note, "tab:end-to-end"))
    for task, title in ((task, f"{task.capitalize()}, {measures.of_groups(task).label} by subset") for task in ("normalization", "recognition")):
        collected.append(ReportTable(title, subset_table(metrics, task), SUBSETS_NOTE + few_note, f"tab:subsets-{task}"))
    collected += hierarchy_tables(hierarchy) if hierarchy is not None else []
    for slice_, words in SLICES.items():
        caption = f"Difference to none in {measures.main('normalization').label}, points with 95 % interval (paired bootstrap by document) and n mentions of the group, {words}."
        caption += " Exploratory: p values of these are corrected after Benjamini and Hochberg (comparisons.csv)."
        collected.append(ReportTable(f"Gains {words}", group_table(comparisons, slice_), caption + few_note, f"tab:by-{slice_.replace('_', '-')}"))
    collected.append(ReportTable(external.TITLE, external.against_table(comparisons), external.CAPTION + few_note, "tab:external"))
    collected.append(
        ReportTable("Seeds", seeds_table(seed_scores(metrics)), "Score in per cent on the test split, mean ± standard deviation (n - 1).", "tab:seeds")
    )
    families_caption = (
        "Comparisons that are corrected together. Confirmatory: declared before the run, Holm's correction (holm). Exploratory: all others, Benjamini and Hochberg's "
        "(bh). Nothing could be significant where the test documents or the randomizations are too few for the size of the family."
    )
    collected.append(ReportTable("Families of comparisons", family_table(comparisons), families_caption, "tab:families"))
    return [table for table in collected if len(table.frame)]
