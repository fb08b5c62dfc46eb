"""PubTator files (NCBI Disease Corpus, BC5CDR): `id|t|title`, `id|a|abstract`, tab-separated annotations, blank line.

An annotation is `id, start, end, mention, type, concept`, with an optional seventh column that spells out the parts of a composite mention;
it is counted, as its names need not occur in the text. A relation is `id, kind, concept, concept`; it is skipped and counted by kind.
Offsets refer to the title, one blank, and the abstract.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from mentionforge.corpora.published import Annotation, Document, Reading, Repair, annotation, check_span, in_order, lines, parse_offset
from mentionforge.errors import UserError
from mentionforge.text import Span

_TEXT_LINE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_WHOLE = "the file may be cut off; fetch it again or correct the line"


def read(path: Path, id_prefix: str, entity_types: Collection[str] = ()) -> Reading:
    """Read a PubTator file.

    Args:
        path: The file, UTF-8.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Annotations of other types are skipped and counted.

    Raises:
        UserError: With file and row: not UTF-8, a line of no known form, a truncated line, a document without abstract, an annotation of
            another document, a span outside of the text, or one whose text is not the mention (but for blanks at its ends: a repair).
    """
    if path.is_dir():
        raise UserError("folder where a file is needed", str(path), "the pubtator reader takes one file per split", "name the file, or use `reader: share`")
    reading = Reading()
    titles: list[tuple[int, str, str]] = []  # row, document, title
    abstracts: list[str] = []
    annotated: list[list[Annotation]] = []
    for row, line in lines(path, reading.handled):
        where = f"{path}:{row}"
        if match := _TEXT_LINE.fullmatch(line):
            doc_id, kind, content = match.groups()
            if kind == "t":
                _check_complete(path, titles, abstracts)
                titles.append((row, doc_id, content))
                continue
            if len(abstracts) >= len(titles) or doc_id != titles[-1][1]:
                raise UserError("abstract without title", where, f"document {doc_id}", "each document is a |t| line, then an |a| line")
            abstracts.append(content)
            annotated.append([])
            continue
        fields = line.split("\t")
        if not abstracts or len(abstracts) < len(titles) or fields[0] != titles[-1][1]:
            raise UserError(
                "line outside of its document",
                where,
                "it is neither title nor abstract, and does not begin with the id of the document above and a tab",
                _WHOLE,
            )
        if len(fields) == 4 and re.fullmatch(r"[A-Za-z_]\w*", fields[1]):
            reading.skipped[f"relation {fields[1]}"] += 1
            continue
        if len(fields) not in (6, 7):
            raise UserError(
                "truncated line" if len(fields) < 6 else "overlong line",
                where,
                f"{len(fields)} columns, not 6 or 7",
                f"{_WHOLE}; a mention without an id has -1",
            )
        _, start, end, mention, entity_type, concept = fields[:6]
        span = parse_offset(start, where), parse_offset(end, where)
        if entity_types and entity_type not in entity_types:
            reading.skipped[f"entity type {entity_type}"] += 1
            continue
        used, exact = _locate(span, mention, f"{titles[-1][2]} {abstracts[-1]}", where)
        if not exact:
            reading.repairs.append(Repair(fields[0], (span,), (used,), "blanks at the ends differ"))
        reading.handled["lists of individual mentions"] += len(fields) == 7
        annotated[-1].append(annotation((used,), entity_type, concept, id_prefix))
    _check_complete(path, titles, abstracts)
    for (row, doc_id, title), abstract, found in zip(titles, abstracts, annotated, strict=True):
        reading.documents.append(Document(doc_id, f"{title} {abstract}", in_order(found), f"{path}:{row}"))
    return reading


def _check_complete(path: Path, titles: list[tuple[int, str, str]], abstracts: list[str]) -> None:
    if len(abstracts) < len(titles):
        row, doc_id, _ = titles[-1]
        raise UserError("title without abstract", f"{path}:{row}", f"document {doc_id}", _WHOLE)


def _locate(span: Span, mention: str, text: str, where: str) -> tuple[Span, bool]:
    """The span, and whether its text is the mention; if they differ in blanks at the ends, the span without those in the text."""
    check_span(span, text, where)
    start, end = span
    found = text[start:end]
    core = found.strip()
    if not core or core != mention.strip():
        raise UserError("wrong offset", where, f"the text at {start}-{end} is not the mention", "correct the offsets or the text")
    if found == mention:
        return span, True
    left = start + len(found) - len(found.lstrip())
    return (left, left + len(core)), False
