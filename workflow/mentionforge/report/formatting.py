"""Tables for people: a titled table, and how its cells show counts, differences and intervals.

In: numbers. Out: text, in points and per cent. Knows nothing of metrics files, tasks or pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Layout:
    """A table as people read it: for Markdown, LaTeX and the page."""

    title: str
    frame: pd.DataFrame
    caption: str
    label: str


FEW = "†"
"""Marks a number that rests on few mentions."""


def counted(n: Any, few: int = 30) -> str:
    """A number of mentions, marked where there are few."""
    return f"{int(n):,}" + (FEW if n < few else "")


def interval(difference: float, low: float, high: float) -> str:
    """A difference in points with its interval, `+1.2 [0.4, 2.0]`, led by a blank."""
    if pd.isna(low):
        return f" {100 * difference:+.1f}"
    return f" {100 * difference:+.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def numeric(column: str) -> bool:
    """Whether a column of a layout holds numbers: such names have a comma, as `corpus, all`, or are counts."""
    return "," in column or column in ("seeds", "n")
