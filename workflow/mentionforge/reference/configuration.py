"""The reference page of the configuration: each key with its type, default, meaning and an example.

In: the JSON schema of the configuration, and the shipped configs, whose values are the examples. Out: Markdown. Knows nothing of what a setting does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mentionforge.config import json_schema
from mentionforge.config_files import read
from mentionforge.reference.markdown import WRITTEN, cell, code, table

Schema = Mapping[str, Any]

LONGEST_EXAMPLE = 60
"""Longer values of shipped configs make no example, since a table has to hold it."""


def page(root: Path) -> str:
    """A section per key of the top level; below it one table for each class of settings that it leads to.

    Args:
        root: Folder of the repository, with `config.yaml` and `config/`.
    """
    schema = json.loads(json_schema())
    classes: dict[str, Schema] = schema["$defs"]
    examples = _examples(root, schema)
    lines = [
        "# Configuration",
        "",
        WRITTEN,
        "",
        "A run reads `config.yaml` and the overlays of `--configfile`, which need only what differs. `mentionforge config check` validates",
        "them, and so does every `snakemake` before it plans a job: an unknown key, a wrong type or a missing file is one line that names",
        "the key and the fix. A list under `sweep` stands for any scalar of an entry ([sweeps](../sweeps.md)).",
        "",
    ]
    told: set[str] = set()
    for key, field in schema["properties"].items():
        lines += [f"## {key}", ""]
        if field.get("description"):
            lines += [cell(field["description"]), ""]
        leading = _classes_in(field)
        named = "additionalProperties" in field
        if named:
            lines += ["A section of named entries: `NAME: {key: value, …}`. " + _which_kind(field, classes), ""]
        if not leading:
            lines += [f"Type: {_type(field, classes)}.{_default(field)}", ""]
        waiting = list(leading)
        while waiting:
            name = waiting.pop(0)
            if name in told:
                continue
            told.add(name)
            waiting += [inner for one in classes[name].get("properties", {}).values() for inner in _classes_in(one)]
            lines += _class(name, classes, examples)
    return "\n".join(lines)


def _class(name: str, classes: Mapping[str, Schema], examples: Mapping[tuple[str, str], Any]) -> Iterator[str]:
    """Heading, description and table of a class of settings."""
    one = classes[name]
    yield f"### {_title(name, classes)}"
    yield ""
    yield cell(one.get("description", ""))
    yield ""
    required = set(one.get("required", ()))
    rows = [
        (
            code(key),
            _type(field, classes),
            "required" if key in required else code(_written(field["default"])) if field.get("default") is not None else "none",
            cell(_meaning(key, field, classes)),
            code(_example(name, key, classes, examples)),
        )
        for key, field in one.get("properties", {}).items()
    ]
    yield from table(("key", "type", "default", "meaning", "example"), rows)


def _meaning(key: str, field: Schema, classes: Mapping[str, Schema]) -> str:
    """What a key means: its description; else that of its class, or which section its names are from."""
    if field.get("description"):
        return str(field["description"])
    if inner := _classes_in(field):
        return str(classes[inner[0]].get("description", "")).split("\n")[0]
    return "Which kind or source it is." if key in ("kind", "source") else f"Names of entries of `{key}`, each combined with all others of the grid."


def _title(name: str, classes: Mapping[str, Schema]) -> str:
    """The kind that users write (`kind: tfidf`), beside the name of the class in the schema."""
    for key in ("kind", "source"):
        kind = classes[name].get("properties", {}).get(key, {})
        values = [kind["const"]] if "const" in kind else kind.get("enum", [])
        if values:
            return f"{name}: `{key}: {' | '.join(map(str, values))}`"
    return name


def anchor(heading: str) -> str:
    """The anchor that GitHub and the documentation's site give a heading without Markdown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _linked(name: str, classes: Mapping[str, Schema]) -> str:
    return f"[{name}](#{anchor(_title(name, classes).replace('`', ''))})"


def _classes_in(field: Schema) -> list[str]:
    """Names of the classes that the value of a key may have, in order."""
    text = json.dumps({key: value for key, value in field.items() if key not in ("default", "discriminator")})
    return list(dict.fromkeys(re.findall(r'"#/\$defs/(\w+)"', text)))


def _which_kind(field: Schema, classes: Mapping[str, Schema]) -> str:
    names = _classes_in(field)
    return "" if len(names) < 2 else "Kinds: " + ", ".join(_linked(name, classes) for name in names) + "."


def _type(field: Schema, classes: Mapping[str, Schema]) -> str:
    """The type in words; classes are links."""
    if "$ref" in field:
        return _linked(field["$ref"].rsplit("/", 1)[1], classes)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in field:
            options = [option for option in field[key] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(_type(option, classes) for option in options))
    if "const" in field:
        return code(_written(field["const"]))
    if "enum" in field:
        return ", ".join(code(_written(value)) for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "array":
        inner = field.get("items") or {"type": "any"}
        if "prefixItems" in field:
            return "list of " + " and ".join(_type(one, classes) for one in field["prefixItems"])
        return f"list of {_type(inner, classes)}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"map of names to {_type(inner, classes)}" if isinstance(inner, Mapping) else "map"
    limits = [
        f"{sign} {_written(field[key])}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in field
    ]
    return " ".join([{"boolean": "true or false", "string": "text"}.get(kind, str(kind)), ", ".join(limits)]).strip()


def _default(field: Schema) -> str:
    return f" Default: {code(_written(field['default']))}." if field.get("default") is not None else ""


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[\w./@+~-][\w ./@+~-]*", value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _example(name: str, key: str, classes: Mapping[str, Schema], shipped: Mapping[tuple[str, str], Any]) -> str:
    """A value of a key of a class: of a shipped config; else its own example; of a class of settings, an entry of it; else a value that is not the default."""
    field = classes[name]["properties"][key]
    seen = shipped.get((name, key))
    if seen is not None and len(_written(seen)) <= LONGEST_EXAMPLE:
        return _written(seen)
    if field.get("examples"):
        return _written(field["examples"][0])
    if inner := _classes_in(field):
        return _entry(inner[0], classes, shipped)
    for option in (field, *field.get("anyOf", ())):
        values = [value for value in option.get("enum", ()) if value != field.get("default")]
        if values or "const" in option:
            return _written(values[0] if values else option["const"])
        if option.get("type") == "boolean":
            return _written(not field.get("default"))
    same_key = [value for (_, other), value in shipped.items() if other == key and len(_written(value)) <= LONGEST_EXAMPLE]
    same_key += [one["properties"][key]["examples"][0] for one in classes.values() if one.get("properties", {}).get(key, {}).get("examples")]
    default = field.get("default")
    return _written(same_key[0]) if same_key else _written(default) if default not in (None, [], {}) and not isinstance(default, Mapping) else ""


def _entry(name: str, classes: Mapping[str, Schema], shipped: Mapping[tuple[str, str], Any]) -> str:
    """A short entry of a class: its required keys, or else its first one."""
    one = classes[name]
    keys = one.get("required") or list(one.get("properties", {}))[:1]
    return "{" + ", ".join(f"{key}: {_example(name, key, classes, shipped)}" for key in keys) + "}"


def _examples(root: Path, schema: Schema) -> dict[tuple[str, str], Any]:
    """The first value of each (class, key) in the shipped configs."""
    examples: dict[tuple[str, str], Any] = {}
    for path in (root / "config.yaml", *sorted((root / "config").glob("*.yaml"))):
        for key, value in read([path]).data.items():
            _collect(schema["properties"].get(key, {}), value, schema["$defs"], examples)
    return examples


def _collect(field: Schema, value: Any, classes: Mapping[str, Schema], examples: dict[tuple[str, str], Any]) -> None:
    """Walk a value with the schema of its key."""
    if isinstance(value, list):
        for inner in value:
            _collect(field.get("items", field), inner, classes, examples)
    if not isinstance(value, Mapping):
        return
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), Mapping):
        for inner in value.values():
            _collect(field["additionalProperties"], inner, classes, examples)
        return
    for name in _classes_in(field):
        properties = classes[name].get("properties", {})
        if set(value) <= set(properties) and all(_fits(properties[key], value[key]) for key in ("kind", "source") if key in value and key in properties):
            for key, inner in value.items():
                if not (isinstance(inner, Mapping) and "sweep" in inner):
                    examples.setdefault((name, key), inner)
                    _collect(properties[key], inner, classes, examples)
            return


def _fits(field: Schema, value: Any) -> bool:
    """Whether a discriminating key may have a value."""
    values = [field["const"]] if "const" in field else field.get("enum")
    return values is None or value in values
