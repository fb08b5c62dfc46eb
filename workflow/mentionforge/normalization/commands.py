"""Commands of the stage: embed-kb, embed-corpus, embed-generator, link."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Embed names and mentions, and rank concepts for gold mentions.", no_args_is_help=True)

SPEC = typer.Option(..., help="Spec of the linker.")
MODEL = typer.Option(..., help="Stamp of the encoder's weights (fetched.json).")
OUT = typer.Option(..., help="Folder for entries.parquet and vectors.npy.")


@app.command("embed-kb")
def embed_kb(spec: Path = SPEC, model: Path = MODEL, names: Path = typer.Option(..., help="Names of the knowledge base."), out: Path = OUT) -> None:
    """Embed every distinct name of a knowledge base."""
    from mentionforge.normalization import embed

    embed.embed_kb(spec, model, names, out)


@app.command("embed-corpus")
def embed_corpus(spec: Path = SPEC, model: Path = MODEL, corpus: Path = typer.Option(..., help="Folder of the corpus' tables."), out: Path = OUT) -> None:
    """Embed every gold mention that has a concept."""
    from mentionforge.normalization import embed

    embed.embed_corpus(spec, model, corpus, out)


@app.command("embed-generator")
def embed_generator(
    spec: Path = SPEC, model: Path = MODEL, synthetic: Path = typer.Option(..., help="Folder of the generator's tables."), out: Path = OUT
) -> None:
    """Embed every located synthetic mention."""
    from mentionforge.normalization import embed

    embed.embed_generator(spec, model, synthetic, out)


@app.command("link")
def link(
    spec: Path = SPEC,
    index: Path = typer.Option(..., help="Spec of the index."),
    corpus: Path = typer.Option(..., help="Embedded mentions of the corpus (entries.parquet)."),
    kb: Path = typer.Option(None, help="Embedded names of the knowledge base (entries.parquet)."),
    synthetic: Path = typer.Option(None, help="Embedded synthetic mentions (entries.parquet)."),
    chosen: Path = typer.Option(None, help="Notes that the strategy adds."),
    out: Path = typer.Option(..., help="Predictions to write."),
) -> None:
    """Rank concepts for every gold mention of the test split."""
    from mentionforge.normalization import linking

    linking.link(spec, index, corpus, out, kb=kb, synthetic=synthetic, chosen=chosen)
