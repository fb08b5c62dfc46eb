"""CoNLL files: one token per line with its IOB2 tag, and a blank line after each sentence.

Columns, separated by tabs (or by spaces in a line without a tab): `token tag`, `token tag ids`, or `token pos chunk tag` as in CoNLL-2003.
The format has no offsets, so the text is rebuilt: tokens joined by a space, sentences by a line feed. In: such a file. Out: documents, and the reverse.
Knows nothing of splits and knowledge bases.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mentionforge import text as units
from mentionforge.corpora.documents import AS_PUBLISHED, Annotation, Document, ReaderOptions, Tally, annotation_from_column, is_kept, sorted_annotations
from mentionforge.corpora.files import BYTE_ORDER_MARK, all_lines, writing_lines
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.losses import DROPPED, Losses, check_id, id_column, type_column, with_replaced
from mentionforge.errors import UserError
from mentionforge.gold import flatten

DOCSTART = "-DOCSTART-"
NO_IDS = ("", "_")
UNTYPED = "Entity"
"""Type of mentions whose tags have no type."""

_FIX = "the file may be cut off; fetch it again or correct the line"


@dataclass
class _ConllDocument:
    """The document being read, with its unfinished sentence and mention; `start` and `length` count characters."""

    row: int
    doc_id: str
    sentences: list[str] = field(default_factory=list)
    sentence: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    start: int = 0
    length: int = 0
    mention: tuple[str, str, int, int, str] | None = None  # type, ids, start, end, where


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the documents of a CoNLL file.

    With three columns the third holds the concept ids of the mention, on its B line. Tags without a type (`B`, `I`, as in BioBERT's files) have the type
    Entity. `-DOCSTART-` begins a document, and `-DOCSTART-<TAB>ID` names it. In a file without them each sentence is a document, FILE.N.

    Args:
        path: The file, UTF-8; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Mentions of other types are skipped and counted.
        tally: Counts of what is skipped, handled and repaired, updated in place; an I tag that begins a mention counts as handled.
        options: Not used by this format.

    Raises:
        UserError: With file and row: not UTF-8, an unknown kind of line, a tag that is not IOB2, -DOCSTART- after sentences without one, or a
            mention with different ids.
    """
    if path.is_dir():
        raise UserError("folder where a file is needed", str(path), "the conll reader takes files", "name the file")
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    current: _ConllDocument | None = None
    named = False
    number = 0
    for row, line in all_lines(path, tally.handled):
        where = f"{path}:{row}"
        if not line.strip():
            if current:
                _end_sentence(current, id_prefix, entity_types, tally)
                if not named:
                    yield _finished(current, path)
                    current = None
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        if columns[0] == DOCSTART:
            if number and not named:
                raise UserError("document start after sentences", where, "the file begins without one", "begin the file with -DOCSTART-")
            if current:
                _end_sentence(current, id_prefix, entity_types, tally)
                yield _finished(current, path)
            named, number = True, number + 1
            current = _ConllDocument(row, _name(columns[1:]) or f"{stem}.{number}")
            continue
        if current is None:
            number += 1
            current = _ConllDocument(row, f"{stem}.{number}")
        _token(current, columns, where, id_prefix, entity_types, tally)
    if current:
        _end_sentence(current, id_prefix, entity_types, tally)
        yield _finished(current, path)


def _name(columns: list[str]) -> str:
    """The document id on a -DOCSTART- line; empty for the columns -X- and O of CoNLL-2003."""
    if len(columns) != 1 or columns[0].strip() in ("O", "-X-"):
        return ""
    name = columns[0]
    return name[1:-1] if name.startswith("(") and name.endswith(")") else name


def _token(current: _ConllDocument, columns: list[str], where: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> None:
    if len(columns) not in (2, 3, 4):
        raise UserError("truncated line" if len(columns) < 2 else "overlong line", where, f"{len(columns)} columns, not 2, 3 or 4", _FIX)
    token, tag = columns[0], columns[3] if len(columns) == 4 else columns[1]
    ids = columns[2] if len(columns) == 3 else ""
    if tag in ("B", "I"):
        if tag == "B":
            tally.handled[f"mentions whose tags have no type: taken for {UNTYPED}"] += 1
        tag = f"{tag}-{UNTYPED}"
    kind, _, entity_type = tag.partition("-")
    if not token.strip() or " " in token:
        raise UserError("bad token", where, "a token is not blank and has no blank", "correct the line")
    if not (tag == "O" or (kind in ("B", "I") and tag[1:2] == "-")):
        raise UserError("tag that is not IOB2", where, "a tag is O, B-TYPE or I-TYPE, or B and I alone", "convert the tags (of IOBES, IO, …) to IOB2")
    start = current.length + 1 if current.sentence else current.length
    end = start + len(token)
    current.sentence.append(token)
    current.length = end
    if kind == "I" and current.mention and current.mention[0] == entity_type:
        mention_type, mention_ids, first, _, at = current.mention
        if ids not in (*NO_IDS, mention_ids):
            raise UserError("mention with differing ids", where, "an I line has other ids than its B line", "correct the third column")
        current.mention = mention_type, mention_ids, first, end, at
        return
    _end_mention(current, id_prefix, entity_types, tally)
    if tag == "O":
        if ids not in NO_IDS:
            raise UserError("ids without mention", where, "the tag is O", "correct the line")
        return
    if kind == "I":
        tally.handled["mentions that begin with an I tag"] += 1
    current.mention = entity_type, ids, start, end, where


def _end_mention(current: _ConllDocument, id_prefix: str, entity_types: Collection[str], tally: Tally) -> None:
    if current.mention is None:
        return
    entity_type, ids, start, end, where = current.mention
    current.mention = None
    if is_kept(entity_type, entity_types):
        current.annotations.append(annotation_from_column(((start, end),), entity_type, "" if ids in NO_IDS else ids, id_prefix))
    else:
        tally.skip(f"entity type {entity_type}", where)


def _end_sentence(current: _ConllDocument, id_prefix: str, entity_types: Collection[str], tally: Tally) -> None:
    """End the current mention and sentence; repeated blank lines have no effect."""
    _end_mention(current, id_prefix, entity_types, tally)
    if current.sentence:
        current.sentences.append(" ".join(current.sentence))
        current.sentence = []
        current.length += 1  # the line feed before the next sentence


def _finished(current: _ConllDocument, path: Path) -> Document:
    return Document(current.doc_id, "\n".join(current.sentences), sorted_annotations(current.annotations), f"{path}:{current.row}")


def write(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Write one token per line; spaces separate tokens, and line feeds separate sentences.

    The format cannot represent other white space, nor mentions that begin or end inside a token, overlap, are discontinuous, or cross a line end. A
    document with any of them is tokenized into words and punctuation marks: mentions are widened to whole tokens; of overlapping mentions the
    longest is kept, and of a discontinuous mention its longest piece.
    """
    with writing_lines(out) as handle:
        for document in documents:
            check_id(document, "", "CoNLL")
            if document.doc_id in ("O", "-X-") or (document.doc_id.startswith("(") and document.doc_id.endswith(")")):
                raise UserError("bad document id", document.where, f"{document.doc_id!r} cannot stand in a CoNLL file", "rename the document")
            handle.write(f"{DOCSTART}\t{document.doc_id}\n\n")
            exact = _exact(document)
            # At the beginning of a line a reader would take the character for a byte order mark, and drop it.
            held = document if exact else with_replaced(document, BYTE_ORDER_MARK, "byte order marks", losses)
            for line in _tagged(held, *(exact or _tokenized(held, losses)), losses):
                handle.write(line)
            handle.write("\n")


Tokens = list[list[tuple[int, int]]]
"""Character spans of the tokens of each sentence."""


def _exact(document: Document) -> tuple[Tokens, list[tuple[int, int, Annotation]]] | None:
    """Tokens and mentions, if the format can represent them exactly; else None."""
    tokens: Tokens = []
    at = 0
    for sentence in document.text.split("\n") if document.text else ():
        tokens.append([])
        for token in sentence.split(" "):
            if not token.strip() or token == DOCSTART or re.search("[\t\r]", token) or token.startswith(BYTE_ORDER_MARK):
                return None
            tokens[-1].append((at, at + len(token)))
            at += len(token) + 1
    starts = {start: (i, end) for i, sentence in enumerate(tokens) for start, end in sentence}
    ends = {end: i for i, sentence in enumerate(tokens) for _, end in sentence}
    mentions = []
    reached = 0
    for a in document.annotations:
        [(start, end), *more] = a.spans
        if more or start < reached or start not in starts or end not in ends or starts[start][0] != ends[end]:
            return None
        reached = end
        mentions.append((start, end, a))
    return tokens, mentions


def _tokenized(document: Document, losses: Losses) -> tuple[Tokens, list[tuple[int, int, Annotation]]]:
    """Words as tokens, and mentions widened to them; sentences end at line ends outside of mentions."""
    losses("texts or mentions that are not tokens between single blanks: tokenized", document)
    words = units.words(document.text)
    flat = flatten(words, [a.spans for a in document.annotations], "longest")
    for kind, n in (
        ("mentions in pieces: written as their longest piece", flat.counts["discontinuous"]),
        ("mentions widened to whole tokens", flat.counts["widened"]),
        (f"{DROPPED}: they overlap a longer one", flat.counts["dropped_overlap"]),
        (f"{DROPPED}: they hold no word", flat.counts["dropped_empty"]),
    ):
        if n:
            losses(kind, document, n=n)
    mentions = [(words[first][0], words[last - 1][1], document.annotations[i]) for (first, last), i in zip(flat.spans, flat.sources, strict=True)]
    inside = {i for first, last in flat.spans for i in range(first + 1, last)}
    tokens: Tokens = []
    for i, word in enumerate(words):
        if not tokens or (i not in inside and "\n" in document.text[words[i - 1][1] : word[0]]):
            tokens.append([])
        tokens[-1].append(word)
    return tokens, mentions


def _tagged(document: Document, tokens: Tokens, mentions: list[tuple[int, int, Annotation]], losses: Losses) -> Iterator[str]:
    begin = {start: (end, a) for start, end, a in mentions}
    for sentence in tokens:
        until, entity_type = 0, ""
        for start, end in sentence:
            token = document.text[start:end]
            if start in begin:
                until, a = begin[start]
                entity_type = type_column(a, document, losses)
                yield f"{token}\tB-{entity_type}\t{id_column(a, document, losses)}\n"
            else:
                yield f"{token}\tI-{entity_type}\n" if start < until else f"{token}\tO\n"
        yield "\n"


FORMAT = Format("conll", stream, write, ".tsv")
