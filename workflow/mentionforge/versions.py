"""Versions of the parts of the code: which part makes which result, its version, and whether its code has changed since it was confirmed.

In: the parsed source of modules (never imported), VERSION constants, and versions.json, which holds a confirmed version and digest for each part.
Out: version numbers for spec files, and lists of changed parts for `mentionforge dev`. A kind's file that states VERSION is a part by itself,
FAMILY.FILE; the other parts stand in `PARTS`. Knows nothing of configurations, results or Snakemake.
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
class Part:
    """A part of the code.

    Attributes:
        code: Modules, definitions of a module (`module.py:name,name`) and other files that make the result; the first one's module holds the version.
            Modules that these import count too, up to those that begin another part.
        first: Version up to which the part has no spec file of its own.
    """

    code: tuple[str, ...]
    first: int = 1


def _schedule(name: str, *definitions: str, teacher: bool = False) -> Part:
    own, contract = f"recognition/schedules/{name}.py:{','.join(definitions)}", "recognition/schedules/contract.py:ScheduleKind,TrainingPhase"
    return Part((own, contract, *(["recognition/schedules/with_teacher.py:ScheduleWithTeacher"] if teacher else [])))


def _filter(module: str, *names: str) -> Part:
    return Part((f"generation/filters/{module}.py:{','.join(names)}",))


PARTS: dict[str, Part] = {
    "models": Part(("models.py", "local_models.py", "wheels.py", "prepared_weights.py", "hub.py", "modelfiles.py")),
    "downloads": Part(("downloads.py",)),
    "kb.rrf": Part(("kb/sources/rrf/read.py", "kb/extract.py"), 2),
    "kb.ontologies": Part(("kb/sources/ontologies/merge.py", "kb/extract.py"), 2),
    "kb.parents": Part(("kb/parents.py", "kb/sources/rrf/parents.py", "kb/sources/ontologies/parents.py")),
    # One part for reading and building, whatever the format: what a reader gives goes through the same checks, repairs and mapping, which make the tables.
    "corpora.read": Part(("corpora/build.py",), 3),
    "corpora.leakage": Part(("corpora/leakage.py",)),
    "corpora.cards": Part(("corpora/card.py",)),
    "generation.prompts": Part(("generation/prompts.py",), 2),
    "generation.pairs": Part(("generation/pairs.py", "generation/prompts.py:instruction,NAMES_SHOWN"), 2),
    "generation.finetune": Part(("generation/finetune.py", "generation/weights.py")),
    "generation.sample": Part(
        ("generation/sample.py", "generation/weights.py", "generation/backends/__init__.py", "generation/backends/contract.py", "generation/backends/local.py"),
        2,
    ),
    "backend.transformers": Part(("generation/backends/static.py",)),
    "backend.continuous": Part(("generation/backends/continuous.py",)),
    "backend.vllm": Part(("generation/backends/vllm.py", "generation/merging.py")),
    "backend.openai": Part(("generation/backends/openai.py", "generation/backends/openai_requests.py")),
    "generation.control": Part(("generation/kinds/control.py",)),
    "generation.replay": Part(("generation/kinds/replay.py",)),
    "generation.locate": Part(("generation/locate.py",), 2),
    "generation.filter": Part(("generation/filtering.py", "generation/filters/__init__.py"), 2),
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
    "augmentation.choose": Part(("augmentation/strategies.py",)),
    "recognition.train": Part(("recognition/training.py",)),
    "recognition.dictionary": Part(("recognition/kinds/dictionary.py",)),
    "recognition.found": Part(("recognition/mentions.py",)),
    "schedule.real_only": _schedule("real_only", "RealOnly"),
    "schedule.synthetic_only": _schedule("synthetic_only", "SyntheticOnly"),
    "schedule.synthetic_then_real": _schedule("synthetic_then_real", "SyntheticThenReal"),
    "schedule.relabelled_then_real": _schedule("relabelled_then_real", "RelabelledThenReal", "Relabel", teacher=True),
    "schedule.masked_then_real": _schedule("masked_then_real", "MaskedThenReal", "Mask", "near_likely_mentions", teacher=True),
    "schedule.mixed": _schedule("mixed", "MixedSchedule", "Mixed"),
    "normalization.embed": Part(("normalization/embed.py", "normalization/linkers/encoder.py:EncoderLinker"), 2),
    "normalization.search": Part(("normalization/search.py", "normalization/linkers/encoder.py:VectorRetriever,PAIRS,_blocks"), 2),
    "normalization.tfidf": Part(("normalization/linkers/tfidf.py",), 2),
    "normalization.exact": Part(("normalization/linkers/exact.py",), 2),
    "normalization.link": Part(("normalization/linking.py", "normalization/predicted.py")),
    "normalization.align": Part(("normalization/linkers/self_aligned/training.py",), 2),
    "normalization.fuse": Part(("normalization/linkers/hybrid/fusion.py",), 2),
    "normalization.rerank": Part(
        ("normalization/linkers/rerank/reranking.py", "normalization/linkers/hybrid/fusion.py:candidate_lists,gold_pairs,tune_weights"), 2
    ),
    "external.rankings": Part(("external/rankings.py",)),
    "external.spans": Part(("external/spans.py",)),
    "evaluation.recognition": Part(("evaluation/recognition.py",)),
    "evaluation.normalization": Part(("evaluation/normalization.py",)),
    "evaluation.end_to_end": Part(("evaluation/end_to_end.py",)),
    "statistics.compare": Part(
        (
            "evaluation/compare.py",
            "evaluation/statistics.py",
            "evaluation/normalization.py:gold_mentions,gold_ranks",
            "evaluation/recognition.py:load_gold,load_predictions",
        )
    ),
    "report.summary": Part(("report/summary.py", "report/tidy.py")),
    "report.tidy": Part(("report/tidy.py", "report/writers.py")),
    "report.page": Part(("report/page.py", "report/tidy.py", "report/page/page.html.jinja", "report/page/page.js", "report/page/page.css")),
    "report.sweeps": Part(("report/sweeps.py",)),
}
"""Every part, by the name that it has in `mentionforge dev` and in results/specs/parts."""

FAMILIES = {
    "backend": "generation/backends",
    "filter": "generation/filters",
    "generation": "generation/kinds",
    "kb": "kb/sources",
    "normalization": "normalization/linkers",
    "recognition": "recognition/kinds",
    "schedule": "recognition/schedules",
}
"""Folders in which a kind may be one file, by what the name of its part begins with."""


def _of_kinds() -> dict[str, Part]:
    """Parts of kinds that need no line above: FAMILY.FILE for a file that states `VERSION` and begins no part yet."""
    begun = {part.code[0].partition(":")[0] for part in PARTS.values()}
    files = [(family, path) for family, folder in FAMILIES.items() for path in sorted((PACKAGE / folder).glob("*.py"))]
    stating = [(family, path) for family, path in files if re.search(r"^VERSION = ", path.read_text(encoding="utf-8"), re.M)]
    parts = {f"{family}.{path.stem}": Part((path.relative_to(PACKAGE).as_posix(),)) for family, path in stating}
    return {name: part for name, part in parts.items() if name not in PARTS and part.code[0] not in begun}


PARTS |= _of_kinds()

OWN_SPECS = ("evaluation", "statistics", "report")
"""Stages whose parts always have a spec file, `results/specs/STAGE/PART.json`: no entry of the configuration has them."""

MODULES_WITHOUT_RESULTS = frozenset({
    "architectures.py", "cli.py", "config/__init__.py", "config/cells.py", "config/checks.py", "config/experiment.py", "config/external.py", "config/file_schema.py",
    "config/load.py", "config/messages.py", "config/raw.py", "config/schema.py", "config/specs.py", "config/sweeps.py", "config_files.py",
    "corpora/settings.py", "devices.py", "download_settings.py", "encoder_settings.py", "entries.py", "envs.py", "errors.py", "evaluation/settings.py",
    "external/settings.py", "generation/kinds/__init__.py", "generation/kinds/contract.py", "generation/kinds/llm.py", "generation/settings.py",
    "kb/settings.py", "kb/sources/__init__.py", "kb/sources/contract.py", "kb/sources/ontologies/__init__.py", "kb/sources/rrf/__init__.py", "model_settings.py", "needs.py", "normalization/linkers/__init__.py", "normalization/linkers/external.py", "parquet.py",
    "planning/__init__.py", "planning/cost.py", "planning/estimates.py", "planning/jobs.py", "planning/leftovers.py", "planning/opening.py", "planning/plan.py",
    "planning/reference_devices.py", "planning/starter.py", "planning/status.py", "planning/workload.py", "progress.py", "provenance.py", "ran.py",
    "recognition/kinds/__init__.py", "recognition/kinds/contract.py", "recognition/kinds/external.py", "recognition/kinds/tagger.py",
    "recognition/settings.py", "report/closing.py", "sources.py", "specs.py", "strict_yaml.py", "tables.py", "versions.py",
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
    module, key = PARTS[part].code[0].partition(":")[0], part.rpartition(".")[2]
    found = read_module(stated_versions, PACKAGE, module)
    if key not in found and "" not in found:
        raise UserError("no version", module, f"part {part} has none", "give it VERSION = 1, or VERSIONS with its name")
    return found.get(key, found.get("", 0))


def raised(part: str) -> bool:
    """Whether a part has left its first version behind."""
    return number(part) > PARTS[part].first


def of_spec(kind: str, settings: Any, part: str | None) -> str:
    """The part whose version an entry's spec file holds: the first that reads the spec. Raising a later part reruns nothing before it.

    Args:
        kind: Section of the configuration.
        settings: The entry.
        part: Of a generator's settings.
    """
    if kind in ("models", "downloads"):
        return kind
    return str(settings.part_of(part or "prompts") if kind == "generators" else settings.part)


# --------------------------------------------------------------------------------------------------------------- code


def code_of(part: str, package: Path = PACKAGE) -> dict[str, str]:
    """Digest of the code of a part, by module: what it names, and what that imports up to the modules that begin another part.

    Args:
        part: Name of the part.
        package: Folder of the package.

    Raises:
        UserError: A definition that the part names is not there.
    """
    begun = {item for one in PARTS.values() for item in _split(one.code)[0]}
    claimed: dict[str, set[str]] = {}
    for one in PARTS.values():
        for module, names in _split(one.code)[1].items():
            if one.code[0].startswith(f"{module}:"):
                claimed.setdefault(module, set()).update(names)
    whole, some = _split(PARTS[part].code)
    found: dict[str, str] = {}
    waiting = sorted(whole)
    while waiting:
        module = waiting.pop()
        if not module.endswith(".py"):
            found[module] = digest((package / module).read_text(encoding="utf-8"))
            continue
        read = read_module(parsed, package, module)
        left = {name: digest for name, digest in read.named.items() if name not in claimed.get(module, ())}
        found[module] = digest(json.dumps([sorted(left.items()), read.rest]))
        imported = {imported_path(module, one) for one in read.imports}
        waiting += sorted(path for path in imported - set(found) - set(waiting) - begun - MODULES_WITHOUT_RESULTS if (package / path).is_file())
    for module, names in some.items():
        read = read_module(parsed, package, module)
        if missing := sorted(names - set(read.named)):
            raise UserError("unknown definition", module, f"part {part} names {missing[0]}, which is not there", "correct versions.py")
        if module not in found:
            found[module] = digest(json.dumps([[name, read.named[name]] for name in sorted(names)]))
    return dict(sorted(found.items()))


def _split(code: Iterable[str]) -> tuple[set[str], dict[str, set[str]]]:
    """Whole modules, and the definitions of others."""
    pairs = [item.partition(":") for item in code]
    return {module for module, colon, _ in pairs if not colon}, {module: set(names.split(",")) for module, colon, names in pairs if colon}


# -------------------------------------------------------------------------------------------------------- confirmation


def changed(package: Path = PACKAGE) -> list[str]:
    """What is not confirmed, one line for each part: its code has changed, and neither was its version raised nor the change confirmed."""
    kept = _confirmed(package)
    lines = []
    for part in PARTS:
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
    numbers = {part: number_in(part, package) for part in PARTS}
    return [
        f"{part}: version {numbers[part]} is not that of {CONFIRMED}: `mentionforge dev confirm {part}`"
        for part in PARTS
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
    """What was confirmed: version and digests by module, by part."""
    path = package / CONFIRMED
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(kept, dict):
            raise ValueError("no JSON object")
        for part, said in kept.items():
            if not (isinstance(said, list) and len(said) == 2 and type(said[0]) is int and isinstance(said[1], dict)):
                raise ValueError(f"{part} has no version with digests")
    except ValueError as error:
        raise UserError("unreadable file", str(path), f"{error}, as after a merge with conflicts", "run `mentionforge dev confirm --all`") from error
    return kept


def number_in(part: str, package: Path) -> int:
    """The version of a part in the sources of a package, read anew."""
    found = read_module(stated_versions, package, PARTS[part].code[0].partition(":")[0])
    return found.get(part.rpartition(".")[2], found.get("", 0))


def confirm(parts: Iterable[str], package: Path = PACKAGE) -> None:
    """Write down the present code and version of parts.

    Raises:
        UserError: There is no such part.
    """
    parts = list(parts)
    kept = {} if set(parts) >= set(PARTS) else _confirmed(package)  # all at once mends a file that a merge has left with marks of conflicts
    for part in parts:
        if part not in PARTS:
            raise UserError("unknown part", part, "", f"known: {', '.join(PARTS)}")
        kept[part] = [number_in(part, package), code_of(part, package)]
    _write(kept, package)


def _write(kept: Mapping[str, Any], package: Path) -> None:
    path = package / CONFIRMED
    lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(kept[part], sort_keys=True)}" for part in sorted(kept) if part in PARTS)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    os.replace(temporary, path)


def raise_version(part: str, package: Path = PACKAGE) -> int:
    """Raise the version of a part in its source, confirm its code, and return the new version.

    Raises:
        UserError: There is no such part, or its module states no version.
    """
    if part not in PARTS:
        raise UserError("unknown part", part, "", f"known: {', '.join(PARTS)}")
    module, key = PARTS[part].code[0].partition(":")[0], part.rpartition(".")[2]
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
