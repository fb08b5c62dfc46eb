"""Gold documents of recognition: words and gold mentions in the form that scores and error lists read.

In: tables of a corpus. Out: `EvaluatedDocument`s. Knows nothing of predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

from mentionforge.text import Span


@dataclass(frozen=True)
class GoldDocument:
    """A document: its words (character spans), its gold mentions (word spans), and the bucket and id of each mention."""

    split: str
    words: list[Span]
    spans: tuple[Span, ...]
    buckets: tuple[str, ...]
    mention_ids: tuple[str, ...] = ()
