"""A model on a remote server, as a ChatModel, against a fake server."""

import contextlib
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    TextDelta,
    Thinking,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.host.remote import remote_model
from phi3_ui.host.remote.chat_stream import MalformedError, parse_chunk, read_events
from phi3_ui.host.remote.failures import find_message
from phi3_ui.host.remote.http_loop import HttpLoop
from phi3_ui.host.remote.remote_model import RemoteModel
from phi3_ui.i18n.translate import tr_error
from phi3_ui.remote_servers import create_remote_server
from tests.support.stand_in_api import (
    DONE,
    USAGE,
    StandInApi,
    Stream,
    chunk,
    error_response,
    event,
    respond,
    stream_response,
)

KEY = "sk-secret"
KEYS = st.sampled_from(
    ["choices", "delta", "message", "content", "usage", "prompt_tokens", "error", "reasoning", "text"]
)
REQUEST = ChatRequest((Message("user", "Hi"),))
TIMEOUT = 30


@pytest.fixture
def api() -> StandInApi:
    return StandInApi()


@pytest.fixture
def loop(api: StandInApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpLoop]:
    monkeypatch.setattr(remote_model, "_RETRY_SECONDS", 0.001)
    loop = api.open_loop()
    yield loop
    loop.close()


def create(loop: HttpLoop, model: str = "m", opening: tuple[Message, ...] = (), **fields: Any) -> RemoteModel:
    server = create_remote_server(**{"name": "lab", "url": "https://lab.example/v1", "key": KEY, **fields})
    return RemoteModel(server, model, loop, opening=opening, max_answers=2)


def ask(model: RemoteModel, request: ChatRequest = REQUEST, cancel: CancelToken | None = None) -> list[AnswerEvent]:
    return list(model.answer(request, cancel or CancelToken()))


def last(events: list[AnswerEvent]) -> Completed:
    assert isinstance(events[-1], Completed)
    assert sum(isinstance(event, Completed) for event in events) == 1
    return events[-1]


def test_an_answer_streams_with_its_usage(api: StandInApi, loop: HttpLoop) -> None:
    events = ask(create(loop))

    assert events[:3] == [TextDelta("Hello"), TextDelta(" there"), TextDelta(".")]
    completed = last(events)
    assert (completed.text, completed.usage, completed.finish_reason) == ("Hello there.", Usage(7, 3), "stop")
    assert completed.timings.time_to_first_token is not None
    assert completed.timings.tokens_per_second
    [request] = api.requests
    assert str(request.url) == "https://lab.example/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    assert api.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_each_kind_of_server_gets_the_parameters_that_it_supports(api: StandInApi, loop: HttpLoop) -> None:
    params = GenerationParams(9, 0.5, 0.9, 40, 1.1, 0.0, 0.5, ("\n",), 7)
    common = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["\n"], "seed": 7, "frequency_penalty": 0.5}
    few = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["\n"], "top_k": 40}
    expected = {
        "openai": common,
        "vllm": {**common, "top_k": 40, "repetition_penalty": 1.1},
        "llama-server": {**common, "top_k": 40, "repeat_penalty": 1.1},
        "ollama": common,
        "databricks": few,
        "phi3-chat": {**common, "top_k": 40, "repetition_penalty": 1.1},
    }
    for kind in expected:
        ask(create(loop, kind=kind), ChatRequest(REQUEST.messages, params))

    shared = {"model", "messages", "stream", "stream_options"}
    assert [{key: body[key] for key in body.keys() - shared} for body in api.bodies] == list(expected.values())
    assert [request.headers.get("x-phi3-trace") for request in api.requests] == [*[None] * 5, "off"]


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        (
            {"api_version": "2024-10-21"},
            "https://a.example/openai/deployments/gpt%204%2Fx/chat/completions?api-version=2024-10-21",
        ),
        ({}, "https://a.example/openai/v1/chat/completions"),
        ({"url": "https://a.example/openai/v1/"}, "https://a.example/openai/v1/chat/completions"),
    ],
)
def test_azure_requests_use_its_url_and_header(
    api: StandInApi, loop: HttpLoop, fields: dict[str, Any], url: str
) -> None:
    fields = {"url": "https://a.example", **fields}
    ask(create(loop, model="gpt 4/x", kind="azure", models=["gpt 4/x"], **fields))

    [request] = api.requests
    assert str(request.url) == url
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


def test_the_opening_messages_of_a_logged_model_come_first(api: StandInApi, loop: HttpLoop) -> None:
    ask(create(loop, opening=(Message("system", "Be brief."),)))

    assert [message["content"] for message in api.bodies[0]["messages"]] == ["Be brief.", "Hi"]


def test_reasoning_is_not_part_of_the_answer(api: StandInApi, loop: HttpLoop) -> None:
    parts = [{"type": "reasoning", "summary": []}, {"type": "text", "text": "Yes"}]
    api.handlers = [
        lambda _: stream_response(
            chunk(reasoning_content="Hm"), chunk(reasoning="so"), chunk(content=parts), chunk(finish="length"), DONE
        )
    ]
    events = ask(create(loop))

    assert events[:-1] == [Thinking(), TextDelta("Yes")]
    assert (last(events).text, last(events).finish_reason, last(events).usage) == ("Yes", "length", None)


def test_events_are_parsed_however_the_network_splits_them(api: StandInApi, loop: HttpLoop) -> None:
    text = "a\u2028b é\x0bc"
    raw = (": ping\n\nevent: x\n" + chunk(text) + chunk(finish="stop") + DONE).replace("\n", "\r\n").encode()
    raw = raw.replace(b"\\u2028", "\u2028".encode())
    api.handlers = [lambda _: stream_response(*(raw[index : index + 1] for index in range(len(raw))))]

    assert last(ask(create(loop))).text == text


def test_a_response_without_streaming_is_one_delta(api: StandInApi, loop: HttpLoop) -> None:
    body = {"choices": [{"message": {"content": "All."}, "finish_reason": "stop"}], "usage": USAGE}
    api.handlers = [lambda _: httpx.Response(200, json=body)]
    events = ask(create(loop))

    assert events[:-1] == [TextDelta("All.")]
    assert last(events).usage == Usage(7, 3)


@pytest.mark.parametrize("usage", [{"prompt_tokens": "many", "completion_tokens": -3}, [], {"prompt_tokens": -1}])
@pytest.mark.parametrize("is_whole", [True, False])
def test_invalid_token_counts_do_not_fail_an_answer(
    api: StandInApi, loop: HttpLoop, usage: Any, is_whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"choices": [{"message": {"content": "All."}, "finish_reason": "stop"}], "usage": usage}
    counts = event({"choices": [], "usage": usage})
    api.handlers = [
        lambda _: (
            httpx.Response(200, json=body)
            if is_whole
            else stream_response(chunk("All."), chunk(finish="stop"), counts, counts, DONE)
        )
    ]
    completed = last(ask(create(loop)))

    assert (completed.text, completed.usage) == ("All.", None)
    assert caplog.text.count("Invalid token counts from lab") == 1


def test_an_answer_may_be_empty_if_the_server_finishes_it(api: StandInApi, loop: HttpLoop) -> None:
    api.handlers = [lambda _: stream_response(chunk(finish="stop"), DONE)]

    assert last(ask(create(loop))).text == ""


def test_a_parameter_that_a_model_rejects_is_not_sent_again(api: StandInApi, loop: HttpLoop) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if b"stream_options" in request.content:
            return error_response(400, "Unrecognized request argument: stream_options")
        if b"max_tokens" in request.content:
            return error_response(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return respond(request)

    api.handlers = [answer]
    model, request = create(loop), ChatRequest(REQUEST.messages, GenerationParams(max_tokens=5))
    assert last(ask(model, request)).text == "Hello there."
    assert len(api.requests) == 3
    ask(model, request)
    assert len(api.requests) == 4
    assert api.bodies[-1]["max_completion_tokens"] == 5


@given(st.binary(max_size=300), st.integers(1, 7))
@settings(deadline=None)
def test_no_bytes_from_a_server_raise_an_unexpected_error(raw: bytes, step: int) -> None:
    async def read() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(raw), step):
                yield raw[start : start + step]

        async for data in read_events(pieces()):
            assert data is None or "\n\n" not in data
        parse_chunk(raw)

    with start_blocking_portal() as portal, contextlib.suppress(MalformedError):
        portal.call(read)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda children: st.dictionaries(KEYS, children) | st.lists(children),
    )
)
@settings(deadline=None)
def test_any_json_is_a_chunk_or_malformed(data: object) -> None:
    with contextlib.suppress(MalformedError):
        chunk = parse_chunk(json.dumps(data))
        assert isinstance(chunk.choice.delta.text, str)
        usage = chunk.parse_usage()
        assert usage is None or usage.total_tokens is not None
    assert isinstance(find_message(json.dumps(data).encode()), str)


def _broken(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    return fail


def _caused(cause: Exception) -> Callable[[httpx.Request], httpx.Response]:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = ExceptionGroup("tried", [cause])
    return _broken(error)


def _bad_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.verify_message = "self-signed certificate"
    return error


def _bomb() -> bytes:
    """Yield a hundred megabytes of one event's text."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = (packer.compress(b"data: x" + bytes(1 << 20)) for _ in range(100))
    return b"".join(pieces) + packer.flush()


def _in_an_hour() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


PACKED = {"content-type": "text/event-stream", "content-encoding": "gzip"}
TEXT, JSON = {"content-type": "text/html"}, {"content-type": "application/json"}
LIMITED = ("remote_rate_limited", "in a while", 3)
FAILURES: dict[str, tuple[Callable[[httpx.Request], httpx.Response], str, str, int]] = {
    "refused": (_caused(ConnectionRefusedError(111, "Connection refused")), "remote_not_running", "Start it", 3),
    "no host": (_caused(socket.gaierror(-2, "Name or service not known")), "remote_unknown_host", "Correct its", 3),
    "temporary": (_caused(socket.gaierror(-3, "Temporary failure in name")), "remote_unknown_host", "network", 3),
    "plain": (_caused(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")), "remote_not_tls", "http://", 1),
    "certificate": (_caused(_bad_certificate()), "remote_certificate", "self-signed", 1),
    "no route": (_caused(OSError(113, "No route to host")), "remote_unreachable", "No route to host", 3),
    "no response": (_broken(httpx.ConnectTimeout("")), "remote_timeout", "does not respond", 1),
    "gone": (_caused(TimeoutError(110, "Connection timed out")), "remote_timeout", "does not respond", 1),
    "dropped": (_broken(httpx.RemoteProtocolError("Server disconnected")), "remote_cut", "complete", 3),
    "reset at once": (_broken(httpx.ReadError("")), "remote_cut", "complete", 3),
    "no HTTP": (_broken(httpx.RemoteProtocolError("illegal request line")), "remote_malformed", "request line", 1),
    "wrong key": (
        lambda _: error_response(401, f"Incorrect API key: {KEY}"),
        "remote_key_refused",
        "Incorrect API key: …",
        1,
    ),
    "forbidden": (lambda _: error_response(403), "remote_key_refused", "lab", 1),
    "no model": (lambda _: error_response(404, "The model m does not exist"), "remote_no_model", "does not exist", 1),
    "no page": (lambda _: httpx.Response(404, text="<html>"), "remote_no_model", "status 404", 1),
    "limit": (lambda _: error_response(429, "slow down"), "remote_rate_limited", "in a while", 3),
    "long limit": (lambda _: error_response(429, "", **{"retry-after": "70"}), "remote_rate_limited_for", "in 70 s", 1),
    "broken": (lambda _: error_response(500, "CUDA out of memory"), "remote_failed", "CUDA out of memory", 1),
    "loading": (lambda _: error_response(503, "Loading model"), "remote_failed", "Loading model", 3),
    "overloaded": (
        lambda _: error_response(503, "", **{"retry-after": "300"}),
        "remote_rate_limited_for",
        "in 300 s",
        1,
    ),
    "limit until": (
        lambda _: error_response(429, "", **{"retry-after": _in_an_hour()}),
        "remote_rate_limited_for",
        " s.",
        1,
    ),
    "limit of old": (lambda _: error_response(429, "", **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), *LIMITED),
    "bad limit": (lambda _: error_response(429, "", **{"retry-after": "Wed, 99 Oct 99999 07:28"}), *LIMITED),
    "control characters": (
        lambda _: error_response(500, "a\r\nb\x1b[31m\u202ec\u2028\0d"),
        "remote_failed",
        "a b [31m c d",
        1,
    ),
    "context": (lambda _: error_response(400, "maximum context length is 4096 tokens"), "remote_context", "4096", 1),
    "field": (lambda _: httpx.Response(422, json={"detail": "bad seed"}), "remote_refused", "bad seed", 1),
    "redirect": (
        lambda _: httpx.Response(302, headers={"location": "http://169.254.169.254/"}),
        "remote_redirects",
        "169.254.169.254",
        1,
    ),
    "odd redirect": (lambda _: httpx.Response(302, headers={"location": "http://x/\x1b"}), "remote_redirects", "…", 1),
    "redirect nowhere": (lambda _: httpx.Response(301), "remote_malformed", "status 301", 1),
    "login page": (lambda _: httpx.Response(200, text="<html>", headers=TEXT), "remote_web_page", "login", 1),
    "bad gateway": (lambda _: httpx.Response(502, text="<html>", headers=TEXT), "remote_failed", "status 502", 3),
    "web page as JSON": (lambda _: httpx.Response(200, text="<html>", headers=JSON), "remote_malformed", "JSON", 1),
    "other text": (lambda _: httpx.Response(200, text="Hi"), "remote_malformed", "text/plain", 1),
    "bomb": (
        lambda _: httpx.Response(200, stream=Stream(_bomb()), headers=PACKED),
        "remote_malformed",
        "compresses",
        1,
    ),
    "bomb of an error": (
        lambda _: httpx.Response(500, stream=Stream(_bomb()), headers=PACKED),
        "remote_failed",
        "status 500",
        1,
    ),
    "half a line": (lambda _: stream_response(chunk("Hel"), 'data: {"choi'), "remote_cut", "complete", 1),
    "half a line at once": (lambda _: stream_response('data: {"choi'), "remote_cut", "complete", 1),
    "no json": (lambda _: stream_response(event("{oops")), "remote_malformed", "Check the address", 1),
    "no choices": (lambda _: stream_response(event({"id": 1})), "remote_malformed", "no choices", 1),
    "endless line": (lambda _: stream_response(*[b"data: " + b"x" * 5_000_000]), "remote_malformed", "too long", 1),
    "endless body": (lambda _: error_response(400, "x" * 5_000_000), "remote_malformed", "too long", 1),
    "endless answer": (lambda _: stream_response(*[chunk("x" * 900_000)] * 5), "remote_malformed", "does not end", 1),
    "cut": (lambda _: stream_response(chunk("Hel")), "remote_cut", "complete", 1),
    "reset": (lambda _: stream_response(chunk("Hel"), httpx.ReadError("")), "remote_cut", "complete", 1),
    "late error": (
        lambda _: stream_response(chunk("Hel"), event({"error": {"message": "died"}})),
        "remote_failed",
        "died",
        1,
    ),
    "tool": (
        lambda _: stream_response(chunk(tool_calls=[], finish="tool_calls"), DONE),
        "remote_tool_call",
        "no tools",
        1,
    ),
    "done": (lambda _: stream_response(DONE), "remote_no_text", "without any text", 1),
    "whole tool": (
        lambda _: httpx.Response(
            200, json={"choices": [{"message": {"content": None, "tool_calls": [{}]}, "finish_reason": "tool_calls"}]}
        ),
        "remote_tool_call",
        "no tools",
        1,
    ),
    "filter": (lambda _: stream_response(chunk("Hel"), chunk(finish="content_filter")), "remote_filtered", "filter", 1),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_sentence_without_the_key(
    api: StandInApi, loop: HttpLoop, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler, code, words, attempts = FAILURES[name]
    api.handlers = [handler]
    with pytest.raises(UserError) as caught:
        ask(create(loop))

    sentence = str(caught.value)
    assert caught.value.code == code
    assert words in sentence
    assert len(sentence) < 700
    assert sentence.isprintable()
    assert tr_error("ro", caught.value).isprintable()
    assert KEY not in sentence + caplog.text + repr(caught.value.values)
    assert len(api.requests) == attempts


def test_a_failure_before_the_first_token_is_retried(api: StandInApi, loop: HttpLoop) -> None:
    api.handlers = [
        _caused(ConnectionRefusedError()),
        lambda _: error_response(503, "", **{"retry-after": "0"}),
        respond,
    ]

    assert last(ask(create(loop))).text == "Hello there."
    assert len(api.requests) == 3


def test_a_silent_server_times_out(api: StandInApi, loop: HttpLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_model, "_SILENT_SECONDS", 0.05)
    monkeypatch.setattr(remote_model, "_LAST_SECONDS", 0.05)
    stream = Stream(chunk("Hel"), hangs=True)
    api.handlers = [
        lambda _: stream_response(stream=stream),
        lambda _: stream_response(stream=Stream(chunk("Hi", finish="stop"), hangs=True)),
    ]

    with pytest.raises(UserError, match="has sent nothing"):
        ask(create(loop))
    assert stream.is_closed
    assert last(ask(create(loop))).text == "Hi", "only the usage is missing"


@pytest.mark.parametrize("has_begun", [True, False])
def test_stop_closes_the_connection(api: StandInApi, loop: HttpLoop, has_begun: bool) -> None:
    stream = Stream(*([chunk("Hel")] if has_begun else []), hangs=True)
    is_requested = threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        is_requested.set()
        return stream_response(stream=stream)

    api.handlers = [answer]
    cancel = CancelToken()
    events = create(loop).answer(REQUEST, cancel)
    if has_begun:
        assert next(events) == TextDelta("Hel")
    else:

        def stop_once_requested() -> None:
            assert is_requested.wait(TIMEOUT)
            cancel.set()

        threading.Thread(target=stop_once_requested).start()
    stopped_at = time.monotonic()
    if has_begun:
        cancel.set()
    completed = list(events)[-1]

    assert isinstance(completed, Completed)
    assert (completed.text, completed.finish_reason) == ("Hel" if has_begun else "", "cancelled")
    wait_until(lambda: stream.is_closed)
    assert time.monotonic() - stopped_at < TIMEOUT


def test_closing_the_events_closes_the_connection(api: StandInApi, loop: HttpLoop) -> None:
    stream = Stream(chunk("Hel"), hangs=True)
    api.handlers = [lambda _: stream_response(stream=stream)]
    events = create(loop).answer(REQUEST, CancelToken())
    next(events)
    events.close()  # type: ignore[attr-defined]  # it is a generator

    wait_until(lambda: stream.is_closed)


def test_an_answer_ends_at_its_time_limit(api: StandInApi, loop: HttpLoop) -> None:
    api.handlers = [lambda _: stream_response(stream=Stream(chunk("Hel"), hangs=True))]
    completed = last(ask(create(loop), ChatRequest(REQUEST.messages, time_limit=0.05)))

    assert (completed.text, completed.finish_reason) == ("Hel", "timeout")


def test_more_answers_than_allowed_are_refused(api: StandInApi, loop: HttpLoop) -> None:
    api.handlers = [lambda _: stream_response(stream=Stream(chunk("Hel"), hangs=True))]
    model = create(loop)
    running = [model.answer(REQUEST, CancelToken()) for _ in range(2)]
    for events in running:
        next(events)

    with pytest.raises(UserError, match="queue of m is full"):
        ask(model)
    running[0].close()  # type: ignore[attr-defined]  # it is a generator
    next(events := model.answer(REQUEST, CancelToken()))
    for open_events in (events, running[1]):
        open_events.close()  # type: ignore[attr-defined]


def test_closing_the_app_ends_requests_in_progress(api: StandInApi) -> None:
    loop = api.open_loop()
    api.handlers = [lambda _: stream_response(stream=Stream(chunk("Hel"), hangs=True))]
    events = create(loop).answer(REQUEST, CancelToken())
    next(events)
    loop.close()

    with pytest.raises(UserError, match="app was closed"):
        next(events)
    with pytest.raises(UserError, match="app was closed"):
        ask(create(loop))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
