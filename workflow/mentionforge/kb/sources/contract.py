"""The contract of a source of knowledge bases: the base of its settings, and the tables that it gives.

In: an entry of `kbs`. Out: an `Extracted`, which `extract` writes, and a `ParentTable`, which `parents` writes.
Knows no source; imports pydantic only, as the sources do at module level.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mentionforge.entries import Entry

if TYPE_CHECKING:
    import pyarrow as pa


class Extracted(NamedTuple):
    """The five tables of a knowledge base.

    Attributes:
        concepts, names, definitions, xrefs, retired: Tables of `mentionforge.tables`, sorted by key.
        inputs: Files read, by role.
        funnel: Counts of rows read and dropped, by reason.
    """

    concepts: pa.Table
    names: pa.Table
    definitions: pa.Table
    xrefs: pa.Table
    retired: pa.Table
    inputs: dict[str, Path]
    funnel: dict[str, Any]


class ParentTable(NamedTuple):
    """Parents of concepts.

    Attributes:
        rows: Rows of `tables.PARENTS`.
        inputs: Files read, by role.
        funnel: Counts of rows read and dropped, by reason.
        missing: Why there is no hierarchy; none: there is one.
    """

    rows: pa.Table
    inputs: dict[str, Path]
    funnel: dict[str, Any]
    missing: str | None = None


class KnowledgeBase(Entry):
    """Base of the settings of every source.

    Attributes:
        part: Part of the code (`versions.VERSIONED_CODE`) whose version stands in the spec file.
        of_umls: Whether its texts are under the licence of UMLS.
        licensed_text: Whether its texts are licensed wherever its files lie.
        usual_size: Concepts with a definition, and names of all concepts, for estimates of costs: the open ontologies as counted.
    """

    if TYPE_CHECKING:
        source: str

    part: ClassVar[str]
    of_umls: ClassVar[bool] = False
    licensed_text: ClassVar[bool] = False
    usual_size: ClassVar[tuple[int, int]] = (25_440, 190_441)

    def files(self) -> list[str]:
        """Files that it is read from."""
        raise NotImplementedError

    def readers(self) -> list[str]:
        """Parts of the code, besides `part`, whose versions count for what it reads."""
        return []

    def files_in(self, folder: Path) -> list[Path]:
        """Files that are read of a folder that `files` names: by default those directly in it."""
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))

    def estimated_size(self, folder: Path) -> tuple[int, int]:
        """As `usual_size`, or less if its files are small.

        Args:
            folder: What its paths refer to.
        """
        return self.usual_size

    def licence(self, name: str) -> str | None:
        """What its text is called where it must not go unasked (bundles), or none.

        Args:
            name: Name of the entry.
        """
        return "umls" if self.of_umls else f"kb {name}" if getattr(self, "licensed", None) else None

    def read(self) -> Extracted:
        """Its tables."""
        raise NotImplementedError

    def parents(self, kb: Path) -> ParentTable:
        """Its hierarchy. By default it has none.

        Args:
            kb: Folder of the extracted tables.
        """
        from mentionforge import tables

        return ParentTable(tables.build(tables.PARENTS, []), {}, {}, f"the source {self.source} has none")
