"""The interface of a format: name, reader, and optional writer.

In (reader): a file. Out: documents one by one, in the order of the file, so memory stays flat; what it skips, handles and repairs is counted in `tally`.
In (writer): documents one by one. Out: a file; reading it back gives the same documents, as far as the format can represent them.
Knows nothing of splits and knowledge bases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mentionforge.corpora.documents import Document, ReaderOptions, Tally
from mentionforge.corpora.formats.losses import Losses


class Reader(Protocol):
    """Yields the documents of a file or folder; see the module docstring."""

    def __call__(self, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = ..., /) -> Iterator[Document]:
        """Read `path`, keep mentions of `entity_types` (empty: all), and update `tally`; `id_prefix` is the vocabulary of ids without a prefix."""


Writer = Callable[[Iterable[Document], Path, Losses], None]
"""Writes documents to a file (or folder), and reports to `Losses` what the format cannot represent."""


DEFAULT_PREFIX = "MSH"


@dataclass(frozen=True)
class Format:
    """A format of annotated text.

    Attributes:
        name: Name in the configuration and on the command line.
        read: Its reader.
        write: Its writer; none: the format can only be read.
        ending: Suffix of the files that `export` writes; empty for a folder.
        id_prefix: Default vocabulary of ids without a prefix.
        convert_only: That default is for `corpora convert` alone; a corpus of the configuration has MSH.
    """

    name: str
    read: Reader
    write: Writer | None = None
    ending: str = ""
    id_prefix: str = DEFAULT_PREFIX
    convert_only: bool = False
