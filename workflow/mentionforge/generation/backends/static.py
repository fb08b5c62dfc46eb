"""Backend `transformers`: `generate` on batches of prompts of similar length.

Notes of one concept stand in one batch and have one prompt, which is read once for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mentionforge import config
from mentionforge.errors import UserError
from mentionforge.generation.backends import Backend, Request, Written, note, stop_tokens
from mentionforge.generation.backends.draw import Draw
from mentionforge.progress import say

Writer = Callable[[Sequence[Request]], list[Written]]
"""Writes the notes of one batch."""


def make(settings: config.Sampling, model: Any, tokenizer: Any) -> Backend:
    """The backend over a loaded model."""
    writer = make_writer(model, tokenizer, settings)

    def write(requests: Sequence[Request], done: Mapping[str, Written]) -> Iterator[list[Written]]:
        return in_batches(requests, settings.batch_size, writer, done)

    return write


def in_batches(requests: Sequence[Request], batch_size: int, writer: Writer, done: Mapping[str, Written]) -> Iterator[list[Written]]:
    """Write every note that is not done, in batches of prompts of similar length, and yield each batch as it is finished.

    Batches are those of the whole shard, and a batch that lacks a note is written as a whole: rounding depends on what
    stands beside a note in its batch, so a resumed job writes what an uninterrupted one would have written. When the
    memory does not suffice, batches are halved from there on.

    Raises:
        UserError: Not even one note fits into the memory.
    """
    import torch

    ordered = sorted(requests, key=lambda r: (-len(r.ids), r.note_id))  # longest first: too little memory shows at once
    pending = deque(ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size))
    limit = batch_size
    while pending:
        batch = pending.popleft()
        missing = {r.note_id for r in batch} - set(done)
        if not missing:
            continue
        notes = None
        if len(batch) <= limit:
            try:
                notes = writer(batch)
            except RuntimeError as error:  # torch has a kind of its own for GPUs only
                if not _too_little_memory(error):
                    raise
        if notes is None:
            if len(batch) == 1:
                fix = "lower sampling.max_new_tokens, or use a larger GPU"
                raise UserError("out of memory", "config: sampling", "a single note does not fit", fix)
            half = (len(batch) + 1) // 2
            if half < limit:
                limit = half
                say(f"out of memory with {len(batch)} notes at a time; going on with {half}")
            torch.cuda.empty_cache()
            pending.extendleft((batch[half:], batch[:half]))
            continue
        yield [written for written in notes if written.note_id in missing]


def _too_little_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def make_writer(model: Any, tokenizer: Any, settings: config.Sampling) -> Writer:
    """A function that writes the notes of a batch with a causal language model.

    Prompts are padded on the left, and hidden by the attention mask, never by the id of the padding token, which may be
    that of the end of text. Order of the steps: repetition penalty (on what was written, not on the prompt), temperature,
    top-p, draw; every setting but batch_size is used here.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper

    stops = stop_tokens(model, tokenizer)

    def padded(prompts: Sequence[tuple[int, ...]], width: int) -> tuple[Any, Any]:
        ids = torch.full((len(prompts), width), tokenizer.pad_token_id)  # [prompts, width]
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        return ids.to(model.device), mask.to(model.device)

    def write(batch: Sequence[Request]) -> list[Written]:
        width = max(len(r.ids) for r in batch)
        steps = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
        if settings.repetition_penalty != 1:
            steps.insert(0, RepetitionPenaltyLogitsProcessor(settings.repetition_penalty, prompt_ignore_length=width))
        steps.append(Draw([r.seed for r in batch], width, settings.max_new_tokens, settings.top_p))
        plan = GenerationConfig(max_new_tokens=settings.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
        ids, mask = padded([r.ids for r in batch], width)
        distinct = list(dict.fromkeys(r.ids for r in batch))
        read: dict[str, Any] = {}
        with torch.inference_mode():
            if len(distinct) < len(batch) and width > 1:
                # All but the last token of each distinct prompt is read once; each note goes on from a copy of what was read.
                once, once_mask = padded(distinct, width)
                places = (once_mask.cumsum(-1) - 1).clamp(min=0)  # as `generate` counts them: padding takes no place
                seen = model(once[:, :-1], attention_mask=once_mask[:, :-1], position_ids=places[:, :-1], use_cache=True, logits_to_keep=1)
                row = {prompt: i for i, prompt in enumerate(distinct)}
                seen.past_key_values.batch_select_indices(torch.tensor([row[r.ids] for r in batch], device=model.device))
                read["past_key_values"] = seen.past_key_values
            found = model.generate(ids, attention_mask=mask, generation_config=plan, logits_processor=steps, **read)
        return [note(request, new, tokenizer, stops) for request, new in zip(batch, found[:, width:].tolist(), strict=True)]

    return write
