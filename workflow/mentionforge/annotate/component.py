"""A spaCy pipeline component that adds disease entities, with their concept as `kb_id_`.

    nlp.add_pipe("mentionforge", config={"bundle": "my.bundle"})
    for entity in nlp("Huntington disease runs in families.").ents: print(entity.text, entity.kb_id_, entity._.mentionforge.concepts)

In: a `Doc`. Out: the same with entities, `doc.spans["mentionforge"]` and `span._.mentionforge`. Knows nothing of results folders.
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
    from mentionforge.annotate.codes import ConceptCode
    from mentionforge.annotate.pipeline import AnnotatedMention, Annotator

LABEL = "Disease"
KEY = "mentionforge"
DATA = "mentionforge_data"
BUNDLE_FILE = "bundle.json"
"""File of a saved pipeline with the path of its bundle, relative to the folder of the pipeline."""


def _mention(span: Span) -> AnnotatedMention | None:
    """The mention of a span, from the data in its document."""
    from mentionforge.annotate.pipeline import AnnotatedMention, LinkedConcept

    data: Mapping[str, Any] | None = span._.get(DATA)
    if data is None:
        return None
    concepts = tuple(LinkedConcept(c["cui"], c["name"], tuple(c["semantic_types"]), c["score"], _codes(c.get("codes"))) for c in data["concepts"])
    return AnnotatedMention(**{**data, "concepts": concepts, "context": tuple(data["context"])})


def _codes(rows: Sequence[Mapping[str, Any]] | None) -> tuple[ConceptCode, ...] | None:
    from mentionforge.annotate.codes import ConceptCode

    return None if rows is None else tuple(ConceptCode(**row) for row in rows)


def _data(mention: AnnotatedMention) -> dict[str, Any]:
    """A mention as plain data, which spaCy can serialize with the document."""
    concepts = [
        {**asdict(c), "semantic_types": list(c.semantic_types), "score": float(c.score), "codes": None if c.codes is None else list(map(asdict, c.codes))}
        for c in mention.concepts
    ]
    return {**asdict(mention), "score": float(mention.score), "concepts": concepts, "context": list(mention.context)}


if not Span.has_extension(KEY):
    Span.set_extension(DATA, default=None)
    Span.set_extension(KEY, getter=_mention)


class Component:
    """Recognizes and links the diseases of a document.

    Entities are widened to whole tokens and replace entities that they overlap; `span._.mentionforge` is the unchanged mention. A mention without a
    concept has an empty `kb_id_`. Documents hold plain data, so they can be sent to other processes and saved with their user data; a process that
    only reads saved documents imports this module to get `span._.mentionforge`.

    Args:
        annotator: Recognizer and linker; none: the bundle was not found at its configured path.
        bundle: Path of the bundle, as configured.
        load: Creates the annotator from a bundle.
    """

    def __init__(self, annotator: Annotator | None, bundle: Path | None = None, load: Callable[[Path], Annotator] | None = None) -> None:
        self._annotator, self.bundle, self._load = annotator, bundle, load
        self._bundle_path = None if bundle is None else bundle.absolute()
        self._searched = [str(self._bundle_path)]

    @property
    def annotator(self) -> Annotator:
        """Recognizer and linker.

        Raises:
            UserError: The bundle has not been found.
        """
        if self._annotator is None:
            raise UserError("no bundle", str(self.bundle), f"looked at {', '.join(self._searched)}", "put it there, or load with config={...bundle...}")
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
        """Save the path of the bundle, relative to the folder of the pipeline; the bundle itself is not saved."""
        if self._bundle_path is not None:
            folder = Path(path)
            folder.mkdir(parents=True, exist_ok=True)
            path_in_pipeline = Path(os.path.relpath(self._bundle_path.resolve(), folder.parent.resolve())).as_posix()
            (folder / BUNDLE_FILE).write_text(json.dumps({"bundle": path_in_pipeline}) + "\n", encoding="utf-8")

    def from_disk(self, path: str | Path, exclude: Sequence[str] = ()) -> Component:
        """Find the bundle if it is not at its configured path: at the saved relative path, in the folder of the pipeline, or beside that folder.

        Raises:
            UserError: It is at none of these paths; the message names them.
        """
        if self._annotator is not None or self.bundle is None or self._load is None:
            return self
        parent = Path(path).parent.absolute()
        candidates = [parent / self.bundle, parent / self.bundle.name, parent.parent / self.bundle.name]
        if (Path(path) / BUNDLE_FILE).is_file():
            try:
                candidates.insert(0, parent / str(json.loads((Path(path) / BUNDLE_FILE).read_text(encoding="utf-8"))["bundle"]))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError("broken pipeline", str(Path(path) / BUNDLE_FILE), "it does not say where the bundle is", "save the pipeline again") from error
        for candidate in dict.fromkeys(Path(os.path.normpath(p)) for p in candidates):
            self._searched.append(str(candidate))
            if candidate.exists():
                self._bundle_path, self._annotator = candidate, self._load(candidate)
                return self
        self._searched = list(dict.fromkeys(self._searched))
        _ = self.annotator
        return self

    def _add(self, doc: Doc, mentions: Sequence[AnnotatedMention]) -> Doc:
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
        doc.ents = filter_spans([*spans, *others])  # of two mentions within one token the first is kept
        return doc


@Language.factory(
    "mentionforge",
    default_config={"bundle": None, "licensed_text": False, "top": 5, "nil_threshold": None, "context": False, "codes": []},
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
)
def make(nlp: Language, name: str, bundle: str, licensed_text: bool, top: int, nil_threshold: float | None, context: bool, codes: list[str]) -> Any:
    """Create the component from a bundle; a saved pipeline may find its bundle at another path when it is loaded."""
    from mentionforge.annotate import codes as coding
    from mentionforge.annotate.bundle import read
    from mentionforge.annotate.context import Context
    from mentionforge.annotate.pipeline import Annotator

    def load(path: Path) -> Annotator:
        materials = read(path, licensed_text)
        return Annotator(materials, top, nil_threshold, Context() if context else None, codes=coding.of_materials(materials, codes))

    path = Path(bundle)
    return Component(load(path) if path.exists() else None, path, load)
