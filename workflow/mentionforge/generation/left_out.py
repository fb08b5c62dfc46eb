"""left_out.csv: what a generator was asked for, or given, and writes no note of.

In: concepts, numbers of notes and reasons. Out: the file beside the table `prompts`. Knows nothing of why they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mentionforge.generation.funnel import write_csv

COLUMNS = ("cui", "notes", "reason")


def write(prompts: Path, rows: Iterable[tuple[str, int, str]]) -> None:
    """Write the file.

    Args:
        prompts: The table that it lies beside.
        rows: CUI, number of its notes that are left out, and the reason.
    """
    write_csv(prompts.with_name("left_out.csv"), COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in sorted(rows)])
