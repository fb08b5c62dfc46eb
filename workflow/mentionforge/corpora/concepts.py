"""Ids of a corpus become sets of CUIs, through the cross-references of a knowledge base.

An id may stand for several CUIs; all are kept. An id that has none is never dropped: it is returned with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mentionforge import tables

REASONS = {
    "no_id": "the corpus gives no id",
    "vocabulary_not_in_kb": "the knowledge base has no cross-reference from this vocabulary",
    "code_not_in_kb": "the knowledge base has no cross-reference from this id",
    "cui_not_in_kb": "neither a concept of the knowledge base nor a retired CUI with a successor",
    "concept_not_in_kb": "all CUIs it maps to are outside of the knowledge base",
}


@dataclass(frozen=True)
class Mapped:
    """What an id maps to: CUIs, sorted; the reason if there are none; whether a retired CUI was replaced."""

    cuis: tuple[str, ...]
    reason: str = ""
    retired: bool = False


class ConceptMap:
    """Maps prefixed ids (MSH:D…, OMIM:…, CUI:…) to CUIs that the knowledge base names."""

    def __init__(self, known: Iterable[str], xrefs: Iterable[tuple[str, str, str]]) -> None:
        """`known`: CUIs with a name; `xrefs`: source, code, CUI, where source RETIRED replaces retired CUIs."""
        self._known = set(known)
        self._codes: dict[tuple[str, str], set[str]] = defaultdict(set)
        for source, code, cui in xrefs:
            self._codes[source, code].add(cui)
        self._sources = {source for source, _ in self._codes}

    @classmethod
    def load(cls, kb: Path) -> ConceptMap:
        """From `names.parquet` and `xrefs.parquet` of a knowledge base.

        Raises:
            UserError: A table is missing or breaks its contract.
        """
        names = tables.read(tables.NAMES, kb / "names.parquet")
        xrefs = tables.read(tables.XREFS, kb / "xrefs.parquet")
        return cls(names.column("cui").unique().to_pylist(), zip(*(xrefs.column(c).to_pylist() for c in ("source", "code", "cui")), strict=True))

    def __call__(self, concept_id: str) -> Mapped:
        """All CUIs of an id; an empty id has none."""
        if not concept_id:
            return Mapped((), "no_id")
        vocabulary, _, code = concept_id.partition(":")
        if vocabulary == "CUI" and code in self._known:
            return Mapped((code,))
        source = "RETIRED" if vocabulary == "CUI" else vocabulary
        found = self._codes.get((source, code), set())
        if kept := found & self._known:
            return Mapped(tuple(sorted(kept)), retired=source == "RETIRED")
        if found:
            return Mapped((), "concept_not_in_kb")
        if vocabulary == "CUI":
            return Mapped((), "cui_not_in_kb")
        return Mapped((), "code_not_in_kb" if source in self._sources else "vocabulary_not_in_kb")
