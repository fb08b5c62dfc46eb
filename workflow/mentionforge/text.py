"""Text units that several stages share: the normalized view, sentences, words, surface normalization.

All offsets are 0-based characters into the text given, end exclusive. Texts from PDF files and from macOS write the same word in other characters:
accents as characters of their own, ligatures, soft hyphens. What is matched, cut into words or shown to a model is therefore a text's `view`; what is
written and stored is the text as it is.
"""

from __future__ import annotations

import bisect
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Span = tuple[int, int]

_WORD = re.compile(r"\w+|[^\w\s]")
_ASCII_RUN = re.compile(r"[\x00-\x7f]+(?=[\x00-\x7f])|.", re.DOTALL)
"""Of a run of ASCII characters all but the last, which an accent may follow; any other character alone."""

_UNSEEN = frozenset(
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
"""Characters that leave no trace in print: soft hyphen, joiners, marks of direction, byte order mark."""

_HYPHENS = re.compile("[\u2010\u2011]")
_CHANGED = re.compile(f"[{''.join(sorted(_UNSEEN))}\u2010\u2011]")
_MOST_MARKS = 64
"""Marks that are composed with one character at most: text of nothing but marks takes no time by its square."""
MAX_BLOCK = 1_000_000
"""Most characters that spaCy takes at once (its `max_length`)."""

_WINDOW, _MARGIN = 200_000, 2_000
"""Characters of a long text that a window decides on, and those shown besides on either side."""

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")


class View(NamedTuple):
    """A text in normalized characters, and where they stand in the text as it is.

    Attributes:
        text: The normalized text.
        starts: For each of its characters, where what it stands for begins in the text as it is; None: at the same place.
        ends: For each of its characters, where that ends; None likewise.
        length: Characters of the text as it is.
    """

    text: str
    starts: Sequence[int] | None
    ends: Sequence[int] | None
    length: int

    def outside(self, start: int, end: int) -> Span:
        """The span of the text as it is that a span of the view stands for: whole characters, accents included."""
        if self.starts is None or self.ends is None:
            return start, end
        if start >= end:
            at = self.starts[start] if start < len(self.starts) else self.length
            return at, at
        return self.starts[start], self.ends[end - 1]

    def inside(self, start: int, end: int) -> Span:
        """The span of the view that shares a character with a span of the text as it is."""
        if self.starts is None or self.ends is None:
            return start, end
        first = bisect.bisect_right(self.ends, start)
        return first, max(first, bisect.bisect_left(self.starts, end))


def view(text: str) -> View:
    """The text as it is matched, cut into words and shown to models; the text itself, at no cost, if nothing is to change.

    - Accents that are characters of their own are composed (Unicode's NFC).
    - Ligatures (fi as one character), presentation forms, full-width, italic and bold mathematical letters, the micro sign, Roman numerals in one
      character and subscripts become plain letters and digits: B with a subscript 12 is B12.
    - Superscripts stay: 10 to the power of 5 is not 105, and a superscript behind a word is as a rule the number of a footnote.
    - Blanks of any width become blanks, U+2010 and U+2011 the hyphen of the keyboard. Line breaks, quotes and dashes stay.
    - What leaves no trace in print (soft hyphens, joiners, marks of direction) is left out.

    A view's view is the view itself.
    """
    if text.isascii() or (unicodedata.is_normalized("NFKC", text) and not _has_unseen(text)):
        return View(text, None, None, len(text))
    if unicodedata.is_normalized("NFC", text) and all(_mapped(c)[0] == c for c in set(text) if c > "\x7f"):  # it has superscripts, or dots of an ellipsis
        return View(text, None, None, len(text))
    return _aligned(text)


def _has_unseen(text: str) -> bool:
    """Whether there are characters that a view leaves out or replaces though they are normalized."""
    try:
        text.encode("latin-1")  # far faster than looking for each of them
    except UnicodeEncodeError:
        return _CHANGED.search(text) is not None
    return "\u00ad" in text


def plain(text: str) -> str:
    """The text of its `view`."""
    return view(text).text


@functools.lru_cache(maxsize=16)
def _aligned(text: str) -> View:
    """See `view`: character by character, those that normalization may join taken together."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    places: list[int] = []  # of the characters that are taken together
    mapped: list[str] = []  # what they become, each for itself

    def close() -> None:
        each = [unicodedata.normalize("NFC", new) for new in mapped]
        whole = unicodedata.normalize("NFC", "".join(mapped))
        out.append(whole)
        if whole == "".join(each):  # nothing was joined
            for at, new in zip(places, each, strict=True):
                starts.extend([at] * len(new))
                ends.extend([at + 1] * len(new))
        else:
            starts.extend([places[0]] * len(whole))
            ends.extend([places[-1] + 1] * len(whole))
        places.clear()
        mapped.clear()

    for run in _ASCII_RUN.finditer(text):
        at, piece = run.start(), run[0]
        if len(piece) > 1 or piece.isascii():
            if mapped:
                close()
            if len(piece) > 1:
                out.append(piece)
                starts.extend(range(at, run.end()))
                ends.extend(range(at + 1, run.end() + 1))
                continue
        new, mark = _mapped(piece)
        if not new:
            continue
        if mapped and not (_joins(mapped, new, mark) and len(mapped) < _MOST_MARKS):
            close()
        places.append(at)
        mapped.append(new)
    if mapped:
        close()
    normalized = "".join(out)
    return View(text, None, None, len(text)) if normalized == text else View(normalized, starts, ends, len(text))


def _joins(before: Sequence[str], new: str, mark: bool) -> bool:
    """Whether a character may become one with those before it: marks behind anything but blanks, and parts of a Hangul syllable or the like."""
    if mark:
        return not before[-1].isspace()
    if new < "\u0300":
        return False
    left = "".join(before)
    return unicodedata.normalize("NFC", left + new) != unicodedata.normalize("NFC", left) + unicodedata.normalize("NFC", new)


@functools.lru_cache(maxsize=1 << 14)
def _mapped(character: str) -> tuple[str, bool]:
    """What a character becomes before its accents are composed, and whether it is such a mark."""
    if character in _UNSEEN:
        return "", False
    new = _HYPHENS.sub("-", character)
    kind = unicodedata.decomposition(character).partition(" ")[0]
    compatible = unicodedata.normalize("NFKC", character)
    if compatible != unicodedata.normalize("NFC", character) and kind not in _KEPT_KINDS:
        category = unicodedata.category(character)
        if (category[0] in "LN" and compatible.isalnum()) or (category == "Zs" and compatible == " ") or kind in ("<wide>", "<narrow>"):
            new = compatible
    return new, unicodedata.combining(unicodedata.normalize("NFD", new)[0]) > 0


_KEPT_KINDS = frozenset(["<super>", "<fraction>", "<circle>", "<square>"])


def words(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Spans of the words of `text[start:end]`: runs of letters and digits with their accents, and single punctuation marks.

    They are the words of its `view`, at their places in the text as it is.
    """
    end = len(text) if end is None else end
    if text.isascii():
        return [m.span() for m in _WORD.finditer(text, start, end)]
    seen = view(text[start:end])
    found: list[Span] = []
    for m in _WORD.finditer(seen.text):
        a, b = m.span()
        if found and found[-1][1] == a and _continues(seen.text, found[-1][0], a):
            found[-1] = (found[-1][0], b)
        else:
            found.append((a, b))
    if seen.starts is None:
        return [(start + a, start + b) for a, b in found]
    return [(start + a, start + b) for a, b in (seen.outside(*span) for span in found)]


def _continues(text: str, begun: int, at: int) -> bool:
    """Whether what stands at `at` belongs to the word before it: an accent that cannot be composed, or what follows one within a word."""
    mark = text[at] > "\u02ff" and unicodedata.category(text[at])[0] == "M"
    return mark or (text[at - 1] > "\u02ff" and unicodedata.category(text[at - 1])[0] == "M" and _word(text[begun]) and _word(text[at]))


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"


def normalize_surface(text: str) -> str:
    """Surface form for comparison: NFKC of the `view`, case-folded, words joined by one blank, punctuation dropped.

    "Huntington's  Disease" and "huntington s disease" become the same; "type 1" and "type 2" stay apart.
    """
    folded = unicodedata.normalize("NFKC", plain(text)).casefold()
    return " ".join(re.findall(r"\w+", folded)) or folded.strip()


def sentences(texts: Iterable[str], batch_size: int = 64) -> Iterator[list[Span]]:
    """Sentence spans of each text, in order, without surrounding blanks; no sentence crosses an empty line.

    The splitter is the `biosenter` model for spaCy, trained on biomedical text. It never sees gold mentions. It takes texts of any length: one too long
    for spaCy is shown to it in overlapping windows, each sentence in one that holds enough of its surroundings. It sees each text's `view`.
    """
    seen: list[View] = []
    blocks: list[str] = []
    owners: list[tuple[int, int]] = []
    found: list[list[Span]] = []
    for given in texts:
        seen.append(view(given))
        text = seen[-1].text
        found.append([])
        start = 0
        for gap in _PARAGRAPH.finditer(text):
            blocks.append(text[start : gap.start()])
            owners.append((len(found) - 1, start))
            start = gap.end()
        blocks.append(text[start:])
        owners.append((len(found) - 1, start))
    with _splitter().memory_zone():  # or the splitter would remember every new word, as long as the process lives
        short = _splitter().pipe((block for block in blocks if len(block) <= MAX_BLOCK), batch_size=batch_size)
        for block, (owner, offset) in zip(blocks, owners, strict=True):
            starts = _starts(next(short)) if len(block) <= MAX_BLOCK else _starts_in_windows(block)
            for start, end in pairwise([*starts, len(block)]):
                raw = block[start:end]
                left = start + len(raw) - len(raw.lstrip())
                right = left + len(raw.strip())
                if right > left:
                    found[owner].append((offset + left, offset + right))
    for shown, spans in zip(seen, found, strict=True):
        yield spans if shown.starts is None else [shown.outside(*span) for span in spans]


def _starts(doc: Any) -> list[int]:
    return [sentence.start_char for sentence in doc.sents]


def _starts_in_windows(text: str) -> list[int]:
    """Where sentences begin in a text that is too long for one document.

    Whether a word begins a sentence depends on the few words around it; a window says so of those that lie `_MARGIN` characters or more from its ends.
    """
    found = [0]
    at = 0
    while at < len(text):
        until = min(at + _WINDOW, len(text))
        low, high = _blank_before(text, max(at - _MARGIN, 0)), _blank_before(text, min(until + _MARGIN, len(text)))
        window = next(_splitter().pipe([text[low:high]]))
        found += [low + start for start in _starts(window) if at < low + start <= until and low + start > low]
        at = until
    return [start for start in found if start < len(text)]


def _blank_before(text: str, at: int) -> int:
    """The end of a blank that stands alone, at or before a place but not far: words on its both sides are cut into tokens as before."""
    if at in (0, len(text)):
        return at
    lone = [m.end() for m in _LONE_BLANK.finditer(text, max(at - _MARGIN // 2, 0), at)]
    return lone[-1] if lone else at


_LONE_BLANK = re.compile(r"(?<=\S) (?=\S)")


@functools.cache
def _splitter() -> Any:
    import spacy

    return spacy.load("biosenter")
