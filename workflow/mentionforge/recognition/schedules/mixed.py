"""Schedule `mixed`: one phase, the training split and beside it synthetic sentences at a fixed ratio.

In: examples of the training split and of the notes. Out: the phase. Knows nothing of optimizers and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mentionforge.recognition.schedules.contract import ScheduleKind, TrainingPhase
from mentionforge.recognition.settings import Phase

if TYPE_CHECKING:
    from mentionforge.recognition.kinds.tagger import TaggerRecognizer
    from mentionforge.recognition.sentences import Example

VERSION = 1
"""Version of the part schedule.mixed: raise it if earlier results would be wrong (mentionforge.versions)."""


class Mixed(Phase):
    """The one phase of the schedule `mixed`: the training split, and beside it synthetic sentences, drawn anew in each epoch."""

    ratio: float = Field(1.0, gt=0, description="Synthetic sentences per real sentence.")


class MixedSchedule(ScheduleKind):
    """Real and synthetic sentences in each epoch."""

    name: ClassVar[str] = "mixed"

    def phases(self, settings: TaggerRecognizer, real: Sequence[Example], notes: Sequence[Example]) -> list[TrainingPhase]:
        """One phase; without notes the training split alone, by the settings of `real`."""
        return [TrainingPhase("mixed", settings.mixed, real, notes, settings.mixed.ratio)] if notes else super().phases(settings, real, notes)

    def sentences_learned(self, settings: TaggerRecognizer, real: float, notes: float) -> float:
        """Real sentences and those drawn beside them."""
        return settings.mixed.epochs * (real + (real * settings.mixed.ratio if notes else 0))

    def last_phase(self, settings: TaggerRecognizer) -> Phase:
        """The only one."""
        return settings.mixed
