"""Backend `openai`: any server with OpenAI's protocol (vLLM, llama.cpp, a hospital's gateway). In: requests with prompts as text. Out: notes.

The client retries after time-outs, lost connections and status 408, 409, 429 and 5xx, honouring Retry-After. The key comes from the environment and appears
in no log, table or message. Prompts leave this machine: read the docs before you send definitions of a licensed knowledge base. Knows nothing about tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.generation.backends.contract import BackendKind, NoteWriter, Request, SampledGenerator, WrittenNote, refuse_nf4
from mentionforge.generation.settings import Sampling

VERSION = 1
"""Version of the part backend.openai: raise it if earlier results would be wrong (mentionforge.versions)."""


class OpenaiBackend(BackendKind):
    """A server that speaks OpenAI's protocol: vLLM, llama.cpp, a gateway."""

    part: ClassVar[str] = "backend.openai"
    loads_weights: ClassVar[bool] = False
    own_environment: ClassVar[bool] = False
    fixed_batches: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("openai",)
    identity: ClassVar[tuple[str, ...]] = ("model", "extra_body")
    identity_if_changed: ClassVar[Mapping[str, object]] = {"max_tokens_key": "max_tokens"}  # a server that does not know the key writes on

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://", examples=["http://localhost:8000/v1"], description="Address up to and with /v1.")
    model: str = Field(examples=["llama-3.1-8b-instruct"], description="What the server calls the model.")
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        examples=["OPENAI_API_KEY"],
        description="Environment variable that holds the key; none: the server wants no key. The key itself belongs in no file.",
    )
    concurrency: int = Field(8, ge=1, description="Requests under way at a time.")
    requests_per_minute: float | None = Field(None, gt=0, examples=[60], description="Most requests per minute, of one shard; none: no limit.")
    retries: int = Field(8, ge=0, description="Further tries after a time-out, a lost connection, or status 408, 409, 429 or 5xx, with growing pauses.")
    timeout_s: float = Field(600, gt=0, description="Longest wait for an answer, in seconds.")
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What chat completions call the longest note; newer servers want the second."
    )
    extra_body: dict[str, str | int | float | bool] = Field(
        default_factory=dict, examples=[{"top_k": 40}], description="Further parameters that the server understands (top_k, repetition_penalty, …)."
    )

    @property
    def gpus(self) -> int:
        """None: the server has them."""
        return 0

    def check(self, generator: SampledGenerator, key: str) -> None:
        """A server's model is sampled as it is, with what the protocol knows."""
        refuse_nf4(self.kind, generator, key)
        if generator.finetune:
            raise UserError(
                "nothing to fine-tune", f"{key}.finetune", "a server's model is sampled as it is", "set finetune: null, and serve a model that is fine-tuned"
            )
        if generator.sampling.repetition_penalty != 1:
            raise UserError(
                "unknown to the protocol",
                f"{key}.sampling.repetition_penalty",
                "OpenAI's protocol has none",
                "put what your server understands into backend.extra_body",
            )

    def device_settings(self, generator: SampledGenerator, model: Path | None) -> dict[str, Any]:
        """Empty: the server chooses."""
        return {}

    def writer(
        self, generator: SampledGenerator, model: Path | None, adapter: Path | None, scratch: Path, chosen: Mapping[str, Any] | None = None
    ) -> NoteWriter:
        """The backend; opens no connection yet."""
        return make(self, generator.sampling, generator.prompt_style, os.environ)


def make(settings: OpenaiBackend, sampling: Sampling, style: Literal["chat", "plain"], environment: Mapping[str, str]) -> NoteWriter:
    """The backend; opens no connection yet.

    Raises:
        UserError: The key's variable is not set.
    """
    import asyncio

    from mentionforge.generation.backends.openai_requests import PendingRequests

    key = "none"  # the client wants one; servers without keys ignore it
    if settings.api_key_env:
        key = environment.get(settings.api_key_env, "").strip()  # a key read from a file may bring the end of its line
        if not key:
            fix = "export it where the job runs; the key itself belongs in no file"
            raise UserError("missing key", "config: generators.*.backend.api_key_env", f"{settings.api_key_env} is not set", fix)

    def write(requests: Sequence[Request], done: Mapping[str, WrittenNote]) -> Iterator[list[WrittenNote]]:
        waiting = [r for r in sorted(requests, key=lambda r: r.note_id) if r.note_id not in done]
        with asyncio.Runner() as runner:
            yield from PendingRequests(settings, sampling, style, key).run(runner, waiting)

    return write
