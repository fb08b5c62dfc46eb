"""Backend `vllm`: vLLM's offline engine, in its own conda environment (envs/vllm.yaml), since it pins other versions of libraries.

In: requests. Out: notes. The engine loads the adapter as it is, or a subprocess merges it into the weights first. Each note has its own seed; rounding
depends on the notes scheduled with it. `make test-vllm` runs all of it on a CPU. Knows nothing about tables and shards.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.generation.backends.contract import BackendKind, NoteWriter, Request, SampledGenerator, WrittenNote, refuse_nf4, require_weights
from mentionforge.generation.settings import Sampling
from mentionforge.provenance import digest

VERSION = 1
"""Version of the part backend.vllm: raise it if earlier results would be wrong (mentionforge.versions)."""


class VllmBackend(BackendKind):
    """vLLM's offline engine, in the environment of envs/vllm.yaml."""

    part: ClassVar[str] = "backend.vllm"
    loads_weights: ClassVar[bool] = True
    own_environment: ClassVar[bool] = True
    fixed_batches: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "vllm")
    identity: ClassVar[tuple[str, ...]] = ("adapter",)
    identity_if_changed: ClassVar[Mapping[str, object]] = {"max_model_tokens": None}  # a limit cuts notes short

    kind: Literal["vllm"]
    adapter: Literal["lora", "merged"] = Field("lora", description="How the adapter is used: given to the engine, or merged into the weights first.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that the model is spread over.")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="Share of each GPU's memory that the engine takes.")
    max_model_tokens: int | None = Field(None, ge=16, examples=[4096], description="Longest prompt and note together; none: the model's own limit.")
    chunk: int = Field(512, ge=1, description="Notes handed over at a time; a killed job loses those of one chunk at most.")
    scratch: str | None = Field(
        None,
        examples=["/scratch"],
        description="Folder for merged weights while a shard is written, such as $TMPDIR of a job with room for them; none: beside the shard's notes.",
    )

    @property
    def gpus(self) -> int:
        """GPUs that the model is spread over."""
        return self.tensor_parallel

    @property
    def merges_adapter(self) -> bool:
        """If the adapter is not given to the engine."""
        return self.adapter == "merged"

    def check(self, generator: SampledGenerator, key: str) -> None:
        """Check that there are weights, and that they are not sampled in 4 bits."""
        refuse_nf4(self.kind, generator, key)
        require_weights(self.kind, generator, key)

    def device_settings(self, generator: SampledGenerator, model: Path | None) -> dict[str, Any]:
        """Empty: the engine chooses."""
        return {}

    def writer(
        self, generator: SampledGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None
    ) -> NoteWriter:
        """The backend with its engine started."""
        assert model, "the config is checked for it"
        return make(self, generator.sampling, model, adapter, generator.dtype, scratch)


RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that the engine accepts as the highest rank of an adapter."""

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process: the schedule is reproducible, and kill -9 leaves no orphan
    "VLLM_NO_USAGE_STATS": "1",  # no hidden use of the network
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""Environment variables for the engine, unless the user has set them."""


def make(settings: VllmBackend, sampling: Sampling, model: Path, adapter: Path | None, dtype: str, scratch: Path) -> NoteWriter:
    """The backend, its engine started.

    Args:
        settings: Settings of the engine.
        sampling: Settings of the sampling.
        model: Stamp of the fetched weights (fetched.json).
        adapter: Folder of the adapter; none: the model without an adapter.
        dtype: Data type of the weights.
        scratch: Folder for merged weights, unless `settings.scratch` names another. A killed job leaves it, and the next run of the job uses it.

    Raises:
        UserError: vLLM is not installed, cannot use or merge the adapter, or does not start.
    """
    from mentionforge.generation import merging
    from mentionforge.models import folder

    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except (ImportError, RuntimeError) as error:
        fix = "run with --sdm conda, or make an environment from envs/vllm.yaml; or choose kind: transformers"
        raise UserError("vLLM is not installed", "config: generators.*.backend.kind", _first_line(error), fix) from error

    cleanups = _clean_up_at_exit()
    try:
        merged = None
        if adapter and settings.adapter == "merged":
            merged = folder_for_merged(settings, scratch)
            cleanups.callback(merging.remove, merged)
            merging.merge_in_subprocess(model, adapter, merging.dtype_of(dtype), merged)
        arguments = engine_arguments(settings, merged or folder(model), None if merged else adapter, dtype)
        try:
            engine = LLM(**arguments)
        except Exception as error:
            raise start_error(error) from error
        cleanups.callback(_shut_down, engine)
    except BaseException:
        cleanups.close()
        raise
    lora = LoRARequest("adapter", 1, str(adapter)) if adapter and not merged else None
    tokenizer = engine.get_tokenizer()

    def write(requests: Sequence[Request], done: Mapping[str, WrittenNote]) -> Iterator[list[WrittenNote]]:
        waiting = [r for r in sorted(requests, key=lambda r: r.note_id) if r.note_id not in done]
        with cleanups:
            check_lengths(waiting, sampling.max_new_tokens, int(engine.llm_engine.model_config.max_model_len))
            for start in range(0, len(waiting), settings.chunk):
                chunk = waiting[start : start + settings.chunk]
                prompts = [{"prompt_token_ids": list(r.ids)} for r in chunk]
                parameters = [SamplingParams(**sampling_arguments(sampling, r.seed)) for r in chunk]
                try:
                    outputs = engine.generate(prompts, parameters, lora_request=lora, use_tqdm=False)
                except Exception as error:
                    fix = f"{suggested_fix(str(error))}; finished notes are kept: run the job again and it goes on"
                    raise UserError("the engine does not write", "backend vllm", _first_line(error), fix) from error
                yield [note_of_output(request, output, tokenizer) for request, output in zip(chunk, outputs, strict=True)]

    return write


def _clean_up_at_exit() -> ExitStack:
    """A stack for clean-ups, which is closed when the process ends, also by SIGTERM, with which schedulers cancel jobs."""
    cleanups = ExitStack()
    atexit.register(cleanups.close)
    cleanups.callback(atexit.unregister, cleanups.close)
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGTERM)
        cleanups.callback(signal.signal, signal.SIGTERM, before)
        signal.signal(signal.SIGTERM, _exit_on_signal)
    return cleanups


def _exit_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _shut_down(engine: Any) -> None:
    """Stop the engine and its workers. Errors are suppressed, since they would hide the reason for stopping."""
    with suppress(Exception):
        engine.llm_engine.engine_core.shutdown()
    with suppress(Exception):
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()


def folder_for_merged(settings: VllmBackend, scratch: Path) -> Path:
    """The folder for merged weights: one of this job in `settings.scratch`, or `scratch` if that is not set.

    Raises:
        UserError: `settings.scratch` names a variable that is not set, or is no folder.
    """
    if settings.scratch is None:
        return scratch
    where = Path(os.path.expandvars(settings.scratch)).expanduser()
    if "$" in str(where) or not where.is_dir():
        raise UserError("no such folder", "config: generators.*.backend.scratch", f"{settings.scratch} is {where}", "create it, or leave the setting out")
    return where / f"mentionforge-{digest(str(scratch.absolute()))}.merged"


def engine_arguments(settings: VllmBackend, model: Path, adapter: Path | None, dtype: str) -> dict[str, Any]:
    """Arguments of `vllm.LLM`. The engine reserves memory for the adapter by its rank."""
    arguments: dict[str, Any] = {
        "model": str(model),
        "dtype": dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": settings.gpu_memory,
        "max_model_len": settings.max_model_tokens,
        "enable_prefix_caching": True,  # the notes of one concept have one prompt
        "generation_config": "vllm",  # all sampling settings come from the config; only the stop tokens come from the model's folder
        "seed": 0,
    }
    if adapter:
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        room = next((r for r in RANKS if r >= rank), None)
        if room is None:
            raise UserError("rank too large", "config: finetune.lora.r", f"vLLM takes adapters of rank up to {RANKS[-1]}", "set backend.adapter: merged")
        arguments |= {"enable_lora": True, "max_lora_rank": room}
    return arguments


def sampling_arguments(sampling: Sampling, seed: int) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams` for one note."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
        "detokenize": False,  # see `note_of_output`
    }


def check_lengths(requests: Sequence[Request], new: int, limit: int) -> None:
    """Check before the first note that all prompts fit; log how many notes may be cut short.

    Args:
        requests: The notes to write.
        new: Longest note, in tokens.
        limit: Longest prompt and note together, in tokens.

    Raises:
        UserError: A prompt leaves no room for a note.
    """
    from mentionforge.progress import say

    if not requests:
        return
    longest = max(requests, key=lambda r: len(r.ids))
    if len(longest.ids) >= limit:
        why = f"that of {longest.note_id} has {len(longest.ids):,} tokens, and prompt and note have {limit:,} together"
        raise UserError("prompt too long", "config: generators.*.backend.max_model_tokens", why, "raise it as far as the model allows, or shorten the prompts")
    if tight := sum(len(r.ids) + new > limit for r in requests):
        say(f"{tight:,} of {len(requests):,} notes have less room than max_new_tokens: prompt and note have {limit:,} tokens together")


def start_error(error: Exception) -> UserError:
    """The error for an engine that does not start, with a suggested fix."""
    return UserError("the engine does not start", "backend vllm", _first_line(error), suggested_fix(str(error)))


def suggested_fix(text: str) -> str:
    """A fix for an error of the engine, found by keywords in its text."""
    text = text.lower()
    if "max_model_len" in text or ("max model len" in text and "kv cache" not in text):
        return "lower backend.max_model_tokens to what the model reads"
    if "memory" in text or "kv cache" in text:
        return "lower backend.max_model_tokens, change backend.gpu_memory, spread the model by backend.tensor_parallel, or choose kind: transformers"
    if "bfloat16" in text or "dtype" in text:
        return "set the generator's dtype: float16 where the device has no bfloat16"
    if any(word in text for word in ("lora", "dora", "adapter", "modules_to_save")):
        return "set backend.adapter: merged, or choose kind: transformers"
    if "world size" in text or "tensor parallel" in text or "tensor_parallel" in text or "attention heads" in text:
        return "set backend.tensor_parallel to a number of GPUs that are there and divide the model's attention heads"
    return "its own messages are above; or choose kind: transformers"


def _first_line(error: Exception) -> str:
    """The first informative line of an error's text: pydantic puts a count before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if re.match(r"\d+ validation errors? for ", lines[0]) and len(lines) > 1:
        lines = lines[1:]
    return textwrap.shorten(re.sub(r"\s*\[type=.*", "", lines[0].removeprefix("Value error, ")), 240, placeholder=" …")


def note_of_output(request: Request, output: Any, tokenizer: Any) -> WrittenNote:
    """A note from a `vllm.RequestOutput`; the token that ends it is not counted.

    All tokens are decoded at once, as in the other backends. The engine decodes token by token, which gives another text for cut or broken
    characters of several bytes.
    """
    [completion] = output.outputs
    stopped = completion.finish_reason == "stop"
    ids = list(completion.token_ids)[: len(completion.token_ids) - stopped]
    return WrittenNote(request.note_id, tokenizer.decode(ids, skip_special_tokens=True).strip(), "stop" if stopped else "length", len(ids), len(request.ids))
