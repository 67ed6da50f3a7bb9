"""What the middleware reports about the requests that pass through it."""

from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from phi3_ui.ui.connections import ConnectionWatch

_CLIENT = ("127.0.0.1", 5)


class Pages:
    """Records what is reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def start_loading(self, client: str) -> None:
        self.events.append(("load", client))

    def open_stream(self, key: str) -> None:
        self.events.append(("open", key))

    def close_stream(self, key: str, is_lost: bool) -> None:
        self.events.append(("lost" if is_lost else "end", key))


def report(
    path: str, app_messages: list[Message], disconnects: bool = False, method: str = "GET", accept: str = "*/*"
) -> list[tuple[str, ...]]:
    """Return what is reported about one request."""
    pages, sent = Pages(), list[Message]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in app_messages:
            await send(message)
        while disconnects and (await receive())["type"] != "http.disconnect":
            pass
        pages.events.append(("app ends",))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"accept", accept.encode()), (b"user-agent", b"Browser")]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    scope["client"] = _CLIENT
    with ThreadPoolExecutor() as executor:  # Playwright's event loop runs in this thread
        executor.submit(anyio.run, ConnectionWatch(app, pages, lambda *_: True), scope, receive, send).result()  # type: ignore[arg-type]  # a function
    assert sent == app_messages
    return pages.events


START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"data", "more_body": True}
END: Message = {"type": "http.response.body", "body": b""}
STREAM = "/chat/gradio_api/queue/data?session_hash=abc"


def test_a_stream_that_breaks_is_reported_before_the_app_deals_with_it() -> None:
    assert report(STREAM, [START, PART], disconnects=True) == [("open", "abc"), ("lost", "abc"), ("app ends",)]


def test_a_stream_that_ends_is_not_lost_though_the_browser_disconnects_then() -> None:
    assert report(STREAM, [START, PART, END]) == [("open", "abc"), ("app ends",), ("end", "abc")]
    assert report(STREAM, [START, PART, END], disconnects=True) == [("open", "abc"), ("end", "abc"), ("app ends",)]


@pytest.mark.parametrize(
    ("method", "path", "accept", "is_load"),
    [
        ("GET", "/", "text/html,application/xhtml+xml", True),
        ("GET", "/chat/", "text/html", True),
        ("POST", "/login", "text/html", False),
        ("GET", "/config", "*/*", False),
    ],
)
def test_page_loads_are_reported(method: str, path: str, accept: str, is_load: bool) -> None:
    loads = [("load", "127.0.0.1 Browser")] if is_load else []
    assert report(path, [START, END], method=method, accept=accept) == [*loads, ("app ends",)]
