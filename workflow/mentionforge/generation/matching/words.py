"""Which words of a text may stand for words of the names: other forms of them, and slips of the pen."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable
from typing import NamedTuple

from rapidfuzz.distance import OSA

from mentionforge.generation.concepts import fold
from mentionforge.generation.confusion import confusable, in_use, of_medicine
from mentionforge.generation.matching.forms import Form, kept_by_slips, sound_of, stem_of


class Word(NamedTuple):
    """A word of the names, its stem, and how many slips of the pen it may have."""

    word: str
    stem: str
    most: int


class Words:
    """The words of a concept's names, and the forms of texts that stand for them.

    A form is compared letter by letter only with words that it shares a key with: the stem, the sound, or what slips leave of both (`kept_by_slips`).

    Args:
        words: The words of all names.
        single: Those that are a name.
        fuzzy_score: Least similarity of a word and a slip of it, per cent.
        vocabulary: Words of the knowledge base's names, folded: none of them is a slip of another.

    Attributes:
        near: For each form compared that stands for any, the words and how many slips lie between.
    """

    def __init__(self, words: Iterable[str], single: Collection[str], fuzzy_score: float, vocabulary: Collection[str]) -> None:
        self.near: dict[str, dict[str, float]] = {}
        self._single, self._vocabulary = single, vocabulary
        self._stems: dict[str, list[str]] = {}  # stem: words of the names
        self._slippery: dict[str, list[Word]] = {}  # what a slip leaves as it is: words of the names, see `kept_of`
        self._sounds: dict[str, list[Word]] = {}  # how words of the names are heard; see `sound_of`
        for word in words:
            entry, kept, heard = _prepared(word, fuzzy_score)
            self._stems.setdefault(entry.stem, []).append(word)
            for key in kept:
                self._slippery.setdefault(key, []).append(entry)
            for key in heard:
                self._sounds.setdefault(key, []).append(entry)

    def kinds(self) -> set[str]:
        """Keys of which a form must have one, or it stands for no word."""
        return {*self._stems, *self._slippery, *self._sounds}

    def compare(self, form: Form) -> dict[str, float]:
        """Remember which words of the names a form may stand for: 0 for another form of the word, else the slips of the pen."""
        near = dict.fromkeys(self._stems.get(form.stem, ()), 0.0)
        if form.kept and fold(form.form) not in self._vocabulary:
            for word, stem, most in itertools.chain.from_iterable(map(self._slippery.get, form.kept, itertools.repeat(()))):
                if word not in near and stem[0] == form.stem[0] and abs(len(stem) - len(form.stem)) <= most + 2:
                    slips = min(OSA.distance(stem, form.stem), OSA.distance(word, form.form))  # a slip may look like an ending or a spelling
                    if slips <= most and not confusable(word, form.form) and not confusable(stem, form.stem) and not self._another(word, form.form):
                        near[word] = float(slips)
            for word, stem, _ in self._sounds.get(form.sound, ()):
                if word not in near and not self._other_sound(word, stem, form):
                    near[word] = 1.0
        if near:
            self.near[form.form] = near
        return near

    def _other_sound(self, word: str, stem: str, form: Form) -> bool:
        """Whether a form that is heard like a word of the names, or like one without its first letter, is a word of its own."""
        if form.stem[0] != stem[0]:
            return in_use(form.form) or not (form.stem in _begun(stem) or sound_of(stem) == form.sound)
        return in_use(form.form) and not of_medicine(form.form)

    def _another(self, word: str, form: str) -> bool:
        """Whether a form is a word of its own, so that it is no slip in a word of the names: any where that word is a name, else one of medicine."""
        return (word in self._single or of_medicine(form)) and in_use(form)


@functools.lru_cache(maxsize=1 << 14)
def _prepared(word: str, fuzzy_score: float) -> tuple[Word, tuple[str, ...], tuple[str, ...]]:
    """A word of names, what slips leave of it, and how it is heard. Concepts share words, so that this is computed once for all."""
    stem = stem_of(word)
    most = int(max(1.0, len(stem) * (1 - fuzzy_score / 100)))
    if len(stem) < 4 or not stem.isalpha():
        return Word(word, stem, most), (), ()
    kept = dict.fromkeys(key for text in dict.fromkeys((stem, word)) for key in kept_by_slips(stem[0], text, most))
    return Word(word, stem, most), tuple(kept), tuple(dict.fromkeys(sound_of(text) for text in (stem, *_begun(stem))))


def _begun(stem: str) -> tuple[str, ...]:
    """What a long word is without its first letter, or with its first two the other way round: only `a` means something as a first letter."""
    return (stem[1:], stem[1] + stem[0] + stem[2:]) if len(stem) >= 7 and stem[0] != "a" else ()
