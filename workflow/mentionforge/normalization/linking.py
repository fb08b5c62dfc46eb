"""Linking: ranks concepts for every gold mention by its nearest entries in the index.

In: embedded mentions and names, spec of the linker and of the index. Out: ranked concepts (tables.FOUND, tables.LINKED).
Imports no torch and maps the vectors instead of reading them, because `link` runs hundreds of times per experiment.
`ties` orders concepts with equal scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import provenance, tables
from mentionforge.errors import UserError
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.linkers.contract import Retriever, SearchingLinker
from mentionforge.normalization.search import (
    IndexedEntries,
    Ranking,
    best_concepts,
    expand_runs,
    indexed_entries,
    joined_concepts,
    merge_rankings,
    query_tolerance,
    select_rows,
    sorted_distinct,
)
from mentionforge.normalization.settings import Index
from mentionforge.progress import say
from mentionforge.specs import read_spec

# The names of a knowledge base are searched once per linker and corpus (`search_kb`), whatever the generator, strategy or index. A cell
# (`link`) searches only its training mentions and chosen synthetic mentions, and merges the three rankings. Equal inputs are searched once.


VERSION = 1
"""Of the part normalization.link: raise it where earlier results would be wrong (mentionforge.versions)."""


def search_kb(spec: Path, index: Path, corpus: Path, kb: Path, names: Path, xrefs: Path, out: Path) -> None:
    """Rank the concepts of a knowledge base by their names, for every distinct mention of all splits of a corpus (tables.FOUND).

    Args:
        spec: Spec of the linker.
        index: Spec of an index, which says which names it admits and how they are searched.
        corpus: Embedded mentions of the corpus (entries.parquet, beside its vectors.npy).
        kb: Embedded names.
        names: tables.NAMES.
        xrefs: tables.XREFS.
        out: File to write.
    """
    linker: SearchingLinker = read_spec(spec, Linker)
    settings: Index = read_spec(index, Index)
    mentions, entries = tables.read(tables.EMBEDDED, corpus), tables.read(tables.EMBEDDED, kb)
    admitted = admitted_entries(entries, settings, tables.read(tables.NAMES, names), tables.read(tables.XREFS, xrefs))
    say(f"{len(admitted):,} of {len(entries):,} distinct names are in the index")
    cuis, sets = sorted_distinct([admitted["cuis"].combine_chunks().flatten()]), sorted_distinct([joined_concepts(admitted)])
    source = indexed_entries(admitted, inputs_of(linker, kb, entries), cuis, sets)
    queries = inputs_of(linker, corpus, mentions)
    method = settings.search if linker.embeds else "flat"
    retriever = retriever_of(linker, kb, method)
    ranking = best_concepts(queries, source, retriever) if len(queries) and len(source.row) else _empty_ranking()
    counts: dict[str, Any] = {"queries": len(queries), "names": len(admitted), "concepts": len(cuis), "rows": len(ranking.query)}
    if method != "flat" and len(ranking.query):
        counts["recall"] = search_recall(ranking, best_concepts(queries, source, retriever_of(linker, kb, "flat")))
        say(f"{method} against exact search: " + ", ".join(f"{name} {value:.4f}" for name, value in counts["recall"].items()))
    rows = pa.table(
        {
            "query": ranking.query,
            "cui": cuis.take(pa.array(ranking.concept)),
            "rank": ranking.rank,
            "score": ranking.score,
            "votes": ranking.votes,
            "entry": sets.take(pa.array(ranking.entry)),
        }
    )
    say(f"{len(queries):,} distinct mentions searched in {len(cuis):,} concepts")
    inputs = {"spec": spec, "index": index, "corpus": corpus, "kb": kb, "names": names, "xrefs": xrefs}
    tables.write(tables.FOUND, out, rows, provenance.stamp("normalization search-kb", inputs, counts=counts, search=method))


def search_recall(approximate: Ranking, exact: Ranking) -> dict[str, float]:
    """Recall of an approximate search: share of the first 1, 10 and 100 concepts of the exact search that it returns at any rank."""
    number = max(int(approximate.concept.max(initial=0)), int(exact.concept.max(initial=0))) + 1
    returned = np.unique(approximate.query * number + approximate.concept)
    shares = {}
    for k in (1, 10, 100):
        expected = select_rows(exact, exact.rank <= k)
        shares[f"recall@{k}"] = float(np.isin(expected.query * number + expected.concept, returned).mean())
    return shares


def admitted_entries(entries: pa.Table, index: Index, names: pa.Table, xrefs: pa.Table) -> pa.Table:
    """The entries that an index admits, each with only those of its concepts for which the index admits the name."""
    if not (index.preferred_only or index.name_sources or index.require_xrefs):
        return entries
    keep = pa.array(np.ones(len(names), bool))
    if index.preferred_only:
        keep = pc.and_(keep, names["preferred"])
    if index.name_sources:
        keep = pc.and_(keep, pc.is_in(names["source"], value_set=pa.array(index.name_sources)))
    if index.require_xrefs:
        coded = xrefs.filter(pc.is_in(xrefs["source"], value_set=pa.array(index.require_xrefs)))["cui"].unique()
        keep = pc.and_(keep, pc.is_in(names["cui"], value_set=coded))
    cuis: dict[str, set[str]] = {}
    admitted = names.filter(keep)
    for name, cui in zip(admitted["name"].to_pylist(), admitted["cui"].to_pylist(), strict=True):
        cuis.setdefault(name, set()).add(cui)
    lists = [sorted(cuis.get(text, ())) for text in entries["text"].to_pylist()]
    place = entries.schema.get_field_index("cuis")
    return entries.set_column(place, "cuis", pa.array(lists, tables.STRINGS)).filter(pa.array([bool(c) for c in lists]))


def link(
    spec: Path,
    index: Path,
    corpus: Path,
    out: Path,
    calibration: Path,
    kb: Path | None = None,
    kb_rankings: Path | None = None,
    xrefs: Path | None = None,
    synthetic: Path | None = None,
    chosen: Path | None = None,
) -> None:
    """Rank up to 100 concepts for every gold mention of the dev and test splits (tables.LINKED).

    Args:
        spec: Spec of the linker.
        index: Spec of the index: `train` searches the corpus' training mentions, `kb` the names.
        corpus: Embedded mentions of the corpus (entries.parquet, beside its vectors.npy).
        out: Rankings to write of the test mentions that have a concept.
        calibration: Rankings to write of the dev mentions and of the test mentions without a concept.
        kb: Embedded names, for the n-gram weights of a tfidf linker.
        kb_rankings: tables.FOUND that `search_kb` wrote; required if the index has `kb`.
        xrefs: tables.XREFS; required if the index prefers concepts by their codes.
        synthetic: Embedded synthetic mentions.
        chosen: tables.CHOSEN, the notes whose mentions join the index; required with `synthetic`.

    Raises:
        UserError: A source of the index is missing, or entries and vectors do not fit together.
    """
    linker: SearchingLinker = read_spec(spec, Linker)
    settings: Index = read_spec(index, Index)
    if ("kb" in settings.sources) != (kb_rankings is not None):
        raise UserError("wrong index", str(index), "found names are given if, and only if, the index has the source kb", "give --found, or leave it out")
    if bool(settings.prefer_xrefs) != (xrefs is not None):
        raise UserError("wrong index", str(index), "codes are given if, and only if, the index prefers some", "give --xrefs, or leave it out")
    if (synthetic is None) != (chosen is None):
        raise UserError("wrong index", str(index), "synthetic entries and chosen notes go together", "give both --synthetic and --chosen, or neither")

    mentions = tables.read(tables.EMBEDDED, corpus)
    mapped = pc.greater(pc.list_value_length(mentions["cuis"]), 0)
    to_link = mentions.filter(pc.is_in(mentions["split"], value_set=pa.array(["dev", "test"])))
    # Mentions with the same input are one query; its ranking is copied to each of them.
    rows, query_of = np.unique(to_link["vector"].to_numpy(), return_inverse=True)
    queries = _select_inputs(inputs_of(linker, corpus, mentions), rows)

    index_entries: dict[str, tuple[pa.Table, Any]] = {}
    if "train" in settings.sources:
        index_entries["train"] = (mentions.filter(pc.and_(pc.equal(mentions["split"], "train"), mapped)), inputs_of(linker, corpus, mentions))
    if synthetic and chosen:
        entries = tables.read(tables.EMBEDDED, synthetic)
        keep = pc.is_in(entries["note_id"], value_set=tables.read(tables.CHOSEN, chosen)["note_id"])
        index_entries["synthetic"] = (entries.filter(keep), inputs_of(linker, synthetic, entries))
    names = tables.read(tables.FOUND, kb_rankings) if kb_rankings else None
    say(
        "index: "
        + ", ".join([*(f"{len(entries):,} entries of {name}" for name, (entries, _) in index_entries.items()), *(["names of the kb"] if kb_rankings else [])])
    )

    joined = [names] if names is not None else []
    cuis = sorted_distinct([*(entries["cuis"].combine_chunks().flatten() for entries, _ in index_entries.values()), *(n["cui"] for n in joined)])
    sets = sorted_distinct([*(joined_concepts(entries) for entries, _ in index_entries.values()), *(n["entry"] for n in joined)])
    sources = {name: indexed_entries(entries, inputs, cuis, sets) for name, (entries, inputs) in index_entries.items()}
    ranking = _rank_sources(
        queries, rows, sources, names, cuis, sets, retriever_of(linker, kb), preference_of(settings, tables.read(tables.XREFS, xrefs) if xrefs else None, cuis)
    )

    is_test = pc.and_(pc.equal(to_link["split"], "test"), pc.greater(pc.list_value_length(to_link["cuis"]), 0)).to_numpy()
    predictions, others = (
        _mention_rows(ranking, query_of[wanted], to_link["entry_id"].combine_chunks().filter(pa.array(wanted)), cuis, sets) for wanted in (is_test, ~is_test)
    )
    scored = pc.count_distinct(predictions["mention_id"]).as_py()
    unique = len(predictions.filter(pc.equal(predictions["rank"], 1))) == scored
    searched = bool(names is not None and len(names)) or any(len(s.row) for s in sources.values())
    if not unique or scored > int(is_test.sum()) or (linker.embeds and searched and scored < int(is_test.sum())):
        raise AssertionError(f"{scored} mentions scored, {int(is_test.sum())} expected")
    say(f"{scored:,} of {int(is_test.sum()):,} test mentions scored, each once ({len(rows):,} distinct queries, {len(cuis):,} concepts in the index)")
    inputs_read = {"spec": spec, "index": index, "corpus": corpus, "kb": kb, "found": kb_rankings, "xrefs": xrefs, "synthetic": synthetic, "chosen": chosen}
    counts = {
        "queries": int(is_test.sum()),
        "scored": scored,
        "index_entries": {name: len(entries) for name, (entries, _) in index_entries.items()},
        "index_concepts": len(cuis),
    }
    stamp = provenance.stamp("normalization link", {role: path for role, path in inputs_read.items() if path}, counts=counts)
    tables.write(tables.LINKED, calibration, others, stamp)
    tables.write(tables.LINKED, out, predictions, stamp)


def retriever_of(linker: SearchingLinker, kb: Path | None, method: str = "flat") -> Retriever:
    """The retriever of a linker. `kb`, the embedded names, holds the weights of a linker that weighs names."""
    if not linker.weighs_names:
        return linker.retriever(method)
    if kb is None:
        raise UserError("missing names", "--kb", "the weights of n-grams are those of the knowledge base's names", "give --kb")
    return linker.retriever(method, vectors_of(kb)[0])


def inputs_of(linker: SearchingLinker, path: Path, entries: pa.Table) -> Any:
    """Inputs of the linker by row: the memory-mapped vectors beside an entries file, or the distinct strings of its entries."""
    if linker.embeds:
        vectors = vectors_of(path)
        if len(entries) and pc.max(entries["vector"]).as_py() >= len(vectors):
            raise UserError("wrong vectors", str(path), f"{len(vectors)} rows are fewer than its entries name", "delete the folder and rerun the workflow")
        return vectors
    texts = [""] * ((pc.max(entries["vector"]).as_py() + 1) if len(entries) else 0)
    for row, text in zip(entries["vector"].to_pylist(), entries["text"].to_pylist(), strict=True):
        texts[row] = text
    return texts


def vectors_of(entries_path: Path) -> np.ndarray:
    """The memory-mapped vectors beside an entries file."""
    path = entries_path.with_name("vectors.npy")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError("unreadable vectors", str(path), str(error), "delete the folder and rerun the workflow") from error


def _rank_sources(
    queries: Any,
    rows: np.ndarray,
    sources: dict[str, IndexedEntries],
    names: pa.Table | None,
    cuis: pa.Array,
    sets: pa.Array,
    retriever: Retriever,
    preference: np.ndarray | None,
) -> Ranking:
    """One ranking over training mentions, names and synthetic mentions; of equally good entries, the first in this order is kept."""
    rankings: dict[str, Ranking] = {name: best_concepts(queries, source, retriever) for name, source in sources.items() if len(rows) and len(source.row)}
    in_order = [rankings["train"]] if "train" in rankings else []
    if names is not None:
        query = np.searchsorted(rows, names["query"].to_numpy())
        kept = (query < len(rows)) & (rows[np.minimum(query, len(rows) - 1)] == names["query"].to_numpy()) if len(rows) else np.zeros(len(names), bool)
        concept = pc.index_in(names["cui"], value_set=cuis).to_numpy().astype(np.int64)
        entry = pc.index_in(names["entry"], value_set=sets).to_numpy().astype(np.int64)
        columns = (query, names["rank"].to_numpy(), concept, names["score"].to_numpy(), names["votes"].to_numpy(), entry)
        in_order.append(select_rows(Ranking(*columns), kept))
    return merge_rankings([*in_order, *([rankings["synthetic"]] if "synthetic" in rankings else [])], query_tolerance(queries, retriever), preference)


def preference_of(index: Index, xrefs: pa.Table | None, cuis: pa.Array) -> np.ndarray | None:
    """For each concept, the position of the first vocabulary of `prefer_xrefs` that has a code for it (tables.XREFS)."""
    if xrefs is None:
        return None
    places = np.full(len(cuis), len(index.prefer_xrefs), np.int64)
    for place, vocabulary in reversed(list(enumerate(index.prefer_xrefs))):
        coded = xrefs.filter(pc.equal(xrefs["source"], vocabulary))["cui"].unique()
        places[pc.is_in(cuis, value_set=coded).to_numpy(zero_copy_only=False)] = place
    return places


def _empty_ranking() -> Ranking:
    return merge_rankings([], np.empty(0))


def _select_inputs(inputs: Any, rows: np.ndarray) -> Any:
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[i] for i in rows]


def _mention_rows(ranking: Ranking, query_of: np.ndarray, mention_ids: pa.Array, cuis: pa.Array, sets: pa.Array) -> pa.Table:
    """One row per mention and rank: the ranking of each distinct query, copied to all mentions with that query."""
    highest = max(int(query_of.max(initial=-1)), int(ranking.query.max(initial=-1))) + 1
    lengths = np.bincount(ranking.query, minlength=highest)
    mention, row = expand_runs((np.cumsum(lengths) - lengths)[query_of], lengths[query_of])
    return pa.table(
        {
            "mention_id": mention_ids.take(pa.array(mention)),
            "rank": ranking.rank[row],
            "cui": cuis.take(pa.array(ranking.concept[row])),
            "score": ranking.score[row],
            "entry": sets.take(pa.array(ranking.entry[row])),
        }
    )
