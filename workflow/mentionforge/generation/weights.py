"""Loads tokenizer and weights of a language model for fine-tuning and sampling, and turns prompts and pairs into token ids.

In: stamp of fetched weights, settings, adapter. Out: models and token ids. Sampling merges the adapter into the full-precision model, which is faster and more
exact; if that does not fit, it keeps the adapter beside the 4-bit model. Knows nothing about tables and training loops.
"""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mentionforge.encoders import fast_bfloat16
from mentionforge.errors import UserError
from mentionforge.generation import memory, packed
from mentionforge.generation.settings import FRAME
from mentionforge.models import folder
from mentionforge.progress import say

Style = Literal["chat", "plain"]


def quiet() -> None:
    """Forbid the libraries to use the network, and silence their progress bars and advice. Call it before they are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    with suppress(ImportError):  # vLLM's environment does without it
        import datasets

        datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)  # meant for developers of the libraries


def device() -> Any:
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tokenizer(stamp: Path, style: Style) -> Any:
    """The model's tokenizer. It pads on the left, with a token that the attention mask hides.

    Raises:
        UserError: The tokenizer cannot be read, or it has no chat template for the style `chat`.
    """
    from transformers import AutoTokenizer

    where = folder(stamp)
    try:
        loaded = AutoTokenizer.from_pretrained(where, local_files_only=True, padding_side="left")
    except (ImportError, OSError, ValueError) as error:
        alone = (where / "tokenizer.model").is_file() and not (where / "tokenizer.json").is_file()
        why = "tokenizer.model without tokenizer.json needs sentencepiece and protobuf" if alone else str(error).strip().splitlines()[0]
        fix = "install both" if alone else "put the model's tokenizer files there"
        raise UserError("unreadable tokenizer", str(where), why, f"{fix}, delete the stamp and rerun") from error
    if style == "chat" and not loaded.chat_template:
        raise UserError("no chat template", str(stamp), "the model's tokenizer has none", "set prompt_style: plain")
    if isinstance(loaded.chat_template, str) and "strftime_now" in loaded.chat_template:
        loaded.chat_template = _FIXED_DATE + loaded.chat_template
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    return loaded


_FIXED_DATE = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
"""Prefix of chat templates that write today's date: notes must not depend on the day, and training and sampling need the same prompts."""


def prompt_text(prompt: str, frame: str = FRAME) -> str:
    """A prompt in a frame, up to where the note begins. The blanks before `{note}` belong to the note.

    Tokenizers make one token of a blank and the word after it, so a prompt that ended with the blank would be another token sequence than in training.
    """
    return frame.removesuffix("{note}").rstrip(" ").replace("{prompt}", prompt)


def prompt_ids(tokenizer: Any, prompt: str, style: Style, frame: str = FRAME) -> list[int]:
    """Token ids of a prompt, ready to be continued by the note.

    Args:
        tokenizer: From `tokenizer`.
        prompt: The prompt.
        style: The tokenizer's chat template, or the frame.
        frame: Frame of the style `plain`.
    """
    return _ids(tokenizer, prompt_text(prompt, frame) if style == "plain" else _chat(tokenizer, prompt), style)


def shared_tokens(tokenizer: Any, prompts: Sequence[str], style: Style, frame: str = FRAME) -> tuple[int, ...]:
    """Token ids with which all these prompts begin: with two prompts that differ where every prompt does, those that all prompts share."""
    columns = zip(*(prompt_ids(tokenizer, prompt, style, frame) for prompt in prompts), strict=False)
    return tuple(tokens[0] for tokens in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, columns))


def training_example(tokenizer: Any, prompt: str, completion: str, style: Style, frame: str = FRAME) -> dict[str, list[int]]:
    """A pair as tokens: exactly `prompt_ids` of the prompt, then the note and the token that ends it.

    Prompt and note are tokenized together, like text in pretraining. If a token would cross the boundary, the note is tokenized by itself, since a
    training example must begin with the prompt ids that sampling uses.

    Returns:
        `input_ids`, and `labels`: the same, with -100 over the prompt.

    Raises:
        UserError: The chat template changes the note.
    """
    if style == "plain":
        head, text = prompt_text(prompt, frame), frame.removesuffix("{note}").replace("{prompt}", prompt) + completion
    else:
        head, text = _chat(tokenizer, prompt), _chat(tokenizer, prompt, completion)
        if completion.strip() not in text:
            raise UserError("unusable chat template", "the model's tokenizer", "it does not repeat the note as it is", "set prompt_style: plain")
    start, whole = prompt_ids(tokenizer, prompt, style, frame), _ids(tokenizer, text, style)
    if whole[: len(start)] != start:
        rest = text[len(head) if text.startswith(head) else text.rindex(completion.strip()) :]
        whole = start + list(tokenizer(rest, add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token_id not in whole[len(start) :]:
        whole.append(tokenizer.eos_token_id)
    return {"input_ids": whole, "labels": [-100] * len(start) + whole[len(start) :]}


def _chat(tokenizer: Any, prompt: str, note: str | None = None) -> str:
    """The chat template's text for a prompt, up to the beginning of the note or, if it is given, with the note."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": note}]
    return str(tokenizer.apply_chat_template(turns[: 1 if note is None else 2], add_generation_prompt=note is None, tokenize=False))


def _ids(tokenizer: Any, text: str, style: Style) -> list[int]:
    """Token ids of a text that may be continued: with at most one token for its beginning, and none for its end.

    Some chat templates write the beginning-of-text token themselves (Llama-2). If the tokenizer adds it too, the template's is removed: after its own
    token, SentencePiece treats what follows as the beginning of a text, as in the model's training.
    """
    always = list(tokenizer("")["input_ids"])
    begins = tokenizer.bos_token is not None and always[:1] == [tokenizer.bos_token_id]
    ends = always[int(begins) :] == [tokenizer.eos_token_id]
    written = begins and text.startswith(tokenizer.bos_token)
    special = written or style == "plain"
    ids = list(tokenizer(text.removeprefix(tokenizer.bos_token) if written else text, add_special_tokens=special)["input_ids"])
    return ids[:-1] if special and ends else ids


def load_for_training(stamp: Path, quantization: Literal["nf4", "none"], dtype: Any, double_quantization: bool = False) -> Any:
    """The model to train an adapter on, in 4-bit NormalFloat or in full precision.

    Args:
        stamp: Stamp of fetched weights (fetched.json).
        quantization: nf4 or none.
        dtype: torch dtype of the computation and of the weights that are not quantized.
        double_quantization: Whether to quantize the scales of the 4-bit blocks too.

    Raises:
        UserError: The model does not fit into the memory.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    nf4 = quantization == "nf4"
    plain: Any = str(dtype).removeprefix("torch.")
    form: Any = ("nf4_double" if double_quantization else "nf4") if nf4 else plain
    need, free = memory.required_bytes(folder(stamp), form, plain), memory.available_bytes(free=True)
    fixes = ("" if nf4 else "set finetune.quantization: nf4", "use a larger GPU or a smaller model")
    if need > free:
        raise model_too_large(stamp, need, free, fixes)
    quantized = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double_quantization, bnb_4bit_compute_dtype=dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder(stamp),
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            device_map={"": int(os.environ.get("LOCAL_RANK", "0")) if device().type == "cuda" else "cpu"},
            quantization_config=quantized if nf4 else None,
        )
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise model_too_large(stamp, need, free, fixes) from error
    keep_as_loaded(model)  # otherwise gradients are wrong after a pass in eval mode
    return model


def load_for_sampling(stamp: Path, adapter: Path | None, dtype: Any, quantization: Literal["nf4", "none"] = "none", double_quantization: bool = False) -> Any:
    """The model to sample from, in eval mode on `device()`: in full precision with the adapter merged, or in NF4 with the adapter beside it.

    Only the special tokens are taken from the model's own generation settings; all other settings come from the config.

    Args:
        stamp: Stamp of fetched weights (fetched.json).
        adapter: Folder of the adapter; none: the model without an adapter.
        dtype: torch dtype of the weights; with nf4, of the computation and of the weights that are not quantized. float16 on a CPU: see `packed`.
        quantization: nf4 or none.
        double_quantization: Whether to quantize the scales too, with nf4.

    Raises:
        UserError: The adapter does not fit the model, or the model does not fit into the memory.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    nf4 = quantization == "nf4"
    where, halved = folder(stamp), dtype != computed_dtype(dtype)
    dtype = computed_dtype(dtype)
    plain: Any = str(dtype).removeprefix("torch.")
    form: Any = ("nf4_double" if double_quantization else "nf4") if nf4 else plain
    need, free = memory.required_bytes(where, form, plain), memory.available_bytes(free=True)
    fixes = (
        "" if nf4 else "set sampling.quantization: nf4",
        "set backend.kind: vllm with tensor_parallel, or openai with a server",
        "use a larger GPU or a smaller model",
    )
    if need > free:
        raise model_too_large(stamp, need, free, fixes)
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
        if halved and not nf4:
            packed.pack(model)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise model_too_large(stamp, need, free, fixes) from error
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
    """Keep bitsandbytes 0.50 from repacking 4-bit weights in place at the first pass, as it does on CPUs with AVX512-BF16."""
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means too little memory. Torch has a type for it on GPUs only."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def model_too_large(stamp: Path, need: int, free: int, fixes: Sequence[str]) -> UserError:
    """The error for a model that does not fit, with possible fixes."""
    why = f"its weights need {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free on the {'GPU' if device().type == 'cuda' else 'CPU'}"
    return UserError("model too large", str(stamp), why, ", or ".join(fix for fix in fixes if fix))


def training_dtype(setting: Literal["bfloat16", "float16", "float32"]) -> Any:
    """Torch dtype of the computation in training: that of the setting if the device is fast with it, else another, which is logged.

    GPUs without bfloat16 (V100, T4) compute in float16 with loss scaling, CPUs that only emulate 16 bits in float32.
    """
    import torch

    gpu = device().type == "cuda"
    if setting == "bfloat16" and not fast_bfloat16(device()):
        dtype, how = (torch.float16, "in float16 with loss scaling") if gpu else (torch.float32, "in float32")
    elif setting == "float16" and not gpu:
        dtype, how = torch.float32, "in float32"
    else:
        return getattr(torch, setting)
    if os.environ.get("RANK", "0") == "0":
        say(f"this device has no fast {setting}; computing {how}")
    return dtype


def sampling_dtype(setting: Literal["auto", "bfloat16", "float16", "float32"]) -> Any:
    """Torch dtype of the weights for sampling. auto: bfloat16 if the device is fast with it, else float16, or float32 on a CPU that cannot hold that.

    Raises:
        UserError: float16 on a CPU for which torch has no such matrix products: it would need minutes for a note.
    """
    import torch

    halves = device().type == "cuda" or packed.available()
    if setting == "float16" and not halves:
        raise UserError("unusable type", "config: generators.*.dtype", "this CPU computes many times slower in float16", "set dtype: auto, bfloat16 or float32")
    if setting == "auto":
        return torch.bfloat16 if fast_bfloat16(device()) else torch.float16 if halves else torch.float32
    return getattr(torch, setting)


def computed_dtype(dtype: Any) -> Any:
    """Torch dtype in which a model of a dtype is loaded and computes: on a CPU float32 for float16, which only holds the weights there."""
    import torch

    return torch.float32 if dtype == torch.float16 and device().type == "cpu" else dtype


def sampling_quantization(stamp: Path, dtype: Any, setting: Literal["auto", "nf4", "none"], rows: int, new_tokens: int) -> Literal["nf4", "none"]:
    """Quantization for sampling. auto: none if the weights and a batch of `rows` notes fit into the device's memory, else nf4."""
    if setting != "auto":
        return setting
    plain: Any = str(computed_dtype(dtype)).removeprefix("torch.")
    need = memory.required_bytes(folder(stamp), plain, plain, rows, memory.PROMPT_TOKENS + new_tokens) + memory.ALLOWANCE
    room = int(memory.available_bytes() * memory.USABLE_SHARE)
    chosen: Literal["nf4", "none"] = "none" if need <= room else "nf4"
    say(f"sampling.quantization: {chosen} ({rows} notes at a time need {need / 1e9:,.1f} GB in {plain}; {room / 1e9:,.1f} GB are at hand)")
    return chosen
