"""Schedule `relabelled_then_real`: as synthetic_then_real, but diseases that the real-only model finds in the notes are labelled as mentions too."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mentionforge.entries import Entry
from mentionforge.recognition.schedules.contract import AnnotatedDocuments, ScheduleKind, read_by_teacher

if TYPE_CHECKING:
    from mentionforge.gold import Discontinuous
    from mentionforge.recognition.kinds.tagger import TaggerRecognizer
    from mentionforge.recognition.sentences import Example

VERSION = 1
"""Version of the part schedule.relabelled_then_real: raise it if earlier results would be wrong (mentionforge.versions)."""


class Relabel(Entry):
    """Schedule relabelled_then_real: which diseases that the real-only model finds in synthetic notes are taught."""

    min_score: float = Field(0.0, ge=0, le=1, description="Lowest score (mean probability of the words' tags) of a mention that is taught.")


class RelabelledThenReal(ScheduleKind):
    """Notes with the mentions that the real-only model finds."""

    name: ClassVar[str] = "relabelled_then_real"
    has_teacher: ClassVar[bool] = True

    def note_examples(
        self, settings: TaggerRecognizer, policy: Discontinuous, notes: AnnotatedDocuments, teacher: Path | None
    ) -> tuple[list[Example], Counter[str]]:
        """Located mentions, and those found with at least `relabel.min_score`."""
        from mentionforge.recognition.sentences import training_examples
        from mentionforge.recognition.tagger import predicted_mentions

        if teacher is None or not notes.documents:
            return super().note_examples(settings, policy, notes, teacher)
        read = read_by_teacher(teacher, settings, notes)
        lowest = settings.relabel.min_score
        more = {doc.doc_id: [span for span, score in predicted_mentions(doc, read[doc.doc_id]) if score >= lowest] for doc in notes.documents}
        return training_examples(notes.documents, notes.mentions, policy, more=more)
