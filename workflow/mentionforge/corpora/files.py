"""Read files of annotated text as bytes, text or lines, and write them under a temporary name that is renamed when complete.

In: paths, also of gzip files. Out: bytes, text or lines, or a UserError with the line that is damaged or not UTF-8. Knows nothing of formats.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from mentionforge.errors import UserError

BYTE_ORDER_MARK = "\ufeff"


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes, decompressed if its name ends in .gz or it begins with the magic bytes of gzip.

    Raises:
        UserError: The file does not exist or is a folder.
    """
    try:
        with open(path, "rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
        return cast(BinaryIO, gzip.open(path, "rb")) if packed else open(path, "rb")
    except OSError as error:
        raise UserError("unreadable file", str(path), error.strerror or "", "correct the path under splits") from error


def damaged(path: Path, row: int, error: Exception) -> UserError:
    """The error for a file that is truncated or cannot be decompressed at line `row`."""
    return UserError("damaged file", f"{path}:{row}", f"cannot be read on ({type(error).__name__})", "fetch it again")


UNREADABLE = (OSError, EOFError, zlib.error)
"""Exceptions that reading a file may raise; gzip.BadGzipFile is an OSError."""


def decode(path: Path) -> str:
    """The text of a file, with unchanged line ends.

    Raises:
        UserError: The file does not exist, is damaged or not UTF-8; the message names the line.
    """
    with open_binary(path) as handle:
        try:
            data = handle.read()
        except UNREADABLE as error:
            raise damaged(path, 1, error) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, data, error) from error


def lines(path: Path, handled: Counter[str]) -> Iterator[tuple[int, str]]:
    r"""(row number from 1, content) of each line that is not blank, without byte order mark and line end; marks and \r\n are counted in `handled`.

    Raises:
        UserError: The file does not exist, is damaged or not UTF-8; the message names the line.
    """
    return ((row, line) for row, line in all_lines(path, handled) if line.strip())


def all_lines(path: Path, handled: Counter[str]) -> Iterator[tuple[int, str]]:
    """Like `lines`, including blank lines."""
    row = 0
    with open_binary(path) as handle:
        while True:
            try:
                data = handle.readline()
            except UNREADABLE as error:
                raise damaged(path, row + 1, error) from error
            if not data:
                return
            row += 1
            try:
                line = data.decode("utf-8").removesuffix("\n")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, row, data, error) from error
            if line.endswith("\r"):
                handled["CRLF line ends"] += 1
                line = line[:-1]
            if line.startswith(BYTE_ORDER_MARK):
                handled["byte order marks"] += 1
                line = line[1:]
            yield row, line


def _not_utf8(path: Path, row: int, data: bytes, error: UnicodeDecodeError) -> UserError:
    why = f"byte 0x{data[error.start]:02x}"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        why += ", it begins as UTF-16 does"
    return UserError("not UTF-8", f"{path}:{row}", why, "convert the file to UTF-8 and check that offsets still count characters")


@contextmanager
def renamed_when_whole(out: Path) -> Iterator[Path]:
    """A temporary path beside `out` that is renamed to `out` at the end, and removed after an error."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, out)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing_bytes(out: Path) -> Iterator[BinaryIO]:
    """Open a file for writing bytes, compressed if its name ends in .gz."""
    with renamed_when_whole(out) as temporary, open(temporary, "wb") as raw:
        if out.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield raw


@contextmanager
def writing_lines(out: Path) -> Iterator[TextIO]:
    """Open a file for writing UTF-8 text, with unchanged line ends."""
    with writing_bytes(out) as raw:
        handle = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        yield handle
        handle.flush()
        handle.detach()
