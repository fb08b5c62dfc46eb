"""Schedule `synthetic_only`: the chosen synthetic notes alone.

In: examples of the notes. Out: the phase. Knows nothing of the training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from mentionforge.recognition.schedules.contract import ScheduleKind, TrainingPhase
from mentionforge.recognition.settings import Phase

if TYPE_CHECKING:
    from mentionforge.recognition.kinds.tagger import TaggerRecognizer
    from mentionforge.recognition.sentences import Example

VERSION = 1
"""Version of the part schedule.synthetic_only: raise it if earlier results would be wrong (mentionforge.versions)."""


class SyntheticOnly(ScheduleKind):
    """The chosen notes; every word outside a located mention is labelled O."""

    name: ClassVar[str] = "synthetic_only"
    reads_real: ClassVar[bool] = False

    def phases(self, settings: TaggerRecognizer, real: Sequence[Example], notes: Sequence[Example]) -> list[TrainingPhase]:
        """One phase."""
        return [TrainingPhase("synthetic", settings.synthetic, notes)]

    def sentences_learned(self, settings: TaggerRecognizer, real: float, notes: float) -> float:
        """Sentences of the notes."""
        return notes * settings.synthetic.epochs

    def last_phase(self, settings: TaggerRecognizer) -> Phase:
        """The only one."""
        return settings.synthetic
