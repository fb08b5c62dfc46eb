"""Markdown that several reference pages need: tables, and text in their cells.

In: strings. Out: Markdown. Knows nothing of the pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WRITTEN = "*Written from the code by `make generated`; do not edit.*"
"""First line of each page below its heading."""


def cell(text: str) -> str:
    """A text as the content of a table cell: one line, with bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """A text as code in a table cell; an empty one stays empty."""
    return f"`{cell(text)}`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; its cells are Markdown."""
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows), ""]
