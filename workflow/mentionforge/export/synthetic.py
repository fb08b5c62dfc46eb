"""Export synthetic notes as a data set of their own, in one of `layouts.LAYOUTS`.

In: located.parquet, mentions.parquet, notes.parquet and funnel.json of a generator, and its settings. Out: a folder with the notes, README.md (a card
on contents, origin and licences), and SHA256SUMS. Equal results give equal bytes. Knows nothing of layouts and of how notes are generated.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mentionforge import tables
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.export.hub import check_card, check_licence
from mentionforge.export.layouts import BY_NAME, HubFolder, Note, NotesLayout
from mentionforge.generation import markers
from mentionforge.generation.kinds import BY_KIND
from mentionforge.generation.kinds.contract import GeneratorSettings
from mentionforge.layout import Resources, generated_in
from mentionforge.progress import say
from mentionforge.provenance import sha256_file
from mentionforge.specs import read_spec, specs_below


def export(folder: Path, layout: str, out: Path, specs: Path | None = None, licence: str = "other", licensed_text: bool = False) -> None:
    """Write the notes of a generator, a card and checksums.

    Args:
        folder: results/generation/GENERATOR.
        layout: Name of one of `LAYOUTS`.
        out: Folder to write.
        specs: Folder of the generator's settings; none: results/specs/generators/GENERATOR.
        licence: Licence of the notes, by its id on the hub.
        licensed_text: Allow notes that repeat the text of a licensed corpus.

    Raises:
        UserError: Results are missing or unreadable, `out` is not empty, the licence is no id, or notes repeat licensed text without permission.
    """
    check_licence(licence)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("folder not empty", str(out), "files of two exports would mix", "name another folder")
    paths, generator = generated_in(folder.resolve())
    specs = specs or Path(paths.specs(f"generators/{generator}"))
    settings = _settings(specs)
    corpus = repeated_corpus(settings)
    if corpus and not licensed_text and _licensed(specs.parent.parent / "corpora" / f"{corpus}.json"):
        raise UserError(
            "licensed text",
            str(out),
            f"notes would be sentences of the corpus {corpus}, which is not open",
            "add --licensed-text if they stay where you may have them",
        )
    note_list = notes(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        losses = BY_NAME[layout].write(note_list, temporary)
        (temporary / "README.md").write_text(card(folder, BY_NAME[layout], note_list, settings, losses, licence), encoding="utf-8")
        if BY_NAME[layout].on_hub:
            check_card(temporary / "README.md", "dataset")
        checksums(temporary)
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(
        f"{len(note_list):,} notes with {sum(len(n['mentions']) for n in note_list):,} mentions written to {out}"
        + "".join(f"; {kind}: {n:,}" for kind, n in losses.items())
    )


def notes(folder: Path) -> list[Note]:
    """The notes that passed location and filters, sorted by id, with their mentions and the tagged text.

    Raises:
        UserError: A table is missing, or the text at the span of a mention is not its surface.
    """
    mentions_of: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in tables.read(tables.SYNTHETIC_MENTIONS, folder / "mentions.parquet").to_pylist():
        mentions_of[row.pop("note_id")].append(row)
    note_rows = {row["note_id"]: row for row in tables.read(tables.NOTES, folder / "notes.parquet").to_pylist()}
    result: list[Note] = []
    for row in tables.read(tables.LOCATED, folder / "located.parquet").to_pylist():
        mentions = mentions_of.pop(row["note_id"], [])
        for mention in mentions:
            if row["text"][mention["start"] : mention["end"]] != mention["surface"]:
                raise UserError("misplaced mention", str(folder), row["note_id"], "the tables are of two runs; rerun the workflow")
        tagged = markers.wrap(row["text"], [(m["start"], m["end"]) for m in mentions if m["match"] != tables.GOLD])
        generation_fields = {key: note_rows[row["note_id"]][key] for key in ("finish_reason", "seed")}
        result.append({"note_id": row["note_id"], "cui": row["cui"], "text": row["text"], "matched_output": tagged, "mentions": mentions, **generation_fields})
    if mentions_of:
        raise UserError("mentions of no note", str(folder), min(mentions_of), "the tables are of two runs; rerun the workflow")
    return result


def repeated_corpus(settings: Mapping[str, Any]) -> str | None:
    """The corpus whose text a generator's notes repeat word by word, if there is one."""
    return str(settings["corpus"]) if settings and BY_KIND[settings["kind"]].repeats_corpus else None


def _licensed(spec: Path) -> bool:
    """Whether a corpus is licensed, by its spec file; a corpus without one counts as licensed."""
    if not spec.is_file():
        return True
    corpus: Corpus = read_spec(spec, Corpus)
    return bool(corpus.licensed) or not all(map(Resources("resources").is_public, corpus.paths().values()))


def checksums(folder: Path) -> None:
    """Write SHA256SUMS of all files of a folder, for `sha256sum --check`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------------- the card


def _settings(specs: Path) -> dict[str, Any]:
    """All settings of the generator, merged from its specs, without paths and addresses of servers."""
    settings: dict[str, Any] = {}
    for _, spec in specs_below(specs):
        settings |= spec["settings"]
    settings.pop("path", None)  # paths of the machine are not published
    for part in ("concepts", "backend"):
        if part in settings:
            settings[part] = {key: value for key, value in settings[part].items() if key not in ("cuis", "base_url", "api_key_env")}
    return settings


def card(folder: Path, layout: NotesLayout, note_list: Sequence[Note], settings: Mapping[str, Any], losses: Mapping[str, int], licence: str = "other") -> str:
    """The text of README.md: YAML metadata for Hugging Face, then the card."""
    stamp = tables.provenance(folder / "located.parquet")
    funnel = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    name = folder.resolve().name
    mentions = sum(len(note["mentions"]) for note in note_list)
    if isinstance(layout, HubFolder):
        head = ["---", *layout.hub_metadata(len(note_list), licence)]
    else:
        head = ["---", f"license: {licence}", "language: en", "task_categories: [token-classification]"]
        head.append("tags: [synthetic, biomedical, entity-linking, umls]")
    head += [*layout.metadata, f"pretty_name: Synthetic disease mentions by {name}", "---", ""]
    lines = [
        *head,
        f"# Synthetic disease mentions by `{name}`",
        "",
        (BY_KIND[settings["kind"]] if settings else GeneratorSettings).about(settings),
        "",
        "| | |",
        "|---|---|",
        f"| notes | {len(note_list):,} of {funnel['generated']:,} written |",
        f"| mentions | {mentions:,}, of {len({n['cui'] for n in note_list}):,} concepts |",
        f"| located by | {', '.join(f'{match} {n:,}' for match, n in funnel['mentions_by_match'].items())} |",
        f"| no name of the concept | {100 * funnel['unlisted_surface_share']:.1f} % of the mentions |",
        f"| made with | mentionforge {stamp['mentionforge']}, revision {stamp['git_revision']} |",
        "",
        *_columns(layout, losses),
        "## How they were made",
        "",
        *_making(settings, _base(folder)),
        "",
        "## Filters",
        "",
        *_filters(folder / "filters.csv"),
        "",
        "## Licence",
        "",
        "Before you pass these notes on, make sure that you may. They were made from:",
        *_sources(settings, _base(folder)),
        "",
        f"{'Set `license` above to what results. ' if licence == 'other' else ''}Settings in full:",
        "",
        "```json",
        json.dumps(settings, indent=1, sort_keys=True),
        "```",
        "",
    ]
    return "\n".join(lines)


def _columns(layout: NotesLayout, losses: Mapping[str, int]) -> list[str]:
    loss_lines = [f"What the format could not hold: {', '.join(f'{kind} ({n:,})' for kind, n in sorted(losses.items()))}.", ""] if losses else []
    return [layout.description, "", *loss_lines, "`SHA256SUMS` is checked with `sha256sum --check SHA256SUMS`.", ""]


def _base(folder: Path) -> str:
    """The public name of the adapter's base model; empty without an adapter."""
    path = folder / "adapter" / "adapter_config.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]) if path.is_file() else ""


def _making(settings: Mapping[str, Any], base: str) -> list[str]:
    return BY_KIND[settings["kind"]].how_made(settings, base) if settings else ["The settings were not at hand when this was exported."]


def _filters(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as source:
        ran = list(csv.DictReader(source))
    if not ran:
        return ["None."]
    return ["| filter | in | out |", "|---|---|---|", *(f"| `{row['filter']}` | {int(row['in']):,} | {int(row['out']):,} |" for row in ran)]


def _sources(settings: Mapping[str, Any], base: str) -> list[str]:
    kb = f"- the knowledge base `{settings.get('kb', '?')}`: prompts hold its names and definitions, and notes may repeat them (UMLS: a licence of its own)"
    return [kb, *(BY_KIND[settings["kind"]].licences(settings, base) if settings else ())]
