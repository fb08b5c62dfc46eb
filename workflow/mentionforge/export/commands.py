"""Commands of the export stage. Heavy imports wait until a command runs.

In: options of the command line. Out: calls of `synthetic`. Knows nothing of layouts but their names.
"""

from __future__ import annotations

from pathlib import Path

import typer

from mentionforge.export.layouts import LayoutName

app = typer.Typer(help="Results in the layouts that others read.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Keep `synthetic` a sub-command of its own."""


@app.command("synthetic")
def synthetic(
    folder: Path = typer.Argument(..., help="A generator's results: results/generation/GENERATOR."),
    to: LayoutName = typer.Option(
        ...,
        "--to",
        help="csv: the released layout (cui, matched_output); hf: a Hugging Face dataset folder.",
    ),
    out: Path = typer.Option(..., help="Folder to write; it must not exist, or be empty."),
    specs: Path = typer.Option(None, help="Folder of the generator's settings; none: results/specs/generators/GENERATOR."),
    licensed_text: bool = typer.Option(
        False, "--licensed-text", help="Write notes that repeat the text of a licensed corpus (generators of kind replacement)."
    ),
) -> None:
    """Write a generator's notes with their mentions, a card that says what they are, and SHA256SUMS."""
    from mentionforge.export.synthetic import export

    export(folder, to, out, specs, licensed_text)
