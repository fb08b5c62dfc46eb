"""Commands of the report stage.

In: options of the command line. Out: calls of one function of this package each. Knows nothing of tables and figures.
"""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(help="Metrics become tables.", no_args_is_help=True)


METRICS = typer.Option([], "--metrics", help="Metrics table; may be repeated.")
ERRORS = typer.Option([], "--errors", help="Table of recognition errors; may be repeated.")
WRONG = typer.Option([], "--wrong", help="Table of a linker's errors by hierarchy; may be repeated.")
COMPARISONS = typer.Option([], "--comparisons", help="Comparisons table; may be repeated.")
MODELS = typer.Option([], "--model", help="Stamp of the weights of a model; may be repeated.")
RESULTS = typer.Argument(Path("results"), help="Results folder.")
DIGEST = typer.Option("", help="Digest of the resolved configuration.")


@app.command("summary")
def summary(
    metrics: list[Path] = METRICS,
    errors: list[Path] = ERRORS,
    funnel: list[Path] = typer.Option([], help="funnel.json of a generator; may be repeated."),
    corpus: list[Path] = typer.Option([], help="stats.json of a corpus; may be repeated."),
    kb: list[Path] = typer.Option([], help="stats.json of a knowledge base; may be repeated."),
    model: list[Path] = MODELS,
    external: list[Path] = typer.Option([], help="Predictions of an external system; may be repeated."),
    out: Path = typer.Option(..., help="Folder to write to."),
) -> None:
    """Write the tidy CSV files and summary.md."""
    from mentionforge.report.summary import summarize

    summarize(metrics, funnel, corpus, kb, model, out, errors, external)


@app.command("tidy")
def tidy(
    results: Path = RESULTS,
    metrics: list[Path] = METRICS,
    comparisons: list[Path] = COMPARISONS,
    errors: list[Path] = ERRORS,
    wrong: list[Path] = WRONG,
    model: list[Path] = MODELS,
    config_digest: str = DIGEST,
) -> None:
    """Write metrics.csv, comparisons.csv, seeds.csv, errors.csv, hierarchy.csv, runtime.csv, and the tables in the paper's layout, into the summary folder."""
    from mentionforge.report.writers import write_tidy

    write_tidy(results, metrics, comparisons, errors, model, config_digest, wrong)


@app.command("page")
def page(
    results: Path = RESULTS,
    metrics: list[Path] = METRICS,
    comparisons: list[Path] = COMPARISONS,
    errors: list[Path] = ERRORS,
    wrong: list[Path] = WRONG,
    model: list[Path] = MODELS,
    config_digest: str = DIGEST,
    licensed: list[str] = typer.Option([], help="A licensed entry, as kbs/umls; may be repeated."),
    private: bool = typer.Option(False, "--private", help="Keep the texts of licensed entries: the page stays private."),
    concepts: int = typer.Option(400, help="Concepts in the mention browser."),
    out: Path = typer.Option(..., help="HTML file to write."),
) -> None:
    """Write the report page, and its figures as SVG and PDF."""
    from mentionforge.report.page import write_page

    write_page(results, metrics, comparisons, errors, model, config_digest, licensed, private, concepts, out, wrong)


@app.command("sweeps")
def sweeps(
    results: Path = RESULTS,
    config: str = typer.Option(..., help="The merged configuration as JSON, or a file with it."),
    out: Path = typer.Option(..., help="Folder to write to."),
) -> None:
    """Write the sweep summary: every cell with its state, and what each varied setting gives; of unfinished runs too."""
    import json

    from mentionforge.report.sweeps import write_sweeps

    write_sweeps(results, json.loads(config if config.lstrip().startswith("{") else Path(config).read_text(encoding="utf-8")), out)


@app.command("published")
def published(
    results: Path = typer.Option(None, help="Results folder of config/comparison.yaml."),
    scores: Path = typer.Option(Path("docs/comparison.csv"), help="Published scores with their protocols."),
    ours: Path = typer.Option(Path("docs/comparison-ours.yaml"), help="Corpora and cells of that run that stand in the tables."),
    page: Path = typer.Option(Path("docs/comparison.md"), help="Page whose tables are filled."),
) -> None:
    """Fill the tables of published scores and ours under the same protocol."""
    from mentionforge.report.published import write_page

    write_page(scores, page, results, ours)


@app.command("headline")
def headline(results: Path = RESULTS) -> None:
    """Print in a few lines what the main numbers mean, and what to open next."""
    from mentionforge.report.closing import print_closing

    print_closing(results)


@app.command("show")
def show(results: Path = typer.Argument(Path("results"), help="Results folder.")) -> None:
    """Print the summary of a results folder."""
    from mentionforge.report.summary import show as print_summary

    print_summary(results)


@app.command("document")
def document(
    results: Path = typer.Argument(..., help="Results folder."),
    config: list[Path] = typer.Option(..., help="config.yaml, then the overlays of the run, in order."),
    interpretation: Path = typer.Option(None, help="Markdown to put under the title: what the numbers say."),
    out: Path = typer.Option(..., help="Markdown file to write."),
    data: Path = typer.Option(..., help="Folder for all cells, differences, jobs and settings as CSV and JSON, and three figures."),
) -> None:
    """Write a page about a finished run, with its data beside it."""
    from mentionforge.report.document import write_document

    write_document(results, config, interpretation, out, data)


@app.command("rulegraph")
def rulegraph(
    rules: Path = typer.Option(Path("workflow/rules"), help="Folder of the .smk files."),
    page: Path = typer.Option(None, help="Page to put the picture into; none: standard output."),
) -> None:
    """Turn `snakemake --rulegraph mermaid-js` (standard input) into the picture of workflow/README.md."""
    import sys

    from mentionforge.report.rulegraph import flowchart, insert_flowchart

    text = flowchart(sys.stdin.read(), rules)
    if page:
        insert_flowchart(page, text)
    else:
        typer.echo(text)
