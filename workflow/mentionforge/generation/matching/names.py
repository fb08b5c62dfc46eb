"""Prepares the names of a concept for searching. In: a name. Out: its words, the gaps allowed between them, its other word orders and its spelling variants.

Knows nothing about texts but how to match a name exactly in one (`Name.spans`). Offsets are 0-based characters, end exclusive.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from spacy.lang.en.stop_words import STOP_WORDS

from mentionforge.generation.concepts import words_of
from mentionforge.generation.matching.forms import (
    GAP,
    GAP_BEFORE_WORD,
    NEXT_WORD_AFTER_COMMA,
    NEXT_WORD_AFTER_OF,
    NEXT_WORD_OPTIONAL_ARTICLE,
    NEXT_WORD_OPTIONAL_PUNCTUATION,
    PUNCTUATION,
    WORD,
    fold_case,
    is_word_character,
)
from mentionforge.text import Span

UNIMPORTANT = frozenset(["a", "an", "and", "by", "due", "for", "from", "in", "of", "on", "or", "the", "to", "with"])
"""Words that an initialism may leave out."""


ADJECTIVE = re.compile(r"(?:al|ic|oid|ous|ary|ive|iac|ile|ed|ing)\Z")
"""Words that do not end a phrase with "of": leukemia of myeloid type."""


_JOINED = re.compile(r"(?<=[^\W\d_])[-‐‑](?=[^\W\d_])")
_HYPHENED = re.compile(r"\b[^\W\d_]{3,}-[^\W\d_]{3,}\b")
_BEFORE_DIGITS = re.compile(r"\b([^\W\d_]{1,8})[\s-]?(\d+)\b")
_PREFIX = "post|pre|non|anti|hyper|hypo|micro|macro|neuro|cardio|gastro|cerebro|broncho|musculo|auto|intra|inter|extra|over|under|multi|poly|psycho"
_PREFIXED = re.compile(rf"\b({_PREFIX})([^\W\d_]{{5,}})", re.IGNORECASE)
_COMPOUND_END = "ache|burn|foot|worm|pox|birth|bite|blindness|sickness"
_COMPOUND = re.compile(rf"\b([^\W\d_]{{3,}})({_COMPOUND_END})(?=s?\b)", re.IGNORECASE)
_PREFIXES, _COMPOUND_ENDS = tuple(_PREFIX.split("|")), tuple(_COMPOUND_END.split("|"))
_PUNCTUATION_CHUNK = re.compile(r"\s[^\w\s]+\s")
_TYPE_WORDS = frozenset(["type", "subtype", "stage", "grade", "class", "phase", "group"])
"""Words before which a note may put a comma or bracket: diabetes mellitus (type 2)."""

_STOP_WORDS = "|".join(sorted(STOP_WORDS - {"and", "or"}))
_NAME_CONTINUES = re.compile(rf"[^\S\n]+(?!(?:{_STOP_WORDS}|and|or)\b|\w+(?:ed|ing)\b)[^\W\d_]{{2}}")
_NAME_OR_LIST_CONTINUES = re.compile(rf"[^\S\n]+(?!(?:{_STOP_WORDS})\b|\w+(?:ed|ing)\b)[^\W\d_]{{2}}")
_ITEM_BEGINS = re.compile(rf"(?:\A|\n|[^\w\s-]|\b(?:{_STOP_WORDS}|and|or|known|chronic|acute|mild|severe|possible|probable|likely|suspected|history))\s*\Z")


def stands_alone(folded: str, start: int, end: int, comma_check: int) -> bool:
    """Whether a span with a comma is one name, rather than the end of one list item and the beginning of the next.

    `Tremor, essential, on propranolol` holds such a name; `tremor, essential hypertension` and `breast cancer, lung nodules` do not.

    Args:
        folded: The text, case-folded.
        start: First character of the span.
        end: One past its last character.
        comma_check: 1: check the text after the span; 2: check the text before it too.
    """
    if (_NAME_CONTINUES if comma_check == 1 else _NAME_OR_LIST_CONTINUES).match(folded, end):
        return False
    return comma_check == 1 or _ITEM_BEGINS.search(folded, max(0, start - 12), start) is not None


def hyphenated_pairs(names: Iterable[str]) -> list[re.Pattern[str]]:
    """Patterns of word pairs that a name joins by a hyphen: since there is `End-stage kidney disease`, `Endstage renal disease` is a variant too."""
    pairs = {pair[0].casefold() for name in names if "-" in name for pair in _HYPHENED.finditer(name)}
    return [re.compile(rf"\b({re.escape(first)}) ({re.escape(second)})\b", re.IGNORECASE) for first, second in (pair.split("-") for pair in sorted(pairs))]


def spelling_variants(name: str) -> set[str]:
    """The name with other hyphens and blanks: `posttraumatic`, `post traumatic`; `hayfever`; `head ache`; `vitamin B 12`, `type2 diabetes`."""
    variants = {_JOINED.sub("", name)} if "-" in name or not name.isascii() else set()
    for piece in name.casefold().replace("-", " ").split():
        if piece.startswith(_PREFIXES):
            variants.add(_PREFIXED.sub(r"\1 \2", name))
        if piece.rstrip("s,").endswith(_COMPOUND_ENDS):
            variants.add(_COMPOUND.sub(r"\1 \2", name))
    if len(name) >= 6 and any(map(str.isdigit, name)):
        variants |= {_BEFORE_DIGITS.sub(r"\1 \2", name), _BEFORE_DIGITS.sub(r"\1\2", name)}
    words = name.split(" ")
    if len(words) == 2 and len(name) <= 13 and min(map(len, words)) >= 3 and all(word.isalpha() for word in words):
        variants.add("".join(words))
    return variants - {name}


class WordSequence(NamedTuple):
    """Words to search for one after the other, each in any form.

    Attributes:
        words: The words.
        length: Length of the name in characters; slips are counted against it.
        gaps: Pattern of the gap before a word with the word itself, by the number of the word, where `NEXT_WORD` does not fit.
        include_exact: Whether to return matches without any slip too.
        comma_check: How to check that a comma does not separate two list items (0: no check); see `stands_alone`.
    """

    words: tuple[str, ...]
    length: int
    gaps: Mapping[int, re.Pattern[str]]
    include_exact: bool
    comma_check: int = 0


class Reordering(NamedTuple):
    """The words of a name in another order. `mark` is "of", a comma or nothing; `head` is the word before it."""

    sequence: WordSequence
    head: str
    mark: str


@dataclass(frozen=True)
class Name:
    """A name with the kind of match that it counts as, its words, and whether it may be misspelt."""

    name: str
    match: str
    words: tuple[str, ...]
    allows_slips: bool

    @classmethod
    def of(cls, name: str, match: str, fuzzy_min_length: int) -> Name:
        """Prepare a name. One shorter than `fuzzy_min_length` allows no slips."""
        words = tuple(WORD.findall(fold_case(name)))
        return cls(name, match, words, bool(words) and len(name) >= fuzzy_min_length and is_case_insensitive(name))

    @functools.cached_property
    def length(self) -> int:
        """Number of characters of the words, with one blank between them."""
        return sum(map(len, self.words)) + len(self.words) - 1

    @functools.cached_property
    def punctuation_run(self) -> int:
        """The longest run of chunks without a letter or digit inside the name, in chunks."""
        if not _PUNCTUATION_CHUNK.search(self.name):
            return 0
        most = row = 0
        for chunk in self.name.split():
            row = 0 if is_word_character(chunk[0]) or is_word_character(chunk[-1]) or re.search(r"\w", chunk) else row + 1
            most = max(most, row)
        return most

    @functools.cached_property
    def after_punctuation(self) -> tuple[int, ...]:
        """Numbers of the words that follow punctuation which is no `GAP`: in `Diabetes mellitus, type 2` the number of `type`."""
        if not PUNCTUATION.search(self.name):
            return ()
        words = list(WORD.finditer(fold_case(self.name)))
        return tuple(i for i, (a, b) in enumerate(itertools.pairwise(words), 1) if not re.fullmatch(GAP, self.name[a.end() : b.start()]))

    @functools.cached_property
    def optional_punctuation(self) -> tuple[int, ...]:
        """Numbers of the words that a note may put punctuation before."""
        return tuple(sorted({*self.after_punctuation, *(i for i, word in enumerate(self.words) if i and word in _TYPE_WORDS)}))

    @functools.cached_property
    def comma_check(self) -> int:
        """1 if the name has a comma that could as well separate two list items, else 0."""
        return int("," in self.name and self.words[-1].isalpha() and len(self.words[-1]) > 3)

    @functools.cached_property
    def sequence(self) -> WordSequence:
        """The name as a word sequence. A note may add an article after "of", and may use other punctuation than the name or none.

        A name with punctuation is searched for even if the text has all its words unchanged.
        """
        gaps = {
            i: NEXT_WORD_OPTIONAL_ARTICLE
            for i, (word, after) in enumerate(itertools.pairwise(self.words), 1)
            if word == "of" and after not in ("the", "a", "an")
        } | dict.fromkeys(self.optional_punctuation, NEXT_WORD_OPTIONAL_PUNCTUATION)
        return WordSequence(self.words, self.length, gaps, bool(self.optional_punctuation) or self.match == "fuzzy", self.comma_check)

    @functools.cached_property
    def reorderings(self) -> list[Reordering]:
        """The name in the other word orders of English.

        `X deficiency` becomes `deficiency of X`, `deficiency of X` becomes `X deficiency`, `pain, abdominal` becomes `abdominal pain`. `Essential tremor`
        becomes `tremor, essential` and `tremor (essential)`, as in indexes and problem lists.
        """
        words = self.words
        # The A of vitamin A stays behind its word; after a word like "of", `a` is an article.
        letters = {(before, word) for before, word in itertools.pairwise(words) if word == "a" and before not in UNIMPORTANT}
        if not self.case_insensitive or not 2 <= len(words) <= 7:
            return []
        orders: dict[tuple[tuple[str, ...], str, tuple[int, ...]], None] = {}  # words, mark, numbers of the words after a mark
        if "," in self.name:
            pieces = [tuple(WORD.findall(piece)) for piece in fold_case(self.name).split(",")]
            if all(pieces) and not re.search(r"[()\[\]]", self.name):
                words = tuple(word for piece in reversed(pieces) for word in piece)
                orders[words, "", ()] = None
                if len(pieces) == 2 and len(words) == 2 and len(words[1]) > 3 and words[1].isalpha():  # Pain, Shoulder
                    orders[(words[1], words[0]), "of", (1,)] = None
        elif self.after_punctuation or UNIMPORTANT.intersection(words) - {"of", "the", "a"} or words.count("a") > len(letters):
            pass
        elif words.count("of") == 1:
            at = words.index("of")
            head, rest = words[:at], tuple(word for word in words[at + 1 :] if word != "the")
            if head and rest:
                orders[(*rest, *head), "", ()] = None
                orders[(*head[:-1], *rest, head[-1]), "", ()] = None
                if _can_be_head(head):
                    orders[(*head, *rest), ",", (at,)] = None
        elif "of" not in words and "the" not in words:
            for i in range(1, len(words)):
                head, rest = words[i:], words[:i]
                if _can_be_head(head):
                    orders[(*head, *rest), "of", (len(head),)] = None
                    orders[(*words[: i - 1], words[-1], *words[i - 1 : -1]), "of", (i,)] = None
                    orders[(*head, *rest), ",", (len(head),)] = None
            if len(words) == 3 and _can_be_head(words):
                orders[words[::-1], ",", (1, 2)] = None

        return [
            Reordering(
                WordSequence(
                    order, self.length, dict.fromkeys(after_mark, NEXT_WORD_AFTER_OF if mark == "of" else NEXT_WORD_AFTER_COMMA), True, 2 * (mark == ",")
                ),
                order[after_mark[0] - 1] if after_mark else "",
                mark,
            )
            for order, mark, after_mark in orders
            if letters <= set(itertools.pairwise(order))
        ]

    @functools.cached_property
    def case_insensitive(self) -> bool:
        """Whether it matches in any case."""
        return is_case_insensitive(self.name)

    @functools.cached_property
    def first_word(self) -> str:
        """The first run of letters and digits, case-folded."""
        word = re.search(r"\w+", fold_case(self.name))
        return word[0] if word else ""

    @functools.cached_property
    def words_and_gaps(self) -> tuple[str, tuple[tuple[str, str | None, bool], ...], str]:
        """Punctuation before the first word; each word, the gap after it (none: any gap), whether an article may follow; punctuation at the end."""
        pieces = re.split(r"(\w+)", fold_case(self.name) if self.case_insensitive else self.name)  # before, word, between, word, …, after
        gaps = [*(None if re.fullmatch(GAP, gap) else gap for gap in pieces[2:-1:2]), ""]
        before, after = (piece if piece.strip() else "" for piece in (pieces[0], pieces[-1]))
        return before, tuple((word, gap, word.casefold() == "of") for word, gap in zip(pieces[1::2], gaps, strict=False)), after

    def spans(self, text: str, starts: Iterable[int]) -> Iterator[Span]:
        """Spans of the name in a text, at word boundaries.

        Args:
            text: The text; case-folded if the name is case-insensitive.
            starts: Offsets at which its first word may begin.
        """
        before, _, _ = self.words_and_gaps
        end = 0
        for at in starts:
            name_end = self._end(text, at) if at >= end else None
            if name_end is None:
                continue
            start = at - len(before)
            if not before or start < end or not text.startswith(before, start) or (start and is_word_character(text[start - 1])):
                start = at
            end = name_end
            yield start, end

    def _end(self, text: str, at: int, first: int = 0) -> int | None:
        """The end of the words from number `first` on, if they begin at `at`; else none."""
        _, words, after = self.words_and_gaps
        for i in range(first, len(words)):
            word, gap, article = words[i]
            if not text.startswith(word, at):
                return None
            at += len(word)
            if i == len(words) - 1:
                break
            next_word = _skip_gap(text, at, gap)
            if next_word is None:
                return None
            at = next_word
            if article and text.startswith("the", at):
                next_word = _skip_gap(text, at + 3, None)
                end = None if next_word is None else self._end(text, next_word, i + 1)
                if end is not None:
                    return end
        if after and text.startswith(after, at) and not is_word_character(text[at + len(after) : at + len(after) + 1]):
            return at + len(after)
        return None if is_word_character(text[at : at + 1]) else at


def _skip_gap(text: str, at: int, gap: str | None) -> int | None:
    """Offset of the next word after the gap at `at`: exactly `gap`, or any gap if it is none."""
    if gap is None:
        match = GAP_BEFORE_WORD.match(text, at)
        return match.end() if match else None
    return at + len(gap) if text.startswith(gap, at) else None


def is_case_insensitive(name: str) -> bool:
    """Whether a name matches in any case. Names of two letters, abbreviations ("ALL", "SADs") and ordinary words ("all") match in their own case only."""
    if len(name) <= 2 or name.casefold() in STOP_WORDS:
        return False
    if len(name) > 6 or " " in name:
        return True
    capitals = sum(c.isupper() for c in name)
    return capitals < 2 or capitals < sum(c.islower() for c in name)


def initialisms_of(name: str) -> Iterator[str]:
    """First letters of a name's words in capitals, with and without the unimportant words; at least two letters."""
    words = [word for word, _ in words_of(name)]
    for kept in (words, [w for w in words if w.casefold() not in UNIMPORTANT]):
        if len(kept) > 1:
            yield "".join(w[0] for w in kept).upper()


def _can_be_head(head: tuple[str, ...]) -> bool:
    """Whether words can stand before "of" or a comma: the last one is a word, not a number or a single letter."""
    return len(head[-1]) > 3 and head[-1].isalpha()
