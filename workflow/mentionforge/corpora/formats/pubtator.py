"""PubTator files (NCBI Disease Corpus, BC5CDR): `id|t|title`, `id|a|abstract`, tab-separated annotations, blank line.

An annotation is `id, start, end, mention, type, concept`, with an optional seventh column. Offsets refer to the title, a space, and the abstract.
The format: https://www.ncbi.nlm.nih.gov/research/pubtator/. In: such a file. Out: documents, and the reverse. Knows nothing of splits and knowledge bases.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mentionforge.corpora.documents import (
    AS_PUBLISHED,
    Annotation,
    Document,
    ReaderOptions,
    ReadResult,
    Repair,
    Tally,
    annotation_from_column,
    is_kept,
    sorted_annotations,
)
from mentionforge.corpora.files import lines, writing_lines
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.losses import Losses, check_id, id_column, in_one_piece, type_column, with_replaced
from mentionforge.corpora.spans import check_span, parse_offset
from mentionforge.errors import UserError
from mentionforge.text import Span

_TEXT_LINE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_FIX = "the file may be cut off; fetch it again or correct the line"


def read(path: Path, id_prefix: str, entity_types: Collection[str] = ()) -> ReadResult:
    """Read a whole PubTator file; see `stream`."""
    result = ReadResult()
    result.documents.extend(stream(path, id_prefix, entity_types, result))
    return result


@dataclass
class _PubtatorDocument:
    """The document being read; `abstract` is None before its |a| line."""

    row: int
    doc_id: str
    title: str
    abstract: str | None = None
    annotations: list[Annotation] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"{self.title} {self.abstract}"


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the documents of a PubTator file.

    A type column may list several types, joined by commas, as in MedMentions. The seventh column names the parts of a composite mention; it is only
    counted, as these names need not occur in the text. A relation is `id, kind, concept, concept`, in BioRED with a fifth column; relations are skipped
    and counted by kind.

    Args:
        path: The file, UTF-8; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Annotations of other types are skipped and counted.
        tally: Counts of what is skipped, handled and repaired; updated in place.
        options: Not used by this format.

    Raises:
        UserError: With file and row: not UTF-8, an unknown kind of line, a truncated line, a document without abstract, an annotation of
            another document, a span outside of the text, or one whose text is not the mention (spaces at its ends are repaired).
    """
    if path.is_dir():
        raise UserError(
            "folder where a file is needed", str(path), "the pubtator reader takes files", "name the file, or use a reader of folders, as share or brat"
        )
    current: _PubtatorDocument | None = None
    for row, line in lines(path, tally.handled):
        where = f"{path}:{row}"
        if match := _TEXT_LINE.fullmatch(line):
            doc_id, kind, content = match.groups()
            if kind == "t":
                if current:
                    yield _finished(current, path)
                current = _PubtatorDocument(row, doc_id, content)
            elif current is None or current.abstract is not None or doc_id != current.doc_id:
                raise UserError("abstract without title", where, f"document {doc_id}", "each document is a |t| line, then an |a| line")
            else:
                current.abstract = content
            continue
        fields = line.split("\t")
        if current is None or current.abstract is None or fields[0] != current.doc_id:
            raise UserError(
                "line outside of its document",
                where,
                "it is neither title nor abstract, and does not begin with the id of the document above and a tab",
                _FIX,
            )
        if len(fields) in (4, 5) and re.fullmatch(r"[A-Za-z_][\w-]*", fields[1]):
            tally.skip(f"relation {fields[1]}", where)
        elif mention := _annotation(fields, current.text, id_prefix, entity_types, tally, where):
            current.annotations.append(mention)
    if current:
        yield _finished(current, path)


def _annotation(fields: list[str], text: str, id_prefix: str, entity_types: Collection[str], tally: Tally, where: str) -> Annotation | None:
    """The mention of an annotation line; None if its type is not kept."""
    if len(fields) not in (6, 7):
        raise UserError(
            "truncated line" if len(fields) < 6 else "overlong line",
            where,
            f"{len(fields)} columns, not 6 or 7",
            f"{_FIX}; a mention without an id has -1",
        )
    doc_id, start, end, mention, entity_type, concept = fields[:6]
    span = parse_offset(start, where), parse_offset(end, where)
    if not is_kept(entity_type, entity_types):
        tally.skip(f"entity type {entity_type}", where)
        return None
    used, exact = _locate(span, mention, text, where)
    if not exact:
        tally.repairs.append(Repair(doc_id, (span,), (used,), "blanks at the ends differ"))
    if len(fields) == 7:
        tally.handled["lists of individual mentions"] += 1
    return annotation_from_column((used,), entity_type, concept, id_prefix)


def _finished(current: _PubtatorDocument, path: Path) -> Document:
    where = f"{path}:{current.row}"
    if current.abstract is None:
        raise UserError("title without abstract", where, f"document {current.doc_id}", _FIX)
    return Document(current.doc_id, current.text, sorted_annotations(current.annotations), where)


def _locate(span: Span, mention: str, text: str, where: str) -> tuple[Span, bool]:
    """The span, and whether its text equals the mention. If they differ in white space at the ends, the span is trimmed to the text without it."""
    check_span(span, text, where)
    start, end = span
    surface = text[start:end]
    core = surface.strip()
    if not core or core != mention.strip():
        raise UserError("wrong offset", where, f"the text at {start}-{end} is not the mention", "correct the offsets or the text")
    if surface == mention:
        return span, True
    left = start + len(surface) - len(surface.lstrip())
    return (left, left + len(core)), False


_TITLE_END = re.compile(r"(?<=[.?!]) ")


def write(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Write a PubTator file. The text is split into title and abstract at the space after its first sentence, or else at its first space.

    The format cannot represent line ends, discontinuous mentions, tabs in mentions, and a text without a space.
    """
    with writing_lines(out) as handle:
        for published in documents:
            check_id(published, "|", "PubTator")
            document = in_one_piece(with_replaced(published, "[\n\r]", "line ends in a text", losses), losses)
            if any("\t" in a.surface(document.text) for a in document.annotations):
                document = with_replaced(document, "\t", "tabs in a text with a mention that holds one", losses)
            title, abstract = _title_and_abstract(document, losses)
            handle.write(f"{document.doc_id}|t|{title}\n{document.doc_id}|a|{abstract}\n")
            for a in document.annotations:
                [(start, end)] = a.spans
                columns = (
                    document.doc_id,
                    start,
                    end,
                    a.surface(document.text),
                    type_column(a, document, losses),
                    id_column(a, document, losses),
                )
                handle.write("\t".join(map(str, columns)) + "\n")
            handle.write("\n")


def _title_and_abstract(document: Document, losses: Losses) -> tuple[str, str]:
    if match := _TITLE_END.search(document.text):
        return document.text[: match.start()], document.text[match.end() :]
    title, blank, abstract = document.text.partition(" ")
    if not blank:
        losses("texts without a blank: one is added at the end", document)
    return title, abstract


FORMAT = Format("pubtator", stream, write, ".txt")
