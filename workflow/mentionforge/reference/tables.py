"""The reference page of the Parquet tables between stages.

In: the declarations of `mentionforge.tables`. Out: Markdown. Knows nothing of which job writes a table.
"""

from __future__ import annotations

from mentionforge import tables
from mentionforge.reference.markdown import WRITTEN, cell, code, table


def page() -> str:
    """A section per table, in the order of their declaration: what a row is, its key, its columns."""
    declared = [one for one in vars(tables).values() if isinstance(one, tables.Table)]
    lines = [
        "# Tables",
        "",
        WRITTEN,
        "",
        "Stages meet in Parquet tables. Each is sorted by its key, so that equal content gives equal bytes, and each carries its",
        "provenance in its metadata (`mentionforge results show`). Offsets are 0-based characters, end exclusive.",
        "",
    ]
    for one in declared:
        rows = [(code(column.name), code(str(column.type)), "yes" if column.nullable else "", cell(column.doc)) for column in one.columns]
        lines += [f"## {one.name}", "", f"{one.doc} Key: {', '.join(map(code, one.key))}.", ""]
        lines += table(("column", "type", "may be empty", "meaning"), rows)
    return "\n".join(lines)
