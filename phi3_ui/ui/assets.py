"""Serves the browser's modules and style sheets: our own of static/, and the libraries of vendor/."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

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
