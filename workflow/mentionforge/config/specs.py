"""Spec files: the resolved settings of an entry, as jobs read them from results/specs."""

from __future__ import annotations

import json
from typing import Any

from mentionforge import versions
from mentionforge.config.schema import Config
from mentionforge.generation.settings import PARTS


def spec(config: Config, kind: str, name: str, part: str | None = None) -> dict[str, Any]:
    """Resolved settings of an entry, as plain JSON data: `{kind, name, part, stage_version, settings}`.

    Settings that name a model or a kb hold the name only; what that name means is a spec of its own.

    Args:
        config: The validated config.
        kind: Section of the config, as "linkers"; a stage of `versions.OWN_SPECS`; or "parts", for the version of a part alone.
        name: Entry of the section; part of the stage; or name of the part.
        part: For generators, one of `PARTS`: only the settings that this part of the stage reads.
    """
    if kind == "parts" or kind in versions.OWN_SPECS:
        read = {"statistics.compare": config.statistics, "report.page": config.report}.get(f"{kind}.{name}")
        version = versions.number(name if kind == "parts" else f"{kind}.{name}")
        return {"kind": kind, "name": name, "part": None, "stage_version": version, "settings": read.model_dump(mode="json") if read else {}}
    entry = getattr(config, kind)[name]
    include = set(PARTS[part]) if part else None
    settings = json.loads(entry.model_dump_json(include=include))
    version = versions.number(versions.of_spec(kind, entry, part))
    return {"kind": kind, "name": name, "part": part, "stage_version": version, "settings": settings}


def spec_text(config: Config, kind: str, entry: str) -> str:
    """The text of the spec file results/specs/KIND/ENTRY.json, where ENTRY is NAME or NAME/PART."""
    name, _, part = entry.partition("/")
    return json.dumps(spec(config, kind, name, part or None), sort_keys=True)
