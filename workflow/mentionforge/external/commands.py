"""Commands of the external stage. Heavy imports wait until a command runs.

In: options of the command line. Out: calls of `rankings`, `spans` and `questions`. Knows nothing of formats of answers.
"""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Predictions that other systems made.", no_args_is_help=True)

SPEC = typer.Option(..., help="Resolved settings of the external linker or recognizer.")
PATH = typer.Option(..., help="File or folder with its predictions on the corpus.")
CORPUS = typer.Option(..., help="Folder with documents.parquet and mentions.parquet.")
CORPUS_SPEC = typer.Option(..., help="Resolved settings of the corpus.")


@app.command("rankings")
def rankings(
    spec: Path = SPEC,
    path: Path = PATH,
    corpus: Path = CORPUS,
    corpus_spec: Path = CORPUS_SPEC,
    kb: Path = typer.Option(..., help="Folder with names.parquet, xrefs.parquet and retired.parquet."),
    out: Path = typer.Option(..., help="Predictions to write."),
    calibration: Path = typer.Option(..., help="Rankings of dev mentions, and of test mentions without a concept, to write."),
) -> None:
    """Read another system's rankings of concepts for gold mentions, and check that each test mention is answered once."""
    from mentionforge.external.rankings import read_rankings

    read_rankings(spec, path, corpus, corpus_spec, kb, out, calibration)


@app.command("spans")
def spans(
    spec: Path = SPEC,
    path: Path = PATH,
    corpus: Path = CORPUS,
    corpus_spec: Path = CORPUS_SPEC,
    out: Path = typer.Option(..., help="Predictions to write."),
) -> None:
    """Read the mentions that another system found, and check them against the texts."""
    from mentionforge.external.spans import read_spans

    read_spans(spec, path, corpus, corpus_spec, out)


@app.command("questions")
def questions(
    corpus: Path = typer.Option(..., help="Folder with mentions.parquet."),
    out: Path = typer.Option(..., help="CSV file to write."),
) -> None:
    """Write the mentions of dev and test, without their concepts, for another system to answer."""
    from mentionforge.external.questions import write_questions

    write_questions(corpus, out)
