"""Tables of the report: a titled table, and the text of its counts, differences and intervals.

In: numbers. Out: text, in percentage points and per cent. Knows nothing of metrics files, tasks or pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class ReportTable:
    """A table with its title, caption and LaTeX label, for Markdown, LaTeX and the page."""

    title: str
    frame: pd.DataFrame
    caption: str
    label: str


FEW = "†"
"""Marks a count of few mentions."""


def counted(n: Any, few: int = 30) -> str:
    """A number of mentions, marked if it is below `few`."""
    return f"{int(n):,}" + (FEW if n < few else "")


def interval(difference: float, low: float, high: float) -> str:
    """A difference (a share) in points with its interval, after a blank: ` +1.2 [0.4, 2.0]`."""
    if pd.isna(low):
        return f" {100 * difference:+.1f}"
    return f" {100 * difference:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def numeric(column: str) -> bool:
    """Whether a column of a `ReportTable` holds numbers: its name has a comma, as `corpus, all`, or is that of a count."""
    return "," in column or column in ("seeds", "n")
