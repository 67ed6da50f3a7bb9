"""Client for an ASGI application in this process, without a server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI


@dataclass(frozen=True)
class Client:
    """Sends requests to an application that runs in its own event loop."""

    app: FastAPI
    portal: BlockingPortal
    http: httpx.AsyncClient

    def get(self, path: str) -> httpx.Response:
        return self.portal.call(self.http.get, path)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.portal.call(lambda: self.http.request(method, path, **options))

    def post(self, path: str, **form: str) -> int:
        """Post a form and return the status code."""
        return self.portal.call(lambda: self.http.post(path, data=form)).status_code

    def log_in(self, name: str, password: str) -> int:
        """Log in and return the status code."""
        return self.post("/login", username=name, password=password)


@contextmanager
def run_app(
    create: Callable[..., FastAPI], *arguments: object, wrap: Callable[[FastAPI], Any] = lambda app: app
) -> Iterator[Client]:
    """Create an application in an event loop, so that Gradio starts none; run its lifespan and yield a client.

    `wrap` returns the ASGI application that handles the requests, such as the app in a server's middleware.
    """
    with start_blocking_portal() as portal:
        app = portal.call(create, *arguments)
        transport = httpx.ASGITransport(wrap(app))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        with (
            portal.wrap_async_context_manager(app.router.lifespan_context(app)),
            portal.wrap_async_context_manager(client) as http,
        ):
            yield Client(app, portal, http)
