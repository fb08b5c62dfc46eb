"""Linking: ranks concepts for every gold mention by its nearest entries in the index.

In: embedded mentions and names, spec of the linker and of the indexes. Out: ranked concepts (tables.RETRIEVED, tables.LINKED), ordered by `ties` where scores are
equal. Knows nothing of how vectors are made: it imports no torch and maps them instead of reading them, because `link` runs hundreds of times per experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """Rank the concepts of a knowledge base by their names, for every distinct mention of all splits of a corpus (tables.RETRIEVED).

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
    tables.write(tables.RETRIEVED, out, rows, provenance.stamp("normalization search-kb", inputs, counts=counts, search=method))


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


@dataclass(frozen=True)
class IndexFiles:
    """One index to link, and the files of its cell.

    Attributes:
        index: Spec of the index: `train` searches the corpus' training mentions, `kb` the names.
        out: Rankings to write of the test mentions that have a concept.
        calibration: Rankings to write of the dev mentions and of the test mentions without a concept.
        kb_rankings: tables.RETRIEVED that `search_kb` wrote; required if the index has `kb`.
    """

    index: Path
    out: Path
    calibration: Path
    kb_rankings: Path | None = None


def cells_of(indexes: Sequence[Path], kb_rankings: Sequence[Path], outs: Sequence[Path], calibrations: Sequence[Path]) -> list[IndexFiles]:
    """Cells from the options of a command: `kb_rankings` has a file for each index that searches names, in the order of the indexes.

    Raises:
        UserError: The numbers of files do not fit.
    """
    if not len(indexes) == len(outs) == len(calibrations):
        counts = f"{len(indexes)} indexes, {len(outs)} files of predictions and {len(calibrations)} of calibration"
        raise UserError("wrong cells", counts, "each index has one of both", "give --index, --out and --calibration equally often")
    searching = ["kb" in read_spec(index, Index).sources for index in indexes]
    if sum(searching) != len(kb_rankings):
        reason = f"{sum(searching)} indexes have the source kb, {len(kb_rankings)} files of found names are given"
        raise UserError("wrong index", ", ".join(map(str, indexes)), reason, "give --found once for each index that has it")
    rankings = iter(kb_rankings)
    return [IndexFiles(i, o, c, next(rankings) if kb else None) for i, o, c, kb in zip(indexes, outs, calibrations, searching, strict=True)]


def link(
    spec: Path,
    corpus: Path,
    cells: Sequence[IndexFiles],
    kb: Path | None = None,
    xrefs: Path | None = None,
    synthetic: Path | None = None,
    chosen: Path | None = None,
) -> None:
    """Rank up to 100 concepts for every gold mention of the dev and test splits (tables.LINKED), on each of several indexes.

    Args:
        spec: Spec of the linker.
        corpus: Embedded mentions of the corpus (entries.parquet, beside its vectors.npy).
        cells: The indexes, with their files. What they share is read and searched once; each cell is the same as if it were linked alone.
        kb: Embedded names, for the n-gram weights of a tfidf linker.
        xrefs: tables.XREFS; required if an index prefers concepts by their codes.
        synthetic: Embedded synthetic mentions.
        chosen: tables.CHOSEN, the notes whose mentions join the index; required with `synthetic`.

    Raises:
        UserError: A source of an index is missing, or entries and vectors do not fit together.
    """
    linker: SearchingLinker = read_spec(spec, Linker)
    indexes: list[Index] = [read_spec(cell.index, Index) for cell in cells]
    for cell, index in zip(cells, indexes, strict=True):
        if ("kb" in index.sources) != (cell.kb_rankings is not None):
            reason = "found names are given if, and only if, the index has the source kb"
            raise UserError("wrong index", str(cell.index), reason, "give --found, or leave it out")
    if any(index.prefer_xrefs for index in indexes) != (xrefs is not None):
        reason = "codes are given if, and only if, an index prefers some"
        raise UserError("wrong index", ", ".join(str(cell.index) for cell in cells), reason, "give --xrefs, or leave it out")
    if (synthetic is None) != (chosen is None):
        raise UserError("wrong index", str(cells[0].index), "synthetic entries and chosen notes go together", "give both --synthetic and --chosen, or neither")

    mentions = tables.read(tables.EMBEDDED, corpus)
    mapped = pc.greater(pc.list_value_length(mentions["cuis"]), 0)
    to_link = mentions.filter(pc.is_in(mentions["split"], value_set=pa.array(["dev", "test"])))
    # Mentions with the same input are one query; its ranking is copied to each of them.
    rows, query_of = np.unique(to_link["vector"].to_numpy(), return_inverse=True)
    inputs = inputs_of(linker, corpus, mentions)
    queries = _select_inputs(inputs, rows)
    retriever = retriever_of(linker, kb)

    entries: dict[str, pa.Table] = {}
    entry_inputs: dict[str, Any] = {}
    if any("train" in index.sources for index in indexes):
        entries["train"], entry_inputs["train"] = mentions.filter(pc.and_(pc.equal(mentions["split"], "train"), mapped)), inputs
    if synthetic and chosen:
        everything = tables.read(tables.EMBEDDED, synthetic)
        entry_inputs["synthetic"] = inputs_of(linker, synthetic, everything)
        entries["synthetic"] = everything.filter(pc.is_in(everything["note_id"], value_set=tables.read(tables.CHOSEN, chosen)["note_id"]))
    names_by_path = {path: tables.read(tables.RETRIEVED, path) for path in dict.fromkeys(cell.kb_rankings for cell in cells) if path}

    # Concepts and entries have numbers that hold for all indexes; they are sorted, so that equal scores have the same order in each of them.
    cuis = sorted_distinct([*(table["cuis"].combine_chunks().flatten() for table in entries.values()), *(names["cui"] for names in names_by_path.values())])
    sets = sorted_distinct([*(joined_concepts(table) for table in entries.values()), *(names["entry"] for names in names_by_path.values())])
    sources = {name: indexed_entries(table, entry_inputs[name], cuis, sets) for name, table in entries.items()}
    rankings = {name: best_concepts(queries, source, retriever) for name, source in sources.items() if len(rows) and len(source.row)}
    rankings_of_names = {path: _ranking_of_names(names, rows, cuis, sets) for path, names in names_by_path.items()}
    tolerance = query_tolerance(queries, retriever)
    codes = tables.read(tables.XREFS, xrefs) if xrefs else None

    is_test = pc.and_(pc.equal(to_link["split"], "test"), pc.greater(pc.list_value_length(to_link["cuis"]), 0)).to_numpy()
    for cell, index in zip(cells, indexes, strict=True):
        read = [name for name in entries if name == "synthetic" or name in index.sources]
        # Of equally good entries, the first in this order is kept: training mentions, names, synthetic mentions.
        in_order = [rankings["train"]] if "train" in read and "train" in rankings else []
        in_order += [rankings_of_names[cell.kb_rankings]] if cell.kb_rankings else []
        in_order += [rankings["synthetic"]] if "synthetic" in rankings else []
        ranking = merge_rankings(in_order, tolerance, preference_of(index, codes, cuis) if index.prefer_xrefs else None)
        predictions, others = (
            _mention_rows(ranking, query_of[wanted], to_link["entry_id"].combine_chunks().filter(pa.array(wanted)), cuis, sets)
            for wanted in (is_test, ~is_test)
        )
        names = names_by_path[cell.kb_rankings] if cell.kb_rankings else None
        concepts = len(sorted_distinct([*(entries[name]["cuis"].combine_chunks().flatten() for name in read), *([names["cui"]] if names else [])]))
        sizes = {name: len(entries[name]) for name in read}
        searched = bool(names) or any(len(sources[name].row) for name in read)
        scored = pc.count_distinct(predictions["mention_id"]).as_py()
        unique = len(predictions.filter(pc.equal(predictions["rank"], 1))) == scored
        if not unique or scored > int(is_test.sum()) or (linker.embeds and searched and scored < int(is_test.sum())):
            raise AssertionError(f"{scored} mentions scored, {int(is_test.sum())} expected")
        contents = [*(f"{number:,} entries of {name}" for name, number in sizes.items()), *(["names of the kb"] if cell.kb_rankings else [])]
        say(f"{cell.index.stem}: {', '.join(contents)}; {concepts:,} concepts")
        say(f"{scored:,} of {int(is_test.sum()):,} test mentions scored, each once ({len(rows):,} distinct queries)")
        inputs_read = {
            "spec": spec, "index": cell.index, "corpus": corpus, "kb": kb, "found": cell.kb_rankings, "xrefs": xrefs if index.prefer_xrefs else None,
            "synthetic": synthetic, "chosen": chosen,
        }  # fmt: skip
        counts = {"queries": int(is_test.sum()), "scored": scored, "index_entries": sizes, "index_concepts": concepts}
        stamp = provenance.stamp("normalization link", {role: path for role, path in inputs_read.items() if path}, counts=counts)
        tables.write(tables.LINKED, cell.calibration, others, stamp)
        tables.write(tables.LINKED, cell.out, predictions, stamp)


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


def _ranking_of_names(names: pa.Table, rows: np.ndarray, cuis: pa.Array, sets: pa.Array) -> Ranking:
    """Ranking of `search_kb` for the queries with these rows; each query gets its place among them as its number."""
    query = np.searchsorted(rows, names["query"].to_numpy())
    kept = (query < len(rows)) & (rows[np.minimum(query, len(rows) - 1)] == names["query"].to_numpy()) if len(rows) else np.zeros(len(names), bool)
    concept = pc.index_in(names["cui"], value_set=cuis).to_numpy().astype(np.int64)
    entry = pc.index_in(names["entry"], value_set=sets).to_numpy().astype(np.int64)
    return select_rows(Ranking(query, names["rank"].to_numpy(), concept, names["score"].to_numpy(), names["votes"].to_numpy(), entry), kept)


def preference_of(index: Index, xrefs: pa.Table | None, cuis: pa.Array) -> np.ndarray | None:
    """For each concept, the position of the first vocabulary of `prefer_xrefs` that has a code for it (tables.XREFS); None without any table."""
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
