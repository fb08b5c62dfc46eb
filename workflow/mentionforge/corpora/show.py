"""The counts of a corpus as a table for people: one column per split."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from mentionforge import tables
from mentionforge.errors import UserError


def stats_table(folder: Path) -> Table:
    """The table of a corpus' stats.json, rows by name, nested counts as OUTER: INNER.

    Raises:
        UserError: No readable stats.json in the folder.
    """
    path = folder / "stats.json"
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
        splits = [s for s in tables.SPLITS if s in stats["splits"]]
        counts = {s: dict(_flat(stats["splits"][s])) for s in splits}
        table = Table("count", *splits, title=f"{stats['corpus']}, mapped through {stats['kb']}", title_justify="left")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("unreadable stats", str(path), type(error).__name__, "give the folder of a corpus that was read") from error
    for column in table.columns[1:]:
        column.justify = "right"
    for key in sorted({key for s in splits for key in counts[s]}):
        table.add_row(key.replace("_", " "), *(_number(counts[s].get(key, 0)) for s in splits))
    return table


def _flat(counts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in counts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}: ")
        else:
            yield prefix + key, value


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1%}"
