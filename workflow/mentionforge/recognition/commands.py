"""Command line of recognition: train, predict, match, mentions.

In: command line options. Out: calls of the functions that do the work, imported only when a command runs. Knows nothing of kinds and schedules.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import typer

from mentionforge.devices import claim
from mentionforge.errors import UserError
from mentionforge.recognition.schedules import Schedule

app = typer.Typer(help="Disease mentions in text (DER).", no_args_is_help=True)


@app.command("train")
def train(
    spec: Path = typer.Option(..., help="Resolved settings of the recognizer."),
    model: Path = typer.Option(..., help="Stamp of the encoder."),
    corpus: Path = typer.Option(..., help="Folder with documents.parquet and mentions.parquet."),
    corpus_spec: Path = typer.Option(..., help="Resolved settings of the corpus."),
    chosen: Path = typer.Option(None, help="Synthetic notes that the strategy adds."),
    synthetic: Path = typer.Option(None, help="Folder with the generator's located.parquet and mentions.parquet."),
    teacher: Path = typer.Option(None, help="Model folder of the real_only run with the same seed, for schedules that ask it."),
    schedule: str = typer.Option(..., help=f"{', '.join(get_args(Schedule))}."),
    seed: int = typer.Option(..., help="Seed of the training."),
    out: Path = typer.Option(..., help="Folder for predictions.parquet, model/ and history.csv."),
) -> None:
    """Train a recognizer by a schedule, and predict dev and test."""
    if schedule not in get_args(Schedule):
        raise UserError("unknown schedule", "--schedule", schedule, f"choose one of {', '.join(get_args(Schedule))}")
    claim()
    from mentionforge.recognition.training import train as run

    run(spec, model, corpus, corpus_spec, cast(Schedule, schedule), seed, out, chosen, synthetic, teacher)


@app.command("predict")
def predict(
    model: Path = typer.Option(..., help="Model folder of a recognition run."),
    corpus: Path = typer.Option(..., help="Folder with documents.parquet."),
    out: Path = typer.Option(..., help="Predictions to write."),
) -> None:
    """Recognize mentions in the dev and test documents of any corpus with a trained recognizer."""
    claim()
    from mentionforge.recognition.training import predict as run

    run(model, corpus, out)


@app.command("match")
def match(
    spec: Path = typer.Option(..., help="Resolved settings of the recognizer."),
    corpus: Path = typer.Option(..., help="Folder with documents.parquet and mentions.parquet."),
    corpus_spec: Path = typer.Option(..., help="Resolved settings of the corpus."),
    names: Path = typer.Option(None, help="Names of the knowledge base."),
    out: Path = typer.Option(..., help="Predictions to write."),
) -> None:
    """Find a dictionary's names in the dev and test documents: the baseline without training."""
    from mentionforge.recognition.kinds.dictionary import match as run

    run(spec, corpus, corpus_spec, out, names)


@app.command("mentions")
def mentions(
    predictions: Path = typer.Option(..., help="Predictions of a recognizer."),
    corpus: Path = typer.Option(..., help="Folder with documents.parquet and mentions.parquet."),
    corpus_spec: Path = typer.Option(..., help="Resolved settings of the corpus."),
    out: Path = typer.Option(..., help="Folder for documents.parquet and mentions.parquet."),
) -> None:
    """Write predicted mentions as those of a corpus, so that they can be linked."""
    from mentionforge.recognition.mentions import as_mentions

    as_mentions(predictions, corpus, corpus_spec, out)
