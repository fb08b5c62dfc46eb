"""Errors of pydantic as one line for users.

In: a `ValidationError`. Out: a `UserError` with the key as written in the file, the reason and the fix. Knows nothing of checks across sections.
"""

from __future__ import annotations

import json
import re
from typing import Any, get_args

from pydantic import ValidationError

from mentionforge.config.schema import Config
from mentionforge.config_files import Positions, position_of
from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.generation.backends import Backend


def as_user_error(error: ValidationError, positions: Positions) -> UserError:
    """The first error, with its key as written in the file and the number of further errors.

    Args:
        error: The error that pydantic raised.
        positions: Positions of the values, so that a number can be shown as it was typed.
    """
    first = error.errors()[0]
    loc = [str(level) for level in first["loc"]]
    # Pydantic adds the kind of a union's member to the location (kbs.demo.rrf.path); it is no key of the file.
    kinds_of_section, backends = _kinds(loc[0]) if loc else set(), _kinds_in(Backend)
    loc = [level for i, level in enumerate(loc) if not (i == 2 and level in kinds_of_section) and not (i > 2 and loc[i - 1] == "backend" and level in backends)]
    key = ".".join(loc) or "config"
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        if loc[-1] in known:
            return UserError(
                "unknown key",
                f"config: {key}",
                "its place is in entries of another kind, or inside another key",
                "move or remove it; docs/reference/config.md lists the keys",
            )
        suggestion = nearest(loc[-1], known)
        return UserError(
            "unknown key",
            f"config: {key}",
            "",
            f"did you mean {suggestion!r}?" if suggestion else "remove it, or see workflow/schemas/config.schema.json for the keys there are",
        )
    if first["type"] == "missing":
        return UserError("missing key", f"config: {key}", "", "add it")
    if first["type"] == "union_tag_not_found":
        discriminator = str(first.get("ctx", {}).get("discriminator", "kind")).strip("'")
        fix = "add it; if this file is an overlay, give the file that it lies over before it"
        return UserError("missing key", f"config: {key}.{discriminator}", "it says what sort of entry this is", fix)
    # A key of several types (a number or a word) has one error per type, whose location ends with the type.
    alternatives = [further for further in error.errors() if len(further["loc"]) == len(first["loc"]) and further["loc"][:-1] == first["loc"][:-1]]
    if len(alternatives) > 1 and all(re.fullmatch(r"constrained-\w+|literal\[.*\]|int|str|float", str(further["loc"][-1])) for further in alternatives):
        key, first = key.rpartition(".")[0], {**first, "msg": ", or ".join(further["msg"] for further in alternatives)}
    else:
        alternatives = [error.errors()[0]]
    remaining = len(error.errors()) - len(alternatives)
    suffix = f" ({remaining} more after this)" if remaining else ""
    if first["input"] is None or isinstance(first["input"], bool | int | float):
        # YAML reads some words as other values: 1.10 as the number 1.1, no as false.
        position = position_of(positions, key)
        read_as = json.dumps(first["input"])
        written = position.written if position and position.written else read_as
        if written != read_as or first["type"] in ("string_type", "literal_error"):
            why = f"{first['msg']}, and YAML reads {written} as {'the number ' if type(first['input']) in (int, float) else ''}{read_as}"
            return UserError("bad value", f"config: {key}", why, f'quote it: "{written}"{suffix}')
    return UserError("bad value", f"config: {key}", f"{first['msg'].removeprefix('Value error, ')} (got {first['input']!r:.80})", f"correct it{suffix}")


def _kinds(section: str) -> set[str]:
    """Values of `kind` (or `source`) that entries of a section may have."""
    field = Config.model_fields.get(section)
    return _kinds_in(field.annotation) if field else set()


def _kinds_in(annotation: Any) -> set[str]:
    """Values of `kind` (or `source`) of the members of a union of settings."""
    members = [inner for inner in get_args(annotation) if inner is not annotation]
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        fields = [annotation.model_fields[name].annotation for name in ("kind", "source") if name in annotation.model_fields]
        return {value for field in fields for value in get_args(field) if isinstance(value, str)}
    return {value for member in members for value in _kinds_in(member)}


def _known_keys(loc: list[str]) -> list[str]:
    """Keys that the section of this location may have, at any depth."""
    if not loc:
        return list(Config.model_fields)
    keys: set[str] = set()

    def collect(model: Any) -> None:
        for inner in get_args(model):
            collect(inner)
        if isinstance(model, type) and issubclass(model, Entry):
            keys.update(model.model_fields)
            for field in model.model_fields.values():
                collect(field.annotation)

    field = Config.model_fields.get(loc[0])
    if field is not None:
        collect(field.annotation)
    return sorted(keys)


def nearest(word: str, known: list[str]) -> str | None:
    """The known word most similar to a word, if any is similar."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)
