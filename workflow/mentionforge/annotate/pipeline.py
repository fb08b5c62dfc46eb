"""Annotate texts with mentions and concepts: recognition and linking as in the experiment, over many documents at a time.

    annotator = Annotator(bundle.read(Path("my.bundle")))
    for mentions in annotator.annotate(["Huntington disease (HD) runs in families. HD is rare."]): ...

In: texts. Out: mentions, with 0-based character offsets, end exclusive. Knows nothing of files and formats.
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
from mentionforge.annotate.codes import Codes, ConceptCode
from mentionforge.annotate.recognizers import DictionaryMatches, DistinctSentences, Recognizer
from mentionforge.errors import UserError
from mentionforge.normalization.linkers import HybridLinker
from mentionforge.normalization.loaded import ConceptRanking, FusedSearcher, IndexedLinker, Searcher
from mentionforge.recognition.sentences import tokenized_document
from mentionforge.text import Span

MIN_SECTION = 20_000
"""Characters after which a section ends at the next empty line."""

MAX_SECTION = 100_000
"""Maximum characters of a section; a longer paragraph is cut at a line end, the end of a sentence, or a space."""

BATCH_CHARACTERS = 400_000
"""Characters that are recognized and linked together."""

MAX_KERNELS = 64
"""Compiled kernels that each of the two caches below keeps; a pass over a model needs about a dozen."""

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables of the cache of oneDNN and of torch's bridge to it. On a CPU in bfloat16 each batch shape has its own kernels, of 0.3 MiB
each, and each cache keeps 1,024 by default: memory would grow by 600 MiB over some thousands of documents."""

_EMPTY_LINES = re.compile(r"\n[ \t\r]*\n\s*")
_BREAKS = (re.compile(r"\n"), re.compile(r"[.!?]\s"), re.compile(r"\s"))


@dataclass(frozen=True)
class LinkedConcept:
    """A candidate concept.

    Attributes:
        cui: Id.
        name: Preferred name.
        semantic_types: T047, ….
        score: Higher is better.
        codes: Its codes in the vocabularies asked for; none: none was asked for.
    """

    cui: str
    name: str
    semantic_types: tuple[str, ...]
    score: float
    codes: tuple[ConceptCode, ...] | None = None


@dataclass(frozen=True)
class AnnotatedMention:
    """A disease mention in a text.

    Attributes:
        start: Offset of the first character.
        end: Offset after the last character.
        surface: The text of the mention.
        score: Score of the recognizer: mean probability of the tags of its words; 1 for a dictionary.
        expanded: The surface with abbreviations of the document spelled out; none: it has none.
        concepts: Candidates, best first; at most `top`.
        nil: There is no candidate, or the first one scores below the threshold.
        ambiguous: Another concept has the same entry, or the same score, as the first candidate.
        context: Any of `negated`, `family`, `hypothetical`; empty without a context reader.
    """

    start: int
    end: int
    surface: str
    score: float
    expanded: str | None
    concepts: tuple[LinkedConcept, ...]
    nil: bool
    ambiguous: bool
    context: tuple[str, ...] = ()

    @property
    def concept(self) -> LinkedConcept | None:
        """The predicted concept: the first candidate, or None if `nil`."""
        return None if self.nil else self.concepts[0]


@dataclass(frozen=True)
class Materials:
    """What an annotator is made of, from a results folder or a bundle.

    Attributes:
        recognizer: Folder of a trained recognizer; none: a dictionary.
        dtype: Data type of its computation, as in its settings.
        dictionary: Names of a dictionary recognizer, with the settings `min_length` and `stop`.
        linkers: One linker, or those of a hybrid.
        hybrid: Settings of a hybrid linker; none: one linker.
        weights: Weights of the linkers of a hybrid.
        concepts: `tables.CONCEPTS`.
        nil_threshold: Score below which the first candidate is rejected; none: never.
        spell_out: Whether abbreviations are expanded.
        card: Provenance and scores, as JSON data.
        licensed: Sources of licensed text in it: `umls`, `corpus NAME`.
        contents: Digest of the files of the linkers, to recognize an unfinished run; empty for a bundle, whose card has a digest of the whole.
        xrefs: File of the codes (`tables.XREFS`); none: there is none.
        withheld: Numbers of licensed codes that a bundle was written without, by vocabulary.
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
    xrefs: Path | None = None
    withheld: Mapping[str, int] = field(default_factory=dict)


class ContextReader(Protocol):
    """Interface of a classifier of the context of mentions; see `mentionforge.annotate.context`."""

    def read(self, text: str, sentences: Sequence[Span], mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        """The kinds of context of each mention, in order."""


@dataclass
class _TextInProgress:
    """A text that is being annotated.

    Attributes:
        text: The text.
        mentions: Mentions found so far.
        pending_sections: Sections that are not annotated yet.
        complete: All sections are in `pending_sections` or annotated.
        long_forms: Abbreviations that the text defines; none: not yet extracted.
    """

    text: str
    mentions: list[AnnotatedMention] = field(default_factory=list)
    pending_sections: int = 0
    complete: bool = False
    long_forms: abbreviations.Expander | None = None


class Annotator:
    """A recognizer and a linker, loaded once.

    Texts are split into sections at empty lines, where no sentence continues, so memory is bounded whatever the number and length of texts. Sentences
    of all sections in a batch are recognized together, sorted by length; each distinct sentence is read once, and each distinct mention linked once. Abbreviations are extracted from
    the whole text.
    """

    def __init__(
        self,
        materials: Materials,
        top: int = 5,
        nil_threshold: float | None = None,
        context: ContextReader | None = None,
        int8: bool = False,
        codes: Codes | None = None,
    ) -> None:
        """Load recognizer and linker.

        Args:
            materials: From `bundle.read` or `cells.find`.
            top: Maximum number of candidates per mention.
            nil_threshold: Replaces that of the materials; none: it does not.
            context: Classifies negation and the like; none: `context` of mentions stays empty.
            int8: Compute the recognizer in 8-bit integers (`recognition.int8`).
            codes: Codes of concepts; none: `codes` of concepts stays none.

        Raises:
            UserError: `int8` with a dictionary, or on a GPU.
        """
        for name in KERNEL_CACHES:  # torch reads them at its first computation; values set by the user stay
            os.environ.setdefault(name, str(MAX_KERNELS))
        self.materials, self.top, self.context, self.codes = materials, top, context, codes
        self.nil_threshold = materials.nil_threshold if nil_threshold is None else nil_threshold
        self.recognizer: Recognizer
        if materials.recognizer is not None:
            from mentionforge.recognition.tagger import Tagger

            self.recognizer = DistinctSentences(Tagger.load(materials.recognizer, dtype="int8" if int8 else materials.dtype))
        elif int8:
            raise UserError("nothing to compute", "--int8", "a dictionary has no weights", "leave it out, or choose a trained recognizer")
        else:
            assert materials.dictionary is not None
            self.recognizer = DictionaryMatches(materials.dictionary)
        self.linker: Searcher | FusedSearcher
        if materials.hybrid is not None:
            self.linker = FusedSearcher(materials.linkers, materials.hybrid, materials.weights)
        else:
            self.linker = Searcher(materials.linkers[0], max(top, 2))
        rows = materials.concepts.select(["cui", "preferred_name", "semantic_types"]).to_pylist()
        self._concepts = {row["cui"]: (row["preferred_name"], tuple(row["semantic_types"])) for row in rows}

    def annotate(self, texts: Iterable[str], batch_characters: int = BATCH_CHARACTERS) -> Iterator[list[AnnotatedMention]]:
        """Yield the mentions of each text, in order; the iterable of texts is consumed lazily.

        Args:
            texts: Any number of texts of any length.
            batch_characters: Characters that are recognized and linked together.
        """
        self.recognizer.forget()
        in_progress: list[_TextInProgress] = []
        batch: list[tuple[_TextInProgress, int, str]] = []
        size = 0
        for text in texts:
            current = _TextInProgress(text)
            in_progress.append(current)
            for start, end in sections(text):
                current.pending_sections += 1
                batch.append((current, start, text[start:end]))
                size += end - start
                if size >= batch_characters:
                    self._read(batch)
                    batch, size = [], 0
            current.complete = True
            while in_progress and in_progress[0].complete and not in_progress[0].pending_sections:
                yield in_progress.pop(0).mentions
        self._read(batch)
        for current in in_progress:
            yield current.mentions

    def _read(self, batch: Sequence[tuple[_TextInProgress, int, str]]) -> None:
        """Recognize and link sections, (text, offset, text of the section), and add their mentions to their texts."""
        if not batch:
            return
        sentences = list(units.sentences(text for _, _, text in batch))
        documents = [tokenized_document(str(i), text, [{"start": a, "end": b} for a, b in sentences[i]]) for i, (_, _, text) in enumerate(batch)]
        recognized = self.recognizer.recognize(documents)
        spans: list[tuple[int, tuple[int, int]]] = []
        scores: list[float] = []
        for i, doc in enumerate(documents):
            for (first, last), score in recognized[doc.doc_id]:
                spans.append((i, (doc.words[first][0], doc.words[last - 1][1])))
                scores.append(score)
        surfaces = [batch[i][2][a:b] for i, (a, b) in spans]
        expanded = [self._expanded(batch[i][0], surface) for (i, _), surface in zip(spans, surfaces, strict=True)]
        ranks = self.linker.rank(surfaces, expanded, [text for _, _, text in batch], [(i, (span,)) for i, span in spans]) if spans else []
        contexts = self._contexts(batch, sentences, spans)
        rows = zip(spans, surfaces, scores, expanded, ranks, contexts, strict=True)
        for (i, (start, end)), surface, score, long_form, ranks_of, context in rows:
            current, offset, _ = batch[i]
            current.mentions.append(self._mention(offset + start, offset + end, surface, score, long_form, ranks_of, context))
        for current, _, _ in batch:
            current.pending_sections -= 1

    def _expanded(self, current: _TextInProgress, surface: str) -> str | None:
        if not self.materials.spell_out:
            return None
        if current.long_forms is None:
            current.long_forms = abbreviations.Expander(abbreviations.long_forms(current.text))
        return current.long_forms.expand(surface)

    def _contexts(self, batch: Sequence[Any], sentences: Sequence[Sequence[Span]], spans: Sequence[tuple[int, Span]]) -> list[tuple[str, ...]]:
        if self.context is None:
            return [()] * len(spans)
        spans_of_section: dict[int, list[Span]] = {}
        for i, span in spans:
            spans_of_section.setdefault(i, []).append(span)
        return [c for i, section_spans in spans_of_section.items() for c in self.context.read(batch[i][2], sentences[i], section_spans)]

    def _mention(
        self, start: int, end: int, surface: str, score: float, long_form: str | None, ranks: ConceptRanking, context: tuple[str, ...]
    ) -> AnnotatedMention:
        nil = not ranks or (self.nil_threshold is not None and ranks[0].score < self.nil_threshold)
        ambiguous = bool(ranks) and (ranks[0].shared or (len(ranks) > 1 and ranks[1].score == ranks[0].score))
        unnamed: tuple[str, tuple[str, ...]] = ("", ())
        concepts = tuple(
            LinkedConcept(c.cui, *self._concepts.get(c.cui, unnamed), c.score, self.codes.of(c.cui) if self.codes else None) for c in ranks[: self.top]
        )
        return AnnotatedMention(start, end, surface, score, long_form, concepts, nil, ambiguous, context)


def sections(text: str) -> Iterator[Span]:
    """Spans of sections, which cover the text except for white space between them. They end at empty lines, and none exceeds `MAX_SECTION`."""
    start = 0
    for gap in _EMPTY_LINES.finditer(text) if len(text) > MIN_SECTION else ():
        if gap.end() - start >= MIN_SECTION:
            yield from _cut(text, start, gap.start())
            start = gap.end()
    if text[start:].strip():
        yield from _cut(text, start, len(text))


def _cut(text: str, start: int, end: int) -> Iterator[Span]:
    """Cut a span into pieces of at most `MAX_SECTION` characters; each cut is in the second half of a piece, at the best break there (`_BREAKS`)."""
    while end - start > MAX_SECTION:
        middle, last = start + MAX_SECTION // 2, start + MAX_SECTION
        cut = next((matches[-1].end() for pattern in _BREAKS if (matches := list(pattern.finditer(text, middle, last)))), last)
        yield start, cut
        start = cut
    yield start, end
