"""The source `rf2`: a SNOMED CT release in Release Format 2.

In: an entry of `kbs`. Out: its model, and by `read` and `parents` its tables. Imports pydantic only, outside of functions. Knows nothing of RF2 files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mentionforge.kb.sources.contract import KnowledgeBase

if TYPE_CHECKING:
    from mentionforge.kb.sources.contract import Extracted, ParentTable

SctId = Annotated[str, Field(pattern=r"^\d{6,18}$")]

CLINICAL_FINDING = "404684003"
"""Root of disorders and findings."""

US_ENGLISH, GB_ENGLISH = "900000000000509007", "900000000000508004"
"""Language reference sets of the international edition."""


class Rf2Kb(KnowledgeBase):
    """A SNOMED CT snapshot: active concepts below given roots, and their descriptions in language reference sets."""

    part: ClassVar[str] = "kb.rf2"
    usual_size: ClassVar[tuple[int, int]] = (4_000, 380_000)
    """Of the clinical findings, estimated."""
    licensed_text: ClassVar[bool] = True

    source: Literal["rf2"]
    path: str = Field(
        examples=["SnomedCT_InternationalRF2_PRODUCTION.zip"], description="Folder or zip of a release; its Snapshot files are read, wherever they lie in it."
    )
    extensions: tuple[str, ...] = Field(
        (),
        examples=[["SnomedCT_USEditionRF2_PRODUCTION.zip"]],
        description="Folders or zips of extensions on top; of a component in several of them the latest version counts.",
    )
    licensed: str | None = Field(None, description="How to obtain the release; then its absence is an error of the job, not of the config.")
    roots: tuple[SctId, ...] = Field((CLINICAL_FINDING,), description="Concepts that are kept with all below them; empty: all active concepts.")
    semantic_tags: tuple[str, ...] = Field(
        (), examples=[["disorder"]], description="Tags of fully specified names (disorder, finding, …) whose concepts are kept; empty: all."
    )
    language_refsets: tuple[SctId, ...] = Field(
        (US_ENGLISH, GB_ENGLISH), description="Language reference sets whose descriptions are names, in order of preference; empty: all descriptions."
    )
    fsn: Literal["without_tag", "as_published", "none"] = Field(
        "without_tag", description="The fully specified name as a name: Gout, Gout (disorder), or only where there is no other."
    )

    def files(self) -> list[str]:
        """The release and its extensions."""
        return [self.path, *self.extensions]

    def files_in(self, folder: Path) -> list[Path]:
        """The snapshot's files in a folder that are read."""
        from mentionforge.kb.sources.rf2.files import snapshot_files

        return snapshot_files(folder)

    def licence(self, name: str) -> str | None:
        """SNOMED CT, whatever the settings say."""
        return "snomedct"

    def read(self) -> Extracted:
        """Tables of the selected concepts."""
        from mentionforge.kb.sources.rf2.read import read

        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from the is-a relationships; `kb` is the folder of the extracted tables."""
        from mentionforge import tables
        from mentionforge.kb.sources.rf2.parents import read_parents

        return read_parents(self, tables.read(tables.CONCEPTS, kb / "concepts.parquet")["cui"])
