"""Normalizes words for comparison. In: text or words. Out: word forms with the keys under which they are compared (stem, phonetic key, slip keys).

Knows nothing about concepts, names or mentions. A slip is one edit: a letter too many, too few, a wrong one, or two neighbours swapped.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mentionforge.generation.concepts import fold

GAP = r"(?:[^\S\n]+|[^\S\n]*[-‐‑–—/'’\n][^\S\n]*)"
"""Allowed between two words of a mention: blanks, a hyphen, slash, apostrophe or line break; no other punctuation."""


GAP_BEFORE_WORD = re.compile(rf"{GAP}(?=\w)")
WORD = re.compile(r"\w+(?:['’]s\b)?")
NEXT_WORD = re.compile(rf"{GAP}({WORD.pattern})")
NEXT_WORD_OPTIONAL_PUNCTUATION = re.compile(rf"(?:{GAP}|[^\S\n]*[,()\[\]]{{1,2}}[^\S\n]*)({WORD.pattern})")
"""The next word where the name has punctuation before it; a note may leave it out or write a comma or bracket."""
NEXT_WORD_AFTER_OF = re.compile(rf"{GAP}of{GAP}(?:(?:the|an?){GAP})?({WORD.pattern})")
NEXT_WORD_AFTER_COMMA = re.compile(rf"(?:[^\S\n]*,[^\S\n]+|[^\S\n]*[(\[])({WORD.pattern})")
"""The next word after a comma or an opening bracket: tremor, essential; heart disease (congenital)."""
NEXT_WORD_OPTIONAL_ARTICLE = re.compile(rf"{GAP}(?:(?:the|an?){GAP})?({WORD.pattern})")
VOWELS = frozenset("aeiouy")
PUNCTUATION = re.compile(r"[^\w\s]")


FUNCTION_WORDS = frozenset(["of", "the", "a", "an", "s"])


class WordForm(NamedTuple):
    """A word form of a text with its stem, its phonetic key, whether the text has a hyphen inside it, and, if it may be a misspelling, its slip keys."""

    form: str
    stem: str
    phonetic_key: str
    hyphenated: bool
    slip_keys: tuple[str, ...]


def is_word_character(character: str) -> bool:
    """Whether a character is a letter, digit or underscore; false for the empty string."""
    return character.isalnum() or character == "_"


def word_starts(text: str, piece: str) -> list[int]:
    """Offsets at which the piece begins, unless inside a word."""
    starts, at = [], -1
    while piece and (at := text.find(piece, at + 1)) >= 0:
        if not (at and is_word_character(text[at - 1])):
            starts.append(at)
    return starts


def fold_case(text: str) -> str:
    """The text case-folded, character by character, so that offsets do not change."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(next((f for f in (c.casefold(), c.lower()) if len(f) == 1), c) for c in text)


@functools.lru_cache(maxsize=1 << 16)
def keys_and_forms(chunk: str) -> tuple[tuple[str, ...], tuple[WordForm, ...]]:
    """All keys (stems, phonetic keys, slip keys) of a chunk's word forms, then the forms. A word with a hyphen inside also counts without the hyphen."""
    if chunk.isalpha():
        forms = {chunk: False}
    else:
        forms = dict.fromkeys(WORD.findall(chunk), False)
        forms.update(dict.fromkeys((whole for *_, whole in hyphenated_words(chunk)), True))
    word_forms, keys = [], []
    for form, hyphenated in forms.items():
        stem = stem_of(form)
        slip_keys: tuple[str, ...] = ()
        sound = stem
        if len(stem) >= 3 and stem.isalpha() and not VOWELS.isdisjoint(stem):  # without a vowel it is an abbreviation
            slip_keys = slip_keys_of(stem[0], stem, len(stem))
            if stem != form:
                slip_keys += slip_keys_of(stem[0], form, len(form))
            if len(stem) >= 5 and (sound := phonetic_key(stem)) != stem:
                keys.append(sound)
        keys += [stem, *slip_keys]
        word_forms.append(WordForm(form, stem, sound, hyphenated, slip_keys))
    return tuple(keys), tuple(word_forms)


@functools.lru_cache(maxsize=1 << 16)
def stem_of(word: str) -> str:
    """The stem of a case-folded word: without accents, possessive and plural (also Latin and Greek), in American spelling.

    Stems serve comparison only: `metastases` and `metastasis` agree, so do `diverticula` and `diverticulum`, `thrombi` and `thrombus`.
    """
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c)).translate(_LETTERS)
        if word[:1] in _GREEK and (len(word) == 1 or word[1:].isdigit()):
            word = _GREEK[word[0]] + word[1:]
    if word in _NUMERALS:
        return _NUMERALS[word]
    if len(word) < 5:
        return fold(word)
    if word[-1] == "s":
        if word[-2] in "'’":
            word = word[:-2]
        if word.endswith(_PLURAL_ENDINGS):
            ending, other = next(pair for pair in _PLURALS if word.endswith(pair[0]))
            return _american(word[: len(word) - len(ending)] + other)
        if word[-1] == "s" and word[-2] not in "sui":
            word = word[:-1]
    for ending, other in _SINGULARS.get(word[-1], ()):
        if word.endswith(ending):
            word = word[: len(word) - len(ending)] + other
            break
    return _american(word)


def _american(word: str) -> str:
    """The word as American English spells it."""
    word = word.replace("ae", "e").replace("oe", "e").replace("our", "or")
    if word[0] == "l" and word.startswith("leuco"):
        return f"leuko{word[5:]}"
    if word[-1] == "d" and word.endswith("ised"):
        return f"{word[:-4]}ized"
    return word.replace("sulph", "sulf") if "ph" in word else word.replace("isation", "ization")


_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ı": "i", "ß": "ss"})
_GREEK = dict(zip("αβγδεκλμ", ("alpha", "beta", "gamma", "delta", "epsilon", "kappa", "lambda", "mu"), strict=True))
_NUMERALS = {numeral: str(n) for n, numeral in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"), 1)} | {
    numeral: str(n) for n, numeral in enumerate(("one", "two", "three", "four", "five"), 1)
}
"""Type II, type 2 and type two are the same."""


@functools.lru_cache(maxsize=1 << 16)
def phonetic_key(stem: str) -> str:
    """The phonetic key of a stem. Words with equal keys count as misspellings of each other, however many letters differ (`borelliosis`, `borreliosis`).

    Letters that English pronounces alike become one (ph and f; ch, c and k; y and i). Silent letters (the p of pneumonia, every h) and doubled ones are
    dropped.
    """
    if stem[0] in "gkp" and stem.startswith(("pn", "ps", "pt", "kn", "gn")):
        stem = stem[1:]
    if "c" in stem:
        stem = stem.replace("ch", "k").replace("ce", "se").replace("ci", "si").replace("cy", "si").replace("c", "k")
    for spelling, sound in _PHONETIC_SPELLINGS:  # far cheaper than a regular expression
        if spelling in stem:
            stem = stem.replace(spelling, sound)
    return stem


_PHONETIC_SPELLINGS = [*(("ph", "f"), ("qu", "kv"), ("x", "ks"), ("z", "s"), ("y", "i"), ("h", "")), *((letter * 2, letter) for letter in "lsrtnmpfkiegbdaou")]


_PLURALS = [
    *(("itides", "itis"), ("exes", "ix"), ("nges", "nx"), ("ices", "ix"), ("ies", "y"), ("tres", "ter"), ("bres", "ber"), ("xes", "x"), ("xis", "x")),
    *(("shes", "sh"), ("ches", "ch"), ("sses", "ss"), ("uses", "us"), ("ses", "s"), ("sis", "s")),
]
"""Plural endings in s with their replacements; `_SINGULARS` gives the singular endings the same ones."""

_PLURAL_ENDINGS = tuple(ending for ending, _ in _PLURALS)

_SINGULARS: dict[str, list[tuple[str, str]]] = {
    "e": [("nge", "nx"), ("ice", "ix"), ("ie", "y"), ("tre", "ter"), ("bre", "ber"), ("che", "ch"), ("se", "s"), ("ae", "a")],
    "x": [("ex", "ix")],
    "a": [("mata", "ma")],
    "m": [("um", "a"), ("bolism", "bolus")],
    "n": [("ion", "ia"), ("omenon", "omena"), ("amen", "amina"), ("umen", "umina")],
    "i": [("i", "us")],
}
"""Endings of other words, by their last letter, with their replacements."""


def content_stems(words: Iterable[str]) -> tuple[str, ...]:
    """Stems of the content words, in alphabetical order."""
    return tuple(sorted(stem_of(word) for word in words if word not in FUNCTION_WORDS))


def slip_keys_of(initial: str, text: str, length: int) -> tuple[str, str, str]:
    """The slip keys of a word: its initial with its length, and this with the first or with the last letters of the word.

    Misspellings are looked up by key, so that a form is not compared with every name word. One slip in `pneumonia` leaves its first three or its last
    three letters intact. So every misspelling of the same length shares a key with it: `pneumomia` shares `pnep_9_` (`pne`, the initial `p`, the length 9),
    `pnuemonia` shares `p_9_nia`. Words of fewer than eight letters use two letters instead of three. The initial must be right. A slip that changes
    the length leads to keys of another length: see `reachable_slip_keys`. The underscores keep slip keys apart from stems.
    """
    size = _SIZES[length] if length < len(_SIZES) else f"_{length}_"
    n = 3 if length >= 8 else 2
    return initial + size, text[:n] + initial + size, initial + size + text[-n:]


_SIZES = [f"_{n}_" for n in range(40)]


def reachable_slip_keys(initial: str, text: str, max_slips: int) -> Iterator[str]:
    """Slip keys of which every form with up to `max_slips` slips in the word has at least one.

    A single slip in a word of five or more letters leaves its first or its last letters intact, so two keys for each length suffice. With more slips,
    or in a shorter word, only the initial and the length are certain.
    """
    for length in range(len(text) - max_slips, len(text) + max_slips + 1):
        initial_and_length, *first_or_last = slip_keys_of(initial, text, length)
        yield from first_or_last if max_slips == 1 and len(text) >= 5 else (initial_and_length,)


def hyphenated_words(folded: str) -> Iterator[tuple[int, int, str]]:
    """Words with a hyphen inside: start, end, and the word without the hyphen."""
    position = 0
    while (at := folded.find("-", position)) >= 0:
        start, end = at, at + 1
        while start > 0 and folded[start - 1].isalnum():
            start -= 1
        while end < len(folded) and folded[end].isalnum():
            end += 1
        if start < at < end - 1:
            yield start, end, folded[start:at] + folded[at + 1 : end]
        position = at + 1
