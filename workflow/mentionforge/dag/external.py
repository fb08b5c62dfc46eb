"""Inputs of the rules that read predictions of external systems.

In: the configuration, and wildcards. Out: paths and flags. Knows nothing of what the files hold.
"""

from __future__ import annotations

from collections.abc import Callable

from mentionforge.dag.shared import Paths, StageInputs, Wildcards
from mentionforge.external.settings import files_below


class ExternalInputs(StageInputs):
    """Files with the predictions of external linkers and recognizers."""

    def path(self, kind: str) -> Callable[[Wildcards], str]:
        """Params function: the file or folder of an external entry for the corpus in the wildcards."""

        def path(wildcards: Wildcards) -> str:
            file: str = getattr(self.config, kind)[getattr(wildcards, kind[:-1])].path_for(wildcards.corpus)
            return file

        return path

    def files(self, kind: str) -> Callable[[Wildcards], list[str]]:
        """Input function: the file of an external entry, or all files of its folder."""

        def files(wildcards: Wildcards) -> list[str]:
            return files_below(self.path(kind)(wildcards))

        return files

    def id_map(self, wildcards: Wildcards) -> Paths:
        """The file of the corpus that maps old ids to new ones, if it has one."""
        return self.config.corpora[wildcards.corpus].id_map or []
