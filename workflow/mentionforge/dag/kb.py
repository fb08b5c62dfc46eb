"""Inputs of the rules of knowledge bases.

In: the configuration, and wildcards. Out: paths. Knows nothing of sources of knowledge bases: it asks their settings.
"""

from __future__ import annotations

from mentionforge.dag.shared import StageInputs, Wildcards


class KbInputs(StageInputs):
    """Inputs of an extraction."""

    def files(self, wildcards: Wildcards) -> list[str]:
        """Input files of a knowledge base."""
        return self.input_files("kbs", wildcards.kb)

    def raised_of_readers(self, wildcards: Wildcards) -> list[str]:
        """`raised` for the code that reads what the knowledge base is made of, such as each ontology."""
        return self.raised(*self.config.kbs[wildcards.kb].readers())(wildcards)
