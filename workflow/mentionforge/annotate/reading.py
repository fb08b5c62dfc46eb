"""What people have: files, folders, patterns, standard input, columns of tables; each document, or why it cannot be read, in a fixed order.

Texts are taken as they are: no character is changed or dropped, line ends and byte order marks included, so that offsets count characters of
the file.
"""

from __future__ import annotations

import codecs
import csv
import glob
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge.errors import UserError

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
ID_COLUMNS = ("doc_id", "id", "note_id", "pmid")
"""Columns that name a document, where none is given."""

_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x28\xb5\x2f\xfd")
_ROWS = 64


@dataclass(frozen=True)
class Options:
    """How inputs are read."""

    encoding: str = "utf-8"
    max_mb: float = 20.0
    text_column: str | None = None
    id_column: str | None = None
    pattern: str = "*"
    by_line: bool = False


@dataclass(frozen=True)
class Item:
    """A document, or why there is none: `error` in a few words, `why` in more."""

    source: str
    doc_id: str
    text: str = ""
    error: str = ""
    why: str = ""


@dataclass(frozen=True)
class Entry:
    """A file to read, the name its document gets, and whether its rows are documents; or an error."""

    path: str
    name: str
    table: bool = False
    error: str = ""
    why: str = ""


def listed(inputs: Sequence[str], options: Options) -> list[Entry]:
    """The files of the inputs in their order, those of a folder or pattern sorted; hidden ones are left out.

    Raises:
        UserError: An input that is not there, or a pattern that fits nothing.
    """
    found: list[Entry] = []
    for given in inputs:
        if given == "-":
            found.append(Entry("-", "stdin"))
        elif os.path.isdir(given):  # noqa: PTH112  pathlib raises where a folder above may not be searched
            found += _walk(given, options)
        elif os.path.lexists(given):
            found.append(Entry(given, Path(given).name, Path(given).suffix.lower() in TABLES))
        elif glob.has_magic(given) and (fitting := _fitting(given)):
            found += fitting
        elif why := _unreachable(given):
            found.append(Entry(given, Path(given).name, error="unreadable folder", why=why))
        else:
            raise UserError("no such input", given, "there is no file or folder of that name", "correct it, or quote a pattern")
    return found


def _fitting(pattern: str) -> list[Entry]:
    """The files that fit a pattern, sorted, and after them the folders in which it may not look."""
    fixed = re.split(r"[*?\[]", pattern)[0].rpartition("/")[0] or "."
    paths = sorted(p for p in glob.glob(pattern, recursive=True) if not os.path.isdir(p))  # noqa: PTH112, PTH207  pathlib takes no absolute pattern
    files = [Entry(p, os.path.relpath(p, fixed), Path(p).suffix.lower() in TABLES) for p in paths]
    return [*files, *(Entry(p, os.path.relpath(p, fixed), error="unreadable folder", why=why) for p, why in _closed(pattern))]


def _closed(pattern: str) -> Iterator[tuple[str, str]]:
    """The folders in which a pattern would look for files, but may not, and why: glob leaves them out without a word."""
    parts = Path(pattern).parts
    above = {str(Path(*parts[:i])) for i in range(1, len(parts))} | {"."}
    folders = {d for part in above for d in glob.glob(part, recursive=True)}  # noqa: PTH207
    for folder in sorted(d for d in folders if os.path.isdir(d)):  # noqa: PTH112
        try:
            os.scandir(folder).close()
        except OSError as error:
            yield folder, error.strerror or type(error).__name__


def _unreachable(given: str) -> str:
    """Why it cannot be known whether a path is there, if so."""
    try:
        os.lstat(given)
    except PermissionError as error:
        return error.strerror or type(error).__name__
    except OSError:
        pass
    return ""


def _walk(folder: str, options: Options) -> Iterator[Entry]:
    """Files below a folder by path; a folder that may not be read is an error of its own."""
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as error:
        yield Entry(folder, Path(folder).name, error="unreadable folder", why=error.strerror or type(error).__name__)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        inside = [Entry(entry.path, entry.name)] if not entry.is_dir(follow_symlinks=False) else _walk(entry.path, options)
        for found in inside:
            name = os.path.relpath(found.path, folder)
            if found.error or Path(found.path).match(options.pattern):
                table = options.text_column is not None and Path(found.path).suffix.lower() in TABLES
                yield Entry(found.path, name, table, found.error, found.why)


def items(entries: Sequence[Entry], options: Options, skip: int = 0) -> Iterator[Item]:
    """The documents of the entries, but for the first `skip`; each has a name of its own."""
    seen: dict[str, int] = {}
    number = 0
    for entry in entries:
        if entry.error or (not entry.table and not (options.by_line and entry.path == "-")):
            number += 1
            name = _unique(entry.name, seen)
            if number > skip:
                yield Item(entry.path, name, error=entry.error, why=entry.why) if entry.error else _whole(entry, name, options)
            continue
        for item in _rows(entry, options):
            number += 1
            name = _unique(item.doc_id, seen)
            if number > skip:
                yield Item(item.source, name, item.text, item.error, item.why)


def _unique(name: str, seen: dict[str, int]) -> str:
    """A name that no document before has: NAME, NAME-2 and so on."""
    seen[name] = seen.get(name, 0) + 1
    if seen[name] == 1:
        return name
    suffix = Path(name).suffix
    return _unique(f"{name.removesuffix(suffix)}-{seen[name]}{suffix}", seen)


def _whole(entry: Entry, name: str, options: Options) -> Item:
    """A file, or standard input, that is one document."""
    limit = int(options.max_mb * 1_000_000)
    try:
        if entry.path == "-":
            data = sys.stdin.buffer.read(limit + 1)
        elif not Path(entry.path).is_file():
            return Item(entry.path, name, error="no file", why="neither a file nor a link to one")
        else:
            size = Path(entry.path).stat().st_size
            if size > limit:
                return Item(entry.path, name, error="too large", why=f"{size / 1e6:.1f} MB, {options.max_mb:g} allowed (--max-mb)")
            with open(entry.path, "rb") as handle:
                data = handle.read(limit + 1)
    except OSError as error:
        return Item(entry.path, name, error="unreadable file", why=error.strerror or type(error).__name__)
    return _decoded(data, entry.path, name, options)


def _decoded(data: bytes, source: str, name: str, options: Options) -> Item:
    if len(data) > options.max_mb * 1_000_000:
        return Item(source, name, error="too large", why=f"more than {options.max_mb:g} MB (--max-mb)")
    wide = codecs.lookup(options.encoding).name.startswith(("utf-16", "utf-32"))
    if not wide and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Item(source, name, error="wrong encoding", why=f"not {options.encoding}; it begins as UTF-16 does (--encoding utf-16)")
    if data.startswith(_MAGIC) or (not wide and b"\0" in data):
        return Item(source, name, error="binary file", why="it holds no plain text")
    try:
        text = data.decode(options.encoding)
    except UnicodeDecodeError as error:
        return Item(source, name, error="wrong encoding", why=f"not {options.encoding}: byte 0x{data[error.start]:02x} at {error.start} (--encoding)")
    return _checked(Item(source, name, text), options)


def _checked(item: Item, options: Options) -> Item:
    """The item, or an error in its place if its text is empty, too long or no Unicode."""
    if not item.text.strip("\ufeff \t\r\n\f\v"):
        return Item(item.source, item.doc_id, error="empty", why="no text in it")
    if len(item.text) > options.max_mb * 1_000_000:
        return Item(item.source, item.doc_id, error="too large", why=f"more than {options.max_mb:g} MB (--max-mb)")
    try:
        item.text.encode("utf-8")
    except UnicodeEncodeError:
        return Item(item.source, item.doc_id, error="wrong encoding", why="half of a surrogate pair")
    return item


# ------------------------------------------------------------------------------------------------------------------ tables


def _rows(entry: Entry, options: Options) -> Iterator[Item]:
    """The documents of a table; what breaks off is one error after those before it."""
    row = 0
    try:
        for row, record in enumerate(_records(entry, options), 1):
            yield _item(record, f"{entry.path}:{row}", f"{entry.name}-{row}", options)
    except (OSError, ValueError, UserError, csv.Error) as error:
        why = str(error).splitlines()[0][:200] if isinstance(error, UserError | UnicodeDecodeError) else type(error).__name__
        yield Item(f"{entry.path}:{row + 1}", f"{entry.name}-{row + 1}", error="unreadable table", why=why)


def _item(record: Any, source: str, name: str, options: Options) -> Item:
    column = options.text_column or "text"
    if not isinstance(record, dict) or column not in record:
        return Item(source, name, error="no text", why=f"no column {column} (--text-column)")
    key = options.id_column or next((c for c in ID_COLUMNS if c in record), None)
    if options.id_column and options.id_column not in record:
        return Item(source, name, error="no id", why=f"no column {options.id_column} (--id-column)")
    doc_id = str(record[key]).strip() if key and record[key] is not None else ""
    text = record[column]
    if text is not None and not isinstance(text, str):
        return Item(source, doc_id or name, error="no text", why=f"{column} is no text")
    return _checked(Item(source, doc_id or name, text or ""), options)


def _records(entry: Entry, options: Options) -> Iterator[Any]:
    suffix = Path(entry.path).suffix.lower()
    if entry.path == "-":
        yield from ({options.text_column or "text": line.decode(options.encoding).rstrip("\r\n")} for line in sys.stdin.buffer)
    elif suffix == ".parquet":
        yield from _parquet(entry.path, options)
    elif suffix == ".jsonl":
        with open(entry.path, encoding=options.encoding, newline="\n") as handle:
            yield from (json.loads(line) for line in handle if line.strip())
    else:
        csv.field_size_limit(max(csv.field_size_limit(), int(options.max_mb * 1_000_000) + 1))
        encoding = "utf-8-sig" if codecs.lookup(options.encoding).name == "utf-8" else options.encoding
        with open(entry.path, encoding=encoding, newline="") as handle:
            yield from csv.DictReader(handle, delimiter="\t" if suffix == ".tsv" else ",")


def _parquet(path: str, options: Options) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            wanted = [c for c in (options.text_column or "text", options.id_column, *ID_COLUMNS) if c in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=_ROWS, columns=list(dict.fromkeys(wanted))):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(type(error).__name__) from error
