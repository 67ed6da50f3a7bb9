"""A model on a remote server, as a ChatModel."""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import anyio
import httpx

from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    FinishReason,
    Message,
    StreamingMode,
    TextDelta,
    Thinking,
    Timings,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.host.remote.chat_request import Quirks, build_body
from phi3_ui.host.remote.chat_stream import DONE, MAX_EVENT, Chunk, MalformedError, parse_chunk, read_events
from phi3_ui.host.remote.failures import (
    RemoteTarget,
    RequestError,
    failure_from_event,
    failure_from_network,
    failure_from_status,
)
from phi3_ui.host.remote.http_loop import HttpLoop, is_compressed, read_body
from phi3_ui.remote_servers import RemoteServer

logger = logging.getLogger(__name__)

_FIRST_SECONDS = 300.0
"""Timeout for the first token: the server may have to load the model and prefill a long prompt."""
_SILENT_SECONDS = 60.0
"""Timeout for each later chunk."""
_LAST_SECONDS = 5.0
"""Timeout for the usage, once the answer has ended."""
_RETRIES = 2
_RETRY_SECONDS = 0.5  # before the first retry; twice as long before the second
_MAX_ANSWER = 4_000_000  # characters; no model writes so much, but a malicious server could
_MAX_PIECES = 500_000

Put = Callable[["AnswerEvent | UserError"], None]


class RemoteModel:
    """One model of one server. Thread-safe."""

    def __init__(
        self,
        server: RemoteServer,
        model: str,
        loop: HttpLoop,
        *,
        opening: tuple[Message, ...] = (),
        max_answers: int,
    ) -> None:
        """Send nothing yet. `opening`: messages that precede every conversation; `max_answers`: the limit of concurrent answers."""
        self.target = RemoteTarget(server, model)
        self.ready: Future[StreamingMode] = Future()
        self.ready.set_result("stream")
        self._loop = loop
        self._opening = opening
        self._max_answers = max_answers
        self._lock = threading.Lock()  # guards the attributes below
        self._quirks = Quirks()
        self._answers = 0

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel. Cancelling closes the connection, so that the server stops."""
        with self._lock:
            if self._answers >= self._max_answers:
                raise UserError("queue_full", model=self.target.model, count=self._answers)
            self._answers += 1
        try:
            yield from self._answer(request, cancel)
        finally:
            with self._lock:
                self._answers -= 1

    def _answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        events = queue.SimpleQueue[AnswerEvent | UserError]()
        state = _Answer(events.put)
        try:
            task = self._loop.start(lambda client: self._run(client, request, state))
        except RuntimeError as error:
            raise UserError("interrupted") from error
        task.add_done_callback(
            lambda _: events.put(UserError("interrupted"))
        )  # consumed only if nothing else has ended the answer

        def stop() -> None:
            events.put(state.complete("cancelled"))
            task.cancel()

        cancel.on_set(stop)
        try:
            while True:
                event = events.get()
                if isinstance(event, UserError):
                    raise event
                yield event
                if isinstance(event, Completed):
                    return
        finally:
            task.cancel()

    async def _run(self, client: httpx.AsyncClient, request: ChatRequest, state: "_Answer") -> None:
        """Send the request, and queue the events of the answer, or the error that ended it."""
        try:
            with anyio.move_on_after(request.time_limit) as limit:
                await self._ask(client, request, state)
            if limit.cancelled_caught:
                state.put(state.complete("timeout"))
        except RequestError as error:
            logger.warning("%s", error.error)
            state.put(error.error)
        except UserError as error:
            state.put(error)
        except Exception as error:
            logger.exception("The request to %s of %s failed", self.target.model, self.target.server.name)
            state.put(UserError("unexpected", detail=type(error).__name__))

    async def _ask(self, client: httpx.AsyncClient, request: ChatRequest, state: "_Answer") -> None:
        """Send the request, with retries only until the first token arrives. Raises RequestError."""
        retries = 0
        while True:
            quirks = self._quirks
            try:
                await self._stream(client, request, quirks, state)
            except _RefusedFieldError as refusal:
                with self._lock:
                    self._quirks = refusal.quirks
            except RequestError as error:
                if error.retry_after is None or retries == _RETRIES or state.has_begun:
                    raise
                backoff = _RETRY_SECONDS * 2**retries * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load
                retries += 1
                await anyio.sleep(max(backoff, error.retry_after))
            else:
                return

    async def _stream(self, client: httpx.AsyncClient, request: ChatRequest, quirks: Quirks, state: "_Answer") -> None:
        """Send the request once. Raises RequestError or _RefusedFieldError."""
        server, model = self.target.server, self.target.model
        body = build_body(server, model, request, quirks, self._opening)
        has_response = False
        try:
            prepared = client.build_request("POST", server.chat_url(model), json=body, headers=server.headers())
            with anyio.fail_after(_FIRST_SECONDS):
                response = await client.send(prepared, stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    await self._raise_error(response, quirks)
                if is_compressed(response):
                    raise MalformedError("it compresses its answer, contrary to the request")
                has_response = True
                await self._read(response, state)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if isinstance(error, TimeoutError):
                raise RequestError(self.target.error("remote_silent", seconds=round(state.patience))) from error
            raise failure_from_network(self.target, error, has_response=has_response) from error
        except MalformedError as error:
            raise RequestError(self.target.malformed_error(str(error))) from error

    async def _raise_error(self, response: httpx.Response, quirks: Quirks) -> None:
        """Raise the RequestError or _RefusedFieldError that an error response means."""
        with anyio.fail_after(_SILENT_SECONDS):
            body = await _read_body(response)
        if response.status_code in (400, 422) and (adapted := quirks.adapt(body.decode("utf-8", "replace"))):
            raise _RefusedFieldError(adapted)
        raise failure_from_status(self.target, response.status_code, response.headers, body)

    async def _read(self, response: httpx.Response, state: "_Answer") -> None:
        """Queue the events of an answer. Raises RequestError, MalformedError or TimeoutError."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if kind == "application/json":  # the server does not stream
            with anyio.fail_after(_FIRST_SECONDS):
                self._add_chunk(parse_chunk(await _read_body(response)), state)
            self._finish(state)
            return
        if kind != "text/event-stream":
            raise self._content_type_error(kind)
        events = read_events(response.aiter_bytes())
        while True:
            try:
                with anyio.fail_after(state.patience):
                    data = await anext(events)
            except StopAsyncIteration:
                break
            except TimeoutError:
                if state.finish_reason is None:
                    raise
                break
            if data == DONE:
                state.is_done = True
                break
            if data is not None:
                self._add_chunk(parse_chunk(data), state)
        if state.finish_reason is None and not state.is_done:
            raise RequestError(self.target.error("remote_cut"))
        self._finish(state)

    def _content_type_error(self, kind: str) -> RequestError:
        """Return the failure of a response with an unexpected content type."""
        if kind == "text/html":
            return RequestError(self.target.error("remote_web_page"))
        return RequestError(self.target.malformed_error(f"it sends {kind or 'something'} instead of text/event-stream"))

    def _add_chunk(self, chunk: Chunk, state: "_Answer") -> None:
        if chunk.error:
            raise RequestError(failure_from_event(self.target, chunk.error))
        state.add(chunk)
        try:
            state.usage = chunk.parse_usage() or state.usage
        except MalformedError as error:
            if not state.has_bad_usage:
                logger.warning("Invalid token counts from %s: %s", self.target.server.name, error)
            state.has_bad_usage = True
        if state.size > _MAX_ANSWER or len(state.pieces) > _MAX_PIECES:
            raise MalformedError("its answer does not end")
        if state.finish_reason == "content_filter":
            raise RequestError(self.target.error("remote_filtered"))

    def _finish(self, state: "_Answer") -> None:
        """Queue the end of the answer. Raise RequestError for an empty answer, unless the server says that it is complete."""
        if not state.pieces and state.finish_reason not in ("stop", "length"):
            is_call = state.finish_reason in ("tool_calls", "function_call")
            raise RequestError(self.target.error("remote_tool_call" if is_call else "remote_no_text"))
        state.finish()


@dataclass(eq=False)
class _RefusedFieldError(Exception):
    """The server rejects a field that can be omitted or renamed."""

    quirks: Quirks


@dataclass
class _Answer:
    """The part of an answer received so far. Only the loop's thread changes it; any thread may call `complete`."""

    put: Put
    started: float = field(default_factory=time.perf_counter)
    first_at: float | None = None
    """When the first token arrived."""
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    """The number of characters in `pieces`."""
    usage: Usage | None = None
    has_bad_usage: bool = False
    """Whether the server sent invalid token counts."""
    finish_reason: str | None = None
    """The server's name for it."""
    is_done: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether a token has arrived."""
        return self.first_at is not None

    @property
    def patience(self) -> float:
        """The current timeout in seconds for the next chunk."""
        if self.finish_reason is not None:
            return _LAST_SECONDS
        return _SILENT_SECONDS if self.has_begun else _FIRST_SECONDS

    def add(self, chunk: Chunk) -> None:
        """Queue the events of a chunk."""
        choice = chunk.choice
        if (choice.delta.text or choice.delta.is_thinking) and self.first_at is None:
            self.first_at = time.perf_counter()
            if choice.delta.is_thinking:
                self.put(Thinking())
        if text := choice.delta.text:
            self.pieces.append(text)
            self.size += len(text)
            self.put(TextDelta(text))
        self.finish_reason = choice.finish_reason or self.finish_reason

    def finish(self) -> None:
        """Queue the end of the answer."""
        self.put(self.complete("length" if self.finish_reason == "length" else "stop"))

    def complete(self, reason: FinishReason) -> Completed:
        """Return the final event, with the answer received so far."""
        now = time.perf_counter()
        first, rate = None, None
        if self.first_at is not None:
            first = self.first_at - self.started
            tokens = self.usage.completion_tokens - 1 if self.usage else 0
            rate = tokens / (now - self.first_at) if tokens > 0 and now > self.first_at else None
        return Completed("".join(self.pieces), self.usage, Timings(first, now - self.started, rate), reason)


async def _read_body(response: httpx.Response) -> bytes:
    """Return the whole body. Raise MalformedError if it is too large."""
    body = await read_body(response, MAX_EVENT)
    if len(body) > MAX_EVENT:
        raise MalformedError("its response is too long")
    return body
