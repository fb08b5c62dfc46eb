"""Map the concept ids of a corpus to sets of concepts (CUIs, or native ids), through the cross-references of a knowledge base.

In: ids as VOCABULARY:CODE. Out: their concepts, or the reason why there are none; an id is never dropped. If an id maps to several CUIs, the policy
`any_of_set` keeps all and `kb_preferred` keeps one and lists the others. Knows nothing of formats.
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
"""Vocabulary (SAB) by prefix, in addition to `concept_ids.VOCABULARIES`."""

MAPS = ("cui", "id", "mondo", "doid", "hpo", "sssom", "MRCONSO", "mesh-name")
"""Maps (`via` of `tables.XREFS`) in order of preference; maps that are not listed, such as those of further ontologies, rank just before mesh-name."""

TERM_TYPES = ("MH", "NM", "PT", "HT", "PTCS", "FN")
"""Term types of a vocabulary's preferred names, in the order of MRRANK: a CUI with one of them is preferred to a CUI with entry terms only."""

RELATIONS = ("SY", "RN", "RB", "RO")
"""Relations (MRCUI.REL) of a retired CUI to its successors, in order of preference."""


@dataclass(frozen=True)
class MappedId:
    """The CUIs of a concept id.

    Attributes:
        cuis: CUIs, sorted.
        reason: Why there are none: a key of `REASONS`.
        retired: If a retired CUI was replaced, the relations of its successors (SY, RB, …, joined by +).
        via: Source of the CUIs: `cui`, `retired`, or the maps of the cross-references (joined by +).
        left_out: Further CUIs that the policy `kb_preferred` drops.
    """

    cuis: tuple[str, ...]
    reason: str = ""
    retired: str = ""
    via: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether the knowledge base maps the id to several CUIs."""
        return len(self.cuis) + len(self.left_out) > 1


class ConceptMap:
    """Maps prefixed ids (MSH:D…, OMIM:…, CUI:…) to CUIs of a knowledge base."""

    def __init__(
        self,
        kb_cuis: Iterable[str],
        xrefs: Iterable[tuple[str, str, str, str]],
        retired: Iterable[tuple[str, str, str]] = (),
        names: Iterable[tuple[str, str, str, str, bool]] | None = None,
    ) -> None:
        """Index the rows of a knowledge base.

        Args:
            kb_cuis: CUIs with a name.
            xrefs: Source, code, CUI and map.
            retired: Old CUI, relation and CUI (empty: deleted).
            names: CUI, name, source, term type and whether it is the preferred name; if given, one CUI is chosen for each id (`kb_preferred`).
        """
        self._kb_cuis = set(kb_cuis)
        self._codes: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        vocabularies: dict[str, str] = {}  # ids of corpora have their vocabulary in capitals
        for source, code, cui, via in xrefs:
            self._codes[vocabularies.setdefault(source, source.upper()), code][cui].add(via)
        self._retired: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for old, relation, cui in retired:
            self._retired[old][cui].add(relation)
        self._sources = {source for source, _ in self._codes}
        self._prefer_one = names is not None
        self._names: dict[str, list[tuple[str, str, str, bool]]] = defaultdict(list)
        ambiguous_cuis = {cui for maps_of_cui in self._codes.values() if len(maps_of_cui) > 1 for cui in maps_of_cui} if self._prefer_one else set()
        for cui, name, source, term_type, preferred in names or ():
            if cui in ambiguous_cuis:
                self._names[cui].append((_key(name), source, term_type, preferred))
        self._links = Counter(cui for maps_of_cui in self._codes.values() for cui in maps_of_cui if cui in ambiguous_cuis)

    @classmethod
    def load(cls, kb: Path, ambiguity: str = "any_of_set") -> ConceptMap:
        """Load `names.parquet`, `xrefs.parquet` and `retired.parquet` of a knowledge base.

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
        """Whether the id may be a code of the knowledge base although `FORMS` has no pattern: the knowledge base has codes of its vocabulary."""
        vocabulary = concept_id.partition(":")[0]
        return ALIASES.get(vocabulary, vocabulary) in self._sources and vocabulary not in FORMS

    def __call__(self, concept_id: str) -> MappedId:
        """All CUIs of an id, or with `kb_preferred` one; an empty id has none."""
        if not concept_id:
            return MappedId((), "no_id")
        vocabulary, _, code = concept_id.partition(":")
        vocabulary = ALIASES.get(vocabulary, vocabulary)
        if vocabulary == "CUI" and not (vocabulary := self._vocabulary_of_cui(code)):
            return self._cui(code)
        maps_of_cui = self._codes.get((vocabulary, code)) or self._codes.get((vocabulary, code.upper())) or {}
        if candidates := sorted(set(maps_of_cui) & self._kb_cuis):
            headings = self._headings(candidates, vocabulary) if self._prefer_one and len(candidates) > 1 else {}
            cuis, left_out = self._select(candidates, lambda cui: self._rank(cui, vocabulary, maps_of_cui[cui], headings))
            return MappedId(cuis, via="+".join(sorted(set().union(*(maps_of_cui[cui] for cui in cuis)))), left_out=left_out)
        if maps_of_cui:
            return MappedId((), "concept_not_in_kb")
        return MappedId((), "code_not_in_kb" if vocabulary in self._sources else "vocabulary_not_in_kb")

    def _vocabulary_of_cui(self, code: str) -> str:
        """`UMLS` where CUIs are codes of concepts with ids of another vocabulary, and this one is no concept; else empty."""
        is_concept = not {code, code.upper()}.isdisjoint(self._kb_cuis) or not {code, code.upper()}.isdisjoint(self._retired)
        return "UMLS" if "UMLS" in self._sources and not is_concept else ""

    def _cui(self, code: str) -> MappedId:
        code = code if code in self._kb_cuis or code in self._retired else code.upper()
        if code in self._kb_cuis:
            return MappedId((code,), via="cui")
        relations_of_cui = self._retired.get(code, {})
        if candidates := sorted(set(relations_of_cui) & self._kb_cuis):
            cuis, left_out = self._select(candidates, lambda cui: min(_position(RELATIONS, relation) for relation in relations_of_cui[cui]))
            return MappedId(cuis, retired="+".join(sorted(set().union(*(relations_of_cui[cui] for cui in cuis)))), via="retired", left_out=left_out)
        return MappedId((), "cui_deleted" if "" in relations_of_cui else "cui_not_in_kb")

    def _select(self, candidates: list[str], rank: Callable[[str], Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if not self._prefer_one:
            return tuple(candidates), ()
        best = min(candidates, key=lambda cui: (rank(cui), cui))
        return (best,), tuple(cui for cui in candidates if cui != best)

    def _headings(self, cuis: list[str], vocabulary: str) -> dict[str, int]:
        """Preferred names of the vocabulary that the CUIs have, and how many of the CUIs have each."""
        return Counter(key for cui in cuis for key in {k for k, source, kind, _ in self._names[cui] if source == vocabulary and kind in TERM_TYPES})

    def _rank(self, cui: str, vocabulary: str, maps: Iterable[str], headings: Mapping[str, int]) -> tuple[float, float, int, int]:
        """Sort key of a CUI of an id; the smallest is preferred.

        Its items: the rank of its map (`MAPS`); the rank of its best term type of the vocabulary (`TERM_TYPES`); whether the vocabulary's heading
        is the CUI's preferred name (0), another of its names (1), or none of them (2); its cross-references, negated.
        """
        map_rank = min(_position(MAPS, via, len(MAPS) - 1.5) for via in maps)
        names = self._names[cui]
        kind = min((_position(TERM_TYPES, kind) for _, source, kind, _ in names if source == vocabulary), default=float(len(TERM_TYPES)))
        common = {key for key, n in headings.items() if n == max(headings.values())}
        agrees = min((0 if preferred else 1 for key, source, _, preferred in names if key in common and (preferred or source != vocabulary)), default=2)
        return map_rank, kind, agrees, -self._links[cui]


def _key(name: str) -> str:
    """Words of a name in alphabetical order, each without a final s: "Arrhythmias, Cardiac" and "Cardiac arrhythmia" have the same key."""
    return " ".join(sorted(word.removesuffix("s") for word in normalize_surface(name).split()))


def _position(order: tuple[str, ...], value: str, default: float | None = None) -> float:
    return order.index(value) if value in order else len(order) if default is None else default


def read_id_map(path: Path, id_prefix: str) -> Mapping[str, tuple[str, ...]]:
    """Read replacements of merged and alternative ids: a CSV file with the columns id and replacement; several replacements are joined by `|`.

    Raises:
        UserError: The file or a column is missing, a cell is empty, or an id occurs twice; the message names the row.
    """
    replacements: dict[str, tuple[str, ...]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            if missing := {"id", "replacement"} - set(reader.fieldnames or ()):
                raise UserError("missing column", f"{path}:1", " and ".join(sorted(missing)), "the first line names the columns: id,replacement")
            for row, cells in enumerate(reader, start=2):
                old, new = (parse_ids(cells[column] or "", id_prefix) for column in ("id", "replacement"))
                if len(old) != 1 or not all(old + new):
                    raise UserError("bad replacement", f"{path}:{row}", "each row is one id and at least one replacement", "correct the row")
                if old[0] in replacements:
                    raise UserError("id replaced twice", f"{path}:{row}", old[0], "join the replacements with |")
                replacements[old[0]] = new
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError("unreadable file", str(path), str(error), "correct id_map") from error
    return replacements
