"""The reference page of the scores.

In: `mentionforge.measures`. Out: Markdown. Knows nothing of evaluation and reports.
"""

from __future__ import annotations

from mentionforge import measures
from mentionforge.reference.markdown import WRITTEN, cell, code, table

HEADINGS = {"recognition": "Recognition", "normalization": "Normalization", "end_to_end": "End to end"}


def page() -> str:
    """A table per task."""
    lines = [
        "# Scores",
        "",
        WRITTEN,
        "",
        "The names below stand in the column `metric` of the tables of scores. Tables and the report show per cent; files hold shares",
        "from 0 to 1. [What the numbers mean](../definitions.md) defines each score.",
        "",
    ]
    for task, heading in HEADINGS.items():
        rows = [
            (
                code(score.name),
                cell(score.label) + (" (main score)" if measures.MAIN[task] == score.name else ""),
                score.better,
                cell(", ".join(score.groups)),
                cell(", ".join(score.compared)),
            )
            for score in measures.SCORES
            if score.task == task
        ]
        lines += [f"## {heading}", "", *table(("metric", "name", "better", "also on groups by", "compared on groups by"), rows)]
    return "\n".join(lines)
