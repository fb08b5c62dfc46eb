"""What the backends that run transformers in this process share: type and quantization for the device at hand, and the loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentionforge.generation import weights
from mentionforge.generation.backends.contract import SampledGenerator


def chosen_for_device(generator: SampledGenerator, model: Path | None, fixed_batches: bool) -> dict[str, Any]:
    """What is chosen for the device at hand; see `contract.BackendKind.chosen`.

    Args:
        generator: The generator.
        model: Stamp of the fetched weights; without them nothing is chosen.
        fixed_batches: Whether batches keep their shape; only then weights may be in 4 bits, and notes depend on the rows of a batch on a GPU.
    """
    if model is None:
        return {}
    sampling, device = generator.sampling, weights.device().type
    dtype = weights.sampling_dtype(generator.dtype)
    quantization = weights.sampling_quantization(model, dtype, sampling.quantization, sampling.batch_size, sampling.max_new_tokens) if fixed_batches else "none"
    found = {"device": device, "dtype": str(dtype).removeprefix("torch."), "quantization": quantization}
    found["double_quantization"] = sampling.double_quantization and quantization == "nf4"
    return found | ({"rows": sampling.batch_size} if fixed_batches and device != "cpu" else {})


def load(generator: SampledGenerator, model: Path, adapter: Path | None, chosen: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model as `chosen` says, with its adapter, and the tokenizer."""
    import torch

    tokenizer = weights.tokenizer(model, generator.prompt_style)
    return weights.load_for_sampling(model, adapter, getattr(torch, chosen["dtype"]), chosen["quantization"], chosen["double_quantization"]), tokenizer
