"""What the rules of knowledge bases ask."""

from __future__ import annotations

from mentionforge.dag.shared import Stage, Wildcards


class KbInputs(Stage):
    """Inputs of an extraction."""

    def files(self, wildcards: Wildcards) -> list[str]:
        """Input files of a knowledge base."""
        return self.input_files("kbs", wildcards.kb)
