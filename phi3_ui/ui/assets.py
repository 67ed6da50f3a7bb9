"""Serves the browser's modules and style sheets: our own of static/, and the libraries of vendor/; caching of Gradio's own."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOLDER = Path(__file__).parent


class _Revalidated(StaticFiles):
    """Files that a browser keeps, but asks about on each load: after an upgrade, no page mixes two versions."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_assets() -> Starlette:
    """An application with the files of static/ and vendor/, under these names."""
    folders = ("static", "vendor")
    return Starlette(routes=[Mount(f"/{name}", _Revalidated(directory=_FOLDER / name)) for name in folders])


class CacheHashedAssets:
    """ASGI middleware: a browser need not ask again for Gradio's assets, whose names contain a hash of their content."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_cached(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)["Cache-Control"] = "public, max-age=31536000, immutable"
            await send(message)

        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_asset = scope["type"] == "http" and path.startswith("/assets/")
        await self._app(scope, receive, send_cached if is_asset else send)
