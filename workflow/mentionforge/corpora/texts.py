"""Apply the text policy of a corpus: Unicode normalization (NFC), or LF for CRLF.

In: a document. Out: the document with changed text and exactly adjusted offsets; changes are counted in a `Tally`.
Knows nothing of formats, and of what mentions mean.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import replace

from mentionforge.corpora.documents import Document, Repair, Tally, sorted_annotations
from mentionforge.text import Span

Edit = tuple[int, int, str]
"""(start, end, replacement) in characters of the old text, end exclusive."""


def normalized(document: Document, policy: str, tally: Tally) -> Document:
    """Normalize the text of a document by a policy of settings.Corpus.text.

    A mention that begins or ends inside an edit (between a letter and its combining accent) is widened to the whole edit, and recorded as a repair.
    """
    if policy == "none":
        return document
    edits = {"nfc": _nfc, "crlf_to_lf": _crlf}[policy](document.text)
    if not edits:
        return document
    tally.handled[f"texts changed by {policy}"] += 1
    tally.handled[f"places changed by {policy}"] += len(edits)
    moved = []
    text, start_of, end_of = _apply(document.text, edits)
    for annotation in document.annotations:
        spans = _merged([(start_of(start), end_of(end)) for start, end in annotation.spans])
        if " ".join(text[slice(*s)] for s in spans) != _plain(annotation.surface(document.text), policy):
            tally.repairs.append(Repair(document.doc_id, annotation.spans, spans, f"widened by {policy}"))
        moved.append(replace(annotation, spans=spans))
    return replace(document, text=text, annotations=sorted_annotations(moved))


def _plain(text: str, policy: str) -> str:
    return unicodedata.normalize("NFC", text) if policy == "nfc" else text.replace("\r\n", "\n").removesuffix("\r")


def _apply(text: str, edits: list[Edit]) -> tuple[str, Callable[[int], int], Callable[[int], int]]:
    """The new text, and functions that map the start and the end of a span to it; inside an edit, to its start and its end."""
    pieces, shifts = [], []
    last = shift = 0
    for start, end, new in edits:
        pieces += [text[last:start], new]
        last = end
        shift += len(new) - (end - start)
        shifts.append(shift)
    pieces.append(text[last:])
    starts, ends = [e[0] for e in edits], [e[1] for e in edits]

    def start_of(offset: int) -> int:
        i = bisect_right(starts, offset) - 1  # the last edit that begins at or before it
        if i >= 0 and offset < ends[i]:
            return starts[i] + (shifts[i - 1] if i else 0)
        return offset + (shifts[i] if i >= 0 else 0)

    def end_of(offset: int) -> int:
        i = bisect_left(starts, offset) - 1  # the last edit that begins before it
        if i >= 0 and offset < ends[i]:
            return ends[i] + shifts[i]
        return offset + (shifts[i] if i >= 0 else 0)

    return "".join(pieces), start_of, end_of


def _merged(spans: list[Span]) -> tuple[Span, ...]:
    """Sorted spans, with overlapping ones merged."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(merged)


def _crlf(text: str) -> list[Edit]:
    """Edits that delete the carriage return of each CRLF. The line feed is not part of the edit, so a span may end between the two."""
    return [(m.start(), m.start() + 1, "") for m in re.finditer("\r\n", text)]


def _nfc(text: str) -> list[Edit]:
    """Edits that compose characters. Each replaces a stretch that begins with a character that never composes with the one before it."""
    if unicodedata.is_normalized("NFC", text):
        return []
    bounds = [i for i, c in enumerate(text) if i == 0 or _starts_stretch(c)]
    edits = []
    for start, end in zip(bounds, [*bounds[1:], len(text)], strict=True):
        new = unicodedata.normalize("NFC", text[start:end])
        if new != text[start:end]:
            edits.append((start, end, new))
    return edits


@functools.lru_cache(maxsize=4096)
def _starts_stretch(character: str) -> bool:
    """Whether a character never composes with the one before it: its decomposition begins with a starter that never comes second in a composition."""
    first = unicodedata.normalize("NFD", character)[0]
    return unicodedata.combining(first) == 0 and first not in _composing_characters()


@functools.cache
def _composing_characters() -> frozenset[str]:
    """Characters that may compose with the one before: second parts of canonical decompositions, and vowels and final consonants of Hangul."""
    characters = {chr(i) for i in (*range(0x1161, 0x1176), *range(0x11A7, 0x11C3))}
    for i in range(0x110000):
        codes = unicodedata.decomposition(chr(i)).split()
        if len(codes) == 2 and not codes[0].startswith("<"):
            characters.add(chr(int(codes[1], 16)))
    return frozenset(characters)
