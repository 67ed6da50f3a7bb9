"""Parses the output of third-party models into text, usage and finish reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phi3_ui.chat.types import FinishReason, Usage

MAX_COUNT = 2**53
"""The largest accepted count of tokens, bytes or seconds: the sum of two fits into any store."""


class NoTextError(Exception):
    """The model returned something without text; the message says what."""


@dataclass(frozen=True)
class ParsedChunk:
    """A piece of an answer."""

    text: str = ""

    usage: Usage | None = None
    """The token counts, if this chunk has them."""

    finish_reason: FinishReason | None = None

    message: str | None = None
    """Identifies the message that the text belongs to, in an answer with several."""

    is_whole: bool = False
    """Whether `text` is the complete message, parts of which may have been streamed already."""


def parse_chunk(value: Any) -> ParsedChunk:
    """Parse a string, an OpenAI-style completion or chunk, a dict with its text, or the first row of these.

    Raises NoTextError for anything else.
    """
    if isinstance(value, str):
        return ParsedChunk(str(value))
    if hasattr(value, "iloc"):  # pandas
        value = value.to_dict(orient="records") if value.ndim == 2 else value.tolist()
    elif hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    elif not isinstance(value, Mapping):
        value = _to_dict(value)
    if isinstance(value, str):
        return ParsedChunk(value)
    if isinstance(value, list | tuple) and value:
        return parse_chunk(value[0])
    if isinstance(value, Mapping) and value:
        return _parse_mapping(value)
    raise NoTextError(f"it returned {type(value).__name__}, which has no text")


def parse_content(content: Any) -> str:
    """Return the text of a message's content: a string, a list of parts, some of them text, or None."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise NoTextError(f"the content of its message is {type(content).__name__}, not text")
    return content or ""


def parse_usage(value: Any) -> Usage | None:
    """Return the counts of a usage record under either of OpenAI's two sets of names; None unless both counts are present."""
    if not isinstance(value, Mapping):
        return None
    for prompt, completion in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        if _is_count(value.get(prompt)) and _is_count(value.get(completion)):
            return Usage(value[prompt], value[completion])
    return None


def parse_finish_reason(reason: Any) -> FinishReason | None:
    """Map any API's finish reason to "length" or "stop"; None if there is none."""
    if not reason:
        return None
    return "length" if reason in ("length", "max_tokens", "max_output_tokens") else "stop"


def join_messages(texts: list[str]) -> str:
    """Join the messages of one answer. Raises NoTextError if there are none."""
    if not texts:
        raise NoTextError("its answer has no message with text")
    return "\n\n".join(texts)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _parse_mapping(value: Mapping[str, Any]) -> ParsedChunk:
    usage = parse_usage(value.get("usage"))
    if isinstance(choices := value.get("choices"), list):
        return _parse_choice(choices[0], usage) if choices else ParsedChunk(usage=usage)
    for name in ("content", "text"):
        if name in value:
            return ParsedChunk(parse_content(value[name]), usage, parse_finish_reason(value.get("finish_reason")))
    if len(value) == 1:
        return parse_chunk(next(iter(value.values())))
    raise NoTextError(f"it returned a record of {', '.join(map(str, value))}, none of which is its text")


def _parse_choice(choice: Any, usage: Usage | None) -> ParsedChunk:
    message = isinstance(choice, Mapping) and (choice.get("delta") or choice.get("message") or choice)
    if not isinstance(message, Mapping):
        raise NoTextError(f"its first choice is {type(choice).__name__}, not a record with text")
    text = parse_content(message.get("content") or message.get("text"))
    return ParsedChunk(text, usage, parse_finish_reason(choice.get("finish_reason")))


def _to_dict(value: Any) -> Any:
    """Convert MLflow's dataclasses and pydantic models to dicts."""
    for method in ("to_dict", "model_dump"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value
