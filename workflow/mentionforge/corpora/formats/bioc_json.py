"""Parse BioC JSON: a collection, a list of collections or documents, PubTator's `{"PubTator3": […]}`, or one document per line.

In: a file, read whole into memory. Out: `BiocDocument`s. Messages name the row where the document begins.
Knows nothing of ids and types, and does not check offsets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mentionforge.corpora.documents import Tally
from mentionforge.corpora.files import BYTE_ORDER_MARK, decode
from mentionforge.corpora.formats.bioc_documents import FIX, BiocAnnotation, BiocDocument, BiocPassage, add_infon
from mentionforge.errors import UserError
from mentionforge.json_objects import TwiceError, unique

_WRAPPERS = ("documents", "PubTator3")
"""Keys of an object that hold a list of documents."""

_KEYS = {
    "collection": ("source", "date", "key", "infons", "version", *_WRAPPERS),
    "document": ("id", "infons", "passages", "annotations", "relations"),
    "passage": ("offset", "infons", "text", "sentences", "annotations", "relations"),
    "sentence": ("offset", "infons", "text", "annotations", "relations"),
    "annotation": ("id", "infons", "text", "locations"),
}
"""Keys of each object; other keys are skipped, and counted unless their value is empty."""


def read_json(path: Path, tally: Tally) -> Iterator[BiocDocument]:
    """Yield the documents of a BioC JSON file."""
    text = decode(path)
    walker = _Walker(text, int(text.startswith(BYTE_ORDER_MARK)))
    row, counted_to, n = 1, 0, 0
    try:
        while not walker.at_end():
            for start, value in walker.documents(f"{path}:1", tally):
                row, counted_to, n = row + text.count("\n", counted_to, start), start, n + 1
                yield _bioc_document(value, f"{path}:{row}", tally)
    except (ValueError, RecursionError) as error:
        at = error.pos if isinstance(error, json.JSONDecodeError) else walker.at
        why = str(error) if isinstance(error, TwiceError) else "it breaks off" if at >= len(text.rstrip()) else type(error).__name__
        where = f"{path}:{text.count(chr(10), 0, at) + 1}"
        raise UserError("no well-formed JSON", where, why, "fetch the file again or correct it") from error
    if not n:
        raise UserError("no BioC collection", f"{path}:1", "it holds no document", FIX)


class _Walker:
    """Incremental JSON parser that yields documents with their start offset, and descends into the lists and collections around them."""

    _BLANK = re.compile("[ \t\r\n]*")

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at
        self._decoder = json.JSONDecoder(object_pairs_hook=unique)

    def at_end(self) -> bool:
        """Skip white space; return whether the text ends there."""
        self.at = self._BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.at == len(self.text)

    def _take(self, char: str) -> bool:
        taken = not self.at_end() and self.text[self.at] == char
        self.at += taken
        return taken

    def _expect(self, char: str) -> None:
        if not self._take(char):
            raise json.JSONDecodeError(f"no {char}", self.text, self.at)

    def _value(self) -> Any:
        self.at_end()
        value, self.at = self._decoder.raw_decode(self.text, self.at)
        return value

    def documents(self, where: str, tally: Tally) -> Iterator[tuple[int, Any]]:
        """Yield (start offset, object) of the documents in the value that begins at the current position."""
        self.at_end()
        start = self.at
        if self._take("["):
            more = not self._take("]")
            while more:
                yield from self.documents(where, tally)
                more = not self._take("]")
                if more:
                    self._expect(",")
            return
        if not self._take("{"):
            yield start, self._value()  # not an object: `_bioc_document` raises the error
            return
        members: dict[str, Any] = {}
        more = not self._take("}")
        while more:
            key = self._value()
            self._expect(":")
            if key in members:
                raise TwiceError("an object has a key twice")
            if key in _WRAPPERS:
                members[key] = None
                yield from self.documents(where, tally)
            else:
                members[key] = self._value()
            more = not self._take("}")
            if more:
                self._expect(",")
        if members.keys() & set(_WRAPPERS):
            _count_others(members, "collection", where, tally)
        else:
            yield start, members


def _bioc_document(value: Any, where: str, tally: Tally) -> BiocDocument:
    document = _dict(value, "a document", where)
    _count_others(document, "document", where, tally)
    doc_id = _text(document, "id", where).strip()
    if not doc_id:
        raise UserError("document without id", where, "no id", FIX)
    bioc_document = BiocDocument(doc_id, where)
    raw_annotations: list[tuple[Any, BiocPassage]] = [(a, BiocPassage(0, None)) for a in _list(document, "annotations", where)]
    relations = _list(document, "relations", where)
    for passage in (_dict(p, "a passage", where) for p in _list(document, "passages", where)):
        _count_others(passage, "passage", where, tally)
        relations += _list(passage, "relations", where)
        sentences = [_dict(s, "a sentence", where) for s in _list(passage, "sentences", where)]
        if sentences and _text(passage, "text", where):
            raise UserError("passage with text twice", where, "it has a text and sentences", FIX)
        starts = [bioc_document.append(_text(block, "offset", where), _text(block, "text", where), where, tally) for block in sentences or [passage]]
        span = min(starts), len(bioc_document.text)
        raw_annotations += [(a, BiocPassage(span[0], span)) for a in _list(passage, "annotations", where)]
        for sentence, start in zip(sentences, starts, strict=False):
            _count_others(sentence, "sentence", where, tally)
            relations += _list(sentence, "relations", where)
            raw_annotations += [(a, BiocPassage(start, span)) for a in _list(sentence, "annotations", where)]
    for relation in (_dict(r, "a relation", where) for r in relations):
        infons = {key.lower(): value for key, value in _dict(relation.get("infons") or {}, "infons", where).items()}
        tally.skip(f"relation {infons.get('type') or infons.get('relation') or ''}".strip(), where)
    bioc_document.annotations = [_bioc_annotation(_dict(a, "an annotation", where), place, where, tally) for a, place in raw_annotations]
    return bioc_document


def _bioc_annotation(a: Mapping[str, Any], passage: BiocPassage, where: str, tally: Tally) -> BiocAnnotation:
    _count_others(a, "annotation", where, tally)
    infons: dict[str, str] = {}
    for key, value in _dict(a.get("infons") or {}, "infons", where).items():
        values = value if isinstance(value, list) else [value]
        add_infon(infons, key, "|".join("" if v is None else v if isinstance(v, str) else json.dumps(v) for v in values), where)
    for key, value in infons.items():
        _text({key: value}, key, where)
    pairs = [_dict(location, "a location", where) for location in _list(a, "locations", where)]
    locations = tuple((_text(p, "offset", where), _text(p, "length", where)) for p in pairs)
    return BiocAnnotation(infons, locations, _text(a, "text", where) if a.get("text") is not None else None, passage, where)


def _count_others(members: Mapping[str, Any], kind: str, where: str, tally: Tally) -> None:
    for key, value in members.items():
        if key not in _KEYS[kind] and value not in (None, "", [], {}):
            tally.skip(f"key of {kind}s: {key}", where)


def _dict(value: Any, description: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError("bad value", where, f"{description} is no object", FIX)
    return value


def _list(members: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = members.get(key)
    if value is not None and not isinstance(value, list):
        raise UserError("bad value", where, f"{key} is no list", FIX)
    return list(value or [])


def _text(members: Mapping[str, Any], key: str, where: str) -> str:
    """The string of a key, or its integer as a string; empty if the key is missing."""
    value = members.get(key)
    value = str(value) if type(value) is int else "" if value is None else value
    if not isinstance(value, str):
        raise UserError("bad value", where, f"{key} is no text", FIX)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError("bad value", where, f"{key} holds half of a surrogate pair", "write the character itself, or both halves") from error
    return value
