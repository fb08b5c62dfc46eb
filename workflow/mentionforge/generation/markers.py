"""Writes tags around mentions (`<1CUI> … </1CUI>`), and removes them from a model's output, however it misspelt them.

In: text. Out: text with or without tags, and tagged spans. Offsets are 0-based characters, end exclusive; those from `strip` refer to the text without
tags. Knows nothing about concepts and names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mentionforge.text import Span

OPEN, CLOSE = "<1CUI>", "</1CUI>"
"""Tags around a mention, as in the authors' notes. Tables hold these, whatever markers a prompt asks for: see `as_tags` and `as_markers`."""

_LEFT, _RIGHT = (
    rf"(?:\\?[<\[{{＜‹«〈⟨]|\\?&(?:amp;)*(?:{name}|\#{number}|\#x0*{code});)" for name, number, code in (("lt", "0*60", "3c"), ("gt", "0*62", "3e"))
)
_RIGHT = _RIGHT.replace("[<\\[{＜‹«〈⟨]", "[>\\]}＞›»〉⟩]")
_SLASH = r"[/\\∕／]"
_CORE = r"1?[\s_-]{0,2}CUI"
_MARK = re.compile(
    rf"""
      (?=[`<\[{{(＜‹«〈⟨&/\\∕／1|])(?:                                                  # quickly past all other characters
      `{{0,3}}{_LEFT}{{1,3}}[\s|]*(?P<whole>{_SLASH}?)[\s|]*{_CORE}\w{{0,2}}[\s|]*{_SLASH}?[\s|]*{_RIGHT}{{1,3}}`{{0,3}}   # whole, in any case, spacing and brackets
    | \(\s*(?P<round>{_SLASH}?)\s*1\s?CUI\s*\)
    | {_LEFT}\s*(?P<cut>{_SLASH}?)\s*(?:(?<![\[{{])|(?=1)){_CORE}                       # without its end: <1CUI gout>, </1CUI at the end of the text
    | (?<!\w)(?P<bare>{_SLASH}\s?|)1\s?CUI\b\s*{_RIGHT}?                              # without its beginning
    | (?P<tail>{_SLASH}?\s?)1\s?CUI\s*{_RIGHT}
    | (?:<|&lt;)\s*{_SLASH}?\s*(?:1\s*(?:CU?)?)?\s*$                                  # torn off by the length limit
    | (?:<|&lt;)\s*/\s*(?:>|&gt;)
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LEAD = 24
"""Most characters of a tag before CUI."""
_SPACES = re.compile(r"(?: [^\S\n]|[^\S\n ])[^\S\n]*")  # any but a single blank, which stays
_BRACKET = re.compile(r"([^<>\[\]{}\n]{0,80}?)(?:>|\]|\}|&gt;)")
_ASCII_BLANKS = "\t\r\x0b\x0c\x1c\x1d\x1e\x1f"
_BREAKS = re.compile(r"\n{3,}")
_EDGES = " \n.,;:!?\"'<>/*-"
_NO_SPACE_BEFORE = tuple(".,;:!?)]}%'’")
_NO_SPACE_AFTER = tuple("([{")


@dataclass(frozen=True)
class TaggedSpan:
    """The span from an opening tag to the next tag or the end of the text, without surrounding blanks and punctuation.

    Attributes:
        start: First character, in the text without tags.
        end: One past the last character.
        closed: Whether a tag ends it; if not, the model never closed it.
    """

    start: int
    end: int
    closed: bool


def wrap(text: str, spans: Iterable[Span]) -> str:
    """Put tags around spans that do not overlap; the text itself does not change."""
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]}{OPEN} {text[start:end]} {CLOSE}{text[end:]}"
    return text


def as_tags(text: str, marks: tuple[str, str]) -> str:
    """A note with tags in the place of the markers that its prompt asked for, in any case."""
    if marks == (OPEN, CLOSE):
        return text
    return re.sub(re.escape(marks[0]), f"{OPEN} ", re.sub(re.escape(marks[1]), f" {CLOSE}", text, flags=re.IGNORECASE), flags=re.IGNORECASE)


def as_markers(text: str, marks: tuple[str, str]) -> str:
    """Text that `wrap` has tagged, with the markers of a prompt in the place of the tags."""
    return text.replace(OPEN, marks[0]).replace(CLOSE, marks[1])


def before(text: str, stop: Iterable[str]) -> str:
    """The text before the first of some stop strings, without blanks at its end if there is one."""
    end = min((at for at in (text.find(one) for one in stop) if at >= 0), default=None)
    return text if end is None else text[:end].rstrip()


def has_mark(text: str) -> bool:
    """Whether the text holds a tag or a part of one."""
    return next(_marks(text), None) is not None


def _marks(text: str) -> Iterator[re.Match[str]]:
    """All tags and parts of tags. Each holds `<`, `&lt;` or `CUI`, so each search begins shortly before the next of these."""
    folded, position = text.lower(), 0
    if len(folded) != len(text):
        yield from _MARK.finditer(text)
        return
    while (
        start := min((at for at in (text.find("<", position), folded.find("&lt;", position), folded.find("cui", position)) if at >= 0), default=None)
    ) is not None:
        # A tag cannot begin before "<" if a blank, letter or digit precedes it.
        alone = text[start] == "<" and start > position and (text[start - 1].isspace() or text[start - 1].isalnum())
        mark = (_MARK.match(text, start) if alone else None) or _MARK.search(text, max(position, start - _LEAD))
        if mark is None:
            return
        yield mark
        position = mark.end()


def strip(raw: str) -> tuple[str, list[TaggedSpan]]:
    """The text without tags and superfluous blanks, and its tagged spans in order, none empty.

    A tag of any kind ends the span before it: models often write a second opening tag instead of a closing one.
    """
    folded = raw.lower()
    if "cui" not in folded and "<" not in raw and "&lt;" not in folded:
        return _join("", raw).rstrip(), []
    text, tagged = _strip_once(raw)
    while text != raw and has_mark(text):  # what is left after removing a tag may form another one
        raw, (text, tagged) = text, (_strip_once(text)[0], [])
    return text, tagged


def _strip_once(raw: str) -> tuple[str, list[TaggedSpan]]:
    out = ""
    begun: int | None = None
    spans: list[tuple[int, int, bool]] = []
    position = 0
    glued = False
    marks = [*_marks(raw)]
    for number, mark in enumerate(marks):
        if mark.start() < position:  # inside a span that its own bracket ended
            continue
        out = _join(out, raw[position : mark.start()], glued)
        slash = next((kind.strip() for kind in mark.group("whole", "round", "cut", "bare", "tail") if kind is not None), "/")
        paired = begun is not None or (not slash and number + 1 < len(marks))
        glued = _inside_word(raw, mark) and (not paired or (mark["whole"] is None and mark["round"] is None))
        if out.endswith(tuple(f"{bracket} " for bracket in _NO_SPACE_AFTER)):
            out = out[:-1]
        position = mark.end()
        if glued:  # inside a word no mention begins or ends
            continue
        if begun is not None:
            spans.append((begun, len(out.rstrip()), True))
        begun = None if slash else len(out)
        inner = _BRACKET.match(raw, position) if mark["cut"] == "" else None
        if begun is not None and inner and not has_mark(inner[1]):  # "<1CUI gout>": the late bracket ends the span
            out, position = _join(out, inner[1]), inner.end()
            spans.append((begun, len(out.rstrip()), True))
            begun = None
    out = _join(out, raw[position:], glued).rstrip()
    if begun is not None:
        spans.append((begun, len(out), False))
    trimmed = (_trimmed(out, *span) for span in spans)
    return out, [tagged for tagged in trimmed if tagged.start < tagged.end]


def _trimmed(text: str, start: int, end: int, closed: bool) -> TaggedSpan:
    """The span without blanks, punctuation and unpaired round brackets at its ends."""
    inside = text[start:end]
    core = inside.strip(_EDGES)
    if (core.startswith("(") and ")" not in core[:-1]) or core.startswith(")"):
        core = core.lstrip("()" + _EDGES)
    if (core.endswith(")") and "(" not in core) or core.endswith("("):
        core = core.rstrip("()" + _EDGES)
    start += inside.find(core)
    return TaggedSpan(start, start + len(core), closed)


def _inside_word(raw: str, mark: re.Match[str]) -> bool:
    """Whether a tag has a letter directly on both sides: `hyper1CUI>tension`."""
    return raw[mark.start() - 1 : mark.start()].isalpha() and raw[mark.end() : mark.end() + 1].isalpha()


def _join(left: str, piece: str, glued: bool = False) -> str:
    """Append the text after a removed tag: with one blank between words unless `glued`, with none before punctuation."""
    broken = "\n" in piece
    # No blanks other than spaces and line breaks; this test is far cheaper than the patterns.
    tidy = not any(map(piece.__contains__, _ASCII_BLANKS)) if piece.isascii() else (piece.replace("\n", "") if broken else piece).isprintable()
    if broken and not (tidy and " \n" not in piece and "\n " not in piece and "\n\n\n" not in piece):
        piece = _tidy_breaks(piece)
    if not tidy:
        piece = _SPACES.sub(" ", piece)
    while "  " in piece:
        piece = piece.replace("  ", " ")
    if not left or left.endswith("\n"):
        piece = piece.lstrip()
    elif left.endswith((" ", *_NO_SPACE_AFTER)):
        piece = piece.lstrip(" ")
    if piece.startswith(("\n", *_NO_SPACE_BEFORE)):
        return left.rstrip(" ") + piece
    if left and piece and left[-1].isalnum() and piece[0].isalnum() and not glued:
        return f"{left} {piece}"
    if piece.startswith(" ") and len(left) > 1 and left[-1] in "-‐‑" and left[-2].isalnum():  # the blank belongs to the tag: non-<1CUI> Hodgkin
        return left + piece[1:]
    return left + piece


def _tidy_breaks(piece: str) -> str:
    """The text without blanks around line breaks, and with at most two line breaks in a row; far cheaper than a pattern."""
    first, *lines, last = piece.split("\n")
    out = "\n".join([first.rstrip(), *map(str.strip, lines), last.lstrip()])
    return _BREAKS.sub("\n\n", out) if "\n\n\n" in out else out
