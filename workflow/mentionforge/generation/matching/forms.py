"""Words of texts and names as they are compared: case-folded, by their stems, and by what slips of the pen leave of them."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mentionforge.generation.concepts import fold

GAP = r"(?:[^\S\n]+|[^\S\n]*[-‐‑–—/'’\n][^\S\n]*)"
"""What may stand between two words of a mention: blanks, a hyphen, slash, apostrophe or line break; no other punctuation."""


GAP_BEFORE_WORD = re.compile(rf"{GAP}(?=\w)")
FORM = re.compile(r"\w+(?:['’]s\b)?")
NEXT = re.compile(rf"{GAP}({FORM.pattern})")
NEXT_LOOSE = re.compile(rf"(?:{GAP}|[^\S\n]*[,()\[\]]{{1,2}}[^\S\n]*)({FORM.pattern})")
"""The next word where the name has punctuation before it, which a note may leave out."""
NEXT_OF = re.compile(rf"{GAP}of{GAP}(?:(?:the|an?){GAP})?({FORM.pattern})")
NEXT_APART = re.compile(rf"(?:[^\S\n]*,[^\S\n]+|[^\S\n]*[(\[])({FORM.pattern})")
"""The next word after a comma or in brackets: tremor, essential; heart disease (congenital)."""
NEXT_ARTICLE = re.compile(rf"{GAP}(?:(?:the|an?){GAP})?({FORM.pattern})")
VOWELS = frozenset("aeiouy")
PUNCTUATION = re.compile(r"[^\w\s]")


LITTLE = frozenset(["of", "the", "a", "an", "s"])


class Form(NamedTuple):
    """A word form of a text, its stem and sound, whether a hyphen divides it, and, if it may be a slip of the pen, its `kept_of`."""

    form: str
    stem: str
    sound: str
    divided: bool
    kept: tuple[str, ...]


def in_word(character: str) -> bool:
    """Whether it is a letter, digit or underscore; nothing is none."""
    return character.isalnum() or character == "_"


def places_of(text: str, piece: str) -> list[int]:
    """Where the piece begins, not inside a word."""
    found, at = [], -1
    while piece and (at := text.find(piece, at + 1)) >= 0:
        if not (at and in_word(text[at - 1])):
            found.append(at)
    return found


def fold_case(text: str) -> str:
    """The text case-folded, character by character, so that offsets stay."""
    folded = text.casefold()
    return folded if len(folded) == len(text) else "".join(next((f for f in (c.casefold(), c.lower()) if len(f) == 1), c) for c in text)


@functools.lru_cache(maxsize=1 << 16)
def forms_of(chunk: str) -> tuple[tuple[str, ...], tuple[Form, ...]]:
    """Word forms of a stretch between blanks, also of the words that a hyphen divides; before them their stems and what slips leave of them."""
    if chunk.isalpha():
        forms = {chunk: False}
    else:
        forms = dict.fromkeys(FORM.findall(chunk), False)
        forms.update(dict.fromkeys((whole for *_, whole in divided_words(chunk)), True))
    found, kinds = [], []
    for form, divided in forms.items():
        stem = stem_of(form)
        kept: tuple[str, ...] = ()
        sound = stem
        if len(stem) >= 3 and stem.isalpha() and not VOWELS.isdisjoint(stem):  # without a vowel it is an abbreviation
            kept = kept_of(stem[0], stem, len(stem))
            if stem != form:
                kept += kept_of(stem[0], form, len(form))
            if len(stem) >= 5 and (sound := sound_of(stem)) != stem:
                kinds.append(sound)
        kinds += [stem, *kept]
        found.append(Form(form, stem, sound, divided, kept))
    return tuple(kinds), tuple(found)


@functools.lru_cache(maxsize=1 << 16)
def stem_of(word: str) -> str:
    """A case-folded word without what may differ: accents, possessive, number (Latin and Greek, too), British or American spelling.

    It is for comparison only: `metastases` and `metastasis` agree, so do `diverticula` and `diverticulum`, `thrombi` and `thrombus`.
    """
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c)).translate(_LETTERS)
        if word[:1] in _GREEK and (len(word) == 1 or word[1:].isdigit()):
            word = _GREEK[word[0]] + word[1:]
    if word in _NUMBERS:
        return _NUMBERS[word]
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
_NUMBERS = {said: str(n) for n, said in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"), 1)} | {
    said: str(n) for n, said in enumerate(("one", "two", "three", "four", "five"), 1)
}
"""Type II, type 2 and type two are the same."""


@functools.lru_cache(maxsize=1 << 16)
def sound_of(stem: str) -> str:
    """How a stem is heard: words that sound alike are slips of one another, however many letters differ (`borelliosis`, `borreliosis`; `colera`).

    Letters that English pronounces alike become one (ph and f; ch, c and k; y and i), silent ones (the p of pneumonia, every h) and doubled ones go.
    """
    if stem[0] in "gkp" and stem.startswith(("pn", "ps", "pt", "kn", "gn")):
        stem = stem[1:]
    if "c" in stem:
        stem = stem.replace("ch", "k").replace("ce", "se").replace("ci", "si").replace("cy", "si").replace("c", "k")
    for spelled, heard in _HEARD:  # far cheaper than a pattern
        if spelled in stem:
            stem = stem.replace(spelled, heard)
    return stem


_HEARD = [*(("ph", "f"), ("qu", "kv"), ("x", "ks"), ("z", "s"), ("y", "i"), ("h", "")), *((letter * 2, letter) for letter in "lsrtnmpfkiegbdaou")]


_PLURALS = [
    *(("itides", "itis"), ("exes", "ix"), ("nges", "nx"), ("ices", "ix"), ("ies", "y"), ("tres", "ter"), ("bres", "ber"), ("xes", "x"), ("xis", "x")),
    *(("shes", "sh"), ("ches", "ch"), ("sses", "ss"), ("uses", "us"), ("ses", "s"), ("sis", "s")),
]
"""Endings with s, and what becomes of them; what becomes of the singular is the same."""

_PLURAL_ENDINGS = tuple(ending for ending, _ in _PLURALS)

_SINGULARS: dict[str, list[tuple[str, str]]] = {
    "e": [("nge", "nx"), ("ice", "ix"), ("ie", "y"), ("tre", "ter"), ("bre", "ber"), ("che", "ch"), ("se", "s"), ("ae", "a")],
    "x": [("ex", "ix")],
    "a": [("mata", "ma")],
    "m": [("um", "a"), ("bolism", "bolus")],
    "n": [("ion", "ia"), ("omenon", "omena"), ("amen", "amina"), ("umen", "umina")],
    "i": [("i", "us")],
}
"""Endings of other words, and what becomes of them."""


def key_of(words: Iterable[str]) -> tuple[str, ...]:
    """Stems of words that mean something, in alphabetical order."""
    return tuple(sorted(stem_of(word) for word in words if word not in LITTLE))


def kept_of(initial: str, text: str, length: int) -> tuple[str, str, str]:
    """What slips of the pen leave of a word, of which they spare the initial: its length, and with it its first or its last letters.

    A slip in `pneumonia` is before its last three letters or behind its first three, so that every slip of it has a key in common with it: `pneumomia`
    has `pne`, the initial `p` and the length 9. In words shorter than eight letters that holds for two letters. No key looks like a stem. Slips that
    change the length leave the keys of another length; see `kept_by_slips`.
    """
    size = _SIZES[length] if length < len(_SIZES) else f"_{length}_"
    many = 3 if length >= 8 else 2
    return initial + size, text[:many] + initial + size, initial + size + text[-many:]


_SIZES = [f"_{n}_" for n in range(40)]


def kept_by_slips(initial: str, text: str, most: int) -> Iterator[str]:
    """What so many slips may leave of a word: a single one changes either the first letters or the last, not both, if there are five."""
    for length in range(len(text) - most, len(text) + most + 1):
        any_letters, *some = kept_of(initial, text, length)
        yield from some if most == 1 and len(text) >= 5 else (any_letters,)


def divided_words(folded: str) -> Iterator[tuple[int, int, str]]:
    """Words that a hyphen divides: start, end, and the word without it."""
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
