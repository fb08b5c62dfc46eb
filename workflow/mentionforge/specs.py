"""Reading of spec files, which hold the settings of one entry.

In: a spec file, which the workflow has written, and its settings class; or a folder of them. Out: the settings. Knows no stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mentionforge.errors import UserError


def read_spec(path: str | Path, settings: Any) -> Any:
    """The settings in a spec file.

    Args:
        path: A file below results/specs.
        settings: The pydantic model, or the union of a family's kinds.

    Raises:
        UserError: The file is no spec, or its settings do not fit the class.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        section, content = data["kind"], data["settings"]
        return TypeAdapter(settings).validate_python(content)
    except ValidationError as error:
        raise UserError(
            "wrong spec", str(path), f"the settings ({section}) are not those that this command reads", "run `snakemake`, which writes it"
        ) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError("unreadable spec", str(path), str(error).splitlines()[0], "specs are written by the workflow; rerun it") from error


def specs_below(folder: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path below the folder without suffix, and content, of every spec file in a folder and its subfolders, sorted.

    Args:
        folder: `layout.Results.specs`.
    """
    for path in sorted(Path(folder).rglob("*.json")):
        yield path.relative_to(folder).with_suffix("").as_posix(), json.loads(path.read_text(encoding="utf-8"))
