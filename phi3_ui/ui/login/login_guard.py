"""Refuses calls of the page's API without a login. Gradio does so route by route, and leaves some open, such as the one that cancels."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from phi3_ui.ui.login.login import Login

_API = "/gradio_api/"


class LoginGuard:
    """ASGI middleware: 401, as Gradio returns it, for every route of the API."""

    def __init__(self, app: ASGIApp, login: Login | None) -> None:
        """`login` is None if no login is required."""
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if self._login and scope["type"] == "http" and _is_call(scope) and not self._login.find_user(Request(scope)):
            await JSONResponse({"detail": "Not authenticated"}, status_code=401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_call(scope: Scope) -> bool:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).startswith(_API)
