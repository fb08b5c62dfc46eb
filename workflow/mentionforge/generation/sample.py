"""Sampling: the prompts of a shard become notes, each from a random stream of its own; then all shards in one table.

A note depends on its prompt, its seed and the model, not on the order of the batches: `Draw` turns the note's own uniform
numbers into tokens by the inverse of the cumulative distribution, which is exact sampling. Finished batches are appended
to OUT.partial.jsonl, so that a job killed at any moment goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge import config, tables
from mentionforge.config import LlmGenerator, read_spec
from mentionforge.errors import UserError
from mentionforge.generation import weights
from mentionforge.generation.prompts import seed_of
from mentionforge.progress import say, track
from mentionforge.provenance import digest, sha256_paths, stamp, versions


@dataclass(frozen=True)
class Request:
    """A note to write: its id, the token ids of its prompt, and its seed."""

    note_id: str
    ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Written:
    """A note as written; `tokens` without the one that ends it."""

    note_id: str
    text: str
    finish_reason: str
    tokens: int


Writer = Callable[[Sequence[Request]], list[Written]]


def sample_shard(spec: Path, model: Path, prompts: Path, adapter: Path | None, shard: int, shards: int, out: Path) -> None:
    """Write the notes of every `shards`-th prompt from number `shard` on, in the order of note ids.

    Args:
        spec: Spec file of the generator, part `sampling`.
        model: Stamp of the fetched weights (fetched.json).
        prompts: Table `prompts`.
        adapter: Folder of the adapter; none: the model as it is.
        shard: Number of the shard, from 0.
        shards: Number of shards.
        out: Table `notes`.

    Raises:
        UserError: No weights, an adapter of another model, no such shard, or too little memory for a single note.
    """
    if shard >= shards:
        raise UserError("no such shard", f"--shard {shard}", f"shards are numbered from 0 to {shards - 1}")
    generator: LlmGenerator = read_spec(spec)
    described = json.loads(spec.read_text(encoding="utf-8"))
    rows = tables.read(tables.PROMPTS, prompts).sort_by("note_id").to_pylist()[shard::shards]
    rows = [row | {"seed": seed_of(row["seed"], generator.sampling.seed)} for row in rows]
    weights.quiet()
    tokenizer = weights.tokenizer(model, generator.prompt_style)
    requests = [Request(row["note_id"], tuple(weights.prompt_ids(tokenizer, row["prompt"], generator.prompt_style)), row["seed"]) for row in rows]
    partial = out.with_name(f"{out.name}.partial.jsonl")
    with finished_notes(partial, _job(described, model, adapter, rows)) as (done, keep):
        if len(done) < len(rows):
            dtype = weights.sampling_dtype(generator.dtype)
            writer = make_writer(weights.load_for_sampling(model, adapter, dtype), tokenizer, generator.sampling)
            write_all(requests, generator.sampling.batch_size, writer, done, keep)
    notes = [
        {k: row[k] for k in ("note_id", "cui", "prompt", "seed")}
        | {"generator": described["name"], "text": note.text, "finish_reason": note.finish_reason, "tokens": note.tokens}
        for row, note in ((row, done[row["note_id"]]) for row in rows)
    ]
    inputs = {"spec": spec, "model": model, "prompts": prompts} | ({"adapter": adapter} if adapter else {})
    tables.write(tables.NOTES, out, notes, stamp("generation sample", inputs, shard=shard, shards=shards, versions=versions("peft", "torch", "transformers")))
    partial.unlink()


def _job(described: Mapping[str, Any], model: Path, adapter: Path | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """Digest of all that the notes of a shard depend on; the batch size is not among it."""
    settings = described["settings"] | {"sampling": {k: v for k, v in described["settings"]["sampling"].items() if k != "batch_size"}}
    parts = [{**described, "settings": settings}, sha256_paths([model]), sha256_paths([adapter]) if adapter else None, rows]
    return digest(json.dumps(parts, sort_keys=True))


@contextmanager
def finished_notes(partial: Path, job: str) -> Iterator[tuple[dict[str, Written], Callable[[Sequence[Written]], None]]]:
    """The notes that an earlier run of the same job finished, by id, and a function that appends more to the file.

    The file holds one JSON object per line, first a header that names the job. Another job's file is replaced; a last line
    that was cut off is dropped.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"job": job})
    done: dict[str, Written] = {}
    if partial.is_file():
        first, *lines = partial.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
        if first.strip() != header:
            say(f"{partial.name} is of another job (settings, prompts or adapter have changed); starting anew")
        else:
            whole = [line for line in lines if line.endswith("\n")]
            done = {note.note_id: note for note in (Written(**json.loads(line)) for line in whole)}
            say(f"going on after {len(done):,} finished notes")
    temporary = partial.with_name(f".{partial.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(f"{line}\n" for line in (header, *map(_line, done.values()))), encoding="utf-8")
    os.replace(temporary, partial)
    with open(partial, "a", encoding="utf-8") as sink:

        def keep(notes: Sequence[Written]) -> None:
            sink.write("".join(f"{_line(note)}\n" for note in notes))
            sink.flush()
            os.fsync(sink.fileno())
            done.update((note.note_id, note) for note in notes)

        yield done, keep


def _line(note: Written) -> str:
    return json.dumps(vars(note))


def write_all(requests: Sequence[Request], batch_size: int, writer: Writer, done: Mapping[str, Written], keep: Callable[[Sequence[Written]], None]) -> None:
    """Write every note that is not done, in batches of prompts of similar length, and keep each batch as it is finished.

    Batches are those of the whole shard, and a batch that lacks a note is written as a whole: rounding depends on what
    stands beside a note in its batch, so a resumed job writes what an uninterrupted one would have written. When the GPU's
    memory does not suffice, batches are halved from there on.

    Raises:
        UserError: Not even one note fits into the GPU's memory.
    """
    import torch

    ordered = sorted(requests, key=lambda r: (-len(r.ids), r.note_id))  # longest first: too little memory shows at once
    pending = deque(ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size))
    limit, tokens, begun = batch_size, 0, time.monotonic()
    with track("notes", sum(r.note_id not in done for r in requests)) as tick:
        while pending:
            batch = pending.popleft()
            missing = {r.note_id for r in batch} - set(done)
            if not missing:
                continue
            try:
                if len(batch) > limit:
                    raise torch.cuda.OutOfMemoryError
                notes = writer(batch)
            except torch.cuda.OutOfMemoryError:
                if len(batch) == 1:
                    fix = "lower sampling.max_new_tokens, or use a larger GPU"
                    raise UserError("out of GPU memory", "config: sampling", "a single note does not fit", fix) from None
                half = (len(batch) + 1) // 2
                if half < limit:
                    limit = half
                    say(f"out of GPU memory with {len(batch)} notes at a time; going on with {half}")
                torch.cuda.empty_cache()
                pending.extendleft((batch[half:], batch[:half]))
                continue
            fresh = [note for note in notes if note.note_id in missing]
            keep(fresh)
            tokens += sum(note.tokens for note in notes)
            elapsed = time.monotonic() - begun
            tick(len(fresh), f"{tokens / elapsed:,.0f} tokens/s")


def make_writer(model: Any, tokenizer: Any, settings: config.Sampling) -> Writer:
    """A function that writes the notes of a batch with a causal language model.

    Prompts are padded on the left, and hidden by the attention mask, never by the id of the padding token, which may be
    that of the end of text. Order of the steps: repetition penalty (on what was written, not on the prompt), temperature,
    top-p, draw; every setting but batch_size is used here.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper

    stops = model.generation_config.eos_token_id
    stops = sorted({tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])} - {None})

    def write(batch: Sequence[Request]) -> list[Written]:
        width = max(len(r.ids) for r in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)  # [notes, width]
        mask = torch.zeros_like(ids)
        for i, request in enumerate(batch):
            ids[i, width - len(request.ids) :] = torch.tensor(request.ids)
            mask[i, width - len(request.ids) :] = 1
        steps = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
        if settings.repetition_penalty != 1:
            steps.insert(0, RepetitionPenaltyLogitsProcessor(settings.repetition_penalty, prompt_ignore_length=width))
        steps.append(Draw([r.seed for r in batch], width, settings.max_new_tokens, settings.top_p))
        plan = GenerationConfig(max_new_tokens=settings.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
        with torch.inference_mode():
            found = model.generate(ids.to(model.device), attention_mask=mask.to(model.device), generation_config=plan, logits_processor=steps)
        return [_read(request, new, tokenizer, stops) for request, new in zip(batch, found[:, width:].tolist(), strict=True)]

    return write


def _read(request: Request, new: list[int], tokenizer: Any, stops: list[int]) -> Written:
    """The note up to the first token that ends it; what follows is padding."""
    length = next((i for i, token in enumerate(new) if token in stops), None)
    text = tokenizer.decode(new[:length], skip_special_tokens=True).strip()
    return Written(request.note_id, text, "length" if length is None else "stop", len(new[:length]))


class Draw:
    """A logits processor that leaves one token per row, drawn with that row's own random numbers; to be used with arg-max.

    Args:
        seeds: One per row.
        width: Tokens of the (padded) prompt.
        steps: Most tokens written.
        top_p: The fewest most likely tokens that together have this probability are drawn from.
    """

    CANDIDATES = 1024
    """Tokens among which the nucleus is looked for first: sorting the whole vocabulary costs as much as a small model's step."""

    def __init__(self, seeds: Sequence[int], width: int, steps: int, top_p: float = 1.0) -> None:
        import torch

        self.width, self.top_p = width, top_p
        # float32 in [0, 1 - 2^-24]: times a sum in float64 it stays below that sum. Made on the CPU: the same on every device.
        self.uniform = torch.stack([torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds])  # [rows, steps]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores [rows, vocabulary] become 0 at the token drawn and -inf elsewhere."""
        import torch

        uniform = self.uniform[:, input_ids.shape[1] - self.width].to(scores.device).double()
        if self.top_p < 1:
            cumulative, mass, tokens = self._nucleus(scores)
        else:
            cumulative, tokens = scores.softmax(-1, dtype=torch.float64).cumsum(-1), None
            mass = cumulative[:, -1]
        drawn = (cumulative > (uniform * mass)[:, None]).int().argmax(-1, keepdim=True)  # first token past the number
        if tokens is not None:
            drawn = tokens.gather(-1, drawn)
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn, 0.0)

    def _nucleus(self, scores: Any) -> tuple[Any, Any, Any]:
        """Likeliest tokens: cumulative probability [rows, candidates], probability of the nucleus [rows], token ids [rows, candidates]."""
        vocabulary = scores.shape[-1]
        total = scores.logsumexp(-1, keepdim=True)
        for candidates in (min(self.CANDIDATES, vocabulary), vocabulary):
            top, tokens = scores.topk(candidates)
            probability = (top - total).double().exp()
            cumulative = probability.cumsum(-1)
            if bool((cumulative[:, -1] >= self.top_p).all()):
                break
        inside = (cumulative - probability) < self.top_p  # the likeliest token always is
        mass = cumulative.gather(-1, inside.sum(-1, keepdim=True) - 1).squeeze(-1)
        return cumulative, mass, tokens


def gather(prompts: Path, shards: Sequence[Path], out: Path) -> None:
    """All shards' notes in one table.

    Raises:
        UserError: A prompt without a note, with two, or a note without a prompt; names the ids.
    """
    import pyarrow as pa

    asked = tables.read(tables.PROMPTS, prompts)["note_id"].to_pylist()
    notes = pa.concat_tables([tables.read(tables.NOTES, shard) for shard in shards])
    found = notes["note_id"].to_pylist()
    problems = {
        "prompts without a note": set(asked) - set(found),
        "notes without a prompt": set(found) - set(asked),
        "notes that occur twice": {n for n, times in Counter(found).items() if times > 1},
    }
    for what, ids in problems.items():
        if ids:
            some = ", ".join(sorted(ids)[:5])
            raise UserError(what, str(out.parent), f"{len(ids):,} of them: {some}", "delete the shards and rerun the workflow")
    tables.write(tables.NOTES, out, notes, stamp("generation gather", {"prompts": prompts} | {f"shard {i}": shard for i, shard in enumerate(shards)}))
    say(f"{len(found):,} notes, one for each prompt")
