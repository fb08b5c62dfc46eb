"""Linking of predicted mentions: embeds, searches and ranks in one run, with the steps that link gold mentions.

In: documents with predicted mentions, a linker and its index. Out: ranked concepts (tables.LINKED).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.normalization.embed import embed_corpus
from mentionforge.normalization.linking import link, search_kb
from mentionforge.normalization.settings import Index
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec


def link_predicted(
    spec: Path,
    index: Path,
    corpus: Path,
    out: Path,
    model: Path | None = None,
    kb: Path | None = None,
    names: Path | None = None,
    xrefs: Path | None = None,
    synthetic: Path | None = None,
    chosen: Path | None = None,
) -> None:
    """Rank up to 100 concepts for every predicted mention of dev and test (tables.LINKED).

    Args:
        spec: Spec of the linker.
        index: Spec of the index.
        corpus: Folder with documents.parquet and mentions.parquet, whose dev and test mentions are predicted.
        out: Rankings to write; mentions without any candidate are left out.
        model: Stamp of the encoder's weights, for a linker that has one.
        kb: Embedded names; required if the index or the linker uses them.
        names: tables.NAMES; required if the index has `kb`.
        xrefs: tables.XREFS; required if the index has `kb` or prefers concepts by their codes.
        synthetic: Embedded synthetic mentions.
        chosen: tables.CHOSEN; required with `synthetic`.

    Raises:
        UserError: A source of the index is missing.
    """
    settings = read_spec(index, Index)
    searches = "kb" in settings.sources
    if searches and not (kb and names and xrefs):
        raise UserError("wrong index", str(index), "it searches names of a knowledge base", "give --kb, --names and --xrefs")
    with tempfile.TemporaryDirectory(prefix="mentionforge-linking-") as folder:
        work = Path(folder)
        embed_corpus(spec, model, corpus, work)
        kb_rankings = work / "found.parquet" if searches else None
        if kb_rankings and kb and names and xrefs:
            search_kb(spec, index, work / "entries.parquet", kb, names, xrefs, kb_rankings)
        codes = xrefs if settings.prefer_xrefs else None
        link(spec, index, work / "entries.parquet", work / "linked.parquet", work / "others.parquet", kb, kb_rankings, codes, synthetic, chosen)
        # Predicted mentions have no gold concept, so `link` writes all of them to the second table.
        ranked = tables.read(tables.LINKED, work / "others.parquet")
    inputs = {"spec": spec, "index": index, "corpus": corpus / "mentions.parquet", "model": model, "kb": kb, "names": names, "xrefs": xrefs}
    inputs |= {"synthetic": synthetic, "chosen": chosen}
    tables.write(tables.LINKED, out, ranked, stamp("normalization link-predicted", {role: path for role, path in inputs.items() if path}))
