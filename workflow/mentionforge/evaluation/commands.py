"""Command line of evaluation: recognition, errors, normalization, compare, end-to-end.

In: command line options. Out: calls of the functions that do the work, imported only when a command runs. Knows nothing of scores.
"""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Predictions become metrics.", no_args_is_help=True)

CORPUS = typer.Option(..., help="Folder with documents.parquet and mentions.parquet.")
CORPUS_SPEC = typer.Option(..., help="Resolved settings of the corpus.")
BASE = typer.Option(..., help="Folder below which the path of a prediction names its cell.")
OUT = typer.Option(..., help="Metrics to write.")
TASK = typer.Option(..., help="recognition or normalization.")
KB = typer.Option(..., help="Folder of the corpus' knowledge base.")
CHOSEN = typer.Option([], help="notes.parquet of a generator and strategy; may be repeated.")
CONTROL = typer.Option([], help="A generator that is a control; may be repeated.")
WITH_KB = typer.Option([], help="INDEX=INDEX: an index without the knowledge base, and the same with it; may be repeated.")
STATISTICS = typer.Option("{}", help="JSON of the statistics section of the config.")
FOLDER = typer.Option(..., help="Folder to write to.")
PREDICTIONS = typer.Argument(..., help="predictions.parquet of each cell.")


@app.command("recognition")
def recognition(
    predictions: list[Path] = PREDICTIONS,
    corpus: Path = CORPUS,
    corpus_spec: Path = CORPUS_SPEC,
    base: Path = BASE,
    out: Path = OUT,
    errors: Path = typer.Option(None, help="Table of errors to write."),
    source: list[Path] = typer.Option([], help="Folder of another corpus that models were trained on."),
) -> None:
    """Strict, partial and token precision, recall and F1, strict ones per OOD bucket too, and a table of errors."""
    from mentionforge.evaluation.recognition import evaluate

    evaluate(corpus, corpus_spec, base, predictions, out, errors, source)


@app.command("errors")
def errors(table: Path = typer.Argument(..., help="Table of errors."), split: str = typer.Option("test", help="dev or test.")) -> None:
    """Print how many mentions are missed, cut wrongly or spurious, by bucket and length."""
    from mentionforge.evaluation.errors import error_table

    print(error_table(table, split))


@app.command("normalization")
def normalization(
    predictions: list[Path] = PREDICTIONS,
    corpus: Path = CORPUS,
    corpus_spec: Path = CORPUS_SPEC,
    base: Path = BASE,
    out: Path = OUT,
    nil: Path = typer.Option(None, help="Curves by threshold to write; each cell's calibration.parquet then lies beside its predictions."),
    parents: Path = typer.Option(None, help="parents.parquet of the knowledge base."),
    errors: Path = typer.Option(None, help="Table of errors by hierarchy to write."),
) -> None:
    """Accuracy at 1, 5, 10, 50, 100 and mean reciprocal rank, overall and per OOD bucket; mentions without a concept; errors by hierarchy."""
    from mentionforge.evaluation.normalization import evaluate

    evaluate(corpus, corpus_spec, base, predictions, out, nil, parents, errors)


@app.command("compare")
def compare(
    predictions: list[Path] = PREDICTIONS,
    task: str = TASK,
    corpus: Path = CORPUS,
    corpus_spec: Path = CORPUS_SPEC,
    kb: Path = KB,
    base: Path = BASE,
    chosen: list[Path] = CHOSEN,
    control: list[str] = CONTROL,
    with_kb: list[str] = WITH_KB,
    statistics: str = STATISTICS,
    threads: int = typer.Option(1, min=1, help="Groups of mentions to work on at a time."),
    out: Path = FOLDER,
) -> None:
    """Differences to the baseline, the controls and the dictionary, with intervals and p values; mentions fixed and broken."""
    from mentionforge.evaluation.compare import compare
    from mentionforge.evaluation.settings import Statistics

    compare(task, corpus, corpus_spec, kb, base, predictions, chosen, control, with_kb, Statistics.model_validate_json(statistics), out, threads)


@app.command("end-to-end")
def end_to_end(
    linked: list[Path] = typer.Argument(..., help="linked.parquet of each cell."), corpus: Path = CORPUS, base: Path = BASE, out: Path = OUT
) -> None:
    """Precision, recall and F1 of span and concept together, as SemEval scored them."""
    from mentionforge.evaluation.end_to_end import evaluate

    evaluate(corpus, base, linked, out)
