"""Commands of the stage evaluation."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Predictions become metrics.", no_args_is_help=True)

CORPUS = typer.Option(..., help="Folder with documents.parquet and mentions.parquet.")
CORPUS_SPEC = typer.Option(..., help="Resolved settings of the corpus.")
BASE = typer.Option(..., help="Folder below which the path of a prediction names its cell.")
OUT = typer.Option(..., help="Metrics to write.")
PREDICTIONS = typer.Argument(..., help="predictions.parquet of each cell.")


@app.command("recognition")
def recognition(predictions: list[Path] = PREDICTIONS, corpus: Path = CORPUS, corpus_spec: Path = CORPUS_SPEC, base: Path = BASE, out: Path = OUT) -> None:
    """Strict entity precision, recall and F1, and recall per OOD bucket."""
    from mentionforge.evaluation.recognition import evaluate

    evaluate(corpus, corpus_spec, base, predictions, out)


@app.command("normalization")
def normalization(predictions: list[Path] = PREDICTIONS, corpus: Path = CORPUS, corpus_spec: Path = CORPUS_SPEC, base: Path = BASE, out: Path = OUT) -> None:
    """Accuracy at 1, 5, 10, 50, 100 and mean reciprocal rank, overall and per OOD bucket."""
    from mentionforge.evaluation.normalization import evaluate

    evaluate(corpus, corpus_spec, base, predictions, out)
