"""Detects page loads, and event streams of pages that break before their end."""

from collections.abc import Callable
from urllib.parse import parse_qs

import gradio as gr
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phi3_ui.ui.open_pages import OpenPages

_MAX_BROWSER = 300  # characters of the user agent; each load keeps them for a while


def identify_client(request: Request | gr.Request) -> str:
    """Return address and user agent of the browser that sends a request. Browsers behind one proxy may look like one."""
    host = request.client.host if request.client else ""
    return f"{host} {request.headers.get('user-agent', '')[:_MAX_BROWSER]}"


class ConnectionWatch:
    """ASGI middleware that reports page loads and event streams to `OpenPages`.

    Its only intervention: a stream to which nothing is sent gets a 404, since Gradio notices that only after it has begun to
    respond, which is a server error. So does the stream of another user's page.
    """

    def __init__(self, app: ASGIApp, pages: OpenPages, has_events: Callable[[str, Request], bool]) -> None:
        """`has_events` returns whether anything is sent to the stream of the page with this key, and the request's login may read it."""
        self._app = app
        self._pages = pages
        self._has_events = has_events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
        elif scope["path"].rstrip("/").endswith("/queue/data"):
            await self._watch_stream(scope, receive, send)
        else:
            if "text/html" in Headers(scope=scope).get("accept", ""):
                self._pages.start_loading(identify_client(Request(scope)))
            await self._app(scope, receive, send)

    async def _watch_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        keys = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("session_hash", [])
        key = keys[0] if len(keys) == 1 else ""  # of several, Gradio would use a different one
        if not self._has_events(key, Request(scope)):
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        is_open, is_complete = True, False

        def close(is_lost: bool) -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._pages.close_stream(key, is_lost)

        async def watch_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                # Reported at once: Gradio closes the generators that write to the stream when it gets the message.
                close(is_lost=not is_complete)
            return message

        async def watch_send(message: Message) -> None:
            nonlocal is_complete
            is_complete |= message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        self._pages.open_stream(key)
        try:
            await self._app(scope, watch_receive, watch_send)
        finally:
            close(is_lost=not is_complete)
