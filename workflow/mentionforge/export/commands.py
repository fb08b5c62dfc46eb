"""Commands of the export stage. Heavy imports wait until a command runs.

In: options of the command line. Out: calls of `synthetic` and `models`. Knows nothing of layouts but their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from mentionforge.export.layouts import LayoutName

app = typer.Typer(help="Results in the layouts that others read.", no_args_is_help=True)


LICENSE = typer.Option("other", "--license", help="Licence for the card, by its id on the hub, as cc-by-4.0; other: not set.")


@app.command("synthetic")
def synthetic(
    folder: Path = typer.Argument(..., help="A generator's results: results/generation/GENERATOR."),
    to: LayoutName = typer.Option(
        ...,
        "--to",
        help="csv: the released layout (cui, matched_output); hf: a Hugging Face dataset folder; hub-folder: the same with all metadata of data hubs.",
    ),
    out: Path = typer.Option(..., help="Folder to write; it must not exist, or be empty."),
    specs: Path = typer.Option(None, help="Folder of the generator's settings; none: results/specs/generators/GENERATOR."),
    licensed_text: bool = typer.Option(
        False, "--licensed-text", help="Write notes that repeat the text of a licensed corpus (generators of kind replacement)."
    ),
    licence: str = LICENSE,
) -> None:
    """Write a generator's notes with their mentions, a card that says what they are, and SHA256SUMS."""
    from mentionforge.export.synthetic import export

    export(folder, to, out, specs, licence, licensed_text)


@app.command("model")
def model(
    source: Path = typer.Argument(..., help="results/recognition/CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN, or results/alignment/LINKER/CORPUS."),
    to: Literal["hub-folder"] = typer.Option(..., "--to", help="hub-folder: weights, config, tokenizer and card, as model hubs expect them."),
    out: Path = typer.Option(..., help="Folder to write; it must not exist, or be empty."),
    licence: str = LICENSE,
    resources: Path = typer.Option(None, help="Folder of fetched weights, which names the base model; none: resources beside the results."),
) -> None:
    """Write a trained recognizer, or the encoder that a linker trained, with a card that says what was measured, and SHA256SUMS."""
    from mentionforge.export.models import export

    export(source, out, licence, resources)
