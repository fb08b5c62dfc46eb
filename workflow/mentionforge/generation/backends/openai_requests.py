"""Sends the requests of the backend `openai`. In: requests and settings. Out: notes as the server answers, or one error.

A module of its own, since it needs asyncio. Knows nothing about tables and shards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from mentionforge.errors import UserError
from mentionforge.generation.backends.contract import Request, WrittenNote
from mentionforge.generation.backends.openai import OpenaiBackend
from mentionforge.generation.settings import Sampling
from mentionforge.progress import say

FINISHED = {"length": "length", "content_filter": "content_filter"}
"""Finish reasons of servers and ours; all others become `stop`."""


class PendingRequests:
    """The requests of a shard that are being sent."""

    def __init__(self, settings: OpenaiBackend, sampling: Sampling, style: Literal["chat", "plain"], key: str) -> None:
        self.settings, self.sampling, self.style, self.key = settings, sampling, style, key
        self.failure: Exception | None = None
        self.retries = 0
        self.next_start = 0.0

    def run(self, runner: asyncio.Runner, waiting: Sequence[Request]) -> Iterator[list[WrittenNote]]:
        """Yield notes as they arrive. After a failure, yield the notes of the requests already sent, then raise it.

        Raises:
            UserError: A request failed after all retries.
        """
        pending = runner.run(self._start(waiting))
        try:
            while pending:
                finished, pending = runner.run(_first_completed(pending))
                notes = [task.result() for task in finished]
                yield [written for written in notes if written is not None]
            if self.failure:
                raise self._as_user_error(self.failure) from None
        finally:
            runner.run(self._stop(pending))
            if self.retries:
                say(f"{self.retries:,} requests were tried again")

    async def _start(self, waiting: Sequence[Request]) -> set[asyncio.Task[WrittenNote | None]]:
        from openai import AsyncOpenAI

        try:
            self.client = AsyncOpenAI(base_url=self.settings.base_url, api_key=self.key, max_retries=self.settings.retries, timeout=self.settings.timeout_s)
        except Exception as error:  # the HTTP library raises its own type of error
            where = "config: generators.*.backend.base_url"
            raise UserError("no address", where, f"{self.settings.base_url}: {_first_line(str(error))}", "write it as http://HOST:PORT/v1") from error
        self.semaphore = asyncio.Semaphore(self.settings.concurrency)
        return {asyncio.create_task(self._write_note(request)) for request in waiting}

    async def _stop(self, pending: set[asyncio.Task[WrittenNote | None]]) -> None:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self.client.close()

    async def _write_note(self, request: Request) -> WrittenNote | None:
        from openai import OpenAIError

        async with self.semaphore:
            if self.failure:  # send no new request
                return None
            await self._wait_for_slot()
            try:
                return await self._send(request)
            except (OpenAIError, ValueError, AttributeError, TypeError) as error:  # the last three: an answer of an unexpected shape
                self.failure = self.failure or error
                return None

    async def _wait_for_slot(self) -> None:
        """Wait so that requests are spaced evenly, at most `requests_per_minute` in a minute."""
        if self.settings.requests_per_minute is None:
            return
        now = asyncio.get_running_loop().time()
        mine = max(now, self.next_start)
        self.next_start = mine + 60 / self.settings.requests_per_minute
        await asyncio.sleep(mine - now)

    async def _send(self, request: Request) -> WrittenNote:
        endpoint = self.client.chat.completions if self.style == "chat" else self.client.completions
        raw = await endpoint.with_raw_response.create(**arguments(self.settings, self.sampling, self.style, request))
        self.retries += raw.retries_taken
        answer = raw.parse()
        if not getattr(answer, "choices", None):
            raise ValueError("the answer holds no choice")
        choice = answer.choices[0]
        text = choice.message.content if self.style == "chat" else choice.text
        usage = getattr(answer, "usage", None)
        return WrittenNote(
            request.note_id,
            (text or "").strip(),
            FINISHED.get(choice.finish_reason or "", "stop"),
            _count(getattr(usage, "completion_tokens", None), len((text or "").split())),
            _count(getattr(usage, "prompt_tokens", None), 0),
        )

    def _as_user_error(self, error: Exception) -> UserError:
        from openai import APIConnectionError, APIStatusError

        where = f"server {self.settings.base_url}"
        if isinstance(error, APIStatusError):
            why = f"status {error.status_code}: {_first_line(error.message)}"
            fix = "check the key" if error.status_code in (401, 403) else "check the server and backend.model"
        elif isinstance(error, APIConnectionError):
            why, fix = f"{_first_line(str(error))} ({type(error.__cause__ or error).__name__})", "check that the server runs and that base_url is right"
        else:
            why, fix = f"no answer of the protocol ({_first_line(str(error))})", "check that base_url is that of an OpenAI-compatible server"
        if self.settings.api_key_env:
            why = why.replace(self.key, "***")
        tried = f"after {self.settings.retries} retries" if self.settings.retries else "without retries"
        return UserError("the server does not write", where, f"{why}, {tried}", f"{fix}; finished notes are kept: run the job again and it goes on")


def arguments(settings: OpenaiBackend, sampling: Sampling, style: Literal["chat", "plain"], request: Request) -> dict[str, Any]:
    """Arguments of the request for one note: a chat completion or, with the prompt style `plain`, a completion of the framed prompt."""
    body: dict[str, Any]
    if style == "chat":
        body = {"messages": [{"role": "user", "content": request.prompt}], settings.max_tokens_key: sampling.max_new_tokens}
    else:
        body = {"prompt": request.prompt, "max_tokens": sampling.max_new_tokens}
    common = {"model": settings.model, "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": request.seed}
    return {**body, **common} | ({"extra_body": dict(settings.extra_body)} if settings.extra_body else {})


async def _first_completed(pending: set[asyncio.Task[Any]]) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
    return await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


def _count(reported: object, default: int) -> int:
    """The number of tokens that a server reports, or the default: the client does not check answers, and some gateways leave counts out."""
    return reported if isinstance(reported, int) and reported >= 0 else default


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:300]
