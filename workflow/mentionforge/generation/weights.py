"""The language model: tokenizer, prompt form, and the weights as fine-tuning and sampling need them.

Fine-tuning trains an adapter on the 4-bit model; sampling merges it into the model in full precision, which is faster to
sample from and keeps the error of 4-bit weights out of the notes.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mentionforge.encoders import fast_bfloat16
from mentionforge.errors import UserError
from mentionforge.models import folder
from mentionforge.progress import say

PLAIN = "Instruction: {prompt}\nNote:"
"""Prompt form of models without a chat template; the note follows after one blank."""

Style = Literal["chat", "plain"]


def quiet() -> None:
    """No network, and no progress bars or advice of the libraries in the logs; to be called before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    with suppress(ImportError):  # vLLM's environment does without it
        import datasets

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


def load_for_sampling(stamp: Path, adapter: Path | None, dtype: Any) -> Any:
    """The model in full precision with the adapter merged into it, in eval mode on `device()`.

    Raises:
        UserError: The adapter does not fit the model.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder(stamp), local_files_only=True, use_safetensors=True, dtype=dtype, device_map={"": device()})
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, str(adapter), local_files_only=True).merge_and_unload()
        except (ValueError, RuntimeError) as error:
            raise UserError("unusable adapter", str(adapter), str(error).splitlines()[0], "it was trained on another model; delete it and rerun") from error
    return model.eval()


def training_dtype(wanted: Literal["bfloat16", "float32"]) -> Any:
    """Torch type of the computation in training; float32 where bfloat16 is only emulated, and says so."""
    import torch

    if wanted == "bfloat16" and not fast_bfloat16(device()):
        say("this device has no fast bfloat16; computing in float32")
        return torch.float32
    return getattr(torch, wanted)


def sampling_dtype(wanted: Literal["auto", "bfloat16", "float32"]) -> Any:
    """Torch type of the weights while sampling; auto: bfloat16 where the device is fast with it."""
    import torch

    if wanted == "auto":
        return torch.bfloat16 if fast_bfloat16(device()) else torch.float32
    return getattr(torch, wanted)
