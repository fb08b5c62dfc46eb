"""Abbreviations that a document defines itself, and mentions with them spelled out.

The rules are those of Schwartz and Hearst (2003, Pac Symp Biocomput 8:451-462): a short form stands in brackets behind its long form, or
before brackets that hold it; its letters and digits are found in the long form from right to left, the first at the begin of a word. Added
here: initials in any order, as in "myotonic dystrophy (DM)"; square brackets; brackets that are never closed; plural short forms; and short
forms that are words of a longer mention. A definition is looked for within its sentence, and counts for the whole document; of several the
first one does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mentionforge.text import Span, plain, view

MAX_SHORT = 10
"""Characters of the longest short form (Schwartz and Hearst)."""

REACH = 1_000
"""Characters before a bracket that are searched: a long form has fifteen words at most. Else a table without sentences would take time by its square."""

_OPEN = {"(": ")", "[": "]"}
_CUT = re.compile(r"[;,:]\s|\s[(\[]|\s(?:or|and)\s|\s?=\s")
"""Where a short form in brackets ends, if more follows: (DMD; MIM 310200)."""
_SENTENCE = re.compile(r"[.!?][)\]\"']*\s+(?=[^\sa-z])|\n[ \t\r]*\n")
_LIST = re.compile(r"[)\]]\s*(?:,|;|and\b|or\b)")
"""A long form does not reach over an item of a list: anterior (ANT-MI) and inferior infarction."""
_RELATION = re.compile(r"[<>=≤≥]")
_PLURAL = re.compile(r"[A-Z0-9]s$")
_BRACKET = re.compile(r"[(\[]")
_QUOTES = "\"'`“”‘’"


@dataclass(frozen=True)
class Definition:
    """A short form and its long form, with the characters they stand at."""

    short: str
    long: str
    short_span: Span
    long_span: Span


def definitions(text: str) -> list[Definition]:
    """Every definition of a text, in order of the brackets; found in its `text.view`, with spans of the text as it is."""
    seen = view(text)
    found = _definitions(seen.text)
    if seen.starts is None:
        return found
    return [Definition(d.short, d.long, seen.outside(*d.short_span), seen.outside(*d.long_span)) for d in found]


def _definitions(text: str) -> list[Definition]:
    found = []
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
            found.append(definition)
    return found


def long_forms(text: str) -> dict[str, str]:
    """Long form of each short form that a text defines; other short forms in it are spelled out too, blanks are single."""
    own: dict[str, str] = {}
    for definition in definitions(text):
        own.setdefault(definition.short, " ".join(definition.long.split()))
    full = {}
    for short, long in own.items():
        others = {s: expansion for s, expansion in own.items() if singular(s) != singular(short)}
        full[short] = expand(long, others) or long
    return full


def expand(surface: str, known: Mapping[str, str]) -> str | None:
    """A mention with its short forms spelled out, by its `text.view`, or None if it has none.

    A short form counts as a word of its own, in its own case, also in the plural (DMDs). One in brackets behind its long form goes away.

    Args:
        surface: Text of the mention.
        known: Of its document, by `long_forms`.
    """
    if not known:
        return None
    whole = shorter = " ".join(plain(surface).split())
    for short, long in known.items():
        if short in shorter:
            shorter = re.sub(rf"({re.escape(long)})\s*[(\[]\s*{re.escape(short)}\s*[)\]]", r"\1", shorter, flags=re.IGNORECASE)
    expanded = " ".join(_replace(shorter, known).split())
    return None if expanded == whole else expanded


def singular(short: str) -> str:
    """A plural short form without its s; others as they are."""
    return short[:-1] if _PLURAL.search(short) else short


def _replace(text: str, known: Mapping[str, str]) -> str:
    """The text with each short form that is a word of it replaced, the longest first."""
    if not any(singular(short) in text for short in known):
        return text
    forms = {form: long for short, long in known.items() for form in (singular(short), f"{singular(short)}s")} | dict(known)
    either = "|".join(re.escape(form) for form in sorted(forms, key=lambda f: (-len(f), f)))
    return re.sub(rf"(?<!\w)(?:{either})(?!\w)", lambda m: _without_tail(forms[m.group()], text[m.end() :]), text)


def _without_tail(long: str, rest: str) -> str:
    """A long form without its last words if they follow: "HIT type II", where HIT is heparin-induced thrombocytopenia type II."""
    words, following = long.split(), rest.lower().split()
    for k in range(len(words) - 1, 0, -1):
        if rest[:1].isspace() and [w.lower() for w in words[-k:]] == following[:k]:
            return " ".join(words[:-k])
    return long


def _near(text: str, begin: int, at: int) -> int:
    """Where the search before a bracket begins: at its sentence, or in a longer one at the first blank within `REACH`."""
    if at - begin <= REACH:
        return begin
    blank = re.compile(r"\s").search(text, at - REACH, at)
    return blank.end() if blank else at


def _closing(text: str, at: int) -> int | None:
    """Where the bracket that opens at `at` closes; None if it does not within 200 characters."""
    depth = 0
    for i in range(at, min(len(text), at + 200)):
        depth += (text[i] == text[at]) - (text[i] == _OPEN[text[at]])
        if not depth:
            return i
    return None


def _inside(text: str, begin: int, at: int, end: int) -> Definition | None:
    """Long form (short form)."""
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
    """Short form (long form)."""
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
    """Two to ten characters in at most two words, the first a letter or digit, two of them, one an upper-case letter; no relation (P < .01)."""
    if not 2 <= len(short) <= MAX_SHORT or len(short.split()) > 2 or not short[0].isalnum() or _RELATION.search(short):
        return False
    return sum(map(str.isalnum, short)) > 1 and any(map(str.isupper, short))


def _initials(short: str, text: str, begin: int, end: int) -> Span | None:
    """The last words up to `end`, one for each letter of a short form in capitals, if these are their initials in some order."""
    if not (short.isalpha() and short.isupper()):
        return None
    words = list(re.finditer(r"\w+", text[begin:end]))[-len(short) :]
    if len(words) < len(short) or sorted(w.group()[0].upper() for w in words) != sorted(short) or words[-1].end() != end - begin:
        return None
    long = text[begin + words[0].start() : end]
    return (begin + words[0].start(), end) if not any(bracket in long for bracket in "()[]") else None


def _long_form(short: str, text: str, begin: int, end: int) -> Span | None:
    """The shortest stretch up to `end` that spells the short form; None if there is none, or it is too long or holds the short form."""
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
