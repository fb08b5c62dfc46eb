"""The summary of a sweep: every cell with its swept values, state and scores, and the effect of each swept setting.

In: the raw configuration and a results folder, in which files may be missing. Out: sweeps.csv, sweeps.md, and a picture per swept setting.
A cell is `done`, `failed` (it has a log but no predictions) or `not run`. A failed cell hides no other: if predictions are missing, the evaluation has
not run, and the cells that have predictions are scored here. Knows nothing of how a cell runs.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import tables
from mentionforge.config import Config, load_config, normalization_cells, recognition_cells, swept_settings
from mentionforge.layout import NormalizationCell, RecognitionCell, Results
from mentionforge.measures import MAIN, OF_GROUPS
from mentionforge.progress import say

VERSION = 2
"""Of the part report.sweeps: raise it where earlier results would be wrong (mentionforge.versions)."""

SCORES = {task: (("all", MAIN[task]), ("seen_concept", OF_GROUPS[task]), ("unseen_concept", OF_GROUPS[task])) for task in ("normalization", "recognition")}
"""Buckets and metrics of the test split in the summary, by task."""

CELL = ("task", "corpus", "generator", "strategy", "system", "variant", "seed")
SECTION_OF_LEVEL = {"corpus": "corpora", "generator": "generators", "strategy": "strategies"}


def write_sweeps(results: Path, raw: Mapping[str, Any], out: Path) -> None:
    """Write sweeps.csv, sweeps.md and a picture per varied setting.

    Args:
        results: Results folder; any of its files may be missing.
        raw: The merged configuration, as Snakemake has it.
        out: Folder to write to.
    """
    config = load_config(raw)
    swept = swept_settings(raw)
    frame = cells(config, results, swept)
    settings = [column for column in frame.columns if column.partition(".")[0] in {kind for kind, _ in swept}]
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "sweeps.csv", index=False)
    effects = {setting: effect_of(frame, setting, settings) for setting in settings}
    (out / "sweeps.md").write_text(summary_page(frame, effects), encoding="utf-8")
    draw(effects, out)
    count = frame["state"].value_counts()
    say(", ".join(f"{n:,} cells {state}" for state, n in count.items()) + f"; {len(settings)} varied settings: {out / 'sweeps.md'}")


def cells(config: Config, results: Path, swept: Mapping[tuple[str, str], Mapping[str, str]]) -> pd.DataFrame:
    """One row per cell: its names, state, error, swept values (empty for settings that its entries do not have) and scores."""
    rows = []
    paths = Results(str(results))
    cells_by_task: dict[str, list[tuple[Any, Path, list[Path]]]] = {"normalization": [], "recognition": []}
    for cell in normalization_cells(config):
        alone = Path(paths.log(f"normalization/{cell.path}"))
        cells_by_task["normalization"].append((cell, Path(paths.normalization(cell)), [alone, alone.parent.with_name(f"{alone.parent.name}.log")]))
    for run in recognition_cells(config):
        cells_by_task["recognition"].append((run, Path(paths.recognition(run)), [Path(paths.log(f"recognition/{run.path}"))]))
    for task, cells_of_task in cells_by_task.items():
        scores = {
            corpus: test_scores(results, task, corpus, [path for cell, path, _ in cells_of_task if cell.corpus == corpus])
            for corpus in sorted({c.corpus for c, _, _ in cells_of_task})
        }
        for cell, predictions, logs in cells_of_task:
            state, message = state_of(predictions, *logs)
            row = {"task": task, **_cell_columns(cell)}
            values = scores[cell.corpus].get(tuple(row[level] for level in CELL[2:]), {}) if state == "done" else {}
            varied = {key: value for kind, name in _entries_of(cell) for key, value in swept.get((kind, name), {}).items()}
            rows.append(
                {**row, "state": state, "error": message, **varied, **{f"{bucket} {metric}": values.get((bucket, metric)) for bucket, metric in SCORES[task]}}
            )
    frame = pd.DataFrame(rows)
    leading = [*CELL, "state", "error"]
    return frame[
        [*leading, *sorted(c for c in frame.columns if c not in leading and "." in c), *(c for c in frame.columns if c not in leading and "." not in c)]
    ]


def _cell_columns(cell: NormalizationCell | RecognitionCell) -> dict[str, Any]:
    """A cell's values in the columns of tables.METRICS."""
    fields = dataclasses.asdict(cell)
    if isinstance(cell, NormalizationCell):
        return {"corpus": cell.corpus, "generator": cell.generator, "strategy": cell.strategy, "system": cell.linker, "variant": cell.index, "seed": 0}
    return {
        "corpus": cell.corpus,
        "generator": cell.generator,
        "strategy": cell.strategy,
        "system": cell.recognizer,
        "variant": cell.schedule,
        "seed": fields["seed"],
    }


def _entries_of(cell: NormalizationCell | RecognitionCell) -> list[tuple[str, str]]:
    """Kinds and names of the entries that a cell combines."""
    common = [(section, getattr(cell, level)) for level, section in SECTION_OF_LEVEL.items()]
    return [*common, *([("linkers", cell.linker), ("indexes", cell.index)] if isinstance(cell, NormalizationCell) else [("recognizers", cell.recognizer)])]


def state_of(predictions: Path, *logs: Path) -> tuple[str, str]:
    """The state of a cell: done, failed or not run; of a failed one also its error or the last line of its log, the newest of those that there are."""
    if predictions.is_file():
        return "done", ""
    written = [log for log in logs if log.is_file()]
    if not written:
        return "not run", ""
    log = max(written, key=lambda log: log.stat().st_mtime)
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return "failed", (errors or lines or ["it ended without a word"])[-1][:300]


def test_scores(results: Path, task: str, corpus: str, predictions: Sequence[Path]) -> dict[tuple[Any, ...], dict[tuple[str, str], float]]:
    """Scores of the test split by cell, bucket and metric: read from the evaluation, or computed from the existing predictions if some are missing."""
    existing = [path for path in predictions if path.is_file()]
    paths = Results(str(results))
    table = Path(paths.scores(task, corpus))
    if table.is_file() and len(existing) == len(predictions) and all(path.stat().st_mtime <= table.stat().st_mtime for path in existing):
        return _scores_by_cell(table)
    if not existing:
        return {}
    say(f"{corpus}: {len(existing):,} of {len(predictions):,} {task} cells have predictions; scoring these")
    with tempfile.TemporaryDirectory() as scratch:
        metrics = Path(scratch) / "metrics.parquet"
        folder, spec = Path(paths.corpus(corpus, "stats.json")).parent, paths.spec("corpora", corpus)
        command = [
            sys.executable,
            "-m",
            "mentionforge.cli",
            "evaluation",
            task,
            "--corpus",
            folder,
            "--corpus-spec",
            spec,
            "--base",
            paths.cells(task),
            "--out",
            metrics,
        ]
        process = subprocess.run([str(word) for word in [*command, *existing]], capture_output=True, text=True, check=False)
        if process.returncode:
            say(f"warning: {corpus}: not scored: {(process.stderr.strip().splitlines() or ['?'])[-1]}")
            return {}
        return _scores_by_cell(metrics)


def _scores_by_cell(table: Path) -> dict[tuple[Any, ...], dict[tuple[str, str], float]]:
    collected: dict[tuple[Any, ...], dict[tuple[str, str], float]] = {}
    for row in tables.read(tables.METRICS, table).to_pylist():
        if row["split"] == "test":
            key = tuple(row[level] for level in CELL[2:])
            collected.setdefault(key, {})[row["bucket"], row["metric"]] = row["value"]
    return collected


def effect_of(frame: pd.DataFrame, setting: str, settings: Sequence[str]) -> pd.DataFrame:
    """Mean, least and greatest score of each value of a swept setting, with all other settings equal.

    Cells that differ only in this setting form a group. Only groups that are done for every value count, so that all values are compared on
    the same cells. `groups` is their number, and `failed` the number of failed cells with this value.
    """
    cells = frame[frame[setting].notna()].copy()
    for level, section in {**SECTION_OF_LEVEL, "system": "linkers", "variant": "indexes"}.items():
        # The name of a variant holds its value, so it cannot be a key of the group.
        if setting.startswith(f"{section}.") or (level == "system" and setting.startswith("recognizers.")):
            cells[level] = setting
    grouping = [column for column in (*CELL, *settings) if column != setting and not _varies_with(cells, setting, column)]
    values = list(dict.fromkeys(cells[setting]))
    rows = []
    for task, task_rows in cells.groupby("task", sort=False):
        groups = task_rows[grouping].astype(object).fillna("").astype(str).agg("|".join, axis=1)
        values_done = task_rows.assign(key=groups)[task_rows["state"] == "done"].groupby("key")[setting].nunique()
        complete = task_rows[groups.isin(values_done[values_done == len(values)].index)]
        for value in values:
            value_rows = complete[complete[setting] == value]
            failed = int(((task_rows[setting] == value) & (task_rows["state"] == "failed")).sum())
            for bucket, metric in SCORES[str(task)]:
                score = value_rows[f"{bucket} {metric}"].astype(float)
                low, mean, high = (score.min(), score.mean(), score.max()) if len(score.dropna()) else (None, None, None)
                rows.append(
                    {
                        "task": task,
                        "value": value,
                        "score": f"{bucket} {metric}",
                        "mean": mean,
                        "min": low,
                        "max": high,
                        "groups": len(value_rows),
                        "failed": failed,
                    }
                )
    return pd.DataFrame(rows)


def _varies_with(cells: pd.DataFrame, setting: str, other: str) -> bool:
    """Whether another setting was zipped with this one: each value of one goes with one value of the other."""
    if "." not in other:
        return False
    pairs = cells[[setting, other]].drop_duplicates()
    return bool(len(pairs) > 1 and pairs[other].notna().all() and pairs[setting].is_unique and pairs[other].is_unique)


def summary_page(frame: pd.DataFrame, effects: Mapping[str, pd.DataFrame]) -> str:
    """The summary as Markdown."""
    lines = [
        "# Sweep",
        "",
        "Scores are per cent on the test split: mean (least to greatest) over the cells that differ in nothing but the setting,",
        "where all of its values are done.",
        "",
    ]
    states = frame.groupby(["task", "state"]).size().unstack(fill_value=0)
    lines += [f"- {task}: " + ", ".join(f"{int(n):,} {state}" for state, n in row.items() if n) for task, row in states.iterrows()]
    failed = frame[frame["state"] == "failed"]
    if len(failed):
        lines += ["", "## Failed cells", "", "| task | cell | last words |", "|---|---|---|"]
        lines += [
            f"| {r.task} | {r.corpus}/{r.generator}/{r.strategy}/{r.system}/{r.variant} seed {r.seed} | {str(r.error).replace('|', ' ')} |"
            for r in failed.itertuples()
        ]
    for setting, effect in effects.items():
        lines += ["", f"## {setting}", ""]
        for task, task_effects in effect.groupby("task", sort=False) if len(effect) else ():
            scores = list(dict.fromkeys(task_effects["score"]))
            lines += ["", f"| {task} | groups | failed | " + " | ".join(s.replace("_", " ") for s in scores) + " |", "|---" * (3 + len(scores)) + "|"]
            for value, rows in task_effects.groupby("value", sort=False):
                texts = [_cell(rows[rows["score"] == score].iloc[0]) for score in scores]
                lines.append(f"| {value} | {rows['groups'].iloc[0]} | {rows['failed'].iloc[0]} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: pd.Series) -> str:
    return "–" if pd.isna(row["mean"]) else f"{100 * row['mean']:.1f} ({100 * row['min']:.1f} to {100 * row['max']:.1f})"


def draw(effects: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write a picture per swept setting: mean scores against its values, with the range over the groups."""
    import altair as alt
    import vl_convert

    from mentionforge.report.vega import config

    for setting, effect in effects.items():
        scored = effect.dropna(subset=["mean"]) if len(effect) else effect
        if not len(scored):
            continue
        records = json.loads(scored.assign(**{column: 100 * scored[column].astype(float) for column in ("mean", "min", "max")}).to_json(orient="records"))
        base = alt.Chart(alt.Data(values=records)).encode(
            x=alt.X("value:N", title=setting, sort=list(dict.fromkeys(map(str, scored["value"])))), color=alt.Color("score:N", title=None)
        )
        line = base.mark_line(point=True).encode(y=alt.Y("mean:Q", title="per cent", scale=alt.Scale(zero=False)), detail="task:N")
        band = base.mark_rule(opacity=0.4).encode(y="min:Q", y2="max:Q")
        picture = alt.layer(band, line).properties(width=260, height=200).facet(column=alt.Column("task:N", title=None)).to_dict()
        picture["config"] = config() | {"background": "white"}
        (out / f"{file_name(setting)}.svg").write_text(vl_convert.vegalite_to_svg(picture), encoding="utf-8")


def file_name(setting: str) -> str:
    """File name of a setting's picture, without suffix: generators.llm.sampling.temperature."""
    return setting.replace("/", "-")
