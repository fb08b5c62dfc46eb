"""Base of the schedules with a teacher: the real-only model reads the chosen notes before they are taught.

In: chosen notes, and the real-only model of the same corpus, recognizer and seed. Out: training examples, with what a schedule makes of its readings.
Knows nothing of phases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mentionforge.recognition.schedules.contract import AnnotatedDocuments, ScheduleKind

if TYPE_CHECKING:
    import numpy as np

    from mentionforge.gold import Discontinuous
    from mentionforge.recognition.kinds.tagger import TaggerRecognizer
    from mentionforge.recognition.sentences import Example


class ScheduleWithTeacher(ScheduleKind):
    """Notes as the schedule without a teacher has them, corrected by `corrections`."""

    has_teacher: ClassVar[bool] = True

    def corrections(self, settings: TaggerRecognizer, notes: AnnotatedDocuments, read: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Further arguments of `sentences.training_examples`, `more` or `doubtful`.

        Args:
            settings: Of the recognizer.
            notes: The chosen notes.
            read: Probabilities of the tags of each word, [words, 3], by note id, as the teacher gives them.
        """
        raise NotImplementedError

    def note_examples(
        self, settings: TaggerRecognizer, policy: Discontinuous, notes: AnnotatedDocuments, teacher: Path | None
    ) -> tuple[list[Example], Counter[str]]:
        """Located mentions, and what the teacher's readings change."""
        from mentionforge.progress import say
        from mentionforge.recognition.sentences import training_examples
        from mentionforge.recognition.tagger import Tagger

        if teacher is None or not notes.documents:
            return super().note_examples(settings, policy, notes, teacher)
        say(f"the real-only model reads {len(notes.documents):,} synthetic notes")
        read = Tagger.load(teacher, dtype=settings.dtype).read(notes.documents, label="synthetic notes")
        return training_examples(notes.documents, notes.mentions, policy, **self.corrections(settings, notes, read))
