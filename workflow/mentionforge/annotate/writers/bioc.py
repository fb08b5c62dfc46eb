"""The format `bioc`: BioC XML, a passage per document.

In: annotated documents. Out: files of this format. Knows nothing of models.
Characters that XML does not allow are replaced and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mentionforge.annotate.writers.contract import ENTITY_TYPE, AnnotationFormat, Losses, Record, codes_as_text, renamed_when_complete

_REPLACED = "characters that XML does not allow: replaced"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class BioCAnnotations(AnnotationFormat):
    """Spans, concepts, codes, scores, flags and candidates, as infons."""

    name = "bioc"
    output = "annotations.bioc.xml"

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write one document with one passage per record."""
        import bioc
        from bioc.biocxml.encoder import BioCXMLDocumentWriter

        losses: dict[str, int] = {}
        with renamed_when_complete(out) as temporary, open(temporary, "wb") as handle:
            writer = BioCXMLDocumentWriter(handle, encoding="UTF-8")
            collection = bioc.BioCCollection()
            collection.source, collection.date, collection.key = "mentionforge", "", "docs/annotate.md"
            writer.write_collection_info(collection)
            for r in records:
                text, n = _NOT_XML.subn("\ufffd", r["text"])
                if n:
                    losses[_REPLACED] = losses.get(_REPLACED, 0) + n
                document, passage = bioc.BioCDocument(), bioc.BioCPassage()
                document.id = _NOT_XML.sub("\ufffd", r["doc_id"])
                passage.offset, passage.text = 0, text
                for i, m in enumerate(r["mentions"]):
                    passage.add_annotation(_bioc_annotation(bioc, i, m, text))
                document.add_passage(passage)
                writer.write_document(document)
            writer.close()
        return losses


def _bioc_annotation(bioc: Any, number: int, m: Record, text: str) -> Any:
    annotation = bioc.BioCAnnotation()
    [span] = m["spans"]
    annotation.id, annotation.text = str(number), text[span["start"] : span["end"]]
    infons: dict[str, str | None] = {
        "type": ENTITY_TYPE,
        "identifier": "|".join(i.replace("CUI:", "UMLS:") for i in m["concept_ids"]) or "-1",
        "score": f"{m['score']:.4f}",
    }
    infons |= {"name": m["name"], "semantic_types": ",".join(m["semantic_types"]), "expanded": m["expanded"], "context": ",".join(m["context"])}
    infons |= {"ambiguous": "true" if m["ambiguous"] else None, "codes": codes_as_text(m)}
    infons |= {"candidates": " | ".join(f"{c['cui']} {c['name']} {c['score']:.4f}" for c in m["concepts"][1:])}
    annotation.infons = {key: _NOT_XML.sub("\ufffd", value) for key, value in infons.items() if value}
    annotation.add_location(bioc.BioCLocation(span["start"], span["end"] - span["start"]))
    return annotation
