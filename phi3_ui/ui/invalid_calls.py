"""Calls whose values the page's inputs do not take are the caller's error, 400, and not the server's, 500."""

from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOUND: ContextVar[list[Exception] | None] = ContextVar("phi3_invalid_call", default=None)


def note_invalid_call(error: Exception) -> None:
    """Say that the call under way cannot be made with its values."""
    found = _FOUND.get()
    if found is not None:
        found.append(error)


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
