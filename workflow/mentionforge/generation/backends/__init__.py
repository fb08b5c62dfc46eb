"""Backends: who writes the notes. One interface, chosen by the name in `generators.*.backend.kind`.

A backend is a function of the shard's requests and of the notes that are already written; it yields notes as they are finished,
in any order, each once. What may vary without changing a note (memory, concurrency, on a CPU the batch size) is not part of the job's
identity; what was chosen for the device at hand (type, quantization) is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mentionforge.config import LlmGenerator
from mentionforge.generation import weights


@dataclass(frozen=True)
class Request:
    """A note to write: its id, the token ids of its prompt (none where a server tokenizes), its seed, and the prompt as text, for servers in its frame."""

    note_id: str
    ids: tuple[int, ...]
    seed: int
    prompt: str = ""


@dataclass(frozen=True)
class Written:
    """A note as written; `tokens` without the one that ends it, `prompt_tokens` as the backend counts them."""

    note_id: str
    text: str
    finish_reason: str
    tokens: int
    prompt_tokens: int = 0


class Backend(Protocol):
    """Writes the requests that are not done; yields finished notes, some at a time."""

    def __call__(self, requests: Sequence[Request], done: Mapping[str, Written]) -> Iterator[list[Written]]:
        """Write `requests` but those in `done`."""
        ...


def make(generator: LlmGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None) -> Backend:
    """The backend that a generator names, with its weights loaded.

    Args:
        generator: Settings of the generator.
        model: Stamp of the fetched weights (fetched.json); none for `openai`.
        adapter: Folder of the adapter; none: the model as it is.
        scratch: Folder that a backend may create for merged weights, unless its settings name a place; the backend removes it.
        chosen: What `resolved` gave; none: ask it.

    Raises:
        UserError: Missing weights, an adapter of another model, a library that is not installed, a key that is not set.
    """
    import torch

    settings = generator.backend
    if settings.kind == "openai":
        from mentionforge.generation.backends import openai

        return openai.make(settings, generator.sampling, generator.prompt_style, os.environ)
    assert model, "only a server writes without weights; the config is checked for it"
    if settings.kind == "vllm":
        from mentionforge.generation.backends import vllm

        return vllm.make(settings, generator.sampling, model, adapter, generator.dtype, scratch)
    tokenizer = weights.tokenizer(model, generator.prompt_style)
    how = chosen or resolved(generator, model)
    loaded = weights.load_for_sampling(model, adapter, getattr(torch, how["dtype"]), how["quantization"], how["double_quantization"])
    if settings.kind == "continuous":
        from mentionforge.generation.backends import continuous

        return continuous.make(settings, generator.sampling, loaded, tokenizer)
    from mentionforge.generation.backends import static

    return static.make(generator.sampling, loaded, tokenizer)


def resolved(generator: LlmGenerator, model: Path | None) -> dict[str, Any]:
    """What is chosen for the device at hand, and what notes depend on there; nothing where another engine chooses.

    Returns:
        `device`, `dtype`, `quantization`, `double_quantization`; on a GPU with the backend `transformers` also `rows`, since the GPU's
        libraries choose their kernels by the size of a batch. On a CPU a note is the same in a batch of any size.
    """
    if generator.backend.kind not in ("transformers", "continuous") or model is None:
        return {}
    sampling, device = generator.sampling, weights.device().type
    dtype = weights.sampling_dtype(generator.dtype)
    static = generator.backend.kind == "transformers"
    quantization = weights.sampling_quantization(model, dtype, sampling.quantization, sampling.batch_size, sampling.max_new_tokens) if static else "none"
    found = {"device": device, "dtype": str(dtype).removeprefix("torch."), "quantization": quantization}
    found["double_quantization"] = sampling.double_quantization and quantization == "nf4"
    return found | ({"rows": sampling.batch_size} if static and device != "cpu" else {})


def identity(generator: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a generator's sampling on which its notes depend: all but sizes, speeds and addresses, and what was chosen for the device."""
    kept = {key: value for key, value in generator.items() if key not in ("sampling", "backend", *chosen)}
    unused = ("batch_size", "quantization", "double_quantization")
    kept["sampling"] = {key: value for key, value in generator["sampling"].items() if key not in unused}
    kept["chosen"] = dict(chosen)
    backend = generator["backend"]
    kept["backend"] = {key: value for key, value in backend.items() if key in ("kind", "model", "extra_body", "adapter")}
    # A limit cuts notes short, and a server that does not know the key writes on: where they are not what they are by default, notes depend on them.
    kept["backend"] |= {key: backend[key] for key, usual in (("max_model_tokens", None), ("max_tokens_key", "max_tokens")) if backend.get(key, usual) != usual}
    return kept


def note(request: Request, new: Sequence[int], tokenizer: Any, stops: Sequence[int]) -> Written:
    """The note up to the first token that ends it; what follows is padding."""
    length = next((i for i, token in enumerate(new) if token in stops), None)
    text = tokenizer.decode(new[:length], skip_special_tokens=True).strip()
    return Written(request.note_id, text, "length" if length is None else "stop", len(new[:length]), len(request.ids))


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a note: the tokenizer's, and those of the model's generation settings."""
    found = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(found if isinstance(found, list) else [found])} - {None})
