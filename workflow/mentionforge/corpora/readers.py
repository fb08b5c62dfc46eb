"""The documents of a corpus, split by split, whatever its format: the one door between the readers and the rest of the stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mentionforge.config import Corpus
from mentionforge.corpora import pubtator, share
from mentionforge.corpora.published import Document, Reader, Reading, Tally

READERS: Mapping[str, Reader] = {"pubtator": pubtator.stream, "share": share.stream}


def stream(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    """The documents of a split one by one, in the order of its files.

    Args:
        settings: The corpus.
        split: One of its splits.
        tally: Where to count what is skipped, handled and repaired.

    Raises:
        UserError: Whatever the reader raises.
    """
    for path in settings.splits[split]:  # type: ignore[index]
        yield from READERS[settings.reader](Path(path), settings.id_prefix, settings.entity_types, tally)


def read(settings: Corpus, split: str) -> Reading:
    """All documents of a split; see `stream`."""
    reading = Reading()
    reading.documents.extend(stream(settings, split, reading))
    return reading
