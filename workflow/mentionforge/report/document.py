"""A page about a finished run: commands, settings, versions, wall times and tables.

In: a results folder and the configuration files of the run. Out: Markdown. Computes no score. Knows nothing of rules.
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


def write_document(results: Path, configs: Sequence[Path], interpretation: Path | None, out: Path) -> None:
    """Write the page about a run.

    Args:
        results: Results folder of a finished run.
        configs: config.yaml, then the overlays of the run in order; the page names them in the command and states their digests.
        interpretation: Markdown to put under the title.
        out: Markdown file.

    Raises:
        UserError: The run is not finished.
    """
    paths = Results(str(results))
    page = Path(paths.summary("summary.md"))
    if not page.is_file():
        raise UserError("no summary", str(page), "the workflow has not finished", "run snakemake")
    overlays = " ".join(str(c) for c in configs[1:])
    command = "snakemake" + (f" --configfile {overlays}" if overlays else "")
    normalization = pd.read_csv(paths.summary("normalization.csv"), keep_default_na=False, na_values=[""])
    recognition = pd.read_csv(paths.summary("recognition.csv"), keep_default_na=False, na_values=[""])
    jobs = benchmarks(results)
    sections = [
        f"# Results of `{configs[-1]}`",
        "*Written from the results folder by* "
        f"`mentionforge report document {results} {' '.join(f'--config {c}' for c in configs)}"
        + (f" --interpretation {interpretation}" if interpretation else "")
        + f" --out {out}`.",
    ]
    if interpretation:
        sections.append(interpretation.read_text(encoding="utf-8").strip())
    sections += [
        "## What was run",
        f"    {command}",
        settings_table(results, configs),
    ]
    if len(normalization):
        sections.append("## What the synthetic mentions add over the controls\n\n" + contrast_table(normalization))
    if len(recognition):
        sections.append(recognition_over_seeds(results))
    sections += [
        page.read_text(encoding="utf-8").replace("\n## ", "\n### ").replace("# Summary", "## All tables", 1).strip(),
        "## Wall times\n\n" + wall_times(jobs),
    ]
    if len(runs := training_runs(recognition, jobs)):
        table = runs.to_markdown(index=False, disable_numparse=True)
        sections.append(
            f"### Each training of a recognizer\n\nStrict scores on test in per cent.\n\n<details><summary>{len(runs)} runs</summary>\n\n{table}\n\n</details>"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


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


def settings_table(results: Path, configs: Sequence[Path]) -> str:
    """Machine, versions, digests of the configuration files, and the settings of every entry in use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        f"- Machine: {os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, no GPU used."
        if not _cuda()
        else f"- Machine: {os.cpu_count()} cores, {memory:.0f} GiB, GPU.",
        f"- Python {platform.python_version()}; " + ", ".join(f"{name} {version}" for name, version in versions(*PACKAGES).items()) + ".",
        "- Configuration: " + ", ".join(f"`{c}` (sha256 {sha256_file(c)[:12]})" for c in configs) + ".",
        "",
        "<details><summary>Resolved settings of every entry used</summary>",
        "",
    ]
    for name, spec in specs_below(Results(str(results)).specs()):
        if spec["settings"]:
            lines.append(f"- `{name}`: `{json.dumps(spec['settings'], sort_keys=True)}`")
    return "\n".join([*lines, "", "</details>"])


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def contrast_table(frame: pd.DataFrame) -> str:
    """The main score in per cent per corpus, linker and strategy: index with and without each generator, and the differences in points."""
    metric = measures.MAIN["normalization"]
    buckets = [b for b in ("all", "unseen_concept") if f"test.{b}.{metric}" in frame]
    generators = sorted(set(frame["generator"]) - {NONE}, key=by_generator)
    rows: list[dict[str, Any]] = []
    for (corpus, linker, index), cells in frame.groupby(["corpus", "linker", "index"], sort=True):
        base = cells[cells["strategy"] == NONE]
        for strategy in [s for s in PAPER_STRATEGIES if s in set(cells["strategy"])]:
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
    return head + "\n\n" + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def training_runs(recognition: pd.DataFrame, jobs: pd.DataFrame) -> pd.DataFrame:
    """Scores, wall and CPU seconds and peak memory of every training of a recognizer, as text.

    Args:
        recognition: Summary of recognition, as in recognition.csv.
        jobs: `tidy.benchmarks`; a training without a job in it has no times.
    """
    score_columns = {
        measures.main("recognition").head: f"test.all.{measures.MAIN['recognition']}",
        f"unseen concept, {measures.of_groups('recognition').head}": f"test.unseen_concept.{measures.OF_GROUPS['recognition']}",
    }
    costs = jobs.set_index("job").to_dict("index")
    rows = []
    for run in recognition.to_dict("records"):
        if run["schedule"] in (UNTRAINED, EXTERNAL) or TRAINED_ON in run["schedule"]:
            continue
        cell = RecognitionCell(*(run[name] for name in ("corpus", "generator", "strategy", "recognizer", "schedule", "seed")))
        cost = costs.get(f"recognition/{cell.path}", {})
        rows.append({name: run[name] for name in ("corpus", "recognizer", "generator", "strategy", "schedule", "seed")})
        rows[-1] |= {name: percent(run.get(column)) for name, column in score_columns.items()}
        rows[-1] |= {name: _count(cost.get(column)) for name, column in (("wall s", "wall_s"), ("CPU s", "cpu_s"), ("peak MiB", "peak_mib"))}
    rows.sort(key=lambda row: (row["corpus"], row["recognizer"], row["generator"] != NONE, row["generator"], row["strategy"], row["schedule"], row["seed"]))
    return pd.DataFrame(rows)


def _count(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:,.0f}"


def wall_times(jobs: pd.DataFrame) -> str:
    """Number of jobs, wall seconds and peak memory of each rule, from `tidy.benchmarks`."""
    rows = []
    for job in jobs.to_dict("records"):
        levels = job["job"].split("/")
        if levels[0] == "generation":
            stage = f"generation: {'sample' if 'shards' in levels else levels[-1]} ({levels[1]})"
        elif levels[0] in ("kb", "corpora", "report"):
            stage = f"{levels[0]}: {levels[-1]}"
        else:
            stage = f"{levels[0]}: {levels[1]}"
        rows.append({"stage": stage, "seconds": job["wall_s"], "memory": job["peak_mib"]})
    table = (
        pd.DataFrame(rows)
        .groupby("stage")
        .agg(jobs=("seconds", "size"), seconds=("seconds", "sum"), longest=("seconds", "max"), memory=("memory", "max"))
        .reset_index()
    )
    table = table.rename(columns={"seconds": "wall s, sum", "longest": "wall s, longest", "memory": "peak MiB"})
    for column in ("wall s, sum", "wall s, longest", "peak MiB"):
        table[column] = table[column].map(_count)
    total = sum(row["seconds"] for row in rows)
    return f"{len(rows)} jobs, {total / 60:.1f} minutes of job time.\n\n" + table.to_markdown(index=False, disable_numparse=True)
