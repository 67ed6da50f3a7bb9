"""The last look at each server, renewed in the background, so that nobody waits for a server that is dead."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import httpx

from phi3_ui.host.remote.failures import Asked
from phi3_ui.host.remote.http_loop import HttpLoop
from phi3_ui.host.remote.server_report import REPORT_SECONDS, ServerReport, fetch_report
from phi3_ui.remote_servers import RemoteServer

logger = logging.getLogger(__name__)

_FRESH_SECONDS = 20.0


@dataclass
class _Look:
    """What is known of one server."""

    report: ServerReport | None = None
    at: float = float("-inf")
    """When it was asked last."""
    pending: "Future[None] | None" = None


class ServerReports:
    """Asks servers at most every 20 seconds, and only while somebody wants to know. Thread-safe."""

    def __init__(self, loop: HttpLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._lock = threading.Lock()
        self._looks = dict[RemoteServer, _Look]()

    def get(self, server: RemoteServer) -> ServerReport | None:
        """The last report, never waited for; None before the first one."""
        self._refresh(server)
        with self._lock:
            return self._looks[server].report if server in self._looks else None

    def fetch(self, server: RemoteServer) -> ServerReport:
        """Fetch a report now."""
        pending = self._refresh(server, max_age=0.0)
        try:
            if pending:
                pending.result(REPORT_SECONDS + 1)
        except TimeoutError:  # the loop is busy
            return ServerReport(Asked(server, server.name).fail("remote_timeout"))
        with self._lock:
            return self._looks[server].report or ServerReport()

    def forget(self, server: RemoteServer) -> None:
        """The server is not of interest any more."""
        with self._lock:
            self._looks.pop(server, None)

    def _refresh(self, server: RemoteServer, max_age: float = _FRESH_SECONDS) -> "Future[None] | None":
        """Ask the server if its report is older than `max_age` seconds and nobody asks it already."""

        async def ask(client: httpx.AsyncClient) -> None:
            report = await fetch_report(client, server)
            with self._lock:
                if not look.report or (look.report.error is None) != (report.error is None):
                    logger.info("Remote server %s: %s", server.name, report.error or "it can be asked")
                if report.ignored and report.ignored != (look.report.ignored if look.report else 0):
                    logger.warning(
                        "Remote server %s: %d of its models are ignored, whose names are empty, too long, or hold control characters",
                        server.name,
                        report.ignored,
                    )
                look.report, look.at = report, self._clock()

        with self._lock:
            look = self._looks.setdefault(server, _Look())
            if look.pending and not look.pending.done():
                return look.pending
            if self._clock() - look.at < max_age:
                return None
            pending = look.pending = Future[None]()
            look.at = self._clock()
        try:  # without the lock: this waits for the loop's thread, which takes it to keep a report
            self._loop.start(ask).add_done_callback(lambda _: pending.set_result(None))
        except RuntimeError:  # the app is being closed
            pending.set_result(None)
        return pending
