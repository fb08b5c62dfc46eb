"""The contract of a kind of recognizer: facts that other code reads instead of testing the kind."""

from __future__ import annotations

from typing import Protocol


class RecognizerKind(Protocol):
    """The settings of a recognizer."""

    @property
    def kind(self) -> str:
        """Name of the kind, as in `recognizers.*.kind`."""

    @property
    def model(self) -> str | None:
        """Model entry with the encoder that it starts from, if it has one."""

    @property
    def trains(self) -> bool:
        """Whether it is trained by a schedule, once per seed, strategy and generator; otherwise it has one cell per corpus."""

    @property
    def schedule(self) -> str:
        """What stands for the schedule in the path of its cell; empty where it is trained by one."""

    @property
    def part(self) -> str:
        """Part of the code whose version stands in its spec (mentionforge.versions)."""

    def covers(self, corpus: str) -> bool:
        """Whether it has predictions on a corpus."""
