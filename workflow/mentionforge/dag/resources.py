"""What the rules of specs, weights, downloads and missing inputs ask."""

from __future__ import annotations

from pathlib import Path

from mentionforge.config import spec_text
from mentionforge.dag.shared import Stage, Wildcards
from mentionforge.models import watched


class ResourceInputs(Stage):
    """Texts of specs, and where weights and files come from."""

    def spec_content(self, wildcards: Wildcards) -> str:
        """Text of the spec file that the wildcards name."""
        return spec_text(self.config, wildcards.kind, wildcards.entry)

    def model_settings(self, wildcards: Wildcards) -> str | list[str]:
        """Where the weights of a model come from, as JSON; of a local folder also what changes with its files, which makes the fetch run again."""
        model = self.config.models[wildcards.model]
        text = model.model_dump_json(exclude_none=True, exclude_defaults=True)
        return [text, "--seen", watched(model, Path(self.resources.model(wildcards.model)).parent)] if model.path else text

    def download_settings(self, wildcards: Wildcards) -> str:
        """Where a published file comes from, as JSON."""
        return self.config.downloads[wildcards.download].model_dump_json(exclude_none=True)

    def licensed_hint(self, wildcards: Wildcards) -> str:
        """What to do to obtain a licensed input."""
        hint: str = getattr(self.config, wildcards.kind)[wildcards.name].licensed
        return hint
