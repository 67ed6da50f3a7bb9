"""Runs an application with uvicorn, and shuts it down gracefully."""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

_STARTUP_FAILED = 3  # uvicorn's own exit code
_HEADER_SECONDS = 30.0
"""From the first byte of a request (for the first one, from the connection) to the end of its headers."""
_GRACE_SECONDS = 2  # for responses in flight, once the answers are stopped


def run(
    app: FastAPI, listener: socket.socket, on_started: Callable[[], None], trusted_proxies: Sequence[str] = ()
) -> None:
    """Serve `app` on a bound socket until SIGTERM or Ctrl-C. Call `on_started` once requests are accepted."""
    config = create_config(app, trusted_proxies)
    server = _Server(config, app, on_started)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(_STARTUP_FAILED)


def create_config(app: FastAPI, trusted_proxies: Sequence[str]) -> uvicorn.Config:
    """Return uvicorn's configuration. Forwarded client addresses are accepted only from the trusted proxies."""
    return uvicorn.Config(
        app,
        http=TimedProtocol,
        # Explicit, for the same behaviour everywhere: uvicorn would prefer uvloop and websockets if they are installed.
        loop="asyncio",
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=_GRACE_SECONDS,
        forwarded_allow_ips=list(trusted_proxies),
    )


class TimedProtocol(H11Protocol):
    """Closes connections whose headers do not arrive in time; uvicorn itself would wait forever."""

    _deadline: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        super().connection_made(transport)
        self._watch_headers()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        """Start the timer on connection or at the first byte of a request, and stop it when the headers are complete."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._on_started = on_started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown. Further signals, such as those that a terminal sends to the whole group, are ignored."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of open pages first, since uvicorn waits for them before it ends the lifespan."""
        await self._app.state.end_streams()
        await super().shutdown(sockets)
