"""The app as an ASGI application, and the server of `python app.py` and `phi3-chat serve`.

Importing this module imports neither Gradio nor MLflow: they read their telemetry switches on import, so `create_app` sets
these first.
"""

import contextlib
import ctypes
import gc
import ipaddress
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from models import disable_telemetry
from phi3_ui.errors import UserError
from phi3_ui.host import zero_gpu_report
from phi3_ui.host.sandbox_policy import is_zero_gpu
from phi3_ui.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_FIRST_PORT, _PORTS = 7860, 100  # like Gradio's own server; a Space expects 7860


_M_ARENA_MAX = -8  # of glibc's malloc.h


def create_app(settings: Settings) -> "FastAPI":
    """Create the application with the page, the API and `/health`, over one tracking store.

    The application owns the loaded models, the recorder of chats and the first run of an empty store: its lifespan starts the
    first run, and at its end stops the answers, unloads the models and writes the pending chats, in this order. An application
    can run only once; several may run in one process. To mount one in another application, use `mount_app`.
    """
    disable_telemetry()
    # Gradio asks matplotlib for its backend at each event; unless one is set, matplotlib imports pyplot to choose one.
    os.environ.setdefault("MPLBACKEND", "agg")
    import phi3_ui.ui.quick_gradio  # noqa: F401  # must come before any other import of Gradio
    from phi3_ui.application import build_app

    return build_app(settings)


def mount_app(outer: "FastAPI", path: str, settings: Settings) -> "FastAPI":
    """Mount the app under `path` of `outer`, and return it.

    Starlette does not run the lifespan of a mounted application, so this extends that of `outer`, which `outer.mount` does not.
    """
    app = create_app(settings)
    outer_lifespan = outer.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: "FastAPI") -> AsyncIterator[Any]:
        async with outer_lifespan(served) as state, app.router.lifespan_context(app):
            yield state

    outer.router.lifespan_context = lifespan
    outer.mount(path, app)
    return app


def main() -> None:
    """Read the settings and serve until SIGTERM or Ctrl-C. Exit with code 1 and one sentence for a UserError."""
    try:
        serve(Settings.read())
    except UserError as error:
        sys.exit(str(error))


def serve(settings: Settings) -> None:
    """Serve the page until SIGTERM or Ctrl-C; then shut down gracefully, which no further signal interrupts.

    Raises:
        UserError: port_taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _limit_arenas()
    with _listen(settings) as listener:
        gc.disable()  # imported modules stay: scanning them repeatedly takes half a second
        with zero_gpu_report.report() if is_zero_gpu(os.environ) else contextlib.nullcontext():
            app = create_app(settings)
        from phi3_ui.uvicorn_server import run

        gc.freeze()
        gc.enable()
        url = _url(settings.server_name.strip("[]"), listener.getsockname()[1])

        def announce() -> None:
            print(f"Phi-3 Chat is at {url}", flush=True)
            if settings.open_browser:
                threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()

        run(app, listener, announce, settings.trusted_proxies)


def _limit_arenas() -> None:
    """Limit glibc to two heaps: one per thread would each retain its peak memory, and the GIL serializes the threads anyway."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on the configured port, or on the first free one. Raises UserError("port_taken")."""
    host = settings.server_name.strip("[]")
    first = settings.server_port or _FIRST_PORT
    for port in [first] if settings.server_port else range(first, first + _PORTS):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # unlike bind, it fails if another server has bound the port but not listened yet
        except OSError:
            listener.close()
        else:
            return listener
    raise UserError("port_taken", port=first, host=settings.server_name)


def _url(host: str, port: int) -> str:
    """Return the URL at which a browser on this machine finds a server that listens on `host`."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
