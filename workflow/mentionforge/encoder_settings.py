"""Settings of the encoder that compares mentions in notes with names; stages share them.

In: an entry `encoder` of a generator. Out: its model. Knows nothing of weights; `encoders`, which imports numpy, uses it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mentionforge.entries import MARKERS, Entry, Markers


class NoteEncoder(Entry):
    """The encoder that compares tagged stretches and mentions with the knowledge base's names."""

    model: str = Field(examples=["minilm"], description="Model entry with the encoder.")
    pooling: Literal["cls", "mean"] = Field("mean", description="How token vectors become one vector.")
    max_tokens: int = Field(32, ge=8, description="Longest input, in word pieces.")
    batch_size: int = Field(128, ge=1, description="Strings per forward pass.")
    markers: Markers | None = MARKERS
