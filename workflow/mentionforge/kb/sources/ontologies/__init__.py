"""The source `ontologies`: open ontologies, merged by UMLS CUI or under their own ids.

In: an entry of `kbs`. Out: its model, and by `merge` and `parents` its tables. Imports pydantic only, outside of functions.
Knows nothing of how an ontology is read: `registry` lists them, one module each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mentionforge.entries import Entry
from mentionforge.kb.sources.contract import KnowledgeBase

if TYPE_CHECKING:
    from mentionforge.kb.sources.contract import Extracted, ParentTable


class OtherOntology(Entry):
    """An ontology besides Mondo, the Disease Ontology and HPO: Orphanet's, or one of your own."""

    path: str = Field(description="OBO, OBO Graphs JSON or RDF/XML OWL; may be .gz or .zst.")
    roots: tuple[str, ...] = Field((), description="Ids of the terms whose branches are kept (the disease branch); empty: all.")
    semantic_type: str = Field("T047", pattern=r"^T\d{3}$", description="UMLS semantic type of its concepts.")


class OntologyKb(KnowledgeBase):
    """Open ontologies, merged into UMLS concepts by their published cross-references, or concepts under their own ids."""

    part: ClassVar[str] = "kb.ontologies"

    source: Literal["ontologies"]
    ids: Literal["umls", "native"] = Field(
        "umls",
        exclude_if=lambda ids: ids == "umls",  # specs written before there was a choice stay as they are
        description="Concept ids. umls: CUIs; terms without one are dropped. native: the ids of the ontologies (HP:0001250); every term is a concept.",
    )
    merge_matches: bool = Field(
        False, exclude_if=lambda merge: not merge, description="With native ids: join a term to the one term of an earlier ontology that it matches exactly."
    )
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

    @model_validator(mode="after")
    def _merging(self) -> OntologyKb:
        if self.merge_matches and self.ids == "umls":
            raise ValueError("merge_matches is for `ids: native`; with `ids: umls` terms are always merged by CUI")
        return self

    def files(self) -> list[str]:
        """What it is read from, sorted."""
        from mentionforge.kb.sources.ontologies.registry import ONTOLOGIES

        return sorted([path for ontology in ONTOLOGIES for path in ontology.files(self).values() if path] + list(self.sssom))

    def read(self) -> Extracted:
        """Tables of the merged ontologies."""
        from mentionforge.kb.sources.ontologies.merge import read

        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from the ontologies' own; `kb` is the folder of the extracted tables."""
        from mentionforge import tables
        from mentionforge.kb.sources.ontologies.parents import read_parents

        return read_parents(self, tables.read(tables.XREFS, kb / "xrefs.parquet"))
