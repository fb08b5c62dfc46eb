"""Merges a LoRA adapter into its model's weights: W + scale * B @ A for each target matrix, computed in float32 and rounded once.

In: stamp of the weights, folder of the adapter. Out: a model folder. Works tensor by tensor, without a GPU, so the memory of the largest tensor suffices. Any
adapter other than plain LoRA on linear layers is an error. Knows nothing about prompts and notes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from mentionforge.errors import UserError
from mentionforge.models import folder
from mentionforge.progress import say, track
from mentionforge.provenance import digest, sha256_paths
from mentionforge.versions import number

Dtype = Literal["auto", "bfloat16", "float16", "float32"]

STAMP = "merged.json"
"""File of a merged folder that names the merge; written last."""

FILES = ("*.json", "*.txt", "*.model", "*.jinja")
"""Files of configuration and tokenizer, which are copied beside the merged weights."""

NOT_COPIED = ("*.index.json", "fetched.json", STAMP)

ADAPTER_KEYS: dict[str, Any] = {
    "alpha_pattern": {},
    "bias": "none",
    "fan_in_fan_out": None,
    "init_lora_weights": None,
    "lora_alpha": None,
    "peft_type": "LORA",
    "r": None,
    "rank_pattern": {},
    "use_rslora": None,
    # Facts about the training, without effect on the merge:
    **dict.fromkeys(("auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules", "inference_mode", "layers_pattern")),
    **dict.fromkeys(("layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision", "target_modules", "task_type")),
}
"""Known keys of adapter_config.json with the only value that can be merged (none: any value). Unknown keys must be empty."""

INITIAL_VALUES = (True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the model's own weights unchanged; the others train on changed weights."""

FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
SAFETENSORS_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
ALTERNATIVES = "use the adapter as it is (backend.adapter: lora), or merge it with peft and give the result as a model"


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of a safetensors file.

    Attributes:
        name: Its name.
        shape: Its shape.
        stored: Its dtype in the model's file, as safetensors names it.
        written: Its dtype in the merged file.
        bytes: Its size in the merged file.
    """

    name: str
    shape: tuple[int, ...]
    stored: str
    written: str
    bytes: int


def merge(model: Path, adapter: Path, dtype: Dtype, out: Path) -> Path:
    """Write the model with the merged adapter, with configuration and tokenizer.

    Args:
        model: Stamp of the fetched weights (fetched.json).
        adapter: Folder of a LoRA adapter as peft saves it.
        dtype: Dtype of the weights to write; auto: as they are stored.
        out: Folder to write. It appears when it is complete. If it already holds this merge, nothing is done.

    Raises:
        UserError: An adapter of another kind or another model, weights that are no safetensors or are quantized, too little space on the disk.
    """
    source = folder(model)
    job = _job(model, source, adapter, dtype)
    if is_merge_of(out, job):
        say(f"{out} holds the merged weights already")
        return out
    if out.exists() and not is_merged(out):
        raise UserError("not empty", str(out), "it is there already, and holds no merged weights", "give another folder, or delete it")
    pairs, scale, transposed = _read_adapter(adapter)
    files = weight_files(source)
    plan = {file: _tensors(source / file, dtype) for file in files}
    targets = _match(pairs, plan, adapter, transposed)
    _check_room(out, sum(tensor.bytes for tensors in plan.values() for tensor in tensors))
    temporary = out.with_name(f".{out.name}.tmp")
    for old in (temporary, out):
        shutil.rmtree(old, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with track("merging", sum(map(len, plan.values()))) as tick:
            for file, tensors in plan.items():
                _write_file(source / file, temporary / file, tensors, targets, scale, transposed, tick)
        _write_other_files(source, temporary, plan, dtype)
        (temporary / STAMP).write_text(json.dumps({"job": job}) + "\n", encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise UserError("merged weights cannot be written", str(out), error.strerror or str(error), "set backend.scratch to a folder with room") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def dtype_of(name: str) -> Dtype:
    """Check the name of a dtype.

    Raises:
        UserError: There is no such dtype.
    """
    if name not in get_args(Dtype):
        raise UserError("unknown type", f"--dtype {name}", f"weights are written as {', '.join(get_args(Dtype))}")
    return cast(Dtype, name)


def merge_in_subprocess(model: Path, adapter: Path, dtype: Dtype, out: Path) -> Path:
    """Run `merge` in a subprocess, which leaves no memory behind and ends with this process.

    Raises:
        UserError: As `merge`.
    """
    command = [sys.executable, "-m", "mentionforge.cli", "generation", "merge", "--parent", str(os.getpid())]
    command += ["--model", str(model), "--adapter", str(adapter), "--dtype", dtype, "--out", str(out)]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""})
    assert process.stderr
    failure = ""
    try:
        for line in process.stderr:
            if line.startswith("error: "):
                failure = line.removeprefix("error: ").strip()
            else:
                sys.stderr.write(line)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if failure:
        raise UserError(failure)
    if code:
        fix = "if it was killed, give the job more memory; or set backend.adapter: lora"
        raise UserError("merging failed", str(adapter), f"its process ended with {code}", fix)
    return out


def exit_with_parent(parent: int) -> None:
    """Start a thread that ends this process as soon as its parent is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def remove(out: Path) -> None:
    """Remove merged weights and the remains of a killed merge."""
    for path in (out, out.with_name(f".{out.name}.tmp")):
        shutil.rmtree(path, ignore_errors=True)


def is_merge_of(out: Path, job: str) -> bool:
    """Whether a folder holds the complete result of the merge `job`."""
    with suppress(OSError, ValueError):
        return bool(json.loads((out / STAMP).read_text(encoding="utf-8"))["job"] == job)
    return False


def _job(model: Path, source: Path, adapter: Path, dtype: str) -> str:
    """Digest of all that the merged weights depend on. The model's files count by size and time, since reading them takes minutes."""
    files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(source.iterdir()) if path.is_file()]
    return digest(json.dumps([sha256_paths([model]), files, sha256_paths([adapter]), dtype, number("backend.vllm")]))


def weight_files(source: Path) -> list[str]:
    """Names of a model's safetensors files.

    Raises:
        UserError: There are none.
    """
    index = source / "model.safetensors.index.json"
    if (source / "model.safetensors").is_file():
        return ["model.safetensors"]
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if missing := [file for file in files if Path(file).name != file or not (source / file).is_file()]:
            raise UserError("missing weights", str(source), f"{index.name} names {missing[0]}, which is not there", "fetch the model again")
        return files
    raise UserError("no safetensors weights", str(source), "merging reads no other form", "save the model with save_pretrained, or set backend.adapter: lora")


def _read_adapter(adapter: Path) -> tuple[dict[str, dict[str, Any]], float, bool]:
    """Matrices A and B by module name, the scale, and whether the model stores its matrices transposed."""
    from safetensors.torch import load_file

    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(adapter / "adapter_model.safetensors")
    except Exception as error:  # the library raises its own type of error for a damaged file
        raise UserError("unreadable adapter", str(adapter), str(error).splitlines()[0], "delete it and rerun the workflow") from error
    for key, value in settings.items():
        only = ADAPTER_KEYS.get(key)
        if (key in ADAPTER_KEYS and only is not None and value not in (only, None)) or (key not in ADAPTER_KEYS and value):
            raise UserError("adapter that cannot be merged", str(adapter), f"merging does not know {key}: {json.dumps(value)[:80]}", ALTERNATIVES)
    if (initial := settings.get("init_lora_weights", True)) not in INITIAL_VALUES:
        raise UserError("adapter that cannot be merged", str(adapter), f"init_lora_weights: {initial} changes the model's own weights", ALTERNATIVES)
    pairs: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if not match or tensor.ndim != 2:
            raise UserError("adapter that cannot be merged", str(adapter), f"merging does not know its tensor {name}", ALTERNATIVES)
        pairs.setdefault(match[1], {})[match[2]] = tensor.float()
    rank = settings["r"]
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != rank or pair["B"].shape[1] != rank:
            raise UserError("unreadable adapter", str(adapter), f"its matrices of {module} are not a pair of rank {rank}", "delete it and rerun the workflow")
    scale = float(settings["lora_alpha"]) / (rank**0.5 if settings.get("use_rslora") else rank)
    return pairs, scale, bool(settings.get("fan_in_fan_out"))


def _tensors(path: Path, dtype: Dtype) -> list[TensorEntry]:
    """The tensors of a safetensors file, in the order of its header."""
    with open(path, "rb") as handle:
        header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    entries = []
    for name, described in header.items():
        if name == "__metadata__":
            continue
        stored, (start, end) = described["dtype"], described["data_offsets"]
        written = SAFETENSORS_DTYPES[dtype] if stored in FLOAT_BYTES and dtype != "auto" else stored
        size = (end - start) // FLOAT_BYTES[stored] * FLOAT_BYTES[written] if stored in FLOAT_BYTES else end - start
        entries.append(TensorEntry(name, tuple(described["shape"]), stored, written, size))
    return entries


def _match(pairs: Mapping[str, dict[str, Any]], plan: Mapping[str, Sequence[TensorEntry]], adapter: Path, transposed: bool) -> dict[str, dict[str, Any]]:
    """The adapter's matrices by the name of the tensor that they change.

    Some files name tensors relative to the base model, without the first component of the adapter's module names.
    """
    tensors = {tensor.name: tensor for entries in plan.values() for tensor in entries}
    targets: dict[str, dict[str, Any]] = {}
    for module, pair in pairs.items():
        name = next((name for name in (f"{module}.weight", f"{module.partition('.')[2]}.weight") if name in tensors), None)
        if name is None:
            raise UserError(
                "unusable adapter", str(adapter), f"the model's files have no tensor {module}.weight", f"it was trained on another model; or {ALTERNATIVES}"
            )
        shape = (pair["B"].shape[0], pair["A"].shape[1])
        expected = shape[::-1] if transposed else shape
        if tensors[name].stored not in FLOAT_BYTES:
            raise UserError("quantized weights", str(adapter), f"{name} is stored as {tensors[name].stored}", ALTERNATIVES)
        if tensors[name].shape != expected:
            why = f"{name} is of shape {tensors[name].shape}, the adapter's is {tuple(expected)}"
            raise UserError("unusable adapter", str(adapter), why, "it was trained on another model; delete it and rerun")
        targets[name] = pair
    return targets


def _check_room(out: Path, size: int) -> None:
    place = next(path for path in out.absolute().parents if path.is_dir())
    free = shutil.disk_usage(place).free
    if is_merged(out):
        free += sum(path.stat().st_size for path in out.iterdir())  # it is removed first
    if free < size:
        why = f"merged weights take {_gigabytes(size)}, {_gigabytes(free)} are free"
        raise UserError("too little room", str(place), why, "set backend.scratch to a folder with room, or backend.adapter: lora")


def is_merged(out: Path) -> bool:
    """Whether a folder was written by `merge`."""
    return (out / STAMP).is_file()


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _write_file(
    source: Path, target: Path, tensors: Sequence[TensorEntry], targets: Mapping[str, dict[str, Any]], scale: float, transposed: bool, tick: Callable[..., None]
) -> None:
    """Write one safetensors file: the header's length in eight bytes, the header, then the tensors one after the other."""
    import torch
    from safetensors import safe_open

    types = {short: getattr(torch, name) for name, short in SAFETENSORS_DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {"dtype": tensor.written, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.bytes]}
        at += tensor.bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with safe_open(source, framework="pt") as stored, open(target, "wb") as sink:
        sink.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            values = stored.get_tensor(tensor.name)
            if tensor.name in targets:
                change = (targets[tensor.name]["B"] @ targets[tensor.name]["A"]).mul_(scale)  # (out, in), float32
                values = (change.T if transposed else change).add_(values).to(types.get(tensor.written, values.dtype))
            elif tensor.written != tensor.stored:
                values = values.to(types[tensor.written])
            sink.write(values.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            tick()
    if target.stat().st_size != 8 + len(text) + at:
        raise UserError("merged weights are not whole", str(target), f"{target.stat().st_size:,} bytes instead of {8 + len(text) + at:,}", "run the job again")


def _write_other_files(source: Path, target: Path, plan: Mapping[str, Sequence[TensorEntry]], dtype: Dtype) -> None:
    """Write the configuration, the tokenizer and, for several weight files, their index."""
    for path in _files_to_copy(source):
        shutil.copyfile(path, target / path.name)
    if dtype != "auto":
        described = json.loads((source / "config.json").read_text(encoding="utf-8"))
        key = "torch_dtype" if "torch_dtype" in described else "dtype"
        (target / "config.json").write_text(json.dumps(described | {key: dtype}, indent=2) + "\n", encoding="utf-8")
    if "model.safetensors" not in plan:
        index = {
            "metadata": {"total_size": sum(tensor.bytes for tensors in plan.values() for tensor in tensors)},
            "weight_map": {tensor.name: file for file, tensors in plan.items() for tensor in tensors},
        }
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _files_to_copy(source: Path) -> Iterator[Path]:
    for path in sorted(source.iterdir()):
        if path.is_file() and any(path.match(p) for p in FILES) and not any(path.match(p) for p in NOT_COPIED):
            yield path
