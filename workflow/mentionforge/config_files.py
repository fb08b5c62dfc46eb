"""Files of the configuration, read strictly: what is not plain YAML of one mapping is one error with file and row.

In: paths of a base file and its overlays. Out: one mapping, laid over each other in order, and where each value is written. Knows nothing of settings.
YAML 1.1 turns much into something else without a word: `no` into false, `12:30` into 750, `010` into 8, a second `linkers:` into the only one.
Here each of these is an error that says what to write (`mentionforge.strict_yaml`).
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
from mentionforge.strict_yaml import MOST_VALUES, Key, Place, StrictReader
from mentionforge.strict_yaml import Places as Places

MOST_BYTES = 4_000_000
"""A configuration is some kilobytes; whatever is larger is another file, given by mistake."""


@dataclass
class Written:
    """What files say, laid over each other, and where each value stands."""

    data: dict[str, Any] = field(default_factory=dict)
    places: Places = field(default_factory=dict)


def read(paths: Iterable[str | Path], given: Mapping[str, Any] | None = None) -> Written:
    """Read a base file and its overlays in order.

    Args:
        paths: The files.
        given: Values of the command line (`snakemake --config`), which go over those of the files; they are not checked.

    Raises:
        UserError: A file that is not there, no UTF-8, no YAML, or not plain; with file and row.
    """
    whole = Written()
    for path in paths:
        data, places = read_one(path)
        merge(whole.data, data)
        _overlay_places(whole.places, places, data)
    if given:
        _overlay_places(whole.places, dict(_command_line_places(given, ())), given)
    return whole


def _overlay_places(under: Places, places: Places, data: Any) -> None:
    """Overlay places on others, in place. A value that is no mapping removes the places below its key."""
    for key in [key for key in under if key in places and not isinstance(_value_at(data, key), Mapping)]:
        for below in [k for k in under if k[: len(key)] == key]:
            del under[below]
    under.update(places)


def _command_line_places(data: Mapping[str, Any], above: Key) -> Iterator[tuple[Key, Place]]:
    for key, value in data.items():
        if not isinstance(key, str):
            continue
        yield (*above, key), Place("--config", 0)
        if isinstance(value, Mapping):
            yield from _command_line_places(value, (*above, key))


def _value_at(data: Any, key: Key) -> Any:
    for part in key:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def place_of(places: Places, key: str) -> Place | None:
    """The place of a dotted key, or of its nearest parent that a file holds. Variants of a sweep have the place of their entry."""
    written = {".".join(parts): place for parts, place in places.items() if parts}
    entry, variant, values = key.partition("~")
    # Values in a variant's name may hold dots, so that any of them may end it.
    keys = [key, *(entry + values[dot.start() :] for dot in re.finditer(r"\.", values)), *([entry] if variant else [])]
    found = ""
    for name in keys:
        while name and name not in written:
            name = name.rpartition(".")[0]
        found = max(found, name, key=len)
    return written.get(found)


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """End with one line if a file of --configfile is broken: Snakemake reads them before the Snakefile, and names neither file nor row.

    Args:
        arguments: Of Snakemake; none: those of this process.
    """
    files: list[str] = []
    given = list(sys.argv[1:] if arguments is None else arguments)
    taking = False
    for argument in given:
        if argument.startswith("-"):
            name, joined, value = argument.partition("=")
            taking = name in ("--configfile", "--configfiles")
            files += [value] if taking and joined else []
        elif taking:
            files.append(argument)
    with ending():
        read(files)


@contextmanager
def ending() -> Iterator[None]:
    """A mistake in the configuration ends Snakemake with its line, not with the rows of a Snakefile around it."""
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


def read_one(path: str | Path) -> tuple[dict[str, Any], Places]:
    """Read one file; see `read`.

    Returns:
        Its mapping as plain JSON data, and the place of each value.
    """
    file = shown(path)
    text = _decoded(Path(path), file)
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return _from_json(text, file), _places_of_json(text, file)
        except (ValueError, RecursionError):
            pass  # a mapping in YAML's braces
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
    return data, reader.places


def _code_point(character: Any) -> int:
    return character if isinstance(character, int) else ord(character) if isinstance(character, str) and len(character) == 1 else 0


def shown(path: str | Path) -> str:
    """A path as messages name it: relative to the working folder if it is below that."""
    whole = Path(path)
    return str(whole.relative_to(Path.cwd()) if whole.is_absolute() and whole.is_relative_to(Path.cwd()) else whole)


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
    # The parser may notice a tab only on the line after it.
    for near in (row, row - 1):
        if 0 < near <= len(lines) and re.match(r" *\t", lines[near - 1]):
            return UserError("no YAML", f"{file}:{near}", "the line begins with a tab", "indent with blanks")
    fix = "put words with : # [ ] { } , & * ! | > ' \" % @ into quotes, close what is open, and indent with blanks"
    return UserError("no YAML", f"{file}:{row}", problem, fix)


def _from_json(text: str, file: str) -> dict[str, Any]:
    """The mapping of a JSON file. ValueError: none, and perhaps YAML."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                row = [m.start() for m in re.finditer(re.escape(json.dumps(key)), text)]
                raise UserError("key given twice", f"{file}:{text.count(chr(10), 0, row[-1]) + 1 if row else 1}", f"{key!r}", "keep one of them")
        return dict(pairs)

    def finite(written: str) -> float:
        value = float(written)
        if not math.isfinite(value):
            raise UserError("no number", f"{file}:{text.count(chr(10), 0, text.index(written)) + 1}", f"{written} is not finite", "give a finite one")
        return value

    data: dict[str, Any] = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once, parse_constant=finite, parse_float=finite)
    problem = odd(data)
    if problem:
        raise UserError("odd text", f"{file}:1", problem, "correct it")
    return data


def _places_of_json(text: str, file: str) -> Places:
    """Where values of a JSON file stand, if it is YAML too; tabs between its values are none."""
    reader = StrictReader(file)
    try:
        reader.whole(text)
    except (UserError, yaml.YAMLError):
        return {}
    return reader.places


def odd(data: Any) -> str:
    """What makes plain data unfit for JSON and files: a character that no text holds, a value of another kind; none: empty."""
    todo, seen = [data], 0
    while todo:
        value, seen = todo.pop(), seen + 1
        if seen > MOST_VALUES:
            return f"more than {MOST_VALUES:,} values"
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    return f"the key {key!r} is no text; quote it"
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, str):
            if re.search("[\ud800-\udfff\0]", value):
                return f"{value!r:.60} holds a character that no text has"
        elif isinstance(value, float):
            if not math.isfinite(value):
                return f"{value} is no finite number"
        elif value is not None and not isinstance(value, int):
            return f"{value!s:.60} is read as a {type(value).__name__}; quote it"
    return ""
