"""Backend `continuous`: transformers' paged continuous batching. A note that ends makes room for the next one at once.

Each note draws from its own random stream (`draw`), whatever it is scheduled with. Rounding still depends on that, so a job that
was killed and goes on may write some notes otherwise than an uninterrupted one would have, above all in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mentionforge import config
from mentionforge.errors import UserError
from mentionforge.generation.backends import Backend, Request, Written, note, stop_tokens
from mentionforge.generation.backends.draw import drawn, only, stream

VERSION = 1
"""Of the part backend.continuous: raise it where earlier results would be wrong (mentionforge.versions)."""

PAGE = 256
"""Tokens of a page of the cache: transformers' own default."""


def make(settings: config.ContinuousBackend, sampling: config.Sampling, model: Any, tokenizer: Any) -> Backend:
    """The backend over a loaded model."""
    stops = stop_tokens(model, tokenizer)

    def write(requests: Sequence[Request], done: Mapping[str, Written]) -> Iterator[list[Written]]:
        waiting = {r.note_id: r for r in sorted(requests, key=lambda r: (-len(r.ids), r.note_id)) if r.note_id not in done}
        manager = model.init_continuous_batching(
            plan(sampling, stops, tokenizer.pad_token_id), batching(settings, sampling, waiting.values(), model.device.type)
        )
        _draw_in(manager.logit_processor, sampling, waiting)
        for request in waiting.values():  # before the start, so that the schedule does not depend on the clock
            manager.add_request(list(request.ids), request_id=request.note_id, max_new_tokens=sampling.max_new_tokens, eos_token_id=stops)
        manager.start()
        try:
            while waiting:
                found = manager.get_result(timeout=1)
                if found is None and not manager.is_running():
                    raise _failed(f"{len(waiting):,} notes were not written")
                if found is not None and found.is_finished():
                    if found.error:
                        raise _failed(found.error)
                    yield [note(waiting.pop(found.request_id), found.generated_tokens, tokenizer, stops)]
        finally:
            manager.stop(block=True, timeout=5, hard_stop=True)
            manager.destroy()

    return write


def _failed(why: str) -> UserError:
    return UserError("continuous batching failed", "config: generators.*.backend", why, "lower num_blocks or max_batch_tokens, or choose kind: transformers")


def plan(sampling: config.Sampling, stops: list[int], padding: int) -> Any:
    """Generation settings: arg-max over what the draw leaves."""
    from transformers import GenerationConfig

    return GenerationConfig(max_new_tokens=sampling.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=padding)


def batching(settings: config.ContinuousBackend, sampling: config.Sampling, requests: Any, device: str) -> Any:
    """Sizes of the paged cache.

    What is not given is transformers' choice on a GPU. On a CPU it is room for batch_size notes: what transformers chooses there takes
    most of the memory and is many times slower.
    """
    from transformers import ContinuousBatchingConfig

    longest = max((len(r.ids) for r in requests), default=1)
    blocks, tokens = settings.num_blocks, settings.max_batch_tokens
    if device == "cpu":
        blocks = blocks or sampling.batch_size * -(-(longest + sampling.max_new_tokens) // PAGE)
        tokens = tokens or max(longest, 2 * sampling.batch_size)
    return ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=blocks, max_batch_tokens=tokens, max_requests_per_batch=sampling.batch_size, use_async_batching=False
    )


def _draw_in(processors: Any, sampling: config.Sampling, requests: Mapping[str, Request]) -> None:
    """Make a processor that draws each note's token the only one of a manager that has not started."""
    from transformers import LogitsProcessorList

    processors.logits_processor = LogitsProcessorList([_processor(sampling, requests)])
    processors.tensors_required, processors.do_processing = 1, True


def _processor(sampling: config.Sampling, requests: Mapping[str, Request]) -> Any:
    import torch
    from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

    streams: dict[str, Any] = {}

    class DrawPaged(ContinuousBatchingLogitsProcessor):
        """Hands each row the next number of its note's stream, then leaves the token drawn with it."""

        supported_kwargs: dict[str, type] = {}  # noqa: RUF012
        ignored_kwargs: tuple[str, ...] = ()

        def fill_defaults(self, int32_tensor: Any) -> None:
            int32_tensor.zero_()

        def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Any:
            numbers = [self._number(future.state) for future in requests_with_new_token]
            return torch.tensor(numbers, dtype=torch.float32).view(dtype=torch.int32)  # the manager stores integers; the bits stay

        def _number(self, state: Any) -> float:
            # A request that made room for others comes back with what it wrote as part of its prompt.
            before = len(state.initial_tokens) - state._true_initial_tokens if state._true_initial_tokens else 0
            step = before + len(state.generated_tokens)
            if state.request_id not in streams:
                found = requests.get(state.request_id)  # none: a request of the manager's own, to warm up
                streams[state.request_id] = stream(found.seed if found else 0, sampling.max_new_tokens + 1)
            return float(streams[state.request_id][min(step, sampling.max_new_tokens)])

        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            uniform = tensor_arg[: scores.size(0)].view(dtype=torch.float32)
            scores = scores / sampling.temperature
            return only(scores, drawn(scores, uniform, sampling.top_p))

    return DrawPaged()
