"""Parse BioC XML, document by document.

In: a file. Out: `BiocDocument`s. Reads nothing outside of the file: no DTD, no external entities. A file that declares entities is refused, and so
is an element in a place where it would be ignored. Knows nothing of ids and types, and does not check offsets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentionforge.corpora.documents import Tally
from mentionforge.corpora.files import UNREADABLE, damaged, open_binary
from mentionforge.corpora.formats.bioc_documents import FIX, BiocAnnotation, BiocDocument, BiocPassage, add_infon
from mentionforge.errors import UserError

_TEXT_ELEMENTS = ("document", "passage", "sentence")

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
    "annotation": _TEXT_ELEMENTS,
    "relation": _TEXT_ELEMENTS,
    "location": ("annotation",),
    "node": ("relation",),
    "infon": ("collection", *_TEXT_ELEMENTS, "annotation", "relation"),
}
"""Allowed parents of each element; elsewhere it would be ignored, so it is an error."""


def read_xml(path: Path, tally: Tally) -> Iterator[BiocDocument]:
    """Yield the documents of a BioC XML file."""
    from lxml import etree

    row = 1
    with open_binary(path) as handle:
        try:
            # huge_tree=False keeps the limits of libxml2 on depth and text size.
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
                    yield _bioc_document(element, path, tally)
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
        raise UserError("no BioC collection", where, "the outermost element is not <collection>", FIX)
    internal = root.getroottree().docinfo.internalDTD
    if internal is not None and internal.entities():
        raise UserError("entities in the document type", where, "they are not resolved, because they can read other files", "write the characters themselves")


def _check_place(element: Any, where: str) -> None:
    parent = element.getparent()
    if element.tag not in PARENTS:
        raise UserError("unknown element", where, f"<{element.tag}>", "BioC has none of that name; correct it")
    if (parent.tag if parent is not None else None) not in PARENTS[element.tag]:
        raise UserError("element out of place", where, f"<{element.tag}> in <{parent.tag}>", "see the formats in docs/corpora.md")


def _bioc_document(element: Any, path: Path, tally: Tally) -> BiocDocument:
    from lxml import etree

    where = f"{path}:{element.sourceline}"
    for reference in element.iter(etree.Entity):
        raise UserError("entity in a document", f"{path}:{reference.getparent().sourceline}", "entities are not resolved", "write the characters themselves")
    doc_id = _string(element, "id", where).strip()
    if not doc_id:
        raise UserError("document without id", where, "no <id>", FIX)
    bioc_document = BiocDocument(doc_id, where)
    elements: list[tuple[Any, BiocPassage]] = [(a, BiocPassage(0, None)) for a in element.iterfind("annotation")]
    for passage in element.iterfind("passage"):
        sentences = passage.findall("sentence")
        if sentences and passage.find("text") is not None:
            raise UserError("passage with text twice", f"{path}:{passage.sourceline}", "it has a text and sentences", FIX)
        starts = {}
        for block in sentences or [passage]:
            at = f"{path}:{block.sourceline}"
            starts[block] = bioc_document.append(_string(block, "offset", at), _string(block, "text", at), at, tally)
        span = min(starts.values()), len(bioc_document.text)
        starts.setdefault(passage, span[0])
        elements += [(a, BiocPassage(start, span)) for block, start in starts.items() for a in block.iterfind("annotation")]
    for relation in element.iter("relation"):
        kinds = [infon.text for infon in relation.iterfind("infon") if (infon.get("key") or "").lower() in ("type", "relation")]
        tally.skip(f"relation {kinds[0] if kinds else ''}".strip(), f"{path}:{relation.sourceline}")
    bioc_document.annotations = [_bioc_annotation(a, place, f"{path}:{a.sourceline}") for a, place in elements]
    return bioc_document


def _bioc_annotation(element: Any, passage: BiocPassage, where: str) -> BiocAnnotation:
    infons: dict[str, str] = {}
    for infon in element.iterfind("infon"):
        add_infon(infons, infon.get("key") or "", infon.text or "", where)
    locations = tuple((location.get("offset") or "", location.get("length") or "") for location in element.iterfind("location"))
    return BiocAnnotation(infons, locations, _string(element, "text", where) if element.find("text") is not None else None, passage, where)


def _string(element: Any, tag: str, where: str) -> str:
    """The text of the child element `tag`; empty if there is no such element."""
    children = element.findall(tag)
    if len(children) > 1:
        raise UserError("element given twice", where, f"<{tag}>", FIX)
    return (children[0].text or "") if children else ""
