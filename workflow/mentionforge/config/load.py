"""Loading a configuration.

In: the raw mapping, and the positions of its values. Out: a validated `Config`, or one `UserError` that names key, file and row.
Knows nothing of files: `config_files` merges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mentionforge.config.checks import (
    check_end_to_end,
    check_files,
    check_generators,
    check_linkers,
    check_names,
    check_prompts,
    check_references,
    with_prompts,
)
from mentionforge.config.external import check_external
from mentionforge.config.messages import as_user_error
from mentionforge.config.schema import Config
from mentionforge.config.sweeps import unfold_sweeps
from mentionforge.config_files import Positions, position_of
from mentionforge.errors import UserError


def load_config(raw: Mapping[str, Any], root: Path | None = None, positions: Positions | None = None) -> Config:
    """Validate a raw config mapping, unfold sweeps, and check names and files.

    Args:
        raw: The mapping of config.yaml and overlays.
        root: Folder that relative paths refer to; none: do not look for files.
        positions: Positions of the values (`config_files.read`), so that errors name file and row.

    Raises:
        UserError: Names the first offending key and the fix.
    """
    try:
        return _validated(raw, root, positions or {})
    except UserError as error:
        key = error.where.removeprefix("config: ")
        position = position_of(positions, key) if positions and key != error.where else None
        if position is None:
            raise
        fix = f"{error.fix} ({position})" if error.fix else f"({position})"
        raise UserError(error.what, error.where, error.why, fix) from error


def _validated(raw: Mapping[str, Any], root: Path | None, positions: Positions) -> Config:
    """The configuration after all checks; errors name the key, but not the file."""
    unfolded = unfold_sweeps(raw)
    try:
        config = Config.model_validate(unfolded)
    except ValidationError as error:
        raise as_user_error(error, positions) from error
    check_names(config)
    check_references(config)
    check_prompts(config)
    config = with_prompts(config)
    check_end_to_end(config)
    check_generators(config)
    check_linkers(config)
    check_external(config, root)
    if root is not None:
        check_files(config, root)
    return config
