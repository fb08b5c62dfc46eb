"""Linking: exact nearest neighbours of every gold test mention, reduced from entries to concepts.

A concept's score is that of its best entry; an entry of several concepts gives each of them its score. Concepts are ranked
by score, descending, and equal scores by CUI, ascending. Scores count as equal if they agree after rounding to six decimals
(for vectors of length 1; to as many fewer as the square of the vectors' length has digits, because float32 carries seven).

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
    """Part of an index: vectors, float32 [entries, dimensions], and which entry bears which concept (two arrays of pairs, sorted by entry)."""

    vectors: np.ndarray
    entry: np.ndarray
    concept: np.ndarray


class Ranking(NamedTuple):
    """Ranked concepts: aligned arrays sorted by query, then rank (from 1)."""

    query: np.ndarray
    rank: np.ndarray
    concept: np.ndarray
    score: np.ndarray


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
    expected = len(queries) if any(len(s.entry) for s in sources) else 0
    if scored != expected or len(predictions.filter(pc.equal(predictions["rank"], 1))) != expected:
        raise AssertionError(f"{scored} mentions scored, {expected} expected")
    say(f"{scored:,} of {len(queries):,} test mentions scored, each once ({len(rows):,} distinct queries, {len(cuis):,} concepts in the index)")
    inputs = {"spec": spec, "index": index, "corpus": corpus, **({"kb": kb} if kb else {}), **({"synthetic": synthetic, "chosen": chosen} if synthetic and chosen else {})}
    counts = {"queries": len(queries), "scored": scored, "index_entries": {name: len(entries) for name, (entries, _) in parts.items()}, "index_concepts": len(cuis)}
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
    found = [_search(queries, source, metric, top, decimals) for source in sources if len(queries) and len(source.entry)]
    empty = Ranking(*(np.empty(0, np.int64),) * 3, np.empty(0))
    joined = Ranking(*(np.concatenate(columns) for columns in zip(empty, *found, strict=True)))
    return _reduce(joined.query, joined.concept, joined.score, top)


def _search(queries: np.ndarray, source: Source, metric: str, top: int, decimals: int) -> Ranking:
    """The `top` concepts of each query in one source: fetch more neighbours until the cut cannot hide a concept or a tie."""
    distance = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    bearers = np.bincount(source.entry, minlength=len(source.vectors))
    first = np.cumsum(bearers) - bearers  # position of an entry's first (entry, concept) pair
    open_queries, done = np.arange(len(queries)), []
    fetch = min(top * OVERFETCH, len(source.vectors))
    while len(open_queries):
        values, neighbours = faiss.knn(queries[open_queries], source.vectors, fetch, metric=distance)  # [open queries, fetch]
        scores = np.round((-values if metric == "l2" else values).astype(np.float64), decimals) + 0.0  # + 0.0: no negative zero
        hit, pair = _runs(first[neighbours].ravel(), bearers[neighbours].ravel())
        ranking = _reduce(hit // fetch, source.concept[pair], scores.ravel()[hit], top)
        # Complete: all entries seen, or `top` concepts above the worst score fetched (those equal to it may have unseen equals).
        safe = np.bincount(ranking.query[ranking.score > scores[ranking.query, -1]], minlength=len(open_queries)) >= top
        complete = safe if fetch < len(source.vectors) else np.ones(len(open_queries), bool)
        kept = complete[ranking.query]
        done.append(Ranking(open_queries[ranking.query[kept]], *(column[kept] for column in ranking[1:])))
        open_queries, fetch = open_queries[~complete], min(fetch * OVERFETCH, len(source.vectors))
    return Ranking(*(np.concatenate(columns) for columns in zip(*done, strict=True)))


def _reduce(query: np.ndarray, concept: np.ndarray, score: np.ndarray, top: int) -> Ranking:
    """Best score of each concept, concepts by score descending, then number ascending; the first `top` of each query."""
    order = np.lexsort((-score, concept, query))
    query, concept, score = query[order], concept[order], score[order]
    best = np.ones(len(query), bool)
    best[1:] = (query[1:] != query[:-1]) | (concept[1:] != concept[:-1])
    query, concept, score = query[best], concept[best], score[best]
    order = np.lexsort((concept, -score, query))
    query, concept, score = query[order], concept[order], score[order]
    begin = np.searchsorted(query, query)
    place = np.arange(len(query)) - begin + 1
    kept = place <= top
    return Ranking(query[kept], place[kept], concept[kept], score[kept])


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
    """The distinct vectors of entries; entries that share a vector pool their concepts."""
    vectors = _vectors(path, entries)
    rows, position = np.unique(entries["vector"].to_numpy(), return_inverse=True)
    lists = entries["cuis"].combine_chunks()
    entry = position[pc.list_parent_indices(lists).to_numpy()]
    concept = pc.index_in(pc.list_flatten(lists), value_set=cuis).to_numpy()
    pairs = np.unique(entry.astype(np.int64) * len(cuis) + concept)
    used = vectors if len(rows) == len(vectors) else vectors[rows]
    return Source(used, pairs // max(len(cuis), 1), pairs % max(len(cuis), 1))


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
