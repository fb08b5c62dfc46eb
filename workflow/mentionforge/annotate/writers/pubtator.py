"""The format `pubtator`: PubTator text, by the writer of corpora.

In: annotated documents. Out: files of this format. Knows nothing of models.
Ids of documents lose what the format does not allow. Losses are counted, as in `corpora convert`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mentionforge.annotate.writers.contract import ENTITY_TYPE, AnnotationFormat, Losses, Record, codes_of
from mentionforge.corpora.documents import Document, annotation_from_ids
from mentionforge.corpora.formats import registry
from mentionforge.provenance import digest

_NO_CODES = "codes, for which the format has no place: left out"


class PubTatorAnnotations(AnnotationFormat):
    """Spans and concepts; no scores, contexts and further candidates. Codes are counted as lost."""

    name = "pubtator"
    output = "annotations.pubtator.txt"

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write title, abstract and mentions of each document."""
        lost: dict[str, int] = {}
        losses = registry.write(_documents(records, lost), "pubtator", out, "count").losses
        return {**losses, **lost}


def _documents(records: Iterable[Record], lost: dict[str, int]) -> Iterator[Document]:
    for r in records:
        if n := sum(len(codes_of(m)) for m in r["mentions"]):
            lost[_NO_CODES] = lost.get(_NO_CODES, 0) + n
        annotations = tuple(annotation_from_ids([(m["spans"][0]["start"], m["spans"][0]["end"])], ENTITY_TYPE, m["concept_ids"]) for m in r["mentions"])
        yield Document(_plain_id(r["doc_id"], "|"), r["text"], annotations, r["source"])


def _plain_id(doc_id: str, forbidden: str) -> str:
    """An id with white space and forbidden characters replaced by _; a digest keeps changed ids unique."""
    plain = re.sub(rf"[\s\ufeff{re.escape(forbidden)}]+", "_", doc_id)
    return plain if plain == doc_id else f"{plain}-{digest(doc_id)[:6]}"
