"""Find duplicate documents of a corpus, by id, by text, or as near duplicates, within and across splits.

In: documents, one by one. Out: rows of duplicates.csv, and the documents that a policy drops. No text is kept: only ids, digests, and 4-byte
hashes of word n-grams. MinHash (datasketch) proposes near duplicates, and the Jaccard similarity of the n-grams verifies them.
Knows nothing of formats and mentions.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mentionforge import text
from mentionforge.corpora.documents import Document
from mentionforge.corpora.settings import Corpus, NearDuplicates
from mentionforge.errors import UserError

COLUMNS = ("kind", "doc_id", "split", "of_doc_id", "of_split", "similarity", "action")
"""Columns of duplicates.csv. kind: `id`, `text` (same text, another id) or `near`; action: doc_id was `dropped` or `kept`."""

_LEAK = "a leak between splits makes results worthless; remove one, or see corpora.*.duplicates"
MISS_PROBABILITY = 1e-3
"""Upper bound of the probability that MinHash misses a pair at the similarity threshold."""


@dataclass(frozen=True)
class DocumentRef:
    """Reference to a document: its split, its number in the split as read, and its id."""

    split: str
    number: int
    doc_id: str


@dataclass
class DuplicateFinder:
    """Compares each document with those added before, and decides by the policies of a corpus which documents to drop.

    A document is compared only with documents that are not near duplicates themselves, so k similar documents give k - 1 rows.

    Attributes:
        rows: Rows of duplicates.csv.
        dropped: Split and number of the documents that a policy drops.
    """

    settings: Corpus
    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    _ids: dict[str, tuple[DocumentRef, bytes, str]] = field(default_factory=dict)
    _texts: dict[bytes, tuple[DocumentRef, bytes, str]] = field(default_factory=dict)
    _near: NearDuplicateIndex | None = field(init=False)

    def __post_init__(self) -> None:
        """Create the index, if near duplicates are searched for."""
        self._near = NearDuplicateIndex(self.settings.near_duplicates) if self.settings.near_duplicates else None

    def add(self, document: Document, split: str, number: int) -> None:
        """Compare a document with those added before.

        Raises:
            UserError: A duplicate that the policies do not allow; the message names file and row.
        """
        place = DocumentRef(split, number, document.doc_id)
        if self._by_id(document, place) or self._by_text(document, place):
            return
        if self._near and document.text.strip():
            self._by_ngrams(document, place)

    def _by_id(self, document: Document, place: DocumentRef) -> bool:
        """Apply the policy for equal ids; return whether the id is a duplicate."""
        content = _digest(document.text, document.annotations)
        known = self._ids.setdefault(document.doc_id, (place, content, document.where))
        first, first_content, first_where = known
        if first == place:
            return False
        policy = self.settings.duplicates
        if first.split != place.split and policy != "drop_from_train":
            raise UserError("document in two splits", document.where, f"{place.doc_id} of {place.split} is in {first.split} too", _LEAK)
        if policy == "error":
            raise UserError("document given twice", document.where, f"{place.doc_id}, first in {first_where}", "remove one, or set `duplicates: drop`")
        if content != first_content:
            raise UserError("document given twice, and differing", document.where, f"{place.doc_id}, first in {first_where}", "remove the wrong one")
        if first.split == place.split:
            return self._drop("id", place, first)
        self._drop("id", first, place)
        self._ids[document.doc_id] = place, content, document.where
        self._texts[_digest(document.text)] = place, _digest(document.annotations), document.where
        return True  # its text is already registered

    def _by_text(self, document: Document, place: DocumentRef) -> bool:
        """Apply the policy for equal texts under another id; return whether the text is a duplicate."""
        if not document.text.strip():
            return False
        key, gold = _digest(document.text), _digest(document.annotations)
        first, first_gold, first_where = self._texts.setdefault(key, (place, gold, document.where))
        if first == place:
            return False
        policy, across = self.settings.duplicates, first.split != place.split
        if policy == "keep":
            self._record("text", place, first, 1.0, "kept")
            return True
        if across and policy != "drop_from_train":
            raise UserError("text in two splits", document.where, f"{place.doc_id} of {place.split} is {first.doc_id} of {first.split}", _LEAK)
        if policy == "error":
            fix = "remove one, or set `duplicates: drop`"
            raise UserError("text given twice", document.where, f"{place.doc_id} is {first.doc_id}, first in {first_where}", fix)
        if gold != first_gold and not across:
            fix = "remove the wrong one, or set `duplicates: keep`"
            raise UserError("text given twice, mentions differing", document.where, f"{place.doc_id} is {first.doc_id}, first in {first_where}", fix)
        if not across:
            return self._drop("text", place, first)
        self._texts[key] = place, gold, document.where
        return self._drop("text", first, place)

    def _by_ngrams(self, document: Document, place: DocumentRef) -> None:
        assert self._near and self.settings.near_duplicates
        action = self.settings.near_duplicates.action
        grams = self._near.grams(document.text)
        keys = self._near.keys(grams)
        alike = [(similarity, other) for similarity, other in self._near.alike(grams, keys) if (other.split, other.number) not in self.dropped]
        if not alike:
            self._near.add(grams, keys, place)
            return
        similarity, first = alike[0]
        if action == "error":
            why = f"{place.doc_id} of {place.split} is nearly {first.doc_id} of {first.split} (similarity {similarity:.2f})"
            raise UserError("document nearly given twice", document.where, why, "remove one, or set near_duplicates.action")
        if action == "report":
            self._record("near", place, first, similarity, "kept")
            return
        if within := next(((s, other) for s, other in alike if other.split == place.split), None):
            self._drop("near", place, within[1], within[0])
            return
        for similarity, other in alike:
            self._drop("near", other, place, similarity)
        self._near.add(grams, keys, place)

    def _drop(self, kind: str, place: DocumentRef, of: DocumentRef, similarity: float = 1.0) -> bool:
        self.dropped.add((place.split, place.number))
        self._record(kind, place, of, similarity, "dropped")
        return True

    def _record(self, kind: str, place: DocumentRef, of: DocumentRef, similarity: float, action: str) -> None:
        values = (kind, place.doc_id, place.split, of.doc_id, of.split, round(similarity, 4), action)
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))


class NearDuplicateIndex:
    """Index of documents by their word n-grams, for finding near duplicates (MinHash with banding, then exact Jaccard similarity)."""

    def __init__(self, settings: NearDuplicates) -> None:
        from datasketch import MinHash

        self._settings = settings
        self._rows, self._bands = bands(settings.similarity)
        self._sketch = MinHash(num_perm=self._rows * self._bands, seed=1, hashfunc=lambda gram: gram)
        self._tables: list[dict[int, int | list[int]]] = [
            {} for _ in range(self._bands)
        ]  # key: document number, or a list where several documents share the key
        self._grams: list[np.ndarray] = []
        self._places: list[DocumentRef] = []

    def grams(self, document: str) -> np.ndarray:
        """Hashes of the distinct word n-grams of a text: uint32 array, ascending."""
        return hashed_ngrams(document, self._settings.n)

    def keys(self, grams: np.ndarray) -> list[int]:
        """One key per band; documents that share a key are compared."""
        sketch = self._sketch.copy()
        sketch.update_batch(grams.tolist())
        return [zlib.crc32(band.tobytes()) for band in sketch.hashvalues.reshape(self._bands, self._rows)]

    def alike(self, grams: np.ndarray, keys: list[int]) -> list[tuple[float, DocumentRef]]:
        """(Jaccard similarity, document) of the near duplicates in the index, most similar first, then in the order added."""
        candidates = sorted({i for table, key in zip(self._tables, keys, strict=True) for i in _as_list(table.get(key, []))})
        scored = [(jaccard(grams, self._grams[i]), i) for i in candidates]
        return [(s, self._places[i]) for s, i in sorted(scored, key=lambda f: (-f[0], f[1])) if s >= self._settings.similarity]

    def add(self, grams: np.ndarray, keys: list[int], place: DocumentRef) -> None:
        """Add a document to the index."""
        number = len(self._places)
        for table, key in zip(self._tables, keys, strict=True):
            numbers = table.setdefault(key, number)
            if isinstance(numbers, list):
                numbers.append(number)
            elif numbers != number:
                table[key] = [numbers, number]
        self._grams.append(grams)
        self._places.append(place)


def bands(similarity: float, most: int = 64) -> tuple[int, int]:
    """(rows per band, bands) of MinHash: the most rows for which at most `most` hash functions keep the miss probability below `MISS_PROBABILITY`."""
    best = 1, most
    for rows in range(1, most + 1):
        hit = similarity**rows
        needed = 1 if hit >= 1 else math.ceil(math.log(MISS_PROBABILITY) / math.log1p(-hit))
        if rows * needed > most:
            break
        best = rows, needed
    return best


def hashed_ngrams(document: str, n: int) -> np.ndarray:
    """Hashes (CRC-32) of the distinct, case-folded word n-grams of a text, ascending. A text of fewer than n words is one n-gram."""
    words = text.normalize_surface(document).split()
    grams = {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}
    return np.unique(np.fromiter((zlib.crc32(gram.encode()) for gram in grams), np.uint32, len(grams)))


def _as_list(numbers: int | list[int]) -> list[int]:
    return [numbers] if isinstance(numbers, int) else numbers


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Jaccard similarity of two sets, given as arrays of distinct values."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def counts_by_kind(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Numbers of rows of duplicates.csv by kind, then by place: both documents in one split (`within train`) or in two (`test and train`)."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        where = f"within {row['split']}" if row["split"] == row["of_split"] else " and ".join(sorted((row["split"], row["of_split"])))
        kind = counts.setdefault(row["kind"], {})
        kind[where] = kind.get(where, 0) + 1
    return counts


def messages(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Log messages, one for each kind of duplicate."""
    names = {"id": "documents with an id that is there already", "text": "documents with a text that is there already", "near": "near duplicates"}
    lines = []
    for kind, by_place in counts_by_kind(rows).items():
        action = "dropped" if any(r["action"] == "dropped" for r in rows if r["kind"] == kind) else "kept"
        lines.append(f"{names[kind]}, {action}: {', '.join(f'{n:,} {where}' for where, n in sorted(by_place.items()))}; see duplicates.csv")
    return lines


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, under a temporary name that is then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def _digest(*values: Any) -> bytes:
    return hashlib.blake2b("\0".join(map(repr, values)).encode(), digest_size=16).digest()
