"""A raw configuration becomes a validated `Config`, or one `UserError` that names key, file and row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mentionforge.config.checks import check_end_to_end, check_files, check_generators, check_linkers, check_names, check_references
from mentionforge.config.external import check_external
from mentionforge.config.messages import as_user_error
from mentionforge.config.schema import Config
from mentionforge.config.sweeps import unfold_sweeps
from mentionforge.config_files import Places, place_of
from mentionforge.errors import UserError


def load_config(raw: Mapping[str, Any], root: Path | None = None, places: Places | None = None) -> Config:
    """Validate a raw config mapping, unfold sweeps, and check names and files.

    Args:
        raw: The mapping of config.yaml and overlays.
        root: Folder that relative paths refer to; none: do not look for files.
        places: Where the values are written (`config_files.read`), so that errors name file and row.

    Raises:
        UserError: With the first offending key and the fix.
    """
    try:
        return _validated(raw, root, places or {})
    except UserError as error:
        key = error.where.removeprefix("config: ")
        place = place_of(places, key) if places and key != error.where else None
        if place is None:
            raise
        fix = f"{error.fix} ({place})" if error.fix else f"({place})"
        raise UserError(error.what, error.where, error.why, fix) from error


def _validated(raw: Mapping[str, Any], root: Path | None, places: Places) -> Config:
    """The configuration after all checks, which raise the first error by its key alone."""
    data = unfold_sweeps(raw)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise as_user_error(error, places) from error
    check_names(config)
    check_references(config)
    check_end_to_end(config)
    check_generators(config)
    check_linkers(config)
    check_external(config, root)
    if root is not None:
        check_files(config, root)
    return config
