"""What a GPU does with the paper's model: `make bench-gpu`. LLaMA-2-13B's true shape with random weights, so that no licence is needed.

QLoRA: seconds per update, tokens/s and peak memory at each length, with the paper's settings (batch 4, r=64, gradient checkpointing). Generation: notes/s, tokens/s
and peak memory in NF4 and in bfloat16 (as a merged adapter is sampled from) for each batch size and backend, and the hours that 48,000 concepts x 3 notes take.
Random weights hardly ever end a note, so every note has its full length: the hours are an upper bound. What does not fit is said and left out.
`--shape tiny --device cpu` runs all of it in seconds, to see that it works.
"""

import argparse
import contextlib
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mentionforge.generation import finetune, weights
from mentionforge.generation.backends import continuous, static, vllm
from mentionforge.generation.backends.continuous import ContinuousBackend
from mentionforge.generation.backends.contract import NoteWriter, Request
from mentionforge.generation.backends.vllm import VllmBackend
from mentionforge.generation.settings import Finetune, Sampling
from tiny import tiny_model

SHAPES: dict[str, dict[str, int]] = {
    "llama2-13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 40,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 4096,
    },
}
CONCEPTS, NOTES = 48_000, 3
STYLE = "plain"
FRAME = "### Instruction: {prompt}\n ### Example Doctor's Note: {note}"
"""The form of a prompt in the paper's code."""


def random_model(shape: str, target: Path) -> Path:
    """Save a model of a shape with random weights, in bfloat16, and return its stamp; its tokenizer has a token per byte."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    stamp = tiny_model(target)
    settings = LlamaConfig(**SHAPES[shape], bos_token_id=0, eos_token_id=1, pad_token_id=1)
    torch.manual_seed(0)
    with weights.device():
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    (target / "model.safetensors").unlink()  # a large model is saved in pieces, which would lie beside it
    model.save_pretrained(target)
    return stamp


def example(tokenizer: Any, tokens: int) -> dict[str, Any]:
    """A pair of exactly that many tokens, four fifths of them prompt."""
    frame = len(weights.prompt_ids(tokenizer, "", STYLE, FRAME)) + 2  # the blank before the note, and its end
    prompt = (tokens - frame) * 4 // 5
    return weights.training_example(tokenizer, "x" * prompt, "y" * (tokens - frame - prompt), STYLE, FRAME)


def peak() -> float:
    """Most memory taken since `forget`, in GiB: the GPU's, or on a CPU the process's since it began."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def forget() -> None:
    """Give memory back, and measure its peak anew."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def what_fits(what: str) -> Iterator[None]:
    """Say that something does not fit into the memory, and go on."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        print(f"| {what} | does not fit | | | |", flush=True)
    finally:
        forget()


def qlora(stamp: Path, tokens: int, updates: int, scratch: Path) -> None:
    """Print a row: fine-tuning with pairs of one length."""
    from transformers import TrainerCallback

    settings = Finetune(corpus="none", max_steps=updates, max_tokens=tokens, checkpoint_steps=10_000)
    tokenizer = weights.tokenizer(stamp, STYLE)
    model = weights.load_for_training(stamp, settings.quantization, weights.training_dtype(settings.compute_dtype))
    examples = [example(tokenizer, tokens)] * (settings.batch_size * updates)
    trainer = finetune.make_trainer(model, tokenizer, examples, settings, str(scratch))
    assert len(trainer.train_dataset[0]["input_ids"]) == tokens, "every pair has its full length"
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.train()
    step = (ends[-1] - ends[0]) / (len(ends) - 1)  # without the first, which warms up
    print(f"| {tokens} | {settings.batch_size} | {step:.2f} | {settings.batch_size * tokens / step:,.0f} | {peak():.1f} |", flush=True)


def writing(stamp: Path, kind: str, backend: str, batch: int, sampling: Sampling, loaded: Any) -> NoteWriter:
    """The backend over the loaded model."""
    tokenizer = weights.tokenizer(stamp, STYLE)
    if backend == "continuous":
        return continuous.make(ContinuousBackend(kind="continuous"), sampling, loaded, tokenizer)
    assert backend == "transformers", (backend, kind, batch)
    return static.make(sampling, loaded, tokenizer)


def generation(stamp: Path, kinds: Sequence[str], batches: Sequence[int], prompt: int, tokens: int) -> None:
    """Print a row for each number type, backend and batch size."""
    import torch

    for kind in kinds:
        forget()
        loaded = weights.load_for_sampling(stamp, None, torch.bfloat16, "nf4" if kind == "nf4" else "none")
        for backend in ("transformers", "continuous"):
            for batch in batches:
                with what_fits(f"{kind} | {backend} | {batch}"):
                    timed(f"{kind} | {backend} | {batch}", lambda s, b=backend, n=batch, m=loaded, k=kind: writing(stamp, k, b, n, s, m), batch, prompt, tokens)
        del loaded
    try:
        import vllm as _  # noqa: F401
    except ImportError:
        print("vLLM is not installed here (envs/vllm.yaml): not measured", flush=True)
        return
    forget()
    settings = VllmBackend(kind="vllm", max_model_tokens=prompt + tokens)
    for batch in batches:
        with what_fits(f"bf16 | vllm | {batch}"), tempfile.TemporaryDirectory() as scratch:
            timed(f"bf16 | vllm | {batch}", lambda s, d=scratch: vllm.make(settings, s, stamp, None, "bfloat16", Path(d) / "merged"), batch, prompt, tokens)


def timed(label: str, make: Any, batch: int, prompt: int, tokens: int) -> None:
    """Print a row: one batch of notes of full length, after a short one that warms up."""
    forget()
    wanted = [Request(f"C{i}", tuple(2 + (7 * i + j) % 250 for j in range(prompt)), i) for i in range(batch)]
    short = make(Sampling(batch_size=batch, max_new_tokens=2))
    list(short(wanted, {}))
    backend = make(Sampling(batch_size=batch, max_new_tokens=tokens))
    begun = time.perf_counter()
    notes = [note for some in backend(wanted, {}) for note in some]
    seconds = time.perf_counter() - begun
    assert len(notes) == batch
    speed, hours = sum(n.tokens for n in notes) / seconds, CONCEPTS * NOTES / (batch / seconds) / 3600
    print(f"| {label} | {batch / seconds:.2f} | {speed:,.0f} | {peak():.1f} | {hours:,.0f} |", flush=True)


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama2-13b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--lengths", type=int, nargs="*", default=[512, 2048], help="tokens of the fine-tuning pairs")
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--kinds", choices=("nf4", "bf16"), nargs="*", default=["nf4", "bf16"])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--prompt-tokens", type=int, default=160)
    parser.add_argument("--tokens", type=int, default=256, help="length of the notes")
    parser.add_argument("--scratch", type=Path, help="folder with room for the weights (26 GB); none: the system's")
    given = parser.parse_args()
    weights.quiet()
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no GPU here; the tiny shape runs on a CPU: --shape tiny --device cpu")
    name = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    print(f"{given.shape}, random weights; {name}; torch {torch.__version__}\n", flush=True)
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        stamp = random_model(given.shape, Path(scratch) / "weights")
        forget()
        print("| tokens per pair | pairs per update | s per update | tokens/s | peak GiB |\n|---|---|---|---|---|", flush=True)
        for tokens in given.lengths:
            with what_fits(str(tokens)):
                qlora(stamp, tokens, given.updates, Path(scratch) / "training")
        print(f"\nPrompts of {given.prompt_tokens} tokens, notes of {given.tokens}; hours for {CONCEPTS:,} concepts x {NOTES} notes on one GPU:\n")
        print("| weights | backend | batch | notes/s | tokens/s | peak GiB | hours |\n|---|---|---|---|---|---|---|", flush=True)
        generation(stamp, given.kinds, given.batches, given.prompt_tokens, given.tokens)


if __name__ == "__main__":
    main()
