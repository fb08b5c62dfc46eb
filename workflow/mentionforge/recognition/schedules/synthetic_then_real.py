"""Schedule `synthetic_then_real`: synthetic notes first, the training split second (the paper's).

In: examples of the training split and of the notes. Out: two phases. Knows nothing of optimizers and files.
"""

from __future__ import annotations

from typing import ClassVar

from mentionforge.recognition.schedules.contract import ScheduleKind

VERSION = 1
"""Version of the part schedule.synthetic_then_real: raise it if earlier results would be wrong (mentionforge.versions)."""


class SyntheticThenReal(ScheduleKind):
    """The default of the contract."""

    name: ClassVar[str] = "synthetic_then_real"
