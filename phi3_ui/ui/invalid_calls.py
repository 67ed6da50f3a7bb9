"""Calls whose values the page's inputs do not take are the caller's error, 400, and not the server's, 500."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from fastapi import HTTPException, Request
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Queue
from gradio.utils import LRUCache
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOUND: ContextVar[list[Exception] | None] = ContextVar("phi3_invalid_call", default=None)


def note_invalid_call(error: Exception) -> None:
    """Say that the call under way cannot be made with its values."""
    found = _FOUND.get()
    if found is not None:
        found.append(error)


class _Sessions(LRUCache[str, Any]):
    """The messages of each page, which Gradio 6.31 deletes when one of its streams breaks, even if another one needs them.

    A stream without them ends with an error of the server. A page whose connection breaks may have two for a moment.
    """

    def __init__(self, max_size: int, is_streamed: Callable[[str], bool]) -> None:
        super().__init__(max_size)
        self._is_streamed = is_streamed

    def __delitem__(self, key: str) -> None:
        if key in self and not self._is_streamed(key):
            super().__delitem__(key)


def harden_queue(queue: Queue, is_streamed: Callable[[str], bool]) -> Callable[[str, str | None], bool]:
    """Answer 400 to a call with an empty session hash, whose messages Gradio 6.31 files under one name and seeks under another.

    And 404 to one with the hash of somebody else's page: Gradio sends a page whatever was called with its hash. `is_streamed` says
    whether a page, by its key, has another event stream than the one that ends.

    Returns:
        Whether there are messages for a page, by its key, and a login may read them.
    """
    sessions = queue.pending_messages_per_session
    queue.pending_messages_per_session = _Sessions(sessions.max_size, is_streamed)
    owners = LRUCache[str, str | None](sessions.max_size)  # of pages, by their keys
    push = queue.push

    async def push_named(body: PredictBodyInternal, request: Request, username: str | None) -> Any:
        if not body.session_hash:
            raise HTTPException(status_code=400, detail="Session hash not found.")
        if owners.setdefault(body.session_hash, username) != username:
            raise HTTPException(status_code=404, detail="Not Found")
        owners[body.session_hash] = username  # the last one to be forgotten
        return await push(body, request, username)

    queue.push = push_named  # type: ignore[method-assign]
    return lambda key, login: key in queue.pending_messages_per_session and owners.get(key) == login


class InvalidCalls:
    """ASGI middleware. Gradio answers 500 for whatever goes wrong in a call; this leaves it to errors of handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        found: list[Exception] = []
        token = _FOUND.set(found)

        async def send_corrected(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 500 and found:
                message["status"] = 400
            await send(message)

        try:
            await self._app(scope, receive, send_corrected)
        finally:
            _FOUND.reset(token)
