"""Linker `tfidf`: cosine of weighted character n-grams.

In: strings of mentions and entries, and the inverse document frequency of n-grams among the knowledge base's names. Out: entries
that share n-grams with a mention, and their scores. Knows nothing of concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mentionforge.normalization.linkers.contract import EXPAND, SearchingLinker
from mentionforge.text import plain

if TYPE_CHECKING:
    import numpy as np

VERSION = 3
"""Of the part normalization.tfidf: raise it where earlier results would be wrong (mentionforge.versions)."""

FEATURES = 2**20
"""Number of hash buckets of n-grams."""


class TfidfLinker(SearchingLinker):
    """Character n-grams of words, weighted by their rarity among the knowledge base's names; cosine."""

    part: ClassVar[str] = "normalization.tfidf"
    reads_text: ClassVar[bool] = True
    weighs_names: ClassVar[bool] = True

    kind: Literal["tfidf"]
    shortest: int = Field(3, ge=1, description="Shortest n-gram.")
    longest: int = Field(5, ge=1, description="Longest n-gram.")
    expand_abbreviations: bool = EXPAND

    @model_validator(mode="after")
    def _range(self) -> TfidfLinker:
        if self.longest < self.shortest:
            raise ValueError("longest is less than shortest")
        return self

    def retriever(self, method: str = "flat", weights: np.ndarray | None = None) -> NgramRetriever:
        """A retriever by weighted n-grams; `weights` come from `name_weights`."""
        assert weights is not None
        return NgramRetriever(self.shortest, self.longest, weights)

    def name_weights(self, names: Sequence[str]) -> np.ndarray:
        """Inverse document frequency of each hashed n-gram among the names."""
        return NgramRetriever.weights(names, self.shortest, self.longest)


class NgramRetriever:
    """Retriever by the cosine of weighted character n-grams.

    Args:
        shortest: Length of the shortest n-gram.
        longest: Length of the longest n-gram.
        idf: Inverse document frequency of each hash bucket, float32 [FEATURES].
    """

    BLOCK = 256

    def __init__(self, shortest: int, longest: int, idf: np.ndarray) -> None:
        self.shortest, self.longest, self.idf = shortest, longest, idf

    @staticmethod
    def counts(texts: Sequence[str], shortest: int, longest: int) -> Any:
        """Counts of hashed n-grams in each text (in the form of `text.view`), sparse [texts, FEATURES]; words are padded with a space."""
        import numpy as np
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            analyzer="char_wb", ngram_range=(shortest, longest), n_features=FEATURES, alternate_sign=False, norm=None, dtype=np.float32, lowercase=True
        )
        return hashing.transform([plain(text) for text in texts])

    @classmethod
    def weights(cls, texts: Sequence[str], shortest: int, longest: int) -> np.ndarray:
        """Smoothed inverse document frequency of each hashed n-gram among texts, float32 [FEATURES]."""
        import numpy as np

        counts = cls.counts(texts, shortest, longest)
        frequency = np.bincount(counts.indices, minlength=FEATURES)
        return (np.log((1 + counts.shape[0]) / (1 + frequency)) + 1).astype(np.float32)

    def prepare(self, inputs: Sequence[str]) -> Any:
        """Sparse rows of length 1, proportional to (1 + ln count) x idf."""
        import numpy as np
        from sklearn.preprocessing import normalize

        rows = self.counts(inputs, self.shortest, self.longest)
        rows.data = (1 + np.log(rows.data)) * self.idf[rows.indices]
        return normalize(rows)

    def arrange(self, inputs: Sequence[str]) -> Any:
        """The transposed entries, sparse [FEATURES, entries]."""
        return self.prepare(inputs).T.tocsr()

    def tolerance(self, queries: Any) -> np.ndarray:
        """The tolerance of vectors of length 1."""
        import numpy as np

        from mentionforge.ties import EQUAL

        return np.full(queries.shape[0], EQUAL)

    def error(self, queries: Any, entries: Any) -> np.ndarray:
        """Zero: a sparse product sums each row separately, so other queries change nothing."""
        import numpy as np

        return np.zeros(queries.shape[0])

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The values themselves."""
        import numpy as np

        return value.astype(np.float64)

    def neighbours(self, queries: Any, entries: Any, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """The entries with the highest cosine; entries without a common n-gram are left out."""
        import numpy as np

        values, rows = np.empty((queries.shape[0], fetch), np.float32), np.empty((queries.shape[0], fetch), np.int64)
        for start in range(0, queries.shape[0], self.BLOCK):
            dense = (queries[start : start + self.BLOCK] @ entries).toarray()
            best = np.argpartition(-dense, fetch - 1, axis=1)[:, :fetch]
            near = np.take_along_axis(dense, best, axis=1)
            order = np.argsort(-near, axis=1, kind="stable")
            values[start : start + self.BLOCK] = np.take_along_axis(near, order, axis=1)
            rows[start : start + self.BLOCK] = np.take_along_axis(best, order, axis=1)
        return np.where(values > 0, values, -np.inf), rows
