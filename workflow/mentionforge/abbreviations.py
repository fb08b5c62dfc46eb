"""Abbreviations that a document defines, and mentions with their abbreviations spelled out.

In: a text, as "a case of myotonic dystrophy (DM)". Out: definitions with spans; a mention "DM" as "myotonic dystrophy". Knows nothing of corpora.
The algorithm is that of Schwartz and Hearst, with extensions; see the comment below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mentionforge.text import Span, plain, view

# Schwartz and Hearst (2003, Pac Symp Biocomput 8:451-462): a short form follows its long form in brackets, "heparin-induced thrombocytopenia (HIT)",
# or precedes brackets with the long form. Letters and digits of the short form are matched in the text before the bracket from right to left; the
# first letter must begin a word. For (HIT): t in thrombocytopenia, i in -induced, h at the begin of "heparin".
# Extensions: initials in any order, "myotonic dystrophy (DM)"; square brackets; short forms up to ; or , in a bracket; plural short forms; short
# forms that are words of a longer mention. A definition is searched within its sentence and holds for the whole document; the first one counts.

MAX_SHORT = 10
"""Most characters of a short form (Schwartz and Hearst)."""

REACH = 1_000
"""Characters before a bracket that are searched; a long form has at most fifteen words. Without the limit, time is quadratic in texts without sentences."""

_OPEN = {"(": ")", "[": "]"}
_CUT = re.compile(r"[;,:]\s|\s[(\[]|\s(?:or|and)\s|\s?=\s")
"""The end of a short form in brackets if more follows: (DMD; MIM 310200)."""
_SENTENCE = re.compile(r"[.!?][)\]\"']*\s+(?=[^\sa-z])|\n[ \t\r]*\n")
_LIST = re.compile(r"[)\]]\s*(?:,|;|and\b|or\b)")
"""A long form does not contain an item of a list: anterior (ANT-MI) and inferior infarction."""
_RELATION = re.compile(r"[<>=≤≥]")
_PLURAL = re.compile(r"[A-Z0-9]s$")
_BRACKET = re.compile(r"[(\[]")
_QUOTES = "\"'`“”‘’"


@dataclass(frozen=True)
class Definition:
    """A short form and its long form, with their character spans."""

    short: str
    long: str
    short_span: Span
    long_span: Span


def definitions(text: str) -> list[Definition]:
    """All definitions in a text, in order of the brackets. They are searched in its `text.view`; spans are those of the original text."""
    normalized = view(text)
    in_view = _definitions(normalized.text)
    if normalized.starts is None:
        return in_view
    return [Definition(d.short, d.long, normalized.to_original(*d.short_span), normalized.to_original(*d.long_span)) for d in in_view]


def _definitions(text: str) -> list[Definition]:
    defined = []
    brackets = [m.start() for m in _BRACKET.finditer(text)]
    starts = [0, *(m.end() for m in _SENTENCE.finditer(text))] if brackets else []
    i = 0
    for at in brackets:
        while i + 1 < len(starts) and starts[i + 1] <= at:
            i += 1
        end = _closing(text, at)
        if end is None:
            continue
        begin = _near(text, starts[i], at)
        definition = _inside(text, begin, at, end) or _outside(text, begin, at, end)
        if definition:
            defined.append(definition)
    return defined


def long_forms(text: str) -> dict[str, str]:
    """Long form of each short form that a text defines. Other short forms within a long form are spelled out, too; blanks are single."""
    first_definitions: dict[str, str] = {}
    for definition in definitions(text):
        first_definitions.setdefault(definition.short, " ".join(definition.long.split()))
    expander = Expander(first_definitions)
    return {short: expander.expand(long, short) or long for short, long in first_definitions.items()}


class Expander:
    """Expands the mentions of a document: what `expand` does, at a cost that does not grow with the number of abbreviations.

    Only short forms that occur in a mention can change it. They are looked up by the first two characters of their singular.
    """

    def __init__(self, abbreviations: Mapping[str, str]) -> None:
        self.abbreviations = dict(abbreviations)
        self._by_start: dict[str, list[tuple[int, str]]] = {}
        for number, short in enumerate(self.abbreviations):
            self._by_start.setdefault(singular(short)[:2], []).append((number, short))

    def expand(self, surface: str, besides: str | None = None) -> str | None:
        """See `expand`; the forms of the short form `besides`, its plural included, are left as they are."""
        text = " ".join(plain(surface).split())
        if _BRACKET.search(text):  # without its brackets, a text may have other words
            forms: Mapping[str, str] = self.abbreviations
        else:
            starts = {text[i : i + n] for i in range(len(text)) for n in (1, 2)}
            occurring = [entry for start in starts for entry in self._by_start.get(start, ()) if singular(entry[1]) in text]
            forms = {short: self.abbreviations[short] for _, short in sorted(occurring)}
        if besides is not None:
            forms = {short: long for short, long in forms.items() if singular(short) != singular(besides)}
        return expand(surface, forms)


def expand(surface: str, abbreviations: Mapping[str, str]) -> str | None:
    """A mention with its short forms spelled out; None if it has none. The text is that of its `text.view`.

    A short form is matched as a whole word with equal case, also in the plural (DMDs). A short form in brackets after its long form is removed.

    Args:
        surface: Text of the mention.
        abbreviations: Long forms by short form in the mention's document, from `long_forms`.
    """
    if not abbreviations:
        return None
    original = without_brackets = " ".join(plain(surface).split())
    for short, long in abbreviations.items():
        if short in without_brackets:
            without_brackets = re.sub(rf"({re.escape(long)})\s*[(\[]\s*{re.escape(short)}\s*[)\]]", r"\1", without_brackets, flags=re.IGNORECASE)
    expanded = " ".join(_replace(without_brackets, abbreviations).split())
    return None if expanded == original else expanded


def singular(short: str) -> str:
    """A plural short form without its s; other short forms unchanged."""
    return short[:-1] if _PLURAL.search(short) else short


def _replace(text: str, abbreviations: Mapping[str, str]) -> str:
    """The text with each short form that is a whole word replaced, the longest short form first."""
    if not any(singular(short) in text for short in abbreviations):
        return text
    forms = {form: long for short, long in abbreviations.items() for form in (singular(short), f"{singular(short)}s")} | dict(abbreviations)
    pattern = "|".join(re.escape(form) for form in sorted(forms, key=lambda f: (-len(f), f)))
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda m: _without_tail(forms[m.group()], text[m.end() :]), text)


def _without_tail(long: str, following_text: str) -> str:
    """A long form without its last words if the text repeats them: in "HIT type II", where HIT is heparin-induced thrombocytopenia type II."""
    words, following = long.split(), following_text.lower().split()
    for k in range(len(words) - 1, 0, -1):
        if following_text[:1].isspace() and [w.lower() for w in words[-k:]] == following[:k]:
            return " ".join(words[:-k])
    return long


def _near(text: str, begin: int, at: int) -> int:
    """Start of the search before a bracket: the begin of its sentence, or in a longer sentence the first blank within `REACH`."""
    if at - begin <= REACH:
        return begin
    blank = re.compile(r"\s").search(text, at - REACH, at)
    return blank.end() if blank else at


def _closing(text: str, at: int) -> int | None:
    """Position of the bracket that closes the one at `at`; None if it is not within 200 characters."""
    depth = 0
    for i in range(at, min(len(text), at + 200)):
        depth += (text[i] == text[at]) - (text[i] == _OPEN[text[at]])
        if not depth:
            return i
    return None


def _inside(text: str, begin: int, at: int, end: int) -> Definition | None:
    """The definition in `long form (short form)`, if there is one."""
    cut = _CUT.search(text, at + 1, end)
    start, stop = _trim(text, at + 1, cut.start() if cut else end)
    before = _trim(text, begin, at)
    first = re.match(r"\S+", text[start:stop])
    for last in dict.fromkeys((stop, start + len(first.group()) if first else stop)):
        short = text[start:last]
        if is_short_form(short):
            for form in dict.fromkeys((short, singular(short))):
                if long := _initials(form, text, *before) or _long_form(form, text, *before):
                    return Definition(form, text[slice(*long)], (start, start + len(form)), long)
    return None


def _outside(text: str, begin: int, at: int, end: int) -> Definition | None:
    """The definition in `short form (long form)`, if there is one."""
    cut = re.compile(r"[;,:]\s").search(text, at + 1, end)
    inside = _trim(text, at + 1, cut.start() if cut else end)
    word = re.search(r"[^\s()\[\]]+\s*$", text[begin:at])
    if not word:
        return None
    start, stop = _trim(text, begin + word.start(), at)
    short = text[start:stop]
    if not is_short_form(short) or not (long := _long_form(short, text, *inside)):
        return None
    return Definition(short, text[slice(*long)], (start, stop), long)


def is_short_form(short: str) -> bool:
    """Whether a text can be a short form.

    It has two to ten characters in at most two words; the first is a letter or digit; at least two are letters or digits, and one is an upper-case
    letter. Relations (P < .01) are none.
    """
    if not 2 <= len(short) <= MAX_SHORT or len(short.split()) > 2 or not short[0].isalnum() or _RELATION.search(short):
        return False
    return sum(map(str.isalnum, short)) > 1 and any(map(str.isupper, short))


def _initials(short: str, text: str, begin: int, end: int) -> Span | None:
    """Span of the last words up to `end`, one per letter of a short form in capitals, if the letters are their initials in any order."""
    if not (short.isalpha() and short.isupper()):
        return None
    words = list(re.finditer(r"\w+", text[begin:end]))[-len(short) :]
    if len(words) < len(short) or sorted(w.group()[0].upper() for w in words) != sorted(short) or words[-1].end() != end - begin:
        return None
    long = text[begin + words[0].start() : end]
    return (begin + words[0].start(), end) if not any(bracket in long for bracket in "()[]") else None


def _long_form(short: str, text: str, begin: int, end: int) -> Span | None:
    """The shortest span up to `end` that spells the short form; None if there is none, or if it is too long or contains the short form."""
    at = end
    letters = [c for c in short.lower() if c.isalnum()]
    for k, letter in zip(range(len(letters) - 1, -1, -1), reversed(letters), strict=True):
        at -= 1
        while at >= begin and (text[at].lower() != letter or (k == 0 and at > begin and text[at - 1].isalnum())):
            at -= 1
        if at < begin:
            return None
    long = text[at:end]
    most = min(len(short) + 5, 2 * len(short))
    if len(long.split()) > most or len(long) <= len(short) or any(long.count(a) != long.count(b) for a, b in _OPEN.items()):
        return None
    if _LIST.search(long) or re.search(rf"(?<!\w){re.escape(singular(short))}s?(?!\w)", long):
        return None
    return at, end


def _trim(text: str, start: int, end: int) -> Span:
    """The span without blanks and quotation marks at its ends."""
    while start < end and (text[start].isspace() or text[start] in _QUOTES):
        start += 1
    while start < end and (text[end - 1].isspace() or text[end - 1] in _QUOTES):
        end -= 1
    return start, end
