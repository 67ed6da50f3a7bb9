"""Requests to an application in this process, without a server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI


@dataclass(frozen=True)
class Client:
    """Sends requests to an application in an event loop of its own."""

    app: FastAPI
    portal: BlockingPortal
    http: httpx.AsyncClient

    def get(self, path: str) -> httpx.Response:
        return self.portal.call(self.http.get, path)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.portal.call(lambda: self.http.request(method, path, **options))

    def post(self, path: str, **form: str) -> int:
        """The status code of a form that is sent."""
        return self.portal.call(lambda: self.http.post(path, data=form)).status_code

    def log_in(self, name: str, password: str) -> int:
        """The status code of a log-in."""
        return self.post("/login", username=name, password=password)


@contextmanager
def running(
    create: Callable[..., FastAPI], *arguments: object, served: Callable[[FastAPI], Any] = lambda app: app
) -> Iterator[Client]:
    """Creates an application in an event loop, where Gradio creates none of its own, and runs its lifespan there.

    `served` returns the ASGI application that gets the requests, such as the middleware of a server around the app.
    """
    with start_blocking_portal() as portal:
        app = portal.call(create, *arguments)
        transport = httpx.ASGITransport(served(app))
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        with (
            portal.wrap_async_context_manager(app.router.lifespan_context(app)),
            portal.wrap_async_context_manager(client) as http,
        ):
            yield Client(app, portal, http)
