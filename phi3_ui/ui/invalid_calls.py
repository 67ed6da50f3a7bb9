"""Reports calls with values that the page's inputs reject as client errors (400), not as server errors (500)."""

from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOUND: ContextVar[list[Exception] | None] = ContextVar("phi3_invalid_call", default=None)


def note_invalid_call(error: Exception) -> None:
    """Record that the current call has invalid values."""
    found = _FOUND.get()
    if found is not None:
        found.append(error)


class InvalidCalls:
    """ASGI middleware. Gradio responds with 500 to any failed call; this reserves 500 for errors in handlers."""

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
