"""The JSON schema of one file of the configuration, for editors: as that of the whole, but nothing is required, and values can be swept.

In: the schema of the whole configuration. Out: the schema of a base file or overlay. Knows nothing of which settings there are.
"""

from __future__ import annotations

import json
from typing import Any

from mentionforge.config.schema import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SWEPT = {
    "description": "Several values, each a variant of the entry: a list, or labels with their values (docs/sweeps.md). Those of `zip` advance together.",
    "type": "object",
    "properties": {key: {"type": ["array", "object"]} for key in ("sweep", "zip")},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
SHOWN = ("title", "description", "default")
"""What editors show of a setting; it stays beside the alternatives of its value."""


def file_schema() -> str:
    """The JSON schema of one file, as committed in workflow/schemas/file.schema.json."""
    whole = Config.model_json_schema()
    definitions = {name: _partial(node) for name, node in whole.pop("$defs").items()}
    top = {key: _partial(node) for key, node in whole.pop("properties").items()}
    kept = {key: value for key, value in whole.items() if key != "required"}
    schema = {"$schema": DIALECT, **kept, "properties": top, "$defs": {**definitions, "Swept": SWEPT}}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _partial(node: Any) -> Any:
    """The schema of a value of which a file may hold a part: an entry without its kind fits any kind that has its keys."""
    if isinstance(node, list):
        return [_partial(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    partial: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            partial[key] = {name: _or_swept(_partial(setting)) for name, setting in value.items()}
        elif key == "oneOf":
            partial["anyOf"] = _partial(value)
        elif key in ("default", "enum", "const"):
            partial[key] = value
        elif key not in ("required", "discriminator"):
            partial[key] = _partial(value)
    return partial


def _or_swept(setting: dict[str, Any]) -> dict[str, Any]:
    shown = {key: setting[key] for key in SHOWN if key in setting}
    value = {key: inner for key, inner in setting.items() if key not in SHOWN}
    return {**shown, "anyOf": [value, {"$ref": "#/$defs/Swept"}]}
