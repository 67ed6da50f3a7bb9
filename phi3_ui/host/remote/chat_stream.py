"""What a server streams: server-sent events with chunks of a chat completion, or the whole completion at once."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from phi3_ui.chat.types import Usage

_MAX_LINE = 4_000_000  # bytes, of a whole answer in one event too
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
    try:
        chunk = Chunk.model_validate_json(data)
    except ValidationError as error:
        raise MalformedError(_describe(error) or "it is not a JSON object") from error
    if not (chunk.choices or chunk.counts or chunk.error or "choices" in chunk.model_fields_set):
        raise MalformedError("it has no choices")
    return chunk


def _describe(error: ValidationError) -> str:
    """Which field is wrong, and how; empty for the whole."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else ""


def _is_whole(data: str) -> bool:
    """Whether a last line that no line feed ends is all of it: some servers leave that out, others were cut off."""
    try:
        return data == DONE or json.loads(data) is not None
    except (ValueError, RecursionError):
        return False


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str | None]:
    """The data of each event; None for a sign of life without data, such as a comment. MalformedError.

    Lines end at line feeds alone: httpx's own splitting would cut a JSON text at each U+2028 that it contains.
    """
    buffer, data = b"", list[str]()
    async for piece in chunks:
        *lines, buffer = (buffer + piece).split(b"\n")
        if len(buffer) > _MAX_LINE:
            raise MalformedError("an event is too long")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            if not line and data:
                yield "\n".join(data)
                data = []
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif line.startswith(":"):
                yield None
    if buffer.startswith(b"data:") and _is_whole(last := buffer[5:].decode("utf-8", "replace").strip()):
        data.append(last)
    if data:
        yield "\n".join(data)
