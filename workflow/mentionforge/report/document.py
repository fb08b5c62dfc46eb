"""A page about a finished run, with its data as CSV beside it.

In: a results folder and the configuration files of the run. Out: Markdown, CSV, JSON. Computes no score. Knows nothing of rules.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures
from mentionforge.entries import EXTERNAL, NONE, UNTRAINED
from mentionforge.errors import UserError
from mentionforge.layout import TRAINED_ON, RecognitionCell, Results
from mentionforge.provenance import sha256_file, versions
from mentionforge.report.confidence import statements
from mentionforge.report.entry_order import PAPER_STRATEGIES, by_generator
from mentionforge.report.layouts import recognition_table
from mentionforge.report.summary import PACKAGES, percent
from mentionforge.report.tidy import benchmarks
from mentionforge.specs import specs_below

SHOWN_STRATEGY = "supplemental"
"""The strategy of the table over the controls; the data hold all of them."""

DATA = ("normalization", "recognition", "differences", "generation", "jobs", "trainings")
"""Names of the CSV files beside the page."""


def write_document(results: Path, configs: Sequence[Path], interpretation: Path | None, out: Path, data: Path) -> None:
    """Write the page about a run, and its data: CSV with all cells, and the settings of every entry.

    Args:
        results: Results folder of a finished run.
        configs: config.yaml, then the overlays of the run in order; the page names them in the command and states their digests.
        interpretation: Markdown to put under the title.
        out: Markdown file.
        data: Folder of the CSV files `DATA` and of settings.json; figures go there too.

    Raises:
        UserError: The run is not finished.
    """
    paths = Results(str(results))
    if not Path(paths.summary("summary.md")).is_file():
        raise UserError("no summary", paths.summary("summary.md"), "the workflow has not finished", "run snakemake")
    normalization, recognition, compared, notes = (
        _read(paths.summary(f"{file}.csv")) for file in ("normalization", "recognition", "comparisons", "generation")
    )
    jobs = benchmarks(results)
    shown = {"n", *(score.name for score in measures.SCORES if score.of_rank and score.on_page and not score.entries)}
    tables = {
        "normalization": normalization[[c for c in normalization if not str(c).startswith("test.") or str(c).rpartition(".")[2] in shown]],
        "recognition": recognition,
        "differences": compared[compared["slice"].isin(["all", "bucket"])].drop(columns=["git_revision", "config_digest"], errors="ignore"),
        "generation": notes,
        "jobs": jobs,
        "trainings": training_runs(recognition, jobs),
    }
    data.mkdir(parents=True, exist_ok=True)
    for name in DATA:
        if len(tables[name]):
            tables[name].to_csv(data / f"{name}.csv", index=False, float_format="%.5g", lineterminator="\n")
    (data / "settings.json").write_text(json.dumps(settings(results), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for figure in FIGURES:
        if (source := Path(paths.summary("figures")) / f"{figure}.svg").is_file():
            (data / source.name).write_bytes(source.read_bytes())
    overlays = " ".join(str(c) for c in configs[1:])
    folder = os.path.relpath(data, out.parent)
    sections = [f"# Results of `{configs[-1]}`"]
    if interpretation:
        sections.append(interpretation.read_text(encoding="utf-8").strip())
    if len(normalization):
        sections.append("## What the synthetic mentions add over the controls\n\n" + contrast_table(normalization))
    if len(recognition):
        sections.append(recognition_over_seeds(results))
    files = [f"[{file}]({folder}/{file})" for file in (*(f"{name}.csv" for name in DATA if len(tables[name])), "settings.json")]
    sections += [
        "## What was run",
        f"    snakemake{f' --configfile {overlays}' if overlays else ''}",
        machine(configs),
        f"{len(jobs)} jobs, {jobs['wall_s'].sum() / 60:.1f} minutes of job time. All cells, differences with intervals, jobs and settings: {', '.join(files)}.",
        "*Written from the results folder by* "
        f"`mentionforge report document {results} {' '.join(f'--config {c}' for c in configs)}"
        + (f" --interpretation {interpretation}" if interpretation else "")
        + f" --out {out} --data {data}`.",
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


FIGURES = ("controls", "gains", "recognition")
"""Figures of the summary that are copied beside the page."""


def _read(path: str) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def recognition_over_seeds(results: Path) -> str:
    """Strict scores of recognition, mean over seeds, with the difference to real text alone, its interval, and what the interval covers.

    Raises:
        UserError: The summary is of an older version.
    """
    paths = Results(str(results))
    metrics, compared = (pd.read_csv(paths.summary(file), keep_default_na=False, na_values=[""]) for file in ("metrics.csv", "comparisons.csv"))
    if "covers" not in compared:
        raise UserError(
            "summary of another version", str(Path(paths.summary("comparisons.csv"))), "it does not say what its intervals hold", "run snakemake again"
        )
    compared = compared[compared["task"] == "recognition"]
    table = recognition_table(metrics, compared).fillna("").to_markdown(index=False, disable_numparse=True)
    scores = f"{measures.main('recognition').title} and {measures.of_groups('recognition').short}"
    head = f"{scores} on test in per cent, mean over seeds; behind each the difference to real text alone in points with its interval."
    return "\n\n".join(["## Recognition over seeds", " ".join([head, *statements(compared)]), table])


def machine(configs: Sequence[Path]) -> str:
    """Machine, versions, and digests of the configuration files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        f"- Machine: {os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, no GPU used."
        if not _cuda()
        else f"- Machine: {os.cpu_count()} cores, {memory:.0f} GiB, GPU.",
        f"- Python {platform.python_version()}; " + ", ".join(f"{name} {version}" for name, version in versions(*PACKAGES).items()) + ".",
        "- Configuration: " + ", ".join(f"`{c}` (sha256 {sha256_file(c)[:12]})" for c in configs) + ".",
    ]
    return "\n".join(lines)


def settings(results: Path) -> dict[str, Any]:
    """Settings of every entry in use, by spec file."""
    return {name: spec["settings"] for name, spec in specs_below(Results(str(results)).specs()) if spec["settings"]}


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def contrast_table(frame: pd.DataFrame) -> str:
    """The main score in per cent per corpus, linker, index and, unless `SHOWN_STRATEGY` was run, strategy: without and with each generator."""
    metric = measures.MAIN["normalization"]
    buckets = [b for b in ("all", "unseen_concept") if f"test.{b}.{metric}" in frame]
    generators = sorted(set(frame["generator"]) - {NONE}, key=by_generator)
    present = set(frame["strategy"])
    rows: list[dict[str, Any]] = []
    for (corpus, linker, index), cells in frame.groupby(["corpus", "linker", "index"], sort=True):
        base = cells[cells["strategy"] == NONE]
        for strategy in [s for s in PAPER_STRATEGIES if s in set(cells["strategy"])]:
            if strategy != SHOWN_STRATEGY and SHOWN_STRATEGY in present:
                continue
            cells_of_strategy = cells[cells["strategy"] == strategy].set_index("generator")
            row = {"corpus": corpus, "linker": linker, "index": index, "strategy": strategy}
            for name in (NONE, *generators):
                source = base.set_index("generator") if name == NONE else cells_of_strategy
                row[name] = " / ".join(percent(source[f"test.{b}.{metric}"].get(name)) for b in buckets)
            rows.append(row)
    counts = []
    for corpus, cells in frame.groupby("corpus", sort=True):
        counts.append(f"{corpus!s}: " + ", ".join(f"n={int(cells[f'test.{b}.n'].max())} {b.replace('_', ' ')}" for b in buckets))
    head = f"{measures.BY_NAME[metric].label} in per cent, " + " / ".join(b.replace("_", " ") for b in buckets) + ". " + "; ".join(counts) + "."
    which = f" Strategy `{SHOWN_STRATEGY}`." if SHOWN_STRATEGY in present else ""
    return head + which + "\n\n" + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def training_runs(recognition: pd.DataFrame, jobs: pd.DataFrame) -> pd.DataFrame:
    """Scores from 0 to 1, wall and CPU seconds and peak memory of every training of a recognizer.

    Args:
        recognition: Summary of recognition, as in recognition.csv.
        jobs: `tidy.benchmarks`; a training without a job in it has no times.
    """
    scores = [f"test.all.{measures.MAIN['recognition']}", f"test.unseen_concept.{measures.OF_GROUPS['recognition']}"]
    costs = jobs.set_index("job").to_dict("index")
    rows = []
    for run in recognition.to_dict("records"):
        if run["schedule"] in (UNTRAINED, EXTERNAL) or TRAINED_ON in run["schedule"]:
            continue
        cell = RecognitionCell(*(run[name] for name in ("corpus", "generator", "strategy", "recognizer", "schedule", "seed")))
        cost = costs.get(f"recognition/{cell.path}", {})
        rows.append({name: run[name] for name in ("corpus", "recognizer", "generator", "strategy", "schedule", "seed")})
        rows[-1] |= {column: run.get(column) for column in scores} | {column: cost.get(column) for column in ("wall_s", "cpu_s", "peak_mib")}
    rows.sort(key=lambda row: (row["corpus"], row["recognizer"], row["generator"] != NONE, row["generator"], row["strategy"], row["schedule"], row["seed"]))
    return pd.DataFrame(rows)
