"""BioC, XML and JSON: documents of passages (and sentences) with annotations whose offsets count from the beginning of the document.

A document's text is that of its passages at their offsets; what lies between two passages is filled with blanks. A mention's concept ids stand in
its infon `identifier` (or `concept_id`), or in infons named after a vocabulary (`MESH`, `OMIM`, …); its type in the infon `type`. Relations are
skipped and counted, as are the individual mentions of a composite one (BC5CDR's `CompositeRole`), which PubTator files do not list either.

An annotation lies inside its passage. Some writers count its offset from the passage's (or sentence's) beginning: a collection in which all
annotations do is read so, and counted; one in which only some do stops, because nobody can tell which ones.

XML is read document by document, and nothing outside of the file: no document type, no external entity; a file that declares entities is refused.
JSON, told by its first character, is a collection, a list of collections or documents, PubTator's `{"PubTator3": […]}`, or a document per line; the
whole file is read into memory. In a message about JSON the row is that of the document's beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge.corpora.published import (
    AS_PUBLISHED,
    BYTE_ORDER_MARK,
    UNREADABLE,
    Annotation,
    Document,
    Options,
    Tally,
    annotation,
    check_pieces,
    check_surface,
    damaged,
    decode,
    in_order,
    is_kept,
    open_binary,
    parse_id,
    parse_offset,
    same_but_for_blanks,
    split_ids,
)
from mentionforge.errors import UserError
from mentionforge.json_objects import TwiceError, unique
from mentionforge.text import Span

ID_KEYS = ("identifier", "concept_id", "concept id")
"""Infons that hold ids with a prefix; the first that is there counts."""

ID_VOCABULARIES = ("MESH", "OMIM", "UMLS", "CUI", "SNOMEDCT_US", "ORPHANET", "DOID", "MONDO", "HPO")
"""Infons that hold ids of the vocabulary they are named after."""

_PARTS = ("document", "passage", "sentence")
PARENTS = {
    "collection": (None,),
    "source": ("collection",),
    "date": ("collection",),
    "key": ("collection",),
    "document": ("collection",),
    "id": ("document",),
    "passage": ("document",),
    "offset": ("passage", "sentence"),
    "text": ("passage", "sentence", "annotation"),
    "sentence": ("passage",),
    "annotation": _PARTS,
    "relation": _PARTS,
    "location": ("annotation",),
    "node": ("relation",),
    "infon": ("collection", *_PARTS, "annotation", "relation"),
}
"""Where each element may stand: one that stands elsewhere would not be read."""

MAX_GAP = 100_000
"""Most characters between two passages; more is a wrong offset."""

COUNTS_FROM_PART = "annotations whose offsets count from their passage"
_FIX = "see the formats in docs/corpora.md"


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: Options = AS_PUBLISHED) -> Iterator[Document]:
    """The documents of a BioC file one by one.

    Args:
        path: The file: XML in any encoding that it declares, or JSON in UTF-8; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Annotations of other types are skipped and counted.
        tally: Where to count.
        options: Nothing of it concerns this format.

    Raises:
        UserError: With file and row: no well-formed XML or JSON, entities, a passage without offset, passages that overlap, an annotation outside of
            its passage, or one whose text is not the mention.
    """
    if path.is_dir():
        raise UserError("folder where a file is needed", str(path), "the bioc reader takes files", "name the file")
    with open_binary(path) as handle:
        try:
            start = handle.read(64).removeprefix(BYTE_ORDER_MARK.encode()).lstrip()
        except UNREADABLE as error:
            raise damaged(path, 1, error) from error
    found = _read_json(path, tally) if start[:1] in (b"{", b"[") else _read_xml(path, tally)
    placing = _Placing()
    for document in found:
        annotations = [_annotation(a, document, id_prefix, entity_types, tally, placing) for a in document.annotations]
        yield Document(document.doc_id, document.text, in_order([a for a in annotations if a]), document.where)


# ------------------------------------------------------------------------------------- what both XML and JSON say of a document


@dataclass(frozen=True)
class _Part:
    """Where a passage or sentence lies in the document's text: where offsets may count from, and what its annotations must lie in."""

    start: int
    passage: Span | None


@dataclass(frozen=True)
class _Marked:
    """An annotation as published: infons by name in lower case, offset and length of its pieces, and its text if it has one."""

    infons: Mapping[str, str]
    locations: tuple[tuple[str, str], ...]
    text: str | None
    part: _Part
    where: str


@dataclass
class _Published:
    """A document as published; `text` grows as its passages come."""

    doc_id: str
    where: str
    text: str = ""
    annotations: list[_Marked] = field(default_factory=list)

    def append(self, offset: str, content: str, where: str, tally: Tally) -> int:
        """Add the text of a passage or sentence at its offset, which is returned."""
        at = parse_offset(offset.strip(), where)
        gap = at - len(self.text)
        if gap < 0:
            raise UserError(
                "passages overlap", where, f"offset {at} after {len(self.text)} characters", "offsets count characters from the document's beginning"
            )
        if gap > MAX_GAP:
            raise UserError("bad offset", where, f"{gap} characters before the passage", "offsets count characters from the document's beginning")
        if gap > 1:
            tally.handled["gaps of more than one character between passages"] += 1
        self.text += " " * gap + content
        return at


@dataclass
class _Placing:
    """What the offsets of a collection's annotations have counted from, as far as those read so far show it."""

    from_document: str = ""
    from_part: str = ""

    def __call__(self, a: _Marked, published: list[Span], text: str, tally: Tally) -> list[Span]:
        """The pieces as offsets into the document.

        Raises:
            UserError: The annotation lies outside of its passage, unless its text stands where its offsets lead from the part's beginning, and no other
                annotation of the collection counts from the document's.
        """
        if a.part.passage is None:
            return published
        low, high = a.part.passage
        inside = all(low <= start < end <= high for start, end in published)
        moved = [(start + a.part.start, end + a.part.start) for start, end in published]
        if a.part.start and inside and not self.from_part and _says(text, published, a.text):
            self.from_document = self.from_document or a.where
            return published
        if a.part.start and a.text is not None and all(low <= start < end <= high for start, end in moved) and _says(text, moved, a.text):
            if self.from_document:
                why = f"it counts from its passage, that in {self.from_document} from the document"
                raise UserError("offsets of two kinds", a.where, why, "make all offsets count from the document's beginning")
            self.from_part = self.from_part or a.where
            tally.handled[COUNTS_FROM_PART] += 1
            return moved
        if not inside and all(start < end <= len(text) for start, end in published):
            at = ",".join(f"{start}-{end}" for start, end in published)
            raise UserError("annotation outside of its passage", a.where, f"{at} is not within {low}-{high}", "offsets count from the document's beginning")
        if a.part.start and self.from_part:
            why = f"it does not count from its passage, as that in {self.from_part} does"
            raise UserError("offsets of two kinds", a.where, why, "make all offsets count from the document's beginning")
        return published


def _says(text: str, spans: list[Span], mention: str | None) -> bool:
    """Whether a mention stands at these pieces; one whose text is not known may."""
    return mention is None or same_but_for_blanks(" ".join(text[start:end] for start, end in spans), mention)


def _annotation(a: _Marked, document: _Published, id_prefix: str, entity_types: Collection[str], tally: Tally, placing: _Placing) -> Annotation | None:
    entity_type = a.infons.get("type", "")
    if a.infons.get("compositerole", "").lower() == "individualmention":
        tally.skip("individual mention of a composite one", a.where)
        return None
    if not is_kept(entity_type, entity_types):
        tally.skip(f"entity type {entity_type}", a.where)
        return None
    found = [(parse_offset(offset, a.where), parse_offset(length, a.where)) for offset, length in a.locations]
    published = placing(a, [(start, start + length) for start, length in found], document.text, tally)
    spans = check_pieces(document.doc_id, published, document.text, a.where, tally)
    if a.text is not None:
        check_surface(document.doc_id, tuple(published), document.text, a.text, a.where, tally)
    ids, read = _ids(a.infons)
    for key in a.infons.keys() - read - {"type", "compositerole"}:
        tally.handled[f"infons {key}: not read"] += 1
    return annotation(spans, entity_type, ids, id_prefix)


def _ids(infons: Mapping[str, str]) -> tuple[str, set[str]]:
    """The concept column (ids joined by |, with prefix where the infon's name is one), and the infons it comes from."""
    found = {key: infons[key] for key in ID_KEYS if key in infons}
    for key, value in found.items():
        if any(parse_id(i, "") for i in split_ids(value)):
            return value, {key}
    parts = []
    read = set(list(found)[:1])
    for vocabulary in ID_VOCABULARIES:
        if value := infons.get(vocabulary.lower(), "").strip():
            read.add(vocabulary.lower())
            parts += [part if ":" in part or not parse_id(part, "") else f"{vocabulary}:{part}" for part in split_ids(value)]
    return "|".join(parts) or next(iter(found.values()), ""), read


def _infon(infons: dict[str, str], key: str, value: str, where: str) -> None:
    key = key.strip()
    if key.lower() in infons:
        raise UserError("infon given twice", where, key, _FIX)
    infons[key.lower()] = value


# ------------------------------------------------------------------------------------------------------------------ XML


def _read_xml(path: Path, tally: Tally) -> Iterator[_Published]:
    from lxml import etree

    row = 1
    with open_binary(path) as handle:
        try:
            # huge_tree=False keeps libxml2's limits on depth and size of a text.
            events = etree.iterparse(
                handle,
                events=("start", "end"),
                resolve_entities=False,
                load_dtd=False,
                no_network=True,
                huge_tree=False,
                remove_comments=True,
                remove_pis=True,
            )
            root = None
            for event, element in events:
                row = element.sourceline
                if root is None:
                    root = element
                    _check_root(root, path)
                if event == "start":
                    _check_place(element, f"{path}:{row}")
                if event == "end" and element.tag == "document":
                    yield _document(element, path, tally)
                    element.clear()
                    while element.getprevious() is not None:
                        del root[0]
        except etree.XMLSyntaxError as error:
            raise UserError(
                "no well-formed XML", f"{path}:{error.lineno or row}", f"libxml2 error {error.code}", "fetch the file again or correct it"
            ) from error
        except UNREADABLE as error:
            raise damaged(path, row, error) from error


def _check_root(root: Any, path: Path) -> None:
    where = f"{path}:{root.sourceline}"
    if root.tag != "collection":
        raise UserError("no BioC collection", where, "the outermost element is not <collection>", _FIX)
    internal = root.getroottree().docinfo.internalDTD
    if internal is not None and internal.entities():
        raise UserError("entities in the document type", where, "they are not resolved, because they can read other files", "write the characters themselves")


def _check_place(element: Any, where: str) -> None:
    parent = element.getparent()
    if element.tag not in PARENTS:
        raise UserError("unknown element", where, f"<{element.tag}>", "BioC has none of that name; correct it")
    if (parent.tag if parent is not None else None) not in PARENTS[element.tag]:
        raise UserError("element out of place", where, f"<{element.tag}> in <{parent.tag}>", "see the formats in docs/corpora.md")


def _document(element: Any, path: Path, tally: Tally) -> _Published:
    from lxml import etree

    where = f"{path}:{element.sourceline}"
    for reference in element.iter(etree.Entity):
        raise UserError("entity in a document", f"{path}:{reference.getparent().sourceline}", "entities are not resolved", "write the characters themselves")
    doc_id = _string(element, "id", where).strip()
    if not doc_id:
        raise UserError("document without id", where, "no <id>", _FIX)
    found = _Published(doc_id, where)
    marked: list[tuple[Any, _Part]] = [(a, _Part(0, None)) for a in element.iterfind("annotation")]
    for passage in element.iterfind("passage"):
        sentences = passage.findall("sentence")
        if sentences and passage.find("text") is not None:
            raise UserError("passage with text twice", f"{path}:{passage.sourceline}", "it has a text and sentences", _FIX)
        starts = {}
        for part in sentences or [passage]:
            at = f"{path}:{part.sourceline}"
            starts[part] = found.append(_string(part, "offset", at), _string(part, "text", at), at, tally)
        span = min(starts.values()), len(found.text)
        starts.setdefault(passage, span[0])
        marked += [(a, _Part(start, span)) for part, start in starts.items() for a in part.iterfind("annotation")]
    for relation in element.iter("relation"):
        kinds = [infon.text for infon in relation.iterfind("infon") if (infon.get("key") or "").lower() in ("type", "relation")]
        tally.skip(f"relation {kinds[0] if kinds else ''}".strip(), f"{path}:{relation.sourceline}")
    found.annotations = [_of_element(a, part, f"{path}:{a.sourceline}") for a, part in marked]
    return found


def _of_element(element: Any, part: _Part, where: str) -> _Marked:
    infons: dict[str, str] = {}
    for infon in element.iterfind("infon"):
        _infon(infons, infon.get("key") or "", infon.text or "", where)
    locations = tuple((location.get("offset") or "", location.get("length") or "") for location in element.iterfind("location"))
    return _Marked(infons, locations, _string(element, "text", where) if element.find("text") is not None else None, part, where)


def _string(element: Any, tag: str, where: str) -> str:
    """The text of the child element `tag`; empty if there is none."""
    found = element.findall(tag)
    if len(found) > 1:
        raise UserError("element given twice", where, f"<{tag}>", _FIX)
    return (found[0].text or "") if found else ""


# ----------------------------------------------------------------------------------------------------------------- JSON


_WRAPPERS = ("documents", "PubTator3")
"""Keys of an object that hold a list of documents."""

_KEYS = {
    "collection": ("source", "date", "key", "infons", "version", *_WRAPPERS),
    "document": ("id", "infons", "passages", "annotations", "relations"),
    "passage": ("offset", "infons", "text", "sentences", "annotations", "relations"),
    "sentence": ("offset", "infons", "text", "annotations", "relations"),
    "annotation": ("id", "infons", "text", "locations"),
}
"""Keys of each object; others are skipped and counted if they hold anything."""


def _read_json(path: Path, tally: Tally) -> Iterator[_Published]:
    text = decode(path)
    walker = _Walker(text, int(text.startswith(BYTE_ORDER_MARK)))
    row, counted, n = 1, 0, 0
    try:
        while not walker.at_end():
            for begun, value in walker.documents(f"{path}:1", tally):
                row, counted, n = row + text.count("\n", counted, begun), begun, n + 1
                yield _of_json(value, f"{path}:{row}", tally)
    except (ValueError, RecursionError) as error:
        at = error.pos if isinstance(error, json.JSONDecodeError) else walker.at
        why = str(error) if isinstance(error, TwiceError) else "it breaks off" if at >= len(text.rstrip()) else type(error).__name__
        where = f"{path}:{text.count(chr(10), 0, at) + 1}"
        raise UserError("no well-formed JSON", where, why, "fetch the file again or correct it") from error
    if not n:
        raise UserError("no BioC collection", f"{path}:1", "it holds no document", _FIX)


class _Walker:
    """Finds the documents in JSON one by one, each with the place where it begins; lists and collections around them are walked through."""

    _BLANK = re.compile("[ \t\r\n]*")

    def __init__(self, text: str, at: int = 0) -> None:
        self.text, self.at = text, at
        self._decoder = json.JSONDecoder(object_pairs_hook=unique)

    def at_end(self) -> bool:
        """Whether nothing but blanks is left."""
        self.at = self._BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.at == len(self.text)

    def _take(self, char: str) -> bool:
        taken = not self.at_end() and self.text[self.at] == char
        self.at += taken
        return taken

    def _want(self, char: str) -> None:
        if not self._take(char):
            raise json.JSONDecodeError(f"no {char}", self.text, self.at)

    def _value(self) -> Any:
        self.at_end()
        value, self.at = self._decoder.raw_decode(self.text, self.at)
        return value

    def documents(self, where: str, tally: Tally) -> Iterator[tuple[int, Any]]:
        """Those of the value that begins here."""
        self.at_end()
        begun = self.at
        if self._take("["):
            more = not self._take("]")
            while more:
                yield from self.documents(where, tally)
                more = not self._take("]")
                if more:
                    self._want(",")
            return
        if not self._take("{"):
            yield begun, self._value()  # an error, which `_of_json` tells
            return
        found: dict[str, Any] = {}
        more = not self._take("}")
        while more:
            key = self._value()
            self._want(":")
            if key in found:
                raise TwiceError("an object has a key twice")
            if key in _WRAPPERS:
                found[key] = None
                yield from self.documents(where, tally)
            else:
                found[key] = self._value()
            more = not self._take("}")
            if more:
                self._want(",")
        if found.keys() & set(_WRAPPERS):
            _count_others(found, "collection", where, tally)
        else:
            yield begun, found


def _of_json(value: Any, where: str, tally: Tally) -> _Published:
    document = _dict(value, "a document", where)
    _count_others(document, "document", where, tally)
    doc_id = _text(document, "id", where).strip()
    if not doc_id:
        raise UserError("document without id", where, "no id", _FIX)
    found = _Published(doc_id, where)
    marked: list[tuple[Any, _Part]] = [(a, _Part(0, None)) for a in _list(document, "annotations", where)]
    relations = _list(document, "relations", where)
    for passage in (_dict(p, "a passage", where) for p in _list(document, "passages", where)):
        _count_others(passage, "passage", where, tally)
        relations += _list(passage, "relations", where)
        sentences = [_dict(s, "a sentence", where) for s in _list(passage, "sentences", where)]
        if sentences and _text(passage, "text", where):
            raise UserError("passage with text twice", where, "it has a text and sentences", _FIX)
        starts = [found.append(_text(part, "offset", where), _text(part, "text", where), where, tally) for part in sentences or [passage]]
        span = min(starts), len(found.text)
        marked += [(a, _Part(span[0], span)) for a in _list(passage, "annotations", where)]
        for part, start in zip(sentences, starts, strict=False):
            _count_others(part, "sentence", where, tally)
            relations += _list(part, "relations", where)
            marked += [(a, _Part(start, span)) for a in _list(part, "annotations", where)]
    for relation in (_dict(r, "a relation", where) for r in relations):
        infons = {key.lower(): value for key, value in _dict(relation.get("infons") or {}, "infons", where).items()}
        tally.skip(f"relation {infons.get('type') or infons.get('relation') or ''}".strip(), where)
    found.annotations = [_of_object(_dict(a, "an annotation", where), part, where, tally) for a, part in marked]
    return found


def _of_object(a: Mapping[str, Any], part: _Part, where: str, tally: Tally) -> _Marked:
    _count_others(a, "annotation", where, tally)
    infons: dict[str, str] = {}
    for key, value in _dict(a.get("infons") or {}, "infons", where).items():
        several = value if isinstance(value, list) else [value]
        _infon(infons, key, "|".join("" if v is None else v if isinstance(v, str) else json.dumps(v) for v in several), where)
    for key, value in infons.items():
        _text({key: value}, key, where)
    pairs = [_dict(location, "a location", where) for location in _list(a, "locations", where)]
    locations = tuple((_text(p, "offset", where), _text(p, "length", where)) for p in pairs)
    return _Marked(infons, locations, _text(a, "text", where) if a.get("text") is not None else None, part, where)


def _count_others(found: Mapping[str, Any], kind: str, where: str, tally: Tally) -> None:
    for key, value in found.items():
        if key not in _KEYS[kind] and value not in (None, "", [], {}):
            tally.skip(f"key of {kind}s: {key}", where)


def _dict(value: Any, what: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError("bad value", where, f"{what} is no object", _FIX)
    return value


def _list(found: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = found.get(key)
    if value is not None and not isinstance(value, list):
        raise UserError("bad value", where, f"{key} is no list", _FIX)
    return list(value or [])


def _text(found: Mapping[str, Any], key: str, where: str) -> str:
    """A text, or a number as text; empty if there is none."""
    value = found.get(key)
    value = str(value) if type(value) is int else "" if value is None else value
    if not isinstance(value, str):
        raise UserError("bad value", where, f"{key} is no text", _FIX)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError("bad value", where, f"{key} holds half of a surrogate pair", "write the character itself, or both halves") from error
    return value
