"""Decides which word forms of a text stand for words of a concept's names: inflected forms, respellings and typing errors.

In: the words of all names of one concept, then word forms one at a time. Out: for each form the name words it stands for, with the number of slips.
Knows nothing about the order of words, texts or offsets.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable
from typing import NamedTuple

from rapidfuzz.distance import OSA

from mentionforge.generation.concepts import fold
from mentionforge.generation.confusion import confusable, has_medical_ending, is_in_use
from mentionforge.generation.matching.forms import WordForm, phonetic_key, reachable_slip_keys, stem_of


class NameWord(NamedTuple):
    """A word of a name, its stem, and the number of slips (edits) that are allowed in it."""

    word: str
    stem: str
    max_slips: int


class NameWords:
    """The words of a concept's names, and the word forms of texts that stand for them.

    A form is compared letter by letter only with name words that share a key with it: the stem, the phonetic key, or a slip key (`reachable_slip_keys`).

    Args:
        words: The words of all names.
        single_word_names: The words that are a name by themselves.
        fuzzy_score: Least similarity of a word and a misspelling of it, in per cent.
        vocabulary: Words of the knowledge base's names, folded. None of them is accepted as a misspelling of another word.

    Attributes:
        slips_by_word: For each accepted form, the name words it stands for and the number of slips between the two.
    """

    def __init__(self, words: Iterable[str], single_word_names: Collection[str], fuzzy_score: float, vocabulary: Collection[str]) -> None:
        self.slips_by_word: dict[str, dict[str, float]] = {}
        self._single_word_names, self._vocabulary = single_word_names, vocabulary
        self._words_by_stem: dict[str, list[str]] = {}
        self._words_by_slip_key: dict[str, list[NameWord]] = {}  # see `slip_keys_of`
        self._words_by_phonetic_key: dict[str, list[NameWord]] = {}
        for word in words:
            entry, slip_keys, phonetic_keys = _keys_of_name_word(word, fuzzy_score)
            self._words_by_stem.setdefault(entry.stem, []).append(word)
            for key in slip_keys:
                self._words_by_slip_key.setdefault(key, []).append(entry)
            for key in phonetic_keys:
                self._words_by_phonetic_key.setdefault(key, []).append(entry)

    def keys(self) -> set[str]:
        """All keys. A form that has none of them stands for no name word."""
        return {*self._words_by_stem, *self._words_by_slip_key, *self._words_by_phonetic_key}

    def compare(self, form: WordForm) -> dict[str, float]:
        """Return and remember the name words that a form stands for: 0 slips for another form of the word, else the number of slips."""
        slips_by_word = dict.fromkeys(self._words_by_stem.get(form.stem, ()), 0.0)
        if form.slip_keys and fold(form.form) not in self._vocabulary:
            for word, stem, max_slips in itertools.chain.from_iterable(map(self._words_by_slip_key.get, form.slip_keys, itertools.repeat(()))):
                if word not in slips_by_word and stem[0] == form.stem[0] and abs(len(stem) - len(form.stem)) <= max_slips + 2:
                    slips = min(OSA.distance(stem, form.stem), OSA.distance(word, form.form))  # a slip may look like an ending or a respelling
                    if (
                        slips <= max_slips
                        and not confusable(word, form.form)
                        and not confusable(stem, form.stem)
                        and not self._is_another_word(word, form.form)
                    ):
                        slips_by_word[word] = float(slips)
            for word, stem, _ in self._words_by_phonetic_key.get(form.phonetic_key, ()):
                if word not in slips_by_word and not self._is_another_word_by_sound(word, stem, form):
                    slips_by_word[word] = 1.0
        if slips_by_word:
            self.slips_by_word[form.form] = slips_by_word
        return slips_by_word

    def _is_another_word_by_sound(self, word: str, stem: str, form: WordForm) -> bool:
        """Whether a form that sounds like a name word, or like one with an error in its first two letters, is a word in its own right."""
        if form.stem[0] != stem[0]:
            return is_in_use(form.form) or not (form.stem in _initial_errors(stem) or phonetic_key(stem) == form.phonetic_key)
        return is_in_use(form.form) and not has_medical_ending(form.form)

    def _is_another_word(self, word: str, form: str) -> bool:
        """Whether a form is a word in its own right, so no misspelling of `word`: any word in use if `word` is a whole name, else a medical one."""
        return (word in self._single_word_names or has_medical_ending(form)) and is_in_use(form)


@functools.lru_cache(maxsize=1 << 14)
def _keys_of_name_word(word: str, fuzzy_score: float) -> tuple[NameWord, tuple[str, ...], tuple[str, ...]]:
    """A name word, its slip keys and its phonetic keys. Cached, since concepts share words."""
    stem = stem_of(word)
    max_slips = int(max(1.0, len(stem) * (1 - fuzzy_score / 100)))
    if len(stem) < 4 or not stem.isalpha():
        return NameWord(word, stem, max_slips), (), ()
    slip_keys = dict.fromkeys(key for text in dict.fromkeys((stem, word)) for key in reachable_slip_keys(stem[0], text, max_slips))
    return NameWord(word, stem, max_slips), tuple(slip_keys), tuple(dict.fromkeys(phonetic_key(text) for text in (stem, *_initial_errors(stem))))


def _initial_errors(stem: str) -> tuple[str, ...]:
    """A long stem without its first letter, and with its first two letters swapped; none for stems in `a-`, where the prefix has a meaning."""
    return (stem[1:], stem[1] + stem[0] + stem[2:]) if len(stem) >= 7 and stem[0] != "a" else ()
