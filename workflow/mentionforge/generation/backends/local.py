"""Shared by the backends that run transformers in their own process: chooses dtype and quantization for the device, and loads the model.

In: a generator's settings and the stamp of its weights. Out: the choices, or model and tokenizer. Knows nothing about requests and notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mentionforge.generation.backends.contract import BackendKind, NoteWriter, SampledGenerator
from mentionforge.generation.settings import Sampling


class LocalBackend(BackendKind):
    """A backend that loads the generator's weights with transformers."""

    loads_weights: ClassVar[bool] = True
    own_environment: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("peft", "torch", "transformers")
    identity: ClassVar[tuple[str, ...]] = ()
    identity_if_changed: ClassVar[Mapping[str, object]] = {}

    @property
    def gpus(self) -> int:
        """One."""
        return 1

    def device_settings(self, generator: SampledGenerator, model: Path | None) -> dict[str, Any]:
        """Device, dtype and quantization."""
        return choose_for_device(generator, model, self.fixed_batches)

    def writer(
        self, generator: SampledGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None
    ) -> NoteWriter:
        """The backend with its model loaded."""
        assert model, "the config is checked for it"
        return self.writer_with(generator.sampling, *load(generator, model, adapter, chosen or self.device_settings(generator, model)))

    def writer_with(self, sampling: Sampling, model: Any, tokenizer: Any) -> NoteWriter:
        """The backend with a model that is already loaded."""
        raise NotImplementedError


def choose_for_device(generator: SampledGenerator, model: Path | None, fixed_batches: bool) -> dict[str, Any]:
    """Settings chosen for this machine's device; see `contract.BackendKind.device_settings`.

    Args:
        generator: The generator.
        model: Stamp of the fetched weights; none: nothing is chosen.
        fixed_batches: Whether batches keep their shape. Only then weights may be in 4 bits, and notes on a GPU depend on the rows of a batch.
    """
    from mentionforge.generation import weights

    if model is None:
        return {}
    sampling, device = generator.sampling, weights.device().type
    dtype, rows = weights.sampling_dtype(generator.dtype), sampling.rows(device)
    quantization = weights.sampling_quantization(model, dtype, sampling.quantization, rows, sampling.max_new_tokens) if fixed_batches else "none"
    if quantization == "nf4":
        dtype = weights.computed_dtype(dtype)
    choice = {"device": device, "dtype": str(dtype).removeprefix("torch."), "quantization": quantization}
    choice["double_quantization"] = sampling.double_quantization and quantization == "nf4"
    return choice | ({"rows": rows} if fixed_batches and device != "cpu" else {})


def load(generator: SampledGenerator, model: Path, adapter: Path | None, chosen: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model with its adapter, in the dtype and quantization of `chosen`, and the tokenizer."""
    import torch

    from mentionforge.generation import weights

    tokenizer = weights.tokenizer(model, generator.prompt_style)
    return weights.load_for_sampling(model, adapter, getattr(torch, chosen["dtype"]), chosen["quantization"], chosen["double_quantization"]), tokenizer
