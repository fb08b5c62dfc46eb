"""The family of schedules, one file each. `SCHEDULES` lists them in the order of docs and schema; `contract.py` defines the interface.

In: name of a schedule. Out: its kind. Knows nothing of optimizers and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from mentionforge.recognition.schedules.contract import ScheduleKind
from mentionforge.recognition.schedules.masked_then_real import MaskedThenReal
from mentionforge.recognition.schedules.mixed import MixedSchedule
from mentionforge.recognition.schedules.real_only import RealOnly
from mentionforge.recognition.schedules.relabelled_then_real import RelabelledThenReal
from mentionforge.recognition.schedules.synthetic_only import SyntheticOnly
from mentionforge.recognition.schedules.synthetic_then_real import SyntheticThenReal

SCHEDULES: tuple[ScheduleKind, ...] = (RealOnly(), SyntheticOnly(), SyntheticThenReal(), RelabelledThenReal(), MaskedThenReal(), MixedSchedule())

BY_NAME: Mapping[str, ScheduleKind] = {schedule.name: schedule for schedule in SCHEDULES}

if TYPE_CHECKING:
    Schedule = str
else:
    Schedule = Literal[*BY_NAME]
"""Name of a schedule."""
