"""Linker `exact`: entries whose string equals the mention's after normalization.

In: strings of mentions and entries. Out: the equal entries and their scores; each further normalization step costs a tenth.
Knows nothing of concepts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mentionforge.normalization.linkers.contract import EXPAND, SearchingLinker
from mentionforge.text import normalize_surface

if TYPE_CHECKING:
    import numpy as np

VERSION = 3
"""Of the part normalization.exact: raise it where earlier results would be wrong (mentionforge.versions)."""


class ExactLinker(SearchingLinker):
    """A dictionary: equal strings after normalization; coarser normalizations score lower, and what none finds has no prediction."""

    part: ClassVar[str] = "normalization.exact"
    reads_text: ClassVar[bool] = True

    kind: Literal["exact"]
    steps: tuple[Literal["plural", "numerals", "order"], ...] = Field(
        ("plural", "numerals", "order"), description="Normalizations tried one after another, each on top of those before it; empty: case and punctuation only."
    )
    expand_abbreviations: bool = EXPAND

    def settings_of_names(self) -> dict[str, Any]:
        """Without the steps, which are applied when strings are compared."""
        return self.model_dump(exclude={"expand_abbreviations", "steps"})

    def retriever(self, method: str = "flat", weights: np.ndarray | None = None) -> StringRetriever:
        """A retriever of equal strings."""
        return StringRetriever(self.steps)


ROMAN_NUMERALS = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10"}


def normalize_string(text: str, steps: Sequence[str]) -> str:
    """Drop case and punctuation, then apply the steps: `plural` drops a final s of words, `numerals` converts Roman numerals, `order` sorts words."""
    words = normalize_surface(text).split()
    for step in steps:
        if step == "plural":
            words = [re.sub(r"(?<=[^\W\d_][^\W\d_s])s$", "", re.sub(r"ies$", "y", w) if len(w) > 4 else w) for w in words]
        elif step == "numerals":
            words = [ROMAN_NUMERALS.get(w, w) for w in words]
        else:
            words = sorted(words)
    return " ".join(words)


class StringRetriever:
    """Retriever of equal strings after normalization. A pair equal without case and punctuation scores 1; each further step that it needs costs 0.1."""

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = tuple(steps)

    def prepare(self, inputs: Sequence[str]) -> list[list[str]]:
        """The strings after no step, after the first step, after the first two, and so on."""
        return [[normalize_string(text, self.steps[:n]) for text in inputs] for n in range(len(self.steps) + 1)]

    def arrange(self, inputs: Sequence[str]) -> list[dict[str, list[int]]]:
        """After each step, the rows of each normalized string."""
        arranged = []
        for strings in self.prepare(inputs):
            rows: dict[str, list[int]] = {}
            for row, key in enumerate(strings):
                rows.setdefault(key, []).append(row)
            arranged.append(rows)
        return arranged

    def tolerance(self, queries: list[list[str]]) -> np.ndarray:
        """Any small tolerance will do, because scores are multiples of 0.1."""
        import numpy as np

        from mentionforge.ties import EQUAL

        return np.full(len(queries[0]), EQUAL)

    def error(self, queries: list[list[str]], entries: Any) -> np.ndarray:
        """Zero: values are exact."""
        import numpy as np

        return np.zeros(len(queries[0]))

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The values themselves."""
        import numpy as np

        return value.astype(np.float64)

    def neighbours(self, queries: list[list[str]], entries: list[dict[str, list[int]]], fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Entries that equal the query at some step; the score is that of the first such step."""
        import numpy as np

        number = len(queries[0])
        values, nearest = np.full((number, fetch), -np.inf), np.zeros((number, fetch), np.int64)
        filled: list[dict[int, float]] = [{} for _ in range(number)]
        for step, (keys, rows) in enumerate(zip(queries, entries, strict=True)):
            for query, key in enumerate(keys):
                for row in rows.get(key, ()):
                    filled[query].setdefault(row, 1 - step / 10)
        for query, hits in enumerate(filled):
            best = list(hits.items())[:fetch]  # by step, then row
            nearest[query, : len(best)] = [row for row, _ in best]
            values[query, : len(best)] = [value for _, value in best]
        return values, nearest
