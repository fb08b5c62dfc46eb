"""The differences between two results folders: cells whose scores changed, and settings, weights and code that may explain them.

In: specs and metrics.csv of both folders. Out: frames, and text on the terminal. Knows nothing of intervals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge.errors import UserError
from mentionforge.layout import Results, summarized_in
from mentionforge.measures import ranked
from mentionforge.specs import specs_below

KEY = ["task", "corpus", "generator", "strategy", "system", "variant", "seed", "bucket", "metric"]
SHOWN = ranked("recognition", "normalization")


def settings(results: Path) -> dict[str, Any]:
    """Every setting in results/specs, as `kind/name: key.key`, with its value."""
    flat = {}
    for _, spec in specs_below(Results(str(results)).specs()):
        version = f"stage_version of {spec['part']}" if spec.get("part") else "stage_version"  # each part of a generator has its own
        for key, value in {**spec["settings"], version: spec["stage_version"]}.items():
            flat.update(_flat(f"{spec['kind']}/{spec['name']}: {key}", value))
    return flat


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flat(f"{key}.{name}", inner).items()}
    return {key: value}


def folder_of(name: str) -> Path:
    """The results folder of this name; or the first folder results*/… whose metrics.csv has a git revision that begins with the name.

    Raises:
        UserError: There is neither.
    """
    if Path(Results(name).summary("metrics.csv")).is_file():
        return Path(name)
    for path in sorted(Path().glob(Results("results*/**").summary("metrics.csv"))):
        revision = pd.read_csv(path, usecols=["git_revision"], nrows=1, dtype=str)["git_revision"].iloc[0]  # hexadecimal, not a number
        if str(revision).startswith(name):
            return summarized_in(path)
    raise UserError("no results", name, "it is neither a folder with summary/metrics.csv nor a revision of one below results", "run snakemake first")


def changed_settings(a: Path, b: Path) -> list[tuple[str, Any, Any]]:
    """Settings that differ in entries that both folders have: key, value in `a`, value in `b`."""
    settings_a, settings_b = settings(a), settings(b)
    both = {k.split(":")[0] for k in settings_a} & {k.split(":")[0] for k in settings_b}
    keys = sorted(k for k in settings_a.keys() | settings_b.keys() if k.split(":")[0] in both)
    return [(k, settings_a.get(k), settings_b.get(k)) for k in keys if settings_a.get(k) != settings_b.get(k)]


def changed_cells(a: Path, b: Path) -> pd.DataFrame:
    """Test scores that differ, with the difference `b` minus `a`, largest first; `origin` names the digests and revisions that differ, too."""
    origins = ("corpus_digest", "kb_digest", "model_revision", "git_revision")
    text = dict.fromkeys(origins, str)
    frames = [pd.read_csv(Results(str(f)).summary("metrics.csv"), keep_default_na=False, na_values=[""], dtype=text) for f in (a, b)]
    frames = [f[(f["split"] == "test") & f["metric"].isin(SHOWN)] for f in frames]
    merged = frames[0].merge(frames[1], on=KEY, suffixes=("_a", "_b"))
    merged["difference"] = merged["value_b"] - merged["value_a"]
    merged["origin"] = ["; ".join(o for o in origins if row[f"{o}_a"] != row[f"{o}_b"] and pd.notna(row[f"{o}_b"])) for _, row in merged.iterrows()]
    merged = merged[merged["difference"].abs() > 1e-12]
    return merged.reindex(merged["difference"].abs().sort_values(ascending=False).index)


def compare_results(a: Path, b: Path, limit: int = 30) -> None:
    """Print which cells changed, and what differs in the settings of the entries that they use."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    setting_changes, cells = changed_settings(a, b), changed_cells(a, b)
    console.print(f"{len(cells):,} scores differ between {a} and {b}; {len(setting_changes):,} settings do.", markup=False)
    for key, before, after in setting_changes:
        console.print(f"  {key}: {before} -> {after}", markup=False)
    entries = {key.split(":")[0].split("/", 1)[1] for key, _, _ in setting_changes}
    for _, row in cells.head(limit).iterrows():
        changed_entries = sorted(entries & {str(row[k]) for k in ("corpus", "generator", "strategy", "system", "variant", "kb_a")})
        reason = f"settings of {', '.join(changed_entries)}" if changed_entries else (str(row["origin"]) or "nothing in its own entries: see what they read")
        cell_name = " ".join(str(row[k]) for k in KEY if k not in ("task", "seed"))
        console.print(
            f"  {cell_name}: {100 * row['value_a']:.1f} -> {100 * row['value_b']:.1f} ({100 * row['difference']:+.1f}, n={row['n_b']:,}); {reason}",
            markup=False,
        )
