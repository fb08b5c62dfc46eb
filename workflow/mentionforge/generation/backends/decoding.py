"""Writes a batch of notes on a CPU, token by token, and drops rows whose notes have ended.

In: a Llama-like model and requests whose prompts have one padded length. Out: token ids of each note. A row has the same bits at every place of every batch,
also after other rows were dropped. Knows nothing about tables, shards and texts.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

from mentionforge.generation.backends.contract import Request
from mentionforge.generation.backends.draw import draw_tokens, uniform_stream
from mentionforge.generation.settings import Sampling

# What makes it faster than `generate`: what all prompts share is read once; rows of ended notes are dropped; keys and values have their room from the
# beginning, so that no step copies them; and attention does not copy the keys for each head that shares them.

ROWS = 8
"""Batches on a CPU have a multiple of this many rows. Multiples of 4 gave equal bits in measurements (AVX2, AVX512); 8 is the width of larger kernels."""

ATTENTION = "mentionforge_grouped"
"""Name under which transformers knows `grouped_attention`."""


def suits(model: Any) -> bool:
    """Whether `write_tokens` can write with a model: its attention is Llama's, which `grouped_attention` computes, and it takes positions."""
    from transformers.models.llama import modeling_llama

    own = getattr(sys.modules[type(model).__module__], "eager_attention_forward", None)
    takes = inspect.signature(type(model.base_model).forward).parameters
    return (
        own is not None
        and inspect.getsource(own) == inspect.getsource(modeling_llama.eager_attention_forward)
        and {"position_ids", "past_key_values"} <= {*takes}
    )


def use_grouped_attention(model: Any) -> None:
    """Set a model to `grouped_attention`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(ATTENTION, grouped_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    model.set_attn_implementation(ATTENTION)


def grouped_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, dropout: float = 0.0, **_: Any
) -> tuple[Any, None]:  # the signature is that of transformers
    """Attention by plain matrix products, like transformers' "eager", without a copy of keys and values for each head of a group.

    Args:
        module: The layer.
        query: [rows, heads, new tokens, size].
        key: [rows, key heads, all tokens, size].
        value: The same.
        attention_mask: Added to the scores, [rows, 1, new tokens, all tokens]; none: nothing is hidden.
        scaling: Factor of the scores.
        dropout: Without effect: notes are written in eval mode.
    """
    import torch

    rows, heads, new, size = query.shape
    shared, tokens = key.shape[1:3]
    scores = torch.matmul(query.reshape(rows, shared, -1, size), key.transpose(2, 3)).mul_(scaling).view(rows, shared, -1, new, tokens)
    if attention_mask is not None:
        scores += attention_mask[:, :, None]
    weights = torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = torch.matmul(weights.view(rows, shared, -1, tokens), value)  # [rows, key heads, heads of a group x new tokens, size]
    return mixed.view(rows, heads, new, size).transpose(1, 2), None


class Prompts:
    """Keys and values of prompts: each prompt is read alone, after what it shares with the others, which is read once.

    Args:
        model: A causal language model that `suits`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.beginnings: dict[tuple[int, ...], Any] = {}

    def read(self, request: Request) -> list[tuple[Any, Any]] | None:
        """Keys and values, by layer, of a prompt up to its last token; none if the model caches anything else (sliding windows, states)."""
        beginning, rest = request.ids[: request.shared], request.ids[request.shared : -1]
        if not rest:
            beginning, rest = (), request.ids[:-1]
        if beginning and beginning not in self.beginnings:
            self.beginnings[beginning] = self._continued((), beginning)
        return self._continued(beginning, rest)

    def _continued(self, beginning: tuple[int, ...], rest: tuple[int, ...]) -> list[tuple[Any, Any]] | None:
        import torch
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        cache = None
        if beginning:
            if self.beginnings[beginning] is None:
                return None
            cache = DynamicCache()
            for i, (keys, values) in enumerate(self.beginnings[beginning]):
                cache.update(keys, values, i)
        # A multiple of `ROWS` tokens, like the rows of a batch. Those on the right are read after all others, so these do not depend on them.
        padded = torch.tensor([[*rest, *rest[-1:] * (-len(rest) % ROWS)]])
        length = len(beginning) + len(rest)
        places = torch.arange(len(beginning), len(beginning) + padded.shape[1])[None]
        cache = self.model.base_model(padded, position_ids=places, past_key_values=cache, use_cache=True).past_key_values
        if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return None
        layers: Any = cache.layers
        return [(layer.keys[:, :, :length], layer.values[:, :, :length]) for layer in layers]


def write_tokens(model: Any, prompts: Prompts, requests: Sequence[Request], width: int, settings: Sampling, stops: Sequence[int]) -> list[list[int]] | None:
    """Token ids of the notes of a batch, each up to its first stop token or the limit.

    Order of the steps: repetition penalty (on the note, not on the prompt), temperature, top-p, draw.

    Args:
        model: A causal language model that `suits`, with `use_grouped_attention`.
        prompts: Reads its prompts.
        requests: The notes; their prompts have at least two tokens.
        width: Padded length of the prompts, on which the bits of a note depend.
        settings: All but batch_size count.
        stops: Ids of the tokens that end a note.

    Returns:
        None if the model caches something other than keys and values of every token.
    """
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    rows = [*requests, *[requests[-1]] * (-len(requests) % ROWS)]
    cache = _filled(prompts, rows, width, settings.max_new_tokens)
    if cache is None:
        return None
    mask = torch.zeros(len(rows), 1, 1, width + settings.max_new_tokens, dtype=model.dtype)
    for row, request in zip(mask, rows, strict=True):
        row[..., : width - len(request.ids)] = torch.finfo(model.dtype).min
    penalty = RepetitionPenaltyLogitsProcessor(settings.repetition_penalty) if settings.repetition_penalty != 1 else None
    numbers = torch.stack([uniform_stream(request.seed, settings.max_new_tokens) for request in rows])  # [rows, steps]
    last = torch.tensor([request.ids[-1] for request in rows])
    place = torch.tensor([len(request.ids) - 1 for request in rows])
    written = torch.empty(len(rows), 0, dtype=torch.long)
    notes: list[list[int]] = [[] for _ in requests]
    of_row = list(range(len(rows)))  # which note a row writes; from len(requests) on, none
    open_ = set(range(len(requests)))
    for step in range(settings.max_new_tokens):
        scores = model(
            last[:, None],
            attention_mask=mask[..., : width + step],
            position_ids=place[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        scores = scores.float()
        if penalty and step:
            scores = penalty(written, scores)
        last = draw_tokens(scores / settings.temperature, numbers[:, step], settings.top_p)[:, 0]
        place = place + 1
        written = torch.cat([written, last[:, None]], dim=1) if penalty else written
        for note, token in zip(of_row, last.tolist(), strict=True):
            if note in open_:
                notes[note].append(token)
                if token in stops:
                    open_.remove(note)
        if not open_:
            break
        if len(open_) + ROWS <= len(of_row):
            kept = _rows_to_keep(of_row, open_)
            of_row = [of_row[row] for row in kept]
            index = torch.tensor(kept)
            last, place, written, mask, numbers = (x[index] for x in (last, place, written, mask, numbers))
            for layer in cache.layers:
                layer.batch_select_indices(index)
    return notes


def _rows_to_keep(of_row: Sequence[int], open_: set[int]) -> list[int]:
    """Rows of open notes, and as many others as make them a multiple of `ROWS`."""
    kept = [row for row, note in enumerate(of_row) if note in open_]
    others = [row for row, note in enumerate(of_row) if note not in open_]
    return sorted([*kept, *others[: -len(kept) % ROWS]])


def _filled(prompts: Prompts, rows: Sequence[Request], width: int, steps: int) -> Any:
    """The cache of a batch after its prompts but their last tokens, padded on the left, with room for all tokens of the notes."""
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    first: dict[tuple[int, ...], int] = {}
    for row, request in enumerate(rows):
        if request.ids in first:
            for layer in cache.layers:
                layer.copy_row(first[request.ids], row)
            continue
        first[request.ids] = row
        read = prompts.read(request)
        if read is None:
            return None
        if not cache.layers:
            cache.layers = [_layer_with_room(keys, len(rows), width - 1, steps) for keys, _ in read]
        for layer, (keys, values) in zip(cache.layers, read, strict=True):
            layer.set_row(row, keys[0], values[0])
    return cache


def _layer_with_room(like: Any, rows: int, used: int, steps: int) -> Any:
    """A layer of a cache with room for `steps` tokens after `used`."""
    import torch
    from transformers.cache_utils import DynamicLayer

    class LayerWithRoom(DynamicLayer):
        """Keys and values that are written into their places; what is handed out are views."""

        def __init__(self) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = like.dtype, like.device, True
            self.room = tuple(torch.zeros(rows, like.shape[1], used + steps, like.shape[3], dtype=like.dtype) for _ in range(2))
            self.show(used)

        def show(self, used: int) -> None:
            self.used = used
            self.keys, self.values = (room[:, :, :used] for room in self.room)

        def set_row(self, row: int, *read: Any) -> None:
            for room, tokens in zip(self.room, read, strict=True):
                room[row, :, self.used - tokens.shape[1] : self.used] = tokens

        def copy_row(self, source: int, target: int) -> None:
            for room in self.room:
                room[target] = room[source]

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            new = key_states.shape[2]
            for room, states in zip(self.room, (key_states, value_states), strict=True):
                room[:, :, self.used : self.used + new] = states
            self.show(self.used + new)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            self.room = tuple(room[indices] for room in self.room)
            self.show(self.used)

    return LayerWithRoom()
