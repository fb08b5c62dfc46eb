"""Linking of predicted mentions: embeds, searches and ranks in one run, with the steps that link gold mentions.

In: documents with predicted mentions, a linker and its indexes. Out: ranked concepts (tables.LINKED). Knows nothing of recognizers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.normalization.embed import embed_corpus
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.linkers.contract import SearchingLinker
from mentionforge.normalization.linking import IndexFiles, link, search_kb
from mentionforge.normalization.settings import Index
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec


def link_predicted(
    spec: Path,
    indexes: Sequence[Path],
    corpus: Path,
    outs: Sequence[Path],
    model: Path | None = None,
    kb: Path | None = None,
    names: Path | None = None,
    xrefs: Path | None = None,
    synthetic: Path | None = None,
    chosen: Path | None = None,
) -> None:
    """Rank up to 100 concepts for every predicted mention of dev and test (tables.LINKED), on each of several indexes; mentions are embedded once.

    Args:
        spec: Spec of the linker.
        indexes: Specs of the indexes.
        corpus: Folder with documents.parquet and mentions.parquet, whose dev and test mentions are predicted.
        outs: Rankings to write, one file for each index; mentions without any candidate are left out.
        model: Stamp of the encoder's weights, for a linker that has one.
        kb: Embedded names; required if an index or the linker uses them.
        names: tables.NAMES; required if an index has `kb`.
        xrefs: tables.XREFS; required if an index has `kb` or prefers concepts by their codes.
        synthetic: Embedded synthetic mentions.
        chosen: tables.CHOSEN; required with `synthetic`.

    Raises:
        UserError: A source of an index is missing.
    """
    linker: SearchingLinker = read_spec(spec, Linker)
    settings: list[Index] = [read_spec(index, Index) for index in indexes]
    for index, of_index in zip(indexes, settings, strict=True):
        if "kb" in of_index.sources and not (kb and names and xrefs):
            raise UserError("wrong index", str(index), "it searches names of a knowledge base", "give --kb, --names and --xrefs")
    with tempfile.TemporaryDirectory(prefix="mentionforge-linking-") as folder:
        work = Path(folder)
        entries = work / "entries.parquet"
        embed_corpus(spec, model, corpus, work)
        cells: list[IndexFiles] = []
        for place, (index, of_index) in enumerate(zip(indexes, settings, strict=True)):
            kb_rankings = work / f"found.{place}.parquet" if "kb" in of_index.sources else None
            if kb_rankings and kb and names and xrefs:
                search_kb(spec, index, entries, kb, names, xrefs, kb_rankings)
            cells.append(IndexFiles(index, work / f"linked.{place}.parquet", work / f"others.{place}.parquet", kb_rankings))
        codes = xrefs if any(of_index.prefer_xrefs for of_index in settings) else None
        link(spec, entries, cells, kb, codes, synthetic, chosen)
        # Predicted mentions have no gold concept, so `link` writes all of them to the second table.
        for index, of_index, cell, out in zip(indexes, settings, cells, outs, strict=True):
            inputs = {"spec": spec, "index": index, "corpus": corpus / "mentions.parquet", "model": model, "synthetic": synthetic, "chosen": chosen}
            searches = "kb" in of_index.sources
            inputs |= {"kb": kb if searches or linker.weighs_names else None, "names": names if searches else None}
            inputs |= {"xrefs": xrefs if searches or of_index.prefer_xrefs else None}
            inputs_read = {role: path for role, path in inputs.items() if path}
            tables.write(tables.LINKED, out, tables.read(tables.LINKED, cell.calibration), stamp("normalization link-predicted", inputs_read))
