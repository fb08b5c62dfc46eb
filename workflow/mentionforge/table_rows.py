"""Rows of tables: each is a record, or an error of its own; a broken row costs no other.

CSV is read strictly (RFC 4180): a quotation mark that opens a field must close it, and each row has as many fields as the header. In tab-separated
files as people write them, quotation marks are text; a field is quoted only if it begins and ends with one and those inside are doubled. After a
broken row, reading goes on at the next line. Undecodable bytes cost the row that they stand in.
"""

from __future__ import annotations

import codecs
import decimal
import json
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

BROKEN = "broken row"
ENCODING = "wrong encoding"

_BATCH = 64
_HEAD = 65_536
_MOST_LOST = 1_000_000
"""Rows of a damaged Parquet file that are listed one by one; more are one error."""

_CLOSE = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
_END = re.compile(r"\r?\n?\Z")
_BAD_BYTE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Row:
    """A row's number (from 1, the header not counted), and its record or why there is none."""

    number: int
    record: Any = None
    error: str = ""
    why: str = ""


class Twice(dict[str, Any]):
    """A JSON object in which a key stands twice."""


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Undecodable bytes as halves of surrogate pairs, which no text holds: the row that they stand in can be told from the others."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte if byte >= 0x80 else 0xDC80) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("mentionforge-mark", _mark)


@dataclass
class _Lines:
    """Lines of a stream with their ends, each with whether it is whole: of a line longer than `most` only the beginning is kept."""

    handle: IO[str]
    most: int
    end: str = "\n"
    number: int = 0
    waiting: deque[tuple[str, bool]] = field(default_factory=deque)

    def next(self) -> tuple[str, bool] | None:
        """The next line; none at the end."""
        if self.waiting:
            self.number += 1
            return self.waiting.popleft()
        line = self.handle.readline(self.most)
        if not line:
            return None
        self.number += 1
        rest, whole = line, len(line) < self.most or line.endswith(self.end)
        while not whole and rest and not rest.endswith(self.end):
            rest = self.handle.readline(_HEAD)
        return (line, True) if whole else (line[:_HEAD], False)

    def back(self, lines: Sequence[tuple[str, bool]]) -> None:
        """Put lines back, to be read again."""
        self.waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def lines(encoding: str, most: int) -> Iterator[Row]:
    """Each line of standard input, without its end, as a record `{"text": …}`."""
    import io

    handle = io.TextIOWrapper(sys.stdin.buffer, encoding, "mentionforge-mark", "\n")
    for number, (line, whole) in enumerate(_all(_Lines(handle, most + 2)), 1):
        if not whole:
            yield Row(number, None, "too large", f"more than {most:,} characters (--max-mb)")
        else:
            yield _bad_bytes(number, line, encoding) or Row(number, {"text": _bare(line)})


def json_lines(path: str, encoding: str, most: int) -> Iterator[Row]:
    """Each line that is not blank, as JSON."""
    number = 0
    with open(path, encoding=_without_mark(encoding), errors="mentionforge-mark", newline="\n") as handle:
        source = _Lines(handle, 6 * most + _HEAD)
        for line, whole in _all(source):
            if not line.strip():
                continue
            number += 1
            if not whole:
                yield Row(number, None, "too large", f"line {source.number} is longer than any text allowed (--max-mb)")
                continue
            if bad := _bad_bytes(number, line, encoding):
                yield bad
                continue
            try:
                yield Row(number, json.loads(line, object_pairs_hook=_pairs))
            except json.JSONDecodeError as error:
                yield Row(number, None, BROKEN, f"line {source.number} is no JSON: {error.msg} at character {error.pos + 1}")
            except (ValueError, RecursionError) as error:
                why = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
                yield Row(number, None, BROKEN, f"line {source.number}: {why}")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    return record if len(record) == len(pairs) else Twice(record)


def delimited(path: str, encoding: str, most: int, delimiter: str) -> Iterator[Row]:
    """Each row below the header, as a record by column.

    Args:
        path: File.
        encoding: Of the file.
        most: Characters of a field.
        delimiter: A comma: strict CSV; a tab: quotation marks are text where they do not quote a whole field.

    Raises:
        ValueError: No header, or a broken one; the reason is its text.
    """
    end = _line_end(path, encoding)
    with open(path, encoding=_without_mark(encoding), errors="mentionforge-mark", newline=end) as handle:
        source = _Lines(handle, 2 * most + _HEAD, end)
        header: list[str] | None = None
        number = 0
        for line, whole in _all(source):
            if not _bare(line):
                continue
            if header is None:
                header = _header(line, source, delimiter)
                continue
            at = source.number
            number += 1
            if not whole:
                yield Row(number, None, "too large", f"line {at} is longer than any text allowed (--max-mb)")
                continue
            fields, why = (_csv if delimiter == "," else _tsv)(line, source, len(header))
            if bad := _bad_bytes(number, line if fields is None else "".join(fields), encoding):
                yield bad
            elif fields is None:
                yield Row(number, None, BROKEN, f"line {at}: {why}")
            else:
                yield Row(number, dict(zip(header, fields, strict=True)))


def _header(line: str, source: _Lines, delimiter: str) -> list[str]:
    fields, why, _ = _strict(line, source, delimiter)
    if fields is None:
        raise ValueError(f"its header is broken: {why}")
    names = [name.strip() for name in fields]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ValueError(f"column {twice[0]} stands twice in its header")
    return names


def _strict(line: str, source: _Lines, delimiter: str) -> tuple[list[str] | None, str, list[tuple[str, bool]]]:
    """The fields of a row that begins with a line, or none and why; and the lines drawn besides, where a field goes on."""
    fields: list[str] = []
    taken: list[tuple[str, bool]] = []
    at = 0
    while True:
        if not line.startswith('"', at):
            end = line.find(delimiter, at)
            fields.append(line[at:end] if end >= 0 else _bare(line[at:]))
            if end < 0:
                return fields, "", taken
            at = end + 1
            continue
        pieces: list[str] = []
        start, size = at + 1, 0
        while (close := _CLOSE.match(line, start)) is None:
            pieces.append(line[start:])
            size += len(pieces[-1])
            following = source.next() if size <= source.most else None
            if following is None:
                return None, "a quotation mark opens a field and none closes it", taken
            taken.append(following)
            line, start = following[0], 0
        pieces.append(line[start : close.end() - 1])
        fields.append("".join(pieces).replace('""', '"'))
        at = close.end()
        if _END.match(line, at):
            return fields, "", taken
        if not line.startswith(delimiter, at):
            return None, "text follows the quotation mark that closes a field (those inside are doubled)", taken
        at += 1


def _csv(line: str, source: _Lines, width: int) -> tuple[list[str] | None, str]:
    """The fields of a row by RFC 4180, or none and why; then only its first line counts as read."""
    fields, why, taken = _strict(line, source, ",")
    if fields is None:
        source.back(taken)
    elif len(fields) != width:
        hint = "; a field that holds a comma must be quoted" if len(fields) > width else ""
        return None, f"{len(fields)} fields, {width} in the header{hint}"
    return fields, why


def _tsv(line: str, source: _Lines, width: int) -> tuple[list[str] | None, str]:
    """The fields of a row: as quoted ones if that fits the header, as they stand in the line otherwise.

    A quoted field goes over several lines only if these lines are not rows by themselves.
    """
    fields, _, taken = _strict(line, source, "\t")
    rows = width > 1 and all(t.count("\t") == width - 1 for t in (line, *(t for t, _ in taken)))
    if fields is not None and len(fields) == width and not (taken and rows):
        return fields, ""
    source.back(taken)
    literal = [_unquoted(f) for f in _bare(line).split("\t")]
    return (literal, "") if len(literal) == width else (None, f"{len(literal)} fields, {width} in the header")


def _unquoted(text: str) -> str:
    whole = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if whole and '"' not in text[1:-1].replace('""', "") else text


def _all(source: _Lines) -> Iterator[tuple[str, bool]]:
    while (line := source.next()) is not None:
        yield line


def _bare(line: str) -> str:
    """A line without its end."""
    return line.removesuffix("\n").removesuffix("\r")


def _bad_bytes(number: int, text: str, encoding: str) -> Row | None:
    found = bad_byte(text)
    return Row(number, None, ENCODING, f"not {encoding}: byte {found} in it (--encoding)") if found else None


def bad_byte(text: str) -> str:
    """The first byte of a text that could not be decoded, in hexadecimal digits; empty if there is none."""
    found = _BAD_BYTE.search(text)
    return f"0x{ord(found[0]) - 0xDC00:02x}" if found else ""


def _without_mark(encoding: str) -> str:
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _line_end(path: str, encoding: str) -> str:
    """The line feed, but for files of old that have carriage returns only."""
    with open(path, encoding=encoding, errors="replace", newline="") as handle:
        head = handle.read(_HEAD)
    return "\r" if "\r" in head and "\n" not in head else "\n"


def parquet(path: str, columns: Sequence[str], encoding: str) -> Iterator[Row]:
    """Each row, as a record of those of the columns that there are; rows of a damaged row group are errors of their own.

    Raises:
        ValueError: The file is no Parquet file; the reason is its text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def failed(error: Exception) -> str:
        return f"no Parquet file that can be read ({type(error).__name__})"

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise
        raise ValueError(failed(error)) from error
    with file:
        names = file.schema_arrow.names
        if twice := [name for name in columns if names.count(name) > 1]:
            raise ValueError(f"column {twice[0]} stands in it twice")
        wanted = [name for name in dict.fromkeys(columns) if name in names]
        number = 0
        for group in range(file.num_row_groups):
            last = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=wanted):
                    values = {name: _values(batch.column(name), encoding) for name in wanted}
                    for i in range(batch.num_rows):
                        number += 1
                        yield Row(number, {name: column[i] for name, column in values.items()})
            except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
                if last - number > _MOST_LOST:
                    yield Row(number + 1, None, BROKEN, f"rows {number + 1} to {last}: {failed(error)}")
                else:
                    yield from (Row(n, None, BROKEN, failed(error)) for n in range(number + 1, last + 1))
            number = max(number, last)


def _values(column: Any, encoding: str) -> list[Any]:
    """A column's values; text is decoded here, since one bad byte must not cost the other rows."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_string(column.type) or types.is_string_view(column.type):
        column, encoding = column.cast(pa.string()).cast(pa.binary()), "utf-8"
    elif types.is_large_string(column.type):
        column, encoding = column.cast(pa.large_binary()), "utf-8"
    values = column.to_pylist()
    return [v.decode(encoding, "mentionforge-mark") if isinstance(v, bytes) else v for v in values]


def as_id(value: Any) -> str:
    """An id as it would be written; empty if there is none. A whole number is one whatever its type: libraries make floats of numbers with gaps."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip()
