"""Sweeps: entries in which `{sweep: [a, b]}` or `{zip: [a, b]}` stands for a value unfold into named variants."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentionforge.config.raw import plain
from mentionforge.config.schema import KINDS
from mentionforge.entries import NAME_PATTERN
from mentionforge.errors import UserError

MOST_VARIANTS = 10_000
"""Variants of one entry; more is a mistake, and would fill the memory."""

SWEEPABLE = ("corpora", "generators", "strategies", "recognizers", "linkers", "indexes")


def unfold_sweeps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Unfold sweeps of named entries into variants named NAME~KEY=VALUE, and grids that name them.

    `{sweep: [a, b]}` stands where a value would; several sweeps in one entry give their product. All `{zip: [a, b]}` of an entry
    advance together. In both, a mapping `{sweep: {label: value}}` gives names to values that have none, as lists. Where two keys of
    an entry have the same last part, the variants' names have as much of the path as tells them apart. A grid that lists NAME gets all
    variants, in the order of the lists.

    Raises:
        UserError: A sweep where there can be none (kbs, models), an empty one, zipped lists of different lengths, a variant's name
            with characters that no folder has.
    """
    data = plain(raw)
    variants: dict[tuple[str, str], list[str]] = {}
    for kind in data:
        entries = data[kind] or {}
        if kind not in (*KINDS, "models", "downloads") or not isinstance(entries, dict):
            continue
        unfolded: dict[str, Any] = {}
        for name, entry in entries.items():
            found = list(_sweeps_of(entry, ()))
            if any(not sweep.path for sweep in found):
                raise UserError("sweep not possible", f"config: {kind}.{name}", "it stands in the place of the whole entry", "put it where a value stands")
            if found and kind not in SWEEPABLE:
                raise UserError(
                    "sweep not possible",
                    f"config: {kind}.{name}.{'.'.join(found[0].path)}",
                    f"only {', '.join(SWEEPABLE)} can be swept",
                    "write two named entries",
                )
            for label, variant in _variants(kind, name, entry, found):
                if label in unfolded or (label != name and label in entries):
                    raise UserError(
                        "name given twice", f"config: {kind}.{name}", f"two variants or entries are called {label}", "use labels: {sweep: {label: value}}"
                    )
                unfolded[label] = variant
                if found:
                    variants.setdefault((kind, name), []).append(label)
        data[kind] = unfolded
    experiment = data.get("experiment")
    for task in ("recognition", "normalization"):
        grids = experiment.get(task) if isinstance(experiment, dict) else None
        for grid in grids if isinstance(grids, list) else ():
            for key, names in grid.items() if isinstance(grid, dict) else ():
                kind = "corpora" if key == "test_corpora" else key
                if isinstance(names, list):
                    grid[key] = [v for name in names for v in variants.get((kind, name) if isinstance(name, str) else ("", ""), [name])]
    return data


@dataclass(frozen=True)
class Sweep:
    """A swept setting of an entry: where it is, its labels and values, and whether it advances together with the others of its kind."""

    path: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[Any, ...]
    zipped: bool


def swept_settings(raw: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    """What varies in each variant: the label of each swept setting (`linkers.mention.max_tokens`), by kind and name of the variant."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for kind in SWEEPABLE:
        for name, entry in (raw.get(kind) or {}).items():
            sweeps = list(_sweeps_of(entry, ()))
            keys = _distinct_endings([sweep.path for sweep in sweeps])
            for label, _ in _variants(kind, name, entry, sweeps) if sweeps else ():
                # A label may hold no "~KEY=" of another sweep: names are built from left to right.
                rest, values = label[len(name) :], {}
                for i, (key, sweep) in enumerate(zip(keys, sweeps, strict=True)):
                    value = rest.removeprefix(f"~{key}=")
                    if i + 1 < len(keys):
                        value = value[: value.index(f"~{keys[i + 1]}=")]
                    rest = rest[len(f"~{key}=") + len(value) :]
                    values[".".join((kind, name, *sweep.path))] = value
                found[kind, label] = values
    return found


def _variants(kind: str, name: str, entry: Any, found: list[Sweep]) -> Iterator[tuple[str, Any]]:
    """Names and settings of an entry's variants; the entry itself if nothing in it is swept."""
    for sweep in found:
        if not sweep.values:
            raise UserError("empty sweep", f"config: {kind}.{name}.{'.'.join(sweep.path)}", "", "list at least one value")
    together = [sweep for sweep in found if sweep.zipped]
    if len({len(sweep.values) for sweep in together}) > 1:
        lengths = ", ".join(f"{'.'.join(sweep.path)} has {len(sweep.values)}" for sweep in together)
        raise UserError("zipped lists of different lengths", f"config: {kind}.{name}", lengths, "give each the same number of values")
    if math.prod(len(sweep.values) for sweep in found if not sweep.zipped) > MOST_VARIANTS:
        raise UserError(
            "too many variants", f"config: {kind}.{name}", f"its sweeps have more than {MOST_VARIANTS:,} combinations", "sweep fewer values, or zip"
        )
    keys = _distinct_endings([sweep.path for sweep in found])
    # One axis for each sweep, and one for all zipped lists, in the place of the first of them.
    axes = [[sweep] for sweep in found if not sweep.zipped]
    if together:
        axes.insert(sum(not sweep.zipped for sweep in found[: found.index(together[0])]), together)
    for choice in itertools.product(*(range(len(axis[0].values)) for axis in axes)):
        chosen = {id(sweep): i for axis, i in zip(axes, choice, strict=True) for sweep in axis}
        variant = json.loads(json.dumps(entry)) if found else entry
        labels = [name]
        for key, sweep in zip(keys, found, strict=True):
            _set(variant, sweep.path, sweep.values[chosen[id(sweep)]])
            labels.append(f"{key}={sweep.labels[chosen[id(sweep)]]}")
        label = "~".join(labels)
        if found and not re.fullmatch(NAME_PATTERN, label):
            raise UserError("bad name", f"config: {kind}.{name}", f"the variant would be called {label!r}", "give its value a label: {sweep: {label: value}}")
        yield label, variant


def _distinct_endings(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest ends of paths that tell them apart, joined by dots."""
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return [path[-1] if sum(other[-1] == path[-1] for other in paths) == 1 else ".".join(path[-length:]) for path in paths]


def _sweeps_of(node: Any, path: tuple[str, ...]) -> Iterator[Sweep]:
    if not isinstance(node, dict):
        return
    for word in ("sweep", "zip"):
        if set(node) == {word} and isinstance(node[word], list | dict):
            given = node[word]
            named = given if isinstance(given, dict) else {_label(value): value for value in given}
            if len(named) < len(given):
                raise UserError("value given twice", f"config: {'.'.join(path)}", f"{given}"[:80], "list each once, or give labels: {sweep: {label: value}}")
            yield Sweep(path, tuple(map(str, named)), tuple(named.values()), word == "zip")
            return
    for key, value in node.items():
        yield from _sweeps_of(value, (*path, key))


def _label(value: Any) -> str:
    """What a swept value is called in a variant's name: as in YAML."""
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _set(node: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
