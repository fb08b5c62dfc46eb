"""The source `obo`: any one ontology as published, in OBO, OBO Graphs JSON or RDF/XML OWL, under its own ids.

In: an entry of `kbs`. Out: its model, and by `read` and `parents` its tables. Imports no heavy library. Knows nothing of how terms are read: it is the
source `ontologies` with native ids and this ontology alone, and shares its version.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.kb.sources.contract import KnowledgeBase
from mentionforge.kb.sources.ontologies import OntologyKb
from mentionforge.kb.sources.ontologies.other import OtherOntology
from mentionforge.kb.sources.ontologies.published import VOCABULARIES

if TYPE_CHECKING:
    from mentionforge.kb.sources.contract import Extracted, ParentTable

BYTES_PER_NAME = 20
"""Fewest bytes of a file, packed or not, per name."""


class OboKb(KnowledgeBase):
    """One ontology: the terms at or below its roots that are not obsolete, under their own ids."""

    part: ClassVar[str] = "kb.ontologies"

    source: Literal["obo"]
    path: str = Field(examples=["hp.obo"], description="OBO, OBO Graphs JSON or RDF/XML OWL; may be .gz or .zst.")
    licensed: str | None = Field(None, description="How to obtain the file; then its absence is an error of the job, and its text is licensed.")
    roots: tuple[str, ...] = Field((), examples=[["HP:0000118"]], description="Ids of the terms that are kept with all below them (HP:0000118); empty: all.")
    vocabulary: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_]+$",
        examples=["HPO"],
        description="Vocabulary of ids without a prefix, and the ontology's name in counts; none: the file's name.",
    )
    semantic_type: str = Field("T047", pattern=r"^T\d{3}$", description="UMLS semantic type of its concepts.")
    sssom: tuple[str, ...] = Field(
        (), examples=[["matches.sssom.tsv"]], description="Exact matches (SSSOM TSV, may be .gz) of its terms; the other side becomes a code of the concept."
    )

    def files(self) -> list[str]:
        """What it is read from."""
        return sorted([self.path, *self.sssom])

    def estimated_size(self, folder: Path) -> tuple[int, int]:
        """At most what fits into the file, if it is at hand."""
        path = folder / self.path
        if not path.is_file():
            return self.usual_size
        definitions, names = (min(usual, path.stat().st_size // BYTES_PER_NAME) for usual in self.usual_size)
        return definitions, names

    def as_ontologies(self) -> OntologyKb:
        """The same as an entry of the source `ontologies`."""
        stem = re.sub(r"\W", "_", Path(self.path).name.partition(".")[0])
        name = self.vocabulary or VOCABULARIES.get(stem.lower(), stem.upper())
        other = OtherOntology(path=self.path, roots=self.roots, semantic_type=self.semantic_type)
        return OntologyKb(source="ontologies", ids="native", others={name: other}, sssom=self.sssom)

    def readers(self) -> list[str]:
        """The part of the code that reads an ontology."""
        return self.as_ontologies().readers()

    def read(self) -> Extracted:
        """Its tables."""
        return self.as_ontologies().read()

    def parents(self, kb: Path) -> ParentTable:
        """The hierarchy, from its is_a; `kb` is the folder of the extracted tables."""
        return self.as_ontologies().parents(kb)
