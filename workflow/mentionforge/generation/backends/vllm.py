"""Backend `vllm`: vLLM's offline engine, in an environment of its own (envs/vllm.yaml), since it pins another torch.

The adapter is given to the engine as it is, or merged into the weights first; large models are spread over GPUs. Each note has its own
seed, and vLLM promises the same draws for it; rounding depends on what it is scheduled with. Needs a GPU: this module was checked against
vLLM's documented interface and for the arguments it makes, not run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mentionforge import config
from mentionforge.errors import UserError
from mentionforge.generation import weights
from mentionforge.generation.backends import Backend, Request, Written
from mentionforge.models import folder

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Greatest ranks of adapters that the engine can be told to make room for."""


def make(settings: config.VllmBackend, sampling: config.Sampling, model: Path, adapter: Path | None, dtype: str, scratch: Path) -> Backend:
    """The backend, its engine started.

    Raises:
        UserError: vLLM is not installed here.
    """
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        fix = "run with --sdm conda, or make an environment from envs/vllm.yaml; or choose kind: transformers"
        raise UserError("vLLM is not installed", "config: generators.*.backend.kind", str(error), fix) from error

    merged = None
    if adapter and settings.adapter == "merged":
        merged = merge(model, adapter, dtype, scratch)
    engine = LLM(**engine_arguments(settings, merged or folder(model), None if merged else adapter, dtype))
    lora = LoRARequest("adapter", 1, str(adapter)) if adapter and not merged else None

    def write(requests: Sequence[Request], done: Mapping[str, Written]) -> Iterator[list[Written]]:
        waiting = [r for r in sorted(requests, key=lambda r: r.note_id) if r.note_id not in done]
        try:
            for start in range(0, len(waiting), settings.chunk):
                chunk = waiting[start : start + settings.chunk]
                prompts = [{"prompt_token_ids": list(r.ids)} for r in chunk]
                chosen = [SamplingParams(**sampling_arguments(sampling, r.seed)) for r in chunk]
                outputs = engine.generate(prompts, chosen, lora_request=lora, use_tqdm=False)
                yield [read(request, output) for request, output in zip(chunk, outputs, strict=True)]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    return write


def merge(model: Path, adapter: Path, dtype: str, target: Path) -> Path:
    """Save the model with the adapter merged into it, and its tokenizer."""
    import torch
    from transformers import AutoTokenizer

    shutil.rmtree(target, ignore_errors=True)
    wanted = torch.float32 if dtype == "float32" else torch.bfloat16
    weights.load_for_sampling(model, adapter, wanted).save_pretrained(target)
    AutoTokenizer.from_pretrained(folder(model), local_files_only=True).save_pretrained(target)
    return target


def engine_arguments(settings: config.VllmBackend, model: Path, adapter: Path | None, dtype: str) -> dict[str, Any]:
    """Arguments of `vllm.LLM`; the adapter's rank decides how much room the engine keeps for it."""
    found: dict[str, Any] = {
        "model": str(model),
        "dtype": dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": settings.gpu_memory,
        "max_model_len": settings.max_model_tokens,
        "enable_prefix_caching": True,  # the notes of one concept have one prompt
        "generation_config": "vllm",  # every setting comes from the config, none from the model's folder
        "seed": 0,
    }
    if adapter:
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        room = next((r for r in RANKS if r >= rank), None)
        if room is None:
            raise UserError("rank too large", "config: finetune.lora.r", f"vLLM takes adapters of rank up to {RANKS[-1]}", "set backend.adapter: merged")
        found |= {"enable_lora": True, "max_lora_rank": room}
    return found


def sampling_arguments(sampling: config.Sampling, seed: int) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams` for one note."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
    }


def read(request: Request, output: Any) -> Written:
    """A note from a `vllm.RequestOutput`; the token that ends it is not counted."""
    [one] = output.outputs
    stopped = one.finish_reason == "stop"
    return Written(request.note_id, one.text.strip(), "stop" if stopped else "length", max(0, len(one.token_ids) - stopped), len(request.ids))
