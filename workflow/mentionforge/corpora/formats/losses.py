"""Content that a format cannot represent: an error, or an approximation that is counted by kind.

In: documents of any reader. Out: documents, columns and ids that fit into a line of a file. Knows nothing of any one format.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mentionforge.corpora.concept_ids import VOCABULARIES, parse_ids
from mentionforge.corpora.documents import Annotation, Document, sorted_annotations
from mentionforge.corpora.files import BYTE_ORDER_MARK
from mentionforge.errors import UserError

Policy = Literal["error", "count"]

DROPPED = "mentions left out"

DUPLICATE_DOCUMENTS = "documents given twice"


@dataclass
class Losses:
    """Counts content that a format cannot represent. The policy `error` fails; `count` counts, and the writer writes the nearest equivalent."""

    policy: Policy = "error"
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, kind: str, document: Document, fix: str = "write another format, or set --losses count", n: int = 1) -> None:
        """Count `n` losses of a kind.

        Raises:
            UserError: The policy is `error`.
        """
        if self.policy == "error":
            raise UserError("format cannot hold this", document.where, f"document {document.doc_id}: {kind}", fix)
        self.counts[kind] += n


@dataclass(frozen=True)
class WriteReport:
    """Numbers of documents and mentions written, and losses by kind."""

    documents: int
    mentions: int
    losses: Mapping[str, int]

    def __str__(self) -> str:
        """The report as one line of text."""
        lost = "; ".join(f"{kind}: {n:,}" for kind, n in sorted(self.losses.items()))
        return f"{self.documents:,} documents, {self.mentions:,} mentions" + (f"; {lost}" if lost else "")


_WRITTEN_AS = {source: prefix for prefix, source in VOCABULARIES.items()}


def written_ids(annotation: Annotation) -> str:
    """The ids of a mention as a column that `concept_ids.parse_ids` can read."""
    return "|".join(map(_written_id, repeated_ids(annotation)))


def repeated_ids(annotation: Annotation) -> tuple[str, ...]:
    """The ids of a mention; a composite mention with one distinct id has it twice."""
    return annotation.ids * 2 if annotation.composite and len(annotation.ids) == 1 else annotation.ids


def _written_id(concept_id: str) -> str:
    if not concept_id:
        return "-1"
    vocabulary, _, code = concept_id.partition(":")
    return f"{_WRITTEN_AS.get(vocabulary, vocabulary)}:{code}"


def id_column(annotation: Annotation, document: Document, losses: Losses) -> str:
    """The ids of a mention as a column; an id that cannot be in it (with `|`, `+`, `,`, `;` or a tab) becomes -1 and counts as a loss."""
    ids = repeated_ids(annotation)
    fits = [parse_ids(_written_id(i), "") == (i,) and fits_column(i) for i in ids]
    if all(fits):
        return written_ids(annotation)
    losses("ids that a column cannot hold: left out", document, n=fits.count(False))
    return "|".join(_written_id(i) if ok else "-1" for i, ok in zip(ids, fits, strict=True))


def fits_column(value: str) -> bool:
    """Whether a value can be a column: no tab, no line end, no byte order mark at its beginning."""
    return not re.search("[\t\n\r]", value) and not value.startswith(BYTE_ORDER_MARK)


def type_column(annotation: Annotation, document: Document, losses: Losses) -> str:
    """The entity type as a column, with spaces for tabs and line ends."""
    if fits_column(annotation.entity_type):
        return annotation.entity_type
    losses("entity types with tabs or line ends: replaced by blanks", document)
    return re.sub(f"[\t\n\r{BYTE_ORDER_MARK}]", " ", annotation.entity_type)


def check_id(document: Document, forbidden: str, form: str) -> None:
    """Raise a UserError if the document id cannot be a column, or has one of the forbidden characters."""
    if not document.doc_id or document.doc_id != document.doc_id.strip() or not fits_column(document.doc_id) or set(forbidden) & set(document.doc_id):
        raise UserError("bad document id", document.where, f"{document.doc_id!r} cannot stand in a {form} file", "rename the document")


def with_replaced(document: Document, pattern: str, kind: str, losses: Losses, by: str = " ") -> Document:
    """Replace each character that matches a pattern by another character, so that offsets stay valid; replacements are counted as losses."""
    text, n = re.subn(pattern, by, document.text)
    if not n:
        return document
    losses(f"{kind}: replaced", document, n=n)
    changed = replace(document, text=text)
    kept = [a for a in document.annotations if all(text[start:end].strip() for start, end in a.spans)]
    if len(kept) < len(document.annotations):
        losses(f"{DROPPED}: nothing but {kind}", document, n=len(document.annotations) - len(kept))
    return replace(changed, annotations=tuple(kept))


def in_one_piece(document: Document, losses: Losses) -> Document:
    """Replace discontinuous mentions by the span from their first to their last character."""
    if n := sum(len(a.spans) > 1 for a in document.annotations):
        losses("mentions in pieces: written as the stretch around them", document, n=n)
    return replace(document, annotations=sorted_annotations([replace(a, spans=((a.spans[0][0], a.spans[-1][1]),)) for a in document.annotations]))
