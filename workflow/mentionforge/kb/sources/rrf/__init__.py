"""The source `rrf`: a UMLS release in Rich Release Format.

In: an entry of `kbs`. Out: its model, and by `read` and `parents` its tables. Imports pydantic only, outside of functions. Knows nothing of RRF files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.kb.sources.contract import KnowledgeBase

if TYPE_CHECKING:
    from mentionforge.kb.sources.contract import Extracted, ParentTable

SemanticGroup = Literal[
    "activities_and_behaviors",
    "anatomy",
    "chemicals_and_drugs",
    "concepts_and_ideas",
    "devices",
    "disorders",
    "genes_and_molecular_sequences",
    "geographic_areas",
    "living_beings",
    "objects",
    "occupations",
    "organizations",
    "phenomena",
    "physiology",
    "procedures",
]


DEFINITION_BYTES, NAME_BYTES = 250, 100
"""Of MRDEF.RRF per definition, and of MRCONSO.RRF per name."""


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


class RrfKb(KnowledgeBase):
    """A UMLS release in Rich Release Format."""

    part: ClassVar[str] = "kb.rrf"
    of_umls: ClassVar[bool] = True
    usual_size: ClassVar[tuple[int, int]] = (47_654, 1_200_000)
    """The disorders, as released with the paper and estimated."""

    source: Literal["rrf"]
    path: str = Field(description="META folder with MRCONSO.RRF and its sisters, or the release's zip as downloaded.")
    licensed: str | None = Field(None, description="How to obtain the release; then its absence is an error of the job, not of the config.")
    semantic_group: SemanticGroup | None = Field("disorders", description="UMLS semantic group whose types are kept; none: all types.")
    semantic_types: tuple[str, ...] = Field((), examples=[["T047"]], description="Semantic types (T047, …) kept; overrides semantic_group.")
    languages: tuple[str, ...] = Field(("ENG",), description="Languages (LAT) of the names kept.")
    include_sources: tuple[str, ...] = Field((), examples=[["SNOMEDCT_US", "MSH"]], description="Source vocabularies (SAB) whose names are kept; empty: all.")
    exclude_sources: tuple[str, ...] = Field((), examples=[["MEDCIN"]], description="Source vocabularies (SAB) whose names are dropped.")
    suppress: tuple[str, ...] = Field(("O", "E", "Y"), description="SUPPRESS flags that drop a name or definition.")
    definition_sources: tuple[str, ...] = Field(
        (), examples=[["MSH", "NCI"]], description="Source vocabularies whose definitions are preferred, in this order; then by MRRANK."
    )
    require_definition: bool = Field(False, description="Keep only concepts with a definition.")
    max_names_per_concept: int | None = Field(None, ge=1, examples=[20], description="At most this many distinct names, the preferred ones first; none: all.")
    inconsistent: Literal["error", "warn"] = Field(
        "error", description="Files that contradict MRFILES or each other (mixed releases, a selection made by hand): stop, or warn."
    )
    xref_sources: tuple[str, ...] = Field(
        ("MSH", "OMIM", "SNOMEDCT_US", "ICD10CM", "ORPHANET", "HPO", "MONDO"), description="Source vocabularies whose codes are kept as cross-references."
    )

    def files(self) -> list[str]:
        """The release."""
        return [self.path]

    def estimated_size(self, folder: Path) -> tuple[int, int]:
        """At most what fits into the files of an unpacked release, if it is at hand."""
        release = folder / self.path
        if not release.is_dir():
            return self.usual_size
        held = (size_of(release / name) // least for name, least in (("MRDEF.RRF", DEFINITION_BYTES), ("MRCONSO.RRF", NAME_BYTES)))
        definitions, names = map(min, self.usual_size, held)
        return definitions, names

    def read(self) -> Extracted:
        """Tables of the release's selected concepts."""
        from mentionforge.kb.sources.rrf.read import read

        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from MRREL.RRF; `kb` is the folder of the extracted tables."""
        from mentionforge import tables
        from mentionforge.kb.sources.rrf.parents import read_parents

        return read_parents(self, tables.read(tables.CONCEPTS, kb / "concepts.parquet")["cui"])
