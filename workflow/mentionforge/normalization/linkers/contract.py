"""The contract of a linker: facts about its settings, and its `Retriever`.

In: the settings of one linker. Out: properties that rules, bundles, costs and reports read instead of testing the kind.
Knows no kind; imports pydantic only, as the kinds do at module level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from pydantic import Field

from mentionforge.entries import Entry

if TYPE_CHECKING:
    import numpy as np

EXPAND = Field(False, description="Read a mention with its document's own abbreviations spelled out, as query and as training entry.")


class EncoderLoad(NamedTuple):
    """What an encoder reads.

    Attributes:
        inputs: Number of strings.
        tokens: Word pieces of each; None: those of a name.
        batches: Number of batches, or updates.
    """

    inputs: float
    tokens: int | None
    batches: float


class LinkerSettings(Entry):
    """Base of the settings of every linker.

    Attributes:
        part: Part of the code (`versions.VERSIONED_CODE`) whose version stands in the linker's spec file.
        searches: It finds candidates in an index by itself; other linkers read rankings.
        embeds: It compares vectors of an encoder.
        reads_text: It compares strings: its index holds the text of the entries.
        weighs_names: It needs weights that are computed from the names of the knowledge base.
        trains: Its weights are trained here, on a corpus, by a rule of its own.
        joins_rankings: It joins the rankings of other linkers, and has no weights of a model.
        reranks: It orders the candidates of another linker anew, with weights that are trained here.
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
    joins_rankings: ClassVar[bool] = False
    reranks: ClassVar[bool] = False
    imported: ClassVar[bool] = False

    @property
    def reads_context(self) -> bool:
        """Whether it reads a mention in the text around it."""
        return False

    @property
    def trains_encoder(self) -> bool:
        """Whether the encoder with which it searches is trained here."""
        return self.trains and self.searches

    def training_load(self, mentions: float) -> EncoderLoad:
        """What its training reads, if it trains, from the number of the corpus' training mentions; for estimates of costs."""
        raise NotImplementedError

    def reranking_load(self, mentions: float) -> EncoderLoad:
        """What its model reads to rank so many mentions anew, if it `reranks`; for estimates of costs."""
        raise NotImplementedError

    def settings_of_names(self) -> dict[str, Any]:
        """Settings on which embeddings of names and notes depend, so not the expansion of abbreviations. Linkers that agree in them share embeddings."""
        return self.model_dump(exclude={"expand_abbreviations"})

    @property
    def weights(self) -> str | None:
        """Entry of `models` that it uses, or that its training starts from."""
        return getattr(self, "model", None)

    @property
    def index_of_negatives(self) -> str | None:
        """Index whose names provide the hard negatives of its training."""
        return None

    def input_linkers(self) -> tuple[str, ...]:
        """Names of the linkers whose rankings it reads."""
        return ()

    def may_read(self, other: LinkerSettings) -> bool:
        """Whether it can read the rankings of another linker."""
        return other.searches

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Entries of the configuration that its settings name: key of the setting, section, name of the entry."""
        if self.weights is not None:
            yield "model", "models", self.weights


class SearchingLinker(LinkerSettings):
    """Base of the settings of linkers that search an index by themselves."""

    if TYPE_CHECKING:
        expand_abbreviations: bool

    searches: ClassVar[bool] = True

    def retriever(self, method: str = "flat", weights: np.ndarray | None = None) -> Retriever:
        """Its retriever.

        Args:
            method: For a linker that embeds: exact search (flat) or approximate search (hnsw, ivf).
            weights: For a linker that weighs names: the result of `name_weights`.
        """
        raise NotImplementedError

    def encoder(self, model: Path) -> Any:
        """Its `encoders.Encoder`, if the linker embeds; `model` is the stamp of the weights."""
        raise NotImplementedError

    def name_weights(self, names: Sequence[str]) -> np.ndarray:
        """Weights computed from the names of the knowledge base, float32 [weights], if the linker weighs names."""
        raise NotImplementedError


class Retriever(Protocol):
    """Retrieves the nearest entries of queries, in two steps: fast, approximate values first, exact scores of the promising pairs second.

    `neighbours` returns values and rows of the best entries, best first. A value may differ from the score by `error` and may depend on the other
    queries of the batch; `scores` depends on the query and the entry alone. `search` combines the two.
    """

    def prepare(self, inputs: Any) -> Any:
        """Convert queries to the form in which they are compared."""

    def arrange(self, inputs: Any) -> Any:
        """Convert entries to the form in which they are searched; the result serves any number of searches."""

    def tolerance(self, queries: Any) -> np.ndarray:
        """Largest difference at which two scores count as equal, float64 [queries]; depends on the query alone."""

    def error(self, queries: Any, entries: Any) -> np.ndarray:
        """Largest difference between a value of `neighbours` and its score, float64 [queries]."""

    def neighbours(self, queries: Any, entries: Any, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and rows of the best entries of each query, best first, both [queries, fetch].

        Entries that are not returned have values at most the last one; -inf fills up where there are fewer than `fetch`.
        """

    def scores(self, queries: Any, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Scores of pairs of a query and an entry row, float64 [pairs]; `value` is what `neighbours` returned for the pair."""


class ExactScores:
    """Base of retrievers whose `neighbours` gives scores as they are; a query's score depends on the query and the entry alone.

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

        from mentionforge.ties import EQUAL

        return np.full(len(queries), EQUAL)

    def error(self, queries: np.ndarray, entries: Any) -> np.ndarray:
        """None."""
        import numpy as np

        return np.zeros(len(queries))

    def scores(self, queries: np.ndarray, entries: Any, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The values."""
        import numpy as np

        return value.astype(np.float64)
