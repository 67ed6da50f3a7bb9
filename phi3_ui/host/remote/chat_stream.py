"""Parses a server's response: server-sent events with chunks of a chat completion, or a complete chat completion."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from phi3_ui.chat.json_values import has_more_values
from phi3_ui.chat.types import Usage

MAX_EVENT = 4_000_000  # bytes; enough for a complete answer in one event
_MAX_STREAM = 500_000_000  # bytes
_PIECE_BYTES = 500  # added to the size of each piece received, since tiny pieces cost time
_MAX_VALUES = 10_000  # JSON values per event
DONE = "[DONE]"

_Count = Annotated[int, Field(ge=0, lt=2**53)]


class MalformedError(Exception):
    """The response is not valid for an OpenAI-compatible API."""


class _Part(BaseModel):
    type: str = "text"
    text: str | None = None


class Delta(BaseModel):
    """A piece of the answer, or of the reasoning before it."""

    content: str | list[_Part] | None = None
    reasoning: Any = Field(default=None, validation_alias=AliasChoices("reasoning_content", "reasoning"))

    @property
    def text(self) -> str:
        """The answer's text. Databricks sends parts, some of which are reasoning."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type == "text")
        return self.content or ""

    @property
    def is_thinking(self) -> bool:
        """Whether it is a piece of reasoning."""
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
    """One event, or a complete chat completion."""

    choices: list[_Choice] = []
    counts: Any = Field(default=None, validation_alias="usage")
    """The token counts, unvalidated, so that invalid counts do not lose the answer."""
    error: Any = None
    """The error, if the server failed after it started to stream."""

    @property
    def choice(self) -> _Choice:
        """The first choice; an empty one if there is none."""
        return self.choices[0] if self.choices else _Choice()

    def parse_usage(self) -> Usage | None:
        """Return the token counts, if any. Raises MalformedError."""
        if self.counts is None:
            return None
        try:
            counts = _Usage.model_validate(self.counts)
        except ValidationError as error:
            raise MalformedError(_describe(error)) from error
        details = counts.prompt_tokens_details
        return Usage(counts.prompt_tokens, counts.completion_tokens, details.cached_tokens if details else None)


def parse_chunk(data: str | bytes) -> Chunk:
    """Parse one event's data. Raises MalformedError."""
    check_values(data)
    try:
        chunk = Chunk.model_validate_json(data)
    except ValidationError as error:
        raise MalformedError(_describe(error) or "it is not a JSON object") from error
    if not (chunk.choices or chunk.counts or chunk.error or "choices" in chunk.model_fields_set):
        raise MalformedError("it has no choices")
    return chunk


def check_values(data: str | bytes, limit: int = _MAX_VALUES) -> None:
    """Raise MalformedError if a JSON text has more than `limit` values: parsing 4 MB of them takes seconds and a gigabyte."""
    if has_more_values(data, limit):
        raise MalformedError("it sends too many values")


def _describe(error: ValidationError) -> str:
    """Return which field is invalid, and why; empty if the whole value is."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else ""


def _is_complete(data: str) -> bool:
    """Return whether a last line without a line feed is complete: some servers omit the line feed, other connections broke."""
    try:
        check_values(data)
        return data == DONE or json.loads(data) is not None
    except (ValueError, RecursionError, MalformedError):
        return False


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str | None]:
    """Yield the data of each event; None for a heartbeat without data, such as a comment. Raises MalformedError."""
    data, size = list[str](), 0
    async for raw in _read_lines(chunks):
        line = raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
        if not line and data:
            yield "\n".join(data)
            data, size = [], 0
        elif line.startswith("data:") and (raw.endswith(b"\n") or _is_complete(line[5:].strip())):
            data.append(line[5:].strip())
            size += len(raw)
        elif line.startswith(":"):
            yield None
        if size > MAX_EVENT:
            raise MalformedError("an event is too long")
    if data:
        yield "\n".join(data)


async def _read_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines with their line feeds, which the last one may lack. Raises MalformedError.

    Only line feeds end lines: httpx's own splitting would cut a JSON text at each U+2028 that it contains.
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
            raise MalformedError("its answer does not end")
    yield bytes(buffer)
