"""Commands of the augmentation stage.

In: options of the command line. Out: calls of `strategies`, which is imported when a command runs. Knows nothing of how notes are selected.
"""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Which synthetic notes join a corpus' training split.", no_args_is_help=True)


@app.callback()
def _stage() -> None:
    """Keep `choose` a sub-command although it is the only one."""


@app.command("choose")
def choose(
    spec: Path = typer.Option(..., help="Spec file of the strategy."),
    located: Path = typer.Option(..., help="Located notes of the generator."),
    mentions: Path = typer.Option(..., help="Gold mentions of the corpus."),
    out: Path = typer.Option(..., help="Table to write."),
) -> None:
    """Choose the notes that a strategy adds to a corpus."""
    from mentionforge.augmentation.strategies import choose_notes

    choose_notes(spec, located, mentions, out)
