"""Streams answers as server-sent events."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

from starlette.responses import StreamingResponse

from phi3_ui.api.errors import ApiError, from_user_error
from phi3_ui.api.streams import AnswerStream, stop_on_disconnect
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.errors import UserError

_KEEP_ALIVE_SECONDS = 15.0  # proxies close connections that are idle for a minute


class Encoder(Protocol):
    """Encodes an answer in the format of one endpoint."""

    def begin(self) -> Iterator[str]:
        """Yield the events before the first text."""
        ...

    def write(self, text: str) -> Iterator[str]:
        """Yield the events for a piece of text."""
        ...

    def end(self, answer: Answer) -> Iterator[str]:
        """Yield the events after the last text of an answer that ended without an error."""
        ...

    def fail(self, body: dict[str, Any]) -> Iterator[str]:
        """Yield the events for an error."""
        ...

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the response body of an answer that is not streamed."""
        ...


def write_event(data: object, name: str = "") -> str:
    """Return one event with JSON as its data."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


def stream_answer(  # noqa: PLR0913  # the parts of one answer
    encoder: Encoder,
    first: str | Answer | None,
    stream: AnswerStream,
    turn: RunningTurn,
    receive: Callable[[], Awaitable[Any]],
    field: str,
) -> StreamingResponse:
    """Return the response that sends an answer while it is generated.

    `first` is the first event of the stream, if it has arrived; `field` is the field of the request with the question.
    """

    async def events() -> AsyncIterator[str]:
        async with stop_on_disconnect(receive, turn):
            for event in encoder.begin():
                yield event
            item = first or await stream.get(_KEEP_ALIVE_SECONDS)
            while not isinstance(item, Answer):
                for event in encoder.write(item) if item else [": keep-alive\n\n"]:
                    yield event
                item = await stream.get(_KEEP_ALIVE_SECONDS)
            error = find_error(item, field)
            for event in encoder.fail(error.body) if error else encoder.end(item):
                yield event

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def find_error(answer: Answer, field: str) -> ApiError | None:
    """Return the error that ended an answer, if any. `field` is the field of the request with the question."""
    if answer.error is None:
        return None
    code, values = answer.error
    return from_user_error(UserError(code, **values), field=field)
