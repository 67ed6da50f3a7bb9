"""Blocks the routes that the page and its API do not use, and keeps responses out of caches."""

import re
from collections.abc import Collection

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phi3_ui.api.errors import is_api_path, no_such_route

# Unqueued events are sent to run/predict. Gradio serves many more routes: uploads, recordings, streams, a proxy, a source editor,
# run history, monitoring, other ways to call.
_READ = re.compile(
    r"/|/health|/metrics|/login/(huggingface|callback)|/phi3/.+|/(assets|static|svelte)/.+|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?"
    r"|/pwa_icon(/\d+)?|/gradio_api/(info|app_id|startup-events|queue/data)/?|/gradio_api/file=.+"
)
_WRITE = re.compile(r"/(login|logout|tab/close|import)|/gradio_api/(queue/join|run/predict|cancel)/?")
_MAX_NAME, _MAX_PATH = 255, 2000  # bytes, characters
_API = re.compile(r"/v1/.*")  # rejects unsupported methods itself
_METHODS = {"GET": _READ, "HEAD": _READ, "POST": _WRITE}


class RouteGuard:
    """ASGI middleware: an allowlist of routes, so that a new version of Gradio cannot open others."""

    def __init__(self, app: ASGIApp, login_routes: Collection[str]) -> None:
        """`login_routes` are those of the configured login methods; those of the others are blocked."""
        self._app = app
        self._closed = {"/login", "/login/huggingface", "/login/callback", "/logout"}.difference(login_routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection: 404 for a route that is not on the allowlist."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path = str(scope["path"]).removeprefix(scope.get("root_path", "")) or "/"
        allowed = _API if is_api_path(path) else _METHODS.get(scope.get("method", ""))
        is_open = allowed and allowed.fullmatch(path) and path not in self._closed and _may_be_a_file(path)
        if scope["type"] != "http" or not is_open:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            else:
                refusal = no_such_route(Request(scope)) if is_api_path(path) else PlainTextResponse("Not Found", 404)
                await refusal(scope, receive, send)
            return

        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_private)


def _may_be_a_file(path: str) -> bool:
    """Whether the file system accepts a path of this length; looking up a longer one raises an error."""
    parts = path.encode("utf-8", "surrogatepass").split(b"/")
    return len(path) <= _MAX_PATH and max(map(len, parts)) <= _MAX_NAME
