"""What people have: files, folders, patterns, standard input, columns of tables; each document, or why it cannot be read, in a fixed order.

Texts are taken as they are: no character is changed or dropped, line ends and byte order marks included, so that offsets count characters of
the file.
"""

from __future__ import annotations

import codecs
import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mentionforge import table_rows as rows
from mentionforge.errors import UserError
from mentionforge.table_rows import Row, as_id

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
ID_COLUMNS = ("doc_id", "id", "note_id", "pmid")
"""Columns that name a document, where none is given."""

_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x28\xb5\x2f\xfd")


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


@dataclass
class Read:
    """How much has been read: documents and rows of tables, those in error included, and names that were changed because another had them."""

    documents: int = 0
    rows: int = 0
    renamed: int = 0


def items(entries: Sequence[Entry], options: Options, skip: int = 0, read: Read | None = None) -> Iterator[Item]:
    """The documents of the entries, but for the first `skip`; each has a name of its own.

    Args:
        entries: From `listed`.
        options: How they are read.
        skip: Documents left out; `read` counts them too.
        read: Counts what is read.
    """
    seen: dict[str, int] = {}
    read = read or Read()
    for entry in entries:
        rowwise = not entry.error and (entry.table or (options.by_line and entry.path == "-"))
        for item in _rows(entry, options) if rowwise else [Item(entry.path, entry.name)]:
            read.documents += 1
            read.rows += rowwise
            name = _unique(_printable(item.doc_id), seen, rowwise)
            read.renamed += name != _printable(item.doc_id)
            if read.documents <= skip:
                continue
            if entry.error:
                item = Item(entry.path, name, error=entry.error, why=entry.why)
            elif not rowwise:
                item = _whole(entry, name, options)
            yield Item(_printable(item.source), name, item.text, item.error, item.why)


def _printable(name: str) -> str:
    """A name, with escapes for bytes of a file name that are no text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _unique(name: str, seen: dict[str, int], row: bool) -> str:
    """A name that no document before has: NAME, NAME-2 and so on, before the suffix of a file."""
    while True:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] == 1:
            return name
        suffix = "" if row else Path(name).suffix
        name = f"{name.removesuffix(suffix)}-{seen[name]}{suffix}"


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
    """The documents of a table, one per row; a file that is no table is one error, and so is one without rows."""
    number = 0
    try:
        if why := _no_table(entry.path, options):
            yield Item(entry.path, entry.name, error="unreadable table", why=why)
            return
        for row in _records(entry, options):
            number = row.number
            yield _item(row, f"{entry.path}:{number}", f"{entry.name}-{number}", options)
        if not number:
            yield Item(entry.path, entry.name, error="empty", why="no rows in it")
    except OSError as error:
        yield Item(f"{entry.path}:{number + 1}", f"{entry.name}-{number + 1}", error="unreadable file", why=error.strerror or type(error).__name__)
    except ValueError as error:
        yield Item(entry.path, entry.name, error="unreadable table", why=str(error))


def _no_table(path: str, options: Options) -> str:
    """Why a file cannot be a table, as far as its beginning shows; empty if nothing speaks against it."""
    if path == "-":
        return ""
    if not Path(path).is_file():
        return "neither a file nor a link to one"
    if Path(path).suffix.lower() == ".parquet":
        return ""
    with open(path, "rb") as handle:
        head = handle.read(4096)
    wide = codecs.lookup(options.encoding).name.startswith(("utf-16", "utf-32"))
    if not wide and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"not {options.encoding}; it begins as UTF-16 does (--encoding utf-16)"
    return "it is binary" if head.startswith(_MAGIC) or (not wide and b"\0" in head) else ""


def _records(entry: Entry, options: Options) -> Iterator[Row]:
    suffix, most = Path(entry.path).suffix.lower(), int(options.max_mb * 1_000_000)
    if entry.path == "-":
        return rows.lines(options.encoding, most)
    if suffix == ".parquet":
        return rows.parquet(entry.path, [c for c in (options.text_column or "text", options.id_column, *ID_COLUMNS) if c], options.encoding)
    if suffix == ".jsonl":
        return rows.json_lines(entry.path, options.encoding, most)
    return rows.delimited(entry.path, options.encoding, most, "\t" if suffix == ".tsv" else ",")


def _item(row: Row, source: str, name: str, options: Options) -> Item:
    column = "text" if row.record is not None and source.startswith("-:") else options.text_column or "text"
    record = row.record
    if row.error:
        return Item(source, name, error=row.error, why=row.why)
    if isinstance(record, rows.Twice):
        return Item(source, name, error=rows.BROKEN, why="a key stands in it twice")
    if not isinstance(record, dict) or column not in record:
        return Item(source, name, error="no text", why=f"no column {column} (--text-column)")
    key = options.id_column or next((c for c in ID_COLUMNS if c in record), None)
    if options.id_column and options.id_column not in record and not source.startswith("-:"):
        return Item(source, name, error="no id", why=f"no column {options.id_column} (--id-column)")
    try:
        doc_id = as_id(record.get(key)) if key else ""
        doc_id.encode("utf-8")
    except ValueError:
        return Item(source, name, error="wrong encoding", why="its id holds what is no text")
    text = record[column]
    if text is not None and not isinstance(text, str):
        return Item(source, doc_id or name, error="no text", why=f"{column} is no text")
    if bad := rows.bad_byte(text or ""):
        return Item(source, doc_id or name, error=rows.ENCODING, why=f"not {options.encoding}: byte {bad}")
    return _checked(Item(source, doc_id or name, text or ""), options)
