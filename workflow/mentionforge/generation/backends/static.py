"""Backend `transformers`: batches of notes whose prompts have similar lengths, on a CPU token by token here, else by `generate`.

In: requests. Out: notes. A note does not depend on the other notes of its batch, so that notes can be added to finished ones later. Knows nothing about tables
and shards.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from mentionforge.errors import UserError
from mentionforge.generation.backends import decoding
from mentionforge.generation.backends.contract import NoteWriter, Request, SampledGenerator, WrittenNote, decode_note, require_weights, stop_token_ids
from mentionforge.generation.backends.decoding import ROWS
from mentionforge.generation.backends.draw import Draw
from mentionforge.generation.backends.local import LocalBackend
from mentionforge.generation.settings import Sampling

VERSION = 2
"""Version of the part backend.transformers: raise it if earlier results would be wrong (mentionforge.versions)."""


# How a note stays independent of its batch
#
# Each distinct prompt is read alone, once for all its notes. Then notes are written in batches with a width that follows from the prompt. On a CPU, equal
# shapes are not enough: scaled-dot-product attention divides the batch between threads in the middle of a row, and a matrix product computes the last one to
# three rows with another kernel, so that rows 2 and 3 of 4, or the last of 5, differ in their last bits. Therefore attention on a CPU uses plain matrix
# products, and batches have a multiple of `ROWS` rows. Then a row has the same bits at every position, next to any neighbours, in a batch of any size, with
# any number of threads; the tests check all four. On a GPU batches have a constant number of rows.


class TransformersBackend(LocalBackend):
    """Batches of prompts of similar length: on a CPU rows of ended notes are dropped, on a GPU transformers' `generate` writes."""

    part: ClassVar[str] = "backend.transformers"
    fixed_batches: ClassVar[bool] = True

    kind: Literal["transformers"] = "transformers"

    def check(self, generator: SampledGenerator, key: str) -> None:
        """Check that there are weights."""
        require_weights(self.kind, generator, key)

    def writer_with(self, sampling: Sampling, model: Any, tokenizer: Any) -> NoteWriter:
        """The backend with a model that is already loaded."""
        return make(sampling, model, tokenizer)


WIDTH = 128
"""Prompts are padded to a multiple of this many tokens, so that each has a fixed width and few widths occur."""

BatchWriter = Callable[[Sequence[Request]], list[WrittenNote]]
"""Writes the notes of one batch."""


def make(settings: Sampling, model: Any, tokenizer: Any) -> NoteWriter:
    """The backend with a model that is already loaded."""
    writer, device = make_batch_writer(model, tokenizer, settings), model.device.type

    def write(requests: Sequence[Request], done: Mapping[str, WrittenNote]) -> Iterator[list[WrittenNote]]:
        return write_in_batches(requests, settings.rows(device), writer, done, same_rows=device != "cpu")

    return write


def write_in_batches(
    requests: Sequence[Request], batch_size: int, writer: BatchWriter, done: Mapping[str, WrittenNote], same_rows: bool = True
) -> Iterator[list[WrittenNote]]:
    """Write the missing notes in batches of prompts with the same padded length, and yield each batch when it is finished.

    If memory runs out, the following batches have half the size.

    Args:
        requests: All notes.
        batch_size: Notes at a time.
        writer: Writes the notes of a batch.
        done: The notes that are not missing.
        same_rows: Whether a batch that is not full repeats its last note, so that all have `batch_size` rows.

    Raises:
        UserError: Not even a single note fits into the memory.
    """
    import torch

    from mentionforge.generation.weights import out_of_memory
    from mentionforge.progress import say

    missing = sorted((r for r in requests if r.note_id not in done), key=lambda r: (-len(r.ids), r.note_id))  # longest first: too little memory shows early
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
                notes = writer([*batch, *[batch[-1]] * (limit - len(batch) if same_rows else 0)])[: len(batch)]
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


def make_batch_writer(model: Any, tokenizer: Any, settings: Sampling) -> BatchWriter:
    """A function that writes the notes of a batch with a causal language model: `decoding` on a CPU where it suits the model, else `generate`.

    Uses every setting but batch_size. On a CPU it sets the model to plain attention.
    """
    import torch

    stops, generated = stop_token_ids(model, tokenizer), make_generate_writer(model, tokenizer, settings)
    if model.device.type != "cpu" or not decoding.suits(model):
        return generated
    prompts = decoding.Prompts(model)

    def write(requests: Sequence[Request]) -> list[WrittenNote]:
        if min(len(r.ids) for r in requests) < 2:
            return generated(requests)
        decoding.use_grouped_attention(model)
        with torch.inference_mode():
            notes = decoding.write_tokens(model, prompts, requests, max(width_of(r.ids) for r in requests), settings, stops)
        if notes is None:
            return generated(requests)
        return [decode_note(request, new, tokenizer, stops) for request, new in zip(requests, notes, strict=True)]

    return write


def make_generate_writer(model: Any, tokenizer: Any, settings: Sampling) -> BatchWriter:
    """A function that writes the notes of a batch with `generate`.

    Prompts are padded on the left. The attention mask hides the padding; the id of the padding token may be that of the end of text. Order of the steps:
    repetition penalty (on the note, not on the prompt), temperature, top-p, draw. Uses every setting but batch_size. On a CPU it sets the model to plain
    ("eager") attention.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper

    stops = stop_token_ids(model, tokenizer)
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

    def write(requests: Sequence[Request]) -> list[WrittenNote]:
        batch = [*requests, *[requests[-1]] * (-len(requests) % ROWS if on_cpu else 0)]
        width = max(width_of(r.ids) for r in batch)
        steps = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
        if settings.repetition_penalty != 1:
            steps.insert(0, RepetitionPenaltyLogitsProcessor(settings.repetition_penalty, prompt_ignore_length=width))
        steps.append(Draw([r.seed for r in batch], width, settings.max_new_tokens, settings.top_p))
        plan = GenerationConfig(max_new_tokens=settings.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
        ids, mask = padded([r.ids for r in batch], width)
        with torch.inference_mode():
            cache = prefill_prompts(model, [r.ids for r in batch], width)
            generated = model.generate(
                ids, attention_mask=mask, generation_config=plan, logits_processor=steps, **({"past_key_values": cache} if cache else {})
            )
        return [decode_note(request, new, tokenizer, stops) for request, new in zip(requests, generated[: len(requests), width:].tolist(), strict=True)]

    return write


def prefill_prompts(model: Any, prompts: Sequence[tuple[int, ...]], width: int) -> Any:
    """The cache of a batch whose prompts were read up to their last token, each distinct prompt alone, and padded on the left.

    Args:
        model: A causal language model.
        prompts: Token ids of each row's prompt.
        width: Padded length of the prompts; the cache has `width - 1` places.

    Returns:
        The cache. None if a prompt has a single token, or the model caches something other than keys and values of every token (sliding windows,
        states): then `generate` reads the padded prompts of the whole batch.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    read: dict[tuple[int, ...], list[tuple[Any, Any]]] = {}
    for prompt in dict.fromkeys(prompts):
        if len(prompt) < 2:
            return None
        cached = model(torch.tensor([prompt[:-1]], device=model.device), use_cache=True, logits_to_keep=1).past_key_values
        if not isinstance(cached, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cached.layers):
            return None
        layers: Any = cached.layers
        left = (0, 0, width - len(prompt), 0)
        read[prompt] = [(torch.nn.functional.pad(layer.keys, left), torch.nn.functional.pad(layer.values, left)) for layer in layers]
    cache = DynamicCache()
    for layer in range(len(read[prompts[0]])):
        keys, values = (torch.cat([read[prompt][layer][i] for prompt in prompts]) for i in (0, 1))  # [rows, heads, width - 1, size]
        cache.update(keys, values, layer)
    return cache
