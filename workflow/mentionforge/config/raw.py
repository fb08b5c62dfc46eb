"""A configuration before validation: a plain copy, and absolute paths of input files.

In: a raw mapping. Out: another one. Knows nothing of settings but the names of sections that hold paths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mentionforge.config_files import json_problem
from mentionforge.errors import UserError


def plain(raw: Any) -> dict[str, Any]:
    """A copy of a raw config.

    Raises:
        UserError: It is no mapping of plain values with text as keys.
    """
    if not isinstance(raw, Mapping):
        raise UserError("no configuration", "config", f"a {type(raw).__name__} stands where keys are wanted", "give keys at the top, as `linkers:`")
    problem = json_problem(raw)
    if problem:
        raise UserError("bad value", "config", problem, "correct it")
    copy: dict[str, Any] = json.loads(json.dumps(raw))
    return copy


def resolve_input_paths(raw: Mapping[str, Any], root: Path, checkout: Path) -> dict[str, Any]:
    """Make paths of input files absolute for a run in another folder (`snakemake --directory`): files are looked for there, then in the checkout.

    Args:
        raw: The mapping of config.yaml and overlays.
        root: The folder of the run, from which relative paths count.
        checkout: The folder of the workflow.

    Returns:
        A copy in which relative paths are absolute if they exist in the checkout but not below `root`. Paths that the run writes (results, fetched
        weights and files) stay relative.
    """
    copied = plain(raw)
    if root.resolve() == checkout.resolve():
        return dict(copied)
    fetched = tuple(f"{copied.get('resources') or 'resources'}/{kind}/" for kind in ("downloads", "models"))

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: inner if key in ("hub", "wheel", "file") else resolved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [resolved(inner) for inner in value]
        if not isinstance(value, str) or "/" not in value or len(value) > 1000 or value.startswith(fetched):
            return value
        prefix = value.partition("{")[0].rpartition("/")[0] if "{" in value else value  # of a pattern with {corpus}, its folder
        return str(checkout / value) if not path_exists(root / prefix) and path_exists(checkout / prefix) else value

    sections = ("models", "kbs", "corpora", "generators", "recognizers", "linkers", "mirror")
    return {key: resolved(value) if key in sections else value for key, value in copied.items()}


def path_exists(path: str | Path, kind: Callable[[str], bool] = os.path.exists) -> bool:
    """Whether a path exists; false where pathlib raises an error, as for a name that is too long."""
    return kind(str(path))
