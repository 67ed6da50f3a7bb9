"""A fake server with an OpenAI-compatible API, scripted by the test and used in place of the network."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from typing_extensions import override

from phi3_ui.host.remote.http_loop import HttpLoop

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
WORDS = ("Hello", " there", ".")


class Stream(httpx.AsyncByteStream):
    """Sends its chunks, then hangs if `hangs`; sets `is_closed` once the client has closed the connection."""

    def __init__(self, *chunks: str | bytes | Exception, hangs: bool = False) -> None:
        self._chunks = chunks
        self._hangs = hangs
        self.is_closed = False

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for data in self._chunks:
            if isinstance(data, Exception):
                raise data
            yield data.encode() if isinstance(data, str) else data
        if self._hangs:
            await anyio.sleep_forever()

    @override
    async def aclose(self) -> None:
        self.is_closed = True


def chunk(
    text: str | None = None, *, finish: str | None = None, usage: Mapping[str, int] | None = None, **delta: object
) -> str:
    """Return an event with a chunk of an answer."""
    content = {"content": text} if text is not None else {}
    choices = [{"index": 0, "delta": {**content, **delta}, "finish_reason": finish}]
    return event({"choices": [] if usage else choices, **({"usage": usage} if usage else {})})


def event(data: object) -> str:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


DONE = event("[DONE]")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def complete_stream(*words: str) -> list[str]:
    """Return the events of a complete answer."""
    return [*map(chunk, words or WORDS), chunk(finish="stop"), chunk(usage=USAGE), DONE]


def stream_response(*chunks: str | bytes | Exception, stream: Stream | None = None) -> httpx.Response:
    """Return a streaming response."""
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream or Stream(*chunks))


def respond(request: httpx.Request) -> httpx.Response:
    return stream_response(*complete_stream())


def error_response(status: int, message: str = "", **headers: str) -> httpx.Response:
    """Return an error in OpenAI's format."""
    return httpx.Response(status, json={"error": {"message": message, "type": "x", "code": None}}, headers=headers)


@dataclass
class StandInApi:
    """Responds to each completion request with the next handler, and with the last one from then on."""

    handlers: list[Handler] = field(default_factory=lambda: [respond])
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "m"}])
    requests: list[httpx.Request] = field(default_factory=list)
    is_models_list_held: bool = False
    """While set, the list of models is not sent."""

    def open_loop(self) -> HttpLoop:
        return HttpLoop(httpx.MockTransport(self._handle))

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the POST requests, in order."""
        return [json.loads(one.content) for one in self.requests if one.method == "POST"]

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.requests.append(request)
            while self.is_models_list_held:
                await anyio.sleep(0.005)
            return httpx.Response(200, json={"object": "list", "data": self.models})
        self.requests.append(request)
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        response = handler(request)
        return response if isinstance(response, httpx.Response) else await response
