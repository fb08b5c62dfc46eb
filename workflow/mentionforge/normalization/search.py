"""Search of one source or several: the best entries of every query, reduced from entries to concepts.

A concept's score is that of its best entry; an entry of several concepts gives each of them its score. Concepts are ranked
by score, descending; equal scores by the index' preference, if it has one, then by votes, the number of the concept's
entries at that score, descending; then by CUI, ascending. Scores count as equal if they agree after rounding to six decimals
(for vectors of length 1; to as many fewer as the square of the vectors' length has digits, because float32 carries seven).
Ties are common, because a name may stand for several concepts and be written like a training mention: by CUI alone, they cost
ten points of acc@1 on train and names.

What is compared depends on the linker: `Vectors`, `Ngrams` or `Dictionary` give the nearest entries, `rank` does the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge.text import normalize_surface, plain

VERSION = 2
"""Of the part normalization.search: raise it where earlier results would be wrong (mentionforge.versions)."""

VERSIONS = {"tfidf": 2, "exact": 2}
"""Of the parts normalization.*: raise that of one where its earlier results would be wrong (mentionforge.versions)."""

TOP = 100
"""Ranks written per mention: acc@100 is the deepest metric."""

OVERFETCH = 4
"""Neighbours fetched at first, as a multiple of `TOP`, and the factor by which that grows where it gives too few concepts."""

FEATURES = 2**20
"""Places that n-grams are hashed to."""

SEPARATOR = "|"
"""Between the concepts of an entry."""


class Source(NamedTuple):
    """Part of an index: distinct inputs (vectors, float32 [rows, dimensions], or strings), and which concepts they stand for.

    The others are aligned, sorted by row, then concept: a row, one of its concepts, the number of entries that give the row
    this concept, and the most frequent of these entries (the first of equals), as a number among all entries' sets of concepts.
    """

    inputs: Any
    row: np.ndarray
    concept: np.ndarray
    votes: np.ndarray
    entry: np.ndarray


class Ranking(NamedTuple):
    """Ranked concepts: aligned arrays sorted by query, then rank (from 1)."""

    query: np.ndarray
    rank: np.ndarray
    concept: np.ndarray
    score: np.ndarray
    votes: np.ndarray
    entry: np.ndarray


class Comparison(Protocol):
    """How a linker compares; `neighbours` gives values and rows of the best entries, best first, both [queries, fetch].

    Where there are fewer, the value is -inf. Entries that are not given have values no higher than the last.
    """

    def prepare(self, inputs: Any) -> Any:
        """Queries in the form in which they are compared."""

    def arrange(self, inputs: Any) -> Any:
        """Entries in the form in which they are searched, as often as wanted."""

    def decimals(self, queries: Any) -> int:
        """Digits after which scores count as equal."""

    def neighbours(self, queries: Any, entries: Any, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Best entries of each query."""


class Vectors:
    """Nearest vectors, by faiss; exact, or approximate with a graph (hnsw) or lists (ivf)."""

    def __init__(self, metric: str, method: str = "flat") -> None:
        self.metric, self.method = metric, method
        self._built: tuple[int, Any] | None = None

    def prepare(self, inputs: np.ndarray) -> np.ndarray:
        """Vectors are compared as they are."""
        return inputs

    def arrange(self, inputs: np.ndarray) -> np.ndarray:
        """So are entries."""
        return inputs

    def decimals(self, queries: np.ndarray) -> int:
        """Six for vectors of length 1."""
        return 6 - max(0, round(math.log10(np.square(queries).sum(1).mean()))) if len(queries) else 6

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

    def _index(self, entries: np.ndarray, fetch: int, distance: int) -> Any:
        """The approximate index of `entries`, built once; it looks at enough places for `fetch` results."""
        import faiss

        if self._built is None or self._built[0] != id(entries):
            dimensions = entries.shape[1]
            if self.method == "hnsw":
                index: Any = faiss.IndexHNSWFlat(dimensions, 32, distance)
                index.hnsw.efConstruction = 100
            else:
                lists = max(1, int(4 * math.sqrt(len(entries))) if len(entries) > 10_000 else len(entries) // 40)
                index = faiss.IndexIVFFlat(faiss.IndexFlat(dimensions, distance), dimensions, lists, distance)
                index.train(entries)
            index.add(np.ascontiguousarray(entries))
            self._built = (id(entries), index)
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

    def decimals(self, queries: Any) -> int:
        """Cosines have six."""
        return 6

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

    def decimals(self, queries: Any) -> int:
        """Scores are tenths."""
        return 6

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


def rank(queries: Any, sources: Sequence[Source], comparison: Comparison, preference: np.ndarray | None = None, top: int = TOP) -> Ranking:
    """The `top` concepts of each query over all sources together, exact if the comparison is.

    Args:
        queries: Inputs of the queries: float32 [queries, dimensions], or strings.
        sources: Parts of the index; concepts are numbered across them, in the order that breaks ties.
        comparison: How the linker compares.
        preference: Of each concept, which breaks ties before votes: lower comes first.
        top: Concepts per query; fewer if the index has fewer.
    """
    return merge([best(queries, source, comparison, top) for source in sources if len(queries) and len(source.row)], preference, top)


def best(queries: Any, source: Source, comparison: Comparison, top: int = TOP, arranged: Any = None) -> Ranking:
    """The `top` concepts of each query in one source, and all others that tie with the last of them; numbers of the queries as given.

    `arranged` is what `comparison.arrange` makes of the source's inputs, where it is searched more than once.
    """
    entries = comparison.arrange(source.inputs) if arranged is None else arranged
    return _search(comparison.prepare(queries), len(queries), source, entries, comparison, top, comparison.decimals(queries))


def merge(found: Sequence[Ranking], preference: np.ndarray | None = None, top: int = TOP) -> Ranking:
    """The `top` concepts over several sources, each of them searched alone.

    A concept among the best of the union is among the best of the source that holds its best entry, so nothing is lost.
    Of entries at a concept's best score, that of the first source stands for it.
    """
    empty = Ranking(*(np.empty(0, np.int64),) * 3, np.empty(0), *(np.empty(0, np.int64),) * 2)
    joined = Ranking(*(np.concatenate(columns) for columns in zip(empty, *found, strict=True)))
    ranking = _reduce(joined.query, joined.concept, joined.score, joined.votes, joined.entry, preference)
    return select(ranking, ranking.rank <= top)


def _search(prepared: Any, number: int, source: Source, entries: Any, comparison: Comparison, top: int, decimals: int) -> Ranking:
    """See `best`. Fetches more neighbours for the queries where the cut may hide a concept or a vote."""
    size = len(source.inputs)
    bearers = np.bincount(source.row, minlength=size)
    first = np.cumsum(bearers) - bearers  # position of a row's first concept
    open_queries, done = np.arange(number), []
    fetch = min(top * OVERFETCH, size)
    while len(open_queries):
        values, neighbours = comparison.neighbours(_rows(prepared, open_queries), entries, fetch)  # [open queries, fetch]
        scores = np.round(values.astype(np.float64), decimals) + 0.0  # + 0.0: no negative zero
        hit, pair = runs(first[neighbours].ravel(), bearers[neighbours].ravel())
        near = np.isfinite(scores.ravel()[hit])
        hit, pair = hit[near], pair[near]
        ranking = _reduce(hit // fetch, source.concept[pair], scores.ravel()[hit], source.votes[pair], source.entry[pair])
        if fetch < size:
            # Entries not fetched score no higher than the last one fetched: what lies above it is complete, votes included.
            ranking = select(ranking, ranking.score > scores[ranking.query, -1])
            complete = (np.bincount(ranking.query, minlength=len(open_queries)) >= top) | np.isneginf(scores[:, -1])
        else:
            complete = np.ones(len(open_queries), bool)
        last = np.full(len(open_queries), -np.inf)
        last[ranking.query[ranking.rank == top]] = ranking.score[ranking.rank == top]
        ranking = select(ranking, complete[ranking.query] & (ranking.score >= last[ranking.query]))
        done.append(ranking._replace(query=open_queries[ranking.query]))
        open_queries, fetch = open_queries[~complete], min(fetch * OVERFETCH, size)
    return Ranking(*(np.concatenate(columns) for columns in zip(*done, strict=True)))


def _rows(prepared: Any, rows: np.ndarray) -> Any:
    """Some of the prepared inputs."""
    return [[step[i] for i in rows] for step in prepared] if isinstance(prepared, list) else prepared[rows]


def _reduce(query: np.ndarray, concept: np.ndarray, score: np.ndarray, votes: np.ndarray, entry: np.ndarray, preference: np.ndarray | None = None) -> Ranking:
    """Ranking of rows (query, concept, score, votes, entry): each concept's best score, its votes at that score, its first entry there."""
    order = np.lexsort((-score, concept, query))
    query, concept, score, votes, entry = query[order], concept[order], score[order], votes[order], entry[order]
    new = np.ones(len(query), bool)
    new[1:] = (query[1:] != query[:-1]) | (concept[1:] != concept[:-1])
    start = np.flatnonzero(new)
    at_best = score == score[start][np.cumsum(new) - 1]
    votes = np.add.reduceat(votes * at_best, start) if len(start) else votes
    query, concept, score, entry = query[start], concept[start], score[start], entry[start]
    order = np.lexsort((concept, -votes, *(() if preference is None else (preference[concept],)), -score, query))
    query = query[order]
    place = np.arange(len(query)) - np.searchsorted(query, query) + 1
    return Ranking(query, place, concept[order], score[order], votes[order], entry[order])


def select(ranking: Ranking, kept: np.ndarray) -> Ranking:
    """The rows of a ranking where `kept` is true."""
    return Ranking(*(column[kept] for column in ranking))


def runs(first: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs first[i], first[i] + 1, …, of lengths[i], laid end to end: for each member the run it is of (i), and its value."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) + (first - (np.cumsum(lengths) - lengths))[run]


def distinct(columns: Sequence[pa.ChunkedArray | pa.Array]) -> pa.Array:
    """Sorted distinct strings of columns: the numbering of concepts and of entries, so that a lower number is a lower string."""
    values = pa.concat_arrays([pa.array([], pa.string()), *(column.unique() for column in columns)]).unique()
    return values.take(pc.array_sort_indices(values))


def entry_of(entries: pa.Table) -> pa.Array:
    """The concepts of each entry, joined."""
    return pc.binary_join(entries["cuis"].combine_chunks(), SEPARATOR)


def source_of(entries: pa.Table, inputs: Any, cuis: pa.Array, sets: pa.Array) -> Source:
    """The distinct inputs of entries; entries that share an input pool their concepts and votes.

    Args:
        entries: tables.EMBEDDED, each with a concept.
        inputs: float32 [rows, dimensions], or strings, by `entries.vector`.
        cuis: Numbering of concepts.
        sets: Numbering of the entries' joined concepts.
    """
    rows, position = np.unique(entries["vector"].to_numpy(), return_inverse=True)
    lists = entries["cuis"].combine_chunks()
    parent = pc.list_parent_indices(lists).to_numpy()
    row = position[parent].astype(np.int64)
    concept = pc.index_in(pc.list_flatten(lists), value_set=cuis).to_numpy().astype(np.int64)
    entry = pc.index_in(entry_of(entries), value_set=sets).to_numpy().astype(np.int64)[parent]
    pair = row * max(len(cuis), 1) + concept
    # By pair, the most frequent set first.
    triples, counts = np.unique(np.stack([pair, entry], 1), axis=0, return_counts=True) if len(pair) else (np.empty((0, 2), np.int64), np.empty(0, np.int64))
    order = np.lexsort((triples[:, 1], -counts, triples[:, 0]))
    pairs, start = np.unique(triples[order, 0], return_index=True)
    votes = np.add.reduceat(counts[order], start) if len(start) else np.empty(0, np.int64)
    if isinstance(inputs, np.ndarray):
        used: Any = inputs if len(rows) == len(inputs) else inputs[rows]
    else:
        used = [inputs[i] for i in rows]
    return Source(used, pairs // max(len(cuis), 1), pairs % max(len(cuis), 1), votes, triples[order, 1][start])
