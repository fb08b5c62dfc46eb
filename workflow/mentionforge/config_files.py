"""Files of the configuration, read strictly: anything but one mapping in plain YAML is an error with file and row.

In: paths of a base file and its overlays. Out: one merged mapping, and the position of each value. Knows nothing of settings.
YAML 1.1 silently changes values: `no` becomes false, `12:30` becomes 750, `010` becomes 8, a second `linkers:` replaces the first one.
Here each of these is an error that says what to write instead (`mentionforge.strict_yaml`).
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mentionforge.errors import UserError
from mentionforge.strict_yaml import MOST_VALUES, Key, Position, StrictReader
from mentionforge.strict_yaml import Positions as Positions

MOST_BYTES = 4_000_000
"""Largest file that is read. A configuration has some kilobytes; a larger file is another one, given by mistake."""


@dataclass
class MergedConfig:
    """The mapping that files and their overlays give together, and the position of each value."""

    data: dict[str, Any] = field(default_factory=dict)
    positions: Positions = field(default_factory=dict)


def read(paths: Iterable[str | Path], overrides: Mapping[str, Any] | None = None) -> MergedConfig:
    """Read a base file and its overlays in order.

    Args:
        paths: The files.
        overrides: Values of the command line (`snakemake --config`), which Snakemake lays over those of the files: only their positions count.

    Raises:
        UserError: A file that does not exist, is no UTF-8, no YAML, or not plain; with file and row.
    """
    merged = MergedConfig()
    for path in paths:
        data, positions = read_file(path)
        merge(merged.data, data)
        _overlay_positions(merged.positions, positions, data)
    if overrides:
        _overlay_positions(merged.positions, dict(_command_line_positions(overrides, ())), overrides)
    return merged


def _overlay_positions(positions: Positions, overlay_positions: Positions, data: Any) -> None:
    """Overlay positions in place. A value that is no mapping replaces what was below its key, so those positions go."""
    for key in [key for key in positions if key in overlay_positions and not isinstance(_value_at(data, key), Mapping)]:
        for nested in [k for k in positions if k[: len(key)] == key]:
            del positions[nested]
    positions.update(overlay_positions)


def _command_line_positions(data: Mapping[str, Any], parent_key: Key) -> Iterator[tuple[Key, Position]]:
    for key, value in data.items():
        if not isinstance(key, str):
            continue
        yield (*parent_key, key), Position("--config", 0)
        if isinstance(value, Mapping):
            yield from _command_line_positions(value, (*parent_key, key))


def _value_at(data: Any, key: Key) -> Any:
    for step in key:
        data = data[int(step)] if isinstance(data, list) else data[step]
    return data


def position_of(positions: Positions, key: str) -> Position | None:
    """The position of a dotted key, or of its nearest parent that a file holds. Variants of a sweep have the position of their entry."""
    by_key = {".".join(path): position for path, position in positions.items() if path}
    entry, variant, labels = key.partition("~")
    # A variant's name (mention~max_tokens=0.5) may hold dots, so it may end at any of them.
    keys = [key, *(entry + labels[dot.start() :] for dot in re.finditer(r"\.", labels)), *([entry] if variant else [])]
    longest = ""
    for name in keys:
        while name and name not in by_key:
            name = name.rpartition(".")[0]
        longest = max(longest, name, key=len)
    return by_key.get(longest)


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """Exit with a one-line error if a file of --configfile is broken: Snakemake reads these before the Snakefile, and names neither file nor row.

    Args:
        arguments: Arguments of Snakemake; none: those of this process.
    """
    files: list[str] = []
    words = list(sys.argv[1:] if arguments is None else arguments)
    after_configfile = False
    for argument in words:
        if argument.startswith("-"):
            name, equals, value = argument.partition("=")
            after_configfile = name in ("--configfile", "--configfiles")
            files += [value] if after_configfile and equals else []
        elif after_configfile:
            files.append(argument)
    with one_line_errors():
        read(files)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a `UserError` as one line and exit with code 2, so that Snakemake shows no traceback of the Snakefile."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def merge(base: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay an overlay over a raw config, in place and mapping by mapping, as Snakemake does for --configfile."""
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = json.loads(json.dumps(value))
    return base


def overlay(base: MergedConfig, data: Mapping[str, Any]) -> MergedConfig:
    """Lay values over those of files, in place. They have no position: no file that is known here holds them.

    Raises:
        UserError: A value that YAML could not hold.
    """
    try:
        merge(base.data, data)
    except TypeError as error:
        raise UserError("bad value", "config", str(error), "give texts, numbers, lists and mappings") from error
    for key in [key for key in base.positions if _holds(data, key)]:
        del base.positions[key]
    return base


def _holds(data: Any, key: Key) -> bool:
    for step in key:
        if not isinstance(data, Mapping) or step not in data:
            return False
        data = data[step]
    return True


def read_file(path: str | Path) -> tuple[dict[str, Any], Positions]:
    """Read one file; see `read`.

    Returns:
        Its mapping as plain JSON data, and the position of each value.
    """
    file = display_path(path)
    text = _decoded(Path(path), file)
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return _from_json(text, file), _positions_in_json(text, file)
        except (ValueError, RecursionError):
            pass  # no JSON, but perhaps a YAML mapping in braces
    reader = StrictReader(file)
    try:
        data = reader.whole(text)
    except yaml.reader.ReaderError as error:
        row = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 1
        raise UserError("no YAML", f"{file}:{row}", f"character #x{_code_point(error.character):04x} is not allowed", "remove it") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _no_yaml(file, text, mark.line + 1 if mark else 1, error.problem or error.context or "broken") from error
    except yaml.YAMLError as error:
        raise UserError("no YAML", f"{file}:1", str(error), "correct it") from error
    return data, reader.positions


def _code_point(character: Any) -> int:
    return character if isinstance(character, int) else ord(character) if isinstance(character, str) and len(character) == 1 else 0


def display_path(path: str | Path) -> str:
    """A path for messages: relative to the working folder if it lies below it."""
    absolute = Path(path)
    return str(absolute.relative_to(Path.cwd()) if absolute.is_absolute() and absolute.is_relative_to(Path.cwd()) else absolute)


def _decoded(path: Path, file: str) -> str:
    try:
        with path.open("rb") as handle:
            data = handle.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError("missing file", file, "there is no configuration of that name", "correct the path") from error
    except (OSError, ValueError) as error:
        raise UserError("unreadable file", file, getattr(error, "strerror", None) or str(error), "correct the path or its permissions") from error
    if len(data) > MOST_BYTES:
        raise UserError("no configuration", f"{file}:1", f"larger than {MOST_BYTES // 1_000_000} MB", "give a YAML file of settings")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        why = "it is UTF-16" if wide else f"byte 0x{data[error.start]:02x} is no UTF-8"
        raise UserError("wrong encoding", f"{file}:{row}", why, "save the file as UTF-8") from error
    if "\0" in text:
        raise UserError("no YAML", f"{file}:{text.count(chr(10), 0, text.index(chr(0))) + 1}", "it has a zero byte", "save the file as UTF-8 text")
    return text


def _no_yaml(file: str, text: str, row: int, problem: str) -> UserError:
    lines = text.split("\n")
    # The parser may report a tab only on the following line.
    for candidate in (row, row - 1):
        if 0 < candidate <= len(lines) and re.match(r" *\t", lines[candidate - 1]):
            return UserError("no YAML", f"{file}:{candidate}", "the line begins with a tab", "indent with blanks")
    fix = "put words with : # [ ] { } , & * ! | > ' \" % @ into quotes, close what is open, and indent with blanks"
    return UserError("no YAML", f"{file}:{row}", problem, fix)


def _from_json(text: str, file: str) -> dict[str, Any]:
    """The mapping of a JSON file. Raises ValueError if the text is no JSON; it may be YAML."""

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                row = [m.start() for m in re.finditer(re.escape(json.dumps(key)), text)]
                raise UserError("key given twice", f"{file}:{text.count(chr(10), 0, row[-1]) + 1 if row else 1}", f"{key!r}", "keep one of them")
        return dict(pairs)

    def finite_number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise UserError("no number", f"{file}:{text.count(chr(10), 0, text.index(literal)) + 1}", f"{literal} is not finite", "give a finite one")
        return value

    data: dict[str, Any] = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=unique_keys, parse_constant=finite_number, parse_float=finite_number)
    problem = json_problem(data)
    if problem:
        raise UserError("odd text", f"{file}:1", problem, "correct it")
    return data


def _positions_in_json(text: str, file: str) -> Positions:
    """Positions of the values of a JSON file; empty if it is no YAML, as with tabs between values."""
    reader = StrictReader(file)
    try:
        reader.whole(text)
    except (UserError, yaml.YAMLError):
        return {}
    return reader.positions


def json_problem(data: Any) -> str:
    """Why data cannot be written as JSON: a character that no text holds, or a value of another type; empty if it can."""
    pending, count = [data], 0
    while pending:
        value, count = pending.pop(), count + 1
        if count > MOST_VALUES:
            return f"more than {MOST_VALUES:,} values"
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    return f"the key {key!r} is no text; quote it"
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, str):
            if re.search("[\ud800-\udfff\0]", value):
                return f"{value!r:.60} holds a character that no text has"
        elif isinstance(value, float):
            if not math.isfinite(value):
                return f"{value} is no finite number"
        elif value is not None and not isinstance(value, int):
            return f"{value!s:.60} is read as a {type(value).__name__}; quote it"
    return ""
