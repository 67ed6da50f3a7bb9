"""The response of a malicious server uses a bounded amount of memory and time."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from phi3_ui.chat.types import CancelToken, ChatRequest, Message
from phi3_ui.errors import UserError
from phi3_ui.host.remote import chat_stream, remote_model
from phi3_ui.host.remote.chat_stream import MalformedError, parse_chunk, read_events
from phi3_ui.host.remote.failures import RemoteTarget, failure_from_event, failure_from_status
from phi3_ui.host.remote.http_loop import HttpLoop
from phi3_ui.host.remote.remote_model import RemoteModel
from phi3_ui.host.remote.server_reports import ServerReports
from phi3_ui.remote_servers import create_remote_server
from tests.support.stand_in_api import StandInApi, Stream, chunk, complete_stream, event, stream_response

SERVER = create_remote_server(name="lab", url="https://lab.example/v1", key="sk-1")
MANY = 300_000


@pytest.fixture
def api() -> StandInApi:
    return StandInApi()


@pytest.fixture
def loop(api: StandInApi) -> Iterator[HttpLoop]:
    loop = api.open_loop()
    yield loop
    loop.close()


def ask(loop: HttpLoop) -> list[Any]:
    model = RemoteModel(SERVER, "m", loop, max_answers=1)
    return list(model.answer(ChatRequest((Message("user", "Hi"),)), CancelToken()))


def read(pieces: Iterator[bytes]) -> list[str | None]:
    """Return the events of a stream."""

    async def send() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def collect() -> list[str | None]:
        return [data async for data in read_events(send())]

    with start_blocking_portal() as portal:
        return portal.call(collect)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 994 + b"\n", b"data:\n", b"x" * 1000, b"data: x\r"])
def test_an_endless_event_is_aborted_at_the_limit(piece: bytes) -> None:
    sent = 0

    def send() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 100 * len(piece)
            yield 100 * piece

    with pytest.raises(MalformedError, match="too long"):
        read(send())
    assert sent <= chat_stream.MAX_EVENT + 200_000


def test_a_line_split_into_single_bytes_takes_linear_time() -> None:
    start = time.process_time()
    assert read(iter([b"data: ", *[b"x"] * MANY, b"\n", b"\n"])) == ["x" * MANY]
    assert time.process_time() - start < 4  # joining all pieces for each new one takes 15 s


@pytest.mark.parametrize("piece", [b": still here\n\n", b"\n", b"event: ping\n", b"x", event({"choices": []}).encode()])
def test_an_endless_stream_is_aborted(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(chat_stream, "_MAX_STREAM", 100_000)

    def send() -> Iterator[bytes]:
        for _ in range(1000):
            yield piece
        raise AssertionError

    with pytest.raises(MalformedError, match="does not end"):
        read(send())


def test_an_answer_of_too_many_pieces_is_aborted(
    api: StandInApi, loop: HttpLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_model, "_MAX_PIECES", 10)
    api.handlers = [lambda _: stream_response(*complete_stream(*"abcdefghijk"))]
    with pytest.raises(UserError, match="does not end"):
        ask(loop)


def list_of(values: int) -> bytes:
    return b"[" + b"{}," * values + b"{}]"


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":' + list_of(MANY) + b"}",
        b'{"error":' + list_of(MANY) + b"}",
        b'{"choices":[],"usage":{"x":' + list_of(MANY) + b"}}",
        b'{"choices":[{"delta":{"content":' + list_of(MANY) + b"}}]}",
        b'{"choices":[{"delta":{"reasoning":' + list_of(MANY) + b"}}]}",
        b'{"choices":[' + b"[" * MANY,
        b"{" + b",".join(b'"%d":0' % number for number in range(MANY)) + b"}",
    ],
    ids=["choices", "error", "usage", "parts", "reasoning", "depth", "names"],
)
def test_events_of_too_many_values_are_not_parsed(data: bytes) -> None:
    for sent in (data, data.decode()):
        with pytest.raises(MalformedError, match="too many values"):
            parse_chunk(sent)
    # Text without a final line feed is checked before it counts as an event.
    assert read(iter([b"data: " + data])) == []


@pytest.mark.parametrize(
    "data", [b'{"usage":' + b"9" * MANY, b'{"choices":' + b"[" * 5000, b'{"usage":1e' + b"9" * MANY]
)
def test_long_numbers_and_deep_lists_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_chunk(data + b"}").parse_usage()


@pytest.mark.parametrize(
    "body",
    [
        b"exceed" * MANY,
        b"exceed " * MANY,
        b"maximum contex" * MANY,
        b"[" * MANY,
        b'{"error":' + list_of(MANY) + b"}",
        b'{"error":{"message":"' + b"\\u0000 " * MANY + b'"}}',
    ],
    ids=["words", "spaces", "contexts", "depth", "values", "controls"],
)
def test_parsing_an_error_of_any_text_takes_little_time(body: bytes) -> None:
    start = time.process_time()
    target = RemoteTarget(SERVER, "m")
    assert len(str(failure_from_status(target, 400, httpx.Headers(), body).error)) < 600
    assert len(str(failure_from_event(target, body.decode()))) < 600
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[' + b'{"id":"m"},' * 100_000 + b'{"id":"m"}]}',
        b"[" * 1000,
        b'{"data":' + b"9" * 5000 + b"}",
    ],
    ids=["values", "depth", "number"],
)
def test_an_oversized_list_of_models_is_malformed(
    api: StandInApi, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Stream(body))

    monkeypatch.setattr(api, "_handle", handle)
    with contextlib.closing(api.open_loop()) as loop:
        report = ServerReports(loop).fetch(SERVER)
    assert report.error
    assert report.error.code == "remote_malformed"


@pytest.mark.parametrize("created", [10**30, 2**63, -1, True, 1e300, "x"])
def test_an_impossible_creation_time_does_not_hide_the_model(api: StandInApi, loop: HttpLoop, created: object) -> None:
    api.models = [{"id": "m", "created": created}]
    report = ServerReports(loop).fetch(SERVER)
    assert report.models
    assert report.models[0].created in (0, 1)


def test_cookies_are_not_kept(api: StandInApi, loop: HttpLoop) -> None:
    set_cookies = [("set-cookie", f"c{number}=x; Domain=lab.example; Path=/") for number in range(50)]

    def answer(_: httpx.Request) -> httpx.Response:
        headers = [("content-type", "text/event-stream"), *set_cookies]
        return httpx.Response(200, headers=headers, stream=Stream(chunk("Hi"), chunk(finish="stop")))

    api.handlers = [answer]
    ask(loop)
    ask(loop)
    assert len(api.requests) == 2
    assert all("cookie" not in request.headers for request in api.requests)
