"""Versions of the parts of the code: which part makes which result, its version, and whether its code has changed since it was confirmed.

In: the parsed source of modules (never imported), VERSION constants, and versions.json, which holds a confirmed version and digest for each part.
Out: version numbers for spec files, and lists of changed parts for `mentionforge dev`. A kind's file that states VERSION is a part by itself,
FAMILY.FILE; the other parts stand in `VERSIONED_CODE`. Knows nothing of configurations, results or Snakemake.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge.errors import UserError
from mentionforge.sources import digest, imported_path, parsed, read_module, stated_versions

# A part is the smallest unit that reruns when its code is corrected: one command, or what makes results of one command differ (a filter, a schedule,
# a kind of linker). Its version is an integer beside the code, `VERSION = 2` in its first module, or `VERSIONS = {"length": 2}` in a module of
# several parts. Raise it where old results would be wrong: what the part makes, and all that reads it, is made anew (docs/reruns.md).
#
# How a version reaches the jobs: `of_spec` names the part whose version is `stage_version` in an entry's spec file. Every other part has a spec file
# of its own, results/specs/parts/PART.json, which the rules concerned take as an input once the version is above the first one.

PACKAGE = Path(__file__).parent
CONFIRMED = "versions.json"
"""File beside the package's modules that holds what was confirmed."""


@dataclass(frozen=True)
class VersionedCode:
    """A part of the code.

    Attributes:
        code: Modules, definitions of a module (`module.py:name,name`) and other files that make the result; the first one's module holds the version.
            Modules that these import count too, up to those that begin another part.
        first: Version up to which the part has no spec file of its own.
    """

    code: tuple[str, ...]
    first: int = 1


def _schedule(name: str, *definitions: str, teacher: bool = False) -> VersionedCode:
    own, contract = f"recognition/schedules/{name}.py:{','.join(definitions)}", "recognition/schedules/contract.py:ScheduleKind,TrainingPhase"
    return VersionedCode((own, contract, *(["recognition/schedules/with_teacher.py:ScheduleWithTeacher"] if teacher else [])))


def _filter(module: str, *names: str) -> VersionedCode:
    return VersionedCode((f"generation/filters/{module}.py:{','.join(names)}",))


VERSIONED_CODE: dict[str, VersionedCode] = {
    "models": VersionedCode(("models.py", "local_models.py", "wheels.py", "prepared_weights.py", "hub.py", "modelfiles.py")),
    "downloads": VersionedCode(("downloads.py",)),
    "kb.rrf": VersionedCode(("kb/sources/rrf/read.py", "kb/extract.py"), 2),
    "kb.ontologies": VersionedCode(("kb/sources/ontologies/merge.py", "kb/extract.py", "kb/sources/ontologies/__init__.py:OntologyKb,ONTOLOGIES"), 2),
    "kb.rf2": VersionedCode(("kb/sources/rf2/read.py", "kb/extract.py")),
    "kb.parents": VersionedCode(("kb/parents.py", "kb/sources/rrf/parents.py", "kb/sources/ontologies/parents.py", "kb/sources/rf2/parents.py")),
    # One part for reading and building, whatever the format: what a reader gives goes through the same checks, repairs and mapping, which make the tables.
    "corpora.read": VersionedCode(("corpora/build.py",), 3),
    "corpora.leakage": VersionedCode(("corpora/leakage.py",)),
    "corpora.cards": VersionedCode(("corpora/card.py",)),
    "generation.prompts": VersionedCode(("generation/prompts.py", "generation/kinds/few_shot.py"), 2),
    "generation.pairs": VersionedCode(("generation/pairs.py", "generation/prompts.py:asked_about"), 2),
    "generation.finetune": VersionedCode(("generation/finetune.py", "generation/weights.py")),
    "generation.sample": VersionedCode(
        ("generation/sample.py", "generation/weights.py", "generation/backends/__init__.py", "generation/backends/contract.py", "generation/backends/local.py"),
        2,
    ),
    "backend.transformers": VersionedCode(("generation/backends/static.py",)),
    "backend.continuous": VersionedCode(("generation/backends/continuous.py",)),
    "backend.vllm": VersionedCode(("generation/backends/vllm.py", "generation/merging.py")),
    "backend.openai": VersionedCode(("generation/backends/openai.py", "generation/backends/openai_requests.py")),
    "generation.control": VersionedCode(("generation/kinds/control.py",)),
    "generation.replay": VersionedCode(("generation/kinds/replay.py",)),
    "generation.locate": VersionedCode(("generation/locate.py",), 2),
    "generation.filter": VersionedCode(("generation/filtering.py", "generation/filters/__init__.py"), 2),
    "filter.parse": _filter("text", "parse", "Parse", "RESIDUE"),
    "filter.length": _filter("text", "length", "Length"),
    "filter.refusal": _filter("text", "refusal", "Refusal", "REFUSALS"),
    "filter.language": _filter("text", "language", "Language"),
    "filter.repetition": _filter("text", "repetition", "Repetition"),
    "filter.prompt_echo": _filter("text", "prompt_echo", "PromptEcho"),
    "filter.near_duplicate": _filter("copies", "near_duplicate", "NearDuplicate"),
    "filter.leakage": _filter("copies", "leakage", "Leakage", "_shared_ngrams"),
    "filter.memorization": _filter("copies", "memorization", "Memorization", "_shared_ngrams"),
    "filter.contradiction": _filter("concept", "contradiction", "Contradiction", "_longer_name_around"),
    "filter.agreement": _filter("concept", "agreement", "Agreement"),
    "augmentation.choose": VersionedCode(("augmentation/strategies.py",)),
    "recognition.train": VersionedCode(("recognition/training.py",)),
    "recognition.dictionary": VersionedCode(("recognition/kinds/dictionary.py",)),
    "recognition.mentions": VersionedCode(("recognition/mentions.py",)),
    "schedule.real_only": _schedule("real_only", "RealOnly"),
    "schedule.synthetic_only": _schedule("synthetic_only", "SyntheticOnly"),
    "schedule.synthetic_then_real": _schedule("synthetic_then_real", "SyntheticThenReal"),
    "schedule.relabelled_then_real": _schedule("relabelled_then_real", "RelabelledThenReal", "Relabel", teacher=True),
    "schedule.masked_then_real": _schedule("masked_then_real", "MaskedThenReal", "Mask", "near_likely_mentions", teacher=True),
    "schedule.mixed": _schedule("mixed", "MixedSchedule", "Mixed"),
    "normalization.embed": VersionedCode(("normalization/embed.py", "normalization/linkers/encoder.py:EncoderLinker"), 2),
    "normalization.search": VersionedCode(("normalization/search.py", "normalization/linkers/encoder.py:VectorRetriever,PAIRS,_blocks"), 2),
    "normalization.tfidf": VersionedCode(("normalization/linkers/tfidf.py",), 2),
    "normalization.exact": VersionedCode(("normalization/linkers/exact.py",), 2),
    "normalization.link": VersionedCode(("normalization/linking.py", "normalization/predicted.py")),
    "normalization.align": VersionedCode(("normalization/linkers/self_aligned/training.py",), 2),
    "normalization.fuse": VersionedCode(("normalization/linkers/hybrid/fusion.py",), 2),
    "normalization.rerank": VersionedCode(
        ("normalization/linkers/rerank/reranking.py", "normalization/linkers/hybrid/fusion.py:candidate_lists,gold_pairs,tune_weights"), 2
    ),
    "external.rankings": VersionedCode(("external/rankings.py",)),
    "external.spans": VersionedCode(("external/spans.py",)),
    "evaluation.recognition": VersionedCode(("evaluation/recognition.py",)),
    "evaluation.normalization": VersionedCode(("evaluation/normalization.py",)),
    "evaluation.end_to_end": VersionedCode(("evaluation/end_to_end.py",)),
    "statistics.compare": VersionedCode(
        (
            "evaluation/compare.py",
            "evaluation/statistics.py",
            "evaluation/normalization.py:gold_mentions,gold_ranks",
            "evaluation/recognition.py:load_gold,load_predictions",
        )
    ),
    "report.summary": VersionedCode(("report/summary.py", "report/tidy.py")),
    "report.tidy": VersionedCode(("report/tidy.py", "report/writers.py")),
    "report.page": VersionedCode(("report/page.py", "report/tidy.py", "report/page/page.html.jinja", "report/page/page.js", "report/page/page.css")),
    "report.sweeps": VersionedCode(("report/sweeps.py",)),
}
"""Every part, by the name that it has in `mentionforge dev` and in results/specs/parts."""

FAMILIES = {
    "backend": "generation/backends",
    "filter": "generation/filters",
    "generation": "generation/kinds",
    "kb": "kb/sources",
    "normalization": "normalization/linkers",
    "ontology": "kb/sources/ontologies",
    "recognition": "recognition/kinds",
    "schedule": "recognition/schedules",
}
"""Folders in which a kind may be one file, by what the name of its part begins with."""


def _of_kinds() -> dict[str, VersionedCode]:
    """Parts of kinds that need no line above: FAMILY.FILE for a file that states `VERSION` and begins no part yet."""
    begun = {part.code[0].partition(":")[0] for part in VERSIONED_CODE.values()}
    files = [(family, path) for family, folder in FAMILIES.items() for path in sorted((PACKAGE / folder).glob("*.py"))]
    stating = [(family, path) for family, path in files if re.search(r"^VERSION = ", path.read_text(encoding="utf-8"), re.M)]
    parts = {f"{family}.{path.stem}": VersionedCode((path.relative_to(PACKAGE).as_posix(),)) for family, path in stating}
    return {name: part for name, part in parts.items() if name not in VERSIONED_CODE and part.code[0] not in begun}


VERSIONED_CODE |= _of_kinds()

OWN_SPECS = ("evaluation", "statistics", "report")
"""Stages whose parts always have a spec file, `results/specs/STAGE/PART.json`: no entry of the configuration has them."""

MODULES_WITHOUT_RESULTS = frozenset({
    "architectures.py", "cli.py", "config/__init__.py", "config/cells.py", "config/checks.py", "config/experiment.py", "config/external.py", "config/file_schema.py",
    "config/load.py", "config/messages.py", "config/raw.py", "config/schema.py", "config/specs.py", "config/sweeps.py", "config_files.py",
    "corpora/settings.py", "devices.py", "download_settings.py", "encoder_settings.py", "entries.py", "envs.py", "errors.py", "evaluation/settings.py",
    "external/settings.py", "generation/kinds/__init__.py", "generation/kinds/contract.py", "generation/kinds/llm.py", "generation/prompt_settings.py",
    "generation/settings.py",
    "kb/settings.py", "kb/sources/__init__.py", "kb/sources/contract.py", "kb/sources/obo.py", "kb/sources/ontologies/__init__.py", "kb/sources/ontologies/contract.py", "kb/sources/rf2/__init__.py", "kb/sources/rrf/__init__.py", "model_settings.py", "needs.py", "normalization/linkers/__init__.py", "normalization/linkers/external.py", "parquet.py",
    "planning/__init__.py", "planning/cost.py", "planning/estimates.py", "planning/jobs.py", "planning/leftovers.py", "planning/opening.py", "planning/plan.py",
    "planning/reference_devices.py", "planning/starter.py", "planning/status.py", "planning/workload.py", "progress.py", "provenance.py", "ran.py",
    "recognition/kinds/__init__.py", "recognition/kinds/contract.py", "recognition/kinds/external.py", "recognition/kinds/tagger.py",
    "recognition/settings.py", "reference/__init__.py", "reference/commands.py", "reference/configuration.py", "reference/markdown.py", "reference/scores.py",
    "reference/tables.py", "report/closing.py", "sources.py", "specs.py", "strict_yaml.py", "tables.py", "versions.py",
})  # fmt: skip
"""Modules whose code changes no result: settings (specs hold their values), declarations of tables, planning, status and messages."""


# ------------------------------------------------------------------------------------------------------------ versions


@functools.cache
def number(part: str) -> int:
    """The version of a part, read from its module's source.

    Raises:
        KeyError: There is no such part.
        UserError: The module states no version for it.
    """
    module, key = VERSIONED_CODE[part].code[0].partition(":")[0], part.rpartition(".")[2]
    stated = read_module(stated_versions, PACKAGE, module)
    if key not in stated and "" not in stated:
        raise UserError("no version", module, f"part {part} has none", "give it VERSION = 1, or VERSIONS with its name")
    return stated.get(key, stated.get("", 0))


def raised(part: str) -> bool:
    """Whether a part has left its first version behind."""
    return number(part) > VERSIONED_CODE[part].first


def of_spec(section: str, settings: Any, step: str | None) -> str:
    """The part whose version an entry's spec file holds: the first that reads the spec. Raising a later part reruns nothing before it.

    Args:
        section: Section of the configuration.
        settings: The entry.
        step: Of a generator, one of `generation.settings.STEPS`.
    """
    if section in ("models", "downloads"):
        return section
    return str(settings.part_of(step or "prompts") if section == "generators" else settings.part)


# --------------------------------------------------------------------------------------------------------------- code


def code_of(part: str, package: Path = PACKAGE) -> dict[str, str]:
    """Digest of the code of a part, by module: what it names, and what that imports up to the modules that begin another part.

    Args:
        part: Name of the part.
        package: Folder of the package.

    Raises:
        UserError: A definition that the part names is not there.
    """
    begun = {item for one in VERSIONED_CODE.values() for item in _split(one.code)[0]}
    claimed: dict[str, set[str]] = {}
    for one in VERSIONED_CODE.values():
        for module, names in _split(one.code)[1].items():
            if one.code[0].startswith(f"{module}:"):
                claimed.setdefault(module, set()).update(names)
    modules, definitions = _split(VERSIONED_CODE[part].code)
    digests: dict[str, str] = {}
    waiting = sorted(modules)
    while waiting:
        module = waiting.pop()
        if not module.endswith(".py"):
            digests[module] = digest((package / module).read_text(encoding="utf-8"))
            continue
        read = read_module(parsed, package, module)
        left = {name: digest for name, digest in read.named.items() if name not in claimed.get(module, ())}
        digests[module] = digest(json.dumps([sorted(left.items()), read.rest]))
        imported = {imported_path(module, one) for one in read.imports}
        waiting += sorted(path for path in imported - set(digests) - set(waiting) - begun - MODULES_WITHOUT_RESULTS if (package / path).is_file())
    for module, names in definitions.items():
        read = read_module(parsed, package, module)
        if missing := sorted(names - set(read.named)):
            raise UserError("unknown definition", module, f"part {part} names {missing[0]}, which is not there", "correct versions.py")
        if module not in digests:
            digests[module] = digest(json.dumps([[name, read.named[name]] for name in sorted(names)]))
    return dict(sorted(digests.items()))


def _split(code: Iterable[str]) -> tuple[set[str], dict[str, set[str]]]:
    """Whole modules, and the definitions of others."""
    pairs = [item.partition(":") for item in code]
    return {module for module, colon, _ in pairs if not colon}, {module: set(names.split(",")) for module, colon, names in pairs if colon}


# -------------------------------------------------------------------------------------------------------- confirmation


def changed(package: Path = PACKAGE) -> list[str]:
    """Unconfirmed changes, one line for each part: its code has changed, and neither was its version raised nor the change confirmed."""
    kept = _confirmed(package)
    lines = []
    for part in VERSIONED_CODE:
        version, code = kept.get(part, [number_in(part, package), {}])
        now = code_of(part, package)
        modules = [module for module in {**now, **code} if now.get(module) != code.get(module)]
        if modules and number_in(part, package) <= version:
            where = f"{modules[0]}{f' and {len(modules) - 1} more' if len(modules) > 1 else ''}"
            lines.append(
                f"{part}: {where} changed: if its results change, `mentionforge dev raise {part}`; if they stay as they are, `mentionforge dev confirm {part}`"
            )
    return lines


def unrecorded(package: Path = PACKAGE) -> list[str]:
    """Versions that were raised and not written down, one line for each: a later change of the code could hide behind them."""
    kept = _confirmed(package)
    numbers = {part: number_in(part, package) for part in VERSIONED_CODE}
    return [
        f"{part}: version {numbers[part]} is not that of {CONFIRMED}: `mentionforge dev confirm {part}`"
        for part in VERSIONED_CODE
        if part in kept and kept[part][0] != numbers[part]
    ]


def refuse_installed(changes: bool) -> None:
    """Say that the package is a copy beside the checkout, whose code and versions are then not those of people who change the code.

    Args:
        changes: Whether the copy would be changed; else it is only refused if a checkout is at hand that might be meant.

    Raises:
        UserError: It is installed without `-e`.
    """
    installed = {"site-packages", "dist-packages"}.intersection(PACKAGE.parts)
    if installed and (changes or Path("workflow/mentionforge", CONFIRMED).is_file()):
        raise UserError("installed copy", str(PACKAGE), "this is not the code of a checkout", "install the checkout: pip install -e .")


def _confirmed(package: Path) -> dict[str, Any]:
    """Confirmed state: version and digests by module, by part."""
    path = package / CONFIRMED
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(kept, dict):
            raise ValueError("no JSON object")
        for part, entry in kept.items():
            if not (isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is int and isinstance(entry[1], dict)):
                raise ValueError(f"{part} has no version with digests")
    except ValueError as error:
        raise UserError("unreadable file", str(path), f"{error}, as after a merge with conflicts", "run `mentionforge dev confirm --all`") from error
    return kept


def number_in(part: str, package: Path) -> int:
    """The version of a part in the sources of a package, read anew."""
    stated = read_module(stated_versions, package, VERSIONED_CODE[part].code[0].partition(":")[0])
    return stated.get(part.rpartition(".")[2], stated.get("", 0))


def confirm(parts: Iterable[str], package: Path = PACKAGE) -> None:
    """Write down the present code and version of parts.

    Raises:
        UserError: There is no such part.
    """
    parts = list(parts)
    kept = {} if set(parts) >= set(VERSIONED_CODE) else _confirmed(package)  # all at once mends a file that a merge has left with marks of conflicts
    for part in parts:
        if part not in VERSIONED_CODE:
            raise UserError("unknown part", part, "", f"known: {', '.join(VERSIONED_CODE)}")
        kept[part] = [number_in(part, package), code_of(part, package)]
    _write(kept, package)


def _write(kept: Mapping[str, Any], package: Path) -> None:
    path = package / CONFIRMED
    lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(kept[part], sort_keys=True)}" for part in sorted(kept) if part in VERSIONED_CODE)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    os.replace(temporary, path)


def raise_version(part: str, package: Path = PACKAGE) -> int:
    """Raise the version of a part in its source, confirm its code, and return the new version.

    Raises:
        UserError: There is no such part, or its module states no version.
    """
    if part not in VERSIONED_CODE:
        raise UserError("unknown part", part, "", f"known: {', '.join(VERSIONED_CODE)}")
    module, key = VERSIONED_CODE[part].code[0].partition(":")[0], part.rpartition(".")[2]
    path, stated = package / module, read_module(stated_versions, package, module)
    kept, code = _confirmed(package), code_of(part, package)  # before anything is written; a version is not part of the code
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        values = [node.value] if node.targets[0].id == "VERSION" and key not in stated else []
        if node.targets[0].id == "VERSIONS" and isinstance(node.value, ast.Dict):
            values = [v for k, v in zip(node.value.keys, node.value.values, strict=True) if isinstance(k, ast.Constant) and k.value == key]
        for value in values:
            row, new = value.lineno - 1, ast.literal_eval(value) + 1
            lines[row] = f"{lines[row][: value.col_offset]}{new}{lines[row][value.end_col_offset :]}"
            path.write_text("".join(lines), encoding="utf-8")
            _write({**kept, part: [new, code]}, package)
            return int(new)
    raise UserError("no version", str(path), f"part {part} has none", "give it VERSION = 1, or VERSIONS with its name")
