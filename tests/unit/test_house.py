"""The order of the house: small files, no circles, no import from a higher floor, light settings, rules that do not know each other."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from checkout import ROOT

PACKAGE = ROOT / "workflow" / "mentionforge"
RULES = ROOT / "workflow" / "rules"

STAGES = ("kb", "corpora", "generation", "augmentation", "recognition", "normalization", "evaluation")
FLOORS = dict.fromkeys(STAGES, 1) | {"external": 2, "annotate": 2, "export": 2, "config": 3, "report": 4, "dag": 4, "planning": 4, "cli": 5, "reference": 5}
"""Rooms by floor; what is named nowhere stands on the ground floor."""

LIGHT = re.compile(r"\.(settings|contract)$")
"""Modules of settings and contracts, which every floor may read."""

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "numpy", "duckdb", "faiss", "sklearn", "datasets", "peft", "trl")


def name_of(path: Path) -> str:
    return ".".join(("mentionforge", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(nodes: Iterable[ast.AST], lazily: bool) -> Iterator[str]:
    """Modules of the package that code imports when it is loaded; `lazily`: in functions as well. Imports for type checkers are left out."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mentionforge"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from imported(node.orelse, lazily)
        elif lazily or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(ast.iter_child_nodes(node), lazily)


def imports(module: str, lazily: bool = True) -> set[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return {other for other in imported(tree.body, lazily) if other in MODULES and other != module}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_files_are_small() -> None:
    long = {str(path.relative_to(ROOT)): n for path in PACKAGE.rglob("*.py") if (n := len(path.read_text(encoding="utf-8").splitlines())) > 420}
    long |= {path.name: n for path in RULES.glob("*.smk") if (n := len(path.read_text(encoding="utf-8").splitlines())) > 250}
    long |= {path.name: n for path in (PACKAGE / "config").glob("*.py") if (n := len(path.read_text(encoding="utf-8").splitlines())) > 300}
    assert not long
    assert len((RULES / "common.smk").read_text(encoding="utf-8").splitlines()) <= 200


def test_no_import_goes_in_a_circle() -> None:
    """When modules are loaded; a function may import what imports its module."""
    graph = {module: imports(module, lazily=False) for module in MODULES}
    while leaves := [module for module, others in graph.items() if not others]:
        for module in leaves:
            del graph[module]
        for others in graph.values():
            others.difference_update(leaves)
    assert not graph, f"circles, or what imports them: {sorted(graph)}"


def test_no_import_goes_to_a_higher_floor_or_to_another_stage() -> None:
    wrong = set()
    for module in MODULES:
        here = room(module)
        for other in imports(module):
            there = room(other)
            if LIGHT.search(other) or here == there or not there:
                continue
            up = FLOORS.get(there, 0) > FLOORS.get(here, 0)
            across = here in STAGES and there in STAGES
            if up or across:
                wrong.add(f"{module} imports {other}")
    assert not wrong


@pytest.mark.parametrize("module", ["mentionforge.cli", "mentionforge.config"])
def test_settings_load_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rules_files_do_not_know_each_other() -> None:
    """What a rules file defines, or the rules in it, is named in no other; common.smk is there for all."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in RULES.glob("*.smk")}
    defined = {
        name: {*re.findall(r"^(?:def|rule|checkpoint) (\w+)", text, flags=re.M), *re.findall(r"^([A-Z][A-Z_]+) = ", text, flags=re.M)}
        for name, text in texts.items()
        if name not in ("common.smk", "needs.smk")
    }
    for name, words in defined.items():
        for other, text in texts.items():
            code = re.sub(r'"""(?:.|\n)*?"""|#.*', "", text)
            if other != name:
                known = {word for word in words if re.search(rf"\b(?:rules\.|checkpoints\.){word}\b", code)}
                known |= {word for word in words if word.isupper() and re.search(rf"\b{word}\b", code)}
                assert not known, f"{other} names {sorted(known)} of {name}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [module for module, path in MODULES.items() if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_no_two_classes_have_one_name() -> None:
    names = [node.name for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)]
    assert not {name for name in names if names.count(name) > 1 and not name.startswith("_")}


def test_docstrings_of_modules_are_contracts_of_five_lines() -> None:
    """What explains an idea stands before the code, as a comment."""
    docs = {module: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for module, path in MODULES.items()}
    assert not {module: len(lines) for module, text in docs.items() if len(lines := [line for line in text.splitlines() if line.strip()]) > 5}


def test_docstrings_of_modules_say_what_comes_in_what_goes_out_and_what_they_do_not_know() -> None:
    docs = {module: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for module, path in MODULES.items()}
    wanted = (r"\bIn( \(\w+\))?: ", r"\bOut: ", r"\b([Kk]nows?|Independent) ")
    assert not {module: missing for module, text in docs.items() if (missing := [words for words in wanted if not re.search(words, text)])}


VAGUE = {"found", "given", "parts", "thing", "things", "telling", "stuff", "some", "what"}
"""Names that say nothing to a reader who searches for a term of the field."""

PARTS_OF_CODE = {"cli", "versions", "dag.shared", "planning.status"}
"""Modules that speak of parts of the code or of a cost, and of nothing else that is called so."""


def test_names_are_terms_of_the_field() -> None:
    """Of classes, functions, constants, arguments and variables. `what` is that of an error or of a progress line."""
    vague: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "arg", None) or getattr(node, "name", None)
            name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else name
            if isinstance(node, ast.keyword | ast.alias) or not isinstance(name, str) or name.lower() not in VAGUE:
                continue
            if name == "what" and room(module) in ("errors", "progress", "strict_yaml"):
                continue
            if name != "parts" or module.removeprefix("mentionforge.") not in PARTS_OF_CODE:
                vague.setdefault(module, set()).add(name)
    assert not vague
    constants = [name for path in PACKAGE.rglob("*.py") for name in re.findall(r"^(PARTS|KINDS|FOUND)\b", path.read_text(encoding="utf-8"), flags=re.M)]
    assert not constants
