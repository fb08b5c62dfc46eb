"""Text units that several stages share: normalized view, sentences, words, normalized surfaces.

In: a text. Out: spans, 0-based characters of this text, end exclusive; normalized text. PDF files and macOS write words with other characters (combining
accents, ligatures, soft hyphens). So matching, tokenization and models use the `view` of a text, while tables store the original.
Knows nothing of mentions and concepts.
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
"""A run of ASCII characters without its last one, which may have a combining accent; or any single character."""

_UNSEEN = frozenset(
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
"""Invisible characters: soft hyphen, joiners, direction marks, byte order mark."""

_HYPHENS = re.compile("[\u2010\u2011]")
_CHANGED = re.compile(f"[{''.join(sorted(_UNSEEN))}\u2010\u2011]")
_MOST_MARKS = 64
"""Most combining marks that are composed with one character; without the limit, a text of marks would take quadratic time."""
MAX_BLOCK = 1_000_000
"""Most characters of a document in spaCy (its `max_length`)."""

_WINDOW, _MARGIN = 200_000, 2_000
"""Characters of a window in which sentences of a long text begin, and characters of context on each side."""

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")


class View(NamedTuple):
    """A normalized text, and the positions of its characters in the original text.

    Attributes:
        text: The normalized text.
        starts: For each character, the begin of the original characters that it stands for; None if positions are the same.
        ends: For each character, the end of these characters; None if positions are the same.
        length: Number of characters of the original text.
    """

    text: str
    starts: Sequence[int] | None
    ends: Sequence[int] | None
    length: int

    def to_original(self, start: int, end: int) -> Span:
        """The span in the original text of a span in the view; it holds whole characters, accents included."""
        if self.starts is None or self.ends is None:
            return start, end
        if start >= end:
            at = self.starts[start] if start < len(self.starts) else self.length
            return at, at
        return self.starts[start], self.ends[end - 1]

    def to_view(self, start: int, end: int) -> Span:
        """The span in the view of a span in the original text: all characters that share an original character with it."""
        if self.starts is None or self.ends is None:
            return start, end
        first = bisect.bisect_right(self.ends, start)
        return first, max(first, bisect.bisect_left(self.starts, end))


def view(text: str) -> View:
    """The normalized view of a text, for matching, tokenization and models; the text itself, without any cost, if it is normalized.

    - Combining accents are composed with their letters (Unicode NFC).
    - Ligatures (fi as one character), presentation forms, full-width, italic and bold mathematical letters, the micro sign, Roman numerals in one
      character and subscripts become plain letters and digits: B with a subscript 12 becomes B12.
    - Superscripts stay: 10 to the power of 5 is not 105, and a superscript after a word is usually the number of a footnote.
    - Blanks of any width become blanks; U+2010 and U+2011 become the hyphen-minus. Line breaks, quotes and dashes stay.
    - Invisible characters (soft hyphens, joiners, direction marks) are removed.

    The view of a view is the view itself.
    """
    if text.isascii() or (unicodedata.is_normalized("NFKC", text) and not _has_unseen(text)):
        return View(text, None, None, len(text))
    if unicodedata.is_normalized("NFC", text) and all(_mapped(c)[0] == c for c in set(text) if c > "\x7f"):  # only superscripts or ellipses, which stay
        return View(text, None, None, len(text))
    return _aligned(text)


def _has_unseen(text: str) -> bool:
    """Whether a text holds characters that are normalized in NFKC, but removed or replaced in a view."""
    try:
        text.encode("latin-1")  # much faster than a search
    except UnicodeEncodeError:
        return _CHANGED.search(text) is not None
    return "\u00ad" in text


def plain(text: str) -> str:
    """The text of its `view`."""
    return view(text).text


@functools.lru_cache(maxsize=16)
def _aligned(text: str) -> View:
    """The view of a text that changes. Characters that normalization may join, as a letter and its accents, are normalized together."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    positions: list[int] = []  # of the characters to normalize together
    mapped: list[str] = []  # their replacements before composition

    def close() -> None:
        separately = [unicodedata.normalize("NFC", new) for new in mapped]
        joined = unicodedata.normalize("NFC", "".join(mapped))
        out.append(joined)
        if joined == "".join(separately):  # no character was joined with another one
            for at, new in zip(positions, separately, strict=True):
                starts.extend([at] * len(new))
                ends.extend([at + 1] * len(new))
        else:
            starts.extend([positions[0]] * len(joined))
            ends.extend([positions[-1] + 1] * len(joined))
        positions.clear()
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
        positions.append(at)
        mapped.append(new)
    if mapped:
        close()
    normalized = "".join(out)
    return View(text, None, None, len(text)) if normalized == text else View(normalized, starts, ends, len(text))


def _joins(before: Sequence[str], new: str, mark: bool) -> bool:
    """Whether a character may be joined with those before it: a mark after anything but a blank, or a part of a Hangul syllable or the like."""
    if mark:
        return not before[-1].isspace()
    if new < "\u0300":
        return False
    previous = "".join(before)
    return unicodedata.normalize("NFC", previous + new) != unicodedata.normalize("NFC", previous) + unicodedata.normalize("NFC", new)


@functools.lru_cache(maxsize=1 << 14)
def _mapped(character: str) -> tuple[str, bool]:
    """The replacement of a character before composition, and whether it is a combining mark."""
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

    They are the words of its `view`, with spans in the original text.
    """
    end = len(text) if end is None else end
    if text.isascii():
        return [m.span() for m in _WORD.finditer(text, start, end)]
    normalized = view(text[start:end])
    spans: list[Span] = []
    for m in _WORD.finditer(normalized.text):
        a, b = m.span()
        if spans and spans[-1][1] == a and _continues(normalized.text, spans[-1][0], a):
            spans[-1] = (spans[-1][0], b)
        else:
            spans.append((a, b))
    if normalized.starts is None:
        return [(start + a, start + b) for a, b in spans]
    return [(start + a, start + b) for a, b in (normalized.to_original(*span) for span in spans)]


def _continues(text: str, begun: int, at: int) -> bool:
    """Whether the character at `at` belongs to the word before it: an accent that cannot be composed, or a letter after such an accent."""
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

    The splitter is the spaCy model `biosenter`, trained on biomedical text. It reads the `view` of a text, and no gold mentions. A text that is too long
    for spaCy is split in overlapping windows.
    """
    views: list[View] = []
    blocks: list[str] = []
    owners: list[tuple[int, int]] = []
    spans_of: list[list[Span]] = []
    for original in texts:
        views.append(view(original))
        text = views[-1].text
        spans_of.append([])
        start = 0
        for gap in _PARAGRAPH.finditer(text):
            blocks.append(text[start : gap.start()])
            owners.append((len(spans_of) - 1, start))
            start = gap.end()
        blocks.append(text[start:])
        owners.append((len(spans_of) - 1, start))
    with _splitter().memory_zone():  # otherwise spaCy keeps every new word in memory
        short = _splitter().pipe((block for block in blocks if len(block) <= MAX_BLOCK), batch_size=batch_size)
        for block, (owner, offset) in zip(blocks, owners, strict=True):
            starts = _starts(next(short)) if len(block) <= MAX_BLOCK else _starts_in_windows(block)
            for start, end in pairwise([*starts, len(block)]):
                raw_text = block[start:end]
                first = start + len(raw_text) - len(raw_text.lstrip())
                last = first + len(raw_text.strip())
                if last > first:
                    spans_of[owner].append((offset + first, offset + last))
    for normalized, spans in zip(views, spans_of, strict=True):
        yield spans if normalized.starts is None else [normalized.to_original(*span) for span in spans]


def _starts(doc: Any) -> list[int]:
    return [sentence.start_char for sentence in doc.sents]


def _starts_in_windows(text: str) -> list[int]:
    """Starts of sentences in a text that is too long for spaCy.

    Whether a word begins a sentence depends on a few words around it. So only starts that are at least `_MARGIN` characters from the ends of a window
    count; windows overlap by twice that.
    """
    starts = [0]
    at = 0
    while at < len(text):
        limit = min(at + _WINDOW, len(text))
        low, high = _blank_before(text, max(at - _MARGIN, 0)), _blank_before(text, min(limit + _MARGIN, len(text)))
        window = next(_splitter().pipe([text[low:high]]))
        starts += [low + start for start in _starts(window) if at < low + start <= limit and low + start > low]
        at = limit
    return [start for start in starts if start < len(text)]


def _blank_before(text: str, at: int) -> int:
    """The end of the last single blank at or shortly before `at`, so that a window begins and ends between tokens."""
    if at in (0, len(text)):
        return at
    lone = [m.end() for m in _LONE_BLANK.finditer(text, max(at - _MARGIN // 2, 0), at)]
    return lone[-1] if lone else at


_LONE_BLANK = re.compile(r"(?<=\S) (?=\S)")


@functools.cache
def _splitter() -> Any:
    import spacy

    return spacy.load("biosenter")
