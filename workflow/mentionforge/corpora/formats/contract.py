"""What a format must answer: its name, how it is read, and, if it can be, how it is written.

A reader yields the documents of a file or folder one by one, in its order, so that a corpus of any size has flat memory, and counts in `tally` what
it skipped, handled and repaired. A writer takes documents one by one, and reading back what it wrote gives the same documents, as far as the format
can hold them. Neither looks at a knowledge base.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mentionforge.corpora.documents import Document, Options, Tally
from mentionforge.corpora.formats.losses import Losses


class Reader(Protocol):
    """Yields the documents of a file or folder one by one; see the module's docstring."""

    def __call__(self, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options = ..., /) -> Iterator[Document]:
        """Read."""


Writer = Callable[[Iterable[Document], Path, Losses], None]
"""Writes documents to a file (or a folder), and says what the format cannot hold."""


@dataclass(frozen=True)
class Format:
    """A format of annotated text.

    Attributes:
        name: What the configuration and the commands call it.
        read: Its reader.
        write: Its writer, if it can be written.
        ending: What the name of a file that `export` writes ends in; empty for a folder.
        id_prefix: Vocabulary of ids without a prefix, where `convert` is told none.
    """

    name: str
    read: Reader
    write: Writer | None = None
    ending: str = ""
    id_prefix: str = "MSH"
