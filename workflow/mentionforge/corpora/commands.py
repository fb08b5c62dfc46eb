"""Commands of the corpora stage."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Annotated corpora: documents, mentions, CUI sets and out-of-distribution buckets.", no_args_is_help=True)


@app.command("read")
def read(
    spec: Path = typer.Option(..., help="Settings of the corpus."),
    kb: Path = typer.Option(..., help="Folder with names.parquet and xrefs.parquet."),
    out: Path = typer.Option(..., help="Folder for documents.parquet, mentions.parquet and stats.json."),
) -> None:
    """Read a corpus, check every offset, map ids to CUI sets, and assign buckets against the training split."""
    from mentionforge.corpora.build import read_corpus

    read_corpus(spec, kb, out)


@app.command("stats")
def stats(folder: Path = typer.Argument(..., help="Folder of a corpus that was read.")) -> None:
    """Print the counts of a corpus, one column per split."""
    from rich.console import Console

    from mentionforge.corpora.show import stats_table

    Console().print(stats_table(folder))
