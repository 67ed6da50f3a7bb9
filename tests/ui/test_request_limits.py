"""Requests that are too large or too frequent are refused before they are read."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from phi3_ui.settings import Settings
from phi3_ui.ui import request_limits
from phi3_ui.ui.request_limits import RequestLimits, RequestRate
from tests.support.turns import run_together

MEGABYTE = 1_000_000


@dataclass
class Exchange:
    """One request through the middleware, and its outcome."""

    received: int = 0
    """Bytes that were read from the connection."""
    reached_app: bool = False
    body: int | None = None
    """The body that the app received, if complete."""
    sent: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def detail(self) -> str:
        return str(json.loads(self.sent[-1]["body"])["detail"])


def exchange(
    limits: RequestLimits | None = None,
    size: int = 0,
    path: str = "/gradio_api/queue/join",
    client: str = "192.0.2.1",
    headers: dict[str, str] | None = None,
    filling: bytes = b"x",
    **settings: str,
) -> Exchange:
    """Send a body of `filling` in chunks of 64 KiB; its length is declared only by `headers`."""
    result = Exchange()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        result.reached_app = True
        result.body = len(await Request(scope, receive).body())
        await PlainTextResponse("ok")(scope, receive, send)

    def chunks() -> Iterator[Message]:
        for start in range(0, size, 65536):
            chunk = filling * (min(65536, size - start) // len(filling))
            result.received += len(chunk)
            yield {"type": "http.request", "body": chunk, "more_body": start + 65536 < size}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = chunks()

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        result.sent.append(message)

    scope: Scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "client": (client, 5)}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    middleware = limits or RequestLimits(app, Settings.read(settings))
    middleware._app = app
    with ThreadPoolExecutor() as threads:  # Playwright's event loop may run in this thread
        threads.submit(anyio.run, middleware, scope, receive, send).result()
    return result


@pytest.mark.parametrize("declared", [10 * MEGABYTE + 1, 10**30, "-5", "x"])
def test_a_body_declared_too_large_is_not_read(declared: object) -> None:
    refused = exchange(size=20 * MEGABYTE, headers={"content-length": str(declared), "accept-language": "ro"})
    assert (refused.status, refused.received, refused.reached_app) == (413, 0, False)
    assert refused.detail.startswith("Depășește 10 MB")
    assert refused.headers["connection"] == "close"


def test_a_body_that_lies_about_its_length_is_read_up_to_the_limit() -> None:
    refused = exchange(size=200 * MEGABYTE)
    assert refused.status == 413
    assert refused.received <= 10 * MEGABYTE + 65536
    assert refused.body is None
    assert len(refused.sent) == 2


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/gradio_api/queue/join", 10 * MEGABYTE, 200),
        ("/import", 11 * MEGABYTE, 200),
        ("/import", 21 * MEGABYTE, 413),
        ("/imports", 11 * MEGABYTE, 413),
        ("/import/", 11 * MEGABYTE, 413),
    ],
)
def test_an_import_may_be_larger_than_other_requests(path: str, size: int, status: int) -> None:
    result = exchange(size=size, path=path, PHI3_UI_MAX_IMPORT_MB="20")
    assert result.status == status
    assert result.body == (size if status == 200 else None)


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/cancel", "/v1/responses"])
def test_a_body_of_too_many_values_is_not_read_further(path: str) -> None:
    refused = exchange(size=9 * MEGABYTE, path=path, filling=b"{},[")
    assert (refused.status, refused.body) == (413, None)
    assert refused.received <= 200_000
    body = json.loads(refused.sent[-1]["body"])
    assert "100000 values" in (body["error"]["message"] if path.startswith("/v1") else body["detail"])
    assert exchange(size=100_000, path=path, filling=b"[").status == 200
    assert exchange(size=9 * MEGABYTE, path="/import", filling=b"{},[").status == 200


@pytest.mark.parametrize(("chunks", "status"), [(0, 408), (1, 408), (3, 200)])
def test_a_stalled_body_is_aborted_but_a_stream_is_not(
    monkeypatch: pytest.MonkeyPatch, chunks: int, status: int
) -> None:
    monkeypatch.setattr(request_limits, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr(request_limits, "_SLOWEST", 10)  # each byte earns 0.1 s
    sent = list[Message]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        with anyio.move_on_after(0.2):  # while a stream is being read
            assert await receive() is None
        await PlainTextResponse("ok")(scope, receive, send)

    arriving = [{"type": "http.request", "body": b"x", "more_body": number < 2} for number in range(chunks)]

    async def receive() -> Message:
        if arriving:
            return arriving.pop(0)
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "client": None, "headers": []}
    with start_blocking_portal() as portal:
        portal.call(RequestLimits(app, Settings.read({})), scope, receive, send)
    assert sent[0]["status"] == status


def test_requests_of_an_address_are_limited_but_not_its_streams_and_files(tmp_path: Path) -> None:
    limits = RequestLimits(None, Settings.read({"PHI3_UI_REQUESTS_PER_MINUTE": "5"}))  # type: ignore[arg-type]  # set for each request
    # The minute may end meanwhile, and the next one allows five more.
    statuses = [exchange(limits).status for _ in range(16)]
    assert statuses[:5] == [200] * 5
    assert 429 in statuses[5:]
    while (refused := exchange(limits)).status == 200:
        pass
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "too many requests" in refused.detail.lower()
    assert exchange(limits, client="192.0.2.2").status == 200
    for path in ("/gradio_api/queue/data", "/assets/index.js", "/phi3/0a/static/chat/view.js", "/health"):
        assert {exchange(limits, path=path).status for _ in range(10)} == {200}


def test_two_threads_get_no_more_than_the_limit() -> None:
    rate, waits = RequestRate(1000), list[int]()
    run_together(*[lambda: waits.extend(rate.claim("a") for _ in range(800))] * 2)
    assert waits.count(0) in (1000, 1600)  # 1600 if the minute ended meanwhile
    assert len(waits) == 1600


def test_the_limits_are_enabled_if_others_can_reach_the_page() -> None:
    single_user, shared = Settings.read({}), Settings.read({"GRADIO_SERVER_NAME": "0.0.0.0"})
    space = Settings.read({"SPACE_ID": "a/b", "PHI3_UI_HOME": "/data"})
    assert (single_user.requests_per_minute, shared.requests_per_minute) == (0, 3000)
    assert (single_user.max_import_mb, space.max_import_mb) == (200, 50)
    assert {settings.max_request_mb for settings in (single_user, shared, space)} == {10}
