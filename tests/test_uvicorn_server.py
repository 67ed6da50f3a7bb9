"""Connections that send their headers slowly, or not at all, are closed."""

import asyncio

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from phi3_ui import uvicorn_server
from phi3_ui.uvicorn_server import TimedProtocol, create_config

SECONDS = 0.3
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer_late(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(2 * SECONDS)
    await PlainTextResponse("done")(scope, receive, send)


async def send(*pieces: bytes) -> bytes:
    """Send pieces, waiting half of the timeout between them, and return the response until the server closes the connection."""
    config, state = create_config(answer_late, []), ServerState()  # type: ignore[arg-type]  # any ASGI application
    config.timeout_keep_alive = 1
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: TimedProtocol(config, state, {}), "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        reading = asyncio.create_task(reader.read())
        for piece in pieces:
            writer.write(piece)
            await asyncio.wait([reading], timeout=SECONDS / 2)
        answered = await asyncio.wait_for(reading, 30)
        writer.close()
    return answered


@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        ([], 0),
        ([b"GET / HTTP/1.1\r\n"], 0),
        ([b"GET / HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 20], 0),
        ([REQUEST.replace(b"Host", b"Connection: close\r\nHost")], 1),
        ([REQUEST + b"GET / HTTP"], 1),
    ],
)
def test_headers_have_to_arrive_in_time_but_not_the_answer(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], answers: int
) -> None:
    monkeypatch.setattr(uvicorn_server, "_HEADER_SECONDS", SECONDS)
    with start_blocking_portal() as portal:
        assert portal.call(send, *pieces).count(b"done") == answers
