"""The contract of a linker: what its settings answer, and how it compares a mention with entries.

In: the settings of one linker. Out: facts that rules, bundles, costs and reports ask for instead of testing its kind, and its
`Comparison`. Knows no kind; imports pydantic alone, as the kinds do outside of their functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from mentionforge.entries import Entry

if TYPE_CHECKING:
    import numpy as np

EXPAND = Field(False, description="Read a mention with its document's own abbreviations spelled out, as query and as training entry.")


class LinkerSettings(Entry):
    """Base of the settings of every linker.

    Attributes:
        part: Part of the code (`versions.PARTS`) whose version stands in the linker's spec file.
        searches: It finds candidates in an index by itself; other linkers read rankings.
        embeds: It compares vectors of an encoder.
        reads_text: It compares strings: its index holds the text of the entries.
        weighs_names: It needs weights that are computed from the names of the knowledge base.
        trains: Its weights are trained here, on a corpus, by a rule of its own.
        fuses: It joins the rankings of other linkers, and has no weights of a model.
        imported: Its rankings are files that another system made.
    """

    if TYPE_CHECKING:
        kind: str

    part: ClassVar[str]
    searches: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    reads_text: ClassVar[bool] = False
    weighs_names: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    fuses: ClassVar[bool] = False
    imported: ClassVar[bool] = False

    @property
    def reads_context(self) -> bool:
        """Whether it reads a mention in the text around it."""
        return False

    @property
    def weights(self) -> str | None:
        """The entry of `models` that it uses or starts from."""
        return getattr(self, "model", None)

    @property
    def index_of_negatives(self) -> str | None:
        """The index whose names give the wrong candidates that it is trained with."""
        return None

    def parts(self) -> tuple[str, ...]:
        """Names of the linkers whose rankings it reads."""
        return ()

    def may_read(self, other: LinkerSettings) -> bool:
        """Whether it can read the rankings of another linker."""
        return other.searches

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Entries of the configuration that it names: key of the setting, section and name."""
        if self.weights is not None:
            yield "model", "models", self.weights


class SearchingLinker(LinkerSettings):
    """Base of the settings of linkers that search an index by themselves."""

    if TYPE_CHECKING:
        expand_abbreviations: bool

    searches: ClassVar[bool] = True

    def comparison(self, method: str = "flat", weights: np.ndarray | None = None) -> Comparison:
        """How it compares a mention with entries.

        Args:
            method: Of a linker that embeds: exact search (flat), or an approximate one (hnsw, ivf).
            weights: Of a linker that weighs names: what `name_weights` gave.
        """
        raise NotImplementedError

    def encoder(self, model: Path) -> Any:
        """Its `encoders.Encoder`, if it embeds; `model` is the stamp of the weights."""
        raise NotImplementedError

    def name_weights(self, names: Sequence[str]) -> np.ndarray:
        """Weights from the names of the knowledge base, float32 [weights], if it weighs names."""
        raise NotImplementedError


class Comparison(Protocol):
    """How a linker compares; `neighbours` gives values and rows of the best entries, best first, both [queries, fetch].

    Where there are fewer, the value is -inf. Entries that are not given have values no higher than the last. A value may be off
    by `error`; `scores` gives it as it is, the same in every company.
    """

    def prepare(self, inputs: Any) -> Any:
        """Queries in the form in which they are compared."""

    def arrange(self, inputs: Any) -> Any:
        """Entries in the form in which they are searched, as often as wanted."""

    def tolerance(self, queries: Any) -> np.ndarray:
        """Up to which difference scores count as equal, float64 [queries]: of each query alone."""

    def error(self, queries: Any, entries: Any) -> np.ndarray:
        """How far the values of `neighbours` may be from `scores`, float64 [queries]."""

    def neighbours(self, queries: Any, entries: Any, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Best entries of each query."""

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Scores of pairs of a query and an entry, float64 [pairs], from what `neighbours` gave for them."""


class ExactScores:
    """Base of comparisons whose `neighbours` gives scores as they are; a query's score depends on the query and the entry alone.

    `prepare` makes one array of queries, or of entries.
    """

    def prepare(self, inputs: Any) -> np.ndarray:
        """Queries or entries in the form in which they are compared, by row."""
        raise NotImplementedError

    def arrange(self, inputs: Any) -> Any:
        """As `prepare`."""
        return self.prepare(inputs)

    def tolerance(self, queries: np.ndarray) -> np.ndarray:
        """A millionth."""
        import numpy as np

        from mentionforge.normalization.ties import EQUAL

        return np.full(len(queries), EQUAL)

    def error(self, queries: np.ndarray, entries: Any) -> np.ndarray:
        """None."""
        import numpy as np

        return np.zeros(len(queries))

    def scores(self, queries: np.ndarray, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The values."""
        import numpy as np

        return value.astype(np.float64)
