"""Serves the browser's modules and style sheets (static/ and vendor/), and lets browsers cache them and Gradio's assets."""

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phi3_ui.ui.asset_urls import ASSET_FOLDER, ASSET_VERSION

_CACHE_FOREVER = "public, max-age=31536000, immutable"


class _VersionedFiles(StaticFiles):
    """Serves files under a URL that contains their version.

    A page loaded before an upgrade gets the current files under its old URL, and must not cache them there.
    """

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        is_current = scope["path_params"]["version"] == ASSET_VERSION
        response.headers["Cache-Control"] = _CACHE_FOREVER if is_current else "no-store"
        return response


def create_assets() -> Starlette:
    """Return an application that serves static/ and vendor/ under /VERSION/static and /VERSION/vendor."""
    folders = ("static", "vendor")
    files = {name: _VersionedFiles(directory=ASSET_FOLDER / name) for name in folders}
    return Starlette(routes=[Mount(f"/{{version}}/{name}", files[name]) for name in folders])


class CacheHashedAssets:
    """ASGI middleware that lets browsers cache Gradio's assets without revalidation: their names contain a content hash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_cached(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)["Cache-Control"] = _CACHE_FOREVER
            await send(message)

        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_asset = scope["type"] == "http" and path.startswith("/assets/")
        await self._app(scope, receive, send_cached if is_asset else send)
