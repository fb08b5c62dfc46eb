"""Shared by the backends that run transformers in their own process: chooses dtype and quantization for the device, and loads the model.

In: a generator's settings and the stamp of its weights. Out: the choices, or model and tokenizer. Knows nothing about requests and notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentionforge.generation import weights
from mentionforge.generation.backends.contract import SampledGenerator


def choose_for_device(generator: SampledGenerator, model: Path | None, fixed_batches: bool) -> dict[str, Any]:
    """Settings chosen for this machine's device; see `contract.BackendKind.device_settings`.

    Args:
        generator: The generator.
        model: Stamp of the fetched weights; none: nothing is chosen.
        fixed_batches: Whether batches keep their shape. Only then weights may be in 4 bits, and notes on a GPU depend on the rows of a batch.
    """
    if model is None:
        return {}
    sampling, device = generator.sampling, weights.device().type
    dtype = weights.sampling_dtype(generator.dtype)
    quantization = weights.sampling_quantization(model, dtype, sampling.quantization, sampling.batch_size, sampling.max_new_tokens) if fixed_batches else "none"
    choice = {"device": device, "dtype": str(dtype).removeprefix("torch."), "quantization": quantization}
    choice["double_quantization"] = sampling.double_quantization and quantization == "nf4"
    return choice | ({"rows": sampling.batch_size} if fixed_batches and device != "cpu" else {})


def load(generator: SampledGenerator, model: Path, adapter: Path | None, chosen: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model with its adapter, in the dtype and quantization of `chosen`, and the tokenizer."""
    import torch

    tokenizer = weights.tokenizer(model, generator.prompt_style)
    return weights.load_for_sampling(model, adapter, getattr(torch, chosen["dtype"]), chosen["quantization"], chosen["double_quantization"]), tokenizer
