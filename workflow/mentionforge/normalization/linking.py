"""Linking: exact nearest neighbours of every gold test mention, reduced from entries to concepts.

A concept's score is that of its best entry; an entry of several concepts gives each of them its score. Concepts are ranked
by score, descending; equal scores by votes, the number of the concept's entries at that score, descending; then by CUI,
ascending. Scores count as equal if they agree after rounding to six decimals (for vectors of length 1; to as many fewer as
the square of the vectors' length has digits, because float32 carries seven). Ties are common, because a name may stand for
several concepts and be written like a training mention: by CUI alone, they cost ten points of acc@1 on train and names.

The command runs once per cell of an experiment, hundreds of times: it imports no torch, maps the vectors instead of
reading them, and searches each distinct query vector once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import provenance, tables
from mentionforge.config import EncoderLinker, Index, read_spec
from mentionforge.errors import UserError
from mentionforge.progress import say

TOP = 100
"""Ranks written per mention: acc@100 is the deepest metric."""

OVERFETCH = 4
"""Neighbours fetched at first, as a multiple of `TOP`, and the factor by which that grows where it gives too few concepts."""


class Source(NamedTuple):
    """Part of an index: distinct vectors, float32 [rows, dimensions], and which concepts they stand for.

    The other three are aligned, sorted by row, then concept: a row, one of its concepts, and the number of entries that give
    the row this concept.
    """

    vectors: np.ndarray
    row: np.ndarray
    concept: np.ndarray
    votes: np.ndarray


class Ranking(NamedTuple):
    """Ranked concepts: aligned arrays sorted by query, then rank (from 1)."""

    query: np.ndarray
    rank: np.ndarray
    concept: np.ndarray
    score: np.ndarray
    votes: np.ndarray


def link(spec: Path, index: Path, corpus: Path, out: Path, kb: Path | None = None, synthetic: Path | None = None, chosen: Path | None = None) -> None:
    """Rank up to 100 concepts for every gold mention of the test split (tables.LINKED).

    Args:
        spec: Spec of the linker.
        index: Spec of the index: `train` searches the corpus' training mentions, `kb` the names.
        corpus: Embedded mentions of the corpus (entries.parquet, beside its vectors.npy).
        out: Predictions to write.
        kb: Embedded names; needed if the index has `kb`.
        synthetic: Embedded synthetic mentions.
        chosen: tables.CHOSEN: the notes whose mentions join the index; given together with `synthetic`.

    Raises:
        UserError: Parts of the index are missing, or entries and vectors do not belong together.
    """
    linker: EncoderLinker = read_spec(spec)
    searched: Index = read_spec(index)
    if ("kb" in searched.sources) != (kb is not None):
        raise UserError("wrong index", str(index), "kb entries are given if, and only if, the index has the source kb", "give --kb, or leave it out")
    if (synthetic is None) != (chosen is None):
        raise UserError("wrong index", str(index), "synthetic entries and chosen notes go together", "give both --synthetic and --chosen, or neither")

    mentions = tables.read(tables.EMBEDDED, corpus)
    queries = mentions.filter(pc.equal(mentions["split"], "test"))
    parts: dict[str, tuple[pa.Table, Path]] = {}
    if "train" in searched.sources:
        parts["train"] = (mentions.filter(pc.equal(mentions["split"], "train")), corpus)
    if kb:
        parts["kb"] = (tables.read(tables.EMBEDDED, kb), kb)
    if synthetic and chosen:
        entries = tables.read(tables.EMBEDDED, synthetic)
        keep = pc.is_in(entries["note_id"], value_set=tables.read(tables.CHOSEN, chosen)["note_id"])
        parts["synthetic"] = (entries.filter(keep), synthetic)
    say("index: " + ", ".join(f"{len(entries):,} entries of {name}" for name, (entries, _) in parts.items()))

    cuis = _distinct([entries["cuis"] for entries, _ in parts.values()])
    sources = [_source(entries, path, cuis) for entries, path in parts.values()]
    # Mentions with the same vector are one query, searched once and copied to each of them.
    rows, query_of = np.unique(queries["vector"].to_numpy(), return_inverse=True)
    ranking = rank(_vectors(corpus, mentions)[rows], sources, linker.metric)

    predictions = _spread(ranking, query_of, queries["entry_id"].combine_chunks(), cuis)
    scored = pc.count_distinct(predictions["mention_id"]).as_py()
    expected = len(queries) if any(len(s.row) for s in sources) else 0
    if scored != expected or len(predictions.filter(pc.equal(predictions["rank"], 1))) != expected:
        raise AssertionError(f"{scored} mentions scored, {expected} expected")
    say(f"{scored:,} of {len(queries):,} test mentions scored, each once ({len(rows):,} distinct queries, {len(cuis):,} concepts in the index)")
    given = {"spec": spec, "index": index, "corpus": corpus, "kb": kb, "synthetic": synthetic, "chosen": chosen}
    inputs = {role: path for role, path in given.items() if path}
    counts = {
        "queries": len(queries),
        "scored": scored,
        "index_entries": {name: len(entries) for name, (entries, _) in parts.items()},
        "index_concepts": len(cuis),
    }
    tables.write(tables.LINKED, out, predictions, provenance.stamp("normalization link", inputs, counts=counts))


def rank(queries: np.ndarray, sources: Sequence[Source], metric: str, top: int = TOP) -> Ranking:
    """The `top` concepts of each query over all sources together, exact.

    Args:
        queries: float32 [queries, dimensions].
        sources: Parts of the index; concepts are numbered across them, in the order that breaks ties.
        metric: `cosine` (vectors have length 1) and `ip`: inner product; `l2`: squared Euclidean distance, negated.
        top: Concepts per query; fewer if the index has fewer.
    """
    decimals = 6 - max(0, round(math.log10(np.square(queries).sum(1).mean()))) if len(queries) else 6
    # A concept among the best of the union is among the best of the source that holds its best entry, so each is searched alone.
    found = [_search(queries, source, metric, top, decimals) for source in sources if len(queries) and len(source.row)]
    empty = Ranking(*(np.empty(0, np.int64),) * 3, np.empty(0), np.empty(0, np.int64))
    joined = Ranking(*(np.concatenate(columns) for columns in zip(empty, *found, strict=True)))
    ranking = _reduce(joined.query, joined.concept, joined.score, joined.votes)
    return _select(ranking, ranking.rank <= top)


def _search(queries: np.ndarray, source: Source, metric: str, top: int, decimals: int) -> Ranking:
    """The `top` concepts of each query in one source, and all others that tie with the last of them.

    Fetches more neighbours for the queries where the cut may hide a concept or a vote.
    """
    distance = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    bearers = np.bincount(source.row, minlength=len(source.vectors))
    first = np.cumsum(bearers) - bearers  # position of a row's first concept
    open_queries, done = np.arange(len(queries)), []
    fetch = min(top * OVERFETCH, len(source.vectors))
    while len(open_queries):
        values, neighbours = faiss.knn(queries[open_queries], source.vectors, fetch, metric=distance)  # [open queries, fetch]
        scores = np.round((-values if metric == "l2" else values).astype(np.float64), decimals) + 0.0  # + 0.0: no negative zero
        hit, pair = _runs(first[neighbours].ravel(), bearers[neighbours].ravel())
        ranking = _reduce(hit // fetch, source.concept[pair], scores.ravel()[hit], source.votes[pair])
        if fetch < len(source.vectors):
            # Entries not fetched score no higher than the last one fetched: what lies above it is complete, votes included.
            ranking = _select(ranking, ranking.score > scores[ranking.query, -1])
            complete = np.bincount(ranking.query, minlength=len(open_queries)) >= top
        else:
            complete = np.ones(len(open_queries), bool)
        last = np.full(len(open_queries), -np.inf)
        last[ranking.query[ranking.rank == top]] = ranking.score[ranking.rank == top]
        ranking = _select(ranking, complete[ranking.query] & (ranking.score >= last[ranking.query]))
        done.append(ranking._replace(query=open_queries[ranking.query]))
        open_queries, fetch = open_queries[~complete], min(fetch * OVERFETCH, len(source.vectors))
    return Ranking(*(np.concatenate(columns) for columns in zip(*done, strict=True)))


def _reduce(query: np.ndarray, concept: np.ndarray, score: np.ndarray, votes: np.ndarray) -> Ranking:
    """Ranking of rows (query, concept, score, votes): each concept's best score, and its votes at that score."""
    order = np.lexsort((-score, concept, query))
    query, concept, score, votes = query[order], concept[order], score[order], votes[order]
    new = np.ones(len(query), bool)
    new[1:] = (query[1:] != query[:-1]) | (concept[1:] != concept[:-1])
    start = np.flatnonzero(new)
    at_best = score == score[start][np.cumsum(new) - 1]
    votes = np.add.reduceat(votes * at_best, start) if len(start) else votes
    query, concept, score = query[start], concept[start], score[start]
    order = np.lexsort((concept, -votes, -score, query))
    query = query[order]
    place = np.arange(len(query)) - np.searchsorted(query, query) + 1
    return Ranking(query, place, concept[order], score[order], votes[order])


def _select(ranking: Ranking, kept: np.ndarray) -> Ranking:
    """The rows of a ranking where `kept` is true."""
    return Ranking(*(column[kept] for column in ranking))


def _runs(first: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs first[i], first[i] + 1, …, of lengths[i], laid end to end: for each member the run it is of (i), and its value."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) + (first - (np.cumsum(lengths) - lengths))[run]


def _distinct(lists: Sequence[pa.ChunkedArray]) -> pa.Array:
    """Sorted distinct CUIs of list columns: the numbering of concepts, so that a lower number is a lower CUI."""
    values = pa.concat_arrays([pc.list_flatten(column).unique() for column in lists]).unique()
    return values.take(pc.array_sort_indices(values))


def _vectors(entries_path: Path, entries: pa.Table) -> np.ndarray:
    """The mapped vectors beside an entries file."""
    path = entries_path.with_name("vectors.npy")
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError("unreadable vectors", str(path), str(error), "delete the folder and rerun the workflow") from error
    if len(entries) and pc.max(entries["vector"]).as_py() >= len(vectors):
        raise UserError("wrong vectors", str(path), f"{len(vectors)} rows are fewer than its entries name", "delete the folder and rerun the workflow")
    return vectors


def _source(entries: pa.Table, path: Path, cuis: pa.Array) -> Source:
    """The distinct vectors of entries; entries that share a vector pool their concepts and votes."""
    vectors = _vectors(path, entries)
    rows, position = np.unique(entries["vector"].to_numpy(), return_inverse=True)
    lists = entries["cuis"].combine_chunks()
    row = position[pc.list_parent_indices(lists).to_numpy()]
    concept = pc.index_in(pc.list_flatten(lists), value_set=cuis).to_numpy()
    pairs, votes = np.unique(row.astype(np.int64) * len(cuis) + concept, return_counts=True)
    used = vectors if len(rows) == len(vectors) else vectors[rows]
    return Source(used, pairs // max(len(cuis), 1), pairs % max(len(cuis), 1), votes)


def _spread(ranking: Ranking, query_of: np.ndarray, mention_ids: pa.Array, cuis: pa.Array) -> pa.Table:
    """One row per mention and rank: the ranking of each distinct query, copied to the mentions that asked it."""
    lengths = np.bincount(ranking.query, minlength=int(query_of.max(initial=-1)) + 1)
    mention, row = _runs((np.cumsum(lengths) - lengths)[query_of], lengths[query_of])
    return pa.table(
        {
            "mention_id": mention_ids.take(pa.array(mention)),
            "rank": ranking.rank[row],
            "cui": cuis.take(pa.array(ranking.concept[row])),
            "score": ranking.score[row],
        }
    )
