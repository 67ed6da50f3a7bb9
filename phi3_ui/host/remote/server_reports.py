"""Caches the latest report of each server and refreshes it in the background, so that no caller waits for a dead server."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import httpx

from phi3_ui.host.remote.failures import RemoteTarget
from phi3_ui.host.remote.http_loop import HttpLoop
from phi3_ui.host.remote.server_report import REPORT_SECONDS, ServerReport, fetch_report
from phi3_ui.remote_servers import RemoteServer

logger = logging.getLogger(__name__)

_MAX_AGE_SECONDS = 20.0


@dataclass
class _CachedReport:
    """The latest report of one server."""

    report: ServerReport | None = None
    requested_at: float = float("-inf")
    """When the server was last queried."""
    pending: "Future[None] | None" = None
    """Resolves when the query in flight has ended."""


class ServerReports:
    """Queries each server at most every 20 seconds, and only on demand. Thread-safe."""

    def __init__(self, loop: HttpLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._lock = threading.Lock()
        self._cached = dict[RemoteServer, _CachedReport]()

    def get(self, server: RemoteServer) -> ServerReport | None:
        """Return the latest report without waiting; None before the first one. Start a refresh if it is stale."""
        self._refresh(server)
        with self._lock:
            return self._cached[server].report if server in self._cached else None

    def fetch(self, server: RemoteServer) -> ServerReport:
        """Query the server now, and return its report."""
        pending = self._refresh(server, max_age=0.0)
        try:
            if pending:
                pending.result(REPORT_SECONDS + 1)
        except TimeoutError:  # the loop is busy
            return ServerReport(RemoteTarget(server, server.name).error("remote_timeout"))
        with self._lock:
            return self._cached[server].report or ServerReport()

    def forget(self, server: RemoteServer) -> None:
        """Forget the report of a server that is no longer used."""
        with self._lock:
            self._cached.pop(server, None)

    def _refresh(self, server: RemoteServer, max_age: float = _MAX_AGE_SECONDS) -> "Future[None] | None":
        """Query the server if its report is older than `max_age` seconds, and return the query in flight, if any."""

        async def query(client: httpx.AsyncClient) -> None:
            report = await fetch_report(client, server)
            with self._lock:
                if not cached.report or (cached.report.error is None) != (report.error is None):
                    logger.info("Remote server %s: %s", server.name, report.error or "available")
                if report.ignored and report.ignored != (cached.report.ignored if cached.report else 0):
                    logger.warning(
                        "Remote server %s: ignoring %d models whose names are empty, too long, or contain control characters",
                        server.name,
                        report.ignored,
                    )
                cached.report, cached.requested_at = report, self._clock()

        with self._lock:
            cached = self._cached.setdefault(server, _CachedReport())
            if cached.pending and not cached.pending.done():
                return cached.pending
            if self._clock() - cached.requested_at < max_age:
                return None
            pending = cached.pending = Future[None]()
            cached.requested_at = self._clock()
        try:  # without the lock: this waits for the loop's thread, which takes the lock to store a report
            self._loop.start(query).add_done_callback(lambda _: pending.set_result(None))
        except RuntimeError:  # the app is closing
            pending.set_result(None)
        return pending
