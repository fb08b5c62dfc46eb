"""Linker `external`: rankings that another system made; `mentionforge.external.rankings` imports them.

In: an entry of `linkers`. Out: its model. Knows nothing of the form of its files.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.external.settings import External
from mentionforge.normalization.linkers.contract import LinkerSettings


class ExternalLinker(External, LinkerSettings):
    """Rankings of concepts that another system made for the gold mentions of a corpus."""

    part: ClassVar[str] = "external.rankings"
    imported: ClassVar[bool] = True

    kind: Literal["external"]
    id_prefix: str = Field(
        "auto",
        min_length=1,
        description="Vocabulary of ids without a prefix: CUI, MSH, OMIM, …; auto: CUI for what looks like one, otherwise that of the corpus.",
    )
    missing: Literal["error", "wrong"] = Field("error", description="A test mention without an answer: stop, or count it as wrong and say how many there are.")
