"""Serves the page in the visitor's language and theme, or the login page if they have to log in first."""

from typing import cast, get_args

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phi3_ui.i18n.translate import TEXTS, detect_language
from phi3_ui.ui.login.login import Login
from phi3_ui.ui.render.front_page import Appearance, Theme, adapt_page, render_login
from phi3_ui.ui.security import get_script_nonce

# The cookies of static/preferences.js.
_LANGUAGE, _THEME = "phi3-language", "phi3-theme"


class FrontPage:
    """ASGI middleware. A language picked on the page overrides the browser's in every request."""

    def __init__(self, app: ASGIApp, login: Login | None) -> None:
        """`login` is None if no login is required."""
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        appearance = _appearance(request)
        if appearance.is_language_chosen:
            MutableHeaders(scope=scope)["accept-language"] = appearance.language
        if scope["method"] != "GET" or not _is_page(scope):
            await self._app(scope, receive, send)
        elif self._login and self._login.find_user(request) is None:
            html = render_login(
                appearance, get_script_nonce(scope), self._login.methods, request.query_params.get("login", "")
            )
            await HTMLResponse(html, headers={"Cache-Control": "no-store"})(scope, receive, send)
        else:
            await self._app(scope, receive, _adapt(send, appearance, get_script_nonce(scope)))


def _is_page(scope: Scope) -> bool:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")) in ("", "/")


def find_language(request: Request) -> str:
    """Return the language picked on the page, else the browser's."""
    return _appearance(request).language


def _appearance(request: Request) -> Appearance:
    chosen, theme = request.cookies.get(_LANGUAGE), request.cookies.get(_THEME)
    is_chosen = chosen in TEXTS
    language = cast(str, chosen) if is_chosen else detect_language(request.headers.get("accept-language"))
    return Appearance(language, is_chosen, cast(Theme, theme) if theme in get_args(Theme) else "system")


def _adapt(send: Send, appearance: Appearance, nonce: str) -> Send:
    """Return a `send` that adapts an HTML document once it is complete."""
    start: Message | None = None
    body = b""

    async def send_adapted(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
            return
        if start is None:
            await send(message)
            return
        body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(scope=start)
        if headers.get("content-type", "").startswith("text/html"):
            body = adapt_page(body.decode(), appearance, nonce).encode()
            headers["content-length"] = str(len(body))
        await send(start)
        await send({**message, "body": body})

    return send_adapted
