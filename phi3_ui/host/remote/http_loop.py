"""The event loop for requests to remote servers. A request can be cancelled at any time, even before its server responds."""

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

CONNECT_SECONDS = 10.0
_MAX_CONNECTIONS = 200

Task = Callable[[httpx.AsyncClient], Awaitable[None]]


class HttpLoop:
    """A thread with an event loop and an HTTP client, both started by the first task. Thread-safe."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces the network, in tests."""
        self._transport = transport
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._running: tuple[BlockingPortal, httpx.AsyncClient] | None = None
        self._tasks = set[Future[None]]()
        self._closed = threading.Event()

    def start(self, task: Task) -> "Future[None]":
        """Start a task, which gets the client; cancelling the future cancels it. Raise RuntimeError once closed."""
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("the loop is closed")
            if self._running is None:
                self._running = self._open()
            portal, client = self._running
        # Without the lock: this waits for the loop's thread, which takes the lock to forget a task.
        future: Future[None] = portal.start_task_soon(_run, task, client)
        with self._lock:
            self._tasks.add(future)
        future.add_done_callback(self._forget)
        if self._closed.is_set():  # closed meanwhile, perhaps after `close` has read the tasks
            future.cancel()
        return future

    def close(self) -> None:
        """Cancel all running tasks, and wait for their end."""
        with self._lock:
            self._closed.set()
            tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._stack.close()

    def _forget(self, task: "Future[None]") -> None:
        with self._lock:
            self._tasks.discard(task)

    def _open(self) -> tuple[BlockingPortal, httpx.AsyncClient]:
        portal = self._stack.enter_context(start_blocking_portal(name="remote"))
        client = self._stack.enter_context(_create_client(portal, self._transport))
        return portal, client


def is_compressed(response: httpx.Response) -> bool:
    """Return whether a server has compressed its response, contrary to the request: a few bytes could expand to gigabytes."""
    return str(response.headers.get("content-encoding", "identity")).lower() != "identity"


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """Return the body, cut after the piece that exceeds `limit` bytes; empty if it is compressed."""
    body = bytearray()
    if not is_compressed(response):
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > limit:
                break
    return bytes(body)


async def _run(task: Task, client: httpx.AsyncClient) -> None:
    await task(client)


def _create_client(
    portal: BlockingPortal, transport: httpx.AsyncBaseTransport | None
) -> AbstractContextManager[httpx.AsyncClient]:
    def create() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=transport,
            headers={"Accept-Encoding": "identity"},  # see read_body
            # No cookies: they ignore ports and may be set for other hosts of a domain, so one server could affect requests to others.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,  # a redirect could send the key and the conversation to another host
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS, write=60.0),
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=30.0),
        )

    return portal.wrap_async_context_manager(portal.call(create))
