"""The contract of a schedule: which sentences a recognizer learns from, in which phases, and which of their words carry no loss.

In: settings of a tagger, the training split, chosen synthetic notes, perhaps the real-only model. Out: training examples and phases.
Imports pydantic only, outside of functions; knows nothing of optimizers (`training`) and files (`phases`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mentionforge.recognition.settings import Phase

if TYPE_CHECKING:
    from mentionforge.gold import Discontinuous
    from mentionforge.recognition.kinds.tagger import TaggerRecognizer
    from mentionforge.recognition.sentences import Example, TokenizedDocument
    from mentionforge.text import Span


@dataclass(frozen=True)
class TrainingPhase:
    """A phase of training.

    Attributes:
        name: `real`, `synthetic` or `mixed`.
        settings: Epochs and learning rate.
        examples: Sentences learned once in each epoch.
        drawn: Sentences from which each epoch draws a new sample.
        ratio: Size of that sample, as a multiple of the number of `examples`.
    """

    name: str
    settings: Phase
    examples: Sequence[Example]
    drawn: Sequence[Example] = field(default=())
    ratio: float = 0.0


@dataclass(frozen=True)
class AnnotatedDocuments:
    """Documents and their annotated or located mentions.

    Attributes:
        documents: The texts.
        mentions: By document id, the character spans of each mention.
        path: File they were read from, for error messages.
    """

    documents: Sequence[TokenizedDocument]
    mentions: Mapping[str, Sequence[Sequence[Span]]]
    path: Path


class ScheduleKind:
    """Base of the schedules. By default: synthetic notes first, with every word outside a located mention labelled O; the training split second.

    Attributes:
        name: Name in the configuration; the part `schedule.NAME` has the version that the schedule's file states.
        reads_notes: Whether it learns from synthetic notes; if not, it belongs to the strategy `none`.
        reads_real: Whether it learns from the training split.
        has_teacher: Whether the real_only model of the same corpus, recognizer and seed reads the notes first.
    """

    name: ClassVar[str]
    reads_notes: ClassVar[bool] = True
    reads_real: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = False

    def note_examples(
        self, settings: TaggerRecognizer, policy: Discontinuous, notes: AnnotatedDocuments, teacher: Path | None
    ) -> tuple[list[Example], Counter[str]]:
        """Training examples of the chosen notes, and counts of documents, sentences and mentions."""
        from mentionforge.recognition.sentences import training_examples

        return training_examples(notes.documents, notes.mentions, policy)

    def phases(self, settings: TaggerRecognizer, real: Sequence[Example], notes: Sequence[Example]) -> list[TrainingPhase]:
        """The phases, in order; without notes the training split alone."""
        last = TrainingPhase("real", settings.real, real)
        return [TrainingPhase("synthetic", settings.synthetic, notes), last] if notes else [last]

    def sentences_learned(self, settings: TaggerRecognizer, real: float, notes: float) -> float:
        """Sentences of all epochs of all phases, from the numbers of sentences of the training split and of the notes; for estimates of costs."""
        return notes * settings.synthetic.epochs + real * settings.real.epochs

    def last_phase(self, settings: TaggerRecognizer) -> Phase:
        """Settings of the phase whose epochs are measured on dev."""
        return settings.real
