"""BioC XML and JSON: read both, write XML.

In: a file; `bioc_xml` and `bioc_json` parse its passages, sentences and annotations. Out: documents whose text is that of the passages at their
offsets, with spaces between them. The format: https://bioc.sourceforge.net/. Knows nothing of XML elements and JSON keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge.corpora.concept_ids import parse_id, split_ids
from mentionforge.corpora.documents import AS_PUBLISHED, Annotation, Document, ReaderOptions, Tally, annotation_from_column, is_kept, sorted_annotations
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
"""Infons that hold ids with a prefix; the first one with an id is used."""

ID_VOCABULARIES = ("MESH", "OMIM", "UMLS", "CUI", "SNOMEDCT_US", "ORPHANET", "DOID", "MONDO", "HPO")
"""Infons that hold ids of the vocabulary that they are named after."""

COUNTS_FROM_PASSAGE = "annotations whose offsets count from their passage"


def stream(path: Path, id_prefix: str, entity_types: Collection[str], tally: Tally, options: ReaderOptions = AS_PUBLISHED) -> Iterator[Document]:
    """Yield the documents of a BioC file.

    The ids of a mention are in its infon `identifier` (or `concept_id`), or in infons named after a vocabulary (`MESH`, `OMIM`, …); its type is in the
    infon `type`. Relations are skipped and counted, as are the individual mentions of a composite mention (`CompositeRole` in BC5CDR), which
    PubTator files do not list either. The first character tells JSON from XML.

    Args:
        path: The file: XML in any encoding that it declares, or JSON in UTF-8; may be .gz.
        id_prefix: Vocabulary of ids without a prefix.
        entity_types: Types kept; empty: all. Annotations of other types are skipped and counted.
        tally: Counts of what is skipped, handled and repaired; updated in place.
        options: Not used by this format.

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
    bioc_documents = read_json(path, tally) if start[:1] in (b"{", b"[") else read_xml(path, tally)
    origin = _OffsetOrigin()
    for document in bioc_documents:
        annotations = [_annotation(a, document, id_prefix, entity_types, tally, origin) for a in document.annotations]
        yield Document(document.doc_id, document.text, sorted_annotations([a for a in annotations if a]), document.where)


@dataclass
class _OffsetOrigin:
    """Infers whether the offsets of a collection count from the beginning of the document or, as some writers do, of the passage or sentence.

    A collection must count all offsets in the same way; otherwise reading fails, because the origin of the other offsets is unknown.

    Attributes:
        from_document: Place of the first annotation whose offsets must count from the document; empty: none yet.
        from_passage: Place of the first annotation whose offsets must count from its passage or sentence; empty: none yet.
    """

    from_document: str = ""
    from_passage: str = ""

    def __call__(self, a: BiocAnnotation, published: list[Span], text: str, tally: Tally) -> list[Span]:
        """The spans of an annotation as offsets into the document.

        Raises:
            UserError: The annotation lies outside of its passage by both ways of counting, or it counts in another way than an earlier annotation.
        """
        if a.passage.span is None:
            return published
        low, high = a.passage.span
        inside = all(low <= start < end <= high for start, end in published)
        moved = [(start + a.passage.start, end + a.passage.start) for start, end in published]
        if a.passage.start and inside and not self.from_passage and _text_matches(text, published, a.text):
            self.from_document = self.from_document or a.where
            return published
        if a.passage.start and a.text is not None and all(low <= start < end <= high for start, end in moved) and _text_matches(text, moved, a.text):
            if self.from_document:
                why = f"it counts from its passage, that in {self.from_document} from the document"
                raise UserError("offsets of two kinds", a.where, why, "make all offsets count from the document's beginning")
            self.from_passage = self.from_passage or a.where
            tally.handled[COUNTS_FROM_PASSAGE] += 1
            return moved
        if not inside and all(start < end <= len(text) for start, end in published):
            at = ",".join(f"{start}-{end}" for start, end in published)
            raise UserError("annotation outside of its passage", a.where, f"{at} is not within {low}-{high}", "offsets count from the document's beginning")
        if a.passage.start and self.from_passage:
            why = f"it does not count from its passage, as that in {self.from_passage} does"
            raise UserError("offsets of two kinds", a.where, why, "make all offsets count from the document's beginning")
        return published


def _text_matches(text: str, spans: list[Span], mention: str | None) -> bool:
    """Whether the text at the spans is the mention; true if the mention's text is unknown."""
    return mention is None or same_but_for_blanks(" ".join(text[start:end] for start, end in spans), mention)


def _annotation(
    a: BiocAnnotation, document: BiocDocument, id_prefix: str, entity_types: Collection[str], tally: Tally, origin: _OffsetOrigin
) -> Annotation | None:
    entity_type = a.infons.get("type", "")
    if a.infons.get("compositerole", "").lower() == "individualmention":
        tally.skip("individual mention of a composite one", a.where)
        return None
    if not is_kept(entity_type, entity_types):
        tally.skip(f"entity type {entity_type}", a.where)
        return None
    locations = [(parse_offset(offset, a.where), parse_offset(length, a.where)) for offset, length in a.locations]
    published = origin(a, [(start, start + length) for start, length in locations], document.text, tally)
    spans = check_pieces(document.doc_id, published, document.text, a.where, tally)
    if a.text is not None:
        check_surface(document.doc_id, tuple(published), document.text, a.text, a.where, tally)
    ids, read = _ids(a.infons)
    for key in a.infons.keys() - read - {"type", "compositerole"}:
        tally.handled[f"infons {key}: not read"] += 1
    return annotation_from_column(spans, entity_type, ids, id_prefix)


def _ids(infons: Mapping[str, str]) -> tuple[str, set[str]]:
    """The ids joined by |, with a prefix where the name of their infon is a vocabulary; and the infons that they come from."""
    values = {key: infons[key] for key in ID_KEYS if key in infons}
    for key, value in values.items():
        if any(parse_id(i, "") for i in split_ids(value)):
            return value, {key}
    ids = []
    keys = set(list(values)[:1])
    for vocabulary in ID_VOCABULARIES:
        if value := infons.get(vocabulary.lower(), "").strip():
            keys.add(vocabulary.lower())
            ids += [part if ":" in part or not parse_id(part, "") else f"{vocabulary}:{part}" for part in split_ids(value)]
    return "|".join(ids) or next(iter(values.values()), ""), keys


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(documents: Iterable[Document], out: Path, losses: Losses) -> None:
    """Write a BioC XML collection with one passage per document; ids are in the infon `identifier`.

    The format cannot represent control characters that XML forbids.
    """
    import bioc
    from bioc.biocxml.encoder import BioCXMLDocumentWriter

    with writing_bytes(out) as handle:
        # The library's default, "utf8", would be written into the XML declaration, and lxml does not know that name.
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
    encoded = bioc.BioCDocument()
    encoded.id = document.doc_id
    passage = bioc.BioCPassage()
    passage.offset, passage.text = 0, document.text
    for i, a in enumerate(document.annotations):
        passage.add_annotation(_bioc_annotation(i, a, document, losses))
    encoded.add_passage(passage)
    return encoded


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
