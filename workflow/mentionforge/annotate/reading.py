"""Read the texts to annotate from files, folders, patterns, standard input and columns of tables.

In: names of inputs. Out: documents in a fixed order, each with its text or the reason why it cannot be read. Texts keep every character, including
line ends and byte order marks, so offsets count characters of the file. Knows nothing of models.
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
"""Default columns for the id of a document; the first one present is used."""

_MAGIC = (b"\x1f\x8b", b"PK\x03\x04", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class Options:
    """Options of reading inputs."""

    encoding: str = "utf-8"
    max_mb: float = 20.0
    text_column: str | None = None
    id_column: str | None = None
    pattern: str = "*"
    by_line: bool = False


@dataclass(frozen=True)
class InputDocument:
    """A document, or the reason why it cannot be read: `error` in a few words, `why` in detail."""

    source: str
    doc_id: str
    text: str = ""
    error: str = ""
    why: str = ""


@dataclass(frozen=True)
class InputFile:
    """A file to read, the name of its document, and whether each row is a document; or an error."""

    path: str
    name: str
    table: bool = False
    error: str = ""
    why: str = ""


def list_files(inputs: Sequence[str], options: Options) -> list[InputFile]:
    """The files of the inputs, in order; those of a folder or pattern are sorted, without hidden ones.

    Raises:
        UserError: An input does not exist, or a pattern matches nothing.
    """
    files: list[InputFile] = []
    for path in inputs:
        if path == "-":
            files.append(InputFile("-", "stdin"))
        elif os.path.isdir(path):  # noqa: PTH112  pathlib raises where a folder above may not be searched
            files += _files_below(path, options)
        elif os.path.lexists(path):
            files.append(InputFile(path, Path(path).name, Path(path).suffix.lower() in TABLES))
        elif glob.has_magic(path) and (matches := _matching(path)):
            files += matches
        elif why := _unreachable(path):
            files.append(InputFile(path, Path(path).name, error="unreadable folder", why=why))
        else:
            raise UserError("no such input", path, "there is no file or folder of that name", "correct it, or quote a pattern")
    return files


def _matching(pattern: str) -> list[InputFile]:
    """The files that match a pattern, sorted, and then errors for the folders that cannot be searched."""
    fixed = re.split(r"[*?\[]", pattern)[0].rpartition("/")[0] or "."
    paths = sorted(p for p in glob.glob(pattern, recursive=True) if not os.path.isdir(p))  # noqa: PTH112, PTH207  pathlib takes no absolute pattern
    files = [InputFile(p, os.path.relpath(p, fixed), Path(p).suffix.lower() in TABLES) for p in paths]
    return [*files, *(InputFile(p, os.path.relpath(p, fixed), error="unreadable folder", why=why) for p, why in _unreadable_folders(pattern))]


def _unreadable_folders(pattern: str) -> Iterator[tuple[str, str]]:
    """(folder, reason) of the folders that a pattern would search but that cannot be read; glob skips them silently."""
    levels = Path(pattern).parts
    ancestors = {str(Path(*levels[:i])) for i in range(1, len(levels))} | {"."}
    folders = {d for pattern_of_folder in ancestors for d in glob.glob(pattern_of_folder, recursive=True)}  # noqa: PTH207
    for folder in sorted(d for d in folders if os.path.isdir(d)):  # noqa: PTH112
        try:
            os.scandir(folder).close()
        except OSError as error:
            yield folder, error.strerror or type(error).__name__


def _unreachable(path: str) -> str:
    """The reason why the existence of a path cannot be determined; empty if it can."""
    try:
        os.lstat(path)
    except PermissionError as error:
        return error.strerror or type(error).__name__
    except OSError:
        pass
    return ""


def _files_below(folder: str, options: Options) -> Iterator[InputFile]:
    """Files below a folder, sorted by path; a folder that cannot be read is an error of its own."""
    try:
        children = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as error:
        yield InputFile(folder, Path(folder).name, error="unreadable folder", why=error.strerror or type(error).__name__)
        return
    for child in children:
        if child.name.startswith("."):
            continue
        files = [InputFile(child.path, child.name)] if not child.is_dir(follow_symlinks=False) else _files_below(child.path, options)
        for file in files:
            name = os.path.relpath(file.path, folder)
            if file.error or Path(file.path).match(options.pattern):
                table = options.text_column is not None and Path(file.path).suffix.lower() in TABLES
                yield InputFile(file.path, name, table, file.error, file.why)


@dataclass
class ReadCounts:
    """Counts of documents and table rows read, including errors, and of documents renamed because an earlier one had the same name."""

    documents: int = 0
    rows: int = 0
    renamed: int = 0


def read_items(files: Sequence[InputFile], options: Options, skip: int = 0, counts: ReadCounts | None = None) -> Iterator[InputDocument]:
    """Yield the documents of files, except for the first `skip`; each has a unique name.

    Args:
        files: From `list_files`.
        options: Options of reading.
        skip: Documents to skip; `counts` includes them.
        counts: Updated in place.
    """
    seen: dict[str, int] = {}
    counts = counts or ReadCounts()
    for file in files:
        rowwise = not file.error and (file.table or (options.by_line and file.path == "-"))
        for item in _read_table(file, options) if rowwise else [InputDocument(file.path, file.name)]:
            counts.documents += 1
            counts.rows += rowwise
            name = _unique_name(_printable(item.doc_id), seen, rowwise)
            counts.renamed += name != _printable(item.doc_id)
            if counts.documents <= skip:
                continue
            if file.error:
                item = InputDocument(file.path, name, error=file.error, why=file.why)
            elif not rowwise:
                item = _read_whole(file, name, options)
            yield InputDocument(_printable(item.source), name, item.text, item.error, item.why)


def _printable(name: str) -> str:
    """A name with escapes for bytes that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _unique_name(name: str, seen: dict[str, int], row: bool) -> str:
    """A unique name: NAME, NAME-2 and so on; for a file the number precedes the suffix."""
    while True:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] == 1:
            return name
        suffix = "" if row else Path(name).suffix
        name = f"{name.removesuffix(suffix)}-{seen[name]}{suffix}"


def _read_whole(file: InputFile, name: str, options: Options) -> InputDocument:
    """Read a file, or standard input, as one document."""
    limit = int(options.max_mb * 1_000_000)
    try:
        if file.path == "-":
            data = sys.stdin.buffer.read(limit + 1)
        elif not Path(file.path).is_file():
            return InputDocument(file.path, name, error="no file", why="neither a file nor a link to one")
        else:
            size = Path(file.path).stat().st_size
            if size > limit:
                return InputDocument(file.path, name, error="too large", why=f"{size / 1e6:.1f} MB, {options.max_mb:g} allowed (--max-mb)")
            with open(file.path, "rb") as handle:
                data = handle.read(limit + 1)
    except OSError as error:
        return InputDocument(file.path, name, error="unreadable file", why=error.strerror or type(error).__name__)
    return _decode(data, file.path, name, options)


def _decode(data: bytes, source: str, name: str, options: Options) -> InputDocument:
    if len(data) > options.max_mb * 1_000_000:
        return InputDocument(source, name, error="too large", why=f"more than {options.max_mb:g} MB (--max-mb)")
    wide = codecs.lookup(options.encoding).name.startswith(("utf-16", "utf-32"))
    if not wide and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return InputDocument(source, name, error="wrong encoding", why=f"not {options.encoding}; it begins as UTF-16 does (--encoding utf-16)")
    if data.startswith(_MAGIC) or (not wide and b"\0" in data):
        return InputDocument(source, name, error="binary file", why="it holds no plain text")
    try:
        text = data.decode(options.encoding)
    except UnicodeDecodeError as error:
        return InputDocument(source, name, error="wrong encoding", why=f"not {options.encoding}: byte 0x{data[error.start]:02x} at {error.start} (--encoding)")
    return _validated(InputDocument(source, name, text), options)


def _validated(item: InputDocument, options: Options) -> InputDocument:
    """The document itself, or an error if its text is empty, too long, or invalid Unicode."""
    if not item.text.strip("\ufeff \t\r\n\f\v"):
        return InputDocument(item.source, item.doc_id, error="empty", why="no text in it")
    if len(item.text) > options.max_mb * 1_000_000:
        return InputDocument(item.source, item.doc_id, error="too large", why=f"more than {options.max_mb:g} MB (--max-mb)")
    try:
        item.text.encode("utf-8")
    except UnicodeEncodeError:
        return InputDocument(item.source, item.doc_id, error="wrong encoding", why="half of a surrogate pair")
    return item


# ------------------------------------------------------------------------------------------------------------------ tables


def _read_table(file: InputFile, options: Options) -> Iterator[InputDocument]:
    """Yield the documents of a table, one per row; a file that is no table, or has no rows, is one error."""
    number = 0
    try:
        if why := _reason_no_table(file.path, options):
            yield InputDocument(file.path, file.name, error="unreadable table", why=why)
            return
        for row in _records(file, options):
            number = row.number
            yield _item(row, f"{file.path}:{number}", f"{file.name}-{number}", options)
        if not number:
            yield InputDocument(file.path, file.name, error="empty", why="no rows in it")
    except OSError as error:
        yield InputDocument(f"{file.path}:{number + 1}", f"{file.name}-{number + 1}", error="unreadable file", why=error.strerror or type(error).__name__)
    except ValueError as error:
        yield InputDocument(file.path, file.name, error="unreadable table", why=str(error))


def _reason_no_table(path: str, options: Options) -> str:
    """The reason why a file cannot be a table, judged by its beginning; empty if it may be one."""
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


def _records(file: InputFile, options: Options) -> Iterator[Row]:
    suffix, max_characters = Path(file.path).suffix.lower(), int(options.max_mb * 1_000_000)
    if file.path == "-":
        return rows.lines(options.encoding, max_characters)
    if suffix == ".parquet":
        return rows.parquet(file.path, [c for c in (options.text_column or "text", options.id_column, *ID_COLUMNS) if c], options.encoding)
    if suffix == ".jsonl":
        return rows.json_lines(file.path, options.encoding, max_characters)
    return rows.delimited(file.path, options.encoding, max_characters, "\t" if suffix == ".tsv" else ",")


def _item(row: Row, source: str, name: str, options: Options) -> InputDocument:
    column = "text" if row.record is not None and source.startswith("-:") else options.text_column or "text"
    record = row.record
    if row.error:
        return InputDocument(source, name, error=row.error, why=row.why)
    if isinstance(record, rows.RepeatedKeys):
        return InputDocument(source, name, error=rows.BROKEN, why="a key stands in it twice")
    if not isinstance(record, dict) or column not in record:
        return InputDocument(source, name, error="no text", why=f"no column {column} (--text-column)")
    key = options.id_column or next((c for c in ID_COLUMNS if c in record), None)
    if options.id_column and options.id_column not in record and not source.startswith("-:"):
        return InputDocument(source, name, error="no id", why=f"no column {options.id_column} (--id-column)")
    try:
        doc_id = as_id(record.get(key)) if key else ""
        doc_id.encode("utf-8")
    except ValueError:
        return InputDocument(source, name, error="wrong encoding", why="its id holds what is no text")
    text = record[column]
    if text is not None and not isinstance(text, str):
        return InputDocument(source, doc_id or name, error="no text", why=f"{column} is no text")
    if bad := rows.bad_byte(text or ""):
        return InputDocument(source, doc_id or name, error=rows.ENCODING, why=f"not {options.encoding}: byte {bad}")
    return _validated(InputDocument(source, doc_id or name, text or ""), options)
