"""What the rules of other systems' predictions ask."""

from __future__ import annotations

from collections.abc import Callable

from mentionforge.dag.shared import Paths, Stage, Wildcards
from mentionforge.external.settings import files_below


class ExternalInputs(Stage):
    """Where the predictions of external linkers and recognizers lie."""

    def path(self, kind: str) -> Callable[[Wildcards], str]:
        """Params function: the file or folder of an external entry for the corpus in the wildcards."""

        def path(wildcards: Wildcards) -> str:
            found: str = getattr(self.config, kind)[getattr(wildcards, kind[:-1])].path_for(wildcards.corpus)
            return found

        return path

    def files(self, kind: str) -> Callable[[Wildcards], list[str]]:
        """Input function: that file, or the files of that folder."""

        def files(wildcards: Wildcards) -> list[str]:
            return files_below(self.path(kind)(wildcards))

        return files

    def id_map(self, wildcards: Wildcards) -> Paths:
        """The corpus' replacements of ids, if it has some."""
        return self.config.corpora[wildcards.corpus].id_map or []
