"""Settings of the training schedules: names of the schedules, phases, relabelling and masking.

Imports pydantic only; `schedules` applies the settings.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mentionforge.entries import Entry

Schedule = Literal["real_only", "synthetic_only", "synthetic_then_real", "relabelled_then_real", "masked_then_real", "mixed"]
TAUGHT: tuple[Schedule, ...] = ("relabelled_then_real", "masked_then_real")
"""Schedules that read synthetic notes with the real_only model of the same corpus, recognizer and seed."""


class Phase(Entry):
    """One phase of training a recognizer."""

    epochs: int = Field(10, ge=1, description="Passes over the phase's sentences.")
    learning_rate: float = Field(3e-5, gt=0, description="Peak learning rate.")


class Mixed(Phase):
    """The one phase of the schedule `mixed`: the training split, and beside it synthetic sentences, drawn anew in each epoch."""

    ratio: float = Field(1.0, gt=0, description="Synthetic sentences per real sentence.")


class Relabel(Entry):
    """Schedule relabelled_then_real: which diseases that the real-only model finds in synthetic notes are taught."""

    min_score: float = Field(0.0, ge=0, le=1, description="Lowest score (mean probability of the words' tags) of a mention that is taught.")


class Mask(Entry):
    """Schedule masked_then_real: which unlabelled words of synthetic notes carry no loss, besides those of sentences without a located mention."""

    threshold: float = Field(0.1, ge=0, le=1, description="A word is a likely disease above this probability of B or I, by the real-only model.")
    margin: int = Field(1, ge=0, description="So many words on either side of a likely disease carry no loss either.")
