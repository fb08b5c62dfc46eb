"""BRAT standoff: a folder with NAME.txt and NAME.ann for every document.

`T1<TAB>Type start end;start end<TAB>text` is a mention, `N1<TAB>Reference T1 SOURCE:CODE<TAB>name` its concept.
The format: https://brat.nlplab.org/standoff.html. In: such a folder. Out: documents, and the reverse. Knows nothing of splits and knowledge bases.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from mentionforge.corpora.concept_ids import FORMS, looks_like_id, parse_ids, split_ids
from mentionforge.corpora.documents import AS_PUBLISHED, Document, ReaderOptions, Tally, annotation_from_column, is_kept, sorted_annotations
from mentionforge.corpora.files import BYTE_ORDER_MARK, lines, renamed_when_whole
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.folders import COUNTS_CARRIAGE_RETURNS, COUNTS_LINE_FEEDS, counts_line_feeds, note_pairs
from mentionforge.corpora.formats.losses import DROPPED, DUPLICATE_DOCUMENTS, Losses, check_id, id_column, with_replaced
from mentionforge.corpora.spans import check_pieces, check_surface, joined_at_line_ends, parse_offset, same_but_for_blanks, without_line_ends
from mentionforge.errors import UserError

CONFIGURATION = ("annotation.conf", "visual.conf", "tools.conf", "kb_shortcuts.conf", "README", "README.md", "LICENSE")
"""Files allowed beside the documents."""

OTHERS = {"R": "relation", "E": "event", "A": "attribute", "M": "modification", "*": "equivalence", "#": "note"}
READ_NOTES = "notes read as concept ids"
OTHER_NOTES = "notes that look like concept ids, but not of id_prefix: not read (see id_prefix and note_ids)"
_FIX = "the file may be cut off; fetch it again or correct the line"


TextBound = tuple[str, list[tuple[int, int]], str, str]
"""Type, spans, text and place of a text-bound annotation (T line)."""


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the documents of a folder, in the order of their names.

    Several N lines make a mention composite, as do ids joined by `|` or `+`. A mention without N lines may have its ids in a note,
    `#1<TAB>AnnotatorNotes T1<TAB>C0011849`, as in QUAERO, Mantra and CANTEMIST (`ReaderOptions.note_ids`). Relations, events, attributes,
    modifications, equivalences and other notes are skipped and counted by kind. BRAT splits a mention at a line end; such pieces are joined.
    Texts keep their carriage returns, because offsets count them. If the marked texts show that offsets count CRLF as one character, the text
    policy `crlf_to_lf` reads the document that way; any other policy fails.

    Args:
        path: The folder; hidden files and BRAT's configuration files are ignored.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Mentions of other types are skipped and counted.
        tally: Counts of what is skipped, handled and repaired; updated in place.
        options: `text` and `note_ids` are used.

    Raises:
        UserError: With file and row: not UTF-8, a text without annotations or the reverse, a line of no known form, a truncated line, an id
            given twice, a concept of no mention, a span outside of the text, one whose text is not the mention, or offsets that count CRLF as one
            character without the text policy for it.
    """
    for doc_id, text, text_path, ann_path in note_pairs(path, (".txt",), ".ann", tally, CONFIGURATION):
        yield _document(doc_id, text, text_path, ann_path, id_prefix, entity_types, tally, options)


def _document(
    doc_id: str, text: str, text_path: Path, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions
) -> Document:
    mentions: dict[str, TextBound] = {}  # by T id
    concepts: dict[str, list[str]] = defaultdict(list)
    targets: dict[str, tuple[str, str]] = {}  # N id: T id, where
    notes: list[tuple[str, str, str]] = []  # T id, content, where
    for row, line in lines(path, tally.handled):
        where = f"{path}:{row}"
        key, *fields = line.split("\t", 2)
        if other := OTHERS.get(key[:1]):
            if not fields:
                raise UserError("truncated line", where, f"{other} without a tab", _FIX)
            kind, _, target = fields[0].partition(" ")
            if other == "note" and kind == "AnnotatorNotes" and len(fields) == 2:
                notes.append((target, fields[1], where))
            else:
                tally.skip(other, where)
        elif re.fullmatch(r"T\S+", key):
            if len(fields) != 2:
                raise UserError("truncated line", where, f"{len(fields) + 1} columns, not 3", _FIX)
            if key in mentions:
                raise UserError("id given twice", where, key, "correct the first column")
            mentions[key] = (*_type_and_spans(fields[0], where), fields[1], where)
        elif re.fullmatch(r"N\S+", key):
            reference = fields[0].split(" ", 2) if fields else []
            if len(reference) != 3 or reference[0] != "Reference" or ":" not in reference[2]:
                raise UserError("bad normalization", where, "its second column is not `Reference ID SOURCE:CODE`", _FIX)
            if key in targets:
                raise UserError("id given twice", where, key, "correct the first column")
            targets[key] = reference[1], where
            concepts[reference[1]].append(reference[2])
        else:
            raise UserError("line of no known kind", where, "it begins with none of T N R E A M * #, an id, and a tab", _FIX)
    for target, where in targets.values():
        if target not in mentions:
            raise UserError("concept of no mention", where, f"{target} is not in the file", _FIX)
    _read_notes(notes, mentions, concepts, id_prefix, options, tally)
    text = _text_of_offsets(text, mentions, options, tally)
    annotations = []
    for key, (entity_type, published, mention, where) in mentions.items():
        if not is_kept(entity_type, entity_types):
            tally.skip(f"entity type {entity_type}", where)
            continue
        pieces = check_pieces(doc_id, published, text, where, tally)
        check_surface(doc_id, tuple(published), text, mention, where, tally)
        spans = joined_at_line_ends(pieces, text)
        if len(spans) < len(pieces):
            tally.handled["mentions over a line end, marked in pieces: joined"] += 1
        annotations.append(annotation_from_column(spans, entity_type, "|".join(concepts[key]), id_prefix))
    return Document(doc_id, text, sorted_annotations(annotations), str(text_path))


def _read_notes(
    notes: list[tuple[str, str, str]], mentions: dict[str, TextBound], concepts: dict[str, list[str]], id_prefix: str, options: ReaderOptions, tally: Tally
) -> None:
    """Add the ids in notes to the concepts of mentions without N lines; other notes are skipped and counted."""
    referenced = set(concepts)
    for target, content, where in notes:
        ids = parse_ids(content, id_prefix)
        all_known_forms = all(not i or looks_like_id(i) for i in ids)
        holds_ids = options.note_ids == "all" or (options.note_ids == "auto" and all_known_forms and any(ids))
        if target in mentions and target not in referenced and holds_ids:
            concepts[target].append(content)
            tally.handled[READ_NOTES] += 1
            continue
        tally.skip(OTHERS["#"], where)
        if target in mentions and target not in referenced and options.note_ids == "auto" and all(map(_looks_like_some_id, split_ids(content))):
            tally.handled[OTHER_NOTES] += 1


def _looks_like_some_id(code: str) -> bool:
    return any(form.fullmatch(code.strip().upper()) for form in FORMS.values())


def _text_of_offsets(text: str, mentions: dict[str, TextBound], options: ReaderOptions, tally: Tally) -> str:
    """The text to which the offsets refer: as it is, or with the other kind of line ends if only then all marked texts match."""
    if "\n" not in text:
        return text
    wrong = [where for _, spans, mention, where in mentions.values() if not _all_match(text, spans, mention)]
    shorter = "\r\n" in text
    counted = text.replace("\r\n", "\n") if shorter else text.replace("\n", "\r\n")
    if not wrong or not all(_all_match(counted, spans, mention) for _, spans, mention, _ in mentions.values()):
        return text
    if options.text != "crlf_to_lf":
        raise counts_line_feeds(wrong[0], shorter)
    tally.handled[COUNTS_LINE_FEEDS if shorter else COUNTS_CARRIAGE_RETURNS] += 1
    return counted


def _all_match(text: str, spans: list[tuple[int, int]], mention: str) -> bool:
    return all(start < end <= len(text) for start, end in spans) and same_but_for_blanks(mention, " ".join(text[start:end] for start, end in spans))


def _type_and_spans(column: str, where: str) -> tuple[str, list[tuple[int, int]]]:
    """Parse `Type start end;start end` into type and spans."""
    entity_type, _, pieces = column.partition(" ")
    spans = []
    for piece in pieces.split(";"):
        start, _, end = piece.partition(" ")
        spans.append((parse_offset(start, where), parse_offset(end, where)))
    return entity_type, spans


def write(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Write a folder with NAME.txt and NAME.ann for every document; a mention has one N line per id.

    BRAT allows no line end in a marked text: a mention across a line end is written in pieces, and its text is that of the pieces, joined by a space.

    The format cannot represent two documents with the same id, an empty type or one with spaces, a byte order mark at the beginning of a text, a mention
    that begins or ends with a line end, and pieces with only a line end between them (they are read as one).
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("folder not empty", str(out), "documents of two runs would mix", "name another folder")
    with renamed_when_whole(out) as temporary:
        temporary.mkdir()
        for published in documents:
            check_id(published, "/\\\0", "BRAT")
            if published.doc_id.startswith(".") or len(published.doc_id.encode()) > 200:
                raise UserError("bad document id", published.where, f"{published.doc_id!r} cannot be a file's name", "rename the document")
            path = temporary / f"{published.doc_id}.txt"
            if path.exists():
                losses(DUPLICATE_DOCUMENTS, published)
                losses(f"{DROPPED}: of documents given twice", published, n=len(published.annotations))
                continue
            document = with_replaced(published, f"\\A{BYTE_ORDER_MARK}", "byte order marks", losses)
            path.write_text(document.text, encoding="utf-8", newline="")
            path.with_name(f"{document.doc_id}.ann").write_text("".join(_ann(document, losses)), encoding="utf-8", newline="")
        if out.exists():
            out.rmdir()


def _ann(document: Document, losses: Losses) -> Iterator[str]:
    concepts = 0
    for i, a in enumerate(document.annotations, start=1):
        entity_type = a.entity_type
        if not re.fullmatch(r"[^\s\ufeff]+", entity_type):
            losses("entity types that are empty or have blanks: replaced by _", document)
            entity_type = re.sub(r"[\s\ufeff]", "_", entity_type) or "_"
        spans = without_line_ends(a.spans, document.text)
        if joined_at_line_ends(spans, document.text) != a.spans:
            losses("mentions that begin or end with a line end, or have nothing else between pieces: written as the words show them", document)
        pieces = ";".join(f"{start} {end}" for start, end in spans)
        surface = " ".join(document.text[start:end] for start, end in spans)
        yield f"T{i}\t{entity_type} {pieces}\t{surface}\n"
        for concept_id in id_column(a, document, losses).split("|") if a.ids != ("",) or a.composite else ():
            concepts += 1
            reference = concept_id if ":" in concept_id else f"NONE:{concept_id}"
            yield f"N{concepts}\tReference T{i} {reference}\t{surface}\n"


FORMAT = Format("brat", stream, write)
