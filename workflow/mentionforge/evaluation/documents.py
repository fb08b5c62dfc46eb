"""What recognition is scored against: a document's words and gold mentions, as scores and error lists both need them."""

from __future__ import annotations

from dataclasses import dataclass

from mentionforge.text import Span


@dataclass(frozen=True)
class GoldDocument:
    """A document's words (characters), gold mentions (word spans), and the bucket and id of each."""

    split: str
    words: list[Span]
    spans: tuple[Span, ...]
    buckets: tuple[str, ...]
    mention_ids: tuple[str, ...] = ()
