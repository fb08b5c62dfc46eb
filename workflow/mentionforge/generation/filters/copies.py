"""Filters that compare a note with other texts: earlier notes (`near_duplicate`), test documents (`leakage`), fine-tuning pairs (`memorization`).

In: notes and these texts. Out: reasons for dropped notes, which say where texts agree but quote nothing. Knows nothing about concepts and names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic import Field

from mentionforge.generation import markers
from mentionforge.generation.filters.contract import FilterContext, FilterSettings, Note, Reasons, grams, word_list

VERSIONS = {"near_duplicate": 1, "leakage": 1, "memorization": 1}
"""Versions of the parts filter.*: raise one if its earlier results would be wrong (mentionforge.versions)."""


class NearDuplicate(FilterSettings):
    """Drops notes that nearly repeat an earlier one (MinHash of word n-grams); by default of the same concept."""

    n: int = Field(3, ge=1, description="Length of the word n-grams.")
    similarity: float = Field(0.8, gt=0, le=1, description="Estimated Jaccard similarity from which a note is a duplicate.")
    permutations: int = Field(128, ge=16, description="Hash functions.")
    across_concepts: bool = Field(False, description="Compare with the notes of all concepts, the names masked.")


def near_duplicate(notes: Sequence[Note], settings: NearDuplicate, _: FilterContext) -> Reasons:
    """Drop notes that are similar to an earlier kept note (Jaccard similarity of n-grams, estimated by MinHash); across concepts, mentions are masked."""
    from datasketch import MinHash, MinHashLSH

    blank = MinHash(num_perm=settings.permutations, seed=1)
    # Bands and rows follow from the threshold by numerical integration, and permutations are drawn: both once, not for every note or concept.
    solved = MinHashLSH(threshold=settings.similarity, num_perm=settings.permutations)
    indexes: defaultdict[str, Any] = defaultdict(lambda: MinHashLSH(num_perm=settings.permutations, params=(solved.b, solved.r)))
    sketches: dict[str, Any] = {}
    reasons = {}
    for note in notes:
        words = note.words
        if settings.across_concepts:
            text = note.text
            for mention in sorted(note.mentions, key=lambda m: -m["start"]):
                text = f"{text[: mention['start']]} mention {text[mention['end'] :]}"
            words = word_list(text)
        sketch = blank.copy()
        sketch.update_batch([" ".join(gram).encode() for gram in grams(words, settings.n)] or [" ".join(words).encode()])
        index = indexes["" if settings.across_concepts else note.cui]
        similar = [(sketch.jaccard(sketches[other]), other) for other in index.query(sketch)]
        similarity, other = max(similar, key=lambda pair: (pair[0], pair[1]), default=(0.0, ""))
        if similarity >= settings.similarity:
            reasons[note.note_id] = f"similarity {similarity:.2f} to {other}"
        else:
            sketches[note.note_id] = sketch
            index.insert(note.note_id, sketch)
    return reasons


class Leakage(FilterSettings):
    """Drops notes that share a long stretch with a test document."""

    corpora: tuple[str, ...] = Field(min_length=1, description="Corpora whose test documents are compared.")
    n: int = Field(8, ge=3, description="Length of the word n-grams; one in common drops the note.")

    @property
    def test_corpora(self) -> tuple[str, ...]:
        """Corpora of the setting `corpora`."""
        return self.corpora


def leakage(notes: Sequence[Note], settings: Leakage, context: FilterContext) -> Reasons:
    """Drop notes that share an n-gram with a test document."""
    return _shared_ngrams(notes, context.test_texts, settings.n, "a test document")


class Memorization(FilterSettings):
    """Drops notes that hold a long stretch of a fine-tuning completion: patients' text must not come out."""

    reads_pairs: ClassVar[bool] = True

    n: int = Field(12, ge=3, description="Length of the word n-grams; one in common drops the note.")


def memorization(notes: Sequence[Note], settings: Memorization, context: FilterContext) -> Reasons:
    """Drop notes that share an n-gram with a fine-tuning completion."""
    return _shared_ngrams(notes, [markers.strip(text)[0] for text in context.completions], settings.n, "a fine-tuning pair")


def _shared_ngrams(notes: Sequence[Note], texts: Iterable[str], n: int, source: str) -> Reasons:
    """Reasons for the notes that share a word n-gram with one of the texts; `source` names the texts."""
    forbidden = {gram for text in texts for gram in grams(word_list(text), n)}
    reasons = {}
    for note in notes:
        shared = [i for i, gram in enumerate(grams(note.words, n)) if gram in forbidden]
        if shared:  # give the position, not the text: it may be a patient's
            reasons[note.note_id] = f"{len(shared)} {n}-grams of {source}, the first at word {shared[0] + 1}"
    return reasons
