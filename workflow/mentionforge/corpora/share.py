"""ShARe notes (SemEval-2015 Task 14): a folder with NOTE.text (or .txt) and NOTE.pipe for every note.

A line of a .pipe file has 3 (Task 1), 19 or 22 fields between `|`, the last `|` is optional; the first three are note, spans and CUI. The other
fields (negation, subject, …) are not read. Texts are kept to the last character, carriage returns included, because offsets count them.
The format has no mention text, so an offset can be checked against the length of the text only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mentionforge.corpora.folders import paired
from mentionforge.corpora.published import Annotation, Document, Reading, Tally, annotation, check_pieces, in_order, lines, parse_offset
from mentionforge.errors import UserError
from mentionforge.text import Span

WIDTHS = (3, 19, 22)
TEXTS = (".text", ".txt")
ENTITY_TYPE = "Disorder"
"""The format has no types: every line is a disorder."""


def read(folder: Path, id_prefix: str) -> Reading:
    """Read a folder of notes wholly; see `stream`."""
    reading = Reading()
    reading.documents.extend(stream(folder, id_prefix, (), reading))
    return reading


def stream(folder: Path, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Iterator[Document]:
    """The notes of a folder one by one, in the order of their names.

    Args:
        folder: Holds one .text or .txt and one .pipe file per note; hidden files are left out.
        id_prefix: Vocabulary of ids without a prefix, usually CUI.
        entity_types: Not used: the format has no types.
        tally: Where to count.

    Raises:
        UserError: With file and row: not UTF-8, a text without annotations or the reverse, a file of another kind, a truncated line, lines
            of different widths in one file, a line of another note, pieces that overlap, a span outside of the text.
    """
    for doc_id, text, path, pipe in paired(folder, TEXTS, ".pipe", tally):
        yield Document(doc_id, text, _annotations(pipe, doc_id, text, id_prefix, tally), str(path))


def _annotations(path: Path, doc_id: str, text: str, id_prefix: str, tally: Tally) -> tuple[Annotation, ...]:
    found = []
    width = 0
    for row, line in lines(path, tally.handled):
        where = f"{path}:{row}"
        fields = _fields(line, where)
        if width and len(fields) != width:
            raise UserError(
                "truncated line",
                where,
                f"{len(fields)} fields, where the lines above have {width}",
                "the file may be cut off; fetch it again or correct the line",
            )
        width = len(fields)
        if Path(fields[0]).stem != doc_id and fields[0] != doc_id:
            raise UserError("line of another note", where, "its first field is not the name of the file", "correct the first field or move the line")
        spans = check_pieces(doc_id, [parse_span(piece, where) for piece in fields[1].split(",")], text, where, tally)
        found.append(annotation(spans, ENTITY_TYPE, fields[2], id_prefix))
    return in_order(found)


def _fields(line: str, where: str) -> list[str]:
    """Fields of a line, without the trailing `|` and without the `*` that marks defaults."""
    fields = [f.strip().removeprefix("*") for f in line.split("|")]
    if len(fields) - 1 in WIDTHS and not fields[-1]:
        fields.pop()
    if len(fields) not in WIDTHS:
        raise UserError("truncated line", where, f"{len(fields)} fields, not 3, 19 or 22", "the file may be cut off; fetch it again or correct the line")
    return fields


def parse_span(piece: str, where: str) -> Span:
    """The span of `start-end`."""
    start, _, end = piece.strip().partition("-")
    return parse_offset(start, where), parse_offset(end, where)
