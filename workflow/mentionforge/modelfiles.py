"""Files of a published model: which of them are needed, whether they are complete, and conversion of .bin weights to safetensors.

In: a model folder, or the names of its files. Out: the files needed; a converted folder. Weights are published in four forms: one file or shards with
an index, as safetensors or as PyTorch's .bin. Jobs read safetensors only; a .bin is read once, by `torch.load(weights_only=True)`, shard by shard.
Knows nothing of where the files came from.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mentionforge.errors import UserError
from mentionforge.progress import say

FORMS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""First file of each form of weights, the preferred form first. transformers, too, prefers one file to shards."""
INDEX = ".index.json"
BESIDE = ("*.json", "*.txt", "*.model", "*.jinja")
"""Configuration and vocabulary; no code."""
VOCABULARIES = ("tokenizer.json", "vocab.txt", "*.model")
"""Any of these makes a tokenizer, and so do vocab.json and merges.txt together."""
WEIGHT_LIKE = ("*.safetensors", "*.bin", "*.h5", "*.msgpack", "*.gguf", "*.pth", "*.pt", "*.ckpt", "*.onnx")
POINTER = b"version https://git-lfs"
LONGEST_HEADER = 100_000_000
"""Bytes; longer headers are refused by the safetensors library, too."""


@dataclass(frozen=True)
class Needed:
    """Files of a model that are needed: the first file of the weights, and configuration and vocabulary beside it, sorted."""

    weights: str
    beside: tuple[str, ...]

    @property
    def sharded(self) -> bool:
        """Whether the first file is an index."""
        return self.weights.endswith(INDEX)

    @property
    def pickled(self) -> bool:
        """Whether the weights are .bin, to be converted."""
        return self.weights.removesuffix(INDEX).endswith(".bin")


def needed(names: Collection[str], key: str, where: str, fix: str) -> Needed:
    """Choose the files of a model that are needed.

    Args:
        names: All files of its folder or repository; files in folders below are not looked at.
        key: Key of the config, for the error.
        where: The folder or repository, for the error.
        fix: What to do, for the error.

    Raises:
        UserError: No config.json, no weights in a form that can be read, or no tokenizer.
    """
    names = sorted(name for name in names if "/" not in name)
    if "config.json" not in names:
        adapter = "adapter_config.json" in names
        why = f"{where} holds an adapter, not a whole model" if adapter else f"{where} holds no config.json"
        raise UserError("missing model", key, why, "name the model that the adapter was trained on" if adapter else fix)
    first = next((form for form in FORMS if form in names), None)
    if first is None:
        others = [name for name in names if _matches_any(name, WEIGHT_LIKE)]
        why = f"{where} holds no model.safetensors and no pytorch_model.bin, whole or with the index of its shards"
        raise UserError("no weights", key, why + (f", only {', '.join(others[:3])}" if others else ""), fix)
    if not any(_matches_any(name, VOCABULARIES) for name in names) and not {"vocab.json", "merges.txt"} <= set(names):
        why = f"{where} holds no tokenizer.json, vocab.txt, *.model, nor vocab.json with merges.txt"
        raise UserError("no tokenizer", key, why, fix)
    return Needed(first, tuple(name for name in names if _matches_any(name, BESIDE) and not name.endswith(INDEX)))


def shards(index: Path, names: Collection[str], key: str, where: str) -> tuple[str, ...]:
    """The files that an index of shards names, sorted.

    Raises:
        UserError: The index cannot be read, names no file, or names files that are not among `names`.
    """
    found = tuple(sorted(set(_weight_map(index, key).values())))
    missing = [name for name in found if name not in names]
    if missing:
        raise UserError(
            "missing shard", key, f"{where} lacks {missing[0]} ({len(missing)} of {len(found)} shards), which {index.name} names", "complete the model's files"
        )
    return found


def check(folder: Path, key: str, fix: str) -> tuple[Needed, tuple[str, ...]]:
    """Refuse a model folder that a job could not load, as far as this is visible without reading the tensors.

    Args:
        folder: Folder of a model.
        key: Key of the config, for the error.
        fix: What to do, for the error.

    Returns:
        The files needed, as `needed` chooses them; and the names of all of them, weights and shards included, sorted.

    Raises:
        UserError: A file is missing, empty, cut off, no JSON where it should be, or only the pointer that stands for it in a git checkout.
    """
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    wanted = needed(names, key, str(folder), fix)
    weights = [wanted.weights]
    if wanted.sharded:
        _refuse_pointer(folder / wanted.weights, key)
        weights += shards(folder / wanted.weights, names, key, str(folder))
    for name in {*wanted.beside, *weights}:
        path = folder / name
        _refuse_pointer(path, key)
        if not path.stat().st_size:
            raise UserError("damaged file", key, f"{path} is empty", fix)
        if name.endswith(".json"):
            _json(path, key)
    if "model_type" not in _json(folder / "config.json", key) and not wanted.pickled:
        raise UserError("unusable model", key, f"{folder}/config.json has no model_type", 'add it, as "model_type": "bert", or name another revision')
    placed = _weight_map(folder / wanted.weights, key) if wanted.sharded else {}
    for name in weights:
        if name.endswith(".safetensors"):
            held = tensors_of(folder / name, key)
            lacking = sorted(tensor for tensor, shard in placed.items() if shard == name and tensor not in held)
            if lacking:
                raise UserError("damaged weights", key, f"{name} lacks {lacking[0]}, which the index places there", "fetch or copy the files again")
    return wanted, tuple(sorted({*wanted.beside, *weights}))


def tensors_of(path: Path, key: str) -> set[str]:
    """Names of the tensors of a safetensors file, whose size must agree with its header.

    Raises:
        UserError: The file is cut off, or is not a safetensors file.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > LONGEST_HEADER:
                raise ValueError("no header")
            header = json.loads(handle.read(length))
        ends = {name: int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError("damaged weights", key, f"{path} has no whole safetensors header", "fetch or copy the file again") from error
    whole = 8 + length + max(ends.values(), default=0)
    if size != whole:
        raise UserError("damaged weights", key, f"{path} has {size:,} bytes, its header says {whole:,}", "it was cut off; fetch or copy it again")
    return set(ends)


def convert(folder: Path, wanted: Needed, target: Path, key: str) -> None:
    """Write a model whose weights are .bin as safetensors, with the files beside them.

    At most one shard is held in memory; a file of PyTorch 1.6 or newer is mapped and not read as a whole.

    Args:
        folder: The model as published.
        wanted: Its files, from `check`.
        target: Folder to write; must not exist.
        key: Key of the config, for the error.

    Raises:
        UserError: A file is cut off, or holds objects other than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target.mkdir(parents=True)
    for name in wanted.beside:
        shutil.copyfile(folder / name, target / name)
    files = sorted(set(_weight_map(folder / wanted.weights, key).values())) if wanted.sharded else [wanted.weights]
    placed: dict[str, str] = {}
    total = 0
    for number, file in enumerate(files, 1):
        say(f"converting {file} to safetensors, once" + (f" ({number} of {len(files)})" if len(files) > 1 else ""))
        tensors = _independent(_load(folder / file, key))
        out = f"model-{number:05d}-of-{len(files):05d}.safetensors" if wanted.sharded else "model.safetensors"
        try:
            save_file(tensors, target / out, metadata={"format": "pt"})
        except SafetensorError as error:  # it wraps the system's error into a message
            raise OSError(errno.ENOSPC if disk_full(error) else errno.EIO, str(error)) from error
        placed |= dict.fromkeys(tensors, out)
        total += sum(t.numel() * t.element_size() for t in tensors.values())
        del tensors
    if wanted.sharded:
        lacking = sorted(name for name in _weight_map(folder / wanted.weights, key) if _modern(name) not in placed)
        if lacking:
            raise UserError("damaged weights", key, f"no shard holds {lacking[0]}, which {wanted.weights} names", "fetch or copy the files again")
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    _name_the_type(target, placed, key)


def disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, a quota or the allowed size of a file is exhausted."""
    text = str(error)
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        f"os error {number}" in text for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    )


def _matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _json(path: Path, key: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError("damaged file", key, f"{path} is no whole JSON ({error})", "fetch or copy it again") from error
    return data if isinstance(data, dict) else {}


def _weight_map(index: Path, key: str) -> dict[str, str]:
    """The file of each tensor, as an index of shards says."""
    found = _json(index, key).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) and file == Path(file).name for file in found.values()):
        raise UserError("damaged file", key, f"{index} has no weight_map of tensors and files beside it", "fetch or copy it again")
    return found


def _refuse_pointer(path: Path, key: str) -> None:
    with open(path, "rb") as handle:
        if handle.read(len(POINTER)) == POINTER:
            raise UserError("missing file", key, f"{path} is a Git LFS pointer, not the file", "run `git lfs pull` in that checkout")


def _load(path: Path, key: str) -> dict[str, Any]:
    """The tensors of a .bin file by name."""
    import pickle

    import torch

    with open(path, "rb") as handle:
        mappable = handle.read(4) == b"PK\x03\x04"  # files of PyTorch before 1.6 are no zip archives
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, IndexError, TypeError) as error:
        text = str(error)
        if "Unsupported" in text and ("GLOBAL" in text or "global" in text):
            why = f"{path} holds more than tensors, and is not read: it could run code"
            raise UserError("unsafe weights", key, why, "name a revision or folder with safetensors") from error
        raise UserError("damaged weights", key, f"{path} cannot be read ({type(error).__name__})", "it may be cut off; fetch or copy it again") from error
    tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise UserError("unusable weights", key, f"{path} is no table of tensors by name", "give the weights as save_pretrained writes them")
    return tensors


def _independent(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors under their present names, each with memory of its own: .bin files of tied weights share memory, which safetensors cannot store."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous()
        start = own.untyped_storage().data_ptr()
        # A view of a larger tensor, or a second name for the same one.
        found[name if _modern(name) in tensors else _modern(name)] = own.clone() if start in seen else own
        seen.add(start)
    return found


def _modern(name: str) -> str:
    """The present name of a tensor: the first checkpoints of BERT call the weight of a layer norm gamma, and its bias beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _name_the_type(folder: Path, tensors: Collection[str], key: str) -> None:
    """Write `model_type` into a config.json that has none, where the files leave no doubt: the first published models of BERT lack it."""
    config = folder / "config.json"
    data = _json(config, key)
    if "model_type" in data:
        return
    bert = any(name.removeprefix("bert.") == "embeddings.token_type_embeddings.weight" for name in tensors) and (folder / "vocab.txt").is_file()
    if not bert:
        raise UserError("unusable model", key, "its config.json has no model_type", 'use a copy that has it, as "model_type": "bert", by `path`')
    say("config.json has no model_type; vocabulary and tensors are BERT's")
    config.write_text(json.dumps(data | {"model_type": "bert"}, indent=2) + "\n", encoding="utf-8")
