"""BRAT standoff: a folder with NAME.txt and NAME.ann for every document.

`T1<TAB>Type start end;start end<TAB>text` is a mention, `N1<TAB>Reference T1 SOURCE:CODE<TAB>name` its concept; several N lines make it
composite, as do ids joined by `|` or `+`. A mention without N lines may have its ids in a note, `#1<TAB>AnnotatorNotes T1<TAB>C0011849`, as in
QUAERO, Mantra and CANTEMIST (`Options.note_ids`). Relations, events, attributes, modifications, equivalences and other notes are skipped and
counted by kind. BRAT marks a mention over a line end in pieces with nothing but the line end between them: those are one piece.
Texts are kept to the last character, carriage returns included, because offsets count them. BRAT itself may have counted CRLF as one character:
where the marked texts say so, the text policy `crlf_to_lf` reads the note that way, and any other one stops.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from mentionforge.corpora.concept_ids import FORMS, looks_like_id, parse_ids, split_ids
from mentionforge.corpora.documents import AS_PUBLISHED, Document, Options, Tally, annotation, in_order, is_kept
from mentionforge.corpora.files import BYTE_ORDER_MARK, lines, renamed_when_whole
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.folders import COUNTS_CARRIAGE_RETURNS, COUNTS_LINE_FEEDS, counts_line_feeds, paired
from mentionforge.corpora.formats.losses import DROPPED, TWICE, Losses, check_id, id_column, with_replaced
from mentionforge.corpora.spans import check_pieces, check_surface, joined_at_line_ends, parse_offset, same_but_for_blanks, without_line_ends
from mentionforge.errors import UserError

CONFIGURATION = ("annotation.conf", "visual.conf", "tools.conf", "kb_shortcuts.conf", "README", "README.md", "LICENSE")
"""What may lie beside the documents."""

OTHERS = {"R": "relation", "E": "event", "A": "attribute", "M": "modification", "*": "equivalence", "#": "note"}
READ_NOTES = "notes read as concept ids"
OTHER_NOTES = "notes that look like concept ids, but not of id_prefix: not read (see id_prefix and note_ids)"
_FIX = "the file may be cut off; fetch it again or correct the line"


Marked = tuple[str, list[tuple[int, int]], str, str]
"""Type, pieces, text and place of a T line."""


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options = AS_PUBLISHED) -> Iterator[Document]:
    """The documents of a folder one by one, in the order of their names.

    Args:
        path: The folder; hidden files and BRAT's own settings are left out.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Mentions of other types are skipped and counted.
        tally: Where to count.
        options: `text` and `note_ids` are looked at.

    Raises:
        UserError: With file and row: not UTF-8, a text without annotations or the reverse, a line of no known form, a truncated line, an id
            given twice, a concept of no mention, a span outside of the text, one whose text is not the mention, or offsets that count CRLF as one
            character without the text policy for it.
    """
    for doc_id, text, text_path, ann_path in paired(path, (".txt",), ".ann", tally, CONFIGURATION):
        yield _document(doc_id, text, text_path, ann_path, id_prefix, entity_types, tally, options)


def _document(doc_id: str, text: str, text_path: Path, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options) -> Document:
    mentions: dict[str, Marked] = {}  # by T id
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
    text = _counted_text(text, mentions, options, tally)
    found = []
    for key, (entity_type, published, mention, where) in mentions.items():
        if not is_kept(entity_type, entity_types):
            tally.skip(f"entity type {entity_type}", where)
            continue
        pieces = check_pieces(doc_id, published, text, where, tally)
        check_surface(doc_id, tuple(published), text, mention, where, tally)
        spans = joined_at_line_ends(pieces, text)
        if len(spans) < len(pieces):
            tally.handled["mentions over a line end, marked in pieces: joined"] += 1
        found.append(annotation(spans, entity_type, "|".join(concepts[key]), id_prefix))
    return Document(doc_id, text, in_order(found), str(text_path))


def _read_notes(
    notes: list[tuple[str, str, str]], mentions: dict[str, Marked], concepts: dict[str, list[str]], id_prefix: str, options: Options, tally: Tally
) -> None:
    """Add the ids that notes hold to the concepts of mentions without N lines; other notes are skipped and counted."""
    referenced = set(concepts)
    for target, content, where in notes:
        ids = parse_ids(content, id_prefix)
        known = all(not i or looks_like_id(i) for i in ids)
        wanted = options.note_ids == "all" or (options.note_ids == "auto" and known and any(ids))
        if target in mentions and target not in referenced and wanted:
            concepts[target].append(content)
            tally.handled[READ_NOTES] += 1
            continue
        tally.skip(OTHERS["#"], where)
        if target in mentions and target not in referenced and options.note_ids == "auto" and all(map(_looks_like_some_id, split_ids(content))):
            tally.handled[OTHER_NOTES] += 1


def _looks_like_some_id(code: str) -> bool:
    return any(form.fullmatch(code.strip().upper()) for form in FORMS.values())


def _counted_text(text: str, mentions: dict[str, Marked], options: Options, tally: Tally) -> str:
    """The text that the offsets count: as it is, or with the other kind of line ends, if that alone makes all marked texts right."""
    if "\n" not in text:
        return text
    wrong = [where for _, spans, mention, where in mentions.values() if not _is_marked(text, spans, mention)]
    shorter = "\r\n" in text
    counted = text.replace("\r\n", "\n") if shorter else text.replace("\n", "\r\n")
    if not wrong or not all(_is_marked(counted, spans, mention) for _, spans, mention, _ in mentions.values()):
        return text
    if options.text != "crlf_to_lf":
        raise counts_line_feeds(wrong[0], shorter)
    tally.handled[COUNTS_LINE_FEEDS if shorter else COUNTS_CARRIAGE_RETURNS] += 1
    return counted


def _is_marked(text: str, spans: list[tuple[int, int]], mention: str) -> bool:
    return all(start < end <= len(text) for start, end in spans) and same_but_for_blanks(mention, " ".join(text[start:end] for start, end in spans))


def _type_and_spans(column: str, where: str) -> tuple[str, list[tuple[int, int]]]:
    """Type and pieces of `Type start end;start end`."""
    entity_type, _, pieces = column.partition(" ")
    spans = []
    for piece in pieces.split(";"):
        start, _, end = piece.partition(" ")
        spans.append((parse_offset(start, where), parse_offset(end, where)))
    return entity_type, spans


def write(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """A folder with NAME.txt and NAME.ann for every document; a mention has an N line for each id.

    BRAT takes no marked text with a line end in it: a mention over a line end is written in pieces, and its text is theirs, joined by one blank.

    It cannot hold a document twice, blanks in types, a type that is empty, a text that begins with a byte order mark, a mention that begins or ends
    with a line end, and one in pieces with nothing but a line end between them, which is a mention over a line end.
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
                losses(TWICE, published)
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
