"""The command line: one sub-command per stage, each a thin wrapper of one importable function.

Stages import their heavy libraries inside functions, so that `mentionforge --help` and a dry-run stay fast.
In: arguments of the command line. Out: calls, and exit codes. Knows nothing of what a stage does; stages import heavy libraries inside functions, so that
`mentionforge --help` and a dry-run stay fast.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import typer

from mentionforge import __version__
from mentionforge.errors import UserError

STAGES = ("kb", "corpora", "generation", "augmentation", "recognition", "normalization", "external", "evaluation", "report", "export")
WITHOUT_PANDAS = ("kb", "corpora", "generation", "augmentation", "recognition", "normalization")
PLAIN = ("annotate", "bundle", "serve")
"""Commands without a stage, of the package annotate."""

app = typer.Typer(
    name="mentionforge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Synthetic, normalized disease mentions, and what they buy.",
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


resources = typer.Typer(help="Weights and published files.", no_args_is_help=True)
settings = typer.Typer(help="The configuration.", no_args_is_help=True)
app.add_typer(resources, name="resources")
app.add_typer(settings, name="config")
results = typer.Typer(help="Results folders.", no_args_is_help=True)
app.add_typer(results, name="results")
dev = typer.Typer(help="For those who change the code: versions of its parts.", no_args_is_help=True)
app.add_typer(dev, name="dev")


@resources.command("fetch-model")
def fetch_model(
    name: str,
    settings: str = typer.Option(..., help="JSON of the models entry."),
    out: Path = typer.Option(..., help="Stamp file to write."),
    seen: str = typer.Option("", help="What the workflow saw of the files of a local folder; it runs this anew when that changes."),
) -> None:
    """Fetch the weights of a model and write a stamp that says where they are."""
    from mentionforge import models
    from mentionforge.model_settings import Model

    models.write_stamp(models.fetch(name, Model.model_validate_json(settings), out.parent, seen), out)


@resources.command("fetch")
def fetch_file(
    name: str,
    settings: str = typer.Option(..., help="JSON of the downloads entry."),
    out: Path = typer.Option(..., help="File to write."),
) -> None:
    """Fetch a published file and check its SHA-256."""
    from mentionforge import downloads
    from mentionforge.download_settings import Download

    downloads.fetch(name, Download.model_validate_json(settings), out)


@resources.command("licensed")
def licensed(kind: str, name: str, hint: str = typer.Option(..., help="How to obtain the input.")) -> None:
    """Say how to obtain a licensed input that is not there."""
    raise UserError("missing licensed input", f"config: {kind}.{name}", "its files are not there", hint)


@settings.command("schema")
def schema(
    out: Path = typer.Option(None, help="File to write; none: standard output."),
    file: bool = typer.Option(False, "--file", help="That of one file, which may hold a part and sweeps, for editors."),
) -> None:
    """Write the JSON schema of the configuration."""
    from mentionforge.config import file_schema, json_schema

    text = file_schema() if file else json_schema()
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


@settings.command("envs")
def envs(
    out: Path = typer.Option(None, help="File to write; none: standard output."), vllm: bool = typer.Option(False, "--vllm", help="That of the backend vllm.")
) -> None:
    """Write the conda environment from the pins in pyproject.toml, or that of the backend vllm."""
    from mentionforge.envs import conda_environment, vllm_environment

    text = vllm_environment() if vllm else conda_environment(Path(__file__).parents[2] / "pyproject.toml")
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


@settings.command("check")
def check(files: list[Path] = typer.Argument(..., help="config.yaml, then overlays in order.")) -> None:
    """Validate a configuration and count what it asks for."""
    from mentionforge.config import load_config, normalization_cells, recognition_cells
    from mentionforge.config_files import read

    written = read(files)
    config = load_config(written.data, root=Path.cwd(), positions=written.positions)
    typer.echo(f"valid: {len(recognition_cells(config))} recognition runs, {len(normalization_cells(config))} normalization cells, results in {config.results}")


@results.command("compare")
def compare_results(
    a: str = typer.Argument(..., help="Results folder, or the git revision that its tables carry."),
    b: str = typer.Argument(..., help="The other one."),
    limit: int = typer.Option(30, help="At most this many scores, those that changed most."),
) -> None:
    """Say which cells changed between two results folders, and which settings."""
    from mentionforge.report.difference import compare_results, folder_of

    compare_results(folder_of(a), folder_of(b), limit)


@results.command("watch")
def watch(
    folder: Path = typer.Argument(Path(), help="Folder in which snakemake was started."),
    results: Path = typer.Option(None, help="Results folder; none: results, below that folder."),
    once: bool = typer.Option(False, "--once", help="Show it once, and end."),
) -> None:
    """Show how far the newest run is: jobs done, running and left, what they say of themselves, and the time left."""
    from mentionforge.report.watch import watch as show

    show(folder, results or folder / "results", once)


@dev.command("versions")
def part_versions() -> None:
    """List the parts of the code with their versions; fail where code has changed, and neither was the version raised nor the change confirmed."""
    from mentionforge import versions

    versions.refuse_installed(changes=False)
    for part in versions.VERSIONED_CODE:
        typer.echo(f"{part}: {versions.number(part)}")
    if lines := [*versions.changed(), *versions.unrecorded()]:
        for line in lines:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2)


NAMED_PARTS = typer.Argument(None, help="Parts, as `mentionforge dev versions` lists them.")


@dev.command("confirm")
def confirm(parts: list[str] = NAMED_PARTS, every: bool = typer.Option(False, "--all", help="All parts, as after a merge.")) -> None:
    """Confirm that parts make the results that they made before, although their code has changed; writes versions.json."""
    from mentionforge import versions

    if bool(parts) == every:
        raise UserError("which parts?", "mentionforge dev confirm", "", "name some, or give --all")
    versions.refuse_installed(changes=True)
    versions.confirm(versions.VERSIONED_CODE if every else parts)


@dev.command("raise")
def raise_versions(parts: list[str] = typer.Argument(..., help="Parts, as `mentionforge dev versions` lists them.")) -> None:
    """Raise the version of parts whose earlier results would be wrong: what they make, and all that reads it, is made anew."""
    from mentionforge import versions

    versions.refuse_installed(changes=True)
    for part in parts:
        typer.echo(f"{part}: {versions.raise_version(part)}")


@dev.command("reference")
def write_reference(out: Path = typer.Option(Path("docs/reference"), help="Folder to write.")) -> None:
    """Write the pages of the documentation that follow from the code: configuration, commands, tables, scores."""
    from mentionforge.reference import write

    register(None)
    write(Path.cwd(), app, STAGES, out)


CONFIGFILE = typer.Option([], "--configfile", help="Overlay of config.yaml, as for snakemake; may be repeated.")
SETTING = typer.Option([], "--config", help="KEY=VALUE, as for snakemake; may be repeated.")


def _planned(configfile: list[Path], setting: list[str], targets: list[str]) -> list[str]:
    """Arguments of Snakemake. YAML files after those of --configfile are overlays too, as in Snakemake's `--configfile A B`."""
    if configfile:
        configfile = [*configfile, *(Path(target) for target in targets if Path(target).suffix in (".yaml", ".yml"))]
        targets = [target for target in targets if Path(target).suffix not in (".yaml", ".yml")]
    return [*targets, *(["--configfile", *map(str, configfile)] if configfile else []), *(["--config", *setting] if setting else [])]


@app.command("status")
def status(
    configfile: list[Path] = CONFIGFILE,
    setting: list[str] = SETTING,
    targets: list[str] = typer.Argument(None, help="Files or rules; none: everything."),
    as_json: bool = typer.Option(False, "--json", help="As JSON."),
    device: str = typer.Option(
        None, "--device", help="Reference device of the arithmetic for what has never run; none: A100-80GB, or 2-cores for small models."
    ),
    concepts: int = typer.Option(None, "--concepts", min=1, help="Concepts to write about, for the same; none: as counted or assumed."),
) -> None:
    """Say what of an experiment is done, stale (and why) or missing, its size, and what a run would cost."""
    from mentionforge.config import load_config
    from mentionforge.planning import cost, estimates, reference_devices, workload
    from mentionforge.planning import status as state
    from mentionforge.planning.plan import plan_and_config

    named = reference_devices.device(device) if device else None
    jobs, raw = plan_and_config(_planned(configfile, setting, targets or []))
    config = load_config(raw)
    arithmetic = estimates.Arithmetic(config, workload.sizes(config, concepts=concepts), named or cost.usual_device(config))
    typer.echo(json.dumps(state.as_data(jobs, arithmetic=arithmetic), indent=2) if as_json else state.show(jobs, arithmetic=arithmetic))


@app.command("clean")
def clean(
    stale: bool = typer.Option(False, "--stale", help="Files of the results folder that the configuration no longer asks for."),
    configfile: list[Path] = CONFIGFILE,
    setting: list[str] = SETTING,
    yes: bool = typer.Option(False, "--yes", help="Delete them; else they are only listed."),
) -> None:
    """List, and with --yes delete, results that no present entry of the configuration asks for."""
    from mentionforge.planning import leftovers
    from mentionforge.planning import status as state
    from mentionforge.planning.plan import plan

    if not stale:
        raise UserError("nothing to do", "mentionforge clean", "it has no other use so far", "give --stale")
    leftovers.refuse_while_locked(Path())
    jobs = plan(_planned(configfile, setting, []))
    spec = next(path for job in jobs for path in job.outputs if job.rule == "spec")
    results = Path(spec.rpartition("/specs/")[0])
    files = leftovers.leftovers(jobs, results, Path(".snakemake/metadata"))
    for path in files:
        typer.echo(str(path))
    size = sum(map(leftovers.size_of, files))
    if yes:
        typer.echo(f"{len(files):,} files deleted, {state.human(leftovers.clean(files, results))}")
    else:
        typer.echo(f"{len(files):,} files, {state.human(size)}, that nothing in this configuration asks for; --yes deletes them")


@app.command("init")
def init(
    train: list[Path] = typer.Option([], help="Training documents: a file, or a folder for brat and share. May be repeated, as the next ones."),
    dev: list[Path] = typer.Option([], help="Documents to choose settings by."),
    test: list[Path] = typer.Option([], help="Test documents."),
    documents: list[Path] = typer.Option([], help="All documents, in place of the three: split by document, 70:10:20, with a seed."),
    reader: str = typer.Option(None, help="Format: brat, pubtator, bioc, share, medmentions, conll, jsonl or parquet."),
    kb: str = typer.Option(
        None, help="Knowledge base: the META folder or zip of a UMLS release, an ontology (.obo, .owl, .json), or a table (.csv, .tsv, .jsonl)."
    ),
    id_prefix: str = typer.Option(None, help="Vocabulary of ids without a prefix: MSH (the default of most formats), OMIM or CUI."),
    llm: str = typer.Option(None, help="Language model to fine-tune: a folder, or its name on the hub. None: the controls without a model."),
    encoder: str = typer.Option(None, help="Encoder for linking and recognition: the same. None: the small one of the demo."),
    results: str = typer.Option("results/mine", help="Folder of the results."),
    out: Path = typer.Option(Path("my.yaml"), help="File to write."),
    force: bool = typer.Option(False, "--force", help="Replace the file."),
) -> None:
    """Write a first configuration for your own corpus and knowledge base, and say what it would run. Asks what no flag says, on a terminal."""
    from mentionforge.planning import starter

    if out.exists() and not force:
        raise UserError("file exists", str(out), "", "give another --out, or --force")
    answers = {"--reader": reader, "--kb": kb, "--train or --documents": train or documents, "--test": test or documents}
    missing = [flag for flag, value in answers.items() if not value]
    if missing and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("missing answers", "mentionforge init", f"no {', no '.join(missing)}, and no terminal to ask on", "give these flags")
    if missing:
        reader = reader or typer.prompt("Format (brat, pubtator, bioc, share, medmentions, conll, jsonl, parquet)")
        if not (train or documents):
            documents = [Path(typer.prompt("Documents: a file, or a folder for brat and share. All of them, or those of training"))]
            if not test and (answer := typer.prompt("Test documents; empty: split the former by document", default="", show_default=False)):
                train, documents, test = documents, [], [Path(answer)]
        elif not (test or documents):
            test = [Path(typer.prompt("Test documents"))]
        kb = kb or typer.prompt("Knowledge base: META folder or zip of a UMLS release, an ontology (.obo, .owl, .json), or a table (.csv)")
        id_prefix = id_prefix or typer.prompt(
            "Vocabulary of ids without a prefix: MSH, OMIM, CUI; empty: as usual in the format", default="", show_default=False
        )
        llm = llm or typer.prompt("Language model to fine-tune: folder, or name on the hub; empty: none", default="", show_default=False)
        encoder = encoder or typer.prompt("Encoder: folder, or name on the hub; empty: the small one of the demo", default="", show_default=False)
    if documents and (train or dev or test):
        raise UserError("two kinds of splits", "mentionforge init", "--documents are split with a seed, the others are split already", "give one of them")
    splits = {"all": documents} if documents else {"train": train, "dev": dev, "test": test}
    paths = {split: [str(path) for path in files] for split, files in splits.items()}
    data = starter.overlay(starter.Answers(reader, kb, paths, id_prefix or None, llm or None, encoder or None, results))
    starter.validate(data, Path.cwd())
    out.write_text(starter.text(data, out), encoding="utf-8")
    jobs = starter.planned(out, Path.cwd())
    stages = starter.by_stage(jobs, results)
    typer.echo(f"{out} is valid. It would run {sum(stages.values()):,} jobs:")
    for stage, number in stages.items():
        typer.echo(f"{number:7,}  {stage}")
    typer.echo(f"Next: snakemake --configfile {out}    (what it costs: mentionforge status --configfile {out})")


def register(command: str | None) -> None:
    """Add the commands of the stage that is called; all of them if none is, as for `--help`.

    Args:
        command: First word of the command line that is no option, if any.
    """
    plain_commands = ("resources", "config", "results", "dev", "status", "clean", "init")
    if command in PLAIN or command not in (*STAGES, *plain_commands):
        app.registered_commands += importlib.import_module("mentionforge.annotate.commands").app.registered_commands
    for stage in (command,) if command in STAGES else STAGES if command not in (*plain_commands, *PLAIN) else ():
        app.add_typer(importlib.import_module(f"mentionforge.{stage}.commands").app, name=stage)


def main() -> None:
    """Entry point. A `UserError`, and an error of a path, become one line on standard error and exit code 2, without a traceback."""
    command = next((a for a in sys.argv[1:] if not a.startswith("-")), None)
    register(command)
    if command in WITHOUT_PANDAS and len(sys.argv) > 3:
        importlib.import_module("mentionforge.parquet").leave_pandas_out()
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except OSError as error:  # a path on the command line that is a folder, is in none, or may not be written
        if error.filename is None:
            raise
        typer.echo(f"error: {UserError('unusable path', str(error.filename), error.strerror or type(error).__name__, 'correct it')}", err=True)
        raise SystemExit(2) from None
    except SystemExit as end:
        if not end.code and command in STAGES:
            _record(sys.argv[1:])
        raise


def _record(arguments: list[str]) -> None:
    """Write device, model size and settings to the log of a job; estimates of run times need them."""
    from mentionforge import ran
    from mentionforge.progress import say

    if {"--spec", "--model"}.intersection(arguments) and os.environ.get("RANK", "0") == "0":
        say(ran.line(arguments))


if __name__ == "__main__":
    main()
