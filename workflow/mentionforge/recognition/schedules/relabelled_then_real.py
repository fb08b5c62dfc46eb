"""Schedule `relabelled_then_real`: as synthetic_then_real, but diseases that the real-only model finds in the notes are labelled as mentions too.

In: chosen notes, and the real-only model's probabilities. Out: further mentions to teach. Knows nothing of optimizers and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mentionforge.entries import Entry
from mentionforge.recognition.schedules.contract import AnnotatedDocuments
from mentionforge.recognition.schedules.with_teacher import ScheduleWithTeacher

if TYPE_CHECKING:
    import numpy as np

    from mentionforge.recognition.kinds.tagger import TaggerRecognizer

VERSION = 1
"""Version of the part schedule.relabelled_then_real: raise it if earlier results would be wrong (mentionforge.versions)."""


class Relabel(Entry):
    """Schedule relabelled_then_real: which diseases that the real-only model finds in synthetic notes are taught."""

    min_score: float = Field(0.0, ge=0, le=1, description="Lowest score (mean probability of the words' tags) of a mention that is taught.")


class RelabelledThenReal(ScheduleWithTeacher):
    """Notes with the mentions that the real-only model finds."""

    name: ClassVar[str] = "relabelled_then_real"

    def corrections(self, settings: TaggerRecognizer, notes: AnnotatedDocuments, read: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Mentions found with at least `relabel.min_score`, which are taught too."""
        from mentionforge.recognition.tagger import predicted_mentions

        lowest = settings.relabel.min_score
        return {"more": {doc.doc_id: [span for span, score in predicted_mentions(doc, read[doc.doc_id]) if score >= lowest] for doc in notes.documents}}
