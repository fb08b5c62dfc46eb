"""Commands of the kb stage. Heavy imports wait until a command runs.

In: options of the command line. Out: calls of `extract`, `parents` and `show`. Knows nothing of sources.
"""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Knowledge base: concepts, names and cross-references.", no_args_is_help=True)


@app.command("extract")
def extract(
    spec: Path = typer.Option(..., help="Spec file of the kbs entry."),
    out: Path = typer.Option(..., help="Folder for concepts.parquet, names.parquet, xrefs.parquet and stats.json."),
) -> None:
    """Extract a knowledge base from a UMLS release or from open ontologies."""
    from mentionforge.kb import extract

    extract.extract(spec, out)


@app.command("parents")
def parents(
    spec: Path = typer.Option(..., help="Spec file of the kbs entry."),
    kb: Path = typer.Option(..., help="Folder of the extracted knowledge base."),
    hierarchy: str = typer.Option("auto", help="auto, required or none."),
    out: Path = typer.Option(..., help="parents.parquet to write."),
) -> None:
    """Direct parents of concepts, from the ontologies or from MRREL of a release."""
    from mentionforge.kb import parents

    parents.extract(spec, kb, hierarchy, out)


@app.command("show")
def show(
    concept: str = typer.Argument(..., help="Concept id (a CUI, HP:0001250) or name."),
    kb: Path = typer.Option(..., help="Folder of an extracted knowledge base."),
) -> None:
    """Show all that a knowledge base knows about a concept."""
    from mentionforge.kb import show

    show.show(concept, kb)


@app.command("stats")
def stats(kb: Path = typer.Option(..., help="Folder of an extracted knowledge base.")) -> None:
    """Show the counts of a knowledge base."""
    from mentionforge.kb import show

    show.stats(kb)
