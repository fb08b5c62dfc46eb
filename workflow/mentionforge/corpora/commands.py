"""Commands of the corpora stage. Heavy imports wait until a command runs.

In: options of the command line. Out: calls of `build`, `convert`, `leakage`, `card` and `show`. Knows nothing of formats but their names.
"""

from __future__ import annotations

from pathlib import Path

import typer

from mentionforge.corpora.formats.registry import READERS, WRITERS
from mentionforge.errors import UserError

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


_LOSSES = typer.Option("error", help="What to do about what a format cannot hold: error, or count (write the nearest thing and count it).")


@app.command("convert")
def convert(
    sources: list[Path] = typer.Argument(..., help="Files, or folders for share and brat."),
    reader: str = typer.Option(..., "--from", help=f"Format: {', '.join(READERS)}."),
    form: str = typer.Option(..., "--to", help=f"Format: {', '.join(WRITERS)}."),
    out: Path = typer.Option(..., help="File to write (.gz is compressed), or folder for brat."),
    id_prefix: str = typer.Option("", help="Vocabulary of ids without a prefix; default: MSH, or CUI for medmentions and share."),
    entity_type: list[str] = typer.Option([], help="Entity type to keep; may be given several times. Default: all."),
    text: str = typer.Option("none", help="Text policy: none, nfc or crlf_to_lf."),
    note_ids: str = typer.Option("auto", help="Concept ids in BRAT's notes: auto (notes of nothing but ids), all or none."),
    losses: str = _LOSSES,
) -> None:
    """Convert annotated text from one format to another, and say what was skipped, repaired and lost."""
    from mentionforge.corpora.convert import convert as run

    _check_choice("--text", text, ("none", "nfc", "crlf_to_lf"))
    _check_choice("--losses", losses, ("error", "count"))
    _check_choice("--note-ids", note_ids, ("auto", "all", "none"))
    run(sources, reader, form, out, id_prefix, entity_type, text, losses, note_ids)  # type: ignore[arg-type]


@app.command("export")
def export(
    folder: Path = typer.Argument(..., help="Folder of a corpus that was read."),
    form: str = typer.Option(..., "--to", help=f"Format: {', '.join(WRITERS)}."),
    out: Path = typer.Option(..., help="Folder for a file (or folder) per split."),
    split: list[str] = typer.Option([], help="Split to write; may be given several times. Default: all."),
    ids: str = typer.Option("concept_ids", help="Ids of the mentions: concept_ids (as annotated) or cuis."),
    losses: str = _LOSSES,
) -> None:
    """Write a corpus that was read, a file per split."""
    from mentionforge.corpora.convert import export as run

    _check_choice("--ids", ids, ("concept_ids", "cuis"))
    _check_choice("--losses", losses, ("error", "count"))
    run(folder, form, out, split, ids, losses)  # type: ignore[arg-type]


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError("unknown choice", option, value, f"one of {', '.join(choices)}")


@app.command("leakage")
def leakage(
    corpus: Path = typer.Option(..., help="Folder of the corpus whose test documents are compared."),
    settings: str = typer.Option("{}", help="The config's section leakage, as JSON."),
    notes: Path = typer.Option(None, help="located.parquet of a generator."),
    pairs: Path = typer.Option(None, help="pairs.parquet of a generator that is fine-tuned."),
    finetuned_on: Path = typer.Option(None, help="Folder of the corpus that the pairs are from."),
    out: Path = typer.Option(..., help="CSV file to write."),
) -> None:
    """Stop if notes, or what their generator was fine-tuned on, stand in test documents; list what they share."""
    from pydantic import ValidationError

    from mentionforge.corpora.leakage import check
    from mentionforge.corpora.settings import LeakageGuard

    try:
        guard = LeakageGuard.model_validate_json(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError("bad option", "--settings", f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "give the section as JSON") from error
    check(corpus, guard, out, notes, pairs, finetuned_on)


@app.command("cards")
def cards(
    corpora: list[Path] = typer.Argument(..., help="Folders of corpora that were read."),
    kb: list[Path] = typer.Option(..., help="Folder of the knowledge base of each, in the same order."),
    overlap: Path = typer.Option(..., help="CSV file to write: what the splits of different corpora share."),
) -> None:
    """Write card.md for every corpus: its counts per split, and what it shares with the others and with its knowledge base."""
    from mentionforge.corpora.card import write_cards

    write_cards(corpora, kb, overlap)


@app.command("stats")
def stats(folder: Path = typer.Argument(..., help="Folder of a corpus that was read.")) -> None:
    """Print the counts of a corpus, one column per split."""
    from rich.console import Console

    from mentionforge.corpora.show import stats_table

    Console().print(stats_table(folder))
