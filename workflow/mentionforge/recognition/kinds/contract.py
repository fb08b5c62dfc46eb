"""The contract of a kind of recognizer: facts that other code reads instead of testing the kind.

In: settings of a recognizer. Out: answers. Knows nothing of any one kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from mentionforge.recognition.schedules.contract import ScheduleKind


class TrainingLoad(NamedTuple):
    """What a training reads.

    Attributes:
        sentences: Sentences learned, in all epochs.
        batch: Sentences per update.
        epochs: Epochs after each of which dev is read.
    """

    sentences: float
    batch: int
    epochs: int


class RecognizerKind(Protocol):
    """The settings of a recognizer."""

    @property
    def kind(self) -> str:
        """Name of the kind, as in `recognizers.*.kind`."""

    @property
    def model(self) -> str | None:
        """Entry of `models` with the encoder that training starts from, if there is one."""

    @property
    def trains(self) -> bool:
        """Whether a schedule trains it, once per seed, strategy and generator. Otherwise it has one cell per corpus."""

    @property
    def imported(self) -> bool:
        """Whether its predictions are files that another system made."""

    @property
    def schedule(self) -> str:
        """Word in the path of its cell where a trained recognizer has the schedule; empty if it is trained."""

    @property
    def part(self) -> str:
        """Part of the code whose version its spec holds (mentionforge.versions)."""

    def covers(self, corpus: str) -> bool:
        """Whether it has predictions on a corpus."""

    def training_load(self, schedule: ScheduleKind, real: float, notes: float) -> TrainingLoad:
        """What its training by a schedule reads, if it trains, from the numbers of sentences of the training split and of the notes."""


class Untrained:
    """Base of kinds that are not trained and have no model."""

    model: ClassVar[None] = None
    trains: ClassVar[bool] = False

    def training_load(self, schedule: ScheduleKind, real: float, notes: float) -> TrainingLoad:
        """There is none."""
        raise NotImplementedError
