"""BioC, XML and JSON: documents of passages (and sentences) with annotations whose offsets count from the beginning of the document.

A document's text is that of its passages at their offsets; what lies between two passages is filled with blanks. A mention's concept ids stand in
its infon `identifier` (or `concept_id`), or in infons named after a vocabulary (`MESH`, `OMIM`, …); its type in the infon `type`. Relations are
skipped and counted, as are the individual mentions of a composite one (BC5CDR's `CompositeRole`), which PubTator files do not list either.

An annotation lies inside its passage. Some writers count its offset from the passage's (or sentence's) beginning: a collection in which all
annotations do is read so, and counted; one in which only some do stops, because nobody can tell which ones.

JSON is told by its first character; `bioc_xml` and `bioc_json` find the documents. Written is XML, one passage per document.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge.corpora.concept_ids import parse_id, split_ids
from mentionforge.corpora.documents import AS_PUBLISHED, Annotation, Document, Options, Tally, annotation, in_order, is_kept
from mentionforge.corpora.files import BYTE_ORDER_MARK, UNREADABLE, damaged, open_binary, writing_bytes
from mentionforge.corpora.formats.bioc_documents import BiocAnnotation, BiocDocument
from mentionforge.corpora.formats.bioc_json import read_json
from mentionforge.corpora.formats.bioc_xml import read_xml
from mentionforge.corpora.formats.contract import Format
from mentionforge.corpora.formats.losses import Losses, check_id, id_column, with_replaced
from mentionforge.corpora.spans import check_pieces, check_surface, parse_offset, same_but_for_blanks
from mentionforge.errors import UserError
from mentionforge.text import Span

ID_KEYS = ("identifier", "concept_id", "concept id")
"""Infons that hold ids with a prefix; the first that is there counts."""

ID_VOCABULARIES = ("MESH", "OMIM", "UMLS", "CUI", "SNOMEDCT_US", "ORPHANET", "DOID", "MONDO", "HPO")
"""Infons that hold ids of the vocabulary they are named after."""

COUNTS_FROM_PART = "annotations whose offsets count from their passage"


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
    found = read_json(path, tally) if start[:1] in (b"{", b"[") else read_xml(path, tally)
    placing = _Placing()
    for document in found:
        annotations = [_annotation(a, document, id_prefix, entity_types, tally, placing) for a in document.annotations]
        yield Document(document.doc_id, document.text, in_order([a for a in annotations if a]), document.where)


@dataclass
class _Placing:
    """What the offsets of a collection's annotations have counted from, as far as those read so far show it."""

    from_document: str = ""
    from_part: str = ""

    def __call__(self, a: BiocAnnotation, published: list[Span], text: str, tally: Tally) -> list[Span]:
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


def _annotation(a: BiocAnnotation, document: BiocDocument, id_prefix: str, entity_types: Collection[str], tally: Tally, placing: _Placing) -> Annotation | None:
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


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """A collection whose documents have one passage each; ids stand in the infon `identifier`.

    It cannot hold control characters, which XML does not allow.
    """
    import bioc
    from bioc.biocxml.encoder import BioCXMLDocumentWriter

    with writing_bytes(out) as handle:
        # lxml knows the encoding by this name; "utf8", the library's default, would stand in the declaration.
        writer = BioCXMLDocumentWriter(handle, encoding="UTF-8")
        try:
            collection = bioc.BioCCollection()
            collection.source, collection.date, collection.key = "mentionforge", "", "docs/corpora.md"
            writer.write_collection_info(collection)
            for document in documents:
                writer.write_document(_bioc_document(document, losses))
        finally:
            writer.close()


def _bioc_document(published: Document, losses: Losses) -> Any:
    import bioc

    check_id(published, "", "BioC XML")
    if _NOT_XML.search(published.doc_id):
        raise UserError("bad document id", published.where, f"{published.doc_id!r} cannot stand in XML", "rename the document")
    document = with_replaced(published, _NOT_XML.pattern, "characters that XML does not allow", losses, "\ufffd")
    written = bioc.BioCDocument()
    written.id = document.doc_id
    passage = bioc.BioCPassage()
    passage.offset, passage.text = 0, document.text
    for i, a in enumerate(document.annotations):
        passage.add_annotation(_bioc_annotation(i, a, document, losses))
    written.add_passage(passage)
    return written


def _bioc_annotation(number: int, a: Annotation, document: Document, losses: Losses) -> Any:
    import bioc

    annotation = bioc.BioCAnnotation()
    annotation.id, annotation.text = str(number), a.surface(document.text)
    entity_type, identifier = a.entity_type, id_column(a, document, losses)
    if _NOT_XML.search(entity_type + identifier):
        losses("types or ids with characters that XML does not allow: replaced", document)
        entity_type, identifier = (_NOT_XML.sub("\ufffd", value) for value in (entity_type, identifier))
    annotation.infons = {"type": entity_type, "identifier": identifier}
    for start, end in a.spans:
        annotation.add_location(bioc.BioCLocation(start, end - start))
    return annotation


FORMAT = Format("bioc", stream, write, ".xml")
