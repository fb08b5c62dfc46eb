"""Backend `continuous`: transformers' paged continuous batching, where a finished note makes room for the next one at once.

In: requests. Out: notes. Each note draws from its own random stream (`draw`), but rounding depends on the notes beside it: after a kill, a resumed job may
write some notes differently, above all in bfloat16. Knows nothing about tables and shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.generation.backends.contract import (
    NoteWriter,
    Request,
    SampledGenerator,
    WrittenNote,
    decode_note,
    refuse_nf4,
    require_weights,
    stop_token_ids,
)
from mentionforge.generation.backends.decoding import ATTENTION
from mentionforge.generation.backends.draw import draw_tokens, keep_only, uniform_stream
from mentionforge.generation.backends.local import LocalBackend
from mentionforge.generation.settings import Sampling

VERSION = 2
"""Version of the part backend.continuous: raise it if earlier results would be wrong (mentionforge.versions)."""


class ContinuousBackend(LocalBackend):
    """transformers' paged continuous batching: a note that ends makes room for the next one at once."""

    part: ClassVar[str] = "backend.continuous"
    fixed_batches: ClassVar[bool] = False

    kind: Literal["continuous"]
    num_blocks: int | None = Field(
        None, ge=1, examples=[512], description="Blocks of 256 tokens in the paged cache; none: what batch_size notes need on a CPU, what fits on a GPU."
    )
    max_batch_tokens: int | None = Field(None, ge=1, examples=[2048], description="Most tokens in one pass; none: two per note on a CPU, what fits on a GPU.")

    def check(self, generator: SampledGenerator, key: str) -> None:
        """Check that there are weights in full precision and no repetition penalty."""
        refuse_nf4(self.kind, generator, key)
        require_weights(self.kind, generator, key)
        if generator.sampling.repetition_penalty != 1:
            raise UserError(
                "not possible", f"{key}.sampling.repetition_penalty", "continuous batching applies none", "set it to 1, or choose backend kind: transformers"
            )

    def writer_with(self, sampling: Sampling, model: Any, tokenizer: Any) -> NoteWriter:
        """The backend with a model that is already loaded."""
        return make(self, sampling, model, tokenizer)


PAGE = 256
"""Tokens in a page of the cache: transformers' default."""


def make(settings: ContinuousBackend, sampling: Sampling, model: Any, tokenizer: Any) -> NoteWriter:
    """The backend with a model that is already loaded."""
    stops = stop_token_ids(model, tokenizer)

    def write(requests: Sequence[Request], done: Mapping[str, WrittenNote]) -> Iterator[list[WrittenNote]]:
        waiting = {r.note_id: r for r in sorted(requests, key=lambda r: (-len(r.ids), r.note_id)) if r.note_id not in done}
        if model.config._attn_implementation == ATTENTION:  # as the backend `transformers` leaves it
            model.set_attn_implementation("eager")
        manager = model.init_continuous_batching(
            generation_config(sampling, stops, tokenizer.pad_token_id), batching_config(settings, sampling, waiting.values(), model.device.type)
        )
        _use_own_draws(manager.logit_processor, sampling, waiting)
        for request in waiting.values():  # added before the start, so that the schedule does not depend on the clock
            manager.add_request(list(request.ids), request_id=request.note_id, max_new_tokens=sampling.max_new_tokens, eos_token_id=stops)
        manager.start()
        try:
            while waiting:
                result = manager.get_result(timeout=1)
                if result is None and not manager.is_running():
                    raise _failed(f"{len(waiting):,} notes were not written")
                if result is not None and result.is_finished():
                    if result.error:
                        raise _failed(result.error)
                    yield [decode_note(waiting.pop(result.request_id), result.generated_tokens, tokenizer, stops)]
        finally:
            manager.stop(block=True, timeout=5, hard_stop=True)
            manager.destroy()

    return write


def _failed(why: str) -> UserError:
    return UserError("continuous batching failed", "config: generators.*.backend", why, "lower num_blocks or max_batch_tokens, or choose kind: transformers")


def generation_config(sampling: Sampling, stops: list[int], padding: int) -> Any:
    """Settings of the generation: arg-max over the scores, of which the draw leaves one token."""
    from transformers import GenerationConfig

    return GenerationConfig(max_new_tokens=sampling.max_new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=padding)


def batching_config(settings: ContinuousBackend, sampling: Sampling, requests: Any, device: str) -> Any:
    """Sizes of the paged cache.

    On a GPU, transformers chooses the sizes that are not set. On a CPU they are set to fit batch_size notes, since transformers' choice there takes
    most of the memory and is many times slower.
    """
    from transformers import ContinuousBatchingConfig

    longest, rows = max((len(r.ids) for r in requests), default=1), sampling.rows(device)
    blocks, tokens = settings.num_blocks, settings.max_batch_tokens
    if device == "cpu":
        blocks = blocks or rows * -(-(longest + sampling.max_new_tokens) // PAGE)
        tokens = tokens or max(longest, 2 * rows)
    return ContinuousBatchingConfig(page_size=PAGE, num_blocks=blocks, max_batch_tokens=tokens, max_requests_per_batch=rows, use_async_batching=False)


def _use_own_draws(processors: Any, sampling: Sampling, requests: Mapping[str, Request]) -> None:
    """Replace the logits processors of a manager that has not started by one that draws each note's token from its stream."""
    from transformers import LogitsProcessorList

    processors.logits_processor = LogitsProcessorList([_processor(sampling, requests)])
    processors.tensors_required, processors.do_processing = 1, True


def _processor(sampling: Sampling, requests: Mapping[str, Request]) -> Any:
    import torch
    from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

    streams: dict[str, Any] = {}

    class DrawPaged(ContinuousBatchingLogitsProcessor):
        """Gives each row the next number of its note's stream, then leaves only the token drawn with it."""

        supported_kwargs: dict[str, type] = {}  # noqa: RUF012
        ignored_kwargs: tuple[str, ...] = ()

        def fill_defaults(self, int32_tensor: Any) -> None:
            int32_tensor.zero_()

        def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Any:
            numbers = [self._number(future.state) for future in requests_with_new_token]
            return torch.tensor(numbers, dtype=torch.float32).view(dtype=torch.int32)  # the manager stores integers; the bits stay

        def _number(self, state: Any) -> float:
            # A request that was evicted comes back with its earlier output as part of the prompt.
            before = len(state.initial_tokens) - state._true_initial_tokens if state._true_initial_tokens else 0
            step = before + len(state.generated_tokens)
            if state.request_id not in streams:
                request = requests.get(state.request_id)  # none: a request of the manager itself, to warm up
                streams[state.request_id] = uniform_stream(request.seed if request else 0, sampling.max_new_tokens + 1)
            return float(streams[state.request_id][min(step, sampling.max_new_tokens)])

        def __call__(self, scores: Any, tensor_arg: Any) -> Any:
            uniform = tensor_arg[: scores.size(0)].view(dtype=torch.float32)
            scores = scores / sampling.temperature
            return keep_only(scores, draw_tokens(scores, uniform, sampling.top_p))

    return DrawPaged()
