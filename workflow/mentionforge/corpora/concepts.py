"""Ids of a corpus become sets of CUIs, through the cross-references of a knowledge base.

An id may stand for several CUIs; by the policy `any_of_set` all are kept, by `kb_preferred` one, and the others are listed. An id that has
none is never dropped: it is returned with the reason.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mentionforge import tables
from mentionforge.corpora.concept_ids import FORMS, parse_ids
from mentionforge.errors import UserError
from mentionforge.text import normalize_surface

REASONS = {
    "no_id": "the corpus gives no id",
    "vocabulary_not_in_kb": "the knowledge base has no cross-reference from this vocabulary",
    "code_not_in_kb": "the knowledge base has no cross-reference from this id",
    "cui_not_in_kb": "neither a concept of the knowledge base nor a retired CUI with a successor",
    "cui_deleted": "the CUI was deleted from UMLS, and nothing stands for it",
    "concept_not_in_kb": "all CUIs it maps to are outside of the knowledge base",
}

ALIASES = {
    "MIM": "OMIM",
    "SNOMED": "SNOMEDCT_US",
    "SNOMEDCT": "SNOMEDCT_US",
    "SNOMED CT": "SNOMEDCT_US",
    "SCTID": "SNOMEDCT_US",
    "HP": "HPO",
    "ORPHA": "ORPHANET",
    "ORDO": "ORPHANET",
}
"""Prefixes as corpora write them, and the vocabulary (SAB) they stand for, besides those of the readers."""

MAPS = ("cui", "mondo", "doid", "hpo", "sssom", "MRCONSO", "mesh-name")
"""Order of preference of the maps (`via` of tables.XREFS); maps that are not named here, as of further ontologies, come before mesh-name."""

TERM_TYPES = ("MH", "NM", "PT", "HT", "PTCS", "FN")
"""Term types of a vocabulary's own preferred names, in MRRANK's order: a CUI that has one of them is preferred to one with entry terms alone."""

RELATIONS = ("SY", "RN", "RB", "RO")
"""Order of preference of a retired CUI's successors (MRCUI.REL)."""


@dataclass(frozen=True)
class Mapped:
    """What an id maps to.

    Attributes:
        cuis: CUIs, sorted.
        reason: Why there are none.
        retired: If a retired CUI was replaced, how its successors relate to it (SY, RB, …, joined by +).
        via: What gave the CUIs: `cui`, `retired`, or the maps of the cross-references (joined by +).
        left_out: Further CUIs, which the policy `kb_preferred` leaves out.
    """

    cuis: tuple[str, ...]
    reason: str = ""
    retired: str = ""
    via: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether the knowledge base gives several CUIs."""
        return len(self.cuis) + len(self.left_out) > 1


class ConceptMap:
    """Maps prefixed ids (MSH:D…, OMIM:…, CUI:…) to CUIs that the knowledge base names."""

    def __init__(
        self,
        known: Iterable[str],
        xrefs: Iterable[tuple[str, str, str, str]],
        retired: Iterable[tuple[str, str, str]] = (),
        names: Iterable[tuple[str, str, str, str, bool]] | None = None,
    ) -> None:
        """Take the rows of a knowledge base.

        Args:
            known: CUIs with a name.
            xrefs: Source, code, CUI and map.
            retired: Old CUI, relation and CUI (empty: deleted).
            names: CUI, name, source, term type and whether it is the preferred one; then one CUI is chosen for each id (`kb_preferred`).
        """
        self._known = set(known)
        self._codes: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for source, code, cui, via in xrefs:
            self._codes[source, code][cui].add(via)
        self._retired: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for old, relation, cui in retired:
            self._retired[old][cui].add(relation)
        self._sources = {source for source, _ in self._codes}
        self._choose = names is not None
        self._names: dict[str, list[tuple[str, str, str, bool]]] = defaultdict(list)
        several = {cui for found in self._codes.values() if len(found) > 1 for cui in found} if self._choose else set()
        for cui, name, source, term_type, preferred in names or ():
            if cui in several:
                self._names[cui].append((_key(name), source, term_type, preferred))
        self._links = Counter(cui for found in self._codes.values() for cui in found if cui in several)

    @classmethod
    def load(cls, kb: Path, ambiguity: str = "any_of_set") -> ConceptMap:
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
            rows(names, "cui", "name", "source", "term_type", "preferred") if ambiguity == "kb_preferred" else None,  # type: ignore[arg-type]
        )

    def names(self, concept_id: str) -> bool:
        """Whether the knowledge base has codes of the id's vocabulary, and no form of them is known: then the id may be one of them."""
        vocabulary = concept_id.partition(":")[0]
        return ALIASES.get(vocabulary, vocabulary) in self._sources and vocabulary not in FORMS

    def __call__(self, concept_id: str) -> Mapped:
        """All CUIs of an id, or the preferred one; an empty id has none."""
        if not concept_id:
            return Mapped((), "no_id")
        vocabulary, _, code = concept_id.partition(":")
        vocabulary = ALIASES.get(vocabulary, vocabulary)
        if vocabulary == "CUI":
            return self._cui(code)
        found = self._codes.get((vocabulary, code)) or self._codes.get((vocabulary, code.upper())) or {}
        if kept := sorted(set(found) & self._known):
            headings = self._headings(kept, vocabulary) if self._choose and len(kept) > 1 else {}
            cuis, left_out = self._chosen(kept, lambda cui: self._rank(cui, vocabulary, found[cui], headings))
            return Mapped(cuis, via="+".join(sorted(set().union(*(found[cui] for cui in cuis)))), left_out=left_out)
        if found:
            return Mapped((), "concept_not_in_kb")
        return Mapped((), "code_not_in_kb" if vocabulary in self._sources else "vocabulary_not_in_kb")

    def _cui(self, code: str) -> Mapped:
        code = code if code in self._known or code in self._retired else code.upper()
        if code in self._known:
            return Mapped((code,), via="cui")
        found = self._retired.get(code, {})
        if kept := sorted(set(found) & self._known):
            cuis, left_out = self._chosen(kept, lambda cui: min(_place(RELATIONS, relation) for relation in found[cui]))
            return Mapped(cuis, retired="+".join(sorted(set().union(*(found[cui] for cui in cuis)))), via="retired", left_out=left_out)
        return Mapped((), "cui_deleted" if "" in found else "cui_not_in_kb")

    def _chosen(self, kept: list[str], rank: Callable[[str], Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if not self._choose:
            return tuple(kept), ()
        best = min(kept, key=lambda cui: (rank(cui), cui))
        return (best,), tuple(cui for cui in kept if cui != best)

    def _headings(self, cuis: list[str], vocabulary: str) -> dict[str, int]:
        """The vocabulary's own preferred names among those of the CUIs, and how many of the CUIs have each."""
        return Counter(key for cui in cuis for key in {k for k, source, kind, _ in self._names[cui] if source == vocabulary and kind in TERM_TYPES})

    def _rank(self, cui: str, vocabulary: str, ways: Iterable[str], headings: Mapping[str, int]) -> tuple[float, float, int, int]:
        """By map; by term type of the vocabulary's names; by whether its heading is the CUI's preferred name, or one of its other names; by links."""
        way = min(_place(MAPS, way, len(MAPS) - 1.5) for way in ways)
        names = self._names[cui]
        kind = min((_place(TERM_TYPES, kind) for _, source, kind, _ in names if source == vocabulary), default=float(len(TERM_TYPES)))
        common = {key for key, n in headings.items() if n == max(headings.values())}
        agrees = min((0 if preferred else 1 for key, source, _, preferred in names if key in common and (preferred or source != vocabulary)), default=2)
        return way, kind, agrees, -self._links[cui]


def _key(name: str) -> str:
    """Words of a name in alphabetical order, without a final s: "Arrhythmias, Cardiac" is "Cardiac arrhythmia"."""
    return " ".join(sorted(word.removesuffix("s") for word in normalize_surface(name).split()))


def _place(order: tuple[str, ...], value: str, otherwise: float | None = None) -> float:
    return order.index(value) if value in order else len(order) if otherwise is None else otherwise


def read_id_map(path: Path, id_prefix: str) -> Mapping[str, tuple[str, ...]]:
    """Replacements of merged and alternative ids: a CSV file with the columns id and replacement, which may be several joined by `|`.

    Raises:
        UserError: No such file or columns, an empty cell, or an id given twice; names the row.
    """
    found: dict[str, tuple[str, ...]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            if missing := {"id", "replacement"} - set(reader.fieldnames or ()):
                raise UserError("missing column", f"{path}:1", " and ".join(sorted(missing)), "the first line names the columns: id,replacement")
            for row, cells in enumerate(reader, start=2):
                old, new = (parse_ids(cells[column] or "", id_prefix) for column in ("id", "replacement"))
                if len(old) != 1 or not all(old + new):
                    raise UserError("bad replacement", f"{path}:{row}", "each row is one id and at least one replacement", "correct the row")
                if old[0] in found:
                    raise UserError("id replaced twice", f"{path}:{row}", old[0], "join the replacements with |")
                found[old[0]] = new
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError("unreadable file", str(path), str(error), "correct id_map") from error
    return found
