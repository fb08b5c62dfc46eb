"""Names of a concept, prepared for being found: their words, what may stand between them, and their other orders."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from spacy.lang.en.stop_words import STOP_WORDS

from mentionforge.generation.concepts import words_of
from mentionforge.generation.matching.forms import FORM, GAP, GAP_BEFORE_WORD, NEXT_APART, NEXT_ARTICLE, NEXT_LOOSE, NEXT_OF, PUNCTUATION, fold_case, in_word
from mentionforge.text import Span

UNIMPORTANT = frozenset(["a", "an", "and", "by", "due", "for", "from", "in", "of", "on", "or", "the", "to", "with"])
"""Words that an initialism may leave out."""


ADJECTIVE = re.compile(r"(?:al|ic|oid|ous|ary|ive|iac|ile|ed|ing)\Z")
"""Words that "of" is not the end of: leukemia of myeloid type."""


_JOINED = re.compile(r"(?<=[^\W\d_])[-‐‑](?=[^\W\d_])")
_HYPHENED = re.compile(r"\b[^\W\d_]{3,}-[^\W\d_]{3,}\b")
_BEFORE_DIGITS = re.compile(r"\b([^\W\d_]{1,8})[\s-]?(\d+)\b")
_PREFIX = "post|pre|non|anti|hyper|hypo|micro|macro|neuro|cardio|gastro|cerebro|broncho|musculo|auto|intra|inter|extra|over|under|multi|poly|psycho"
_PREFIXED = re.compile(rf"\b({_PREFIX})([^\W\d_]{{5,}})", re.IGNORECASE)
_PART = "ache|burn|foot|worm|pox|birth|bite|blindness|sickness"
_COMPOUND = re.compile(rf"\b([^\W\d_]{{3,}})({_PART})(?=s?\b)", re.IGNORECASE)
_PREFIXES, _PARTS = tuple(_PREFIX.split("|")), tuple(_PART.split("|"))
_LONE = re.compile(r"\s[^\w\s]+\s")
_TYPES = frozenset(["type", "subtype", "stage", "grade", "class", "phase", "group"])
"""Words before which a note may put a comma or bracket: diabetes mellitus (type 2)."""

_STOPS = "|".join(sorted(STOP_WORDS - {"and", "or"}))
_GOES_ON = re.compile(rf"[^\S\n]+(?!(?:{_STOPS}|and|or)\b|\w+(?:ed|ing)\b)[^\W\d_]{{2}}")
_GOES_ON_EVEN = re.compile(rf"[^\S\n]+(?!(?:{_STOPS})\b|\w+(?:ed|ing)\b)[^\W\d_]{{2}}")
_BEGINS = re.compile(rf"(?:\A|\n|[^\w\s-]|\b(?:{_STOPS}|and|or|known|chronic|acute|mild|severe|possible|probable|likely|suspected|history))\s*\Z")


def stands_alone(folded: str, start: int, end: int, guard: int) -> bool:
    """Whether what stands at `start` to `end` with a comma in it is one name, not the end of one item of a list and the beginning of the next.

    `Tremor, essential, on propranolol` is one; `tremor, essential hypertension` is none, nor is `breast cancer, lung nodules`.

    Args:
        folded: The text.
        start: Where it begins.
        end: Where it ends.
        guard: 1: only what follows must allow it; 2: what stands before, too.
    """
    if (_GOES_ON if guard == 1 else _GOES_ON_EVEN).match(folded, end):
        return False
    return guard == 1 or _BEGINS.search(folded, max(0, start - 12), start) is not None


def pairs_of(names: Iterable[str]) -> list[re.Pattern[str]]:
    """Pairs of words that a name puts a hyphen between, apart: with `End-stage kidney disease`, a note may write `Endstage renal disease`, too."""
    pairs = {pair[0].casefold() for name in names if "-" in name for pair in _HYPHENED.finditer(name)}
    return [re.compile(rf"\b({re.escape(first)}) ({re.escape(second)})\b", re.IGNORECASE) for first, second in (pair.split("-") for pair in sorted(pairs))]


def variants_of(name: str) -> set[str]:
    """Other ways to put a name's hyphens and blanks: `posttraumatic`, `post traumatic`; `hayfever`; `head ache`; `vitamin B 12`, `type2 diabetes`."""
    found = {_JOINED.sub("", name)} if "-" in name or not name.isascii() else set()
    for piece in name.casefold().replace("-", " ").split():
        if piece.startswith(_PREFIXES):
            found.add(_PREFIXED.sub(r"\1 \2", name))
        if piece.rstrip("s,").endswith(_PARTS):
            found.add(_COMPOUND.sub(r"\1 \2", name))
    if len(name) >= 6 and any(map(str.isdigit, name)):
        found |= {_BEFORE_DIGITS.sub(r"\1 \2", name), _BEFORE_DIGITS.sub(r"\1\2", name)}
    words = name.split(" ")
    if len(words) == 2 and len(name) <= 13 and min(map(len, words)) >= 3 and all(word.isalpha() for word in words):
        found.add("".join(words))
    return found - {name}


class Search(NamedTuple):
    """Words to be found one after the other in any form.

    Attributes:
        words: The words.
        length: Characters of the name they are from.
        between: What leads to a word, by its number, where it is not just a gap.
        same: Whether to give those as well that are the words as they are.
        guard: Whether a comma in it must not be one between two items of a list; see `stands_alone`.
    """

    words: tuple[str, ...]
    length: int
    between: Mapping[int, re.Pattern[str]]
    same: bool
    guard: int = 0


class Order(NamedTuple):
    """The words of a name in another order, and, if it has one, the word before "of" or a comma, and which of these."""

    search: Search
    head: str
    mark: str


@dataclass(frozen=True)
class Name:
    """A name: its kind of match, its words, whether it may be misspelt, and, once they are needed, its parts."""

    name: str
    match: str
    words: tuple[str, ...]
    spelled: bool

    @classmethod
    def of(cls, name: str, match: str, fuzzy_min_length: int) -> Name:
        """The name prepared; one shorter than `fuzzy_min_length` must stand as it is."""
        words = tuple(FORM.findall(fold_case(name)))
        return cls(name, match, words, bool(words) and len(name) >= fuzzy_min_length and any_case_of(name))

    @functools.cached_property
    def length(self) -> int:
        """Characters of the words, with a blank between them."""
        return sum(map(len, self.words)) + len(self.words) - 1

    @functools.cached_property
    def apart(self) -> int:
        """Stretches between blanks without a letter or digit that stand between two words of the name: the most of them in a row."""
        if not _LONE.search(self.name):
            return 0
        most = row = 0
        for chunk in self.name.split():
            row = 0 if in_word(chunk[0]) or in_word(chunk[-1]) or re.search(r"\w", chunk) else row + 1
            most = max(most, row)
        return most

    @functools.cached_property
    def punctuated(self) -> tuple[int, ...]:
        """Numbers of the words before which there is punctuation other than a gap's: of `Diabetes mellitus, type 2` that of `type`."""
        if not PUNCTUATION.search(self.name):
            return ()
        found = list(FORM.finditer(fold_case(self.name)))
        return tuple(i for i, (a, b) in enumerate(itertools.pairwise(found), 1) if not re.fullmatch(GAP, self.name[a.end() : b.start()]))

    @functools.cached_property
    def loose(self) -> tuple[int, ...]:
        """Numbers of the words before which a note may have punctuation."""
        return tuple(sorted({*self.punctuated, *(i for i, word in enumerate(self.words) if i and word in _TYPES)}))

    @functools.cached_property
    def guard(self) -> int:
        """Whether it has a comma that may as well stand between two items of a list."""
        return int("," in self.name and self.words[-1].isalpha() and len(self.words[-1]) > 3)

    @functools.cached_property
    def search(self) -> Search:
        """Its words in any form; a note may have an article after "of", and other punctuation than the name or none.

        A name with punctuation is looked for even where all its words stand as they are.
        """
        between = {
            i: NEXT_ARTICLE for i, (word, after) in enumerate(itertools.pairwise(self.words), 1) if word == "of" and after not in ("the", "a", "an")
        } | dict.fromkeys(self.loose, NEXT_LOOSE)
        return Search(self.words, self.length, between, bool(self.loose) or self.match == "fuzzy", self.guard)

    @functools.cached_property
    def orders(self) -> list[Order]:
        """Its words in the other orders of English.

        `X deficiency` is `deficiency of X`, `deficiency of X` is `X deficiency`, `pain, abdominal` is `abdominal pain`, and, as indexes and lists of
        problems have it, `essential tremor` is `tremor, essential` and `tremor (essential)`.
        """
        words = self.words
        # The letter of vitamin A, which stays behind its word; after a word like "of" it would be an article.
        letters = {(before, word) for before, word in itertools.pairwise(words) if word == "a" and before not in UNIMPORTANT}
        if not self.any_case or not 2 <= len(words) <= 7:
            return []
        found: dict[tuple[tuple[str, ...], str, tuple[int, ...]], None] = {}  # words, mark, numbers of the words behind one
        if "," in self.name:
            pieces = [tuple(FORM.findall(piece)) for piece in fold_case(self.name).split(",")]
            if all(pieces) and not re.search(r"[()\[\]]", self.name):
                words = tuple(word for piece in reversed(pieces) for word in piece)
                found[words, "", ()] = None
                if len(pieces) == 2 and len(words) == 2 and len(words[1]) > 3 and words[1].isalpha():  # Pain, Shoulder
                    found[(words[1], words[0]), "of", (1,)] = None
        elif self.punctuated or UNIMPORTANT.intersection(words) - {"of", "the", "a"} or words.count("a") > len(letters):
            pass
        elif words.count("of") == 1:
            at = words.index("of")
            head, rest = words[:at], tuple(word for word in words[at + 1 :] if word != "the")
            if head and rest:
                found[(*rest, *head), "", ()] = None
                found[(*head[:-1], *rest, head[-1]), "", ()] = None
                if _may_lead(head):
                    found[(*head, *rest), ",", (at,)] = None
        elif "of" not in words and "the" not in words:
            for i in range(1, len(words)):
                head, rest = words[i:], words[:i]
                if _may_lead(head):
                    found[(*head, *rest), "of", (len(head),)] = None
                    found[(*words[: i - 1], words[-1], *words[i - 1 : -1]), "of", (i,)] = None
                    found[(*head, *rest), ",", (len(head),)] = None
            if len(words) == 3 and _may_lead(words):
                found[words[::-1], ",", (1, 2)] = None

        return [
            Order(
                Search(order, self.length, dict.fromkeys(behind, NEXT_OF if mark == "of" else NEXT_APART), True, 2 * (mark == ",")),
                order[behind[0] - 1] if behind else "",
                mark,
            )
            for order, mark, behind in found
            if letters <= set(itertools.pairwise(order))
        ]

    @functools.cached_property
    def any_case(self) -> bool:
        """Whether it may stand in any case."""
        return any_case_of(self.name)

    @functools.cached_property
    def first(self) -> str:
        """The first letters and digits, case-folded."""
        found = re.search(r"\w+", fold_case(self.name))
        return found[0] if found else ""

    @functools.cached_property
    def parts(self) -> tuple[str, tuple[tuple[str, str | None, bool], ...], str]:
        """What stands before the first word; each word, what follows it (none: any gap), and whether an article may; what stands after the last."""
        pieces = re.split(r"(\w+)", fold_case(self.name) if self.any_case else self.name)  # before, word, between, word, …, after
        gaps = [*(None if re.fullmatch(GAP, gap) else gap for gap in pieces[2:-1:2]), ""]
        before, after = (piece if piece.strip() else "" for piece in (pieces[0], pieces[-1]))
        return before, tuple((word, gap, word.casefold() == "of") for word, gap in zip(pieces[1::2], gaps, strict=False)), after

    def spans(self, text: str, places: Iterable[int]) -> Iterator[Span]:
        """Where the name stands in a text, case-folded if any case will do, at word boundaries.

        Args:
            text: The text.
            places: Where its first word may begin.
        """
        before, _, _ = self.parts
        end = 0
        for at in places:
            found = self._end(text, at) if at >= end else None
            if found is None:
                continue
            start = at - len(before)
            if not before or start < end or not text.startswith(before, start) or (start and in_word(text[start - 1])):
                start = at
            end = found
            yield start, end

    def _end(self, text: str, at: int, first: int = 0) -> int | None:
        """Where the words from number `first` end that begin at `at`, if they stand there."""
        _, words, after = self.parts
        for i in range(first, len(words)):
            word, gap, article = words[i]
            if not text.startswith(word, at):
                return None
            at += len(word)
            if i == len(words) - 1:
                break
            beyond = _beyond(text, at, gap)
            if beyond is None:
                return None
            at = beyond
            if article and text.startswith("the", at):
                beyond = _beyond(text, at + 3, None)
                found = None if beyond is None else self._end(text, beyond, i + 1)
                if found is not None:
                    return found
        if after and text.startswith(after, at) and not in_word(text[at + len(after) : at + len(after) + 1]):
            return at + len(after)
        return None if in_word(text[at : at + 1]) else at


def _beyond(text: str, at: int, gap: str | None) -> int | None:
    """Where the next word begins after a gap, of any kind or just so, at `at`."""
    if gap is None:
        found = GAP_BEFORE_WORD.match(text, at)
        return found.end() if found else None
    return at + len(gap) if text.startswith(gap, at) else None


def any_case_of(name: str) -> bool:
    """Whether a name may be found in any case: not so two letters, abbreviations ("ALL", "SADs"), and ordinary words ("all")."""
    if len(name) <= 2 or name.casefold() in STOP_WORDS:
        return False
    if len(name) > 6 or " " in name:
        return True
    capitals = sum(c.isupper() for c in name)
    return capitals < 2 or capitals < sum(c.islower() for c in name)


def initialisms_of(name: str) -> Iterator[str]:
    """First letters of a name's words, with and without the unimportant ones, in capitals; of at least two."""
    found = [word for word, _ in words_of(name)]
    for chosen in (found, [w for w in found if w.casefold() not in UNIMPORTANT]):
        if len(chosen) > 1:
            yield "".join(w[0] for w in chosen).upper()


def _may_lead(head: tuple[str, ...]) -> bool:
    """Whether words may stand before "of" or a comma: the last is a word, not a number or letter."""
    return len(head[-1]) > 3 and head[-1].isalpha()
