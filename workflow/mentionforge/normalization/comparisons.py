"""How linkers compare a mention with entries: vectors, character n-grams, or strings.

Each comparison finds the nearest entries of each query, and scores pairs of a query and an entry. Products of matrices may have other
last digits with other queries beside them, so values that only find entries are told apart from scores, which are the same in every
company; see `ties`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mentionforge.normalization.ties import EQUAL
from mentionforge.text import normalize_surface, plain

VERSIONS = {"tfidf": 3, "exact": 3}
"""Of the parts normalization.*: raise that of one where its earlier results would be wrong (mentionforge.versions)."""

FEATURES = 2**20
"""Places that n-grams are hashed to."""

PAIRS = 16_384
"""Pairs of a query and an entry that are scored at a time: 50 MB of terms at 384 dimensions."""


class Comparison(Protocol):
    """How a linker compares; `neighbours` gives values and rows of the best entries, best first, both [queries, fetch].

    Where there are fewer, the value is -inf. Entries that are not given have values no higher than the last. A value may be off
    by `error`; `scores` gives it as it is, the same in every company.
    """

    def prepare(self, inputs: Any) -> Any:
        """Queries in the form in which they are compared."""

    def arrange(self, inputs: Any) -> Any:
        """Entries in the form in which they are searched, as often as wanted."""

    def tolerance(self, queries: Any) -> np.ndarray:
        """Up to which difference scores count as equal, float64 [queries]: of each query alone."""

    def error(self, queries: Any, entries: Any) -> np.ndarray:
        """How far the values of `neighbours` may be from `scores`, float64 [queries]."""

    def neighbours(self, queries: Any, entries: Any, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Best entries of each query."""

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Scores of pairs of a query and an entry, float64 [pairs], from what `neighbours` gave for them."""


class Vectors:
    """Nearest vectors, by faiss; exact, or approximate with a graph (hnsw) or lists (ivf)."""

    def __init__(self, metric: str, method: str = "flat") -> None:
        self.metric, self.method = metric, method
        self._built: tuple[np.ndarray, Any] | None = None
        self._longest: tuple[np.ndarray, float] | None = None

    def prepare(self, inputs: np.ndarray) -> np.ndarray:
        """Vectors are compared as they are."""
        return inputs

    def arrange(self, inputs: np.ndarray) -> np.ndarray:
        """So are entries."""
        return inputs

    def tolerance(self, queries: np.ndarray) -> np.ndarray:
        """A millionth of the query's squared length; of a squared distance twice that, as it is 2 - 2 cosine for vectors of length 1."""
        if self.metric == "cosine":
            return np.full(len(queries), EQUAL)
        return (2 if self.metric == "l2" else 1) * EQUAL * np.square(queries, dtype=np.float64).sum(1)

    def error(self, queries: np.ndarray, entries: np.ndarray) -> np.ndarray:
        """The bound of a float32 sum of as many products as there are dimensions, at the longest entry."""
        if self._longest is None or self._longest[0] is not entries:
            self._longest = entries, max(float(np.einsum("ij,ij->i", some, some).max()) for some in _blocks(entries)) ** 0.5
        lengths, longest = np.sqrt(np.square(queries, dtype=np.float64).sum(1)), self._longest[1]
        unit = (entries.shape[1] + 4) * 2.0**-24
        return unit * ((lengths + longest) ** 2 if self.metric == "l2" else lengths * longest)

    def neighbours(self, queries: np.ndarray, entries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner product (cosine, ip) or squared Euclidean distance, negated (l2)."""
        import faiss

        distance = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        if self.method == "flat":
            values, found = faiss.knn(queries, entries, fetch, metric=distance)
        else:
            values, found = self._index(entries, fetch, distance).search(np.ascontiguousarray(queries), fetch)
        values = np.where(found >= 0, -values if self.metric == "l2" else values, -np.inf)
        return values, np.maximum(found, 0)

    def scores(self, queries: np.ndarray, entries: np.ndarray, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Pair by pair in float64, so that the pairs beside it change no digit."""
        found = np.empty(len(query))
        combine = np.subtract if self.metric == "l2" else np.multiply
        for start in range(0, len(query), PAIRS):
            some = slice(start, start + PAIRS)
            terms = combine(queries[query[some]], entries[row[some]], dtype=np.float64)  # [pairs, dimensions]
            found[some] = -np.square(terms, out=terms).sum(1) if self.metric == "l2" else terms.sum(1)
        return found

    def _index(self, entries: np.ndarray, fetch: int, distance: int) -> Any:
        """The approximate index of `entries`, built once; it looks at enough places for `fetch` results."""
        import faiss

        if self._built is None or self._built[0] is not entries:
            dimensions = entries.shape[1]
            if self.method == "hnsw":
                index: Any = faiss.IndexHNSWFlat(dimensions, 32, distance)
                index.hnsw.efConstruction = 100
            else:
                lists = max(1, int(4 * math.sqrt(len(entries))) if len(entries) > 10_000 else len(entries) // 40)
                index = faiss.IndexIVFFlat(faiss.IndexFlat(dimensions, distance), dimensions, lists, distance)
                index.train(entries)
            index.add(np.ascontiguousarray(entries))
            self._built = (entries, index)
        index = self._built[1]
        if self.method == "hnsw":
            index.hnsw.efSearch = max(fetch, 200)
        else:
            index.nprobe = max(1, index.nlist // 16)
        return index


class Ngrams:
    """Cosine of weighted character n-grams.

    Args:
        shortest: Length of the shortest n-gram.
        longest: Length of the longest n-gram.
        idf: Weight of each place that n-grams are hashed to, float32 [FEATURES].
    """

    BLOCK = 256

    def __init__(self, shortest: int, longest: int, idf: np.ndarray) -> None:
        self.shortest, self.longest, self.idf = shortest, longest, idf

    @staticmethod
    def counts(texts: Sequence[str], shortest: int, longest: int) -> Any:
        """Hashed n-grams of each text's `text.view` and how often they occur, sparse [texts, FEATURES]; words are padded by a blank."""
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            analyzer="char_wb", ngram_range=(shortest, longest), n_features=FEATURES, alternate_sign=False, norm=None, dtype=np.float32, lowercase=True
        )
        return hashing.transform([plain(text) for text in texts])

    @classmethod
    def weights(cls, texts: Sequence[str], shortest: int, longest: int) -> np.ndarray:
        """Smoothed inverse document frequencies of hashed n-grams among texts, float32 [FEATURES]."""
        counts = cls.counts(texts, shortest, longest)
        frequency = np.bincount(counts.indices, minlength=FEATURES)
        return (np.log((1 + counts.shape[0]) / (1 + frequency)) + 1).astype(np.float32)

    def prepare(self, inputs: Sequence[str]) -> Any:
        """Rows of length 1, sparse: (1 + ln count) x idf."""
        from sklearn.preprocessing import normalize

        rows = self.counts(inputs, self.shortest, self.longest)
        rows.data = (1 + np.log(rows.data)) * self.idf[rows.indices]
        return normalize(rows)

    def arrange(self, inputs: Sequence[str]) -> Any:
        """By n-gram, sparse [FEATURES, entries]."""
        return self.prepare(inputs).T.tocsr()

    def tolerance(self, queries: Any) -> np.ndarray:
        """As for vectors of length 1."""
        return np.full(queries.shape[0], EQUAL)

    def error(self, queries: Any, entries: Any) -> np.ndarray:
        """A sparse product sums row by row: other queries change nothing."""
        return np.zeros(queries.shape[0])

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """As they are."""
        return value.astype(np.float64)

    def neighbours(self, queries: Any, entries: Any, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Entries that share an n-gram; the others are not near."""
        values, found = np.empty((queries.shape[0], fetch), np.float32), np.empty((queries.shape[0], fetch), np.int64)
        for start in range(0, queries.shape[0], self.BLOCK):
            dense = (queries[start : start + self.BLOCK] @ entries).toarray()
            best = np.argpartition(-dense, fetch - 1, axis=1)[:, :fetch]
            near = np.take_along_axis(dense, best, axis=1)
            order = np.argsort(-near, axis=1, kind="stable")
            values[start : start + self.BLOCK] = np.take_along_axis(near, order, axis=1)
            found[start : start + self.BLOCK] = np.take_along_axis(best, order, axis=1)
        return np.where(values > 0, values, -np.inf), found


ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10"}


def normalized(text: str, steps: Sequence[str]) -> str:
    """A surface without case and punctuation, then each of the steps: `plural` drops a final s of words, `numerals` reads Roman ones, `order` sorts words."""
    words = normalize_surface(text).split()
    for step in steps:
        if step == "plural":
            words = [re.sub(r"(?<=[^\W\d_][^\W\d_s])s$", "", re.sub(r"ies$", "y", w) if len(w) > 4 else w) for w in words]
        elif step == "numerals":
            words = [ROMAN.get(w, w) for w in words]
        else:
            words = sorted(words)
    return " ".join(words)


class Dictionary:
    """Equal strings after normalization: 1 for case and punctuation alone, a tenth less for each further step that is needed."""

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = tuple(steps)

    def prepare(self, inputs: Sequence[str]) -> list[list[str]]:
        """The inputs after each step, the mildest first."""
        return [[normalized(text, self.steps[:n]) for text in inputs] for n in range(len(self.steps) + 1)]

    def arrange(self, inputs: Sequence[str]) -> list[dict[str, list[int]]]:
        """The rows of each string after each step."""
        arranged = []
        for given in self.prepare(inputs):
            rows: dict[str, list[int]] = {}
            for row, key in enumerate(given):
                rows.setdefault(key, []).append(row)
            arranged.append(rows)
        return arranged

    def tolerance(self, queries: list[list[str]]) -> np.ndarray:
        """Scores are tenths: any does."""
        return np.full(len(queries[0]), EQUAL)

    def error(self, queries: list[list[str]], entries: Any) -> np.ndarray:
        """None."""
        return np.zeros(len(queries[0]))

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """As they are."""
        return value.astype(np.float64)

    def neighbours(self, queries: list[list[str]], entries: list[dict[str, list[int]]], fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Entries that are equal at some step."""
        number = len(queries[0])
        values, found = np.full((number, fetch), -np.inf), np.zeros((number, fetch), np.int64)
        filled: list[dict[int, float]] = [{} for _ in range(number)]
        for step, (asked, rows) in enumerate(zip(queries, entries, strict=True)):
            for query, key in enumerate(asked):
                for row in rows.get(key, ()):
                    filled[query].setdefault(row, 1 - step / 10)
        for query, hits in enumerate(filled):
            best = list(hits.items())[:fetch]  # by step, then row
            found[query, : len(best)] = [row for row, _ in best]
            values[query, : len(best)] = [value for _, value in best]
        return values, found


def _blocks(array: np.ndarray, size: int = 65_536) -> Iterator[np.ndarray]:
    """An array in parts, so that a mapped one need not be in memory at once."""
    return (array[i : i + size] for i in range(0, len(array), size))
