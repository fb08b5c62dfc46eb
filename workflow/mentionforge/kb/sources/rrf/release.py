"""Open the files of a UMLS release: a META folder, or the zip as downloaded.

In: a path, and names of files. Out: a `Release`, whose members yield bytes or lines. Compressed files are unpacked in memory, chunk by chunk;
only archives within an archive are written to a temporary folder. Knows nothing of the contents of the files.
"""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mentionforge.errors import UserError
from mentionforge.provenance import digested

MAX_UNPACK_RATIO = 100
"""Largest ratio of unpacked to packed size; beyond it a file is taken for a zip bomb. Real RRF files have ratios of 5 to 10."""

UNPACK_ALLOWANCE = 1 << 26
"""Bytes that any file may unpack to, regardless of its packed size."""

CHUNK = 1 << 21
UNPACK = "unpack the release again, or download it again"
_FILE = re.compile(r"(?:(?P<folder>.*)/)?(?P<name>MR[A-Z]+)\.RRF(?:\.(?P<piece>[a-z]{2}))?(?P<gz>\.gz)?")
_MAGIC = {b"\x1f\x8b": ("gzip", ".gz"), b"PK": ("zip", ".zip"), b"\xfd7": ("xz", ".xz"), b"BZ": ("bzip2", ".bz2"), b"\x28\xb5": ("zstd", ".zst")}


@dataclass(frozen=True)
class Piece:
    """A file, or a piece of a split file: how to open it, its packed size in bytes, and whether it is gzipped."""

    open: Callable[[], BinaryIO]
    packed: int
    gzip: bool = False


@dataclass(frozen=True)
class Member:
    """A file of a release, in one or several pieces. `path`: the file on disk, if it is not packed; `where`: its name in messages."""

    name: str
    where: str
    pieces: tuple[Piece, ...]
    path: Path | None = None

    def chunks(self) -> Iterator[bytes]:
        """The unpacked bytes, in order. A plain file that is read to its end is digested meanwhile (`provenance.digested`).

        Raises:
            UserError: The packed data are broken, or unpack to far more than text can.
        """
        return self._chunks() if self.path is None else digested(self.path, self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        limit = UNPACK_ALLOWANCE + MAX_UNPACK_RATIO * sum(piece.packed for piece in self.pieces)
        total = 0
        for piece in self.pieces:
            try:
                with piece.open() as packed, gzip.GzipFile(fileobj=packed) if piece.gzip else packed as handle:
                    while chunk := handle.read(CHUNK):
                        total += len(chunk)
                        if total > limit and self.path is None:
                            raise UserError("zip bomb", self.where, f"unpacks to more than {MAX_UNPACK_RATIO} times its packed size", "this is no UMLS release")
                        yield chunk
            except (OSError, EOFError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, zlib.error) as error:
                raise UserError("unreadable file", self.where, f"{type(error).__name__}: {error}", UNPACK) from error

    def lines(self) -> Iterator[bytes]:
        """Lines without their line feed; without an empty last line."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        if rest:
            yield rest


@dataclass
class Release:
    """The files of a release.

    Attributes:
        members: Files by name (MRCONSO, …).
        inputs: Paths to digest as provenance, by role.
        note: Text of release.dat.
        where: The folder or archive, for messages.
    """

    members: dict[str, Member]
    inputs: dict[str, Path]
    note: str = ""
    where: str = ""


def open_release(path: Path, names: tuple[str, ...], scratch: Path) -> Release:
    """Open a release.

    Its form is one of
        a folder   MRCONSO.RRF and the other files, each plain or as MRCONSO.RRF.gz; or a folder with such a META folder;
        a zip      with the same files (the Metathesaurus download, or a packed subset);
        the full   a zip of `.nlm` archives (zips themselves) with split files: MRCONSO.RRF.aa.gz,
        release    MRCONSO.RRF.ab.gz, …

    Args:
        path: META folder, a folder that holds one, or a zip.
        names: Files to open (MRCONSO, …); others are ignored.
        scratch: Existing folder for archives within an archive; the caller removes it.

    Raises:
        UserError: The path does not exist; the zip is broken or encrypted, or has a member with a path outside of it; a compressed file is named
            .RRF; one zip holds two releases.
    """
    if path.is_dir():
        return _folder(path, names)
    if not path.is_file():
        raise UserError("missing file", str(path), "it does not exist", "path must be the META folder of a UMLS release, or its zip")
    if not zipfile.is_zipfile(path):
        raise UserError("unreadable archive", str(path), "it is no zip, or is cut short", "path must be the META folder of a UMLS release, or its zip")
    release = _archive(path, names, scratch)
    release.inputs = {"zip": path}
    return release


def _folder(path: Path, names: tuple[str, ...]) -> Release:
    meta = next((p for p in (path, path / "META") if any((p / f"MRCONSO.RRF{end}").is_file() for end in ("", ".gz"))), path)
    release = Release({}, {}, where=str(meta))
    for name in names:
        plain, packed = meta / f"{name}.RRF", meta / f"{name}.RRF.gz"
        if plain.is_file():
            _check_magic(plain)
            release.members[name] = Member(name, str(plain), (Piece(partial(_open, plain), plain.stat().st_size),), plain)
        elif packed.is_file():
            release.members[name] = Member(name, str(packed), (Piece(partial(_open, packed), packed.stat().st_size, True),))
        else:
            continue
        release.inputs[name] = plain if plain.is_file() else packed
    note = meta / "release.dat"
    release.note = note.read_text(encoding="utf-8", errors="replace") if note.is_file() else ""
    return release


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


def _check_magic(path: Path) -> None:
    with open(path, "rb") as handle:
        start = handle.read(2)
    if start in _MAGIC:
        kind, ending = _MAGIC[start]
        raise UserError(
            "packed file", f"{path}:1", f"it holds {kind} data, not text", f"unpack it, or name it {path.name}{ending}" if kind == "gzip" else "unpack it"
        )


def _archive(path: Path, names: tuple[str, ...], scratch: Path) -> Release:
    """Open the files in a zip, and in the `.nlm` archives in it."""
    pieces_by_file: dict[tuple[str, str], dict[str, Piece]] = defaultdict(dict)
    notes: dict[str, str] = {}
    pending = [(path, "")]
    while pending:
        file, below = pending.pop(0)
        try:
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    inner = info.filename.replace("\\", "/")
                    if inner.startswith("/") or ".." in inner.split("/") or ":" in inner.split("/")[0]:
                        raise UserError("unsafe member", str(path), f"{below}{info.filename!r} leads out of the archive", "this is no UMLS release")
                    if inner.endswith(".nlm"):
                        nested = scratch / f"{len(list(scratch.iterdir()))}.nlm"
                        _unpack(archive, info, nested, path)
                        if zipfile.is_zipfile(nested):
                            pending.append((nested, f"{inner}/"))
                    elif inner.rsplit("/", 1)[-1] == "release.dat":
                        notes[inner.rpartition("/")[0]] = archive.read(info).decode("utf-8", "replace")
                    elif (m := _FILE.fullmatch(inner)) and m["name"] in names:
                        if info.flag_bits & 1:
                            raise UserError("encrypted member", str(path), inner, "unpack the zip with its password, and give the folder")
                        opener = _opener(file, info.filename)
                        pieces_by_file[m["folder"] or "", m["name"]][m["piece"] or ""] = Piece(opener, info.compress_size, bool(m["gz"]))
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError) as error:
            raise UserError("unreadable archive", str(path), f"{type(error).__name__}: {error}", UNPACK) from error
    folders = sorted({folder for folder, name in pieces_by_file if name == "MRCONSO"})
    if len(folders) > 1:
        raise UserError(
            "mixed releases", str(path), f"MRCONSO lies in {' and in '.join(f or '.' for f in folders)}", "unpack the one that you want, and give its folder"
        )
    folder = folders[0] if folders else ""
    members = {}
    for (member_folder, name), pieces in sorted(pieces_by_file.items()):
        if member_folder == folder:
            ordered = sorted(pieces)
            if ordered != [""] and ordered != [f"a{chr(ord('a') + i)}" for i in range(len(ordered))]:
                raise UserError("missing file", str(path), f"{name}.RRF lies in pieces {', '.join(ordered)}", UNPACK)
            members[name] = Member(name, f"{path}!{member_folder}/{name}.RRF" if member_folder else f"{path}!{name}.RRF", tuple(pieces[p] for p in ordered))
    return Release(members, {}, notes.get(folder, ""), f"{path}!{folder}" if folder else str(path))


def _opener(file: Path, member: str) -> Callable[[], BinaryIO]:
    def open_member() -> BinaryIO:
        archive = zipfile.ZipFile(file)
        handle = archive.open(member)
        archive.close()  # the handle keeps the file open until it is closed itself
        return handle  # type: ignore[return-value]

    return open_member


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, path: Path) -> None:
    whole = Member(info.filename, f"{path}!{info.filename}", (Piece(lambda: archive.open(info), info.compress_size),))  # type: ignore[arg-type,return-value]
    with open(target, "wb") as handle:
        for chunk in whole.chunks():
            handle.write(chunk)
