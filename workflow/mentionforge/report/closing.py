"""What a run says at its end: what the main numbers mean, and what to open next, in five lines for a newcomer.

In: comparisons.csv and the specs of the corpora. Out: lines of text. Knows nothing of HTML, and computes no
score: the report does (`headline`, `confidence`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mentionforge import measures
from mentionforge.errors import UserError
from mentionforge.layout import Results
from mentionforge.report.headline import best, largest, signed
from mentionforge.specs import specs_below

LEVEL = 0.05
"""A difference counts as beyond chance if its corrected p value is at most this."""


def print_closing(results: Path) -> None:
    """Print the closing lines of a results folder; nothing before its first summary.

    Raises:
        UserError: The summary is of an older version.
    """
    from rich.console import Console

    path = Path(Results(str(results)).summary("comparisons.csv"))
    if not path.is_file():
        return
    comparisons = pd.read_csv(path, keep_default_na=False, na_values=[""])
    if "covers" not in comparisons:
        raise UserError("summary of another version", str(path), "it does not say what its intervals hold", "run snakemake again")
    console = Console(highlight=False, soft_wrap=True)
    for line in closing(comparisons, results, invented(results)):
        console.print(line, markup=False)


def closing(comparisons: pd.DataFrame, results: Path, invented_texts: bool) -> list[str]:
    """The closing lines.

    Args:
        comparisons: Rows of comparisons.csv.
        results: Results folder, to be named.
        invented_texts: Whether all corpora are those of the demo.
    """
    lines = []
    linking, top, recognition = largest(comparisons), best(comparisons), largest(comparisons, "recognition")
    if linking is not None:
        lines.append(
            f"Normalization: on {linking['corpus']}, {percent(linking['reference'])} of {linking['n']:,} test mentions get the right concept first without synthetic "
            f"notes, {percent(linking['value'])} with {notes_of(linking)} (linker {linking['system']}, index {linking['variant']}): {judged(linking)}."
        )
    if top is not None:
        lines.append(
            f"The best cell: {percent(top['value'])} on {top['corpus']} (linker {top['system']}, index {top['variant']}, {notes_of(top)}); "
            f"{percent(top['reference'])} there without notes."
        )
    if recognition is not None:
        lines.append(
            f"Recognition: on {recognition['corpus']}, {measures.BY_NAME[recognition['metric']].label} {100 * recognition['reference']:.1f} without synthetic notes, "
            f"{100 * recognition['value']:.1f} with {notes_of(recognition)} ({recognition['system']}, {recognition['variant']}): {judged(recognition)}."
        )
    if invented_texts:
        lines.append("The demo's texts are invented and its models small: these numbers show that every stage works, and nothing about medicine.")
    lines.append(
        f"Open next: {results}/report/index.html. Every number: {results}/summary/. What each means: docs/definitions.md. Your own data: docs/corpora.md."
    )
    return lines


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f} %"


def notes_of(row: Any) -> str:
    """The synthetic notes of a comparison's cell."""
    return f"notes by {row['generator']}, strategy {row['strategy']}"


def judged(row: Any) -> str:
    """The difference of a comparison in points, and whether it is beyond chance."""
    beyond = bool(row["reachable"]) and row["p_adjusted"] <= LEVEL
    verdict = "beyond chance" if beyond else "which chance alone may give"
    return f"{signed(row['difference'])} points, {verdict}{', from few mentions' if row['few'] else ''}"


def invented(results: Path) -> bool:
    """Whether all corpora of an experiment are those of the demo, by their specs."""
    specs = specs_below(Results(str(results)).specs("corpora"))
    files = [file for _, spec in specs for paths in spec["settings"].get("splits", {}).values() for file in paths]
    return bool(files) and all("resources/demo/" in file for file in files)
