"""Linker `self_aligned`: a mention linker whose encoder is trained here on the names of concepts.

In: an entry of `linkers`. Out: its model, and its retriever, as that of a `mention` linker. Knows nothing of training: `training`, which imports heavy
libraries, trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mentionforge.entries import Entry
from mentionforge.normalization.linkers.contract import EXPAND, EncoderLoad, SearchingLinker
from mentionforge.normalization.linkers.encoder import VectorRetriever

if TYPE_CHECKING:
    import numpy as np

    from mentionforge.encoders import Encoder


class Alignment(Entry):
    """Training of a mention encoder with SapBERT's objective: multi-similarity loss with online hard pairs."""

    steps: int = Field(400, ge=1, description="Updates at most.")
    pairs: int = Field(128, ge=2, description="Pairs of synonyms per update.")
    neighbours: int = Field(3, ge=0, description="Concepts near the chosen one that join the same update, for hard negatives.")
    miner: Literal["triplet", "multi_similarity"] = Field(
        "triplet",
        description="Which pairs of an update are hard. triplet: those of triplets that violate the margin by Euclidean distance, as in SapBERT's published code. "
        "multi_similarity: those that violate it by cosine against the hardest pair of the other sign.",
    )
    margin: float = Field(0.2, ge=0, description="Margin of the miner.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate; linear, after a warm-up of a tenth of the steps.")
    mentions: float = Field(0.0, ge=0, le=1, description="Share of the pairs that hold a mention of the corpus' training split and a name of its concept.")
    synthetic: str | None = Field(
        None, examples=["smollm2"], description="Generator whose located mentions of concepts that the training split lacks are further names."
    )
    xrefs: tuple[str, ...] = Field((), description="Only concepts with a code in one of these vocabularies; empty: all.")
    eval_steps: int = Field(50, ge=1, description="Updates between two measurements on dev, and between two checkpoints.")
    patience: int = Field(4, ge=1, description="Measurements without a better one before training stops.")
    seed: int = Field(13, description="Seed of the pairs' order.")


class SelfAlignedLinker(SearchingLinker):
    """A mention linker whose encoder is trained here, once per corpus: the training split may give pairs, dev says when to stop."""

    part: ClassVar[str] = "normalization.align"
    embeds: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    kind: Literal["self_aligned"]
    model: str = Field(description="Model entry with the encoder to start from.")
    pooling: Literal["cls", "mean"] = Field("cls", description="How token vectors become one vector.")
    metric: Literal["cosine"] = Field("cosine", description="Similarity of two vectors.")
    max_tokens: int = Field(25, ge=8, description="Longest input, in word pieces.")
    batch_size: int = Field(128, ge=1, description="Strings per forward pass, once trained.")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "float32", description="Type of the computation once trained; training uses bfloat16 where it is fast."
    )
    expand_abbreviations: bool = EXPAND
    train: Alignment = Field(Alignment())

    def references(self) -> Iterator[tuple[str, str, str]]:
        """The weights, and the generator whose mentions are additional names."""
        yield from super().references()
        if self.train.synthetic:
            yield "train.synthetic", "generators", self.train.synthetic

    def training_load(self, mentions: float) -> EncoderLoad:
        """Pairs of names in each update."""
        return EncoderLoad(self.train.steps * self.train.pairs * 2, None, self.train.steps)

    def retriever(self, method: str = "flat", weights: np.ndarray | None = None) -> VectorRetriever:
        """A retriever of vectors, with the metric of the settings."""
        return VectorRetriever(self.metric, method)

    def encoder(self, model: Path) -> Encoder:
        """The encoder, with pooling, length and type of the settings."""
        from mentionforge.encoders import Encoder

        return Encoder(model, self.pooling, self.max_tokens, self.batch_size, self.dtype, unit=self.metric == "cosine", markers=None)
