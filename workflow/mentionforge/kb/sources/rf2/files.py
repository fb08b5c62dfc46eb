"""Find the snapshot files of a SNOMED CT release, in a folder or a zip, and read their rows.

In: the paths of a release and its extensions. Out: files by kind, and Arrow tables of the columns asked for. Zips are read in place. Files are found by
name, wherever they lie: Full, Delta, stated relationships and other reference sets are not read. Knows nothing of what rows mean.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from mentionforge.errors import UserError

_COMPONENT = "id effectiveTime active moduleId"
_DESCRIPTION = f"{_COMPONENT} conceptId languageCode typeId term caseSignificanceId"
HEADERS: Mapping[str, tuple[str, ...]] = {
    kind: tuple(columns.split())
    for kind, columns in {
        "Concept": f"{_COMPONENT} definitionStatusId",
        "Description": _DESCRIPTION,
        "TextDefinition": _DESCRIPTION,
        "Relationship": f"{_COMPONENT} sourceId destinationId relationshipGroup typeId characteristicTypeId modifierId",
        "Language": f"{_COMPONENT} refsetId referencedComponentId acceptabilityId",
        "Association": f"{_COMPONENT} refsetId referencedComponentId targetComponentId",
    }.items()
}
"""Columns of the files of each kind, as the specification of Release Format 2 gives them."""

TEXT = {"term", "languageCode"}
"""Columns of text; the others that are read hold numbers."""

NAME = re.compile(
    r"x?(?:sct2_(?P<component>Concept|Description|TextDefinition|Relationship)_|der2_cRefset_\w*?(?P<refset>Language|Association))"
    r"(?P<content>\w*?)Snapshot(?:-(?P<language>[A-Za-z-]+))?_(?P<namespace>[A-Z]{2,3}\d*)_(?P<date>\d{8})\.txt"
)
"""Names as sct2_Description_Snapshot-en_INT_20240101.txt; a beta release has an x before it, and some countries a word before Snapshot."""

_ACTIVE = pa.array([0, 1])
BLOCK = 1 << 22
MAX_UNPACK_RATIO, UNPACK_ALLOWANCE = 100, 1 << 26
_FIX = "unpack the release again, or download it again"


@dataclass(frozen=True)
class SnapshotFile:
    """A file of a snapshot: its kind (`HEADERS`), its name in messages, how to open it, and the file on disk that it lies in."""

    kind: str
    where: str
    open: Callable[[], BinaryIO]
    path: Path


def snapshot_files(folder: Path) -> list[Path]:
    """The files below a folder that are read, sorted."""
    return sorted(path for path in folder.rglob("*.txt") if NAME.fullmatch(path.name) and path.is_file())


def find(paths: Sequence[str]) -> dict[str, list[SnapshotFile]]:
    """The files of a release and its extensions, by kind, in the order of the paths.

    Raises:
        UserError: A path is missing or no release, two releases lie in it, or it has no concepts, descriptions, relationships or language reference set.
    """
    by_kind: dict[str, list[SnapshotFile]] = defaultdict(list)
    for path in map(Path, paths):
        if not path.exists():
            raise UserError("missing file", str(path), "it does not exist", "correct the path, or put the release there")
        versions: dict[tuple[str | None, ...], str] = {}
        for name, opener, where in _members(path):
            match = NAME.fullmatch(name)
            if match is None:
                continue
            kind = match["component"] or match["refset"]
            other = versions.setdefault((kind, match["content"], match["language"], match["namespace"]), name)
            if other != name:
                raise UserError("mixed releases", str(path), f"{other} and {name}", "give the folder of one release")
            by_kind[kind].append(SnapshotFile(kind, where, opener, path if path.is_file() else Path(where)))
    for kind in ("Concept", "Description", "Relationship"):
        if kind not in by_kind:
            why = f"there is no sct2_{kind}_Snapshot….txt in it"
            raise UserError("no SNOMED CT snapshot", paths[0], why, "give the folder or zip of a release in RF2, with its Snapshot folder")
    return dict(by_kind)


def _members(path: Path) -> Iterator[tuple[str, Callable[[], BinaryIO], str]]:
    """File name, how to open it, and its name in messages, of each text file of a folder or zip, sorted."""
    if path.is_dir():
        for file in snapshot_files(path):
            yield file.name, partial(_open_file, file), str(file)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda info: info.filename)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError("unreadable archive", str(path), f"{type(error).__name__}: {error}", _FIX) from error
    for info in members:
        name, where = re.split(r"[/\\]", info.filename)[-1], f"{path}!{info.filename}"
        if NAME.fullmatch(name):
            if info.flag_bits & 1:
                raise UserError("encrypted member", str(path), info.filename, "unpack the zip with its password, and give the folder")
            if info.file_size > UNPACK_ALLOWANCE + MAX_UNPACK_RATIO * info.compress_size:
                raise UserError("zip bomb", where, f"unpacks to more than {MAX_UNPACK_RATIO} times its packed size", "this is no SNOMED CT release")
            yield name, partial(_open_member, path, info.filename), where


def _open_file(path: Path) -> BinaryIO:
    return open(path, "rb")


def _open_member(path: Path, member: str) -> BinaryIO:
    archive = zipfile.ZipFile(path)
    handle = archive.open(member)
    archive.close()  # the handle keeps the file open until it is closed itself
    return handle  # type: ignore[return-value]


def read(
    files: Sequence[SnapshotFile], columns: Sequence[str], key: Sequence[str], keep: Callable[[pa.RecordBatch], pa.Array] | None = None
) -> tuple[pa.Table, int]:
    """The columns of all files of a kind, in the latest version of each component, and the number of all rows.

    Args:
        files: Files of one kind, at least one.
        columns: Columns to read.
        key: Columns that identify a component; used where there are several files.
        keep: Which rows of a batch to keep, by columns that never change between versions of a component.

    Raises:
        UserError: A header, a row or the encoding is wrong; the message names file and line, and never shows licensed text.
    """
    wanted = list(dict.fromkeys((*columns, *(("effectiveTime",) if len(files) > 1 else ()))))
    batches: list[pa.RecordBatch] = []
    rows = 0
    for file in files:
        try:
            with file.open() as handle:
                _check_header(handle, file)
                for batch in _batches(handle, file, wanted):
                    if "active" in wanted and not pc.all(pc.is_in(batch["active"], _ACTIVE)).as_py():
                        raise ValueError("active")
                    rows += len(batch)
                    batches.append(batch.filter(keep(batch)) if keep else batch)
        except UserError:
            raise
        except (pa.ArrowException, OSError, EOFError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError) as error:
            find_bad_row(file)
            raise UserError("unreadable file", file.where, type(error).__name__, _FIX) from error
    schema = pa.schema([(name, pa.string() if name in TEXT else pa.int64()) for name in wanted])
    table = pa.Table.from_batches(batches, schema)
    return (_latest(table, key) if len(files) > 1 else table), rows


def _batches(handle: BinaryIO, file: SnapshotFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if not handle.peek(1):  # type: ignore[attr-defined]
        return  # a header alone, as of a reference set without members
    yield from csv.open_csv(
        handle,
        csv.ReadOptions(column_names=list(HEADERS[file.kind]), block_size=BLOCK),
        csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False),
        csv.ConvertOptions(
            column_types={name: pa.string() if name in TEXT else pa.int64() for name in columns},
            include_columns=columns,
            null_values=[],
            strings_can_be_null=False,
        ),
    )


def _check_header(handle: BinaryIO, file: SnapshotFile) -> None:
    expected = "\t".join(HEADERS[file.kind])
    header = handle.readline(10_000).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if header != expected.encode():
        columns = [name for name in header.decode("utf-8", "replace").split("\t") if re.fullmatch(r"[A-Za-z]{1,40}", name)]
        why = f"its columns are {', '.join(columns) or 'none'}, not {', '.join(HEADERS[file.kind])}"
        raise UserError("other columns", f"{file.where}:1", why, "give a release in RF2, unedited")


def find_bad_row(file: SnapshotFile) -> None:
    """Raise a UserError for the first row with a wrong number of columns, a bad number, or invalid UTF-8. Lines are counted from 1, the header."""
    columns = HEADERS[file.kind]
    numbers = [i for i, name in enumerate(columns) if name not in TEXT and not (name == "id" and file.kind in ("Language", "Association"))]
    try:
        with file.open() as handle:
            for number, line in enumerate(handle, start=1):
                where, cells = f"{file.where}:{number}", line.rstrip(b"\r\n").split(b"\t")
                if number == 1 or cells == [b""]:
                    continue
                if len(cells) != len(columns):
                    raise UserError("truncated row" if len(cells) < len(columns) else "overlong row", where, f"{len(cells)} columns, not {len(columns)}", _FIX)
                if bad := next((columns[i] for i in numbers if not cells[i].isdigit() or len(cells[i]) > 18), ""):
                    raise UserError("bad value", where, f"{bad} is no number of at most 18 digits", _FIX)
                if cells[columns.index("active")] not in (b"0", b"1"):
                    raise UserError("bad value", where, "active is neither 0 nor 1", _FIX)
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    raise UserError("not UTF-8", where, f"byte {error.start + 1} of the row", _FIX) from error
    except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise UserError("unreadable file", file.where, f"{type(error).__name__}: {error}", _FIX) from error


def _latest(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Of rows with the same key the one with the latest effectiveTime; of equal times that of the last file."""
    keys = [table[name].to_numpy() for name in key]
    order = np.lexsort((np.arange(len(table)), table["effectiveTime"].to_numpy(), *reversed(keys)))
    last = np.ones(len(table), bool)
    last[:-1] = np.any([values[order][1:] != values[order][:-1] for values in keys], axis=0) if len(table) else True
    return table.take(pa.array(np.sort(order[last]))) if not last.all() else table


def is_active(table: pa.Table) -> pa.Table:
    """The rows of active components."""
    return table.filter(pc.equal(table["active"], 1))
