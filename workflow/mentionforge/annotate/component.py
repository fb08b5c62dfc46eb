"""A spaCy component: entities with the concept as `kb_id_`, in any pipeline.

    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": "my.bundle"})
    for entity in nlp("Huntington disease runs in families.").ents:
        print(entity.text, entity.kb_id_, entity._.mentionforge.concepts)

Entities are widened to whole tokens, and take the place of entities that they overlap; `span._.mentionforge` is the mention as it was found. All of
them are in `doc.spans["mentionforge"]` too. A mention without a concept has an empty `kb_id_`.

What a document holds is plain data, so that it can be sent to other processes and saved with its user data; a process that only reads saved
documents imports this module to have `span._.mentionforge`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minibatch

from mentionforge.errors import UserError

if TYPE_CHECKING:
    from mentionforge.annotate.pipeline import Annotator, Mention

LABEL = "Disease"
KEY = "mentionforge"
DATA = "mentionforge_data"
WHERE = "bundle.json"
"""File of a saved pipeline that says where its bundle is, seen from the pipeline's folder."""


def _mention(span: Span) -> Mention | None:
    """The mention of a span, from the data in its document."""
    from mentionforge.annotate.pipeline import Concept, Mention

    data: Mapping[str, Any] | None = span._.get(DATA)
    if data is None:
        return None
    concepts = tuple(Concept(c["cui"], c["name"], tuple(c["semantic_types"]), c["score"]) for c in data["concepts"])
    return Mention(**{**data, "concepts": concepts, "context": tuple(data["context"])})


def _data(mention: Mention) -> dict[str, Any]:
    """A mention as data that documents are saved with."""
    concepts = [{**asdict(c), "semantic_types": list(c.semantic_types), "score": float(c.score)} for c in mention.concepts]
    return {**asdict(mention), "score": float(mention.score), "concepts": concepts, "context": list(mention.context)}


if not Span.has_extension(KEY):
    Span.set_extension(DATA, default=None)
    Span.set_extension(KEY, getter=_mention)


class Component:
    """Recognizes and links the diseases of a document.

    Args:
        annotator: Recognizer and linker; or none, if the bundle is not where it is said to be.
        bundle: Path of the bundle, as configured.
        load: Makes the annotator from a bundle.
    """

    def __init__(self, annotator: Annotator | None, bundle: Path | None = None, load: Callable[[Path], Annotator] | None = None) -> None:
        self._annotator, self.bundle, self._load = annotator, bundle, load
        self._place = None if bundle is None else bundle.absolute()
        self._looked = [str(self._place)]

    @property
    def annotator(self) -> Annotator:
        """Recognizer and linker.

        Raises:
            UserError: The bundle has not been found.
        """
        if self._annotator is None:
            raise UserError("no bundle", str(self.bundle), f"looked at {', '.join(self._looked)}", "put it there, or load with config={...bundle...}")
        return self._annotator

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
        """Save where the bundle is, seen from the pipeline's folder; the bundle itself is not saved."""
        if self._place is not None:
            folder = Path(path)
            folder.mkdir(parents=True, exist_ok=True)
            place = Path(os.path.relpath(self._place.resolve(), folder.parent.resolve())).as_posix()
            (folder / WHERE).write_text(json.dumps({"bundle": place}) + "\n", encoding="utf-8")

    def from_disk(self, path: str | Path, exclude: Sequence[str] = ()) -> Component:
        """Find the bundle, if it is not where the configuration says: as it lay to the pipeline's folder, in that folder, or beside it.

        Raises:
            UserError: It is at none of these places; they are named.
        """
        if self._annotator is not None or self.bundle is None or self._load is None:
            return self
        home = Path(path).parent.absolute()
        places = [home / self.bundle, home / self.bundle.name, home.parent / self.bundle.name]
        if (Path(path) / WHERE).is_file():
            try:
                places.insert(0, home / str(json.loads((Path(path) / WHERE).read_text(encoding="utf-8"))["bundle"]))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError("broken pipeline", str(Path(path) / WHERE), "it does not say where the bundle is", "save the pipeline again") from error
        for place in dict.fromkeys(Path(os.path.normpath(p)) for p in places):
            self._looked.append(str(place))
            if place.exists():
                self._place, self._annotator = place, self._load(place)
                return self
        self._looked = list(dict.fromkeys(self._looked))
        _ = self.annotator
        return self

    def _add(self, doc: Doc, mentions: Sequence[Mention]) -> Doc:
        spans = []
        for m in mentions:
            span = doc.char_span(m.start, m.end, label=LABEL, kb_id=m.concept.cui if m.concept else "", alignment_mode="expand")
            if span is not None:
                if span._.get(DATA) is None:
                    span._.set(DATA, _data(m))
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
    """The component, from a bundle; a saved pipeline may find its bundle elsewhere when it is loaded."""
    from mentionforge.annotate.bundle import read
    from mentionforge.annotate.context import Context
    from mentionforge.annotate.pipeline import Annotator

    def load(path: Path) -> Annotator:
        return Annotator(read(path, licensed_text), top, nil_threshold, Context() if context else None)

    place = Path(bundle)
    return Component(load(place) if place.exists() else None, place, load)
