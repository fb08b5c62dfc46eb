"""Searchers: a linker and its index, loaded once and queried many times.

In: mentions with their documents. Out: the ranking that `linking.search_kb` and `linking.link` give for the same mention.
The last digits of a mention's vector depend on its batch, so scores agree to about 1e-6; `ties` absorbs differences of that size.
Knows nothing of recognizers and tables of results.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.encoders import Spans
from mentionforge.errors import UserError
from mentionforge.normalization.linkers.contract import Retriever, SearchingLinker
from mentionforge.normalization.linkers.hybrid import HybridLinker
from mentionforge.normalization.linkers.hybrid.fusion import candidate_lists, fused_scores, ranking_table
from mentionforge.normalization.linkers.tfidf import FEATURES
from mentionforge.normalization.linking import admitted_entries, inputs_of, preference_of, vectors_of
from mentionforge.normalization.search import SEPARATOR, TOP, best_concepts, indexed_entries, joined_concepts, merge_rankings, query_tolerance, sorted_distinct
from mentionforge.normalization.settings import Index

CACHED_CANDIDATES = 200_000
"""Size of the cache of rankings, in candidates (20 MB): the longer the rankings, the fewer mentions fit."""


class RankedConcept(NamedTuple):
    """A concept of a ranking, its score, and the joined concepts of its best entry."""

    cui: str
    score: float
    entry: str

    @property
    def shared(self) -> bool:
        """Whether its entry belongs to other concepts too."""
        return SEPARATOR in self.entry


ConceptRanking = tuple[RankedConcept, ...]


@dataclass(frozen=True)
class IndexedLinker:
    """A linker that searches, and its index, as read from files.

    Attributes:
        linker: Its settings.
        index: Settings of the index.
        model: Stamp of the encoder's weights, if it has one.
        entries: By source (train, kb, synthetic), the entries of the index (tables.EMBEDDED) and the inputs to which their rows refer.
        codes: Rows of tables.XREFS for the vocabularies that the index prefers.
        weights: N-gram weights of a linker that weighs names.
    """

    linker: SearchingLinker
    index: Index
    model: Path | None
    entries: Mapping[str, tuple[pa.Table, Any]]
    codes: pa.Table | None = None
    weights: np.ndarray | None = None


def indexed_linker(
    linker: SearchingLinker,
    index: Index,
    model: Path | None,
    corpus: Path | None = None,
    kb: Path | None = None,
    names: Path | None = None,
    xrefs: Path | None = None,
    synthetic: Path | None = None,
    chosen: Path | None = None,
) -> IndexedLinker:
    """Read a linker with the entries that `linking.link` searches; the arguments are the same files of a results folder."""
    entries: dict[str, tuple[pa.Table, Any]] = {}
    if "train" in index.sources and corpus:
        table = tables.read(tables.EMBEDDED, corpus)
        mapped = pc.greater(pc.list_value_length(table["cuis"]), 0)
        entries["train"] = table.filter(pc.and_(pc.equal(table["split"], "train"), mapped)), inputs_of(linker, corpus, table)
    codes = tables.read(tables.XREFS, xrefs) if xrefs else None
    if "kb" in index.sources and kb and names and codes is not None:
        table = tables.read(tables.EMBEDDED, kb)
        entries["kb"] = admitted_entries(table, index, tables.read(tables.NAMES, names), codes), inputs_of(linker, kb, table)
    if synthetic and chosen:
        table = tables.read(tables.EMBEDDED, synthetic)
        keep = pc.is_in(table["note_id"], value_set=tables.read(tables.CHOSEN, chosen)["note_id"])
        entries["synthetic"] = table.filter(keep), inputs_of(linker, synthetic, table)
    weights = np.array(vectors_of(kb)[0]) if linker.weighs_names and kb else None
    preferred = codes.filter(pc.is_in(codes["source"], value_set=pa.array(index.prefer_xrefs))) if codes is not None and index.prefer_xrefs else None
    return IndexedLinker(linker, index, model, entries, preferred, weights)


def inconsistency(indexed: IndexedLinker, concepts: Any = None) -> str:
    """Why the files of a linker and its index do not fit together, in a few words; empty if they do.

    Args:
        indexed: The linker and its index.
        concepts: CUIs that have names, if every concept of the entries must have one.
    """
    widths = set()
    for name, (table, inputs) in indexed.entries.items():
        rows = table["vector"]
        if len(table) and (pc.min(rows).as_py() < 0 or pc.max(rows).as_py() >= len(inputs)):
            return f"entries of {name} name inputs that are not there"
        if len(table) and not pc.all(pc.greater(pc.list_value_length(table["cuis"]), 0)).as_py():
            return f"entries of {name} without a concept"
        if concepts is not None and not pc.all(pc.is_in(pc.list_flatten(table["cuis"]), value_set=concepts.combine_chunks()), min_count=0).as_py():
            return f"entries of {name} have concepts without a name"
        if indexed.linker.embeds:
            problem = _array_problem(inputs, 2)
            if problem:
                return f"vectors of {name} {problem}"
            widths.add(inputs.shape[1])
    if len(widths) > 1:
        return f"vectors of {' and '.join(map(str, sorted(widths)))} dimensions in one index"
    if indexed.linker.embeds and indexed.model is None:
        return "no weights of the encoder"
    if indexed.linker.weighs_names:
        problem = "are missing" if indexed.weights is None else _array_problem(indexed.weights, 1)
        if not problem and indexed.weights is not None and len(indexed.weights) != FEATURES:
            problem = f"are {len(indexed.weights):,}, not {FEATURES:,}"
        if problem:
            return f"weights of n-grams {problem}"
    return ""


def _array_problem(array: Any, dimensions: int) -> str:
    """Why an array is no finite float32 array of these dimensions, in a few words; empty if it is one."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        return "are no float32"
    if array.ndim != dimensions or not all(array.shape[1:]):
        return f"have the shape {array.shape}"
    step = 16_384
    if not all(np.isfinite(array[i : i + step]).all() for i in range(0, len(array), step)):
        return "hold a number that is not finite"
    return ""


class Searcher:
    """Ranks concepts for mentions with one linker, and caches the rankings."""

    def __init__(self, indexed: IndexedLinker, depth: int = TOP) -> None:
        """Load the encoder and prepare the entries for search; rankings have up to `depth` concepts."""
        self.linker, self.depth = indexed.linker, depth
        self.encoder = None
        if indexed.linker.embeds:
            if indexed.model is None:
                raise UserError("missing weights", "linker", f"a {indexed.linker.kind} linker has an encoder", "give the stamp of its weights")
            self.encoder = indexed.linker.encoder(indexed.model)
        tables_of = [table for table, _ in indexed.entries.values()]
        self.cuis = sorted_distinct([table["cuis"].combine_chunks().flatten() for table in tables_of])
        sets = sorted_distinct([joined_concepts(table) for table in tables_of])
        self._cui, self._set = self.cuis.to_pylist(), sets.to_pylist()
        self._retrievers = {name: self._retriever(indexed, name) for name in indexed.entries}
        self._sources = {name: indexed_entries(table, inputs, self.cuis, sets) for name, (table, inputs) in indexed.entries.items()}
        self._arranged = {name: self._retrievers[name].arrange(source.inputs) for name, source in self._sources.items()}
        self._preference = preference_of(indexed.index, indexed.codes, self.cuis)
        self._known: OrderedDict[str, ConceptRanking] = OrderedDict()

    def _retriever(self, indexed: IndexedLinker, source: str) -> Retriever:
        return indexed.linker.retriever(indexed.index.search if source == "kb" else "flat", indexed.weights)

    def rank(
        self, surfaces: Sequence[str], expanded: Sequence[str | None], documents: Sequence[str], places: Sequence[tuple[int, Spans]]
    ) -> list[ConceptRanking]:
        """The ranking of each mention. Distinct mentions are searched once, and cached unless the linker reads the context.

        Args:
            surfaces: Mentions as written.
            expanded: Mentions with abbreviations expanded; None where nothing is expanded.
            documents: Texts of the mentions.
            places: For each mention, the position of its text in `documents` and its character spans.
        """
        if self.linker.reads_context:
            assert self.encoder is not None
            encoded = self.encoder.encode(self.encoder.contexts(documents, places), label=None)
            rankings = self._search(encoded.vectors)
            return [rankings[row] for row in encoded.rows]
        texts = [long or short for short, long in zip(surfaces, expanded, strict=True)] if self.linker.expand_abbreviations else list(surfaces)
        distinct_texts = dict.fromkeys(texts)
        uncached = [text for text in distinct_texts if text not in self._known]
        if uncached:
            if self.encoder is not None:
                encoded = self.encoder.encode(self.encoder.strings(uncached), label=None)
                new_rankings = self._search(encoded.vectors)
                uncached_rankings = [new_rankings[row] for row in encoded.rows]
            else:
                uncached_rankings = self._search(uncached)
            self._known.update(zip(uncached, uncached_rankings, strict=True))
        ranks = [self._known[text] for text in texts]
        for text in distinct_texts:
            self._known.move_to_end(text)
        while len(self._known) > CACHED_CANDIDATES // max(1, self.depth):
            self._known.popitem(last=False)
        return ranks

    def _search(self, queries: Any) -> list[ConceptRanking]:
        """Rankings of distinct queries."""
        rankings = [
            best_concepts(queries, source, self._retrievers[name], self.depth, self._arranged[name])
            for name, source in self._sources.items()
            if len(queries) and len(source.row)
        ]
        # Retrievers of the sources differ only in how they search, not in tolerance: any of them will do.
        tolerance = query_tolerance(queries, next(iter(self._retrievers.values()))) if rankings else np.empty(0)
        ranking = merge_rankings(rankings, tolerance, self._preference, self.depth)
        rows: list[list[RankedConcept]] = [[] for _ in range(len(queries))]
        for query, concept, score, entry in zip(*(c.tolist() for c in (ranking.query, ranking.concept, ranking.score, ranking.entry)), strict=True):
            rows[query].append(RankedConcept(self._cui[concept], score, self._set[entry]))
        return [tuple(row) for row in rows]


class FusedSearcher:
    """Ranks concepts for mentions with several linkers, fused as in `linkers.hybrid.fusion.fuse`."""

    def __init__(self, linkers: Sequence[IndexedLinker], hybrid: HybridLinker, weights: Sequence[float]) -> None:
        self.searchers, self.hybrid, self.weights = [Searcher(indexed) for indexed in linkers], hybrid, np.array(weights)
        self.cuis = sorted_distinct([searcher.cuis for searcher in self.searchers])

    def rank(
        self, surfaces: Sequence[str], expanded: Sequence[str | None], documents: Sequence[str], places: Sequence[tuple[int, Spans]]
    ) -> list[ConceptRanking]:
        """See `Searcher.rank`."""
        rankings = [searcher.rank(surfaces, expanded, documents, places) for searcher in self.searchers]
        # Mentions with the same rankings in every linker are fused once.
        numbers: dict[tuple[int, ...], int] = {}
        representative_of = [numbers.setdefault(tuple(id(ranks[i]) for ranks in rankings), i) for i in range(len(surfaces))]
        representatives = sorted(set(numbers.values()))
        linked = [self._table(ranks, representatives) for ranks in rankings]
        cuis, sets = sorted_distinct([t["cui"] for t in linked]), sorted_distinct([t["entry"] for t in linked])
        ids, lists = candidate_lists(linked, cuis, sets)
        table = ranking_table(lists, fused_scores(lists, self.hybrid, self.weights), ids, cuis, sets)
        rows: dict[int, list[RankedConcept]] = {i: [] for i in representatives}
        for mention, cui, score, entry in zip(*(table[c].to_pylist() for c in ("mention_id", "cui", "score", "entry")), strict=True):
            rows[int(mention)].append(RankedConcept(cui, score, entry))
        fused = {i: tuple(row) for i, row in rows.items()}
        return [fused[i] for i in representative_of]

    def _table(self, ranks: Sequence[ConceptRanking], mentions: Sequence[int]) -> pa.Table:
        """The rankings of some mentions as rows of tables.LINKED."""
        rows = [(f"{i:09d}", rank, *candidate) for i in mentions for rank, candidate in enumerate(ranks[i], 1)]
        columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[]] * len(tables.LINKED.columns)
        return pa.table({c.name: pa.array(values, c.type) for c, values in zip(tables.LINKED.columns, columns, strict=True)})
