"""Inputs of the rules of specs, weights, downloads and missing licensed inputs.

In: the configuration, and wildcards. Out: texts of specs, settings and paths. Knows nothing of how files are fetched.
"""

from __future__ import annotations

from pathlib import Path

from mentionforge.config import spec_text
from mentionforge.dag.shared import StageInputs, Wildcards
from mentionforge.models import files_state


class ResourceInputs(StageInputs):
    """Texts of spec files, and sources of weights and files."""

    def spec_content(self, wildcards: Wildcards) -> str:
        """Text of the spec file that the wildcards name."""
        return spec_text(self.config, wildcards.kind, wildcards.entry)

    def model_settings(self, wildcards: Wildcards) -> str | list[str]:
        """Source of a model's weights, as JSON. For a local folder also a text that changes with its files, so that changed files are fetched again."""
        model = self.config.models[wildcards.model]
        text = model.model_dump_json(exclude_none=True, exclude_defaults=True)
        return [text, "--seen", files_state(model, Path(self.resources.model(wildcards.model)).parent)] if model.path else text

    def download_settings(self, wildcards: Wildcards) -> str:
        """Source of a published file, as JSON."""
        return self.config.downloads[wildcards.download].model_dump_json(exclude_none=True)

    def licensed_hint(self, wildcards: Wildcards) -> str:
        """Instructions for obtaining a licensed input."""
        hint: str = getattr(self.config, wildcards.kind)[wildcards.name].licensed
        return hint
