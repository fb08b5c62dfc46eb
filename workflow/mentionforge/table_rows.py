"""Read rows of CSV, TSV, JSON Lines and Parquet files; a broken row is an error of its own and affects no other row.

In: a file. Out: a `Row` per row, with its record or an error. CSV is read strictly (RFC 4180); in TSV a field is quoted only if it begins and ends with
a quotation mark and those inside are doubled. After a broken row, reading continues at the next line. Knows nothing of the meaning of columns.
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
_MAX_LISTED = 1_000_000
"""Maximum number of damaged Parquet rows that are listed one by one; more become one error."""

_CLOSE = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
_END = re.compile(r"\r?\n?\Z")
_BAD_BYTE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Row:
    """A row: its number (from 1, without the header), and its record, or an error with the reason."""

    number: int
    record: Any = None
    error: str = ""
    why: str = ""


class RepeatedKeys(dict[str, Any]):
    """A JSON object with a repeated key."""


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: decode an invalid byte as a lone surrogate, which occurs in no valid text, so that its row can be identified."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte if byte >= 0x80 else 0xDC80) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("mentionforge-mark", _mark_undecodable)


@dataclass
class _LineReader:
    """Reads lines of a stream, with their ends, as (line, complete); a line longer than `max_characters` is truncated."""

    handle: IO[str]
    max_characters: int
    end: str = "\n"
    number: int = 0
    pushed_back: deque[tuple[str, bool]] = field(default_factory=deque)

    def next(self) -> tuple[str, bool] | None:
        """The next line; None at the end."""
        if self.pushed_back:
            self.number += 1
            return self.pushed_back.popleft()
        line = self.handle.readline(self.max_characters)
        if not line:
            return None
        self.number += 1
        rest, whole = line, len(line) < self.max_characters or line.endswith(self.end)
        while not whole and rest and not rest.endswith(self.end):
            rest = self.handle.readline(_HEAD)
        return (line, True) if whole else (line[:_HEAD], False)

    def push_back(self, lines: Sequence[tuple[str, bool]]) -> None:
        """Push lines back, to be read again."""
        self.pushed_back.extendleft(reversed(lines))
        self.number -= len(lines)


def lines(encoding: str, max_characters: int) -> Iterator[Row]:
    """Yield each line of standard input, without its end, as a record `{"text": …}`."""
    import io

    handle = io.TextIOWrapper(sys.stdin.buffer, encoding, "mentionforge-mark", "\n")
    for number, (line, whole) in enumerate(_iterate(_LineReader(handle, max_characters + 2)), 1):
        if not whole:
            yield Row(number, None, "too large", f"more than {max_characters:,} characters (--max-mb)")
        else:
            yield _decoding_error(number, line, encoding) or Row(number, {"text": _without_line_end(line)})


def json_lines(path: str, encoding: str, max_characters: int) -> Iterator[Row]:
    """Yield each line that is not blank, parsed as JSON."""
    number = 0
    with open(path, encoding=_without_bom(encoding), errors="mentionforge-mark", newline="\n") as handle:
        source = _LineReader(handle, 6 * max_characters + _HEAD)
        for line, whole in _iterate(source):
            if not line.strip():
                continue
            number += 1
            if not whole:
                yield Row(number, None, "too large", f"line {source.number} is longer than any text allowed (--max-mb)")
                continue
            if bad := _decoding_error(number, line, encoding):
                yield bad
                continue
            try:
                yield Row(number, json.loads(line, object_pairs_hook=_record))
            except json.JSONDecodeError as error:
                yield Row(number, None, BROKEN, f"line {source.number} is no JSON: {error.msg} at character {error.pos + 1}")
            except (ValueError, RecursionError) as error:
                why = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
                yield Row(number, None, BROKEN, f"line {source.number}: {why}")


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    return record if len(record) == len(pairs) else RepeatedKeys(record)


def delimited(path: str, encoding: str, max_characters: int, delimiter: str) -> Iterator[Row]:
    """Yield each row below the header, as a record by column.

    Args:
        path: The file.
        encoding: Its encoding.
        max_characters: Maximum length of a field.
        delimiter: A comma: strict CSV; a tab: quotation marks are text unless they quote a whole field.

    Raises:
        ValueError: The header is broken or has a repeated column; the message is the reason.
    """
    end = _line_end(path, encoding)
    with open(path, encoding=_without_bom(encoding), errors="mentionforge-mark", newline=end) as handle:
        source = _LineReader(handle, 2 * max_characters + _HEAD, end)
        header: list[str] | None = None
        number = 0
        for line, whole in _iterate(source):
            if not _without_line_end(line):
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
            if bad := _decoding_error(number, line if fields is None else "".join(fields), encoding):
                yield bad
            elif fields is None:
                yield Row(number, None, BROKEN, f"line {at}: {why}")
            else:
                yield Row(number, dict(zip(header, fields, strict=True)))


def _header(line: str, source: _LineReader, delimiter: str) -> list[str]:
    fields, why, _ = _parse_fields(line, source, delimiter)
    if fields is None:
        raise ValueError(f"its header is broken: {why}")
    names = [name.strip() for name in fields]
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise ValueError(f"column {repeated[0]} stands twice in its header")
    return names


def _parse_fields(line: str, source: _LineReader, delimiter: str) -> tuple[list[str] | None, str, list[tuple[str, bool]]]:
    """Parse a row: its fields, or None and the reason; and the further lines read for a field with line ends."""
    fields: list[str] = []
    extra_lines: list[tuple[str, bool]] = []
    at = 0
    while True:
        if not line.startswith('"', at):
            end = line.find(delimiter, at)
            fields.append(line[at:end] if end >= 0 else _without_line_end(line[at:]))
            if end < 0:
                return fields, "", extra_lines
            at = end + 1
            continue
        pieces: list[str] = []
        start, size = at + 1, 0
        while (close := _CLOSE.match(line, start)) is None:
            pieces.append(line[start:])
            size += len(pieces[-1])
            next_line = source.next() if size <= source.max_characters else None
            if next_line is None:
                return None, "a quotation mark opens a field and none closes it", extra_lines
            extra_lines.append(next_line)
            line, start = next_line[0], 0
        pieces.append(line[start : close.end() - 1])
        fields.append("".join(pieces).replace('""', '"'))
        at = close.end()
        if _END.match(line, at):
            return fields, "", extra_lines
        if not line.startswith(delimiter, at):
            return None, "text follows the quotation mark that closes a field (those inside are doubled)", extra_lines
        at += 1


def _csv(line: str, source: _LineReader, width: int) -> tuple[list[str] | None, str]:
    """The fields of a CSV row (RFC 4180), or None and the reason; after an unclosed quotation mark the further lines are pushed back."""
    fields, why, extra_lines = _parse_fields(line, source, ",")
    if fields is None:
        source.push_back(extra_lines)
    elif len(fields) != width:
        hint = "; a field that holds a comma must be quoted" if len(fields) > width else ""
        return None, f"{len(fields)} fields, {width} in the header{hint}"
    return fields, why


def _tsv(line: str, source: _LineReader, width: int) -> tuple[list[str] | None, str]:
    """The fields of a TSV row: with quotation marks interpreted if the number of fields then fits the header, else taken literally.

    A quoted field spans several lines only if these lines are not rows by themselves.
    """
    fields, _, extra_lines = _parse_fields(line, source, "\t")
    are_rows = width > 1 and all(t.count("\t") == width - 1 for t in (line, *(t for t, _ in extra_lines)))
    if fields is not None and len(fields) == width and not (extra_lines and are_rows):
        return fields, ""
    source.push_back(extra_lines)
    literal = [_unquoted(f) for f in _without_line_end(line).split("\t")]
    return (literal, "") if len(literal) == width else (None, f"{len(literal)} fields, {width} in the header")


def _unquoted(text: str) -> str:
    whole = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if whole and '"' not in text[1:-1].replace('""', "") else text


def _iterate(source: _LineReader) -> Iterator[tuple[str, bool]]:
    while (line := source.next()) is not None:
        yield line


def _without_line_end(line: str) -> str:
    """A line without its line end."""
    return line.removesuffix("\n").removesuffix("\r")


def _decoding_error(number: int, text: str, encoding: str) -> Row | None:
    byte = bad_byte(text)
    return Row(number, None, ENCODING, f"not {encoding}: byte {byte} in it (--encoding)") if byte else None


def bad_byte(text: str) -> str:
    """The first byte of a text that could not be decoded, in hexadecimal; empty if there is none."""
    match = _BAD_BYTE.search(text)
    return f"0x{ord(match[0]) - 0xDC00:02x}" if match else ""


def _without_bom(encoding: str) -> str:
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _line_end(path: str, encoding: str) -> str:
    """The line end of a file: a line feed, or a carriage return if its beginning has only those."""
    with open(path, encoding=encoding, errors="replace", newline="") as handle:
        head = handle.read(_HEAD)
    return "\r" if "\r" in head and "\n" not in head else "\n"


def parquet(path: str, columns: Sequence[str], encoding: str) -> Iterator[Row]:
    """Yield each row, as a record of the columns that exist; each row of a damaged row group is an error.

    Raises:
        ValueError: The file is not Parquet, or has a repeated column; the message is the reason.
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
        if repeated := [name for name in columns if names.count(name) > 1]:
            raise ValueError(f"column {repeated[0]} stands in it twice")
        present = [name for name in dict.fromkeys(columns) if name in names]
        number = 0
        for group in range(file.num_row_groups):
            last = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=present):
                    values = {name: _values(batch.column(name), encoding) for name in present}
                    for i in range(batch.num_rows):
                        number += 1
                        yield Row(number, {name: column[i] for name, column in values.items()})
            except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
                if last - number > _MAX_LISTED:
                    yield Row(number + 1, None, BROKEN, f"rows {number + 1} to {last}: {failed(error)}")
                else:
                    yield from (Row(n, None, BROKEN, failed(error)) for n in range(number + 1, last + 1))
            number = max(number, last)


def _values(column: Any, encoding: str) -> list[Any]:
    """The values of a column. Text is decoded here, so that an invalid byte affects only its own row."""
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
