"""What every reader yields: documents with annotations as published, offsets checked, and a count of whatever was not kept.

A reader is a function `stream(path, id_prefix, entity_types, tally, options)` that yields the documents of a file or folder one by one, in its
order, so that a corpus of any size has flat memory, and counts in `tally` what it skipped, handled and repaired. Offsets are 0-based characters
into `Document.text`, end exclusive. A reader never looks at a knowledge base.
"""

from __future__ import annotations

import codecs
import gzip
import re
import unicodedata
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

from mentionforge.errors import UserError
from mentionforge.text import Span

NO_ID = {"", "-1", "-", "null", "none", "na", "n/a", "nan", "nil", "cui-less", "cui_less", "cuiless"}
"""What corpora write, in any case, for a mention without a concept."""

VOCABULARIES = {"MESH": "MSH", "UMLS": "CUI"}
"""Prefixes of ids as corpora write them, and the source (SAB) they stand for; other prefixes are kept."""

_FORMS = {
    "CUI": r"C\d{7}",
    "MSH": r"[CD]\d{6}(\d{3})?",
    "OMIM MIM": r"(PS)?\d{6}|MTHU\d{6}",
    "SNOMEDCT_US SNOMEDCT SNOMED SCTID": r"\d{6,18}",
    "ORPHANET ORPHA ORDO": r"(ORPHA_?)?\d{1,6}",
    "HPO HP MONDO EFO GO": r"\d{7}",
    "DOID": r"\d{1,7}",
    "MEDDRA MDR": r"\d{8}",
    "NCI NCIT": r"C\d{3,6}",
    "ICD9CM ICD9": r"[EV]?\d{2,3}(\.\d{1,2})?",
    "ICD10CM ICD10 ICD10PCS": r"[A-Z]\d[0-9A-Z](\.?[0-9A-Z]{1,4})?",
    "ICDO ICDO3 ICD-O": r"\d{4}/\d{1,2}(/H)?",
    "CHEBI": r"\d{1,6}",
}
FORMS: Mapping[str, re.Pattern[str]] = {name: re.compile(form) for names, form in _FORMS.items() for name in names.split(" ")}
"""How the codes of each vocabulary look, under each of its names; what looks otherwise is counted and listed, and kept as it is."""

SUSPICIOUS = 0.03
"""Share of surfaces that may begin or end inside a word before the log and the card warn of it. NCBI Disease and BC5CDR have 0.0001."""

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
    """What a reader counts besides documents: records skipped by kind, oddities handled, and mentions repaired.

    `places` lists the rows of skipped records, by kind and file; a number for each, so that millions fit into memory.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    repairs: list[Repair] = field(default_factory=list)
    places: dict[tuple[str, str], array[int]] = field(default_factory=lambda: defaultdict(lambda: array("l")))

    def skip(self, kind: str, where: str, n: int = 1) -> None:
        """Count a record that is left out, or several of one place, and list that place: FILE:ROW, or FILE."""
        self.skipped[kind] += n
        file, _, row = where.rpartition(":")
        if re.fullmatch("[0-9]{1,12}", row):
            self.places[kind, file].extend([int(row)] * n)
        else:
            self.places[kind, where].extend([0] * n)  # somewhere in the file

    def add(self, other: Tally) -> None:
        """Add what another has counted."""
        self.skipped += other.skipped
        self.handled += other.handled
        self.repairs += other.repairs
        for key, rows in other.places.items():
            self.places[key].extend(rows)

    def clear(self) -> None:
        """Count from nothing again."""
        self.skipped.clear()
        self.handled.clear()
        self.repairs = []
        self.places.clear()


@dataclass
class Reading(Tally):
    """All documents of one file or folder in its order, and what was counted."""

    documents: list[Document] = field(default_factory=list)


NoteIds = Literal["auto", "all", "none"]


@dataclass(frozen=True)
class Options:
    """How a reader takes what a format leaves open; each reader looks at those that concern it.

    Attributes:
        text: The text policy (config.Corpus.text). With `crlf_to_lf`, offsets may count CRLF as one character.
        note_ids: Which of BRAT's notes are concept ids (config.Corpus.note_ids).
    """

    text: str = "none"
    note_ids: NoteIds = "auto"


AS_PUBLISHED = Options()


class Reader(Protocol):
    """Yields the documents of a file or folder one by one; see the module's docstring."""

    def __call__(self, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options = ..., /) -> Iterator[Document]:
        """Read."""


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
    if not same_but_for_blanks(mention, found):
        at = ",".join(f"{start}-{end}" for start, end in spans)
        raise UserError("wrong offset", where, f"the text at {at} is not the mention", "correct the offsets or the text")
    tally.repairs.append(Repair(doc_id, spans, spans, "blanks differ"))


def same_but_for_blanks(one: str, other: str) -> bool:
    """Whether two texts differ in blanks and line ends at most."""
    return "".join(one.split()) == "".join(other.split())


LINE_ENDS = {ord("\n"): " ", ord("\r"): " "}
"""For formats that write a mention on one line."""


_LINE_BREAK = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Where a line ends, for the programs that read a format line by line (as for Python's str.splitlines)."""


def without_line_ends(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """The pieces of a mention cut at line ends, which go with the blanks around them: what BRAT can mark."""
    found: list[Span] = []
    for start, end in spans:
        at = start
        for blank in re.finditer(r"\s+", text[start:end]):
            if _LINE_BREAK.search(blank.group()):
                found.append((at, start + blank.start()))
                at = start + blank.end()
        found.append((at, end))
    return tuple((start, end) for start, end in found if start < end)


def joined_at_line_ends(spans: Sequence[Span], text: str) -> tuple[Span, ...]:
    """The pieces in rising order, those with nothing but a line end and blanks between them as one; undoes `without_line_ends`."""
    found = [spans[0]]
    for start, end in spans[1:]:
        gap = text[found[-1][1] : start]
        if not gap.strip() and _LINE_BREAK.search(gap):
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return tuple(found)


def annotation(spans: Sequence[Span], entity_type: str, published: str, prefix: str) -> Annotation:
    """A mention from its concept column; see `parse_ids`."""
    return of_ids(spans, entity_type, parse_ids(published, prefix))


def of_ids(spans: Sequence[Span], entity_type: str, ids: Sequence[str]) -> Annotation:
    """A mention from its ids, with prefix, as often as they were annotated; none at all is a concept without id."""
    return Annotation(tuple(spans), entity_type, tuple(dict.fromkeys(ids)) or ("",), composite=len(ids) > 1)


def parse_ids(published: str, prefix: str) -> tuple[str, ...]:
    """The ids of a mention with vocabulary prefix, in published order.

    Args:
        published: One id, or several joined by `|` or `,` or `;` (composite), `+` (conjunctive), or blanks between codes. A vocabulary that only
            the first id names holds for all of them that may be its codes.
        prefix: Vocabulary of ids without a prefix, as MSH.

    Returns:
        As ("MSH:D003110", "OMIM:114500"); a concept without an id is an empty string.
    """
    if not _SEPARATOR.search(published):
        return (parse_id(published, prefix),)
    parts = split_ids(published)
    named = [vocabulary_of(part) for part in parts]
    first = named[0]
    if first is None or first == prefix or None not in named or any(v not in (None, first) for v in named):
        return tuple(parse_id(part, prefix) for part in parts)
    return tuple(parse_id(part, first if _may_be(part, first, prefix, parts[0]) else prefix) for part in parts)


_SEPARATOR = re.compile(r"[|+;,\s]")


def split_ids(published: str) -> list[str]:
    """The ids of a column as they stand there; at least one, which is empty if the column is."""
    found = []
    for part in re.split(r"[|+;,]", published):
        words = re.sub(r"\s*:\s*", ":", part).split()
        if len(words) > 1 and all(_CODE.fullmatch(word) or word.lower() in NO_ID for word in words):
            found += words  # blanks part codes, but not the words of a vocabulary's name
        elif words:
            found.append(part.strip())
    return found or [""]


_CODE = re.compile(r"(?:[A-Za-z][\w.-]*:)?[A-Za-z_]*\d[\w./-]*")


def vocabulary_of(published: str) -> str | None:
    """The vocabulary that an id names, as the knowledge base calls it; None if it names none."""
    vocabulary, colon, _ = published.rpartition(":")
    vocabulary = vocabulary.strip().upper()
    return VOCABULARIES.get(vocabulary, vocabulary) if colon else None


def _may_be(code: str, vocabulary: str, otherwise: str, known: str) -> bool:
    """Whether a code without prefix is one of a vocabulary rather than of another: by their forms, or because it begins as a known one does."""
    if _fits(code, vocabulary) or _fits(code, otherwise):
        return _fits(code, vocabulary)
    letters = [re.match("[A-Za-z]*", value.rpartition(":")[2].strip()) for value in (code, known)]
    return letters[0] is not None and letters[1] is not None and letters[0].group() == letters[1].group()


def _fits(code: str, vocabulary: str) -> bool:
    form = FORMS.get(vocabulary)
    return bool(form and form.fullmatch(code.strip().upper()))


def parse_id(published: str, prefix: str) -> str:
    """One id with its vocabulary as the knowledge base calls it; empty if it stands for none."""
    code = published.strip().rpartition(":")[2].strip()
    known = vocabulary_of(published.strip())
    return "" if code.lower() in NO_ID else f"{prefix if known is None else known}:{code}"


def looks_like_id(concept_id: str) -> bool:
    """Whether an id with its vocabulary has the form of that vocabulary's codes, as far as `FORMS` knows it."""
    vocabulary, _, code = concept_id.partition(":")
    return _fits(code, vocabulary)


def form_of(concept_id: str) -> str:
    """The form of an id: A for capitals, a for other letters, 9 for digits; those that repeat are written once with a `+`."""
    vocabulary, colon, code = concept_id.rpartition(":")
    shape = "".join("9" if c.isdecimal() else "A" if c.isupper() else "a" if c.isalpha() else c for c in code[:200])
    short = re.sub(r"([9Aa])\1+", r"\1+", shape)
    return f"{vocabulary}{colon}{short[:40]}{'…' if len(short) > 40 or len(code) > 200 else ''}"


class Checked:
    """What a look at all mentions tells about a corpus: how many begin or end inside a word, and whose ids have no form of a known vocabulary."""

    def __init__(self) -> None:
        self.mentions = self.inside_words = 0
        self.forms: dict[str, tuple[int, str]] = {}

    def add(self, document: Document) -> None:
        """Look at a document's mentions."""
        self.mentions += len(document.annotations)
        self.inside_words += sum(cuts_word(a.spans, document.text) for a in document.annotations)

    def add_id(self, concept_id: str, mentions: int = 1) -> None:
        """Count an id of no known form, with its mentions, and keep the first of each form as an example."""
        form = form_of(concept_id)
        n, example = self.forms.get(form, (0, concept_id))
        self.forms[form] = n + mentions, example

    @property
    def suspicious(self) -> bool:
        """Whether more mentions than a few in a hundred begin or end inside a word."""
        return self.inside_words > SUSPICIOUS * self.mentions

    def told(self, what: str = "") -> list[str]:
        """Lines for the log."""
        found = []
        if self.suspicious:
            share = f"{self.inside_words:,} of {self.mentions:,} surfaces{what} begin or end inside a word ({self.inside_words / self.mentions:.1%})"
            found.append(f"WARNING: {share}: the offsets may count other characters than the text has")
        if self.forms:
            n = sum(n for n, _ in self.forms.values())
            forms = ", ".join(
                f"{form} ({n:,}, as {example[:40]!r})" for form, (n, example) in sorted(self.forms.items(), key=lambda item: (-item[1][0], item[0]))[:5]
            )
            more = f" and {len(self.forms) - 5:,} forms more" if len(self.forms) > 5 else ""
            found.append(f"WARNING: {n:,} ids{what} look like those of no known vocabulary, by form: {forms}{more}")
        return found


# Scripts that part no words by blanks, or write particles without one behind a name: Thai to Myanmar, Khmer, and those of China, Japan and Korea.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")


def cuts_word(spans: Sequence[Span], text: str) -> bool:
    """Whether one of the pieces begins or ends inside a word, as where offsets count other characters than the text has."""
    return any(_inside(text, start) or _inside(text, end) for start, end in spans)


def _inside(text: str, at: int) -> bool:
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if not (before.isalnum() or unicodedata.category(before)[0] == "M"):
        return False
    return (after.isalnum() or unicodedata.category(after)[0] == "M") and not _UNSPACED.match(before) and not _UNSPACED.match(after)


def is_kept(entity_type: str, entity_types: Collection[str]) -> bool:
    """Whether a type, or one of several joined by commas, is asked for; if none is, all are."""
    return not entity_types or entity_type in entity_types or any(part in entity_types for part in entity_type.split(","))


def in_order(annotations: Sequence[Annotation]) -> tuple[Annotation, ...]:
    """Annotations by spans, then ids and type: an order that does not depend on that of the file."""
    return tuple(sorted(annotations, key=lambda a: (a.spans, a.ids, a.entity_type)))
