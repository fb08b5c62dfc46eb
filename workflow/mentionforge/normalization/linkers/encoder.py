"""Linkers `mention` and `context`: nearest neighbours among an encoder's vectors.

In: vectors of mentions and entries, float32. Out: the nearest entries of each mention, and scores of pairs. Knows nothing of
concepts. Neighbours come from a matrix product, whose last digits vary with the batch; scores do not (see `search`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mentionforge.entries import MARKERS, Markers
from mentionforge.normalization.linkers.contract import EXPAND, SearchingLinker

if TYPE_CHECKING:
    import numpy as np

    from mentionforge.encoders import Encoder

PAIRS = 16_384
"""Pairs of a query and an entry that are scored at a time: 50 MB at 384 dimensions."""


class EncoderLinker(SearchingLinker):
    """A retrieval linker: `mention` embeds the bare mention (SapBERT's way), `context` the marked mention in a window (KrissBERT's way)."""

    part: ClassVar[str] = "normalization.embed"
    embeds: ClassVar[bool] = True

    kind: Literal["mention", "context"]
    model: str = Field(description="Model entry with the encoder.")
    pooling: Literal["cls", "mean"] = Field("cls", description="How token vectors become one vector.")
    metric: Literal["cosine", "l2", "ip"] = Field("cosine", description="Similarity of two vectors.")
    max_tokens: int = Field(25, ge=8, description="Longest input, in word pieces (context: the window).")
    batch_size: int = Field(128, ge=1, description="Strings per forward pass.")
    dtype: Literal["auto", "bfloat16", "float32"] = Field("float32", description="Type of the computation.")
    markers: Markers | None = MARKERS
    expand_abbreviations: bool = EXPAND

    @model_validator(mode="after")
    def _expansion_has_no_place_in_text(self) -> EncoderLinker:
        if self.kind == "context" and self.expand_abbreviations:
            raise ValueError("a context linker reads the text as it is; expand_abbreviations is for linkers that read the mention alone")
        if self.kind == "mention" and self.markers:
            raise ValueError("markers stand around a mention in its context; a mention linker reads the mention alone")
        return self

    @property
    def reads_context(self) -> bool:
        """Whether it reads a mention in the text around it: only a `context` linker does."""
        return self.kind == "context"

    def retriever(self, method: str = "flat", weights: np.ndarray | None = None) -> VectorRetriever:
        """A retriever of vectors, with the metric of the settings."""
        return VectorRetriever(self.metric, method)

    def encoder(self, model: Path) -> Encoder:
        """The encoder, with pooling, length and type of the settings."""
        from mentionforge.encoders import Encoder

        return Encoder(model, self.pooling, self.max_tokens, self.batch_size, self.dtype, unit=self.metric == "cosine", markers=self.markers)


class VectorRetriever:
    """Retriever of nearest vectors by faiss: exact, or approximate with a graph (hnsw) or inverted lists (ivf)."""

    def __init__(self, metric: str, method: str = "flat") -> None:
        self.metric, self.method = metric, method
        self._built: tuple[np.ndarray, Any] | None = None
        self._longest: tuple[np.ndarray, float] | None = None

    def prepare(self, inputs: np.ndarray) -> np.ndarray:
        """Queries, unchanged."""
        return inputs

    def arrange(self, inputs: np.ndarray) -> np.ndarray:
        """Entries, unchanged."""
        return inputs

    def tolerance(self, queries: np.ndarray) -> np.ndarray:
        """1e-6 times the squared length of the query; twice that for l2, because a squared distance of unit vectors is 2 - 2 cosine."""
        import numpy as np

        from mentionforge.ties import EQUAL

        if self.metric == "cosine":
            return np.full(len(queries), EQUAL)
        return (2 if self.metric == "l2" else 1) * EQUAL * np.square(queries, dtype=np.float64).sum(1)

    def error(self, queries: np.ndarray, entries: np.ndarray) -> np.ndarray:
        """Rounding bound of a float32 sum of `dimensions` products, for the longest entry."""
        import numpy as np

        if self._longest is None or self._longest[0] is not entries:
            self._longest = entries, max(float(np.einsum("ij,ij->i", block, block).max()) for block in _blocks(entries)) ** 0.5
        lengths, longest = np.sqrt(np.square(queries, dtype=np.float64).sum(1)), self._longest[1]
        unit = (entries.shape[1] + 4) * 2.0**-24
        return unit * ((lengths + longest) ** 2 if self.metric == "l2" else lengths * longest)

    def neighbours(self, queries: np.ndarray, entries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner product (cosine, ip) or squared Euclidean distance, negated (l2)."""
        import faiss
        import numpy as np

        distance = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        if self.method == "flat":
            values, rows = faiss.knn(queries, entries, fetch, metric=distance)
        else:
            values, rows = self._index(entries, fetch, distance).search(np.ascontiguousarray(queries), fetch)
        values = np.where(rows >= 0, -values if self.metric == "l2" else values, -np.inf)
        return values, np.maximum(rows, 0)

    def scores(self, queries: np.ndarray, entries: np.ndarray, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Each pair on its own in float64, so that other pairs change no digit."""
        import numpy as np

        scores = np.empty(len(query))
        combine = np.subtract if self.metric == "l2" else np.multiply
        for start in range(0, len(query), PAIRS):
            block = slice(start, start + PAIRS)
            terms = combine(queries[query[block]], entries[row[block]], dtype=np.float64)  # [pairs, dimensions]
            scores[block] = -np.square(terms, out=terms).sum(1) if self.metric == "l2" else terms.sum(1)
        return scores

    def _index(self, entries: np.ndarray, fetch: int, distance: int) -> Any:
        """The approximate index of `entries`, built once, with a search width that suits `fetch` results."""
        import faiss
        import numpy as np

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


def _blocks(array: np.ndarray, size: int = 65_536) -> Iterator[np.ndarray]:
    """Blocks of rows of an array, so that a memory-mapped array is never in memory as a whole."""
    return (array[i : i + size] for i in range(0, len(array), size))
