"""The manifest of a bundle: its settings, and the SHA-256 of every file; a bundle that differs from it in one byte is refused.

In: the folder of a bundle. Out: what bundle.json says, checked. Knows nothing of what the files hold and of who licensed the text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mentionforge.errors import UserError
from mentionforge.normalization.linkers import HybridLinker, Linker
from mentionforge.normalization.settings import Index
from mentionforge.progress import say
from mentionforge.provenance import sha256_file

FORMAT = 2
"""Format 1 had no digest of bundle.json; it is read, with a word about that."""
MANIFEST = "bundle.json"
SUMS = "SHA256SUMS.txt"


class _Checked(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class LinkerRow(_Checked):
    """A linker of the manifest."""

    linker: Linker
    index: Index
    sources: dict[Literal["train", "kb", "synthetic"], Annotated[int, Field(ge=0)]] = Field(min_length=1)


class DictionarySettings(_Checked):
    """Settings of the dictionary that finds mentions."""

    min_length: int = Field(ge=1)
    stop: list[str]


class Manifest(_Checked):
    """What bundle.json says."""

    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    dtype: Literal["auto", "float32", "bfloat16"]
    hybrid: HybridLinker | None
    weights: list[float]
    nil_threshold: float | None
    spell_out: bool
    licensed: list[str]
    card: dict[str, Any]
    linkers: list[LinkerRow] = Field(min_length=1)
    dictionary: DictionarySettings | None = None


def files_of(folder: Path) -> list[Path]:
    """All files of a bundle but the manifest and its sum, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in (MANIFEST, SUMS))


def sums_of(folder: Path) -> str:
    """The text of SHA256SUMS.txt: the sum of the manifest."""
    return f"{sha256_file(folder / MANIFEST)}  {MANIFEST}\n"


def damaged(folder: Path, why: str) -> UserError:
    """The error of a bundle that is not as its manifest says."""
    return UserError("damaged bundle", str(folder), why, "fetch or write it again")


def check(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle whose every file is as it says, itself as the sums say.

    Raises:
        UserError: No bundle, of another format, with a byte changed or a file too many or too few, or with settings that this version does not know.
    """
    sums = folder / SUMS
    try:
        content = (folder / MANIFEST).read_bytes()
        signed = sums.is_file()
        if signed and (sums.read_bytes() != sums_of(folder).encode() or sums.is_symlink() or (folder / MANIFEST).is_symlink()):
            raise damaged(folder, f"{MANIFEST} is not as {SUMS} says")
        manifest = json.loads(content.decode("utf-8"))
        given, number = manifest["files"], manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("no bundle", str(folder), f"{MANIFEST}: {type(error).__name__}", "give a folder or .tar that `mentionforge bundle` wrote") from error
    if number not in (1, FORMAT) or isinstance(number, bool):
        why = f"format {number!r:.20}, this version reads {FORMAT} and 1"
        raise UserError("unknown format", str(folder), why, "write the bundle again with this version")
    if number == FORMAT and not signed:
        raise damaged(folder, f"{SUMS} is missing")
    try:
        Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise damaged(folder, f"{MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    found = {p.relative_to(folder).as_posix(): p for p in files_of(folder)}
    odd = sorted(set(found) ^ set(given)) or sorted(name for name, path in found.items() if path.is_symlink() or sha256_file(path) != given[name])
    if odd:
        raise damaged(folder, f"{odd[0]} is not as {MANIFEST} says ({len(odd)} files)")
    if not signed:
        say(f"{folder}: written by an older version, so that a change in {MANIFEST} itself would not show; write it again where it matters")
    return dict(manifest)
