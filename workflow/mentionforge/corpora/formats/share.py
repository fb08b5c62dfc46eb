"""ShARe notes (SemEval-2015 Task 14): a folder with NOTE.text (or .txt) and NOTE.pipe for every note.

A line of a .pipe file has 3 (Task 1), 19 or 22 fields between `|`, the last `|` is optional; the first three are note, spans and CUI. The other
fields (negation, subject, …) are not read. SemEval-2014 Task 7 and ShARe/CLEF 2013 have `note||type||CUI||start||end`, with further pairs of offsets
for further pieces; NOTE.pipe.txt is read as well. Texts are kept to the last character, carriage returns included, because offsets count them.
The format has no mention text, so an offset can be checked against the length of the text and against its words only. In notes with CRLF line ends
the offsets may count each as one character, and in notes that have lost their carriage returns as two: if more mentions begin and end with
words that way, the text policy `crlf_to_lf` reads the notes that way, and any other one stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from mentionforge.corpora.checked import SUSPICIOUS
from mentionforge.corpora.documents import AS_PUBLISHED, Annotation, Document, Options, Reading, Tally, annotation, in_order, is_kept
from mentionforge.corpora.files import lines
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.folders import COUNTS_CARRIAGE_RETURNS, COUNTS_LINE_FEEDS, counts_line_feeds, paired
from mentionforge.corpora.spans import check_pieces, cuts_word, parse_offset
from mentionforge.errors import UserError
from mentionforge.text import Span

WIDTHS = (3, 19, 22)
TEXTS = (".text", ".txt")
ENTITY_TYPE = "Disorder"
"""Lines with single bars have no types: every one is a disorder."""


_FIX = "the file may be cut off; fetch it again or correct the line"


def read(folder: Path, id_prefix: str) -> Reading:
    """Read a folder of notes wholly; see `stream`."""
    reading = Reading()
    reading.documents.extend(stream(folder, id_prefix, (), reading))
    return reading


def stream(folder: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options = AS_PUBLISHED) -> Iterator[Document]:
    """The notes of a folder one by one, in the order of their names.

    Args:
        folder: Holds one .text or .txt and one .pipe file per note; hidden files are left out.
        id_prefix: Vocabulary of ids without a prefix, usually CUI.
        entity_types: Types kept, of lines that have one (`||`); empty: all. Lines of other types are skipped and counted.
        tally: Where to count.
        options: `text` is looked at.

    Raises:
        UserError: With file and row: not UTF-8, a text without annotations or the reverse, a file of another kind, a truncated line, lines
            of different widths in one file, a line of another note, pieces that overlap, a span outside of the text, or offsets that count CRLF as
            one character without the text policy for it.
    """
    others: dict[bool, str] | None = None  # found out at the first note of several lines
    for doc_id, text, path, pipe in paired(folder, TEXTS, ".pipe", tally):
        if "\n" in text:
            others = _count_other_line_ends(folder) if others is None else others
            shorter = "\r\n" in text
            if others[shorter] and options.text != "crlf_to_lf":
                raise counts_line_feeds(others[shorter], shorter)
            if others[shorter]:
                text = _with_other_line_ends(text)
                tally.handled[COUNTS_LINE_FEEDS if shorter else COUNTS_CARRIAGE_RETURNS] += 1
        yield Document(doc_id, text, _annotations(pipe, doc_id, text, id_prefix, entity_types, tally), str(path))


def _with_other_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n") if "\r\n" in text else text.replace("\n", "\r\n")


def _count_other_line_ends(folder: Path) -> dict[bool, str]:
    """The first line that shows that the offsets of notes with CRLF (True) or with LF (False) count the other kind of line ends; empty if they do not.

    Mentions whose text differs by the way of counting are compared, over all notes: the right way is the one by which they begin and end with words.
    """
    first = {True: "", False: ""}
    seen, wrong, wrong_otherwise = Counter[bool](), Counter[bool](), Counter[bool]()
    for _name, text, _path, pipe in paired(folder, TEXTS, ".pipe", Tally()):
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
            continue  # told when the note's turn comes
    return {kind: where if wrong[kind] > max(2 * wrong_otherwise[kind], SUSPICIOUS * seen[kind]) else "" for kind, where in first.items()}


def _is_bad(spans: list[Span], text: str) -> bool:
    """Whether a piece lies outside of the text, begins or ends with a blank, or inside a word."""
    whole = all(start < end <= len(text) and text[start:end] == text[start:end].strip() for start, end in spans)
    return not whole or cuts_word(spans, text)


def _annotations(path: Path, doc_id: str, text: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> tuple[Annotation, ...]:
    found = []
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
        found.append(annotation(check_pieces(doc_id, published, text, where, tally), entity_type, concept, id_prefix))
    return in_order(found)


PAIRS = -1
"""Stands for the width of a line with double bars, which has as many fields as its mention has pieces."""


def _split(line: str, where: str) -> tuple[str, list[Span], str, str, int]:
    """Note, pieces, CUI, type and width of a line of either layout."""
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
    """Fields of a line, without the trailing `|` and without the `*` that marks defaults."""
    fields = [f.strip().removeprefix("*") for f in line.split("|")]
    if len(fields) - 1 in WIDTHS and not fields[-1]:
        fields.pop()
    if len(fields) not in WIDTHS:
        raise UserError("truncated line", where, f"{len(fields)} fields, not 3, 19 or 22", _FIX)
    return fields


def parse_span(piece: str, where: str) -> Span:
    """The span of `start-end`."""
    start, _, end = piece.strip().partition("-")
    return parse_offset(start, where), parse_offset(end, where)


FORMAT = Format("share", stream, id_prefix="CUI")
