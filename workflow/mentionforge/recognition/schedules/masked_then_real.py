"""Schedule `masked_then_real`: as synthetic_then_real, but what may be an unlabelled disease in the notes carries no loss.

Sentences without a located mention are left out, and unlabelled words next to a likely disease (by the real-only model) carry no loss.
In: chosen notes, and the real-only model's probabilities. Out: words without loss. Knows nothing of optimizers and files.
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
"""Version of the part schedule.masked_then_real: raise it if earlier results would be wrong (mentionforge.versions)."""


class Mask(Entry):
    """Schedule masked_then_real: which unlabelled words of synthetic notes carry no loss, besides those of sentences without a located mention."""

    threshold: float = Field(0.1, ge=0, le=1, description="A word is a likely disease above this probability of B or I, by the real-only model.")
    margin: int = Field(1, ge=0, description="So many words on either side of a likely disease carry no loss either.")


class MaskedThenReal(ScheduleWithTeacher):
    """Notes in which likely diseases without a label are masked."""

    name: ClassVar[str] = "masked_then_real"

    def corrections(self, settings: TaggerRecognizer, notes: AnnotatedDocuments, read: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Doubtful words, which are masked."""
        mask = settings.mask
        return {"doubtful": {doc_id: near_likely_mentions(probabilities, mask.threshold, mask.margin) for doc_id, probabilities in read.items()}}


def near_likely_mentions(probabilities: np.ndarray[Any, Any], threshold: float, margin: int) -> set[int]:
    """Words that are likely part of a disease mention, or at most `margin` words away from one.

    Args:
        probabilities: [words, 3], in the order of `gold.TAGS`.
        threshold: A word is likely part of a mention if its probability of B or I is above this.
        margin: In words.
    """
    import numpy as np

    from mentionforge.gold import TAGS

    likely = np.flatnonzero(1 - probabilities[:, TAGS.index("O")] > threshold)
    return {i for word in likely.tolist() for i in range(max(0, word - margin), min(len(probabilities), word + margin + 1))}
