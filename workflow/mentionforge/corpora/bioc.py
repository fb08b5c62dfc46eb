"""BioC XML: documents of passages (and sentences) with annotations whose offsets count from the beginning of the document.

A document's text is that of its passages at their offsets; what lies between two passages is filled with blanks. A mention's concept ids stand in
its infon `identifier` (or `concept_id`), or in infons named after a vocabulary (`MESH`, `OMIM`, …); its type in the infon `type`. Relations are
skipped and counted, as are the individual mentions of a composite one (BC5CDR's `CompositeRole`), which PubTator files do not list either.
Nothing outside of the file is read: no document type, no external entity; a file that declares entities is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mentionforge.corpora.published import (
    UNREADABLE,
    Annotation,
    Document,
    Tally,
    annotation,
    check_pieces,
    check_surface,
    damaged,
    in_order,
    is_kept,
    open_binary,
    parse_offset,
)
from mentionforge.errors import UserError

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

_FIX = "see the formats in docs/corpora.md"


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Iterator[Document]:
    """The documents of a BioC XML file one by one.

    Args:
        path: The file, in any encoding that it declares; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Annotations of other types are skipped and counted.
        tally: Where to count.

    Raises:
        UserError: With file and row: no well-formed XML, entities, a passage without offset, passages that overlap, a span outside of the text,
            or one whose text is not the mention.
    """
    from lxml import etree

    if path.is_dir():
        raise UserError("folder where a file is needed", str(path), "the bioc reader takes files", "name the file")
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
                    yield _document(element, path, id_prefix, entity_types, tally)
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


def _document(element: Any, path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Document:
    from lxml import etree

    where = f"{path}:{element.sourceline}"
    for reference in element.iter(etree.Entity):
        raise UserError("entity in a document", f"{path}:{reference.getparent().sourceline}", "entities are not resolved", "write the characters themselves")
    doc_id = _string(element, "id", where).strip()
    if not doc_id:
        raise UserError("document without id", where, "no <id>", _FIX)
    text = ""
    for passage in element.iterfind("passage"):
        sentences = passage.findall("sentence")
        if sentences and passage.find("text") is not None:
            raise UserError("passage with text twice", f"{path}:{passage.sourceline}", "it has a text and sentences", _FIX)
        for part in sentences or [passage]:
            text = _append(text, part, f"{path}:{part.sourceline}", tally)
    for relation in element.iter("relation"):
        kinds = [infon.text for infon in relation.iterfind("infon") if (infon.get("key") or "").lower() in ("type", "relation")]
        tally.skipped[f"relation {kinds[0] if kinds else ''}".strip()] += 1
    found = [_annotation(a, f"{path}:{a.sourceline}", doc_id, text, id_prefix, entity_types, tally) for a in element.iter("annotation")]
    return Document(doc_id, text, in_order([a for a in found if a]), where)


def _append(text: str, part: Any, where: str, tally: Tally) -> str:
    """The text with that of a passage or sentence at its offset."""
    content = _string(part, "text", where)
    offset = parse_offset(_string(part, "offset", where).strip(), where)
    gap = offset - len(text)
    if gap < 0:
        raise UserError("passages overlap", where, f"offset {offset} after {len(text)} characters", "offsets count characters from the document's beginning")
    if gap > MAX_GAP:
        raise UserError("bad offset", where, f"{gap} characters before the passage", "offsets count characters from the document's beginning")
    if gap > 1:
        tally.handled["gaps of more than one character between passages"] += 1
    return text + " " * gap + content


def _annotation(element: Any, where: str, doc_id: str, text: str, id_prefix: str, entity_types: Collection[str], tally: Tally) -> Annotation | None:
    infons: dict[str, str] = {}
    for infon in element.iterfind("infon"):
        key = (infon.get("key") or "").strip()
        if key.lower() in infons:
            raise UserError("infon given twice", where, key, _FIX)
        infons[key.lower()] = infon.text or ""
    entity_type = infons.get("type", "")
    if infons.get("compositerole", "").lower() == "individualmention":
        tally.skipped["individual mention of a composite one"] += 1
        return None
    if not is_kept(entity_type, entity_types):
        tally.skipped[f"entity type {entity_type}"] += 1
        return None
    published = []
    for location in element.iterfind("location"):
        start, length = (parse_offset(location.get(key) or "", where) for key in ("offset", "length"))
        published.append((start, start + length))
    spans = check_pieces(doc_id, published, text, where, tally)
    if element.find("text") is not None:
        check_surface(doc_id, tuple(published), text, _string(element, "text", where), where, tally)
    ids, read = _ids(infons)
    for key in infons.keys() - read - {"type", "compositerole"}:
        tally.handled[f"infons {key}: not read"] += 1
    return annotation(spans, entity_type, ids, id_prefix)


def _ids(infons: dict[str, str]) -> tuple[str, set[str]]:
    """The concept column (ids joined by |, with prefix where the infon's name is one), and the infons it comes from."""
    for key in ID_KEYS:
        if key in infons:
            return infons[key], {key}
    parts = []
    read = set()
    for vocabulary in ID_VOCABULARIES:
        if value := infons.get(vocabulary.lower(), "").strip():
            read.add(vocabulary.lower())
            parts += [part if ":" in part else f"{vocabulary}:{part.strip()}" for part in value.replace("+", "|").split("|")]
    return "|".join(parts), read


def _string(element: Any, tag: str, where: str) -> str:
    """The text of the child element `tag`; empty if there is none."""
    found = element.findall(tag)
    if len(found) > 1:
        raise UserError("element given twice", where, f"<{tag}>", "see the formats in docs/corpora.md")
    return (found[0].text or "") if found else ""
