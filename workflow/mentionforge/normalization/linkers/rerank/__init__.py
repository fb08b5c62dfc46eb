"""Linker `rerank`: a cross-encoder that reorders the first concepts of another linker.

In: an entry of `linkers`. Out: its model, and what rules, checks and costs ask of it. Knows nothing of weights: `reranking`, which imports heavy
libraries, trains and reranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from mentionforge.normalization.linkers.contract import EncoderLoad, LinkerSettings


class RerankLinker(LinkerSettings):
    """A cross-encoder over the first concepts of another linker: the mention in its context against a name and the definition of the candidate."""

    part: ClassVar[str] = "normalization.rerank"
    trains: ClassVar[bool] = True
    reranks: ClassVar[bool] = True

    kind: Literal["rerank"]
    linker: str = Field(examples=["mention"], description="Linker of the first stage; not a reranker.")
    index: str = Field("kb", description="Index whose names give the wrong candidates to train with, found by the first stage (by a hybrid's first linker).")
    model: str = Field(description="Model entry with the encoder to start from.")
    top: int = Field(10, ge=2, description="Concepts that are ranked anew; the others keep their places after them.")
    max_tokens: int = Field(96, ge=32, description="Longest input, in word pieces.")
    batch_size: int = Field(16, ge=1, description="Pairs per update.")
    negatives: int = Field(3, ge=1, description="Wrong candidates of the first stage per training mention.")
    max_mentions: int | None = Field(1500, ge=1, description="At most this many training mentions, sampled with the seed; none: all.")
    epochs: int = Field(1, ge=1, description="Passes over the pairs.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    seed: int = Field(13, description="Seed of head and order.")

    @property
    def index_of_negatives(self) -> str:
        """Index whose names provide the hard negatives."""
        return self.index

    def training_load(self, mentions: float) -> EncoderLoad:
        """Each training mention with its concept and with wrong candidates, in each epoch."""
        pairs = min(mentions, self.max_mentions or float("inf")) * (1 + self.negatives) * self.epochs
        return EncoderLoad(pairs, self.max_tokens, pairs / self.batch_size)

    def reranking_load(self, mentions: float) -> EncoderLoad:
        """Each mention with its first candidates."""
        pairs = mentions * self.top
        return EncoderLoad(pairs, self.max_tokens, pairs / self.batch_size)

    def input_linkers(self) -> tuple[str, ...]:
        """The first stage."""
        return (self.linker,)

    def may_read(self, other: LinkerSettings) -> bool:
        """A linker that searches or fuses."""
        return other.searches or other.joins_rankings

    def references(self) -> Iterator[tuple[str, str, str]]:
        """The weights, the first stage, and the index of the hard negatives."""
        yield from super().references()
        yield "linker", "linkers", self.linker
        yield "index", "indexes", self.index
