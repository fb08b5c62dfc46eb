"""Tidy frames of a results folder: one row per cell, bucket and metric, per comparison, per seed, per error kind, and per job, with provenance.

In: tables of evaluation and statistics, spec files, Snakemake's benchmarks. Out: pandas frames, scores as shares (0 to 1), times in seconds,
memory in MiB. Knows nothing of how they are shown or written.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures, tables
from mentionforge.entries import NONE
from mentionforge.layout import RecognitionCell, Results, compared_in, entry_in, evaluated_in, job_of, stage_of
from mentionforge.provenance import git_revision, sha256_file
from mentionforge.specs import specs_below

VERSION = 1
"""Of the part report.tidy: raise it where earlier results would be wrong (mentionforge.versions)."""

CELL = ["task", "corpus", "generator", "strategy", "system", "variant"]


def specs(results: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Settings of every entry of a kind, from results/specs; the specs of a generator are merged into one."""
    entries: dict[str, dict[str, Any]] = {}
    for _, spec in specs_below(Results(str(results)).specs(kind)):
        entries.setdefault(spec["name"], {}).update(spec["settings"])
    return entries


def benchmarks(results: Path) -> pd.DataFrame:
    """One row per job from Snakemake's benchmark files: job (path), stage, of (entry or corpus), wall_s, cpu_s, peak_mib."""
    folder = Results(str(results)).benchmarks
    rows = []
    for path in sorted(Path(folder).rglob("*.tsv")):
        frame = pd.read_csv(path, sep="\t")
        job = job_of(path, folder)
        stage, name = stage_of(job)
        measurements = {unit: float(pd.to_numeric(frame[unit], errors="coerce").iloc[-1]) for unit in ("s", "cpu_time", "max_rss") if unit in frame}
        rows.append(
            {
                "job": job,
                "stage": stage,
                "of": name,
                "wall_s": measurements.get("s"),
                "cpu_s": measurements.get("cpu_time"),
                "peak_mib": measurements.get("max_rss"),
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
    revisions = {entry_in(path): json.loads(path.read_text(encoding="utf-8"))["revision"] for path in models}
    corpora, recognizers, linkers, generators = (specs(results, kind) for kind in ("corpora", "recognizers", "linkers", "generators"))
    paths = Results(str(results))
    rows = []
    for corpus, settings in corpora.items():
        stats, kb_stats = Path(paths.corpus(corpus, "stats.json")), Path(paths.kb(settings["kb"], "stats.json"))
        if not (stats.is_file() and kb_stats.is_file()):
            continue
        kb = {"kb": settings["kb"], "kb_release": release(kb_stats), "kb_digest": sha256_file(kb_stats)[:12]}
        for task, systems in (("recognition", recognizers), ("normalization", linkers)):
            for system in systems:
                rows.append({"task": task, "corpus": corpus, "system": system, **kb, "corpus_digest": sha256_file(stats)[:12]})
                rows[-1]["model_revision"] = " ".join(f"{m}={revisions[m]}" for m in models_of(system, systems) if m in revisions)
        for recognizer, linker in itertools.product(recognizers, linkers):
            models_used = sorted({*models_of(recognizer, recognizers), *models_of(linker, linkers)} & set(revisions))
            rows.append({"task": "end_to_end", "corpus": corpus, "system": f"{recognizer}/{linker}", **kb, "corpus_digest": sha256_file(stats)[:12]})
            rows[-1]["model_revision"] = " ".join(f"{m}={revisions[m]}" for m in models_used)
    frame = pd.DataFrame(rows)
    frame["git_revision"], frame["config_digest"] = git_revision(), config_digest
    model_of_generator = {g: s["model"] for g, s in generators.items() if s.get("model")}
    frame.attrs["generator_models"] = {g: f"{m}={revisions[m]}" for g, m in model_of_generator.items() if m in revisions}
    return frame


def models_of(system: str, systems: dict[str, dict[str, Any]]) -> list[str]:
    """Entries of `models` that a recognizer or linker uses, directly or through the linkers that it reads."""
    settings = systems.get(system, {})
    models = [settings["model"]] if settings.get("model") else []
    for name in [*(settings.get("linkers") or ()), *([settings["linker"]] if settings.get("linker") else ())]:
        models += models_of(name, systems)
    return sorted(set(models))


def release(kb_stats: Path) -> str:
    """Release of a knowledge base: the versions that its source files state, joined by blanks."""
    sources = json.loads(kb_stats.read_text(encoding="utf-8")).get("funnel", {}).get("release", {})
    if isinstance(sources, dict):
        versions = sources.get("sources", sources)
        sources = sorted({str(v) for v in versions.values()}) if isinstance(versions, dict) else [str(versions)]
    return " ".join(sources[:6]) if isinstance(sources, list) else str(sources)


def tidy_metrics(metrics: Sequence[Path], results: Path, models: Sequence[Path], config_digest: str) -> pd.DataFrame:
    """tables.METRICS of all tasks and corpora, with provenance, wall time and memory of each cell's last job."""
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
    # One job links several indexes: its path has none, and its time is that of all of them.
    path = path.where(path.isin(jobs.index), path.str.rpartition("/")[0])
    merged["wall_s"], merged["peak_mib"] = path.map(jobs["wall_s"].to_dict()), path.map(jobs["peak_mib"].to_dict())
    return merged


def tidy_comparisons(comparisons: Sequence[Path], config_digest: str) -> pd.DataFrame:
    """tables.COMPARISONS of all tasks and corpora; a path is …/TASK/CORPUS/comparisons.parquet."""
    frames = []
    for path in comparisons:
        frame = tables.read(tables.COMPARISONS, path).to_pandas()
        task, corpus = compared_in(path)
        frame.insert(0, "task", task)
        frame.insert(1, "corpus", corpus)
        frames.append(frame)
    merged = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["task", "corpus", *(c.name for c in tables.COMPARISONS.columns)])
    merged["git_revision"], merged["config_digest"] = git_revision(), config_digest
    return merged


SEED = re.compile(r"~seed=(\d+)(?=~|$)")
"""The seed in the name of a generator that a sweep over seeds unfolded; evaluation compare reads it alike."""

MEASURES = measures.shown()
"""Scores that tables show by seed: labels by task, bucket and metric."""


def seeds_as_column(metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics with the swept seed moved from the generator's name to the column `seed`, before the seed of the training: 2+1."""
    frame = metrics.copy()
    generator_seed = frame["generator"].str.extract(SEED)[0]
    training_seed = frame["seed"].astype(str).where(frame["task"].isin(["recognition", "end_to_end"]), "")
    frame["seed"] = generator_seed.fillna("").str.cat(training_seed, sep="+").str.strip("+")
    frame["generator"] = frame["generator"].str.replace(SEED, "", regex=True)
    return frame


def seed_scores(metrics: pd.DataFrame) -> pd.DataFrame:
    """Score of each seed in per cent, for cells with several seeds, with mean, standard deviation (n - 1), and mean -/+ deviation (low, high).

    Seeds are those of the training, and those of generators that a sweep over `seed` unfolded.
    """
    frame = metrics[metrics["split"] == "test"].copy()
    frame["measure"] = [MEASURES.get(key, "") for key in zip(frame["task"], frame["bucket"], frame["metric"], strict=True)]
    frame = frame[(frame["measure"] != "") & frame["value"].notna()].copy()
    frame = seeds_as_column(frame)
    frame["percent"] = 100 * frame["value"]
    keys = [*CELL, "measure"]
    grouped = frame.groupby(keys)["percent"]
    frame["mean"], frame["sd"], frame["seeds"] = grouped.transform("mean"), grouped.transform("std"), grouped.transform("size")
    frame = frame[frame["seeds"] > 1].copy()
    frame["low"], frame["high"] = frame["mean"] - frame["sd"], frame["mean"] + frame["sd"]
    frame["cell"] = frame["strategy"].where(frame["strategy"] != NONE, "no synthetic text") + " | " + frame["variant"]
    columns = [*keys, "cell", "seed", "seeds", "percent", "mean", "sd", "low", "high", "n"]
    return frame[columns].sort_values([*keys, "seed"]).round(4).reset_index(drop=True)


def error_counts(errors: Sequence[Path]) -> pd.DataFrame:
    """Errors on the test split by corpus, cell and kind, mean over seeds; a path is …/CORPUS.errors.parquet."""
    cell = ["generator", "strategy", "system", "variant"]
    frames = []
    for path in sorted(errors):
        frame: Any = tables.read(tables.RECOGNITION_ERRORS, path).to_pandas()
        frame = frame[frame["split"] == "test"]
        if frame.empty:
            continue
        frame = seeds_as_column(frame.assign(task="recognition"))
        seeds = frame.groupby(cell).agg(seeds=("seed", "nunique"))
        counts = frame.groupby([*cell, "error"]).size().unstack("error", fill_value=0).reindex(columns=list(tables.ERRORS), fill_value=0)
        rows = counts.stack().rename("total").reset_index().join(seeds, on=cell)
        rows.insert(0, "corpus", evaluated_in(path)[1])
        rows["count"] = rows["total"] / rows["seeds"]
        rows["rank"] = rows["error"].map({e: i for i, e in enumerate(tables.ERRORS)})
        frames.append(rows)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["corpus", *cell, "error", "total", "seeds", "count", "rank"])
