"""The content of spec files in results/specs, from which jobs read the resolved settings of an entry.

In: the validated configuration and the name of an entry. Out: the JSON text. Writes no file. Knows nothing of which jobs read them.
"""

from __future__ import annotations

import json
from typing import Any

from mentionforge import versions
from mentionforge.config.schema import Config
from mentionforge.generation.prompt_settings import Prompt, part_of_prompt
from mentionforge.generation.settings import settings_of_part
from mentionforge.generation.shipped_prompts import SHIPPED


def spec(config: Config, kind: str, name: str, part: str | None = None) -> dict[str, Any]:
    """Resolved settings of an entry, as plain JSON data: `{kind, name, part, stage_version, settings}`.

    A setting that refers to a model or kb holds its name only; the entry of that name has a spec of its own.

    Args:
        config: The validated config.
        kind: Section of the config, as "linkers"; a stage of `versions.OWN_SPECS`; or "parts", for the version of a part alone.
        name: Entry of the section; part of the stage; or name of the part.
        part: For generators, one of `generation.settings.PARTS`: only the settings that this part of the stage reads.
    """
    if kind == "parts" or kind in versions.OWN_SPECS:
        stage_settings = {"statistics.compare": config.statistics, "report.page": config.report}.get(f"{kind}.{name}")
        version = versions.number(name if kind == "parts" else f"{kind}.{name}")
        return {
            "kind": kind,
            "name": name,
            "part": None,
            "stage_version": version,
            "settings": stage_settings.model_dump(mode="json") if stage_settings else {},
        }
    entry = getattr(config, kind)[name]
    include = settings_of_part(part, type(entry).model_fields) if part else None
    settings = json.loads(entry.model_dump_json(include=include))
    if kind == "generators" and "prompt" in settings:
        del settings["prompt"]
        settings |= _prompt(entry, part)
    version = versions.number(versions.of_spec(kind, entry, part))
    return {"kind": kind, "name": name, "part": part, "stage_version": version, "settings": settings}


def _prompt(entry: Any, part: str | None) -> dict[str, Any]:
    """What the spec of a generator holds of its prompt: nothing for the default one, as it comes with the program; else the text, not the name."""
    default = SHIPPED[type(entry).model_fields["prompt"].default]
    if not isinstance(entry.prompt, Prompt):
        return {}
    held, usual = (part_of_prompt(prompt, part or "sampling") for prompt in (entry.prompt, default))
    return {"prompt": held} if held and held != usual else {}


def spec_text(config: Config, kind: str, entry: str) -> str:
    """The text of the spec file results/specs/KIND/ENTRY.json, where ENTRY is NAME or NAME/PART."""
    name, _, part = entry.partition("/")
    return json.dumps(spec(config, kind, name, part or None), sort_keys=True)
