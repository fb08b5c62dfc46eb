"""The source `ontologies`: open ontologies, merged by UMLS CUI or under their own ids.

In: an entry of `kbs`. Out: its model, and by `merge` and `parents` its tables. Imports pydantic only, outside of functions.
Knows nothing of how an ontology is read. `OntologyKb` names the settings of all. A new one: its module (see `contract`), its import, and one base.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field, model_validator

from mentionforge.kb.sources.contract import KnowledgeBase
from mentionforge.kb.sources.ontologies.contract import Ontology, OntologySettings
from mentionforge.kb.sources.ontologies.doid import DoidSettings
from mentionforge.kb.sources.ontologies.hpo import HpoSettings
from mentionforge.kb.sources.ontologies.mesh import MeshSettings
from mentionforge.kb.sources.ontologies.mondo import MondoSettings
from mentionforge.kb.sources.ontologies.other import OtherOntologies

if TYPE_CHECKING:
    from mentionforge.kb.sources.contract import Extracted, ParentTable


class OntologyKb(KnowledgeBase, MondoSettings, DoidSettings, HpoSettings, OtherOntologies, MeshSettings):
    """Open ontologies, merged into UMLS concepts by their published cross-references, or concepts under their own ids."""

    part: ClassVar[str] = "kb.ontologies"

    source: Literal["ontologies"]
    sssom: tuple[str, ...] = Field(
        (), examples=[["matches.sssom.tsv"]], description="Further exact matches (SSSOM TSV, may be .gz) of terms, UMLS CUIs, MeSH and OMIM ids."
    )
    several_cuis: Literal["all", "lowest", "drop"] = Field("all", description="A term with several CUIs: names them all, the lowest, or is left out.")

    @model_validator(mode="after")
    def _merging(self) -> OntologyKb:
        if self.merge_matches and self.ids == "umls":
            raise ValueError("merge_matches is for `ids: native`; with `ids: umls` terms are always merged by CUI")
        return self

    def files(self) -> list[str]:
        """Files of all ontologies, sorted."""
        return sorted([path for ontology in ONTOLOGIES for path in ontology.files(self).values() if path] + list(self.sssom))

    def readers(self) -> list[str]:
        """Parts of the code that read the ontologies that are given."""
        return [part for part, ontology in zip(ONTOLOGY_PARTS, ONTOLOGIES, strict=True) if any(ontology.files(self).values())]

    def read(self) -> Extracted:
        """Tables of the merged ontologies."""
        from mentionforge.kb.sources.ontologies.merge import read

        return read(self)

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from the ontologies' own; `kb` is the folder of the extracted tables."""
        from mentionforge import tables
        from mentionforge.kb.sources.ontologies.parents import read_parents

        return read_parents(self, tables.read(tables.XREFS, kb / "xrefs.parquet"))


_MODULES = [base.__module__ for base in OntologyKb.__bases__ if issubclass(base, OntologySettings)]
ONTOLOGIES: tuple[Ontology, ...] = tuple(cast(Ontology, import_module(module)) for module in _MODULES)
"""The modules, in order of preference: the first with a concept sets its preferred name and definition."""
ONTOLOGY_PARTS = tuple(f"ontology.{module.rpartition('.')[2]}" for module in _MODULES)
"""Parts of the code (`mentionforge.versions`), in the same order."""
