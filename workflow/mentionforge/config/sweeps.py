"""Sweeps: an entry with `{sweep: [a, b]}` or `{zip: [a, b]}` in place of a value unfolds into named variants.

In: a raw configuration. Out: one without sweeps, and the swept settings of each variant. Knows nothing of what settings mean.
Example: `mention: {top_k: {sweep: [1, 5]}}` becomes the entries `mention~top_k=1` and `mention~top_k=5`.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentionforge.config.raw import plain
from mentionforge.config.schema import SECTIONS
from mentionforge.entries import NAME_PATTERN
from mentionforge.errors import UserError

MOST_VARIANTS = 10_000
"""Most variants of one entry; more would be a mistake and fill the memory."""

SWEEPABLE = ("corpora", "generators", "strategies", "recognizers", "linkers", "indexes")


def unfold_sweeps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Unfold sweeps of named entries into variants named NAME~KEY=VALUE, and grids that name these entries into grids of the variants.

    Several sweeps in one entry give their product; all `{zip: [a, b]}` of an entry advance together. A mapping `{sweep: {label: value}}` gives
    names to values that have none, as lists. If two swept keys of an entry end alike, names of variants hold as much of the path as tells them
    apart. A grid that lists NAME gets all variants, in the order of the values.

    Raises:
        UserError: A sweep in a section that has none (kbs, models), an empty sweep, zipped lists of different lengths, or a name of a variant
            that no folder can have.
    """
    unfolded_config = plain(raw)
    variants: dict[tuple[str, str], list[str]] = {}
    for section in unfolded_config:
        entries = unfolded_config[section] or {}
        if section not in (*SECTIONS, "models", "downloads") or not isinstance(entries, dict):
            continue
        unfolded: dict[str, Any] = {}
        for name, entry in entries.items():
            sweeps = list(_sweeps_of(entry, ()))
            if any(not sweep.path for sweep in sweeps):
                raise UserError("sweep not possible", f"config: {section}.{name}", "it stands in the place of the whole entry", "put it where a value stands")
            if sweeps and section not in SWEEPABLE:
                raise UserError(
                    "sweep not possible",
                    f"config: {section}.{name}.{'.'.join(sweeps[0].path)}",
                    f"only {', '.join(SWEEPABLE)} can be swept",
                    "write two named entries",
                )
            for label, variant in _variants(section, name, entry, sweeps):
                if label in unfolded or (label != name and label in entries):
                    raise UserError(
                        "name given twice", f"config: {section}.{name}", f"two variants or entries are called {label}", "use labels: {sweep: {label: value}}"
                    )
                unfolded[label] = variant
                if sweeps:
                    variants.setdefault((section, name), []).append(label)
        unfolded_config[section] = unfolded
    experiment = unfolded_config.get("experiment")
    for task in ("recognition", "normalization"):
        grids = experiment.get(task) if isinstance(experiment, dict) else None
        for grid in grids if isinstance(grids, list) else ():
            for key, names in grid.items() if isinstance(grid, dict) else ():
                section = "corpora" if key == "test_corpora" else key
                if isinstance(names, list):
                    grid[key] = [v for name in names for v in variants.get((section, name) if isinstance(name, str) else ("", ""), [name])]
    return unfolded_config


@dataclass(frozen=True)
class Sweep:
    """A swept setting of an entry: its path of keys, labels and values, and whether it advances together with other zipped settings."""

    path: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[Any, ...]
    zipped: bool


def swept_settings(raw: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    """The label of each swept setting (`linkers.mention.max_tokens`), by section and name of the variant."""
    labels_of: dict[tuple[str, str], dict[str, str]] = {}
    for section in SWEEPABLE:
        for name, entry in (raw.get(section) or {}).items():
            sweeps = list(_sweeps_of(entry, ()))
            keys = _distinct_endings([sweep.path for sweep in sweeps])
            for label, _ in _variants(section, name, entry, sweeps) if sweeps else ():
                # The name is NAME~KEY=LABEL~KEY=LABEL; no label holds the "~KEY=" of another sweep.
                suffix, values = label[len(name) :], {}
                for i, (key, sweep) in enumerate(zip(keys, sweeps, strict=True)):
                    value = suffix.removeprefix(f"~{key}=")
                    if i + 1 < len(keys):
                        value = value[: value.index(f"~{keys[i + 1]}=")]
                    suffix = suffix[len(f"~{key}=") + len(value) :]
                    values[".".join((section, name, *sweep.path))] = value
                labels_of[section, label] = values
    return labels_of


def _variants(section: str, name: str, entry: Any, sweeps: list[Sweep]) -> Iterator[tuple[str, Any]]:
    """Names and settings of an entry's variants; the entry itself if it has no sweep."""
    for sweep in sweeps:
        if not sweep.values:
            raise UserError("empty sweep", f"config: {section}.{name}.{'.'.join(sweep.path)}", "", "list at least one value")
    zipped = [sweep for sweep in sweeps if sweep.zipped]
    if len({len(sweep.values) for sweep in zipped}) > 1:
        lengths = ", ".join(f"{'.'.join(sweep.path)} has {len(sweep.values)}" for sweep in zipped)
        raise UserError("zipped lists of different lengths", f"config: {section}.{name}", lengths, "give each the same number of values")
    if math.prod(len(sweep.values) for sweep in sweeps if not sweep.zipped) > MOST_VARIANTS:
        raise UserError(
            "too many variants", f"config: {section}.{name}", f"its sweeps have more than {MOST_VARIANTS:,} combinations", "sweep fewer values, or zip"
        )
    keys = _distinct_endings([sweep.path for sweep in sweeps])
    # One axis per sweep, and one axis for all zipped lists, at the position of the first of them.
    axes = [[sweep] for sweep in sweeps if not sweep.zipped]
    if zipped:
        axes.insert(sum(not sweep.zipped for sweep in sweeps[: sweeps.index(zipped[0])]), zipped)
    for choices in itertools.product(*(range(len(axis[0].values)) for axis in axes)):
        position = {id(sweep): i for axis, i in zip(axes, choices, strict=True) for sweep in axis}
        variant = json.loads(json.dumps(entry)) if sweeps else entry
        labels = [name]
        for key, sweep in zip(keys, sweeps, strict=True):
            _set(variant, sweep.path, sweep.values[position[id(sweep)]])
            labels.append(f"{key}={sweep.labels[position[id(sweep)]]}")
        label = "~".join(labels)
        if sweeps and not re.fullmatch(NAME_PATTERN, label):
            raise UserError(
                "bad name", f"config: {section}.{name}", f"the variant would be called {label!r}", "give its value a label: {sweep: {label: value}}"
            )
        yield label, variant


def _distinct_endings(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest endings that distinguish the paths, joined by dots."""
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return [path[-1] if sum(other[-1] == path[-1] for other in paths) == 1 else ".".join(path[-length:]) for path in paths]


def _sweeps_of(node: Any, path: tuple[str, ...]) -> Iterator[Sweep]:
    if not isinstance(node, dict):
        return
    for keyword in ("sweep", "zip"):
        if set(node) == {keyword} and isinstance(node[keyword], list | dict):
            swept = node[keyword]
            labelled = swept if isinstance(swept, dict) else {_label(value): value for value in swept}
            if len(labelled) < len(swept):
                raise UserError("value given twice", f"config: {'.'.join(path)}", f"{swept}"[:80], "list each once, or give labels: {sweep: {label: value}}")
            yield Sweep(path, tuple(map(str, labelled)), tuple(labelled.values()), keyword == "zip")
            return
    for key, value in node.items():
        yield from _sweeps_of(value, (*path, key))


def _label(value: Any) -> str:
    """The label of a swept value in a variant's name: as it is written in YAML."""
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _set(node: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
