"""Files of a published model: which are needed, whether they are complete, and conversion of .bin weights to safetensors.

In: a model folder, or the names of its files: weights as one file or as shards with an index, in safetensors or PyTorch's .bin. Out: the files needed;
a folder of safetensors, since jobs read nothing else. A .bin file is read once, by `torch.load(weights_only=True)`. Knows nothing of sources.
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
"""First file of each form of weights, preferred form first. transformers also prefers one file to shards."""
INDEX = ".index.json"
BESIDE = ("*.json", "*.txt", "*.model", "*.jinja")
"""Configuration and vocabulary; no code."""
VOCABULARIES = ("tokenizer.json", "vocab.txt", "*.model")
"""Each of these is enough for a tokenizer; so are vocab.json and merges.txt together."""
WEIGHT_LIKE = ("*.safetensors", "*.bin", "*.h5", "*.msgpack", "*.gguf", "*.pth", "*.pt", "*.ckpt", "*.onnx")
POINTER = b"version https://git-lfs"
LONGEST_HEADER = 100_000_000
"""Most bytes of a safetensors header; the safetensors library refuses longer ones, too."""


@dataclass(frozen=True)
class NeededFiles:
    """The files of a model that are needed: first file of the weights; configuration and vocabulary, sorted."""

    weights: str
    beside: tuple[str, ...]

    @property
    def sharded(self) -> bool:
        """Whether the first file is an index of shards."""
        return self.weights.endswith(INDEX)

    @property
    def pickled(self) -> bool:
        """Whether the weights are .bin files, which must be converted."""
        return self.weights.removesuffix(INDEX).endswith(".bin")


def needed(names: Collection[str], key: str, where: str, fix: str) -> NeededFiles:
    """Choose the files of a model that are needed.

    Args:
        names: All files of the folder or repository; files in subfolders are ignored.
        key: Key of the config, for the error.
        where: The folder or repository, for the error.
        fix: What to do, for the error.

    Raises:
        UserError: No config.json, no weights in a form that can be read, or no tokenizer.
    """
    names = sorted(name for name in names if "/" not in name)
    if "config.json" not in names:
        adapter = "adapter_config.json" in names
        reason = f"{where} holds an adapter, not a whole model" if adapter else f"{where} holds no config.json"
        raise UserError("missing model", key, reason, "name the model that the adapter was trained on" if adapter else fix)
    first = next((form for form in FORMS if form in names), None)
    if first is None:
        other_weights = [name for name in names if _matches_any(name, WEIGHT_LIKE)]
        reason = f"{where} holds no model.safetensors and no pytorch_model.bin, whole or with the index of its shards"
        raise UserError("no weights", key, reason + (f", only {', '.join(other_weights[:3])}" if other_weights else ""), fix)
    if not any(_matches_any(name, VOCABULARIES) for name in names) and not {"vocab.json", "merges.txt"} <= set(names):
        reason = f"{where} holds no tokenizer.json, vocab.txt, *.model, nor vocab.json with merges.txt"
        raise UserError("no tokenizer", key, reason, fix)
    return NeededFiles(first, tuple(name for name in names if _matches_any(name, BESIDE) and not name.endswith(INDEX)))


def shards(index: Path, names: Collection[str], key: str, where: str) -> tuple[str, ...]:
    """The files that an index of shards names, sorted.

    Raises:
        UserError: The index cannot be read, names no file, or names files that are not among `names`.
    """
    files = tuple(sorted(set(_weight_map(index, key).values())))
    missing = [name for name in files if name not in names]
    if missing:
        raise UserError(
            "missing shard", key, f"{where} lacks {missing[0]} ({len(missing)} of {len(files)} shards), which {index.name} names", "complete the model's files"
        )
    return files


def check(folder: Path, key: str, fix: str) -> tuple[NeededFiles, tuple[str, ...]]:
    """Raise an error for a model folder that a job could not load, as far as this is visible without reading the tensors.

    Args:
        folder: Folder of a model.
        key: Key of the config, for the error.
        fix: What to do, for the error.

    Returns:
        The files chosen by `needed`; and the names of all files, weights and shards included, sorted.

    Raises:
        UserError: A file is missing, empty or cut off, should be JSON but is not, or is a Git LFS pointer.
    """
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    needed_files = needed(names, key, str(folder), fix)
    weights = [needed_files.weights]
    if needed_files.sharded:
        _refuse_pointer(folder / needed_files.weights, key)
        weights += shards(folder / needed_files.weights, names, key, str(folder))
    for name in {*needed_files.beside, *weights}:
        path = folder / name
        _refuse_pointer(path, key)
        if not path.stat().st_size:
            raise UserError("damaged file", key, f"{path} is empty", fix)
        if name.endswith(".json"):
            _json(path, key)
    if "model_type" not in _json(folder / "config.json", key) and not needed_files.pickled:
        raise UserError("unusable model", key, f"{folder}/config.json has no model_type", 'add it, as "model_type": "bert", or name another revision')
    shard_of = _weight_map(folder / needed_files.weights, key) if needed_files.sharded else {}
    for name in weights:
        if name.endswith(".safetensors"):
            stored = tensors_of(folder / name, key)
            missing = sorted(tensor for tensor, shard in shard_of.items() if shard == name and tensor not in stored)
            if missing:
                raise UserError("damaged weights", key, f"{name} lacks {missing[0]}, which the index places there", "fetch or copy the files again")
    return needed_files, tuple(sorted({*needed_files.beside, *weights}))


def tensors_of(path: Path, key: str) -> set[str]:
    """Names of the tensors in a safetensors file, by its header. The size of the file must agree with the header.

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
    expected_size = 8 + length + max(ends.values(), default=0)
    if size != expected_size:
        raise UserError("damaged weights", key, f"{path} has {size:,} bytes, its header says {expected_size:,}", "it was cut off; fetch or copy it again")
    return set(ends)


def convert(folder: Path, needed_files: NeededFiles, target: Path, key: str) -> None:
    """Convert a model with .bin weights to safetensors, and copy the other files needed.

    At most one shard is in memory; files of PyTorch 1.6 or newer are memory-mapped.

    Args:
        folder: The model as published.
        needed_files: Its files, from `check`.
        target: Folder to write; must not exist.
        key: Key of the config, for the error.

    Raises:
        UserError: A file is cut off, or holds objects other than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target.mkdir(parents=True)
    for name in needed_files.beside:
        shutil.copyfile(folder / name, target / name)
    files = sorted(set(_weight_map(folder / needed_files.weights, key).values())) if needed_files.sharded else [needed_files.weights]
    file_of: dict[str, str] = {}
    total = 0
    for number, file in enumerate(files, 1):
        say(f"converting {file} to safetensors, once" + (f" ({number} of {len(files)})" if len(files) > 1 else ""))
        tensors = _independent(_load(folder / file, key))
        out = f"model-{number:05d}-of-{len(files):05d}.safetensors" if needed_files.sharded else "model.safetensors"
        try:
            save_file(tensors, target / out, metadata={"format": "pt"})
        except SafetensorError as error:  # its message holds the system's error
            raise OSError(errno.ENOSPC if disk_full(error) else errno.EIO, str(error)) from error
        file_of |= dict.fromkeys(tensors, out)
        total += sum(t.numel() * t.element_size() for t in tensors.values())
        del tensors
    if needed_files.sharded:
        missing = sorted(name for name in _weight_map(folder / needed_files.weights, key) if _present_name(name) not in file_of)
        if missing:
            raise UserError("damaged weights", key, f"no shard holds {missing[0]}, which {needed_files.weights} names", "fetch or copy the files again")
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    _add_model_type(target, file_of, key)


def disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk, a quota or the allowed size of a file is exhausted."""
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
    """The file of each tensor, by an index of shards."""
    weight_map = _json(index, key).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(file, str) and file == Path(file).name for file in weight_map.values()):
        raise UserError("damaged file", key, f"{index} has no weight_map of tensors and files beside it", "fetch or copy it again")
    return weight_map


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
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, IndexError, TypeError) as error:
        text = str(error)
        if "Unsupported" in text and ("GLOBAL" in text or "global" in text):
            reason = f"{path} holds more than tensors, and is not read: it could run code"
            raise UserError("unsafe weights", key, reason, "name a revision or folder with safetensors") from error
        raise UserError("damaged weights", key, f"{path} cannot be read ({type(error).__name__})", "it may be cut off; fetch or copy it again") from error
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)} if isinstance(loaded, Mapping) else {}
    if not tensors:
        raise UserError("unusable weights", key, f"{path} is no table of tensors by name", "give the weights as save_pretrained writes them")
    return tensors


def _independent(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors with their present names, each with its own memory: tied weights in .bin files share memory, which safetensors cannot store."""
    storages: set[int] = set()
    independent = {}
    for name, tensor in tensors.items():
        contiguous = tensor.detach().contiguous()
        start = contiguous.untyped_storage().data_ptr()
        # A tensor that shares memory with another one (a view, or a second name) is copied.
        independent[name if _present_name(name) in tensors else _present_name(name)] = contiguous.clone() if start in storages else contiguous
        storages.add(start)
    return independent


def _present_name(name: str) -> str:
    """The present name of a tensor: early BERT checkpoints call weight and bias of a layer norm gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _add_model_type(folder: Path, tensors: Collection[str], key: str) -> None:
    """Add `model_type` to a config.json without it, if the files are clearly those of BERT, whose first published models lack it."""
    config = folder / "config.json"
    settings = _json(config, key)
    if "model_type" in settings:
        return
    bert = any(name.removeprefix("bert.") == "embeddings.token_type_embeddings.weight" for name in tensors) and (folder / "vocab.txt").is_file()
    if not bert:
        raise UserError("unusable model", key, "its config.json has no model_type", 'use a copy that has it, as "model_type": "bert", by `path`')
    say("config.json has no model_type; vocabulary and tensors are BERT's")
    config.write_text(json.dumps(settings | {"model_type": "bert"}, indent=2) + "\n", encoding="utf-8")
