"""The kind `external`: mentions that another system predicted; `mentionforge.external.spans` imports them.

In: an entry of `recognizers`. Out: its model. Knows nothing of the form of its files.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from mentionforge.entries import EXTERNAL
from mentionforge.external.settings import External
from mentionforge.recognition.kinds.contract import Untrained


class ExternalRecognizer(Untrained, External):
    """Mentions that another system found in the documents of a corpus."""

    imported: ClassVar[bool] = True
    schedule: ClassVar[str] = EXTERNAL
    part: ClassVar[str] = "external.spans"

    kind: Literal["external"]

    def covers(self, corpus: str) -> bool:
        """Whether there are predictions on a corpus."""
        return bool(self.path_for(corpus))
