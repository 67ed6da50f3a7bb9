"""Connections that send their headers too slowly, or not at all, are closed."""

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


async def send(*chunks: bytes) -> bytes:
    """Send chunks half a timeout apart, and return everything received until the server closes the connection."""
    config, state = create_config(answer_late, []), ServerState()  # type: ignore[arg-type]  # any ASGI application
    config.timeout_keep_alive = 1
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: TimedProtocol(config, state, {}), "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader_task = asyncio.create_task(reader.read())
        for chunk in chunks:
            writer.write(chunk)
            await asyncio.wait([reader_task], timeout=SECONDS / 2)
        response = await asyncio.wait_for(reader_task, 30)
        writer.close()
    return response


@pytest.mark.parametrize(
    ("chunks", "responses"),
    [
        ([], 0),
        ([b"GET / HTTP/1.1\r\n"], 0),
        ([b"GET / HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 20], 0),
        ([REQUEST.replace(b"Host", b"Connection: close\r\nHost")], 1),
        ([REQUEST + b"GET / HTTP"], 1),
    ],
)
def test_the_timeout_applies_to_headers_but_not_to_the_response(
    monkeypatch: pytest.MonkeyPatch, chunks: list[bytes], responses: int
) -> None:
    monkeypatch.setattr(uvicorn_server, "_HEADER_SECONDS", SECONDS)
    with start_blocking_portal() as portal:
        assert portal.call(send, *chunks).count(b"done") == responses
