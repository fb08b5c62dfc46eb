"""Estimates the memory of a language model by arithmetic (weights, cache of a batch, fine-tuning) and reads the memory of this machine.

In: sizes of a model. Out: bytes: lower bounds plus a fixed allowance for the libraries, none of them measured on a GPU. Knows nothing about prompts and notes.
`python -m mentionforge.generation.memory` prints the table of docs/performance.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

WeightFormat = Literal["float32", "bfloat16", "float16", "nf4", "nf4_double"]
"""Data type of weights in memory; `nf4_double`: NF4 with double quantization."""

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 0.5 + 4 / 64, "nf4_double": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Bytes per parameter. NF4 has a scale of 4 bytes per 64 parameters; double quantization reduces it to 1 byte, plus 4 bytes per 256 scales."""

PROMPT_TOKENS = 512
"""Length of a prompt in estimates. Fixed, so that all shards of a generator make the same choice."""

ALLOWANCE = int(1.5 * 2**30)
"""Bytes for the GPU's libraries and the fragmentation of the allocator."""

USABLE_SHARE = 0.92
"""Share of a device's memory that an estimate may use."""


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a Llama-like decoder; see `shape_of` for their names in config.json."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_size: int
    tied: bool = False

    @property
    def linear(self) -> int:
        """Number of parameters of the layers' matrices, which NF4 quantizes."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def other(self) -> int:
        """Number of parameters that are never quantized: embeddings, output, norms."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        return self.linear + self.other


def shape_of(config: Mapping[str, Any]) -> DecoderShape | None:
    """Sizes from the content of a config.json; none for a model that is not built like a Llama (Mistral and Qwen are, up to small terms)."""
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return DecoderShape(
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            vocabulary=int(config["vocab_size"]),
            head_size=int(config.get("head_dim") or hidden // heads),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def weight_bytes(shape: DecoderShape, form: WeightFormat, rest: WeightFormat = "bfloat16") -> int:
    """Bytes of the weights; with NF4, embeddings, output and norms have the dtype `rest`."""
    if form.startswith("nf4"):
        return int(shape.linear * BYTES[form] + shape.other * BYTES[rest])
    return int(shape.parameters * BYTES[form])


def cache_bytes(shape: DecoderShape, rows: int, tokens: int, form: WeightFormat = "bfloat16") -> int:
    """Bytes of the keys and values of a batch of `rows` sequences of `tokens` tokens."""
    return int(2 * shape.layers * shape.kv_heads * shape.head_size * rows * tokens * BYTES[form])


def sampling_bytes(shape: DecoderShape, form: WeightFormat, rows: int, tokens: int, rest: WeightFormat = "bfloat16") -> int:
    """Bytes of sampling: weights, cache, and three copies of a step's scores in float32."""
    return weight_bytes(shape, form, rest) + cache_bytes(shape, rows, tokens, rest) + 3 * 4 * rows * shape.vocabulary


def training_bytes(shape: DecoderShape, batch: int, tokens: int, rank: int = 64, form: WeightFormat = "nf4") -> int:
    """Bytes of QLoRA with gradient checkpointing on the attention's four matrices.

    Counts the weights; the adapter in float32 with its gradient and two moments; the input of every layer; the active layer (ten vectors of the hidden and
    six of the intermediate size per token, and its largest matrix dequantized); the scores in the dtype of the computation and in float32, and their
    gradient.
    """
    attention = 2 * (shape.hidden + shape.heads * shape.head_size) + 2 * (shape.hidden + shape.kv_heads * shape.head_size)
    adapter = shape.layers * attention * rank * 16
    kept = shape.layers * shape.hidden * 2
    working = (10 * shape.hidden + 6 * shape.intermediate) * 2
    scores = shape.vocabulary * (2 + 4 + 4)
    return weight_bytes(shape, form) + adapter + batch * tokens * (kept + working + scores) + shape.hidden * shape.intermediate * 2


# --------------------------------------------------------------------------------------------------------- available memory


def required_bytes(folder: Path, form: WeightFormat, rest: WeightFormat = "bfloat16", rows: int = 0, tokens: int = 0) -> int:
    """Bytes that a model in a folder needs to be loaded and, with rows, to be sampled from; a model of unknown build counts by its files."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = shape_of(config)
    if shape:
        return sampling_bytes(shape, form, rows, tokens, rest)
    stored = 4 if (config.get("dtype") or config.get("torch_dtype")) == "float32" else 2
    return int(sum(path.stat().st_size for path in folder.glob("*.safetensors")) / stored * BYTES[form])


def available_bytes(free: bool = False) -> int:
    """Bytes of the GPU's memory or, without a GPU, of the machine's memory or its container's limit.

    Args:
        free: Count only memory that is free at the moment.
    """
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0 if free else 1])
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").is_file() else []
    known = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    limits = [known["MemAvailable" if free else "MemTotal"]] if known else []
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(name).read_text().strip() if Path(name).is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limits, default=2**63)


# ------------------------------------------------------------------------------------------------------------------ the table

MODELS = {
    "Llama-2 7B": DecoderShape(4096, 11008, 32, 32, 32, 32000, 128),
    "Llama-2 13B": DecoderShape(5120, 13824, 40, 40, 40, 32000, 128),
    "Llama-2 70B": DecoderShape(8192, 28672, 80, 64, 8, 32000, 128),
}
CARDS = (24, 40, 80)
GPUS = (1, 2, 4)
BATCHES = (128, 64, 32, 16, 8, 4, 2, 1)
TRAINED_TOKENS, SAMPLED_TOKENS = 2048, 768


def table() -> str:
    """The largest batch that fits on each number and size of GPUs, as a Markdown table; – if not even one row fits."""
    cards = [(gpus, card) for gpus in GPUS for card in CARDS]
    lines = ["| model | what | weights, GB | " + " | ".join(f"{gpus} × {card} GB" for gpus, card in cards) + " |"]
    lines.append("|" + "---|" * (3 + len(cards)))
    for name, shape in MODELS.items():
        for task, form in (("fine-tuning, NF4", "nf4"), ("sampling, NF4", "nf4"), ("sampling, bfloat16", "bfloat16"), ("sampling, bfloat16, vLLM", "bfloat16")):
            cells = [_largest(shape, task, form, gpus, card) for gpus, card in cards]  # type: ignore[arg-type]
            lines.append(f"| {name} | {task} | {weight_bytes(shape, form) / 1e9:.1f} | " + " | ".join(cells) + " |")  # type: ignore[arg-type]
    return "\n".join(lines)


def _largest(shape: DecoderShape, task: str, form: WeightFormat, gpus: int, card: int) -> str:
    room = card * 2**30 * USABLE_SHARE - ALLOWANCE
    for batch in BATCHES:
        if task.startswith("fine-tuning"):
            need = training_bytes(shape, batch, TRAINED_TOKENS, form=form)  # each GPU holds the whole model
        elif task.endswith("vLLM"):
            need = sampling_bytes(shape, form, batch, SAMPLED_TOKENS) // gpus  # weights and cache are spread
        else:
            need = sampling_bytes(shape, form, batch, SAMPLED_TOKENS)  # a shard on each GPU
        if need <= room:
            return str(batch)
    return "–"


if __name__ == "__main__":
    print(table())
