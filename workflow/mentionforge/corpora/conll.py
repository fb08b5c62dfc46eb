"""CoNLL files: one token per line with its IOB2 tag, a blank line after each sentence.

Columns are separated by tabs (blanks, in a line without a tab): `token tag`, `token tag ids`, or CoNLL-2003's `token pos chunk tag`. The third of
three columns holds the mention's concept ids on its B line. Tags without a type (`B`, `I`, as in BioBERT's files) are of the type Entity. The format has no offsets, so the text is rebuilt: tokens joined by one blank,
sentences by one line end. `-DOCSTART-` begins a document; `-DOCSTART-<TAB>ID` names it. In a file without, each sentence is a document, FILE.N.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mentionforge.corpora.published import AS_PUBLISHED, Annotation, Document, Options, Tally, all_lines, annotation, in_order, is_kept
from mentionforge.errors import UserError

DOCSTART = "-DOCSTART-"
NO_IDS = ("", "_")
UNTYPED = "Entity"
"""Type of mentions whose tags have none."""

_FIX = "the file may be cut off; fetch it again or correct the line"


@dataclass
class _Open:
    """The document whose lines are being read; `sentence` and `mention` are those that go on."""

    row: int
    doc_id: str
    sentences: list[str] = field(default_factory=list)
    sentence: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    start: int = 0
    length: int = 0
    mention: tuple[str, str, int, int, str] | None = None  # type, ids, start, end, where


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options = AS_PUBLISHED) -> Iterator[Document]:
    """The documents of a CoNLL file one by one.

    Args:
        path: The file, UTF-8; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Mentions of other types are skipped and counted.
        tally: Where to count; an I tag that begins a mention is taken for a B and counted.
        options: Nothing of it concerns this format.

    Raises:
        UserError: With file and row: not UTF-8, a line of no known form, a tag that is not IOB2, a document without tokens before the next,
            or a mention with differing ids.
    """
    if path.is_dir():
        raise UserError("folder where a file is needed", str(path), "the conll reader takes files", "name the file")
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    current: _Open | None = None
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
            current = _Open(row, _name(columns[1:]) or f"{stem}.{number}")
            continue
        if current is None:
            number += 1
            current = _Open(row, f"{stem}.{number}")
        _token(current, columns, where, id_prefix, entity_types, tally)
    if current:
        _end_sentence(current, id_prefix, entity_types, tally)
        yield _finished(current, path)


def _name(columns: list[str]) -> str:
    """The id on a -DOCSTART- line; CoNLL-2003 has columns of -X- and O there instead."""
    if len(columns) != 1 or columns[0].strip() in ("O", "-X-"):
        return ""
    name = columns[0]
    return name[1:-1] if name.startswith("(") and name.endswith(")") else name


def _token(current: _Open, columns: list[str], where: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> None:
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
        opened, had, first, _, at = current.mention
        if ids not in (*NO_IDS, had):
            raise UserError("mention with differing ids", where, "an I line has other ids than its B line", "correct the third column")
        current.mention = opened, had, first, end, at
        return
    _end_mention(current, id_prefix, entity_types, tally)
    if tag == "O":
        if ids not in NO_IDS:
            raise UserError("ids without mention", where, "the tag is O", "correct the line")
        return
    if kind == "I":
        tally.handled["mentions that begin with an I tag"] += 1
    current.mention = entity_type, ids, start, end, where


def _end_mention(current: _Open, id_prefix: str, entity_types: Collection[str], tally: Tally) -> None:
    if current.mention is None:
        return
    entity_type, ids, start, end, where = current.mention
    current.mention = None
    if is_kept(entity_type, entity_types):
        current.annotations.append(annotation(((start, end),), entity_type, "" if ids in NO_IDS else ids, id_prefix))
    else:
        tally.skip(f"entity type {entity_type}", where)


def _end_sentence(current: _Open, id_prefix: str, entity_types: Collection[str], tally: Tally) -> None:
    """A blank line ends mention and sentence; more than one is like one."""
    _end_mention(current, id_prefix, entity_types, tally)
    if current.sentence:
        current.sentences.append(" ".join(current.sentence))
        current.sentence = []
        current.length += 1  # the line end, should another sentence follow


def _finished(current: _Open, path: Path) -> Document:
    return Document(current.doc_id, "\n".join(current.sentences), in_order(current.annotations), f"{path}:{current.row}")
