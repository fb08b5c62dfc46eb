"""BRAT standoff: a folder with NAME.txt and NAME.ann for every document.

`T1<TAB>Type start end;start end<TAB>text` is a mention, `N1<TAB>Reference T1 SOURCE:CODE<TAB>name` its concept; several N lines make it
composite, as do ids joined by `|` or `+`. Relations, events, attributes, modifications, equivalences and notes are skipped and counted by kind.
Texts are kept to the last character, carriage returns included, because offsets count them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from mentionforge.corpora.folders import paired
from mentionforge.corpora.published import Annotation, Document, Tally, annotation, check_pieces, check_surface, in_order, is_kept, lines, parse_offset
from mentionforge.errors import UserError

CONFIGURATION = ("annotation.conf", "visual.conf", "tools.conf", "kb_shortcuts.conf", "README", "README.md", "LICENSE")
"""What may lie beside the documents."""

OTHERS = {"R": "relation", "E": "event", "A": "attribute", "M": "modification", "*": "equivalence", "#": "note"}
_FIX = "the file may be cut off; fetch it again or correct the line"


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Iterator[Document]:
    """The documents of a folder one by one, in the order of their names.

    Args:
        path: The folder; hidden files and BRAT's own settings are left out.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Mentions of other types are skipped and counted.
        tally: Where to count.

    Raises:
        UserError: With file and row: not UTF-8, a text without annotations or the reverse, a line of no known form, a truncated line, an id
            given twice, a concept of no mention, a span outside of the text, or one whose text is not the mention.
    """
    for doc_id, text, text_path, ann_path in paired(path, (".txt",), ".ann", tally, CONFIGURATION):
        yield Document(doc_id, text, _annotations(doc_id, text, ann_path, id_prefix, entity_types, tally), str(text_path))


def _annotations(doc_id: str, text: str, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally) -> tuple[Annotation, ...]:
    mentions: dict[str, tuple[str, list[tuple[int, int]], str, str]] = {}  # T id: type, spans, text, where
    concepts: dict[str, list[str]] = defaultdict(list)
    targets: dict[str, tuple[str, str]] = {}  # N id: T id, where
    for row, line in lines(path, tally.handled):
        where = f"{path}:{row}"
        key, *fields = line.split("\t", 2)
        if other := OTHERS.get(key[:1]):
            if not fields:
                raise UserError("truncated line", where, f"{other} without a tab", _FIX)
            tally.skipped[other] += 1
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
    found = []
    for key, (entity_type, published, mention, where) in mentions.items():
        if not is_kept(entity_type, entity_types):
            tally.skipped[f"entity type {entity_type}"] += 1
            continue
        spans = check_pieces(doc_id, published, text, where, tally)
        check_surface(doc_id, tuple(published), text, mention, where, tally)
        found.append(annotation(spans, entity_type, "|".join(concepts[key]), id_prefix))
    return in_order(found)


def _type_and_spans(column: str, where: str) -> tuple[str, list[tuple[int, int]]]:
    """Type and pieces of `Type start end;start end`."""
    entity_type, _, pieces = column.partition(" ")
    spans = []
    for piece in pieces.split(";"):
        start, _, end = piece.partition(" ")
        spans.append((parse_offset(start, where), parse_offset(end, where)))
    return entity_type, spans
