"""Search of one source or several: the best entries of every query, reduced from entries to concepts.

A concept's score is that of its best entry; an entry of several concepts gives each of them its score. Concepts are ranked
by score, descending; which scores count as equal, and what orders them, is said in `ties`. Ties are common, because a name may
stand for several concepts and be written like a training mention: by CUI alone, they cost ten points of acc@1 on train and names.

A ranking depends on the query and the index alone. Products of matrices have other last digits with other queries beside them, so
they only find the entries that matter; the scores of these are computed anew, each from its two vectors, in float64. Sources are
searched one by one, and joined by `merge`.

What is compared depends on the linker: `Vectors`, `Ngrams` or `Dictionary` give the nearest entries, `rank` does the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge.normalization.ties import EQUAL, levelled
from mentionforge.text import normalize_surface, plain

TOP = 100
"""Ranks written per mention: acc@100 is the deepest metric."""

OVERFETCH = 4
"""Neighbours fetched at first, as a multiple of `TOP`, and the factor by which that grows where it gives too few concepts."""

FEATURES = 2**20
"""Places that n-grams are hashed to."""

PAIRS = 16_384
"""Pairs of a query and an entry that are scored at a time: 50 MB of terms at 384 dimensions."""

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
    """Ranked concepts: aligned arrays sorted by query, then rank (from 1).

    From one source (`best`), `score` is the concept's own, and `rank` leaves the index' preference aside; from `merge`, equal
    scores have one value. `votes` counts the entries within the tolerance of the concept's best, `entry` is the first of these.
    """

    query: np.ndarray
    rank: np.ndarray
    concept: np.ndarray
    score: np.ndarray
    votes: np.ndarray
    entry: np.ndarray


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


def rank(queries: Any, sources: Sequence[Source], comparison: Comparison, preference: np.ndarray | None = None, top: int = TOP) -> Ranking:
    """The `top` concepts of each query over all sources together, exact if the comparison is.

    Args:
        queries: Inputs of the queries: float32 [queries, dimensions], or strings.
        sources: Parts of the index; concepts are numbered across them, in the order that breaks ties.
        comparison: How the linker compares.
        preference: Of each concept, which breaks ties before votes: lower comes first.
        top: Concepts per query; fewer if the index has fewer.
    """
    found = [best(queries, source, comparison, top) for source in sources if len(queries) and len(source.row)]
    return merge(found, tolerance_of(queries, comparison), preference, top)


def tolerance_of(queries: Any, comparison: Comparison) -> np.ndarray:
    """Up to which difference the scores of each query count as equal, float64 [queries]."""
    return comparison.tolerance(comparison.prepare(queries)) if len(queries) else np.empty(0)


def best(queries: Any, source: Source, comparison: Comparison, top: int = TOP, arranged: Any = None) -> Ranking:
    """The `top` concepts of each query in one source, and all others that may tie with the last of them; numbers of the queries as given.

    `arranged` is what `comparison.arrange` makes of the source's inputs, where it is searched more than once.
    """
    entries = comparison.arrange(source.inputs) if arranged is None else arranged
    prepared, number = comparison.prepare(queries), len(queries)
    tolerance, error = comparison.tolerance(prepared), comparison.error(prepared, entries)
    size = len(source.inputs)
    bearers = np.bincount(source.row, minlength=size)
    first = np.cumsum(bearers) - bearers  # position of a row's first concept
    open_queries, done = np.arange(number), []
    fetch = min(top * OVERFETCH, size)
    while len(open_queries):
        asked, near, far = _rows(prepared, open_queries), tolerance[open_queries], error[open_queries]
        values, neighbours = comparison.neighbours(asked, entries, fetch)  # [open queries, fetch]
        # Entries that are not fetched score no higher than this.
        unseen = np.full(len(open_queries), -np.inf) if fetch == size else values[:, -1].astype(np.float64) + far
        hit, pair = runs(first[neighbours].ravel(), bearers[neighbours].ravel())
        value = values.ravel()[hit].astype(np.float64)
        there = np.isfinite(value)
        hit, pair, value = hit[there], pair[there], value[there]
        kept = _worth(hit // fetch, source.concept[pair], value, near, far, top)
        hit, pair = hit[kept], pair[kept]
        scored, of = np.unique(hit, return_inverse=True)
        query, row = scored // fetch, neighbours.ravel()[scored]
        score = comparison.scores(asked, entries, query, row, values.ravel()[scored])[of]
        order = np.argsort(query[of] * len(source.row) + pair)  # of equal entries, the first stands for the concept, in whatever order they were found
        query, pair, score = query[of][order], pair[order], score[order]
        ranking = _reduce(query, source.concept[pair], score, source.votes[pair], source.entry[pair], near)
        # A concept is complete if no unseen entry could vote for it; a query, if its `top` concepts are, and all that are given with them.
        counted = np.bincount(ranking.query[ranking.score > (unseen + 5 * near)[ranking.query]], minlength=len(open_queries))
        complete = (counted >= top) | np.isneginf(unseen)
        done.append(select(ranking, complete[ranking.query])._replace(query=open_queries[ranking.query[complete[ranking.query]]]))
        open_queries, fetch = open_queries[~complete], min(fetch * OVERFETCH, size)
    found = Ranking(*(np.concatenate(columns) for columns in zip(*done, strict=True)))
    found = _placed(found, tolerance)
    # In the group of the last one, scores differ by a tolerance; two more hold what another source may make equal to it, and its votes.
    limit = _nth(found.query, found.score, np.arange(len(found.query)), number, top)
    return select(found, found.score >= (limit - 3 * tolerance)[found.query])


def merge(found: Sequence[Ranking], tolerance: np.ndarray, preference: np.ndarray | None = None, top: int = TOP) -> Ranking:
    """The `top` concepts over several sources, each of them searched alone.

    A concept among the best of the union is among the best of the source that holds its best entry, so nothing is lost.
    Of entries at a concept's best score, that of the first source stands for it.

    Args:
        found: What `best` gives for each source.
        tolerance: Up to which difference the scores of each query count as equal, float64 [queries].
        preference: Of each concept, which breaks ties before votes: lower comes first.
        top: Concepts per query.
    """
    empty = Ranking(*(np.empty(0, np.int64),) * 3, np.empty(0), *(np.empty(0, np.int64),) * 2)
    joined = Ranking(*(np.concatenate(columns) for columns in zip(empty, *found, strict=True)))
    reduced = _reduce(joined.query, joined.concept, joined.score, joined.votes, joined.entry, tolerance)
    ranking = _placed(reduced._replace(score=levelled(reduced.query, reduced.score, tolerance)), None, preference)
    return select(ranking, ranking.rank <= top)


def _worth(query: np.ndarray, concept: np.ndarray, value: np.ndarray, tolerance: np.ndarray, error: np.ndarray, top: int) -> np.ndarray:
    """Which pairs may be among a query's `top` concepts, or tie with the last, and at their concept's best score: as far as values tell.

    Pairs stand by query, and by value in it, descending.
    """
    order, start = _grouped(query, concept)
    leads = order[start]  # the pairs of each concept's highest value
    highest = np.empty(len(value))
    highest[order] = np.repeat(value[leads], np.diff(start, append=len(order)))
    limit = _nth(query, value, np.sort(leads), len(tolerance), top)
    return np.flatnonzero((value >= highest - (tolerance + 2 * error)[query]) & (highest >= (limit - 4 * tolerance - 2 * error)[query]))


def _nth(query: np.ndarray, value: np.ndarray, some: np.ndarray, number: int, top: int) -> np.ndarray:
    """The `top`-th of each query's values at the positions `some`, which rise, float64 [number]; -inf where there are fewer."""
    owner = query[some]
    at = some[np.arange(len(some)) - np.searchsorted(owner, owner) == top - 1]
    limit = np.full(number, -np.inf)
    limit[query[at]] = value[at]
    return limit


def _grouped(query: np.ndarray, concept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order by query, then concept, then as given; and where in it a new pair of query and concept begins."""
    key = query * (int(concept.max(initial=0)) + 1) + concept
    order = np.argsort(key, kind="stable")
    return order, np.flatnonzero(np.diff(key[order], prepend=-1))


def _blocks(array: np.ndarray, size: int = 65_536) -> Iterator[np.ndarray]:
    """An array in parts, so that a mapped one need not be in memory at once."""
    return (array[i : i + size] for i in range(0, len(array), size))


def _rows(prepared: Any, rows: np.ndarray) -> Any:
    """Some of the prepared inputs."""
    return [[step[i] for i in rows] for step in prepared] if isinstance(prepared, list) else prepared[rows]


def _reduce(query: np.ndarray, concept: np.ndarray, score: np.ndarray, votes: np.ndarray, entry: np.ndarray, tolerance: np.ndarray) -> Ranking:
    """Each concept's best score, its votes and its first entry within the tolerance of that; by query, then concept, not yet ranked."""
    order, start = _grouped(query, concept)
    query, concept, score, votes, entry = query[order], concept[order], score[order], votes[order], entry[order]
    if not len(start):
        return Ranking(query, query, concept, score, votes, entry)
    lengths = np.diff(start, append=len(query))
    highest = np.maximum.reduceat(score, start)
    at_best = score >= np.repeat(highest, lengths) - tolerance[query]
    leading = np.minimum.reduceat(np.where(at_best, np.arange(len(query)), len(query)), start)
    return Ranking(query[start], np.zeros(len(start), np.int64), concept[start], highest, np.add.reduceat(votes * at_best, start), entry[leading])


def _placed(found: Ranking, tolerance: np.ndarray | None, preference: np.ndarray | None = None) -> Ranking:
    """Concepts in the order of their scores, equal ones as `ties` says; without a tolerance, the scores are levelled already."""
    level = found.score if tolerance is None else levelled(found.query, found.score, tolerance)
    by = () if preference is None else (preference[found.concept],)
    order = np.lexsort((found.concept, -found.votes, *by, -level, found.query))
    found = select(found, order)
    return found._replace(rank=np.arange(len(order)) - np.searchsorted(found.query, found.query) + 1)


def select(ranking: Ranking, kept: np.ndarray) -> Ranking:
    """The rows of a ranking where `kept` is true, or those it numbers."""
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
