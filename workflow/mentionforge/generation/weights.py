"""The language model: tokenizer, prompt form, and the weights as fine-tuning and sampling need them.

Fine-tuning trains an adapter on the 4-bit model. Sampling merges it into the model in full precision, which is faster and keeps the
error of 4-bit weights out of the notes; or, where that does not fit, keeps it beside the 4-bit model.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any, Literal

from mentionforge.encoders import fast_bfloat16
from mentionforge.errors import UserError
from mentionforge.generation import memory
from mentionforge.models import folder
from mentionforge.progress import say

PLAIN = "Instruction: {prompt}\nNote:"
"""Prompt form of models without a chat template; the note follows after one blank."""

Style = Literal["chat", "plain"]


def quiet() -> None:
    """No network, and no progress bars or advice of the libraries in the logs; to be called before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)  # the libraries' notes to each other


def device() -> Any:
    """The GPU, where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tokenizer(stamp: Path, style: Style) -> Any:
    """The model's tokenizer, padding on the left with a token that the attention mask hides.

    Raises:
        UserError: Style `chat`, but the tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder(stamp), local_files_only=True, padding_side="left")
    if style == "chat" and not found.chat_template:
        raise UserError("no chat template", str(stamp), "the model's tokenizer has none", "set prompt_style: plain")
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


def prompt_ids(tokenizer: Any, prompt: str, style: Style) -> list[int]:
    """Token ids of a prompt, ready to be continued by the note."""
    if style == "plain":
        return list(tokenizer(PLAIN.format(prompt=prompt))["input_ids"])
    return list(tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True)["input_ids"])


def training_example(prompt: str, completion: str, style: Style) -> dict[str, Any]:
    """A pair in trl's prompt / completion format; tokenized, it begins with `prompt_ids` of the prompt."""
    if style == "plain":
        return {"prompt": PLAIN.format(prompt=prompt), "completion": f" {completion}"}
    return {"prompt": [{"role": "user", "content": prompt}], "completion": [{"role": "assistant", "content": completion}]}


def load_for_training(stamp: Path, quantization: Literal["nf4", "none"], dtype: Any) -> Any:
    """The model to put an adapter on: 4-bit NormalFloat with double quantization, or full precision.

    Args:
        stamp: Stamp of fetched weights (fetched.json).
        quantization: nf4 or none.
        dtype: torch type of the computation and of what is not quantized.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        folder(stamp),
        local_files_only=True,
        use_safetensors=True,
        dtype=dtype,
        device_map={"": int(os.environ.get("LOCAL_RANK", "0")) if device().type == "cuda" else "cpu"},
        quantization_config=quantized if quantization == "nf4" else None,
    )
    module: Any
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks 4-bit weights in place at the first pass in eval mode;
        # gradients after that are wrong. Off, the weights stay as they are.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_for_sampling(stamp: Path, adapter: Path | None, dtype: Any, quantization: Literal["nf4", "none"] = "none", double_quantization: bool = False) -> Any:
    """The model to sample from, in eval mode on `device()`: whole in full precision with the adapter merged, or in NF4 with the adapter beside it.

    Of the folder's generation settings only the tokens that end a text are kept: everything else comes from the config.

    Args:
        stamp: Stamp of fetched weights (fetched.json).
        adapter: Folder of the adapter; none: the model as it is.
        dtype: torch type of the weights, with nf4 of the computation and of what is not quantized.
        quantization: nf4 or none.
        double_quantization: With nf4, quantize the scales too.

    Raises:
        UserError: The adapter does not fit the model, or the model does not fit into the memory.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    nf4 = quantization == "nf4"
    where = folder(stamp)
    plain: Any = str(dtype).removeprefix("torch.")
    form: Any = ("nf4_double" if double_quantization else "nf4") if nf4 else plain
    need, free = memory.needed(where, form, plain), memory.at_hand(free=True)
    if need > free:
        raise too_large(stamp, need, free, nf4)
    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double_quantization, bnb_4bit_compute_dtype=dtype)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            where,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            device_map={"": device()},
            quantization_config=quantized if nf4 else None,
        )
        if nf4:
            keep_as_loaded(model)
        if adapter is not None:
            model = _with_adapter(model, adapter, merged=not nf4)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise too_large(stamp, need, free, nf4) from error
    old = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=old.eos_token_id, bos_token_id=old.bos_token_id, pad_token_id=old.pad_token_id)
    return model.eval()


def _with_adapter(model: Any, adapter: Path, merged: bool) -> Any:
    from peft import PeftModel

    try:
        tuned: Any = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
        return tuned.merge_and_unload() if merged else tuned.get_base_model()
    except (ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        raise UserError("unusable adapter", str(adapter), str(error).splitlines()[0], "it was trained on another model; delete it and rerun") from error


def keep_as_loaded(model: Any) -> None:
    """Keep 4-bit weights as they are on CPUs with AVX512-BF16, where bitsandbytes 0.50 otherwise repacks them in place at the first pass."""
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means too little memory; torch has a kind of its own for GPUs only."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def too_large(stamp: Path, need: int, free: int, nf4: bool) -> UserError:
    """The error for a model that does not fit, with the ways out."""
    ways = [
        "" if nf4 else "set sampling.quantization: nf4",
        "set backend.kind: vllm with tensor_parallel, or openai with a server",
        "use a larger GPU or a smaller model",
    ]
    why = f"its weights need {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free on the {'GPU' if device().type == 'cuda' else 'CPU'}"
    return UserError("model too large", str(stamp), why, ", or ".join(way for way in ways if way))


def training_dtype(wanted: Literal["bfloat16", "float32"]) -> Any:
    """Torch type of the computation in training; float32 where bfloat16 is only emulated, and says so."""
    import torch

    if wanted == "bfloat16" and not fast_bfloat16(device()):
        say("this device has no fast bfloat16; computing in float32")
        return torch.float32
    return getattr(torch, wanted)


def sampling_dtype(wanted: Literal["auto", "bfloat16", "float16", "float32"]) -> Any:
    """Torch type of the weights while sampling; auto: bfloat16 where the device is fast with it, else float16 on a GPU and float32 on a CPU.

    Raises:
        UserError: float16 on a CPU, which takes minutes for a note there.
    """
    import torch

    on_gpu = device().type == "cuda"
    if wanted == "float16" and not on_gpu:
        raise UserError("unusable type", "config: generators.*.dtype", "a CPU computes many times slower in float16", "set dtype: auto, bfloat16 or float32")
    if wanted == "auto":
        return torch.bfloat16 if fast_bfloat16(device()) else torch.float16 if on_gpu else torch.float32
    return getattr(torch, wanted)


def sampling_quantization(stamp: Path, dtype: Any, wanted: Literal["auto", "nf4", "none"], rows: int, new_tokens: int) -> Literal["nf4", "none"]:
    """How to hold the weights; auto: in full where they and a batch fit into the device's memory, else in NF4."""
    if wanted != "auto":
        return wanted
    plain: Any = str(dtype).removeprefix("torch.")
    need = memory.needed(folder(stamp), plain, plain, rows, memory.PROMPT_TOKENS + new_tokens) + memory.ALLOWANCE
    room = int(memory.at_hand() * memory.SHARE)
    chosen: Literal["nf4", "none"] = "none" if need <= room else "nf4"
    say(f"sampling.quantization: {chosen} ({rows} notes at a time need {need / 1e9:,.1f} GB in {plain}; {room / 1e9:,.1f} GB are at hand)")
    return chosen
