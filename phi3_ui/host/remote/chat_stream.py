"""What a server streams: server-sent events with chunks of a chat completion, or the whole completion at once."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from phi3_ui.chat.json_values import has_more_values
from phi3_ui.chat.types import Usage

MAX_EVENT = 4_000_000  # bytes, of a whole answer in one event too
_MAX_STREAM = 500_000_000  # bytes
_PIECE_BYTES = 500  # for which a piece of the network counts: tiny ones cost time
_MAX_VALUES = 10_000  # of an event
DONE = "[DONE]"

_Count = Annotated[int, Field(ge=0, lt=2**53)]


class MalformedError(Exception):
    """The response is not that of an OpenAI-compatible API."""


class _Part(BaseModel):
    type: str = "text"
    text: str | None = None


class Delta(BaseModel):
    """A piece of the answer, or of what the model thinks before it."""

    content: str | list[_Part] | None = None
    reasoning: Any = Field(default=None, validation_alias=AliasChoices("reasoning_content", "reasoning"))

    @property
    def text(self) -> str:
        """The answer's text. Databricks sends parts, of which some are reasoning."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type == "text")
        return self.content or ""

    @property
    def is_thinking(self) -> bool:
        """Whether it is a piece of what the model thinks."""
        parts = self.content if isinstance(self.content, list) else []
        return bool(self.reasoning) or any(part.type == "reasoning" for part in parts)


class _Choice(BaseModel):
    delta: Delta = Field(default_factory=lambda: Delta(), validation_alias=AliasChoices("delta", "message"))
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: _Count | None = None


class _Usage(BaseModel):
    prompt_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: _Details | None = None


class Chunk(BaseModel):
    """One event, or a whole completion."""

    choices: list[_Choice] = []
    counts: Any = Field(default=None, validation_alias="usage")
    """As they were sent: an answer is not lost because its tokens are counted wrongly."""
    error: Any = None
    """Set where the server fails after it has begun to stream."""

    @property
    def choice(self) -> _Choice:
        """The first choice; an empty one if there is none."""
        return self.choices[0] if self.choices else _Choice()

    def parse_usage(self) -> Usage | None:
        """The token counts, if it has them. MalformedError."""
        if self.counts is None:
            return None
        try:
            counts = _Usage.model_validate(self.counts)
        except ValidationError as error:
            raise MalformedError(_describe(error)) from error
        details = counts.prompt_tokens_details
        return Usage(counts.prompt_tokens, counts.completion_tokens, details.cached_tokens if details else None)


def parse_chunk(data: str | bytes) -> Chunk:
    """Parse one event's data. MalformedError."""
    check_values(data)
    try:
        chunk = Chunk.model_validate_json(data)
    except ValidationError as error:
        raise MalformedError(_describe(error) or "it is not a JSON object") from error
    if not (chunk.choices or chunk.counts or chunk.error or "choices" in chunk.model_fields_set):
        raise MalformedError("it has no choices")
    return chunk


def check_values(data: str | bytes, limit: int = _MAX_VALUES) -> None:
    """MalformedError if a JSON text has more values: four megabytes of them take seconds, and a gigabyte."""
    if has_more_values(data, limit):
        raise MalformedError("it sends too many values")


def _describe(error: ValidationError) -> str:
    """Which field is wrong, and how; empty for the whole."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else ""


def _is_whole(data: str) -> bool:
    """Whether a last line that no line feed ends is all of it: some servers leave that out, others were cut off."""
    try:
        check_values(data)
        return data == DONE or json.loads(data) is not None
    except (ValueError, RecursionError, MalformedError):
        return False


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str | None]:
    """The data of each event; None for a sign of life without data, such as a comment. MalformedError."""
    data, size = list[str](), 0
    async for raw in _read_lines(chunks):
        line = raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
        if not line and data:
            yield "\n".join(data)
            data, size = [], 0
        elif line.startswith("data:") and (raw.endswith(b"\n") or _is_whole(line[5:].strip())):
            data.append(line[5:].strip())
            size += len(raw)
        elif line.startswith(":"):
            yield None
        if size > MAX_EVENT:
            raise MalformedError("an event is too long")
    if data:
        yield "\n".join(data)


async def _read_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines with their line feeds, which the last one may lack. MalformedError.

    Lines end at line feeds alone: httpx's own splitting would cut a JSON text at each U+2028 that it contains.
    """
    buffer, received = bytearray(), 0
    async for piece in chunks:
        received += len(piece) + _PIECE_BYTES
        buffer += piece
        if b"\n" in piece:
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                yield bytes(line) + b"\n"
        if len(buffer) > MAX_EVENT:
            raise MalformedError("an event is too long")
        if received > _MAX_STREAM:
            raise MalformedError("its answer has no end")
    yield bytes(buffer)
