"""How a name of a knowledge base is written in running text: case, head noun, number, article.

In: names, and texts in which words stand in their usual case. Out: names as a sentence would have them, and what is compared to see whether a name fits the
place of another one. Knows nothing of concepts, mentions and corpora.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from mentionforge.generation.confusion import has_medical_ending
from mentionforge.generation.matching.forms import stem_of
from mentionforge.generation.matching.names import ADJECTIVE, is_case_insensitive

_LETTERS = re.compile(r"[^\W\d_]+")
_PHRASE_ENDS = re.compile(r",|\s[(\[]|\s(?:of|in|with|without|due|from|following|to|on|by|for|at|during|associated|caused)\s", re.IGNORECASE)
_NUMBERING = re.compile(r"(?:[\s-]+(?:type|types|subtype|stage|grade|class|group|\d+\w?|[IVX]+[ab]?|[A-Za-z]))+$", re.IGNORECASE)
_NOT_RUNNING = re.compile(r"[,;:()\[\]{}<>/]|\bNOS\b|\bNEC\b")
_SINGULAR_IN_S = frozenset(["diabetes", "herpes", "rabies", "ascites", "caries", "scabies", "measles", "mumps", "tabes", "series", "pes", "lues", "rickets"])
_SOUNDS_LIKE_A_CONSONANT = re.compile(r"(?:uni(?!n[cfhstv]|m)|ure|uro|ute|eu|one\b|u\b)", re.IGNORECASE)
_SOUNDS_LIKE_A_VOWEL = re.compile(r"(?:[aeiou]|hour|heir|honest)", re.IGNORECASE)
_VOWEL_LETTERS = frozenset("AEFHILMNORSX8")
"""Letters whose names begin with a vowel: an HIV infection, an 8-year course."""

MAX_WORDS = 6
"""A name with more words is a definition rather than what a sentence calls a disease."""


def reads_like_text(name: str) -> bool:
    """Whether a sentence could call a disease so: no inversion, no brackets or codes, no abbreviation, not in capitals throughout, not too long."""
    return not _NOT_RUNNING.search(name) and len(name.split()) <= MAX_WORDS and is_case_insensitive(name) and not name.isupper()


def head_noun(name: str) -> str:
    """The noun of a name, case-folded: "carcinoma" of "renal cell carcinomas" and of "carcinoma of the kidney, stage II"; its stem, so number does not count."""
    return stem_of(_head(name).casefold())


def is_plural(name: str) -> bool:
    """Whether the head noun of a name stands in the plural."""
    head = _head(name).casefold()
    return head not in _SINGULAR_IN_S and len(head) > 3 and bool(re.search(r"(?<![siuc])s$|mata$|[^a]ae$|(?<=[nt])ics$", head)) and not head.endswith("'s")


def _head(name: str) -> str:
    """The last word before a preposition, a comma or a bracket, without numbering."""
    end = next((m.start() for m in _PHRASE_ENDS.finditer(name) if m.start()), len(name))
    phrase = name[:end].strip()
    words = _NUMBERING.sub("", phrase).split() or phrase.split() or [name]
    return words[-1]


def article(text: str) -> str:
    """The indefinite article before a text: "an" or "a", by the sound of its beginning."""
    first = re.match(r"[^\W_]+", text)
    word = first[0] if first else text
    if len(word) == 1 or (len(word) > 1 and word.isupper()) or word[:1].isdigit():
        return "an" if word[:1].upper() in _VOWEL_LETTERS else "a"
    return "an" if _SOUNDS_LIKE_A_VOWEL.match(word) and not _SOUNDS_LIKE_A_CONSONANT.match(word) else "a"


class Case:
    """The case in which words stand in running text, learned from sentences and from names.

    The first of these that knows a word decides:

    1. the middle of sentences;
    2. the middle of names that are not capitalized throughout ("early-onset Parkinson disease");
    3. names in which the word stands in lower case, in singular or plural;
    4. what it is: a word that is a name by itself, the last of a name, or one that ends like an adjective or a disease is no proper name.

    A word that none of these knows stays as it is, and so do abbreviations and other words with a capital inside.
    """

    def __init__(self, sentences: Iterable[str], names: Iterable[str]) -> None:
        """Count the words of texts, each a sentence, and of names."""
        self._in_text: dict[str, Counter[bool]] = {}
        self._in_names: dict[str, Counter[bool]] = {}
        self._lower: set[str] = set()
        self._common: set[str] = set()
        for sentence in sentences:
            for word in _LETTERS.findall(sentence)[1:]:
                _count(self._in_text, word)
        for name in names:
            words = _LETTERS.findall(name)
            self._lower.update(form for word in words if word.islower() for form in (word, stem_of(word)))
            if not words or _NOT_RUNNING.search(name):
                continue
            self._common.add(stem_of(words[-1].lower()))
            if any(word.islower() and len(word) > 3 for word in words):
                for word in words[1:]:
                    _count(self._in_names, word)

    def write(self, name: str) -> str:
        """A name as it stands inside a sentence."""
        return _LETTERS.sub(lambda match: self._write(match[0]), name)

    def _write(self, word: str) -> str:
        if len(word) < 2 or not word[0].isupper() or not word[1:].islower():
            return word
        lower = word.lower()
        for counts in (self._in_text, self._in_names):
            if seen := counts.get(lower):
                return word if seen[True] > seen[False] else lower
        known = any(form in words for form in (lower, stem_of(lower)) for words in (self._lower, self._common))
        return lower if known or ADJECTIVE.search(lower) or has_medical_ending(lower) else word


def _count(counts: dict[str, Counter[bool]], word: str) -> None:
    """Count a word by whether it has a capital first letter; words of capitals and single letters say nothing."""
    if len(word) > 1 and word[1:].islower():
        counts.setdefault(word.lower(), Counter())[word[0].isupper()] += 1


def capitalized(text: str) -> str:
    """The text as it stands at the beginning of a sentence: a first word in lower case gets its capital."""
    first = re.match(r"[^\W\d_]+", text)
    return text[:1].upper() + text[1:] if first and first[0].islower() else text
