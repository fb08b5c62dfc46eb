"""An HTTP service that annotates documents, and a page to paste a note.

In: JSON requests with documents. Out: JSON with mentions, or a status for requests that are too large, too many or too slow. Concurrent requests are
annotated together. Texts are never stored, logged or repeated in errors. There is no authentication. Knows nothing of how models are loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mentionforge import __version__
from mentionforge.annotate.pipeline import AnnotatedMention, Annotator
from mentionforge.annotate.writing import mention_record

log = logging.getLogger("mentionforge.serve")

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Limits:
    """Limits of requests: size in MB, documents, seconds until an answer, and requests in the queue."""

    max_mb: float = 2.0
    max_documents: int = 100
    timeout_s: float = 60.0
    waiting: int = 64


class Strict(BaseModel):
    """Base of the messages: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


def _unicode(text: str) -> str:
    """Refuse lone surrogates, which JSON can contain but UTF-8 cannot encode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate, which is no character") from error
    return text


Text = Annotated[str, AfterValidator(_unicode)]


class DocumentIn(Strict):
    """A text, with a name that comes back with its mentions."""

    text: Text
    doc_id: Text | None = None


class Query(Strict):
    """Documents to annotate."""

    documents: list[DocumentIn] = Field(min_length=1)


class Place(BaseModel):
    """Characters of the text (Unicode code points), end exclusive."""

    start: int
    end: int


class CodeOut(BaseModel):
    """A code of a concept, and the map that gave it."""

    vocabulary: str
    code: str
    preferred: bool
    via: str


class ConceptOut(BaseModel):
    """A concept, and how well it fits; with codes if the service was started with --codes."""

    cui: str
    name: str
    semantic_types: list[str]
    score: float
    codes: list[CodeOut] = []


class MentionOut(BaseModel):
    """A mention; see docs/annotate.md."""

    spans: list[Place]
    surface: str
    entity_type: str
    concept_ids: list[str]
    composite: bool
    score: float
    name: str | None
    semantic_types: list[str]
    nil: bool
    expanded: str | None
    ambiguous: bool
    context: list[str]
    concepts: list[ConceptOut]


class DocumentOut(BaseModel):
    """The mentions of a document, in order."""

    doc_id: str | None
    mentions: list[MentionOut]


class Answer(BaseModel):
    """The documents of the query, in order."""

    documents: list[DocumentOut]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Batcher:
    """Annotates the texts of all queued requests together, in one thread."""

    def __init__(self, annotator: Annotator, limits: Limits) -> None:
        self.annotator, self.limits = annotator, limits
        self.queue: asyncio.Queue[tuple[Sequence[str], asyncio.Future[list[list[AnnotatedMention]]]]] = asyncio.Queue(limits.waiting)
        self.thread = ThreadPoolExecutor(1, "annotate")
        self.batches = 0

    async def work(self) -> None:
        """Serve the queue until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.queue.get()]
            size = sum(map(len, batch[0][0]))
            while not self.queue.empty() and size < 400_000:
                batch.append(self.queue.get_nowait())
                size += sum(map(len, batch[-1][0]))
            batch = [(texts, future) for texts, future in batch if not future.done()]  # skip requests that have timed out
            if not batch:
                continue
            self.batches += 1
            try:
                mentions = await loop.run_in_executor(self.thread, self._annotate, [text for texts, _ in batch for text in texts])
            except Exception:  # annotate one by one, so that a failing request does not affect the others
                for texts, future in batch:
                    await self._annotate_alone(texts, future)
                continue
            for texts, future in batch:
                own_mentions, mentions = mentions[: len(texts)], mentions[len(texts) :]
                if not future.done():
                    future.set_result(own_mentions)

    async def _annotate_alone(self, texts: Sequence[str], future: asyncio.Future[list[list[AnnotatedMention]]]) -> None:
        if future.done():
            return
        try:
            mentions = await asyncio.get_running_loop().run_in_executor(self.thread, self._annotate, texts)
        except Exception as error:
            log.error("annotation failed: %s", type(error).__name__)  # without the message, which may contain text
            if not future.done():
                future.set_exception(RuntimeError(type(error).__name__))
        else:
            if not future.done():
                future.set_result(mentions)

    def _annotate(self, texts: Sequence[str]) -> list[list[AnnotatedMention]]:
        return list(self.annotator.annotate(texts))

    async def submit(self, texts: Sequence[str]) -> list[list[AnnotatedMention]]:
        """The mentions of some texts.

        Raises:
            asyncio.QueueFull: Too many requests wait.
            TimeoutError: The answer takes longer than `timeout_s`.
        """
        future: asyncio.Future[list[list[AnnotatedMention]]] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((texts, future))
        return await asyncio.wait_for(future, self.limits.timeout_s)


class KnownHosts(TrustedHostMiddleware):
    """Refuses requests with an unknown host name, except for `/health`, which orchestrators call by a changing address."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] == "http" and scope["path"] == "/health":
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class BodyLimit:
    """Refuses a request whose body exceeds the limit, whatever its header says, without reading all of it."""

    def __init__(self, app: Any, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        body = bytearray()
        too_long = not declared.isdigit() or int(declared) > self.max_bytes
        while not too_long:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            too_long = len(body) > self.max_bytes
            if not message.get("more_body"):
                break
        if too_long:
            await JSONResponse({"detail": f"the request is larger than {self.max_bytes / 1e6:g} MB"}, 413, SECURITY)(scope, receive, send)
            return
        whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def once() -> Any:
            return whole.pop() if whole else await receive()

        await self.app(scope, once, send)


def create(annotator: Annotator, limits: Limits = Limits(), hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")) -> FastAPI:
    """Create the application.

    Args:
        annotator: Recognizer and linker.
        limits: Limits of requests.
        hosts: Host names that requests may use; `*`: any.
    """
    batcher = Batcher(annotator, limits)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.work())
        yield
        task.cancel()
        batcher.thread.shutdown(wait=False, cancel_futures=True)

    # No interactive documentation: it would load scripts from other servers. /openapi.json is enough for tools.
    app = FastAPI(title="mentionforge", version=__version__, docs_url=None, redoc_url=None, lifespan=life, description="Diseases in texts, with UMLS concepts.")
    app.state.batcher = batcher

    @app.middleware("http")
    async def headers(request: Request, proceed: Callable[[Request], Awaitable[Any]]) -> Any:
        response = await proceed(request)
        response.headers.update(SECURITY)
        return response

    app.add_middleware(BodyLimit, max_bytes=int(limits.max_mb * 1_000_000))
    app.add_middleware(KnownHosts, allowed_hosts=list(hosts))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part)[:40] for part in first["loc"]).encode("ascii", "backslashreplace").decode()
        return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)  # without the input itself

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse((resources.files("mentionforge.annotate") / "page" / "index.html").read_text(encoding="utf-8"))

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the service is up."""
        return {"status": "ok", "mentionforge": __version__}

    @app.get("/about")
    async def about() -> dict[str, Any]:
        """What annotates: cells, knowledge base, and what was measured of them."""
        told = {"card": annotator.materials.card, "top": annotator.top, "nil_threshold": annotator.nil_threshold}
        return told | ({"codes": annotator.codes.vocabularies} if annotator.codes else {})

    problems: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (413, 422, 500, 503, 504)}

    @app.post("/annotate", response_model=Answer, response_model_exclude_unset=True, responses=problems)
    async def annotate(query: Query) -> Any:
        """The mentions of each document."""
        if len(query.documents) > limits.max_documents:
            return JSONResponse({"detail": f"more than {limits.max_documents} documents"}, 413)
        try:
            mentions_of = await batcher.submit([d.text for d in query.documents])
        except asyncio.QueueFull:
            return JSONResponse({"detail": "too many requests are waiting"}, 503, {"Retry-After": "5"})
        except TimeoutError:
            return JSONResponse({"detail": f"not done within {limits.timeout_s:g} s"}, 504)
        except RuntimeError as error:
            return JSONResponse({"detail": f"annotation failed: {error}"}, 500)
        rows = zip(query.documents, mentions_of, strict=True)
        return {"documents": [{"doc_id": d.doc_id, "mentions": [mention_record(m) for m in mentions]} for d, mentions in rows]}

    return app
