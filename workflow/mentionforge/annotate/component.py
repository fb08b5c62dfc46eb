"""A spaCy component: entities with the concept as `kb_id_`, in any pipeline.

    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": "my.bundle"})
    for entity in nlp("Huntington disease runs in families.").ents:
        print(entity.text, entity.kb_id_, entity._.mentionforge.concepts)

Entities are widened to whole tokens, and take the place of entities that they overlap; `span._.mentionforge` is the mention as it was found. All of
them are in `doc.spans["mentionforge"]` too. A mention without a concept has an empty `kb_id_`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minibatch

if TYPE_CHECKING:
    from mentionforge.annotate.pipeline import Annotator, Mention

LABEL = "Disease"
KEY = "mentionforge"


class Component:
    """Recognizes and links the diseases of a document."""

    def __init__(self, annotator: Annotator) -> None:
        self.annotator = annotator
        if not Span.has_extension(KEY):
            Span.set_extension(KEY, default=None)

    def __call__(self, doc: Doc) -> Doc:
        """Add entities to a document."""
        [mentions] = self.annotator.annotate([doc.text])
        return self._add(doc, mentions)

    def pipe(self, stream: Iterable[Doc], batch_size: int = 128) -> Iterator[Doc]:
        """Add entities to documents, many at a time."""
        for docs in minibatch(stream, batch_size):
            for doc, mentions in zip(docs, self.annotator.annotate(d.text for d in docs), strict=True):
                yield self._add(doc, mentions)

    def to_disk(self, path: str | Path, exclude: Sequence[str] = ()) -> None:
        """Nothing is saved with the pipeline but the component's configuration, which names the bundle."""

    def from_disk(self, path: str | Path, exclude: Sequence[str] = ()) -> Component:
        """The bundle is loaded when the component is made."""
        return self

    def _add(self, doc: Doc, mentions: Sequence[Mention]) -> Doc:
        spans = []
        for m in mentions:
            span = doc.char_span(m.start, m.end, label=LABEL, kb_id=m.concept.cui if m.concept else "", alignment_mode="expand")
            if span is not None:
                span._.set(KEY, m)
                spans.append(span)
        doc.spans[KEY] = spans
        taken = {i for span in spans for i in range(span.start, span.end)}
        others = [e for e in doc.ents if taken.isdisjoint(range(e.start, e.end))]
        doc.ents = filter_spans([*spans, *others])  # two mentions within one token: the first stays
        return doc


@Language.factory(
    "mentionforge",
    default_config={"bundle": None, "licensed_text": False, "top": 5, "nil_threshold": None, "context": False},
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
)
def make(nlp: Language, name: str, bundle: str, licensed_text: bool, top: int, nil_threshold: float | None, context: bool) -> Any:
    """The component, from a bundle."""
    from mentionforge.annotate.bundle import read
    from mentionforge.annotate.context import Context
    from mentionforge.annotate.pipeline import Annotator

    return Component(Annotator(read(Path(bundle), licensed_text), top, nil_threshold, Context() if context else None))
