"""Backend `transformers`: `generate` on batches of notes whose prompts have similar lengths.

The arithmetic of a note must not depend on what is written beside it, so that notes can be added to finished ones: each
distinct prompt is read alone, once for all its notes; then notes are written in batches that always have the same number of
rows, and a width that follows from the prompt.

Equal shapes are not enough. On a CPU, scaled-dot-product attention splits the rows of a batch between threads in the middle of a
row, and a matrix product computes the one to three rows that are left over by another kernel: rows 2 and 3 of 4, or the last of 5,
get other last bits. So a CPU attends by plain matrix products and computes `ROWS` rows or a multiple of them. Then a row has the same
bits at every place, beside any neighbours, in a batch of any size, with any number of threads (the tests look at all four).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from mentionforge.errors import UserError
from mentionforge.generation.backends.contract import BackendKind, NoteWriter, Request, SampledGenerator, Written, note, require_weights, stop_tokens
from mentionforge.generation.backends.draw import Draw
from mentionforge.generation.settings import Sampling

VERSION = 1
"""Of the part backend.transformers: raise it where earlier results would be wrong (mentionforge.versions)."""


class TransformersBackend(BackendKind):
    """transformers' `generate`, on batches of prompts of similar length."""

    part: ClassVar[str] = "backend.transformers"
    loads_weights: ClassVar[bool] = True
    own_environment: ClassVar[bool] = False
    fixed_batches: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("peft", "torch", "transformers")
    identity: ClassVar[tuple[str, ...]] = ()
    identity_if_changed: ClassVar[Mapping[str, object]] = {}

    kind: Literal["transformers"] = "transformers"

    @property
    def gpus(self) -> int:
        """One."""
        return 1

    def check(self, generator: SampledGenerator, key: str) -> None:
        """It needs weights."""
        require_weights(self.kind, generator, key)

    def chosen(self, generator: SampledGenerator, model: Path | None) -> dict[str, Any]:
        """Device, type and quantization."""
        from mentionforge.generation.backends.local import chosen_for_device

        return chosen_for_device(generator, model, self.fixed_batches)

    def writer(
        self, generator: SampledGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None
    ) -> NoteWriter:
        """The model loaded here."""
        from mentionforge.generation.backends.local import load

        assert model, "the config is checked for it"
        return make(generator.sampling, *load(generator, model, adapter, chosen or self.chosen(generator, model)))


WIDTH = 128
"""Prompts are padded to a multiple of this many tokens: a fixed width for each, and few widths in all."""

ROWS = 8
"""Rows of a batch on a CPU are a multiple of this. Multiples of four are alike where it was measured (AVX2, AVX512); eight is the width of larger kernels."""

Writer = Callable[[Sequence[Request]], list[Written]]
"""Writes the notes of one batch."""


def make(settings: Sampling, model: Any, tokenizer: Any) -> NoteWriter:
    """The backend over a loaded model."""
    writer = make_writer(model, tokenizer, settings)

    def write(requests: Sequence[Request], done: Mapping[str, Written]) -> Iterator[list[Written]]:
        return in_batches(requests, settings.batch_size, writer, done)

    return write


def in_batches(requests: Sequence[Request], batch_size: int, writer: Writer, done: Mapping[str, Written]) -> Iterator[list[Written]]:
    """Write every note that is not done, in batches of prompts of similar length, and yield each batch as it is finished.

    Prompts of one batch have the same padded length. A batch that is not full repeats its last note, so that all have
    `batch_size` rows. When the memory does not suffice, batches are halved from there on.

    Raises:
        UserError: Not even one note fits into the memory.
    """
    import torch

    from mentionforge.generation.weights import out_of_memory
    from mentionforge.progress import say

    missing = sorted((r for r in requests if r.note_id not in done), key=lambda r: (-len(r.ids), r.note_id))  # longest first: too little memory shows at once
    pending: deque[list[Request]] = deque()
    for _, group in itertools.groupby(missing, key=lambda r: width_of(r.ids)):
        same = list(group)
        pending.extend(same[i : i + batch_size] for i in range(0, len(same), batch_size))
    limit = batch_size
    while pending:
        batch = pending.popleft()
        notes = None
        if len(batch) <= limit:
            try:
                notes = writer([*batch, *[batch[-1]] * (limit - len(batch))])[: len(batch)]
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
        if notes is None:
            if len(batch) <= limit:
                if limit == 1:
                    fix = "set sampling.quantization: nf4, lower sampling.max_new_tokens, or use a larger GPU"
                    raise UserError("out of memory", "config: sampling", "a single note does not fit", fix)
                say(f"out of memory with {limit} notes at a time; going on with {(limit + 1) // 2}")
                limit = (limit + 1) // 2
                torch.cuda.empty_cache()
            pending.extendleft(reversed([batch[i : i + limit] for i in range(0, len(batch), limit)]))
            continue
        yield notes


def width_of(ids: Sequence[int]) -> int:
    """Padded length of a prompt, in tokens."""
    return -(-len(ids) // WIDTH) * WIDTH


def make_writer(model: Any, tokenizer: Any, settings: Sampling) -> Writer:
    """A function that writes the notes of a batch with a causal language model.

    Prompts are padded on the left, and hidden by the attention mask, never by the id of the padding token, which may be
    that of the end of text. Order of the steps: repetition penalty (on what was written, not on the prompt), temperature,
    top-p, draw; every setting but batch_size is used here. On a CPU the model is set to plain ("eager") attention.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper

    stops = stop_tokens(model, tokenizer)
    on_cpu = model.device.type == "cpu"
    if on_cpu:
        model.set_attn_implementation("eager")

    def padded(prompts: Sequence[tuple[int, ...]], width: int) -> tuple[Any, Any]:
        ids = torch.full((len(prompts), width), tokenizer.pad_token_id)  # [prompts, width]
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        return ids.to(model.device), mask.to(model.device)

    def write(asked: Sequence[Request]) -> list[Written]:
        batch = [*asked, *[asked[-1]] * (-len(asked) % ROWS if on_cpu else 0)]
        width = max(width_of(r.ids) for r in batch)
        steps = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
        if settings.repetition_penalty != 1:
            steps.insert(0, RepetitionPenaltyLogitsProcessor(settings.repetition_penalty, prompt_ignore_length=width))
        steps.append(Draw([r.seed for r in batch], width, settings.max_new_tokens, settings.top_p))
        plan = GenerationConfig(max_new_tokens=settings.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
        ids, mask = padded([r.ids for r in batch], width)
        with torch.inference_mode():
            cache = read_alone(model, [r.ids for r in batch], width)
            found = model.generate(ids, attention_mask=mask, generation_config=plan, logits_processor=steps, **({"past_key_values": cache} if cache else {}))
        return [note(request, new, tokenizer, stops) for request, new in zip(asked, found[: len(asked), width:].tolist(), strict=True)]

    return write


def read_alone(model: Any, prompts: Sequence[tuple[int, ...]], width: int) -> Any:
    """The cache of a batch whose prompts were read but for their last token: each distinct one alone, then padded on the left.

    Args:
        model: A causal language model.
        prompts: Token ids of each row's prompt.
        width: Padded length of the prompts; the cache has `width - 1` places.

    Returns:
        The cache; none where a prompt has one token only, or the model keeps something else than keys and values of every
        token (sliding windows, states): then `generate` reads the padded prompts of the whole batch.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    read: dict[tuple[int, ...], list[tuple[Any, Any]]] = {}
    for prompt in dict.fromkeys(prompts):
        if len(prompt) < 2:
            return None
        seen = model(torch.tensor([prompt[:-1]], device=model.device), use_cache=True, logits_to_keep=1).past_key_values
        if not isinstance(seen, DynamicCache) or any(type(layer) is not DynamicLayer for layer in seen.layers):
            return None
        layers: Any = seen.layers
        left = (0, 0, width - len(prompt), 0)
        read[prompt] = [(torch.nn.functional.pad(layer.keys, left), torch.nn.functional.pad(layer.values, left)) for layer in layers]
    cache = DynamicCache()
    for layer in range(len(read[prompts[0]])):
        keys, values = (torch.cat([read[prompt][layer][i] for prompt in prompts]) for i in (0, 1))  # [rows, heads, width - 1, size]
        cache.update(keys, values, layer)
    return cache
