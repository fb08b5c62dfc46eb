"""ShARe notes (SemEval-2014 Task 7, SemEval-2015 Task 14, ShARe/CLEF 2013): a folder with NOTE.text (or .txt) and NOTE.pipe for every note.

A line of a .pipe file is `note|spans|CUI|…` with 3, 19 or 22 fields, or `note||type||CUI||start||end||…`.
The format has no mention text, so offsets are checked only against the length of the text and its words. In: such a folder. Out: documents.
Knows nothing of splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from mentionforge.corpora.checked import SUSPICIOUS
from mentionforge.corpora.documents import (
    AS_PUBLISHED,
    Annotation,
    Document,
    ReaderOptions,
    ReadResult,
    Tally,
    annotation_from_column,
    is_kept,
    sorted_annotations,
)
from mentionforge.corpora.files import lines
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.folders import COUNTS_CARRIAGE_RETURNS, COUNTS_LINE_FEEDS, counts_line_feeds, note_pairs
from mentionforge.corpora.spans import check_pieces, cuts_word, parse_offset
from mentionforge.errors import UserError
from mentionforge.text import Span

WIDTHS = (3, 19, 22)
TEXTS = (".text", ".txt")
ENTITY_TYPE = "Disorder"
"""Type of the mentions in lines with single bars, which have no type."""


_FIX = "the file may be cut off; fetch it again or correct the line"


def read(folder: Path, id_prefix: str) -> ReadResult:
    """Read a whole folder of notes; see `stream`."""
    result = ReadResult()
    result.documents.extend(stream(folder, id_prefix, (), result))
    return result


def stream(folder: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the notes of a folder, in the order of their names.

    Lines with single bars have 3 (Task 1), 19 or 22 fields; the last `|` is optional, and fields after the third (negation, subject, …) are ignored.
    Lines with double bars have one pair of offsets per piece. NOTE.pipe.txt is read as well. Texts keep their carriage returns, because offsets
    count them. But offsets may count CRLF as one character, or LF as two in notes that have lost their carriage returns: if more mentions begin and end
    at words that way, the text policy `crlf_to_lf` reads the notes that way; any other policy fails.

    Args:
        folder: Folder with one .text or .txt and one .pipe file per note; hidden files are ignored.
        id_prefix: Vocabulary of ids without a prefix, usually CUI.
        entity_types: Types kept, of lines with a type (`||`); empty: all. Lines of other types are skipped and counted.
        tally: Counts of what is skipped, handled and repaired; updated in place.
        options: `text` is used.

    Raises:
        UserError: With file and row: not UTF-8, a text without annotations or the reverse, a file of another kind, a truncated line, lines
            of different widths in one file, a line of another note, pieces that overlap, a span outside of the text, or offsets that count CRLF as
            one character without the text policy for it.
    """
    line_of_other_ends: dict[bool, str] | None = None  # determined at the first note with several lines
    for doc_id, text, path, pipe in note_pairs(folder, TEXTS, ".pipe", tally):
        if "\n" in text:
            line_of_other_ends = _count_other_line_ends(folder) if line_of_other_ends is None else line_of_other_ends
            shorter = "\r\n" in text
            if line_of_other_ends[shorter] and options.text != "crlf_to_lf":
                raise counts_line_feeds(line_of_other_ends[shorter], shorter)
            if line_of_other_ends[shorter]:
                text = _with_other_line_ends(text)
                tally.handled[COUNTS_LINE_FEEDS if shorter else COUNTS_CARRIAGE_RETURNS] += 1
        yield Document(doc_id, text, _annotations(pipe, doc_id, text, id_prefix, entity_types, tally), str(path))


def _with_other_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n") if "\r\n" in text else text.replace("\n", "\r\n")


def _count_other_line_ends(folder: Path) -> dict[bool, str]:
    """For notes with CRLF (True) and with LF (False): the first line whose offsets count the other kind of line ends; empty if offsets count their own.

    The decision is made over all notes, from mentions whose text depends on the way of counting: by the right way they begin and end at words.
    """
    first = {True: "", False: ""}
    seen, wrong, wrong_otherwise = Counter[bool](), Counter[bool](), Counter[bool]()
    for _name, text, _path, pipe in note_pairs(folder, TEXTS, ".pipe", Tally()):
        other, kind = _with_other_line_ends(text), "\r\n" in text
        try:
            for row, line in lines(pipe, Counter()):
                where = f"{pipe}:{row}"
                spans = _split(line, where)[1]
                if [text[slice(*s)] for s in spans] == [other[slice(*s)] for s in spans]:
                    continue
                bad = _is_bad(spans, text)
                seen[kind] += 1
                wrong[kind] += bad
                wrong_otherwise[kind] += _is_bad(spans, other)
                first[kind] = first[kind] or (where if bad else "")
        except UserError:
            continue  # raised again when the note itself is read
    return {kind: where if wrong[kind] > max(2 * wrong_otherwise[kind], SUSPICIOUS * seen[kind]) else "" for kind, where in first.items()}


def _is_bad(spans: list[Span], text: str) -> bool:
    """Whether a piece is outside of the text, begins or ends with white space, or begins or ends inside a word."""
    whole = all(start < end <= len(text) and text[start:end] == text[start:end].strip() for start, end in spans)
    return not whole or cuts_word(spans, text)


def _annotations(path: Path, doc_id: str, text: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> tuple[Annotation, ...]:
    annotations = []
    width = 0
    for row, line in lines(path, tally.handled):
        where = f"{path}:{row}"
        note, published, concept, entity_type, own_width = _split(line, where)
        if width and own_width != width:
            layout = {PAIRS: "|| between fields"}
            raise UserError(
                "truncated line",
                where,
                f"{layout.get(own_width, f'{own_width} fields')}, where the lines above have {layout.get(width, width)}",
                _FIX,
            )
        width = own_width
        if Path(note).stem != doc_id and note != doc_id:
            raise UserError("line of another note", where, "its first field is not the name of the file", "correct the first field or move the line")
        if entity_type != ENTITY_TYPE and not is_kept(entity_type, entity_types):
            tally.skip(f"entity type {entity_type}", where)
            continue
        annotations.append(annotation_from_column(check_pieces(doc_id, published, text, where, tally), entity_type, concept, id_prefix))
    return sorted_annotations(annotations)


PAIRS = -1
"""Width of a line with double bars, whose number of fields varies with the number of pieces."""


def _split(line: str, where: str) -> tuple[str, list[Span], str, str, int]:
    """Note, spans, CUI, type and width of a line of either layout."""
    fields = [f.strip() for f in line.split("||")]
    if len(fields) > 3 and "|" not in "".join(fields):
        if not fields[-1]:
            fields.pop()
        if len(fields) < 5 or len(fields) % 2 == 0:
            raise UserError("truncated line", where, f"{len(fields)} fields between ||, not note, type, CUI and pairs of offsets", _FIX)
        offsets = [parse_offset(f, where) for f in fields[3:]]
        return fields[0], list(zip(offsets[::2], offsets[1::2], strict=True)), fields[2], fields[1], PAIRS
    fields = _fields(line, where)
    return fields[0], [parse_span(piece, where) for piece in fields[1].split(",")], fields[2], ENTITY_TYPE, len(fields)


def _fields(line: str, where: str) -> list[str]:
    """Fields of a line with single bars, without the trailing `|` and the `*` that marks default values."""
    fields = [f.strip().removeprefix("*") for f in line.split("|")]
    if len(fields) - 1 in WIDTHS and not fields[-1]:
        fields.pop()
    if len(fields) not in WIDTHS:
        raise UserError("truncated line", where, f"{len(fields)} fields, not 3, 19 or 22", _FIX)
    return fields


def parse_span(piece: str, where: str) -> Span:
    """Parse a span `start-end`."""
    start, _, end = piece.strip().partition("-")
    return parse_offset(start, where), parse_offset(end, where)


FORMAT = Format("share", stream, id_prefix="CUI", convert_only=True)
