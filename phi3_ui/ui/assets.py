"""Serves our own modules and style sheets from static/ and the libraries from vendor/; caches Gradio's assets."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOLDER = Path(__file__).parent


class _Revalidated(StaticFiles):
    """Files that browsers cache but revalidate on each load, so that no page mixes two versions after an upgrade."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_assets() -> Starlette:
    """Return an application that serves static/ and vendor/ under these names."""
    folders = ("static", "vendor")
    return Starlette(routes=[Mount(f"/{name}", _Revalidated(directory=_FOLDER / name)) for name in folders])


class CacheHashedAssets:
    """ASGI middleware that lets browsers cache Gradio's assets without revalidation: their names contain a content hash."""

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
