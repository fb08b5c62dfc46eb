"""The files in results/summary that other programs read: one row per cell, bucket and metric, per comparison, and per job, with where each comes from.

Scores are shares (0 to 1), times seconds, memory MiB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import tables
from mentionforge.config import NONE
from mentionforge.provenance import git_revision, sha256_file

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


# ----------------------------------------------------------------------------------------------------- the paper's layout


def paper_table(metrics: pd.DataFrame, comparisons: pd.DataFrame, index: str = "train") -> pd.DataFrame:
    """acc@1 in per cent, all and unseen concepts, rows linker, generator, strategy, columns corpora, with the gain over `none` and its interval.

    The paper's table has one index, that of training mentions.
    """
    cells = metrics[(metrics["task"] == "normalization") & (metrics["metric"] == "acc@1") & (metrics["variant"] == index) & (metrics["split"] == "test")]
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
        column = f"{row.corpus}, {'all' if row.bucket == 'all' else 'unseen'} (n={row.n:,})"
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
    cells = metrics[(metrics["task"] == "recognition") & (metrics["split"] == "test")]
    wanted = {("all", "strict_f1"): "F1", ("unseen_concept", "strict_recall"): "recall, unseen"}
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
                    column = f"{corpus}, {name} (n={int(values['n'].max()):,})"
                    row[column] = f"{100 * values['value'].mean():.1f}" + ("" if gain is None else interval(gain.difference, gain.low, gain.high))
        row["seeds"] = part["seed"].nunique()
        rows.append(row)
    rows.sort(key=lambda r: (r["recognizer"], r["generator"] != NONE, r["generator"], r["strategy"], r["schedule"]))
    return pd.DataFrame(rows)


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """A table for LaTeX with booktabs; intervals stand behind the numbers in a smaller size."""
    text = table.fillna("")
    head = [str(c) for c in text.columns]
    numeric = [("," in c or c == "seeds") for c in head]
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{_escape(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
        r"\toprule",
        " & ".join(map(_escape, head)) + r" \\",
        r"\midrule",
    ]
    for row in text.itertuples(index=False):
        cells = []
        for value in row:
            number, _, rest = str(value).partition(" ")
            cells.append(_escape(number) + (rf" {{\footnotesize {_escape(rest)}}}" if rest.startswith(("+", "-")) else _escape(f" {rest}" if rest else "")))
        lines.append(" & ".join(cells) + r" \\")
    lines = [line.replace(" -", " $-$").replace("[-", "[$-$") for line in lines]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _escape(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text.replace("~", r"\textasciitilde{}")


TABLES_NOTE = (
    "Test split. Scores in per cent; behind each the difference to none in points with its 95 % interval (paired bootstrap by document). "
    "Unseen: concepts that the training split lacks; with the index of training mentions their baseline is 0 by construction."
)


def write_tables(metrics: pd.DataFrame, comparisons: pd.DataFrame, out: Path) -> None:
    """Write tables.md and tables.tex in the paper's layout."""
    linking = comparisons[comparisons["task"] == "normalization"]
    parts = []
    for index in sorted(metrics.loc[metrics["task"] == "normalization", "variant"].unique(), key=lambda v: (v != "train", v)):
        parts.append((f"Normalization, acc@1, index {index}", paper_table(metrics, linking, index), f"tab:den-{index.replace('+', '-')}"))
    found = recognition_table(metrics, comparisons[comparisons["task"] == "recognition"])
    if len(found):
        parts.append(("Recognition, strict entity scores", found, "tab:der"))
    markdown = [f"## {title}\n\n{table.fillna('').to_markdown(index=False, disable_numparse=True)}" for title, table, _ in parts if len(table)]
    (out / "tables.md").write_text("# Tables in the paper's layout\n\n" + TABLES_NOTE + "\n\n" + "\n\n".join(markdown) + "\n", encoding="utf-8")
    tex = [latex(table, f"{title}. {TABLES_NOTE}", label) for title, table, label in parts if len(table)]
    (out / "tables.tex").write_text("% needs \\usepackage{booktabs}\n" + "\n\n".join(tex) + "\n", encoding="utf-8")


def write_tidy(results: Path, metrics: Sequence[Path], comparisons: Sequence[Path], models: Sequence[Path], config_digest: str) -> None:
    """Write metrics.csv, comparisons.csv, runtime.csv, tables.md and tables.tex into results/summary."""
    out = results / "summary"
    out.mkdir(parents=True, exist_ok=True)
    scores, found = tidy_metrics(metrics, results, models, config_digest), tidy_comparisons(comparisons, config_digest)
    for name, frame in (("metrics", scores), ("comparisons", found), ("runtime", benchmarks(results))):
        temporary = out / f".{name}.csv.tmp"
        frame.to_csv(temporary, index=False)
        temporary.replace(out / f"{name}.csv")
    write_tables(scores, found, out)
