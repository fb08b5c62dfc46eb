"""What every reader yields: documents with annotations as published, offsets checked, and a count of whatever was not kept.

A reader is a function `stream(path, id_prefix, entity_types, tally)` that yields the documents of a file or folder one by one, in its order,
so that a corpus of any size has flat memory, and counts in `tally` what it skipped, handled and repaired. Offsets are 0-based characters into
`Document.text`, end exclusive. A reader never looks at a knowledge base.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

from mentionforge.errors import UserError
from mentionforge.text import Span

NO_ID = {"", "-1", "-", "null", "cui-less"}
"""What corpora write, in any case, for a mention without a concept."""

VOCABULARIES = {"MESH": "MSH", "UMLS": "CUI"}
"""Prefixes of ids as corpora write them, and the source (SAB) they stand for; other prefixes are kept."""

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Annotation:
    """One annotated mention: pieces in rising order, type as annotated, ids with prefix (an empty one is a concept without id).

    `composite` says that several ids were annotated, even if they are the same id twice.
    """

    spans: tuple[Span, ...]
    entity_type: str
    ids: tuple[str, ...]
    composite: bool = False

    def surface(self, text: str) -> str:
        """The text of the pieces, joined by one blank."""
        return " ".join(text[start:end] for start, end in self.spans)


@dataclass(frozen=True)
class Document:
    """One text with its annotations in rising order; `where` is its file and row."""

    doc_id: str
    text: str
    annotations: tuple[Annotation, ...]
    where: str

    def same_as(self, other: Document) -> bool:
        """Whether text and annotations are identical."""
        return (self.doc_id, self.text, self.annotations) == (other.doc_id, other.text, other.annotations)


@dataclass(frozen=True)
class Repair:
    """An annotation whose span or mention text was put right while reading, and why; `used` may equal `published`."""

    doc_id: str
    published: tuple[Span, ...]
    used: tuple[Span, ...]
    reason: str


@dataclass
class Tally:
    """What a reader counts besides documents: lines skipped by kind, oddities handled, and mentions repaired."""

    skipped: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    repairs: list[Repair] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another has counted."""
        self.skipped += other.skipped
        self.handled += other.handled
        self.repairs += other.repairs

    def clear(self) -> None:
        """Count from nothing again."""
        self.skipped.clear()
        self.handled.clear()
        self.repairs = []


@dataclass
class Reading(Tally):
    """All documents of one file or folder in its order, and what was counted."""

    documents: list[Document] = field(default_factory=list)


Reader = Callable[[Path, str, Collection[str], Tally], Iterator[Document]]
"""Yields the documents of a file or folder one by one; see the module's docstring."""


def open_binary(path: Path) -> BinaryIO:
    """The bytes of a file; one that ends in .gz or begins like one is decompressed.

    Raises:
        UserError: No such file, or a folder.
    """
    try:
        with open(path, "rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
        return cast(BinaryIO, gzip.open(path, "rb")) if packed else open(path, "rb")
    except OSError as error:
        raise UserError("unreadable file", str(path), error.strerror or "", "correct the path under splits") from error


def damaged(path: Path, row: int, error: Exception) -> UserError:
    """The error of a file that breaks off or cannot be decompressed after line `row`."""
    return UserError("damaged file", f"{path}:{row}", f"cannot be read on ({type(error).__name__})", "fetch it again")


UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file may raise: gzip's own error is an OSError."""


def decode(path: Path) -> str:
    """The text of a file, with line ends as they are.

    Raises:
        UserError: No such file, or not UTF-8; names the line.
    """
    with open_binary(path) as handle:
        try:
            data = handle.read()
        except UNREADABLE as error:
            raise damaged(path, 1, error) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, data, error) from error


def lines(path: Path, handled: Counter[str]) -> Iterator[tuple[int, str]]:
    r"""Row (1-based) and content of each line that is not blank, without byte order mark, \n and \r\n; both are counted in `handled`.

    Raises:
        UserError: No such file, a damaged one, or not UTF-8; names the line.
    """
    return ((row, line) for row, line in all_lines(path, handled) if line.strip())


def all_lines(path: Path, handled: Counter[str]) -> Iterator[tuple[int, str]]:
    """As `lines`, with those that are blank."""
    row = 0
    with open_binary(path) as handle:
        while True:
            try:
                data = handle.readline()
            except UNREADABLE as error:
                raise damaged(path, row + 1, error) from error
            if not data:
                return
            row += 1
            try:
                line = data.decode("utf-8").removesuffix("\n")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, row, data, error) from error
            if line.endswith("\r"):
                handled["CRLF line ends"] += 1
                line = line[:-1]
            if line.startswith(BYTE_ORDER_MARK):
                handled["byte order marks"] += 1
                line = line[1:]
            yield row, line


def _not_utf8(path: Path, row: int, data: bytes, error: UnicodeDecodeError) -> UserError:
    why = f"byte 0x{data[error.start]:02x}"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        why += ", it begins as UTF-16 does"
    return UserError("not UTF-8", f"{path}:{row}", why, "convert the file to UTF-8 and check that offsets still count characters")


def parse_offset(digits: str, where: str) -> int:
    """A character offset.

    Raises:
        UserError: Anything but one to nine ASCII digits.
    """
    if not re.fullmatch(r"[0-9]{1,9}", digits):
        raise UserError("bad offset", where, "an offset is a number of characters, from 0", "correct the line")
    return int(digits)


def check_span(span: Span, text: str, where: str) -> None:
    """Raise a UserError unless the span is not empty and lies within the text."""
    start, end = span
    if not start < end <= len(text):
        raise UserError("span outside of text", where, f"{start}-{end} in a text of {len(text)} characters", "correct the offsets or the text")


def check_pieces(doc_id: str, published: Sequence[Span], text: str, where: str, tally: Tally) -> tuple[Span, ...]:
    """The pieces of a mention in rising order; another order is a repair.

    Raises:
        UserError: No piece, or one that is blank, outside of the text, or overlaps another.
    """
    if not published:
        raise UserError("mention without span", where, "", "correct the line")
    for span in published:
        check_span(span, text, where)
        if not text[slice(*span)].strip():
            raise UserError("wrong offset", where, f"the text at {span[0]}-{span[1]} is blank", "correct the offsets or the text")
    spans = tuple(sorted(published))
    if any(left[1] > right[0] for left, right in pairwise(spans)):
        raise UserError("overlapping pieces", where, ",".join(f"{start}-{end}" for start, end in published), "correct the offsets")
    if spans != tuple(published):
        tally.repairs.append(Repair(doc_id, tuple(published), spans, "pieces not in rising order"))
    return spans


def check_surface(doc_id: str, spans: tuple[Span, ...], text: str, mention: str, where: str, tally: Tally) -> None:
    """Compare the mention as a file spells it with the text at its pieces; a difference in blanks alone (line ends are some) is a repair.

    Raises:
        UserError: They differ in more.
    """
    found = " ".join(text[start:end] for start, end in spans)
    if mention.translate(LINE_ENDS) == found.translate(LINE_ENDS):
        return
    if "".join(mention.split()) != "".join(found.split()):
        at = ",".join(f"{start}-{end}" for start, end in spans)
        raise UserError("wrong offset", where, f"the text at {at} is not the mention", "correct the offsets or the text")
    tally.repairs.append(Repair(doc_id, spans, spans, "blanks differ"))


LINE_ENDS = {ord("\n"): " ", ord("\r"): " "}
"""For formats that write a mention on one line."""


def annotation(spans: Sequence[Span], entity_type: str, published: str, prefix: str) -> Annotation:
    """A mention from its concept column; see `parse_ids`."""
    return of_ids(spans, entity_type, parse_ids(published, prefix))


def of_ids(spans: Sequence[Span], entity_type: str, ids: Sequence[str]) -> Annotation:
    """A mention from its ids, with prefix, as often as they were annotated; none at all is a concept without id."""
    return Annotation(tuple(spans), entity_type, tuple(dict.fromkeys(ids)) or ("",), composite=len(ids) > 1)


def parse_ids(published: str, prefix: str) -> tuple[str, ...]:
    """The ids of a mention with vocabulary prefix, in published order.

    Args:
        published: One id, or several joined by `|` (composite) or `+` (conjunctive).
        prefix: Vocabulary of ids without a prefix, as MSH.

    Returns:
        As ("MSH:D003110", "OMIM:114500"); a concept without an id is an empty string.
    """
    return tuple(parse_id(part, prefix) for part in re.split(r"[|+]", published))


def parse_id(published: str, prefix: str) -> str:
    """One id with its vocabulary as the knowledge base calls it; empty if it stands for none."""
    vocabulary, colon, code = published.strip().rpartition(":")
    known = VOCABULARIES.get(vocabulary.strip().upper(), vocabulary.strip().upper()) if colon else prefix
    return "" if code.strip().lower() in NO_ID else f"{known}:{code.strip()}"


def is_kept(entity_type: str, entity_types: Collection[str]) -> bool:
    """Whether a type, or one of several joined by commas, is asked for; if none is, all are."""
    return not entity_types or entity_type in entity_types or any(part in entity_types for part in entity_type.split(","))


def in_order(annotations: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """Annotations by spans, then ids and type: an order that does not depend on that of the file."""
    return tuple(sorted(annotations, key=lambda a: (a.spans, a.ids, a.entity_type)))
