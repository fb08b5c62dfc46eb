"""The files in results/summary that other programs read: one row per cell, bucket and metric, per comparison, and per job, with where each comes from.

Scores are shares (0 to 1), times seconds, memory MiB.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures, tables
from mentionforge.entries import NONE
from mentionforge.external.settings import EXTERNAL
from mentionforge.layout import TRAINED_ON, RecognitionCell
from mentionforge.provenance import git_revision, sha256_file
from mentionforge.report import external
from mentionforge.report.confidence import family_table

VERSION = 1
"""Of the part report.tidy: raise it where earlier results would be wrong (mentionforge.versions)."""

BUCKETS = {"seen_mention": "seen mention", "seen_concept": "seen concept", "unseen_concept": "unseen concept"}

CELL = ["task", "corpus", "generator", "strategy", "system", "variant"]


def specs(results: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Settings of every entry of a kind, from results/specs; parts of a generator's settings are put together."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((results / "specs" / kind).rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(data["name"], {}).update(data["settings"])
    return found


def benchmarks(results: Path) -> pd.DataFrame:
    """One row per job, from Snakemake's benchmark files: job (path), rule-like stage, wall_s, cpu_s, peak_mib."""
    base = results / "benchmarks"
    rows = []
    for path in sorted(base.rglob("*.tsv")):
        frame = pd.read_csv(path, sep="\t")
        parts = path.relative_to(base).with_suffix("").parts
        number = {name: float(pd.to_numeric(frame[name], errors="coerce").iloc[-1]) for name in ("s", "cpu_time", "max_rss") if name in frame}
        stage, name = parts[0], parts[1]
        if parts[0] == "generation":
            stage, name = f"generation: {'sample' if 'shards' in parts else parts[-1]}", parts[1]
        elif parts[0] == "evaluation" or parts[0] == "statistics":
            stage, name = f"{parts[0]}: {parts[1]}", parts[-1]
        elif parts[0] == "report":
            stage, name = f"report: {parts[-1]}", ""
        rows.append(
            {
                "job": "/".join(parts),
                "stage": stage,
                "of": name,
                "wall_s": number.get("s"),
                "cpu_s": number.get("cpu_time"),
                "peak_mib": number.get("max_rss"),
            }
        )
    return pd.DataFrame(rows, columns=["job", "stage", "of", "wall_s", "cpu_s", "peak_mib"])


def provenance_columns(results: Path, models: Sequence[Path], config_digest: str) -> pd.DataFrame:
    """One row per corpus and system: revision, digests, release of the knowledge base, revisions of the weights.

    Args:
        results: Results folder.
        models: Stamps (fetched.json) of the weights used.
        config_digest: Digest of the resolved configuration.
    """
    revisions = {path.parent.name: json.loads(path.read_text(encoding="utf-8"))["revision"] for path in models}
    corpora, recognizers, linkers, generators = (specs(results, kind) for kind in ("corpora", "recognizers", "linkers", "generators"))
    rows = []
    for corpus, settings in corpora.items():
        stats, kb_stats = results / "corpora" / corpus / "stats.json", results / "kb" / settings["kb"] / "stats.json"
        if not (stats.is_file() and kb_stats.is_file()):
            continue
        kb = {"kb": settings["kb"], "kb_release": release(kb_stats), "kb_digest": sha256_file(kb_stats)[:12]}
        for task, systems in (("recognition", recognizers), ("normalization", linkers)):
            for system in systems:
                rows.append({"task": task, "corpus": corpus, "system": system, **kb, "corpus_digest": sha256_file(stats)[:12]})
                rows[-1]["model_revision"] = " ".join(f"{m}={revisions[m]}" for m in models_of(system, systems) if m in revisions)
        for recognizer, linker in itertools.product(recognizers, linkers):
            used = sorted({*models_of(recognizer, recognizers), *models_of(linker, linkers)} & set(revisions))
            rows.append({"task": "end_to_end", "corpus": corpus, "system": f"{recognizer}/{linker}", **kb, "corpus_digest": sha256_file(stats)[:12]})
            rows[-1]["model_revision"] = " ".join(f"{m}={revisions[m]}" for m in used)
    frame = pd.DataFrame(rows)
    frame["git_revision"], frame["config_digest"] = git_revision(), config_digest
    written = {g: s["model"] for g, s in generators.items() if s.get("model")}
    frame.attrs["generator_models"] = {g: f"{m}={revisions[m]}" for g, m in written.items() if m in revisions}
    return frame


def models_of(system: str, systems: dict[str, dict[str, Any]]) -> list[str]:
    """Models entries that a recognizer or linker uses, those of the linkers it builds on included."""
    settings = systems.get(system, {})
    found = [settings["model"]] if settings.get("model") else []
    for name in [*(settings.get("linkers") or ()), *([settings["linker"]] if settings.get("linker") else ())]:
        found += models_of(name, systems)
    return sorted(set(found))


def release(kb_stats: Path) -> str:
    """Release of a knowledge base: the versions of its sources, as far as its files say, joined by blanks."""
    found = json.loads(kb_stats.read_text(encoding="utf-8")).get("funnel", {}).get("release", {})
    if isinstance(found, dict):
        versions = found.get("sources", found)
        found = sorted({str(v) for v in versions.values()}) if isinstance(versions, dict) else [str(versions)]
    return " ".join(found[:6]) if isinstance(found, list) else str(found)


def tidy_metrics(metrics: Sequence[Path], results: Path, models: Sequence[Path], config_digest: str) -> pd.DataFrame:
    """tables.METRICS of all tasks and corpora with provenance, wall time and memory of each cell's last job."""
    frame = pd.concat([tables.read(tables.METRICS, path).to_pandas() for path in metrics], ignore_index=True)
    sources = provenance_columns(results, models, config_digest)
    merged = frame.merge(sources, on=["task", "corpus", "system"], how="left")
    of_generators = sources.attrs["generator_models"]
    merged["generator_revision"] = merged["generator"].map(of_generators).fillna("")
    jobs = benchmarks(results).set_index("job")
    path = merged[CELL].agg("/".join, axis=1) + merged["seed"].map(lambda s: f"/seed{s}").where(merged["task"] == "recognition", "")
    for i in merged.index[merged["task"] == "end_to_end"]:
        row = merged.loc[i]
        (recognizer, linker), (schedule, index) = row["system"].split("/"), row["variant"].split("/")
        run = RecognitionCell(row["corpus"], row["generator"], row["strategy"], recognizer, schedule, row["seed"])
        path[i] = f"end_to_end/{run.path}/{linker}/{index}"
    merged["wall_s"], merged["peak_mib"] = path.map(jobs["wall_s"].to_dict()), path.map(jobs["peak_mib"].to_dict())
    return merged


def tidy_comparisons(comparisons: Sequence[Path], config_digest: str) -> pd.DataFrame:
    """tables.COMPARISONS of all tasks and corpora; a path is …/TASK/CORPUS/comparisons.parquet."""
    parts = []
    for path in comparisons:
        frame = tables.read(tables.COMPARISONS, path).to_pandas()
        frame.insert(0, "task", path.parts[-3])
        frame.insert(1, "corpus", path.parts[-2])
        parts.append(frame)
    merged = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["task", "corpus", *(c.name for c in tables.COMPARISONS.columns)])
    merged["git_revision"], merged["config_digest"] = git_revision(), config_digest
    return merged


# ------------------------------------------------------------------------------------------------------- seeds and errors

SEED = re.compile(r"~seed=(\d+)(?=~|$)")
"""A generator that a sweep over seeds unfolded, as evaluation compare reads it."""

MEASURES = measures.shown()
"""Scores that are shown by seed: task, bucket and metric, and their names."""


def folded(metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics with generators named without their seed, which stands in the column `seed`, before that of the training: 2+1."""
    frame = metrics.copy()
    swept = frame["generator"].str.extract(SEED)[0]
    own = frame["seed"].astype(str).where(frame["task"].isin(["recognition", "end_to_end"]), "")
    frame["seed"] = swept.fillna("").str.cat(own, sep="+").str.strip("+")
    frame["generator"] = frame["generator"].str.replace(SEED, "", regex=True)
    return frame


def seed_scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """Scores of each seed, in per cent, of cells with several, with mean, standard deviation (n - 1) and mean -/+ deviation.

    Seeds are those of training, and of generators that a sweep over `seed` unfolded.
    """
    frame = metrics[metrics["split"] == "test"].copy()
    frame["measure"] = [MEASURES.get(key, "") for key in zip(frame["task"], frame["bucket"], frame["metric"], strict=True)]
    frame = frame[(frame["measure"] != "") & frame["value"].notna()].copy()
    frame = folded(frame)
    frame["percent"] = 100 * frame["value"]
    by = [*CELL, "measure"]
    grouped = frame.groupby(by)["percent"]
    frame["mean"], frame["sd"], frame["seeds"] = grouped.transform("mean"), grouped.transform("std"), grouped.transform("size")
    frame = frame[frame["seeds"] > 1].copy()
    frame["low"], frame["high"] = frame["mean"] - frame["sd"], frame["mean"] + frame["sd"]
    frame["cell"] = frame["strategy"].where(frame["strategy"] != NONE, "no synthetic text") + " | " + frame["variant"]
    columns = [*by, "cell", "seed", "seeds", "percent", "mean", "sd", "low", "high", "n"]
    return frame[columns].sort_values([*by, "seed"]).round(4).reset_index(drop=True)


def error_counts(errors: Sequence[Path]) -> pd.DataFrame:
    """Errors on the test split by corpus, cell and kind, mean over seeds; a path is …/CORPUS.errors.parquet."""
    cell = ["generator", "strategy", "system", "variant"]
    parts = []
    for path in sorted(errors):
        frame: Any = tables.read(tables.RECOGNITION_ERRORS, path).to_pandas()
        frame = frame[frame["split"] == "test"]
        if frame.empty:
            continue
        frame = folded(frame.assign(task="recognition"))
        seeds = frame.groupby(cell).agg(seeds=("seed", "nunique"))
        counted = frame.groupby([*cell, "error"]).size().unstack("error", fill_value=0).reindex(columns=list(tables.ERRORS), fill_value=0)
        long = counted.stack().rename("total").reset_index().join(seeds, on=cell)
        long.insert(0, "corpus", path.name.removesuffix(".errors.parquet"))
        long["count"] = long["total"] / long["seeds"]
        long["rank"] = long["error"].map({e: i for i, e in enumerate(tables.ERRORS)})
        parts.append(long)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["corpus", *cell, "error", "total", "seeds", "count", "rank"])


# ----------------------------------------------------------------------------------------------------- the paper's layout


def paper_table(metrics: pd.DataFrame, comparisons: pd.DataFrame, index: str = "train") -> pd.DataFrame:
    """acc@1 in per cent, all and unseen concepts, rows linker, generator, strategy, columns corpora, with the gain over `none` and its interval.

    The paper's table has one index, that of training mentions.
    """
    cells = metrics[(metrics["task"] == "normalization") & (metrics["metric"] == "acc@1") & (metrics["variant"] == index) & (metrics["split"] == "test")]
    cells = (
        folded(cells).groupby(["corpus", "system", "generator", "strategy", "bucket"], sort=False).agg(value=("value", "mean"), n=("n", "max")).reset_index()
    )
    found = comparisons[
        (comparisons["against"] == "baseline")
        & (comparisons["metric"] == "acc@1")
        & (comparisons["variant"] == index)
        & comparisons["slice"].isin(["all", "bucket"])
    ]
    gains: dict[Any, Any] = {(g.corpus, g.system, g.generator, g.strategy, g.group): g for g in found.itertuples()}
    rows: dict[Any, dict[str, str]] = {}
    shown: Any = cells[cells["bucket"].isin(["all", "unseen_concept"])].itertuples()
    for row in shown:
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


def interval(difference: float, low: float, high: float) -> str:
    """A difference in points with its interval, `+1.2 [0.4, 2.0]`, led by a blank."""
    if pd.isna(low):
        return f" {100 * difference:+.1f}"
    return f" {100 * difference:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def recognition_table(metrics: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Strict F1, and recall on unseen concepts, in per cent, mean over seeds, with the gain over `real_only` and its interval."""
    cells = folded(metrics[(metrics["task"] == "recognition") & (metrics["split"] == "test") & ~metrics["variant"].str.contains(TRAINED_ON)])
    wanted = {("all", measures.MAIN["recognition"]): "F1", ("unseen_concept", measures.OF_GROUPS["recognition"]): "recall, unseen"}
    found = comparisons[(comparisons["against"] == "baseline") & comparisons["slice"].isin(["all", "bucket"])]
    gains: dict[Any, Any] = {(g.corpus, g.system, g.generator, g.strategy, g.variant, g.group, g.metric): g for g in found.itertuples()}
    rows: list[dict[str, Any]] = []
    for key, part in cells.groupby(["system", "generator", "strategy", "variant"], sort=False):
        row: dict[str, Any] = dict(zip(["recognizer", "generator", "strategy", "schedule"], key, strict=True))
        for corpus, of_corpus in part.groupby("corpus"):
            for (bucket, metric), name in wanted.items():
                values = of_corpus[(of_corpus["bucket"] == bucket) & (of_corpus["metric"] == metric)]
                if values["value"].notna().any():
                    gain = gains.get((corpus, *key, bucket, metric))
                    column = f"{corpus}, {name} (n={counted(values['n'].max())})"
                    row[column] = f"{100 * values['value'].mean():.1f}" + ("" if gain is None else interval(gain.difference, gain.low, gain.high))
        row["seeds"] = part["seed"].nunique()
        rows.append(row)
    rows.sort(key=lambda r: (r["recognizer"], r["generator"] != NONE, r["generator"], r["strategy"], r["schedule"]))
    return pd.DataFrame(rows)


def recognition_scores(metrics: pd.DataFrame, errors: pd.DataFrame, crossed: bool = False) -> pd.DataFrame:
    """Partial and token F1, strict recall and F1 per bucket in per cent, mean over seeds, and errors of each kind, of every recognition cell.

    Args:
        metrics: `tidy_metrics`.
        errors: `error_counts`.
        crossed: Cells whose model was trained on another corpus, in place of those trained on their own.
    """
    cells = folded(metrics[(metrics["task"] == "recognition") & (metrics["split"] == "test") & (metrics["variant"].str.contains(TRAINED_ON) == crossed)])
    wanted = {
        **{f"{s.level}, F1": ("all", s.name) for s in measures.of_task("recognition") if s.ratio is measures.F1},
        **{f"{name}, {r.short}": (bucket, f"strict_{r.name}") for bucket, name in BUCKETS.items() for r in (measures.RECALL, measures.F1)},
    }
    rows = []
    for key, part in cells.groupby(["corpus", "system", "generator", "strategy", "variant"], sort=False):
        schedule, _, source = str(key[4]).partition(TRAINED_ON)
        row: dict[str, Any] = {"corpus": key[0], **({"trained on": source} if crossed else {})}
        row |= {"recognizer": key[1], "generator": key[2], "strategy": key[3], "schedule": schedule}
        means = part.groupby(["bucket", "metric"])["value"].mean()
        for name, place in wanted.items():
            row[name] = "" if pd.isna(means.get(place)) else f"{100 * means[place]:.1f}"
        own = errors[(errors[["corpus", "system", "generator", "strategy", "variant"]] == list(key)).all(axis=1)].set_index("error")["count"]
        row |= {f"{kind}, n": f"{own.get(kind, 0):,.1f}".removesuffix(".0") for kind in tables.ERRORS} if len(own) else {}
        row |= {
            "n": counted(part.loc[part["metric"] == measures.OF_GROUPS["recognition"]].groupby("bucket")["n"].max().get("all", 0)),
            "seeds": part["seed"].nunique(),
        }
        rows.append(row)
    rows.sort(key=lambda r: (r["corpus"], r.get("trained on", ""), r["recognizer"], r["generator"] != NONE, r["generator"], r["strategy"], r["schedule"]))
    return pd.DataFrame(rows)


def end_to_end_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall and F1 of span and concept together, and recall per bucket, in per cent, mean over seeds."""
    cells = folded(metrics[(metrics["task"] == "end_to_end") & (metrics["split"] == "test")])
    wanted = {
        **{f"all, {r.short}": ("all", f"span_concept_{r.name}") for r in (measures.PRECISION, measures.RECALL, measures.F1)},
        "with threshold, F1": ("all", "span_concept_nil_f1"),
        **{f"{name}, R": (bucket, measures.OF_GROUPS["end_to_end"]) for bucket, name in BUCKETS.items()},
    }
    rows = []
    for key, part in cells.groupby(["corpus", "system", "generator", "strategy", "variant"], sort=False):
        (recognizer, linker), (schedule, index) = str(key[1]).split("/"), str(key[4]).split("/")
        row: dict[str, Any] = {"corpus": key[0], "recognizer": recognizer, "linker": linker, "index": index}
        row |= {"generator": key[2], "strategy": key[3], "schedule": schedule}
        means = part.groupby(["bucket", "metric"])["value"].mean()
        for name, place in wanted.items():
            row[name] = "" if pd.isna(means.get(place)) else f"{100 * means[place]:.1f}"
        row |= {"n": counted(part.loc[(part["metric"] == "span_concept_recall") & (part["bucket"] == "all"), "n"].max()), "seeds": part["seed"].nunique()}
        rows.append(row)
    rows.sort(key=lambda r: [str(r[k]) for k in ("corpus", "recognizer", "linker", "index", "strategy", "generator", "schedule")])
    return pd.DataFrame(rows)


def seeds_table(seeds: pd.DataFrame) -> pd.DataFrame:
    """Each seed's score, mean and standard deviation in per cent, of `seed_scores`; one row per cell and measure."""
    rows = []
    for key, part in seeds.groupby([*CELL, "measure"], sort=False):
        named = dict(zip([*CELL, "measure"], key, strict=True))
        row = {"corpus": named["corpus"], "system": named["system"], "generator": named["generator"], "strategy": named["strategy"]}
        row |= {"variant": named["variant"], "measure": named["measure"]}
        row |= {"mean, sd": f"{part['mean'].iloc[0]:.1f} ± {part['sd'].iloc[0]:.1f}"}
        row |= {"by seed, each": "; ".join(f"{r.seed}: {r.percent:.1f}" for r in part.itertuples()), "n": counted(part["n"].max())}
        rows.append(row)
    return pd.DataFrame(rows)


SLICES = {
    "train_mentions": "by training mentions of the concept",
    "names": "by names of the concept in the knowledge base",
    "semantic_type": "by semantic type",
    "notes": "by synthetic notes of the concept (dose)",
}


def group_table(comparisons: pd.DataFrame, slice_: str) -> pd.DataFrame:
    """Gains in acc@1 over `none` by group of mentions, in points with interval and n; index of training mentions, or the first there is.

    Rows: corpus, linker, generator, strategy. For the dose all strategies, for the other slices `supplemental`, or the first one there is.
    """
    found = comparisons[(comparisons["task"] == "normalization") & (comparisons["against"] == "baseline") & (comparisons["metric"] == "acc@1")]
    found = found[found["slice"] == slice_]
    if found.empty:
        return pd.DataFrame()
    index = min(found["variant"].unique(), key=lambda v: (v != "train", v))
    found = found[found["variant"] == index]
    if slice_ != "notes":
        found = found[found["strategy"] == min(found["strategy"].unique(), key=lambda s: (s != "supplemental", s))]
    order = {"0": 0, "1": 1, "2-5": 2, "6-20": 3, "21+": 4}
    rows: dict[Any, dict[str, str]] = {}
    shown: Any = found.itertuples()
    for row in shown:
        text = interval(row.difference, row.low, row.high).strip() + f" n={counted(row.n)}"
        rows.setdefault((row.corpus, row.system, row.generator, row.strategy), {})[row.group] = text
    groups = sorted(set(found["group"]), key=lambda g: (order.get(g, 9), g))
    label = {"train_mentions": "training mentions", "names": "names", "semantic_type": "type", "notes": "notes"}[slice_]
    table = pd.DataFrame(
        [
            {"corpus": k[0], "linker": k[1], "index": index, "generator": k[2], "strategy": k[3], **{f"{label}, {g}": rows[k].get(g, "") for g in groups}}
            for k in sorted(rows)
        ]
    )
    return table


@dataclass(frozen=True)
class Layout:
    """A table as people read it: for Markdown, LaTeX and the page."""

    title: str
    frame: pd.DataFrame
    caption: str
    label: str


def layout(metrics: pd.DataFrame, comparisons: pd.DataFrame, errors: pd.DataFrame, few: int = 30, hierarchy: pd.DataFrame | None = None) -> list[Layout]:
    """All tables that have rows, the paper's first.

    Args:
        metrics: `tidy_metrics`.
        comparisons: `tidy_comparisons`.
        errors: `error_counts`.
        few: n below which a number is marked.
        hierarchy: `comparable.hierarchy_counts`.
    """
    linking = comparisons[comparisons["task"] == "normalization"]
    mark = f" {FEW}: n below {few}."
    parts = []
    for index in sorted(metrics.loc[metrics["task"] == "normalization", "variant"].unique(), key=lambda v: (v != "train", v)):
        parts.append(
            Layout(
                f"Normalization, acc@1, {'external systems' if index == EXTERNAL else f'index {index}'}",
                paper_table(metrics, linking, index),
                TABLES_NOTE + mark,
                f"tab:den-{index.replace('+', '-')}",
            )
        )
    recognized = recognition_table(metrics, comparisons[comparisons["task"] == "recognition"])
    strict = (
        "Strict entity scores on the test split in per cent, mean over seeds; behind each the difference to real text alone in points with its 95 % interval, "
        "over documents and, with several seeds, over seeds."
    )
    parts.append(Layout("Recognition, strict entity scores", recognized, strict + mark, "tab:der"))
    more = (
        "Test split, per cent, mean over seeds. Partial: a prediction that shares a word with a gold mention; token: single words; by bucket strict recall (R) and "
        "F1; then errors, mean number per seed: gold mentions missed, found with another boundary, and spurious predictions. n: gold mentions."
    )
    parts.append(Layout("Recognition, other scores and errors", recognition_scores(metrics, errors), more + mark, "tab:der-more"))
    crossed = "Models read the test split of a corpus that they were not trained on; buckets are against the corpus trained on. " + more
    parts.append(Layout("Recognition across corpora", recognition_scores(metrics, errors, crossed=True), crossed + mark, "tab:der-cross"))
    both = (
        "Predicted mentions, linked: right are span and concept together, per cent, mean over seeds, test split. With threshold: first concepts that score below "
        "one chosen on dev are taken back. n: gold mentions."
    )
    parts.append(Layout("End to end, recognition into normalization", end_to_end_table(metrics), both + mark, "tab:end-to-end"))
    from mentionforge.report.comparable import SUBSETS_NOTE, hierarchy_layouts, subset_table  # it builds on this module

    for task, title in (("normalization", "Normalization, acc@1 by subset"), ("recognition", "Recognition, strict recall by subset")):
        parts.append(Layout(title, subset_table(metrics, task), SUBSETS_NOTE + mark, f"tab:subsets-{task}"))
    parts += hierarchy_layouts(hierarchy) if hierarchy is not None else []
    for slice_, words in SLICES.items():
        caption = f"Difference to none in acc@1, points with 95 % interval (paired bootstrap by document) and n mentions of the group, {words}."
        caption += " Exploratory: p values of these are corrected after Benjamini and Hochberg (comparisons.csv)."
        parts.append(Layout(f"Gains {words}", group_table(comparisons, slice_), caption + mark, f"tab:by-{slice_.replace('_', '-')}"))
    parts.append(Layout(external.TITLE, external.against_table(comparisons), external.CAPTION + mark, "tab:external"))
    parts.append(Layout("Seeds", seeds_table(seed_scores(metrics)), "Score in per cent on the test split, mean ± standard deviation (n - 1).", "tab:seeds"))
    corrected = (
        "Comparisons that are corrected together. Confirmatory: declared before the run, Holm's correction (holm). Exploratory: all others, Benjamini and Hochberg's "
        "(bh). Nothing could be significant where the test documents or the randomizations are too few for the size of the family."
    )
    parts.append(Layout("Families of comparisons", family_table(comparisons), corrected, "tab:families"))
    return [part for part in parts if len(part.frame)]


FEW = "†"
"""Marks a number that rests on few mentions."""


def counted(n: Any, few: int = 30) -> str:
    """A number of mentions, marked where there are few."""
    return f"{int(n):,}" + (FEW if n < few else "")


def numeric(column: str) -> bool:
    """Whether a column of a layout holds numbers: such names have a comma, as `corpus, all`, or are counts."""
    return "," in column or column in ("seeds", "n")


def latex(table: Layout) -> str:
    """A table for LaTeX with booktabs; intervals stand behind the numbers in a smaller size, and wide tables are scaled to the text's width."""
    text = table.frame.fillna("")
    head = [str(c) for c in text.columns]
    wide = len(head) > 6
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escape(f'{table.title}. {table.caption}')}}}",
        rf"\label{{{table.label}}}",
        *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{{''.join('r' if numeric(c) else 'l' for c in head)}}}",
        r"\toprule",
        " & ".join(map(_escape, head)) + r" \\",
        r"\midrule",
    ]
    for row in text.itertuples(index=False):
        cells = []
        for value, name in zip(row, head, strict=True):
            number, _, rest = str(value).partition(" ") if numeric(name) else (str(value), "", "")
            small = rest.startswith(("+", "-", "[", "n="))
            cells.append(_escape(number) + (rf" {{\footnotesize {_escape(rest)}}}" if small else _escape(f" {rest}" if rest else "")))
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}" + ("%" if wide else ""), *(["}"] if wide else []), r"\end{table}"]
    return "\n".join(lines)


ESCAPES = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    FEW: r"\textdagger{}",
    "…": r"\dots{}",
    "–": "--",
}


def _escape(text: str) -> str:
    """Text as LaTeX sets it, minus signs in math."""
    return re.sub(r"(?<![\w.)])-(?=\d)", "$-$", "".join(ESCAPES.get(c, c) for c in text))


TABLES_NOTE = (
    "Test split. Scores in per cent; behind each the difference to none in points with its 95 % interval (paired bootstrap by document, with several seeds "
    "over seeds too). Unseen: concepts that the training split lacks; with the index of training mentions their baseline is 0 by construction."
)


def write_tables(metrics: pd.DataFrame, comparisons: pd.DataFrame, errors: pd.DataFrame, out: Path, hierarchy: pd.DataFrame | None = None) -> None:
    """Write tables.md and tables.tex: the paper's layout, other scores, groups of mentions, and seeds."""
    parts = layout(metrics, comparisons, errors, hierarchy=hierarchy)
    markdown = [f"## {t.title}\n\n{t.frame.fillna('').to_markdown(index=False, disable_numparse=True)}\n\n{t.caption}" for t in parts]
    (out / "tables.md").write_text("# Tables\n\n" + "\n\n".join(markdown) + "\n", encoding="utf-8")
    head = "% needs \\usepackage{booktabs,graphicx,textcomp}\n"
    (out / "tables.tex").write_text(head + "\n\n".join(map(latex, parts)) + "\n", encoding="utf-8")


def write_tidy(
    results: Path,
    metrics: Sequence[Path],
    comparisons: Sequence[Path],
    errors: Sequence[Path],
    models: Sequence[Path],
    config_digest: str,
    wrong: Sequence[Path] = (),
) -> None:
    """Write metrics.csv, comparisons.csv, seeds.csv, errors.csv, hierarchy.csv, runtime.csv, tables.md and tables.tex into results/summary."""
    out = results / "summary"
    out.mkdir(parents=True, exist_ok=True)
    scores, found = tidy_metrics(metrics, results, models, config_digest), tidy_comparisons(comparisons, config_digest)
    from mentionforge.report.comparable import hierarchy_counts

    missed, hierarchy = error_counts(errors), hierarchy_counts(wrong, scores)
    frames = {"metrics": scores, "comparisons": found, "seeds": seed_scores(scores), "errors": missed, "hierarchy": hierarchy, "runtime": benchmarks(results)}
    for name, frame in frames.items():
        temporary = out / f".{name}.csv.tmp"
        frame.to_csv(temporary, index=False)
        temporary.replace(out / f"{name}.csv")
    write_tables(scores, found, missed, out, hierarchy)
