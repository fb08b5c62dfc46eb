"""Documents that a corpus has twice, by id, by text or nearly, within a split and across splits: found in a first pass, without keeping texts.

What is kept of a document is its id, digests of its content and text and, if near duplicates are looked for, hashes of its word n-grams (four
bytes each). Near duplicates are proposed by MinHash (datasketch), in bands so chosen that a pair at the asked similarity is missed in less than
one of a thousand cases, and are then verified by the Jaccard similarity of the n-grams. A document is compared with those before it that are
no near duplicates themselves, so that k documents alike make k - 1 rows.
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
"""Columns of duplicates.csv. kind: `id`, `text` (another id) or `near`; action: what became of doc_id, `dropped` or `kept`."""

_LEAK = "a leak between splits makes results worthless; remove one, or see corpora.*.duplicates"
_MISSED = 1e-3
"""Greatest probability that MinHash does not propose a pair at the similarity asked for."""


@dataclass(frozen=True)
class Place:
    """A document: its split, its number in the split as read, and its id."""

    split: str
    number: int
    doc_id: str


@dataclass
class Guard:
    """Sees every document once, split by split; knows then which are dropped.

    Attributes:
        rows: Rows of duplicates.csv.
        dropped: Split and number of the documents that a policy leaves out.
    """

    settings: Corpus
    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    _ids: dict[str, tuple[Place, bytes, str]] = field(default_factory=dict)
    _texts: dict[bytes, tuple[Place, bytes, str]] = field(default_factory=dict)
    _near: NearIndex | None = field(init=False)

    def __post_init__(self) -> None:
        """Make the index, if near duplicates are looked for."""
        self._near = NearIndex(self.settings.near_duplicates) if self.settings.near_duplicates else None

    def see(self, document: Document, split: str, number: int) -> None:
        """Compare a document with those seen before.

        Raises:
            UserError: A duplicate that the policies do not allow; names file and row.
        """
        place = Place(split, number, document.doc_id)
        if self._by_id(document, place) or self._by_text(document, place):
            return
        if self._near and document.text.strip():
            self._by_ngrams(document, place)

    def _by_id(self, document: Document, place: Place) -> bool:
        """Whether the document goes because its id is taken."""
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
        return True  # its text has been seen

    def _by_text(self, document: Document, place: Place) -> bool:
        """Whether the document goes because its text is there under another id."""
        if not document.text.strip():
            return False
        key, gold = _digest(document.text), _digest(document.annotations)
        first, first_gold, first_where = self._texts.setdefault(key, (place, gold, document.where))
        if first == place:
            return False
        policy, across = self.settings.duplicates, first.split != place.split
        if policy == "keep":
            self._note("text", place, first, 1.0, "kept")
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

    def _by_ngrams(self, document: Document, place: Place) -> None:
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
            self._note("near", place, first, similarity, "kept")
            return
        if within := next(((s, other) for s, other in alike if other.split == place.split), None):
            self._drop("near", place, within[1], within[0])
            return
        for similarity, other in alike:
            self._drop("near", other, place, similarity)
        self._near.add(grams, keys, place)

    def _drop(self, kind: str, place: Place, of: Place, similarity: float = 1.0) -> bool:
        self.dropped.add((place.split, place.number))
        self._note(kind, place, of, similarity, "dropped")
        return True

    def _note(self, kind: str, place: Place, of: Place, similarity: float, action: str) -> None:
        values = (kind, place.doc_id, place.split, of.doc_id, of.split, round(similarity, 4), action)
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))


class NearIndex:
    """Finds documents with many word n-grams in common."""

    def __init__(self, settings: NearDuplicates) -> None:
        from datasketch import MinHash

        self._settings = settings
        self._rows, self._bands = bands(settings.similarity)
        self._sketch = MinHash(num_perm=self._rows * self._bands, seed=1, hashfunc=lambda gram: gram)
        self._tables: list[dict[int, int | list[int]]] = [{} for _ in range(self._bands)]  # a list only where several share a key
        self._grams: list[np.ndarray] = []
        self._places: list[Place] = []

    def grams(self, document: str) -> np.ndarray:
        """Hashes of a text's distinct word n-grams, uint32, rising."""
        return hashed_ngrams(document, self._settings.n)

    def keys(self, grams: np.ndarray) -> list[int]:
        """One key per band; documents that share one are compared."""
        sketch = self._sketch.copy()
        sketch.update_batch(grams.tolist())
        return [zlib.crc32(band.tobytes()) for band in sketch.hashvalues.reshape(self._bands, self._rows)]

    def alike(self, grams: np.ndarray, keys: list[int]) -> list[tuple[float, Place]]:
        """Similarity and place of the documents added that are near duplicates, the most similar first, then in order."""
        proposed = sorted({i for table, key in zip(self._tables, keys, strict=True) for i in _several(table.get(key, []))})
        found = [(jaccard(grams, self._grams[i]), i) for i in proposed]
        return [(s, self._places[i]) for s, i in sorted(found, key=lambda f: (-f[0], f[1])) if s >= self._settings.similarity]

    def add(self, grams: np.ndarray, keys: list[int], place: Place) -> None:
        """Remember a document."""
        number = len(self._places)
        for table, key in zip(self._tables, keys, strict=True):
            there = table.setdefault(key, number)
            if isinstance(there, list):
                there.append(number)
            elif there != number:
                table[key] = [there, number]
        self._grams.append(grams)
        self._places.append(place)


def bands(similarity: float, most: int = 64) -> tuple[int, int]:
    """Rows per band and bands of MinHash: as many rows as can be with at most `most` hash functions, if few pairs are to be missed."""
    best = 1, most
    for rows in range(1, most + 1):
        hit = similarity**rows
        needed = 1 if hit >= 1 else math.ceil(math.log(_MISSED) / math.log1p(-hit))
        if rows * needed > most:
            break
        best = rows, needed
    return best


def hashed_ngrams(document: str, n: int) -> np.ndarray:
    """Hashes (CRC-32) of the distinct word n-grams of a text, case folded, rising; a shorter text is one n-gram of all its words."""
    words = text.normalize_surface(document).split()
    grams = {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}
    return np.unique(np.fromiter((zlib.crc32(gram.encode()) for gram in grams), np.uint32, len(grams)))


def _several(found: int | list[int]) -> list[int]:
    return [found] if isinstance(found, int) else found


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Shared elements of two sets, given as arrays of distinct values, over all of theirs."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def counted(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Rows of duplicates.csv by kind, and by whether both documents are in one split (`within TRAIN`) or not (`TEST and TRAIN`)."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        where = f"within {row['split']}" if row["split"] == row["of_split"] else " and ".join(sorted((row["split"], row["of_split"])))
        kind = found.setdefault(row["kind"], {})
        kind[where] = kind.get(where, 0) + 1
    return found


def told(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each kind of duplicate."""
    names = {"id": "documents with an id that is there already", "text": "documents with a text that is there already", "near": "near duplicates"}
    lines = []
    for kind, by_place in counted(rows).items():
        action = "dropped" if any(r["action"] == "dropped" for r in rows if r["kind"] == kind) else "kept"
        lines.append(f"{names[kind]}, {action}: {', '.join(f'{n:,} {where}' for where, n in sorted(by_place.items()))}; see duplicates.csv")
    return lines


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV (temporary name, then renamed)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def _digest(*parts: Any) -> bytes:
    return hashlib.blake2b("\0".join(map(repr, parts)).encode(), digest_size=16).digest()
