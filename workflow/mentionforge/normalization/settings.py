"""Settings of an index: which entries a linker searches.

In: an entry of `indexes`. Out: its model. Imports pydantic only. Knows nothing of linkers.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.entries import Entry, IndexSource


class Index(Entry):
    """What a linker searches, besides the strategy's synthetic mentions; what follows `sources` concerns the names of the knowledge base."""

    part: ClassVar[str] = "normalization.search"

    sources: tuple[IndexSource, ...] = Field(min_length=1, description="train: mentions of the training split; kb: names of the knowledge base.")
    preferred_only: bool = Field(False, description="Only each concept's preferred name.")
    name_sources: tuple[str, ...] = Field((), description="Only names that one of these vocabularies gives; empty: all.")
    require_xrefs: tuple[str, ...] = Field(
        (), description="Only concepts with a code in one of these vocabularies, as a corpus' annotators had (MSH, OMIM); empty: all."
    )
    prefer_xrefs: tuple[str, ...] = Field((), description="Among equal scores, concepts with a code in these vocabularies first, in this order.")
    search: Literal["flat", "hnsw", "ivf"] = Field(
        "flat", description="flat: exact. hnsw, ivf: approximate, for vectors of the knowledge base; their recall against flat is measured and stored."
    )
