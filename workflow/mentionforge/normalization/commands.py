"""Command line of normalization: embed-*, align, search-kb, link, link-predicted, fuse, rerank-train, rerank.

In: command line options. Out: calls of the functions that do the work, imported only when a command runs. Knows nothing of kinds of linkers.
"""

from __future__ import annotations

from pathlib import Path

import typer

from mentionforge.devices import claim
from mentionforge.errors import UserError

app = typer.Typer(help="Embed names and mentions, and rank concepts for gold mentions.", no_args_is_help=True)

SPEC = typer.Option(..., help="Spec of the linker.")
MODEL = typer.Option(None, help="Stamp of the encoder's weights (fetched.json); a linker without an encoder has none.")
OUT = typer.Option(..., help="Folder for entries.parquet and vectors.npy.")
CALIBRATIONS = typer.Option(
    ..., "--calibration", help="Rankings of dev mentions, and of test mentions without a concept, to write, in the same order as --out."
)


@app.command("embed-kb")
def embed_kb(spec: Path = SPEC, model: Path = MODEL, names: Path = typer.Option(..., help="Names of the knowledge base."), out: Path = OUT) -> None:
    """Embed every distinct name of a knowledge base."""
    if model:
        claim()
    from mentionforge.normalization import embed

    embed.embed_kb(spec, model, names, out)


@app.command("embed-corpus")
def embed_corpus(spec: Path = SPEC, model: Path = MODEL, corpus: Path = typer.Option(..., help="Folder of the corpus' tables."), out: Path = OUT) -> None:
    """Embed every gold mention."""
    if model:
        claim()
    from mentionforge.normalization import embed

    embed.embed_corpus(spec, model, corpus, out)


@app.command("embed-generator")
def embed_generator(
    spec: Path = SPEC, model: Path = MODEL, synthetic: Path = typer.Option(..., help="Folder of the generator's tables."), out: Path = OUT
) -> None:
    """Embed every located synthetic mention."""
    if model:
        claim()
    from mentionforge.normalization import embed

    embed.embed_generator(spec, model, synthetic, out)


@app.command("search-kb")
def search_kb(
    spec: Path = SPEC,
    index: Path = typer.Option(..., help="Spec of an index, for which names it admits."),
    corpus: Path = typer.Option(..., help="Embedded mentions of the corpus (entries.parquet)."),
    kb: Path = typer.Option(..., help="Embedded names of the knowledge base (entries.parquet)."),
    names: Path = typer.Option(..., help="Names of the knowledge base."),
    xrefs: Path = typer.Option(..., help="Codes of the knowledge base."),
    out: Path = typer.Option(..., help="File to write."),
) -> None:
    """Search the names of a knowledge base for every distinct mention of a corpus."""
    from mentionforge.normalization import linking

    linking.search_kb(spec, index, corpus, kb, names, xrefs, out)


@app.command("link")
def link(
    spec: Path = SPEC,
    index: list[Path] = typer.Option(..., help="Spec of an index; several are linked one after the other."),
    corpus: Path = typer.Option(..., help="Embedded mentions of the corpus (entries.parquet)."),
    kb: Path = typer.Option(None, help="Embedded names of the knowledge base (entries.parquet), for a tfidf linker."),
    kb_rankings: list[Path] = typer.Option([], "--found", help="What search-kb found, for each index that has the names, in their order."),
    xrefs: Path = typer.Option(None, help="Codes of the knowledge base, if an index prefers some."),
    synthetic: Path = typer.Option(None, help="Embedded synthetic mentions (entries.parquet)."),
    chosen: Path = typer.Option(None, help="Notes that the strategy adds."),
    out: list[Path] = typer.Option(..., help="Predictions to write, for each index in their order."),
    calibration: list[Path] = CALIBRATIONS,
) -> None:
    """Rank concepts for every gold mention of the dev and test splits."""
    from mentionforge.normalization import linking

    linking.link(spec, corpus, linking.cells_of(index, kb_rankings, out, calibration), kb=kb, xrefs=xrefs, synthetic=synthetic, chosen=chosen)


@app.command("fuse")
def fuse(
    spec: Path = SPEC,
    predictions: list[Path] = typer.Option(..., help="Predictions of each linker, in the order of the spec; for several cells, one cell after the other."),
    calibrations: list[Path] = typer.Option(..., help="Their other rankings, in the same order."),
    mentions: Path = typer.Option(..., help="Gold mentions of the corpus."),
    out: list[Path] = typer.Option(..., help="Predictions to write, for each cell."),
    calibration: list[Path] = CALIBRATIONS,
) -> None:
    """Fuse the rankings of several linkers."""
    from mentionforge.normalization.linkers.hybrid import fusion

    cells = zip(_shares(predictions, len(out)), _shares(calibrations, len(out)), out, calibration, strict=True)
    for predictions_of_cell, calibrations_of_cell, out_of_cell, calibration_of_cell in cells:
        fusion.fuse(spec, predictions_of_cell, calibrations_of_cell, mentions, out_of_cell, calibration_of_cell)


def _shares(paths: list[Path], cells: int) -> list[list[Path]]:
    """Paths in as many equal shares as there are cells, in order."""
    each = len(paths) // cells
    if each * cells != len(paths):
        raise UserError("wrong predictions", f"{len(paths)} files", f"they do not make {cells} equal shares", "give as many for each --out")
    return [paths[i * each : (i + 1) * each] for i in range(cells)]


@app.command("align")
def align(
    spec: Path = SPEC,
    model: Path = typer.Option(..., help="Stamp of the weights to start from (fetched.json)."),
    kb: Path = typer.Option(..., help="Folder of the knowledge base's tables."),
    mentions: Path = typer.Option(..., help="Gold mentions of the corpus."),
    synthetic: Path = typer.Option(None, help="Folder of a generator's tables, whose mentions are further names."),
    out: Path = typer.Option(..., help="Folder for the weights and their stamp."),
) -> None:
    """Train a mention encoder on the names of concepts."""
    claim()
    from mentionforge.normalization.linkers.self_aligned import training

    training.align(spec, model, kb, mentions, out, synthetic)


@app.command("rerank-train")
def rerank_train(
    spec: Path = SPEC,
    model: Path = typer.Option(..., help="Stamp of the weights to start from (fetched.json)."),
    kb: Path = typer.Option(..., help="Folder of the knowledge base's tables."),
    corpus: Path = typer.Option(..., help="Folder of the corpus' tables."),
    embedded: Path = typer.Option(..., help="Mentions as the first stage embeds them (entries.parquet)."),
    kb_rankings: Path = typer.Option(..., "--found", help="What the first stage found among the names."),
    out: Path = typer.Option(..., help="Folder for the weights and their stamp."),
) -> None:
    """Train a cross-encoder on training mentions and hard negatives."""
    claim()
    from mentionforge.normalization.linkers.rerank import reranking

    reranking.train(spec, model, kb, corpus, embedded, kb_rankings, out)


@app.command("rerank")
def rerank(
    spec: Path = SPEC,
    model: Path = typer.Option(..., help="Stamp of the trained cross-encoder (fetched.json)."),
    kb: Path = typer.Option(..., help="Folder of the knowledge base's tables."),
    corpus: Path = typer.Option(..., help="Folder of the corpus' tables."),
    predictions: list[Path] = typer.Option(..., help="The first stage's predictions, for each cell."),
    calibrations: list[Path] = typer.Option(..., help="Its other rankings, for each cell."),
    out: list[Path] = typer.Option(..., help="Predictions to write, for each cell."),
    calibration: list[Path] = CALIBRATIONS,
) -> None:
    """Order the first concepts of each ranking anew."""
    claim()
    from mentionforge.normalization.linkers.rerank import reranking

    for files in zip(predictions, calibrations, out, calibration, strict=True):
        reranking.rerank(spec, model, kb, corpus, *files)


@app.command("link-predicted")
def link_predicted(
    spec: Path = SPEC,
    index: list[Path] = typer.Option(..., help="Spec of an index; several are linked one after the other."),
    corpus: Path = typer.Option(..., help="Folder of documents and of mentions whose dev and test ones are predicted."),
    model: Path = typer.Option(None, help="Stamp of the encoder's weights."),
    kb: Path = typer.Option(None, help="Embedded names of the knowledge base (entries.parquet)."),
    names: Path = typer.Option(None, help="Names of the knowledge base."),
    xrefs: Path = typer.Option(None, help="Cross-references of the knowledge base."),
    synthetic: Path = typer.Option(None, help="Embedded synthetic mentions (entries.parquet)."),
    chosen: Path = typer.Option(None, help="Notes that the strategy adds."),
    out: list[Path] = typer.Option(..., help="Rankings to write, for each index in their order."),
) -> None:
    """Rank concepts for every mention of dev and test that a recognizer found."""
    if model:
        claim()
    from mentionforge.normalization.predicted import link_predicted as run

    run(spec, index, corpus, out, model, kb, names, xrefs, synthetic, chosen)
