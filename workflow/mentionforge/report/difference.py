"""What differs between two results folders: cells whose scores changed, and the settings, weights and code that may be why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge.errors import UserError
from mentionforge.measures import ranked

KEY = ["task", "corpus", "generator", "strategy", "system", "variant", "seed", "bucket", "metric"]
SHOWN = ranked("recognition", "normalization")


def settings(results: Path) -> dict[str, Any]:
    """Every setting of results/specs as `kind/name: key.key` and its value."""
    found = {}
    for path in sorted((results / "specs").rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        version = f"stage_version of {data['part']}" if data.get("part") else "stage_version"  # each part of a generator has its own
        for key, value in {**data["settings"], version: data["stage_version"]}.items():
            found.update(_flat(f"{data['kind']}/{data['name']}: {key}", value))
    return found


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flat(f"{key}.{name}", inner).items()}
    return {key: value}


def folder_of(name: str) -> Path:
    """A results folder, or the one below results whose tables carry a git revision that begins so.

    Raises:
        UserError: There is no such folder or revision.
    """
    if (Path(name) / "summary" / "metrics.csv").is_file():
        return Path(name)
    for path in sorted(Path().glob("results*/**/summary/metrics.csv")):
        revision = pd.read_csv(path, usecols=["git_revision"], nrows=1, dtype=str)["git_revision"].iloc[0]  # hexadecimal, not a number
        if str(revision).startswith(name):
            return path.parents[1]
    raise UserError("no results", name, "it is neither a folder with summary/metrics.csv nor a revision of one below results", "run snakemake first")


def changed_settings(a: Path, b: Path) -> list[tuple[str, Any, Any]]:
    """Settings that differ in entries that both folders have: key, value in `a`, value in `b`."""
    one, two = settings(a), settings(b)
    both = {k.split(":")[0] for k in one} & {k.split(":")[0] for k in two}
    return [(k, one.get(k), two.get(k)) for k in sorted(one.keys() | two.keys()) if k.split(":")[0] in both and one.get(k) != two.get(k)]


def changed_cells(a: Path, b: Path) -> pd.DataFrame:
    """Test scores over all mentions that differ, with the difference `b` minus `a`, largest first; `origin` names digests that differ, too."""
    origins = ("corpus_digest", "kb_digest", "model_revision", "git_revision")
    text = dict.fromkeys(origins, str)
    frames = [pd.read_csv(f / "summary" / "metrics.csv", keep_default_na=False, na_values=[""], dtype=text) for f in (a, b)]
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
    reasons, cells = changed_settings(a, b), changed_cells(a, b)
    console.print(f"{len(cells):,} scores differ between {a} and {b}; {len(reasons):,} settings do.", markup=False)
    for key, one, two in reasons:
        console.print(f"  {key}: {one} -> {two}", markup=False)
    entries = {key.split(":")[0].split("/", 1)[1] for key, _, _ in reasons}
    for _, row in cells.head(limit).iterrows():
        own = sorted(entries & {str(row[k]) for k in ("corpus", "generator", "strategy", "system", "variant", "kb_a")})
        why = f"settings of {', '.join(own)}" if own else (str(row["origin"]) or "nothing in its own entries: see what they read")
        name = " ".join(str(row[k]) for k in KEY if k not in ("task", "seed"))
        console.print(
            f"  {name}: {100 * row['value_a']:.1f} -> {100 * row['value_b']:.1f} ({100 * row['difference']:+.1f}, n={row['n_b']:,}); {why}", markup=False
        )
