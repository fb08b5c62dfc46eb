"""Search: the best concepts of each query, from the nearest entries of one or several sources.

In: queries, entries with their concepts, and a linker's `Retriever`. Out: a `Ranking`.
A ranking depends on the query and the index alone, never on other queries. Knows nothing of encoders, files and gold concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge.normalization.linkers.contract import Retriever
from mentionforge.ties import level_ties

# From entries to concepts. A concept's score is the score of its best entry, and an entry of several concepts gives its score to each of them.
# Example: the name "cold" belongs to the concepts C1 and C2, the training mention "cold" to C1 only. For the query "cold" both concepts score 1.0.
# Votes, the number of entries at the best score, resolve the tie: two for C1, one for C2. Ties are common; ordering them by CUI alone costs ten
# points of acc@1 on an index of training mentions and names. `ties` says which scores are equal and what orders them.
#
# Why two scores. A matrix product may differ in its last digits when other queries are in the batch. So the product only selects the entries
# that matter (within its error bound), and their scores are computed again in float64, each from its own two vectors. A search that gives
# too few concepts is repeated with more neighbours. Sources are searched one by one; `merge_rankings` joins their rankings.


VERSION = 3
"""Of the part normalization.search: raise it where earlier results would be wrong (mentionforge.versions)."""

TOP = 100
"""Concepts ranked per mention: acc@100 is the deepest metric."""

OVERFETCH = 4
"""Neighbours fetched first, as a multiple of `TOP`, and the factor for the next attempt if they give too few concepts."""

MAX_FETCHED = 10_000_000
"""Most neighbours fetched at a time (about 600 MB with derived arrays). A query with many equally near entries may need all of them."""

SEPARATOR = "|"
"""Separator between the CUIs of an entry."""


class IndexedEntries(NamedTuple):
    """One source of an index: distinct inputs and their concepts. Example: the training mentions, or the names.

    The arrays after `inputs` are aligned pairs of a row and a concept, sorted by row, then concept.

    Attributes:
        inputs: Vectors, float32 [rows, dimensions], or strings.
        row: Row in `inputs`.
        concept: A concept of this row, as a number.
        votes: Number of entries that give the row this concept.
        entry: The most frequent set of concepts among these entries (the first of equals), as a number among all sets.
    """

    inputs: Any
    row: np.ndarray
    concept: np.ndarray
    votes: np.ndarray
    entry: np.ndarray


class Ranking(NamedTuple):
    """Ranked concepts: aligned arrays, sorted by query, then rank (from 1).

    In a ranking from one source (`best_concepts`), `score` is the concept's own score, and `rank` ignores the preference of the index. In a
    ranking from `merge_rankings`, equal scores have one value. `votes` counts the entries within the tolerance of the concept's best score;
    `entry` is the first of these.
    """

    query: np.ndarray
    rank: np.ndarray
    concept: np.ndarray
    score: np.ndarray
    votes: np.ndarray
    entry: np.ndarray


def rank_concepts(queries: Any, sources: Sequence[IndexedEntries], retriever: Retriever, preference: np.ndarray | None = None, top: int = TOP) -> Ranking:
    """The `top` concepts of each query over all sources together; exact if the retriever is.

    Args:
        queries: Inputs of the queries: float32 [queries, dimensions], or strings.
        sources: Sources of the index; concepts are numbered across them, in the order that breaks ties.
        retriever: The linker's retriever.
        preference: For each concept, a number that breaks ties before votes: lower comes first.
        top: Concepts per query; fewer if the index has fewer.
    """
    rankings = [best_concepts(queries, source, retriever, top) for source in sources if len(queries) and len(source.row)]
    return merge_rankings(rankings, query_tolerance(queries, retriever), preference, top)


def query_tolerance(queries: Any, retriever: Retriever) -> np.ndarray:
    """For each query, the largest difference at which two scores count as equal, float64 [queries]."""
    return retriever.tolerance(retriever.prepare(queries)) if len(queries) else np.empty(0)


def best_concepts(queries: Any, source: IndexedEntries, retriever: Retriever, top: int = TOP, arranged: Any = None) -> Ranking:
    """The `top` concepts of each query in one source, and all others that may tie with the last of them.

    Args:
        queries: Inputs of the queries.
        source: The source.
        retriever: The linker's retriever.
        top: Concepts per query.
        arranged: What `retriever.arrange` returned for the inputs of the source, if it is searched more than once.
    """
    entries = retriever.arrange(source.inputs) if arranged is None else arranged
    prepared, n_queries = retriever.prepare(queries), len(queries)
    tolerance, error = retriever.tolerance(prepared), retriever.error(prepared, entries)
    size = len(source.inputs)
    n_concepts = np.bincount(source.row, minlength=size)
    first_pair = np.cumsum(n_concepts) - n_concepts  # position of each row's first pair
    pending, complete_rankings = [(np.arange(n_queries), min(top * OVERFETCH, size))], []
    while pending:
        open_queries, fetch = pending.pop()
        if len(open_queries) > (most := max(1, MAX_FETCHED // fetch)):
            pending += [(open_queries[i : i + most], fetch) for i in range(0, len(open_queries), most)]
            continue
        open_prepared, open_tolerance, open_error = _select_queries(prepared, open_queries), tolerance[open_queries], error[open_queries]
        values, neighbours = retriever.neighbours(open_prepared, entries, fetch)  # [open queries, fetch]
        # Entries that were not fetched score at most this.
        unseen = np.full(len(open_queries), -np.inf) if fetch == size else values[:, -1].astype(np.float64) + open_error
        hit, pair = expand_runs(first_pair[neighbours].ravel(), n_concepts[neighbours].ravel())
        value = values.ravel()[hit].astype(np.float64)
        fetched = np.isfinite(value)
        hit, pair, value = hit[fetched], pair[fetched], value[fetched]
        kept = _competing_pairs(hit // fetch, source.concept[pair], value, open_tolerance, open_error, top)
        hit, pair = hit[kept], pair[kept]
        scored, hit_of = np.unique(hit, return_inverse=True)
        query, row = scored // fetch, neighbours.ravel()[scored]
        score = retriever.scores(open_prepared, entries, query, row, values.ravel()[scored])[hit_of]
        order = np.argsort(query[hit_of] * len(source.row) + pair)  # of equal entries the first represents the concept, in whatever order they were fetched
        query, pair, score = query[hit_of][order], pair[order], score[order]
        ranking = _concept_scores(query, source.concept[pair], score, source.votes[pair], source.entry[pair], open_tolerance)
        # A concept is complete if no unseen entry could vote for it. A query is complete if its `top` concepts and those that tie with them are.
        counted = np.bincount(ranking.query[ranking.score > (unseen + 5 * open_tolerance)[ranking.query]], minlength=len(open_queries))
        complete = (counted >= top) | np.isneginf(unseen)
        complete_rankings.append(select_rows(ranking, complete[ranking.query])._replace(query=open_queries[ranking.query[complete[ranking.query]]]))
        if not complete.all():
            pending.append((open_queries[~complete], min(fetch * OVERFETCH, size)))
    merged = Ranking(*(np.concatenate(columns) for columns in zip(*complete_rankings, strict=True)))
    merged = _ranked(merged, tolerance)
    # Scores in the group of the last concept differ by one tolerance. Two more keep concepts that another source may tie with it, and their votes.
    limit = _nth_value(merged.query, merged.score, np.arange(len(merged.query)), n_queries, top)
    return select_rows(merged, merged.score >= (limit - 3 * tolerance)[merged.query])


def merge_rankings(rankings: Sequence[Ranking], tolerance: np.ndarray, preference: np.ndarray | None = None, top: int = TOP) -> Ranking:
    """The `top` concepts over several sources that were searched separately.

    A concept among the best of all sources is among the best of the source that holds its best entry, so nothing is lost.
    Of the entries at a concept's best score, the one from the first source is kept.

    Args:
        rankings: Ranking from `best_concepts` for each source.
        tolerance: For each query, the largest difference at which two scores count as equal, float64 [queries].
        preference: For each concept, a number that breaks ties before votes: lower comes first.
        top: Concepts per query.
    """
    empty = Ranking(*(np.empty(0, np.int64),) * 3, np.empty(0), *(np.empty(0, np.int64),) * 2)
    joined = Ranking(*(np.concatenate(columns) for columns in zip(empty, *rankings, strict=True)))
    reduced = _concept_scores(joined.query, joined.concept, joined.score, joined.votes, joined.entry, tolerance)
    ranking = _ranked(reduced._replace(score=level_ties(reduced.query, reduced.score, tolerance)), None, preference)
    return select_rows(ranking, ranking.rank <= top)


def _competing_pairs(query: np.ndarray, concept: np.ndarray, value: np.ndarray, tolerance: np.ndarray, error: np.ndarray, top: int) -> np.ndarray:
    """Positions of the pairs that may hold a concept's best score, for concepts that may be among a query's `top` or tie with the last.

    Values are approximate, so pairs within the error bound of the limits are kept. Pairs are sorted by query, then value, descending.
    """
    order, start = _group_pairs(query, concept)
    leads = order[start]  # the pair with each concept's highest value
    highest = np.empty(len(value))
    highest[order] = np.repeat(value[leads], np.diff(start, append=len(order)))
    limit = _nth_value(query, value, np.sort(leads), len(tolerance), top)
    return np.flatnonzero((value >= highest - (tolerance + 2 * error)[query]) & (highest >= (limit - 4 * tolerance - 2 * error)[query]))


def _nth_value(query: np.ndarray, value: np.ndarray, positions: np.ndarray, number: int, top: int) -> np.ndarray:
    """The `top`-th of each query's values at rising `positions`, float64 [number]; -inf for queries with fewer values."""
    owner = query[positions]
    at = positions[np.arange(len(positions)) - np.searchsorted(owner, owner) == top - 1]
    limit = np.full(number, -np.inf)
    limit[query[at]] = value[at]
    return limit


def _group_pairs(query: np.ndarray, concept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stable order by query, then concept; and the positions in that order where a new pair of query and concept begins."""
    key = query * (int(concept.max(initial=0)) + 1) + concept
    order = np.argsort(key, kind="stable")
    return order, np.flatnonzero(np.diff(key[order], prepend=-1))


def _select_queries(prepared: Any, rows: np.ndarray) -> Any:
    """The prepared queries at some positions."""
    return [[step[i] for i in rows] for step in prepared] if isinstance(prepared, list) else prepared[rows]


def _concept_scores(query: np.ndarray, concept: np.ndarray, score: np.ndarray, votes: np.ndarray, entry: np.ndarray, tolerance: np.ndarray) -> Ranking:
    """For each query and concept: the best score, the votes, and the first entry within the tolerance of that score; not yet ranked."""
    order, start = _group_pairs(query, concept)
    query, concept, score, votes, entry = query[order], concept[order], score[order], votes[order], entry[order]
    if not len(start):
        return Ranking(query, query, concept, score, votes, entry)
    lengths = np.diff(start, append=len(query))
    highest = np.maximum.reduceat(score, start)
    at_best = score >= np.repeat(highest, lengths) - tolerance[query]
    leading = np.minimum.reduceat(np.where(at_best, np.arange(len(query)), len(query)), start)
    return Ranking(query[start], np.zeros(len(start), np.int64), concept[start], highest, np.add.reduceat(votes * at_best, start), entry[leading])


def _ranked(ranking: Ranking, tolerance: np.ndarray | None, preference: np.ndarray | None = None) -> Ranking:
    """The concepts ranked by score, ties ordered as `ties` says. Without a tolerance, equal scores must have one value already."""
    level = ranking.score if tolerance is None else level_ties(ranking.query, ranking.score, tolerance)
    by = () if preference is None else (preference[ranking.concept],)
    order = np.lexsort((ranking.concept, -ranking.votes, *by, -level, ranking.query))
    ranking = select_rows(ranking, order)
    return ranking._replace(rank=np.arange(len(order)) - np.searchsorted(ranking.query, ranking.query) + 1)


def select_rows(ranking: Ranking, kept: np.ndarray) -> Ranking:
    """Rows of a ranking, by a boolean mask or by positions."""
    return Ranking(*(column[kept] for column in ranking))


def expand_runs(first: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the runs first[i], first[i] + 1, … of lengths[i]; returns the run number i and the value of each member."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) + (first - (np.cumsum(lengths) - lengths))[run]


def sorted_distinct(columns: Sequence[pa.ChunkedArray | pa.Array]) -> pa.Array:
    """Sorted distinct strings of columns. They number concepts and entries, so that numbers sort like strings."""
    values = pa.concat_arrays([pa.array([], pa.string()), *(column.unique() for column in columns)]).unique()
    return values.take(pc.array_sort_indices(values))


def joined_concepts(entries: pa.Table) -> pa.Array:
    """The CUIs of each entry, joined by `SEPARATOR`."""
    return pc.binary_join(entries["cuis"].combine_chunks(), SEPARATOR)


def indexed_entries(entries: pa.Table, inputs: Any, cuis: pa.Array, sets: pa.Array) -> IndexedEntries:
    """Group entries by input: entries with the same input pool their concepts and votes.

    Args:
        entries: tables.EMBEDDED, each with at least one concept.
        inputs: float32 [rows, dimensions], or strings, by `entries.vector`.
        cuis: Numbering of concepts.
        sets: Numbering of the entries' joined concepts.
    """
    rows, position = np.unique(entries["vector"].to_numpy(), return_inverse=True)
    lists = entries["cuis"].combine_chunks()
    parent = pc.list_parent_indices(lists).to_numpy()
    row = position[parent].astype(np.int64)
    concept = pc.index_in(pc.list_flatten(lists), value_set=cuis).to_numpy().astype(np.int64)
    entry = pc.index_in(joined_concepts(entries), value_set=sets).to_numpy().astype(np.int64)[parent]
    pair = row * max(len(cuis), 1) + concept
    # Sorted by pair, the most frequent set first.
    triples, counts = np.unique(np.stack([pair, entry], 1), axis=0, return_counts=True) if len(pair) else (np.empty((0, 2), np.int64), np.empty(0, np.int64))
    order = np.lexsort((triples[:, 1], -counts, triples[:, 0]))
    pairs, start = np.unique(triples[order, 0], return_index=True)
    votes = np.add.reduceat(counts[order], start) if len(start) else np.empty(0, np.int64)
    if isinstance(inputs, np.ndarray):
        used: Any = inputs if len(rows) == len(inputs) else inputs[rows]
    else:
        used = [inputs[i] for i in rows]
    return IndexedEntries(used, pairs // max(len(cuis), 1), pairs % max(len(cuis), 1), votes, triples[order, 1][start])
