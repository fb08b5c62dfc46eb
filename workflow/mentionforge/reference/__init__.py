"""The pages of docs/reference that are written from the code: configuration, commands, tables, scores.

In: the JSON schema, the shipped configs, the command line, `tables`, `measures`. Out: Markdown, the same for the same code. Knows nothing of the other pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer


def pages(root: Path, app: Typer, stages: Sequence[str]) -> dict[str, str]:
    """Text of each page by file name.

    Args:
        root: Folder of the repository, for examples from the shipped configs.
        app: The command line, with the commands of all stages.
        stages: Groups of commands that rules call.
    """
    from mentionforge.reference import commands, configuration, scores, tables

    return {"config.md": configuration.page(root), "commands.md": commands.page(app, stages), "tables.md": tables.page(), "scores.md": scores.page()}


def write(root: Path, app: Typer, stages: Sequence[str], out: Path) -> None:
    """Write the pages; see `pages`.

    Args:
        root: Folder of the repository.
        app: The command line.
        stages: Groups of commands that rules call.
        out: Folder of the pages.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages(root, app, stages).items():
        (out / name).write_text(text, encoding="utf-8")
