"""The manifest of a bundle: its settings, and the SHA-256 of every file.

In: the folder of a bundle. Out: bundle.json, validated; a UserError if any file differs from it. Knows nothing of the contents of the files.
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
"""Version of the layout. Version 1 had no digest of bundle.json; it is still read, with a warning."""
MANIFEST = "bundle.json"
SUMS = "SHA256SUMS.txt"


class _ManifestModel(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class LinkerRow(_ManifestModel):
    """A linker of the manifest."""

    linker: Linker
    index: Index
    sources: dict[Literal["train", "kb", "synthetic"], Annotated[int, Field(ge=0)]] = Field(min_length=1)


class DictionarySettings(_ManifestModel):
    """Settings of a dictionary recognizer."""

    min_length: int = Field(ge=1)
    stop: list[str]


class CodeCounts(_ManifestModel):
    """Numbers of codes, by vocabulary: those in the bundle, and licensed ones that it was written without."""

    held: dict[str, Annotated[int, Field(ge=1)]]
    left_out: dict[str, Annotated[int, Field(ge=1)]]


class Manifest(_ManifestModel):
    """The content of bundle.json."""

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
    codes: CodeCounts = CodeCounts(held={}, left_out={})


def files_of(folder: Path) -> list[Path]:
    """All files of a bundle except the manifest and its checksum, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in (MANIFEST, SUMS))


def sums_of(folder: Path) -> str:
    """The text of SHA256SUMS.txt: the checksum of the manifest."""
    return f"{sha256_file(folder / MANIFEST)}  {MANIFEST}\n"


def damaged(folder: Path, why: str) -> UserError:
    """The error for a bundle that does not match its manifest."""
    return UserError("damaged bundle", str(folder), why, "fetch or write it again")


def check(folder: Path) -> dict[str, Any]:
    """Check a bundle against its manifest and checksum, and return the manifest.

    Raises:
        UserError: It is no bundle, has an unknown format, a changed, missing or additional file, or settings that this version does not know.
    """
    sums = folder / SUMS
    try:
        content = (folder / MANIFEST).read_bytes()
        has_sums = sums.is_file()
        if has_sums and (sums.read_bytes() != sums_of(folder).encode() or sums.is_symlink() or (folder / MANIFEST).is_symlink()):
            raise damaged(folder, f"{MANIFEST} is not as {SUMS} says")
        manifest = json.loads(content.decode("utf-8"))
        digests, version = manifest["files"], manifest["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("no bundle", str(folder), f"{MANIFEST}: {type(error).__name__}", "give a folder or .tar that `mentionforge bundle` wrote") from error
    if version not in (1, FORMAT) or isinstance(version, bool):
        why = f"format {version!r:.20}, this version reads {FORMAT} and 1"
        raise UserError("unknown format", str(folder), why, "write the bundle again with this version")
    if version == FORMAT and not has_sums:
        raise damaged(folder, f"{SUMS} is missing")
    try:
        Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise damaged(folder, f"{MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    files = {p.relative_to(folder).as_posix(): p for p in files_of(folder)}
    changed = sorted(set(files) ^ set(digests)) or sorted(name for name, path in files.items() if path.is_symlink() or sha256_file(path) != digests[name])
    if changed:
        raise damaged(folder, f"{changed[0]} is not as {MANIFEST} says ({len(changed)} files)")
    if not has_sums:
        say(f"{folder}: written by an older version, so that a change in {MANIFEST} itself would not show; write it again where it matters")
    return dict(manifest)
