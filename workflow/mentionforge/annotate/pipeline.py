"""From texts to mentions with concepts: recognition and linking as the experiment does them, over many documents at a time.

Texts are read in sections that end at empty lines, where no sentence goes on, so a long text is read like a short one and memory holds a
few sections, whatever the number and length of texts. Sentences of all documents at hand are recognized together, sorted by length; each
distinct mention is linked once. Abbreviations are those of the whole document.

    annotator = Annotator(bundle.read(Path("my.bundle")))
    for mentions in annotator.annotate(["Huntington disease (HD) runs in families. HD is rare."]):
        ...

Offsets are 0-based characters of the text given, end exclusive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mentionforge import abbreviations
from mentionforge import text as units
from mentionforge.normalization.linkers import HybridLinker
from mentionforge.normalization.loaded import ConceptRanking, FusedSearcher, IndexedLinker, Searcher
from mentionforge.recognition.sentences import TokenizedDocument, tokenized_document
from mentionforge.text import Span

SECTION = 20_000
"""Characters of a section at least, if the text is longer and has empty lines."""

LONGEST = 100_000
"""Characters of a section at most: a paragraph longer than this is cut at a line end, a sentence's end or a blank."""

AT_A_TIME = 400_000
"""Characters that are recognized and linked together."""

KERNELS = 64
"""Compiled kernels kept at most by each of the two caches below: one pass over a model needs a dozen."""

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's own cache, and that of torch's bridge to it. On a CPU in bfloat16 each shape of a batch has kernels of its own, a third of a MiB each, and by
default each cache keeps 1,024: memory would grow by 600 MiB over some thousands of documents."""

_GAP = re.compile(r"\n[ \t\r]*\n\s*")
_BREAKS = (re.compile(r"\n"), re.compile(r"[.!?]\s"), re.compile(r"\s"))


@dataclass(frozen=True)
class Concept:
    """A candidate: its CUI, preferred name, semantic types (T047, …), and how well it fits."""

    cui: str
    name: str
    semantic_types: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class Mention:
    """A disease in a text.

    Attributes:
        start: First character.
        end: One past the last.
        surface: The text between.
        score: Of the recognizer: mean probability of the words' tags; 1 for a dictionary.
        expanded: With the document's own abbreviations spelled out, where that changes it.
        concepts: Ranked, best first; at most as many as asked for.
        nil: Whether no concept is good enough: there is none, or the first one scores below the threshold.
        ambiguous: Whether another concept fits the first one's name or mention as well.
        context: What the text says about it: `negated`, `family`, `hypothetical`; empty if context is not asked for.
    """

    start: int
    end: int
    surface: str
    score: float
    expanded: str | None
    concepts: tuple[Concept, ...]
    nil: bool
    ambiguous: bool
    context: tuple[str, ...] = ()

    @property
    def concept(self) -> Concept | None:
        """The concept decided for."""
        return None if self.nil else self.concepts[0]


@dataclass(frozen=True)
class Materials:
    """All that annotating needs, from a results folder or a bundle.

    Attributes:
        recognizer: Folder of a trained recognizer, or none for a dictionary.
        dtype: Type of its computation, as in its settings.
        dictionary: Names that a dictionary searches, with the settings `min_length` and `stop`.
        linkers: One, or those of a hybrid.
        hybrid: Settings of a hybrid linker, if it is one.
        weights: Its weights.
        concepts: tables.CONCEPTS.
        nil_threshold: First concepts that score less are no answer; none: every first concept is.
        spell_out: Whether abbreviations are read at all.
        card: Where it all comes from, as JSON data.
        licensed: What in it is licensed text: `umls`, `corpus NAME`.
        contents: Digest of what the linkers are made of, where the card has none of the whole; for the key of an unfinished run.
    """

    recognizer: Path | None
    dtype: str
    dictionary: Mapping[str, Any] | None
    linkers: Sequence[IndexedLinker]
    hybrid: HybridLinker | None
    weights: Sequence[float]
    concepts: pa.Table
    nil_threshold: float | None
    spell_out: bool
    card: Mapping[str, Any] = field(default_factory=dict)
    licensed: Sequence[str] = ()
    contents: str = ""


class Recognizer(Protocol):
    """What finds mentions: word spans in each document, with scores, in order."""

    def recognize(self, documents: Sequence[TokenizedDocument]) -> Mapping[str, Sequence[tuple[Span, float]]]:
        """By document id."""


class ContextReader(Protocol):
    """What tells the context of mentions in a section; see `mentionforge.annotate.context`."""

    def read(self, text: str, sentences: Sequence[Span], mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        """The context of each mention, in order."""


class _Names:
    """The dictionary as a recognizer."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from mentionforge.recognition.kinds.dictionary import Dictionary

        self.dictionary = Dictionary(settings["names"], settings["min_length"], settings["stop"])

    def recognize(self, documents: Sequence[TokenizedDocument]) -> dict[str, list[tuple[Span, float]]]:
        return {doc.doc_id: [(span, 1.0) for span in self.dictionary.find(doc)] for doc in documents}


@dataclass
class _Open:
    """A text that is being read: its mentions so far, sections under way, and the abbreviations it defines."""

    text: str
    found: list[Mention] = field(default_factory=list)
    left: int = 0
    whole: bool = False
    long_forms: dict[str, str] | None = None


class Annotator:
    """Recognizer and linker, loaded once."""

    def __init__(self, materials: Materials, top: int = 5, nil_threshold: float | None = None, context: ContextReader | None = None) -> None:
        """Load.

        Args:
            materials: From `bundle.read` or `cells.find`.
            top: Concepts given per mention at most.
            nil_threshold: Instead of that of the materials.
            context: Reads negation and the like; none: not read.
        """
        for name in KERNEL_CACHES:  # read when torch first computes; what the user has set stays
            os.environ.setdefault(name, str(KERNELS))
        self.materials, self.top, self.context = materials, top, context
        self.nil_threshold = materials.nil_threshold if nil_threshold is None else nil_threshold
        self.recognizer: Recognizer
        if materials.recognizer is not None:
            from mentionforge.recognition.tagger import Tagger

            self.recognizer = Tagger.load(materials.recognizer, dtype=materials.dtype)
        else:
            assert materials.dictionary is not None
            self.recognizer = _Names(materials.dictionary)
        self.linker: Searcher | FusedSearcher
        if materials.hybrid is not None:
            self.linker = FusedSearcher(materials.linkers, materials.hybrid, materials.weights)
        else:
            self.linker = Searcher(materials.linkers[0], max(top, 2))
        rows = materials.concepts.select(["cui", "preferred_name", "semantic_types"]).to_pylist()
        self._concepts = {row["cui"]: (row["preferred_name"], tuple(row["semantic_types"])) for row in rows}

    def annotate(self, texts: Iterable[str], at_a_time: int = AT_A_TIME) -> Iterator[list[Mention]]:
        """The mentions of each text, in order; texts are drawn as they are needed.

        Args:
            texts: Any number of texts of any length.
            at_a_time: Characters that are recognized and linked together.
        """
        waiting: list[_Open] = []
        batch: list[tuple[_Open, int, str]] = []
        size = 0
        for text in texts:
            opened = _Open(text)
            waiting.append(opened)
            for start, end in sections(text):
                opened.left += 1
                batch.append((opened, start, text[start:end]))
                size += end - start
                if size >= at_a_time:
                    self._read(batch)
                    batch, size = [], 0
            opened.whole = True
            while waiting and waiting[0].whole and not waiting[0].left:
                yield waiting.pop(0).found
        self._read(batch)
        for opened in waiting:
            yield opened.found

    def _read(self, batch: Sequence[tuple[_Open, int, str]]) -> None:
        """Recognize and link sections, and add their mentions to those of their texts."""
        if not batch:
            return
        split = list(units.sentences(text for _, _, text in batch))
        documents = [tokenized_document(str(i), text, [{"start": a, "end": b} for a, b in split[i]]) for i, (_, _, text) in enumerate(batch)]
        recognized = self.recognizer.recognize(documents)
        places: list[tuple[int, tuple[int, int]]] = []
        scores: list[float] = []
        for i, doc in enumerate(documents):
            for (first, last), score in recognized[doc.doc_id]:
                places.append((i, (doc.words[first][0], doc.words[last - 1][1])))
                scores.append(score)
        surfaces = [batch[i][2][a:b] for i, (a, b) in places]
        expanded = [self._expanded(batch[i][0], surface) for (i, _), surface in zip(places, surfaces, strict=True)]
        ranks = self.linker.rank(surfaces, expanded, [text for _, _, text in batch], [(i, (span,)) for i, span in places]) if places else []
        contexts = self._contexts(batch, split, places)
        rows = zip(places, surfaces, scores, expanded, ranks, contexts, strict=True)
        for (i, (start, end)), surface, score, long, found, context in rows:
            opened, offset, _ = batch[i]
            opened.found.append(self._mention(offset + start, offset + end, surface, score, long, found, context))
        for opened, _, _ in batch:
            opened.left -= 1

    def _expanded(self, opened: _Open, surface: str) -> str | None:
        if not self.materials.spell_out:
            return None
        if opened.long_forms is None:
            opened.long_forms = dict(abbreviations.long_forms(opened.text))
        return abbreviations.expand(surface, opened.long_forms)

    def _contexts(self, batch: Sequence[Any], split: Sequence[Sequence[Span]], places: Sequence[tuple[int, Span]]) -> list[tuple[str, ...]]:
        if self.context is None:
            return [()] * len(places)
        of: dict[int, list[Span]] = {}
        for i, span in places:
            of.setdefault(i, []).append(span)
        return [c for i, spans in of.items() for c in self.context.read(batch[i][2], split[i], spans)]

    def _mention(self, start: int, end: int, surface: str, score: float, long: str | None, ranks: ConceptRanking, context: tuple[str, ...]) -> Mention:
        nil = not ranks or (self.nil_threshold is not None and ranks[0].score < self.nil_threshold)
        ambiguous = bool(ranks) and (ranks[0].shared or (len(ranks) > 1 and ranks[1].score == ranks[0].score))
        unnamed: tuple[str, tuple[str, ...]] = ("", ())
        concepts = tuple(Concept(c.cui, *self._concepts.get(c.cui, unnamed), c.score) for c in ranks[: self.top])
        return Mention(start, end, surface, score, long, concepts, nil, ambiguous, context)


def sections(text: str) -> Iterator[Span]:
    """Stretches that together hold the text but for blanks between them: short ones up to an empty line, none longer than `LONGEST`."""
    start = 0
    for gap in _GAP.finditer(text) if len(text) > SECTION else ():
        if gap.end() - start >= SECTION:
            yield from _cut(text, start, gap.start())
            start = gap.end()
    if text[start:].strip():
        yield from _cut(text, start, len(text))


def _cut(text: str, start: int, end: int) -> Iterator[Span]:
    """A stretch in pieces no longer than `LONGEST`, cut in its second half, where a cut does least harm."""
    while end - start > LONGEST:
        middle, last = start + LONGEST // 2, start + LONGEST
        cut = next((found[-1].end() for at in _BREAKS if (found := list(at.finditer(text, middle, last)))), last)
        yield start, cut
        start = cut
    yield start, end
