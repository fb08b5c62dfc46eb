"""The content of spec files in results/specs, from which jobs read the resolved settings of an entry.

In: the validated configuration and the name of an entry. Out: the JSON text. Writes no file. Knows nothing of which jobs read them.
"""

from __future__ import annotations

import json
from typing import Any

from mentionforge import versions
from mentionforge.config.schema import Config
from mentionforge.generation.prompt_settings import Prompt, part_of_prompt
from mentionforge.generation.settings import settings_of_step
from mentionforge.generation.shipped_prompts import SHIPPED


def spec(config: Config, section: str, name: str, step: str | None = None) -> dict[str, Any]:
    """Resolved settings of an entry, as plain JSON data: `{kind, name, part, stage_version, settings}`; `kind` is the section, `part` the step.

    A setting that refers to a model or kb holds its name only; the entry of that name has a spec of its own.

    Args:
        config: The validated config.
        section: Section of the config, as "linkers"; a stage of `versions.OWN_SPECS`; or "parts", for the version of a part alone.
        name: Entry of the section; part of the code of the stage; or name of the part.
        step: For generators, one of `generation.settings.STEPS`: only the settings that this step reads.
    """
    if section == "parts" or section in versions.OWN_SPECS:
        stage_settings = {"statistics.compare": config.statistics, "report.page": config.report}.get(f"{section}.{name}")
        version = versions.number(name if section == "parts" else f"{section}.{name}")
        return {
            "kind": section,
            "name": name,
            "part": None,
            "stage_version": version,
            "settings": stage_settings.model_dump(mode="json") if stage_settings else {},
        }
    entry = getattr(config, section)[name]
    include = settings_of_step(step, type(entry).model_fields) if step else None
    settings = json.loads(entry.model_dump_json(include=include))
    if section == "generators" and "prompt" in settings:
        del settings["prompt"]
        settings |= _prompt(entry, step)
    version = versions.number(versions.of_spec(section, entry, step))
    return {"kind": section, "name": name, "part": step, "stage_version": version, "settings": settings}


def _prompt(entry: Any, step: str | None) -> dict[str, Any]:
    """What the spec of a generator holds of its prompt: nothing for the default one, as it comes with the program; else the text, not the name."""
    default = SHIPPED[type(entry).model_fields["prompt"].default]
    if not isinstance(entry.prompt, Prompt):
        return {}
    held, usual = (part_of_prompt(prompt, step or "sampling") for prompt in (entry.prompt, default))
    return {"prompt": held} if held and held != usual else {}


def spec_text(config: Config, section: str, entry: str) -> str:
    """The text of the spec file results/specs/SECTION/ENTRY.json, where ENTRY is NAME or NAME/STEP."""
    name, _, step = entry.partition("/")
    return json.dumps(spec(config, section, name, step or None), sort_keys=True)
