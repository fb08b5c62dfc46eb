"""Show the counts of a corpus on the console.

In: stats.json of a built corpus. Out: a table with one column per split. Knows nothing of how they were counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from mentionforge import tables
from mentionforge.errors import UserError


def stats_table(folder: Path) -> Table:
    """A table of stats.json; rows are sorted by name, nested counts are called OUTER: INNER.

    Raises:
        UserError: The folder has no readable stats.json.
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
