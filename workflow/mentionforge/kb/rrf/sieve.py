"""One fast pass over an RRF file: counts and checks its rows, and keeps those whose first fields are wanted.

In: the bytes of a file, plain or packed, and which rows are wanted (`ByCui`, `ByTui`). Out: the rows kept, unparsed, and the number of all rows.
Memory holds a few blocks, whatever the size of the file. Knows nothing of columns beyond the first fields, nor of DuckDB.
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

from mentionforge.kb.rrf.release import Member

BAR, NEWLINE, RETURN = b"|\n\r"
MARGIN = 16
"""Bytes behind a block, so that the start of a short last row can be read."""

Wanted = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Which rows of a block are kept: bytes of the block (with `MARGIN`), offset of each row, to a boolean for each row."""

T = TypeVar("T")

SWAR = [(np.uint64(10**n), np.uint64(8 * n), np.uint64(mask)) for n, mask in ((1, 0x00FF00FF00FF00FF), (2, 0x0000FFFF0000FFFF), (4, 0xFFFFFFFF))]
"""Factor, shift and mask of each of the three steps that turn eight decimal digits in a word into their number."""


class Sieved(NamedTuple):
    """Rows of a file, rows kept, and whether all of it is UTF-8 in rows of the right number of fields, as far as the totals of a block show it."""

    rows: int
    kept: int
    sound: bool


# The idea. A release is twenty times larger than what is taken from it, and parsing is what costs. So rows are chosen before they are parsed, by the
# bytes at their start: UMLS writes a CUI as C and seven digits, a TUI as T and three. Take ByCui([12], {"ENG"}) and three rows of MRCONSO:
#     C0000012|ENG|P|...     kept: a wanted CUI in a wanted language
#     C0000012|FRE|S|...     left out, and counted in `foreign`
#     C0000015|ENG|P|...     left out
# 1. The line feeds of a block give the offset of each row. The eight bytes there, "C0000012", are one 64-bit number, so numpy reads those of all
#    rows at once (`_words`); the next eight hold the language, "|ENG|P|.".
# 2. Three multiplications turn the seven digits into the number 12 (`_numbers`): neighbours join to pairs, pairs to fours, fours to the whole.
# 3. The number is the place in a table of booleans: table[12] is true, table[15] is not. No text is made, compared or hashed.
# 4. A row that starts otherwise ("c12|ENG|") is kept as well: the parser is to judge it, not the sieve.


def sieve(member: Member, fields: int, wanted: Wanted | None, target: Path | Parts | None) -> Sieved:
    """Count the rows of a file, choose those that are wanted, and write them to `target`.

    Each block must be UTF-8. Its bars and line ends are counted together, not row by row: a row with a bar too few and one with a bar too
    many hide each other if they lie within the same two megabytes. Those that are kept are parsed afterwards, and found then.

    Args:
        member: The file.
        fields: Fields of a row, each closed by a bar.
        wanted: Which rows are kept; none: all.
        target: File to write them to, or files of limited size; none: no file.
    """
    rows = kept = 0
    sound = True
    scratch = np.zeros(0, bool)
    with open(target, "wb") if isinstance(target, Path) else target or nullcontext() as handle:
        for block, is_utf8 in _ahead((block, _is_utf8(block[:-MARGIN])) for block in _blocks(member.chunks())):
            data = block[:-MARGIN]
            if len(scratch) < len(data):
                scratch = np.zeros(8 * (len(data) // 8 + 1), bool)
            ends = _line_ends(data, scratch)
            if not len(ends) or ends[-1] != len(data) - 1:  # only the last row of the file may lack its line end
                ends = np.append(ends, len(data))
            starts = np.concatenate([[0], ends[:-1] + 1])
            rows += len(ends)
            bars = int(np.count_nonzero(np.equal(data, BAR, out=scratch[: len(data)])))
            good = int(np.count_nonzero(block[ends - 1] == BAR)) if ends[0] else 0
            if good < len(ends):  # empty rows, carriage returns, or rows cut short
                last = np.where((block[ends - 1] == RETURN) & (ends > starts + 1), ends - 2, ends - 1)
                good = int(np.count_nonzero((block[last] == BAR) & (ends > starts)))
            sound = sound and bars == len(ends) * fields and good == len(ends) and is_utf8
            if wanted is not None:
                keep = wanted(block, starts)
                kept += int(np.count_nonzero(keep))
                if handle is not None:
                    handle.write(_kept(data, starts, keep))
            elif handle is not None:
                handle.write(data.data)
                kept += len(ends)
    return Sieved(rows, kept, sound)


class Parts:
    """A target for whole rows that is one file after another, each handed on when it is full, so that it is parsed while the pass goes on."""

    SIZE = 1 << 26
    """Bytes from which a file is full."""

    def __init__(self, prefix: Path, full: Callable[[Path], object]) -> None:
        """`prefix`: what the files' paths begin with; `full`: what takes them, in order; the last one when all rows are written."""
        self._prefix, self._full = prefix, full
        self._number = 0
        self._file: BinaryIO | None = None

    def write(self, rows: memoryview) -> None:
        """Write rows."""
        if self._file is None:
            self._file = open(f"{self._prefix}.{self._number}", "wb")  # noqa: SIM115
        self._file.write(rows)
        if self._file.tell() >= self.SIZE:
            self._hand_on()

    def __enter__(self) -> Parts:
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
        self._full(Path(self._file.name))
        self._number, self._file = self._number + 1, None


def _is_utf8(data: np.ndarray) -> bool:
    """Whether bytes are valid UTF-8; Arrow looks at several gigabytes a second, and copies nothing."""
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _line_ends(data: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Offsets of the line feeds of a block; `scratch` is overwritten.

    Eight bytes are looked at together, which is twice as fast as one by one: rows are long, so hardly a word has two line feeds.
    """
    found = np.equal(data, NEWLINE, out=scratch[: len(data)])
    scratch[len(data) : len(data) + 8] = False
    words = scratch.view("<u8")[: (len(data) + 7) // 8]
    places = np.flatnonzero(words != 0)
    hits = words[places]  # one byte of each is 1, and its place k is the number that byte 7 - k of the factor holds
    if np.any(hits & (hits - np.uint64(1))):
        return np.flatnonzero(found)
    return places * 8 + ((hits * np.uint64(0x0001020304050607)) >> np.uint64(56)).astype(np.int64)


def _kept(data: np.ndarray, starts: np.ndarray, keep: np.ndarray) -> memoryview:
    """The rows kept, one after another; Arrow copies them several times faster than slices of the interpreter's are made."""
    # [rows + 1] offsets
    offsets = pa.py_buffer(np.append(starts, len(data)))
    rows = pa.Array.from_buffers(pa.large_binary(), len(starts), [None, offsets, pa.py_buffer(data)]).filter(pa.array(keep))
    _, ends, text = rows.buffers()
    return memoryview(text)[: np.frombuffer(ends, np.int64)[len(rows)]]


class ByCui:
    """Rows whose first field is one of the CUIs, given as numbers (C0000012 is 12).

    Where a row's second field is its language, rows in other languages than those given are left out too, and counted in `foreign`,
    except rows of the CUIs in `whole`.

    Attributes:
        seen: For each number, whether one of the CUIs given has a row.
        foreign: Rows of the CUIs left out for their language.
        odd: Rows kept because they do not start with a CUI.
    """

    def __init__(self, cuis: np.ndarray, languages: Iterable[str] = (), whole: np.ndarray | None = None) -> None:
        # Seven characters of which only the low four bits are looked at stay below 1 << 24.
        self.table, self.whole, self.seen = (np.zeros(1 << 24, bool) for _ in range(3))
        self.table[cuis] = True
        if whole is not None:
            self.whole[whole] = True
        self.languages = np.array([int.from_bytes(f"|{code}|".encode(), "little") for code in languages if len(code.encode()) == 3], np.uint64)
        self.foreign = self.odd = 0

    def __call__(self, block: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether each row is kept, as `Wanted`."""
        # [rows] words of the 8 bytes at each row's start, the first in the lowest byte
        words = _words(block)[starts]
        numbers, regular = _numbers(words)
        regular &= block[starts + 8] == BAR
        keep = self.table[numbers] & regular
        chosen = np.flatnonzero(keep)
        if np.any(wrong := ~_decimal(words[chosen])):  # looked at late, as they are few
            regular[chosen[wrong]] = keep[chosen[wrong]] = False
            chosen = chosen[~wrong]
        self.seen[numbers[chosen]] = True
        if len(self.languages):
            after = _words(block)[starts[chosen] + 8]  # |ENG|
            regular_code = (after & np.uint64(0x000000FF606060FF)) == np.uint64(0x0000007C4040407C)
            known = np.isin(after & np.uint64(0x000000FFFFFFFFFF), self.languages)
            foreign = regular_code & ~known & ~self.whole[numbers[chosen]]
            keep[chosen[foreign]] = False
            self.foreign += int(np.count_nonzero(foreign))
        self.odd += len(regular) - int(np.count_nonzero(regular))
        return keep | ~regular


def _numbers(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of CUIs, each given as a word, and whether it is C and seven digits, or one of :;<=>? in their place (see `_decimal`)."""
    shaped = (words & np.uint64(0xF0F0F0F0F0F0F0FF)) == np.uint64(0x3030303030303043)
    numbers = words & np.uint64(0x0F0F0F0F0F0F0F00)
    for factor, shift, mask in SWAR:  # neighbours become one number: digits, then pairs, then fours
        numbers = (numbers * factor + (numbers >> shift)) & mask
    return numbers.astype(np.int64), shaped  # as indices, several times faster than unsigned ones


def _decimal(words: np.ndarray) -> np.ndarray:
    """Whether the digits of such words are 0 to 9: six more leads from : to @, beyond the digits' high bits."""
    return ((words + np.uint64(0x0606060606060600)) & np.uint64(0xF0F0F0F0F0F0F000)) == np.uint64(0x3030303030303000)


class ByTui:
    """Rows whose first field looks like a CUI and whose second is one of the TUIs.

    Both are read on the way, so that MRSTY needs no parser, as long as all rows kept are as UMLS writes them (C0000012|T047|…, with the right number
    of bars). Where one is not, `regular` becomes false, and the parser is to judge.
    """

    def __init__(self, tuis: tuple[str, ...], fields: int) -> None:
        self.fields, self.regular = fields, True
        self._found: list[np.ndarray] = []
        self.table = np.zeros(1 << 12, bool)
        self.table[[int(tui[1:]) for tui in tuis if len(tui) == 4 and tui[1:].isdecimal()]] = True

    def __call__(self, block: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Whether each row is kept, as `Wanted`."""
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
            text = np.frombuffer(_kept(block[:-MARGIN], starts, keep), np.uint8)
            self.regular = bool((regular[chosen] & shaped & _decimal(cuis) & decimal).all()) and self._closed(text, len(chosen))
            self._found.append(numbers << 10 | number[chosen].astype(np.int64))
        return keep

    def _closed(self, text: np.ndarray, rows: int) -> bool:
        """Whether each of the rows has its number of bars, the last one at its end, and no carriage return."""
        ends = np.flatnonzero(text == NEWLINE)
        bars = np.flatnonzero(text == BAR)
        return len(ends) == rows and len(bars) == rows * self.fields and np.array_equal(bars[self.fields - 1 :: self.fields], ends - 1) and RETURN not in text

    def pairs(self) -> np.ndarray:
        """Number of the CUI, times 1024, plus number of the TUI, of each row kept, in the order of the file."""
        return np.concatenate(self._found) if self._found else np.zeros(0, np.int64)


def _words(block: np.ndarray) -> np.ndarray:
    """The 8 bytes at every offset of a block, as one little-endian number each, without copying."""
    return np.ndarray((len(block) - 7,), np.dtype("<u8"), block, strides=(1,))


def _blocks(chunks: Iterable[bytes]) -> Iterator[np.ndarray]:
    """Blocks of whole rows, each with `MARGIN` bytes behind.

    A block is a view of the chunk read, without copying; only the row that two chunks share is put together.
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


def _ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items, made by a thread of its own, so that the next is read, unpacked and looked at while one is worked on; what it raises is raised here."""
    waiting: queue.Queue[T | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.2)
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
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
