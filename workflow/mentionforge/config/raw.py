"""A configuration before it is validated: plain values, and where its input files lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mentionforge.config_files import odd
from mentionforge.errors import UserError


def plain(raw: Any) -> dict[str, Any]:
    """A copy of a raw config.

    Raises:
        UserError: It is no mapping of plain values with text as keys.
    """
    if not isinstance(raw, Mapping):
        raise UserError("no configuration", "config", f"a {type(raw).__name__} stands where keys are wanted", "give keys at the top, as `linkers:`")
    problem = odd(raw)
    if problem:
        raise UserError("bad value", "config", problem, "correct it")
    copied: dict[str, Any] = json.loads(json.dumps(raw))
    return copied


def located(raw: Mapping[str, Any], root: Path, checkout: Path) -> dict[str, Any]:
    """A raw config for a run in another folder than the checkout (`snakemake --directory`): input files are looked for there, then in the checkout.

    Args:
        raw: The mapping of config.yaml and overlays.
        root: The folder of the run, from which relative paths count.
        checkout: The folder of the workflow.

    Returns:
        The same with those relative paths absolute that exist in the checkout and not below `root`. What the run itself writes (results,
        fetched weights and files) stays relative.
    """
    data = plain(raw)
    if root.resolve() == checkout.resolve():
        return dict(data)
    fetched = tuple(f"{data.get('resources') or 'resources'}/{kind}/" for kind in ("downloads", "models"))

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: inner if key in ("hub", "wheel", "file") else moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if not isinstance(value, str) or "/" not in value or len(value) > 1000 or value.startswith(fetched):
            return value
        fixed = value.partition("{")[0].rpartition("/")[0] if "{" in value else value  # of a pattern, the folder before it
        return str(checkout / value) if not is_there(root / fixed) and is_there(checkout / fixed) else value

    parts = ("models", "kbs", "corpora", "generators", "recognizers", "linkers", "mirror")
    return {key: moved(value) if key in parts else value for key, value in data.items()}


def is_there(path: str | Path, kind: Callable[[str], bool] = os.path.exists) -> bool:
    """Whether a file is there; no error for what can be no path, as a name too long, which pathlib raises."""
    return kind(str(path))
