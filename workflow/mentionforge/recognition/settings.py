"""Settings that all training schedules share.

In: settings within an entry of `recognizers`. Out: their models. Imports pydantic only. Knows nothing of schedules.
"""

from __future__ import annotations

from pydantic import Field

from mentionforge.entries import Entry


class Phase(Entry):
    """One phase of training a recognizer."""

    epochs: int = Field(10, ge=1, description="Passes over the phase's sentences.")
    learning_rate: float = Field(3e-5, gt=0, description="Peak learning rate.")
