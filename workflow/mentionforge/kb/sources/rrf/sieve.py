"""One fast pass over an RRF file: count and check its rows, and keep those that a filter selects by their first fields.

In: the bytes of a file, plain or packed, and a filter (`ByCui`, `ByTui`). Out: the rows kept, unparsed, and the number of all rows.
Memory holds a few blocks, whatever the size of the file. Knows nothing of columns beyond the first two, nor of DuckDB.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from mentionforge.kb.sources.rrf.release import Member

BAR, NEWLINE, RETURN = b"|\n\r"
MARGIN = 16
"""Bytes after the end of a block, so that 16 bytes can be read at the start of any row."""

RowFilter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps the bytes of a block (with `MARGIN`) and the offset of each row to a boolean per row: keep it."""

T = TypeVar("T")

SWAR = [(np.uint64(10**n), np.uint64(8 * n), np.uint64(mask)) for n, mask in ((1, 0x00FF00FF00FF00FF), (2, 0x0000FFFF0000FFFF), (4, 0xFFFFFFFF))]
"""Factor, shift and mask of the three steps that turn eight decimal digits in a 64-bit word into a number (SIMD within a register)."""


class SieveResult(NamedTuple):
    """Result of a pass.

    Attributes:
        rows: Rows of the file.
        kept: Rows kept.
        sound: The file is UTF-8, and the counts of bars and line ends in each block agree with the number of fields.
    """

    rows: int
    kept: int
    sound: bool


# The idea. A release is twenty times larger than the rows that a knowledge base needs, and parsing dominates the cost. So rows are filtered before they
# are parsed, by their first bytes: UMLS writes a CUI as C and seven digits, a TUI as T and three. Take ByCui([12], {"ENG"}) and three rows of MRCONSO:
#     C0000012|ENG|P|...     kept: a selected CUI in a selected language
#     C0000012|FRE|S|...     dropped, and counted in `foreign`
#     C0000015|ENG|P|...     dropped
# 1. The line feeds of a block give the offset of each row. The eight bytes there, "C0000012", are read as one 64-bit word, for all rows at once
#    (`_words`); the next eight bytes hold the language, "|ENG|P|.".
# 2. Three multiplications turn the seven digits into the number 12 (`_numbers`): digits join to pairs, pairs to fours, fours to the whole number.
# 3. The number indexes an array of booleans: table[12] is true, table[15] is false. No string is created, compared or hashed.
# 4. A row that starts differently ("c12|ENG|") is kept as well: the parser decides about it, not the sieve.


def sieve(member: Member, fields: int, row_filter: RowFilter | None, target: Path | RotatingFile | None) -> SieveResult:
    """Count the rows of a file, and write those that the filter keeps to `target`.

    Each block must be UTF-8. Bars and line ends are counted per block, not per row: a missing and a surplus bar in the same two megabytes cancel
    out. Rows kept are parsed later, and that fails on such a row.

    Args:
        member: The file.
        fields: Fields of a row, each closed by a bar.
        row_filter: Selects the rows to keep; none: all.
        target: File to write rows to, or a `RotatingFile`; none: rows are only counted.
    """
    rows = kept = 0
    sound = True
    scratch = np.zeros(0, bool)
    with open(target, "wb") if isinstance(target, Path) else target or nullcontext() as handle:
        for block, is_utf8 in _prefetched((block, _is_utf8(block[:-MARGIN])) for block in _blocks(member.chunks())):
            data = block[:-MARGIN]
            if len(scratch) < len(data):
                scratch = np.zeros(8 * (len(data) // 8 + 1), bool)
            ends = _line_ends(data, scratch)
            if not len(ends) or ends[-1] != len(data) - 1:  # only the last row of a file may lack a line end
                ends = np.append(ends, len(data))
            starts = np.concatenate([[0], ends[:-1] + 1])
            rows += len(ends)
            bars = int(np.count_nonzero(np.equal(data, BAR, out=scratch[: len(data)])))
            closed = int(np.count_nonzero(block[ends - 1] == BAR)) if ends[0] else 0
            if closed < len(ends):  # empty rows, carriage returns, or rows cut short
                last = np.where((block[ends - 1] == RETURN) & (ends > starts + 1), ends - 2, ends - 1)
                closed = int(np.count_nonzero((block[last] == BAR) & (ends > starts)))
            sound = sound and bars == len(ends) * fields and closed == len(ends) and is_utf8
            if row_filter is not None:
                keep = row_filter(block, starts)
                kept += int(np.count_nonzero(keep))
                if handle is not None:
                    handle.write(_kept_rows(data, starts, keep))
            elif handle is not None:
                handle.write(data.data)
                kept += len(ends)
    return SieveResult(rows, kept, sound)


class RotatingFile:
    """A target for rows that is split into files of about `SIZE` bytes; each is handed on when full, so it is parsed while the pass continues."""

    SIZE = 1 << 26
    """Bytes after which the next file begins."""

    def __init__(self, prefix: Path, on_full: Callable[[Path], object]) -> None:
        """`prefix`: start of the files' paths. `on_full`: called with each finished file, in order; with the last one on exit."""
        self._prefix, self._on_full = prefix, on_full
        self._number = 0
        self._file: BinaryIO | None = None

    def write(self, rows: memoryview) -> None:
        """Write rows."""
        if self._file is None:
            self._file = open(f"{self._prefix}.{self._number}", "wb")  # noqa: SIM115
        self._file.write(rows)
        if self._file.tell() >= self.SIZE:
            self._hand_on()

    def __enter__(self) -> RotatingFile:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Hand on the last file, unless an error ended the pass."""
        if self._file and kind:
            self._file.close()
        elif self._file:
            self._hand_on()

    def _hand_on(self) -> None:
        assert self._file
        self._file.close()
        self._on_full(Path(self._file.name))
        self._number, self._file = self._number + 1, None


def _is_utf8(data: np.ndarray) -> bool:
    """Whether bytes are valid UTF-8. Arrow checks several gigabytes a second without copying."""
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _line_ends(data: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Offsets of the line feeds of a block; `scratch` is overwritten.

    Words of eight bytes are searched, which is twice as fast as single bytes. Rows are long, so hardly any word has two line feeds.
    """
    is_line_feed = np.equal(data, NEWLINE, out=scratch[: len(data)])
    scratch[len(data) : len(data) + 8] = False
    words = scratch.view("<u8")[: (len(data) + 7) // 8]
    word_indexes = np.flatnonzero(words != 0)
    words_with_feed = words[word_indexes]  # exactly one byte k of each is 1; multiplying moves k, which is byte 7 - k of the factor, to the top byte
    if np.any(words_with_feed & (words_with_feed - np.uint64(1))):
        return np.flatnonzero(is_line_feed)
    return word_indexes * 8 + ((words_with_feed * np.uint64(0x0001020304050607)) >> np.uint64(56)).astype(np.int64)


def _kept_rows(data: np.ndarray, starts: np.ndarray, keep: np.ndarray) -> memoryview:
    """The bytes of the rows kept, concatenated. Arrow copies them several times faster than Python slices."""
    # [rows + 1] offsets
    offsets = pa.py_buffer(np.append(starts, len(data)))
    rows = pa.Array.from_buffers(pa.large_binary(), len(starts), [None, offsets, pa.py_buffer(data)]).filter(pa.array(keep))
    _, ends, text = rows.buffers()
    return memoryview(text)[: np.frombuffer(ends, np.int64)[len(rows)]]


class ByCui:
    """Filter: keep rows whose first field is one of the CUIs, given as numbers (C0000012 is 12).

    With `languages`, the second field must be one of them, except for the CUIs in `any_language`; rows dropped for it are counted in `foreign`.

    Attributes:
        seen: Boolean by CUI number: a selected CUI has a row.
        foreign: Rows of selected CUIs dropped for their language.
        irregular: Rows kept because they do not start with a CUI.
    """

    def __init__(self, cuis: np.ndarray, languages: Iterable[str] = (), any_language: np.ndarray | None = None) -> None:
        # `_numbers` reads only the low four bits of each of seven characters, so numbers stay below 1 << 24.
        self.table, self.any_language, self.seen = (np.zeros(1 << 24, bool) for _ in range(3))
        self.table[cuis] = True
        if any_language is not None:
            self.any_language[any_language] = True
        self.languages = np.array([int.from_bytes(f"|{code}|".encode(), "little") for code in languages if len(code.encode()) == 3], np.uint64)
        self.foreign = self.irregular = 0

    def __call__(self, block: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether each row is kept, as `RowFilter`."""
        # [rows] words of the 8 bytes at each row's start, the first in the lowest byte
        words = _words(block)[starts]
        numbers, regular = _numbers(words)
        regular &= block[starts + 8] == BAR
        keep = self.table[numbers] & regular
        chosen = np.flatnonzero(keep)
        if np.any(wrong := ~_decimal(words[chosen])):  # checked only for the few rows left
            regular[chosen[wrong]] = keep[chosen[wrong]] = False
            chosen = chosen[~wrong]
        self.seen[numbers[chosen]] = True
        if len(self.languages):
            after = _words(block)[starts[chosen] + 8]  # |ENG|
            regular_code = (after & np.uint64(0x000000FF606060FF)) == np.uint64(0x0000007C4040407C)
            known = np.isin(after & np.uint64(0x000000FFFFFFFFFF), self.languages)
            foreign = regular_code & ~known & ~self.any_language[numbers[chosen]]
            keep[chosen[foreign]] = False
            self.foreign += int(np.count_nonzero(foreign))
        self.irregular += len(regular) - int(np.count_nonzero(regular))
        return keep | ~regular


def _numbers(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of CUIs, each given as a word, and whether each is C and seven digits; `_decimal` rules out :;<=>? in place of digits."""
    shaped = (words & np.uint64(0xF0F0F0F0F0F0F0FF)) == np.uint64(0x3030303030303043)
    numbers = words & np.uint64(0x0F0F0F0F0F0F0F00)
    for factor, shift, mask in SWAR:  # join neighbours: digits, then pairs, then fours
        numbers = (numbers * factor + (numbers >> shift)) & mask
    return numbers.astype(np.int64), shaped  # signed indexes are several times faster than unsigned ones


def _decimal(words: np.ndarray) -> np.ndarray:
    """Whether the digits of such words are 0 to 9: adding six turns : (0x3A) into @ (0x40), whose high bits differ from those of digits (0x3_)."""
    return ((words + np.uint64(0x0606060606060600)) & np.uint64(0xF0F0F0F0F0F0F000)) == np.uint64(0x3030303030303000)


class ByTui:
    """Filter: keep rows whose first field looks like a CUI and whose second is one of the TUIs.

    It also collects both numbers, so that MRSTY needs no parser, as long as all rows kept are regular (C0000012|T047|…, with the right number
    of bars). At the first irregular row `regular` becomes false, and the parser must read the file.
    """

    def __init__(self, tuis: tuple[str, ...], fields: int) -> None:
        self.fields, self.regular = fields, True
        self._pairs: list[np.ndarray] = []
        self.table = np.zeros(1 << 12, bool)
        self.table[[int(tui[1:]) for tui in tuis if len(tui) == 4 and tui[1:].isdecimal()]] = True

    def __call__(self, block: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether each row is kept, as `RowFilter`."""
        words = _words(block)[starts + 8]  # |T047|
        number = np.zeros(len(words), np.uint64)
        for place in range(2, 5):
            number = number * np.uint64(10) + ((words >> np.uint64(8 * place)) & np.uint64(15))
        regular = (words & np.uint64(0x0000FFF0F0F0FFFF)) == np.uint64(0x00007C303030547C)
        keep = self.table[number] | ~regular
        if self.regular:
            chosen = np.flatnonzero(keep)
            cuis = _words(block)[starts[chosen]]
            numbers, shaped = _numbers(cuis)
            digits = (words[chosen] >> np.uint64(16)) & np.uint64(0x0F0F0F)
            decimal = ((digits + np.uint64(0x060606)) & np.uint64(0x101010)) == 0
            text = np.frombuffer(_kept_rows(block[:-MARGIN], starts, keep), np.uint8)
            self.regular = bool((regular[chosen] & shaped & _decimal(cuis) & decimal).all()) and self._closed(text, len(chosen))
            self._pairs.append(numbers << 10 | number[chosen].astype(np.int64))
        return keep

    def _closed(self, text: np.ndarray, rows: int) -> bool:
        """Whether each row has the right number of bars, ends with a bar, and has no carriage return."""
        ends = np.flatnonzero(text == NEWLINE)
        bars = np.flatnonzero(text == BAR)
        return len(ends) == rows and len(bars) == rows * self.fields and np.array_equal(bars[self.fields - 1 :: self.fields], ends - 1) and RETURN not in text

    def pairs(self) -> np.ndarray:
        """For each row kept, in the order of the file: number of the CUI * 1024 + number of the TUI."""
        return np.concatenate(self._pairs) if self._pairs else np.zeros(0, np.int64)


def _words(block: np.ndarray) -> np.ndarray:
    """The 8 bytes at every offset of a block, as one little-endian number each, without copying."""
    return np.ndarray((len(block) - 7,), np.dtype("<u8"), block, strides=(1,))


def _blocks(chunks: Iterable[bytes]) -> Iterator[np.ndarray]:
    """Blocks of whole rows, each followed by `MARGIN` more bytes.

    A block is a view of the chunk, without copying; only a row that spans two chunks is copied.
    """
    margin, rest = bytes(MARGIN), b""
    for chunk in chunks:
        head, cut = chunk.find(b"\n") + 1, chunk.rfind(b"\n") + 1
        if not head:
            rest += chunk
            continue
        if not rest:
            head = 0
        else:
            yield np.frombuffer(b"".join((rest, chunk[:head], margin)), np.uint8)
        if head < cut <= len(chunk) - MARGIN:
            yield np.frombuffer(chunk, np.uint8)[head : cut + MARGIN]
        elif head < cut:
            yield np.frombuffer(chunk[head:cut] + margin, np.uint8)
        rest = chunk[cut:]
    if rest:
        yield np.frombuffer(rest + margin, np.uint8)


def _prefetched(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items, produced by a thread while the consumer works on earlier ones. An error in the thread is raised here."""
    buffer: queue.Queue[T | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                buffer.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (item := buffer.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
