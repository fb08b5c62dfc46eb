"""Settings of a knowledge base: a UMLS release, or open ontologies; `files()` lists the files that it is read from.

Imports pydantic only. `rrf` and `ontologies` read the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from mentionforge.entries import Entry

if TYPE_CHECKING:
    from mentionforge.kb.extracted import Extracted
    from mentionforge.kb.parents import ParentTable

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


class RrfKb(Entry):
    """A UMLS release in Rich Release Format."""

    of_umls: ClassVar[bool] = True

    source: Literal["rrf"]
    path: str = Field(description="META folder with MRCONSO.RRF and its sisters, or the release's zip as downloaded.")
    licensed: str | None = Field(None, description="How to obtain the release; then its absence is an error of the job, not of the config.")
    semantic_group: SemanticGroup | None = Field("disorders", description="UMLS semantic group whose types are kept; none: all types.")
    semantic_types: tuple[str, ...] = Field((), description="Semantic types (T047, …) kept; overrides semantic_group.")
    languages: tuple[str, ...] = Field(("ENG",), description="Languages (LAT) of the names kept.")
    include_sources: tuple[str, ...] = Field((), description="Source vocabularies (SAB) whose names are kept; empty: all.")
    exclude_sources: tuple[str, ...] = Field((), description="Source vocabularies (SAB) whose names are dropped.")
    suppress: tuple[str, ...] = Field(("O", "E", "Y"), description="SUPPRESS flags that drop a name or definition.")
    definition_sources: tuple[str, ...] = Field((), description="Source vocabularies whose definitions are preferred, in this order; then by MRRANK.")
    require_definition: bool = Field(False, description="Keep only concepts with a definition.")
    max_names_per_concept: int | None = Field(None, ge=1, description="At most this many distinct names, the preferred ones first; none: all.")
    inconsistent: Literal["error", "warn"] = Field(
        "error", description="Files that contradict MRFILES or each other (mixed releases, a selection made by hand): stop, or warn."
    )
    xref_sources: tuple[str, ...] = Field(
        ("MSH", "OMIM", "SNOMEDCT_US", "ICD10CM", "ORPHANET", "HPO", "MONDO"), description="Source vocabularies whose codes are kept as cross-references."
    )

    def files(self) -> list[str]:
        """What it is read from: the release."""
        return [self.path]

    def read(self) -> Extracted:
        """Tables of the release's selected concepts."""
        from mentionforge.kb.rrf.read import read

        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from MRREL.RRF; `kb` is the folder of the extracted tables."""
        from mentionforge import tables
        from mentionforge.kb.parents import of_release

        return of_release(self, tables.read(tables.CONCEPTS, kb / "concepts.parquet")["cui"])


class OtherOntology(Entry):
    """An ontology besides Mondo, the Disease Ontology and HPO: Orphanet's, or one of your own."""

    path: str = Field(description="OBO, OBO Graphs JSON or RDF/XML OWL; may be .gz or .zst.")
    roots: tuple[str, ...] = Field((), description="Ids of the terms whose branches are kept (the disease branch); empty: all.")
    semantic_type: str = Field("T047", pattern=r"^T\d{3}$", description="UMLS semantic type of its concepts.")


class OntologyKb(Entry):
    """Open ontologies merged into UMLS concepts by their published cross-references."""

    of_umls: ClassVar[bool] = False

    source: Literal["ontologies"]
    mondo: str | None = Field(None, description="Mondo as published (OBO, OBO Graphs JSON, OWL), or a JSON mapping of its terms; may be .gz or .zst.")
    mondo_sssom: dict[Literal["UMLS", "MSH", "OMIM", "OMIMPS", "DOID"], str] = Field(
        default_factory=dict, description="Mondo's exact matches (SSSOM TSV) by target vocabulary."
    )
    doid: str | None = Field(None, description="Human Disease Ontology as published, or a JSON list of its terms; may be .gz or .zst.")
    doid_xrefs: str | None = Field(None, description="Human Disease Ontology cross-references (TSV).")
    doid_definitions: str | None = Field(None, description="Human Disease Ontology definitions (facets TSV, may be .gz).")
    hpo: str | None = Field(None, description="Human Phenotype Ontology as published (OBO, OBO Graphs JSON, OWL).")
    others: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], OtherOntology] = Field(
        default_factory=dict, description="Further ontologies by vocabulary name (ORPHANET, …), in order of preference after HPO."
    )
    sssom: tuple[str, ...] = Field((), description="Further exact matches (SSSOM TSV, may be .gz) of terms, UMLS CUIs, MeSH and OMIM ids.")
    several_cuis: Literal["all", "lowest", "drop"] = Field("all", description="A term with several CUIs: names them all, the lowest, or is left out.")
    mesh_names: tuple[str, ...] = Field((), description="MeSH names and synonyms (TSV), descriptors and supplementary records.")
    mesh_name_match: bool = Field(True, description="Map a MeSH id without a cross-reference to the CUIs that bear one of its names.")

    def files(self) -> list[str]:
        """What it is read from, sorted."""
        single = [self.mondo, self.doid, self.doid_xrefs, self.doid_definitions, self.hpo]
        listed = [*self.mondo_sssom.values(), *self.mesh_names, *self.sssom, *(other.path for other in self.others.values())]
        return sorted([path for path in single if path] + listed)

    def read(self) -> Extracted:
        """Tables of the merged ontologies."""
        from mentionforge.kb.ontologies.merge import read

        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from the ontologies' own; `kb` is the folder of the extracted tables."""
        from mentionforge import tables
        from mentionforge.kb.parents import of_ontologies

        return of_ontologies(self, tables.read(tables.XREFS, kb / "xrefs.parquet"))


Kb = Annotated[RrfKb | OntologyKb, Field(discriminator="source")]


Hierarchy = Literal["auto", "required", "none"]
HIERARCHY: Any = Field(
    "auto",
    description="Hierarchy of the knowledge bases, for errors of linkers. auto: as far as their sources have one. required: it must be there. none: not read.",
)
"""The setting `hierarchy` of the configuration."""
