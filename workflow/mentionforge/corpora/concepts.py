"""Ids of a corpus become sets of CUIs, through the cross-references of a knowledge base.

An id may stand for several CUIs; all are kept. An id that has none is never dropped: it is returned with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mentionforge import tables

REASONS = {
    "no_id": "the corpus gives no id",
    "vocabulary_not_in_kb": "the knowledge base has no cross-reference from this vocabulary",
    "code_not_in_kb": "the knowledge base has no cross-reference from this id",
    "cui_not_in_kb": "neither a concept of the knowledge base nor a retired CUI with a successor",
    "cui_deleted": "the CUI was deleted from UMLS, and nothing stands for it",
    "concept_not_in_kb": "all CUIs it maps to are outside of the knowledge base",
}


@dataclass(frozen=True)
class Mapped:
    """What an id maps to.

    Attributes:
        cuis: CUIs, sorted.
        reason: Why there are none.
        retired: If a retired CUI was replaced, how its successors relate to it (SY, RB, …, joined by +).
        via: What gave the CUIs: `cui`, `retired`, or the maps of the cross-references (joined by +).
    """

    cuis: tuple[str, ...]
    reason: str = ""
    retired: str = ""
    via: str = ""


class ConceptMap:
    """Maps prefixed ids (MSH:D…, OMIM:…, CUI:…) to CUIs that the knowledge base names."""

    def __init__(self, known: Iterable[str], xrefs: Iterable[tuple[str, str, str, str]], retired: Iterable[tuple[str, str, str]] = ()) -> None:
        """`known`: CUIs with a name; `xrefs`: source, code, CUI, map; `retired`: old CUI, relation, CUI (empty: deleted)."""
        self._known = set(known)
        self._codes: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for source, code, cui, via in xrefs:
            self._codes[source, code][cui].add(via)
        self._retired: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for old, relation, cui in retired:
            self._retired[old][cui].add(relation)
        self._sources = {source for source, _ in self._codes}

    @classmethod
    def load(cls, kb: Path) -> ConceptMap:
        """From `names.parquet`, `xrefs.parquet` and `retired.parquet` of a knowledge base.

        Raises:
            UserError: A table is missing or breaks its contract.
        """
        names, xrefs, retired = (tables.read(t, kb / f"{t.name}.parquet") for t in (tables.NAMES, tables.XREFS, tables.RETIRED))

        def rows(table: pa.Table, *columns: str) -> Iterable[tuple[str, ...]]:
            return zip(*(table.column(c).to_pylist() for c in columns), strict=True)

        return cls(
            names.column("cui").unique().to_pylist(),
            rows(xrefs, "source", "code", "cui", "via"),  # type: ignore[arg-type]
            rows(retired, "retired", "relation", "cui"),  # type: ignore[arg-type]
        )

    def __call__(self, concept_id: str) -> Mapped:
        """All CUIs of an id; an empty id has none."""
        if not concept_id:
            return Mapped((), "no_id")
        vocabulary, _, code = concept_id.partition(":")
        if vocabulary == "CUI" and code in self._known:
            return Mapped((code,), via="cui")
        found = self._retired.get(code, {}) if vocabulary == "CUI" else self._codes.get((vocabulary, code), {})
        if kept := sorted(set(found) & self._known):
            ways = "+".join(sorted(set().union(*(found[cui] for cui in kept))))
            return Mapped(tuple(kept), retired=ways, via="retired") if vocabulary == "CUI" else Mapped(tuple(kept), via=ways)
        if vocabulary == "CUI":
            return Mapped((), "cui_deleted" if "" in found else "cui_not_in_kb")
        if found:
            return Mapped((), "concept_not_in_kb")
        return Mapped((), "code_not_in_kb" if vocabulary in self._sources else "vocabulary_not_in_kb")
