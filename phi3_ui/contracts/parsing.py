"""What a model of other code's gave, whatever its shape, as a piece of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phi3_ui.chat.types import FinishReason, Usage


class NoTextError(Exception):
    """The model gave something that holds no text; the message says what."""


@dataclass(frozen=True)
class ParsedChunk:
    """Some text of an answer; `message` tells apart the messages of an answer that has several.

    `whole`: the text is all of its message, of which parts may have come before.
    """

    text: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    message: str | None = None
    whole: bool = False


def parse_chunk(value: Any) -> ParsedChunk:
    """A string, an OpenAI-style completion or chunk, a dict with its text, or the first row of these. NoTextError for all else."""
    if isinstance(value, str):
        return ParsedChunk(str(value))
    if hasattr(value, "iloc"):  # pandas
        value = value.to_dict(orient="records") if value.ndim == 2 else value.tolist()
    elif hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    elif not isinstance(value, Mapping):
        value = _plain(value)
    if isinstance(value, str):
        return ParsedChunk(value)
    if isinstance(value, list | tuple) and value:
        return parse_chunk(value[0])
    if isinstance(value, Mapping) and value:
        return _read_mapping(value)
    raise NoTextError(f"it gave {type(value).__name__}, which holds no text")


def content_text(content: Any) -> str:
    """The text of a message's content: a string, a list of parts of which some are text, or None."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise NoTextError(f"the content of its message is {type(content).__name__}, and no text")
    return content or ""


def parse_usage(value: Any) -> Usage | None:
    """The counts of a usage record, of either of OpenAI's two namings; None if it has not both."""
    if not isinstance(value, Mapping):
        return None
    for prompt, completion in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        if _is_count(value.get(prompt)) and _is_count(value.get(completion)):
            return Usage(value[prompt], value[completion])
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def parse_finish_reason(reason: Any) -> FinishReason | None:
    if not reason:
        return None
    return "length" if reason in ("length", "max_tokens", "max_output_tokens") else "stop"


def _read_mapping(value: Mapping[str, Any]) -> ParsedChunk:
    usage, reason = parse_usage(value.get("usage")), parse_finish_reason(value.get("finish_reason"))
    choices = value.get("choices")
    if isinstance(choices, list):
        if not choices:
            return ParsedChunk(usage=usage)
        choice = choices[0]
        said = isinstance(choice, Mapping) and (choice.get("delta") or choice.get("message") or choice)
        if not isinstance(said, Mapping):
            raise NoTextError(f"its first choice is {type(choice).__name__}, and no record with text")
        text = content_text(said.get("content") or said.get("text"))
        return ParsedChunk(text, usage, parse_finish_reason(choice.get("finish_reason")))
    for name in ("content", "text"):
        if name in value:
            return ParsedChunk(content_text(value[name]), usage, reason)
    if len(value) == 1:
        return parse_chunk(next(iter(value.values())))
    raise NoTextError(f"it gave a record of {', '.join(map(str, value))}, and none of these is its text")


def _plain(value: Any) -> Any:
    """MLflow's own dataclasses and pydantic models as dicts."""
    for method in ("to_dict", "model_dump"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value
