"""Analysis of a module's source without importing it: stated versions, digests of definitions, and imported modules.

In: the package's folder and a module's path in it. Out: versions, and digests that do not depend on docstrings, comments, annotations and the version
of Python. Knows nothing of parts and confirmations.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mentionforge.errors import UserError

T = TypeVar("T")


def read_module(parse: Callable[[bytes], T], package: Path, module: str) -> T:
    """Apply `parse` to the source of a module of the package.

    Raises:
        UserError: The module does not exist, or cannot be parsed.
    """
    try:
        return parse((package / module).read_bytes())
    except FileNotFoundError:
        raise UserError("missing module", module, "a part names it, and it is not there", "correct versions.VERSIONED_CODE") from None
    except SyntaxError as error:
        raise UserError("broken code", f"{module}:{error.lineno or 1}", error.msg, "correct it") from error
    except ValueError as error:
        raise UserError("bad version", module, str(error), "give it VERSION = 1, or VERSIONS with its name") from error


@functools.lru_cache(512)
def stated_versions(source: bytes) -> Mapping[str, int]:
    """Versions stated in a module: those of `VERSIONS` by name, and `VERSION` under the empty name."""
    versions: dict[str, int] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "VERSION":
                versions[""] = ast.literal_eval(node.value)
            elif node.targets[0].id == "VERSIONS":
                versions |= ast.literal_eval(node.value)
    if invalid := [value for value in versions.values() if type(value) is not int or value < 1]:
        raise ValueError(f"{invalid[0]!r} is no whole number from 1")
    return versions


@dataclass(frozen=True)
class Module:
    """Digests and imports of a module.

    Attributes:
        named: Digest of each top-level definition and constant.
        rest: Digest of each other statement, in order.
        imports: Modules of the package that it may import, as (level, path). A path is relative to the package at level 0, to the module's folder at
            level 1, and to its parent at level 2.
    """

    named: Mapping[str, str]
    rest: tuple[str, ...]
    imports: frozenset[tuple[int, str]]


@functools.lru_cache(512)
def parsed(source: bytes) -> Module:
    """Digests and imports of a module's source."""
    named: dict[str, list[str]] = {}
    rest: list[str] = []
    tree = ast.parse(source)
    for node in tree.body:
        names = _names(node)
        if names & {"VERSION", "VERSIONS"} or _is_docstring(node) or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        text = "".join(_canonical(node))
        for name in names:
            named.setdefault(name, []).append(text)
        if not names:
            rest.append(text)
    digested = {name: digest("\n".join(texts)) for name, texts in named.items()}
    return Module(digested, tuple(map(digest, rest)), frozenset(_imports(tree)))


def _names(node: ast.stmt) -> set[str]:
    """Names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []
    return {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}


def _is_docstring(node: ast.AST) -> bool:
    """Whether a statement is a docstring, also one after an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


LEFT_OUT = frozenset({"annotation", "returns", "type_comment", "type_params", "type_ignores", "ctx", "kind", "simple"})
"""Fields of the syntax tree that digests leave out: annotations, and fields that differ between versions of Python."""


def _canonical(node: Any) -> Iterator[str]:
    """The syntax tree as text, equal for all versions of Python: without docstrings, comments, annotations and positions."""
    if isinstance(node, list):
        yield "["
        for inner in node:
            if not _is_docstring(inner):
                yield from _canonical(inner)
        yield "]"
    elif isinstance(node, ast.JoinedStr):  # versions of Python split constant parts of f-strings differently
        yield "(f"
        text = ""
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                text += str(piece.value)
            else:
                yield f"{text!a}"
                text = ""
                yield from _canonical(piece)
        yield f"{text!a})"
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield from _canonical(ast.Assign(targets=[node.target], value=node.value))
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if name not in LEFT_OUT and value is not None and value != []:
                yield f" {name}="
                yield from _canonical(value)
        yield ")"
    else:
        yield f"{type(node).__name__}:{node!a}"


def digest(text: str) -> str:
    """First hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Modules of the package that a module imports, at its top or inside functions, as their possible paths."""
    for node in ast.walk(tree):
        level, modules = 0, []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            level, start = node.level, node.module or ""
            modules = [start, *(f"{start}.{alias.name}".strip(".") for alias in node.names)]
        for module in modules:
            first, *rest = module.split(".")
            path = "/".join(rest if not level else [first, *rest])
            if path and (level or first == "mentionforge"):
                yield from ((level, f"{path}.py"), (level, f"{path}/__init__.py"))


def imported_path(module: str, imported: tuple[int, str]) -> str:
    """The path in the package of an imported module."""
    level, path = imported
    above = module.split("/")[:-level] if level else []
    return "/".join([*above, path])
