"""Schedule `real_only`: the training split alone; the baseline of every other schedule.

In: examples of the training split. Out: the phase. Knows nothing of notes.
"""

from __future__ import annotations

from typing import ClassVar

from mentionforge.entries import REAL_ONLY
from mentionforge.recognition.schedules.contract import ScheduleKind

VERSION = 1
"""Version of the part schedule.real_only: raise it if earlier results would be wrong (mentionforge.versions)."""


class RealOnly(ScheduleKind):
    """The training split."""

    name: ClassVar[str] = REAL_ONLY
    reads_notes: ClassVar[bool] = False
