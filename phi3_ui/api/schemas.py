"""The requests of the API, as OpenAI defines them. Unsupported fields are rejected by name; nothing is silently ignored.

Fields that describe the caller or control OpenAI's own servers do not affect the answer, so they are accepted.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from phi3_ui.chat.sampling_params import MAX_STOP_STRINGS
from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.chat.types import Message

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # as escaped in JSON


def parse_json(body: bytes) -> Any:
    """Parse a JSON text in UTF-8. Raises ValueError or RecursionError.

    JSON can contain lone surrogates, which neither a store nor a response can encode, so they are replaced, as on the page.
    """
    value = json.loads(body.decode("utf-8-sig"))
    return json.loads(replace_surrogates(json.dumps(value, ensure_ascii=False))) if _SURROGATE.search(body) else value


def _invalid_value(message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_value", message)


def _allow_only(*allowed: object) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in allowed:
            raise _invalid_value(f"only {' or '.join(repr(one) for one in allowed if one is not None)} is supported")
        return value

    return check


def _join_parts(content: Any) -> Any:
    """Join the text of a list of text parts."""
    if not isinstance(content, list):
        return content
    texts = list[str]()
    for part in content:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str) or part.get("type") not in ("text", "input_text", "output_text"):
            raise _invalid_value("these models only accept text, as a string or as parts of the type text")
        texts.append(text)
    return "".join(texts)


def _to_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _check_format(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value and value.get("type") != "text":
        raise _invalid_value("structured output is not supported; use {'type': 'text'}")
    return value


def _check_metadata(value: Any) -> Any:
    """Enforce OpenAI's limits, since the response repeats the metadata in several events."""
    if value is None:
        return value
    texts = list(value.items()) if isinstance(value, dict) and len(value) <= 16 else [("", None)]
    if not all(len(name) <= 64 and isinstance(text, str) and len(text) <= 512 for name, text in texts):
        raise _invalid_value("up to 16 texts of 512 characters, with names of 64, are supported")
    return value


def _reject_logprobs(value: Any) -> Any:
    if value is not None and value is not False:  # 0 requests those of the chosen tokens
        raise _invalid_value("these models do not support it")
    return value


def _reject_value(value: Any) -> Any:
    if value:
        raise _invalid_value("these models do not support it")
    return value


Text = Annotated[str, BeforeValidator(_join_parts)]
Unsupported = Annotated[Any, AfterValidator(_reject_value)]
StopStrings = Annotated[list[str], Field(max_length=MAX_STOP_STRINGS)]
TokenLimit = Annotated[int, Field(ge=1)]
Unused = Any
"""Accepted, since it does not affect the answer."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_field(cls, fields: Any) -> Any:
        """Keep only one unknown field, which is reported: an error for each of 100,000 would take a second."""
        if not isinstance(fields, dict) or len(fields) <= len(cls.model_fields):
            return fields
        known = {name: value for name, value in fields.items() if name in cls.model_fields}
        unknown = next(name for name in fields if name not in known)
        return {**known, unknown: fields[unknown]}


class ChatMessage(_Model):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | None = None
    name: Unused = None
    refusal: Unused = None
    annotations: Unused = None
    audio: Unsupported = None
    tool_calls: Unsupported = None
    function_call: Unsupported = None

    def to_message(self) -> Message:
        """Convert to a message for the models."""
        return Message("system" if self.role == "developer" else self.role, self.content or "")


class StreamOptions(_Model):
    """What a stream contains in addition to the answer."""

    include_usage: bool = False
    include_obfuscation: Unused = None


class Sampling(_Model):
    """The fields that every request may have. None stands for the model's default."""

    model: str = Field(min_length=1, max_length=500)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: Annotated[StopStrings | None, BeforeValidator(_to_list)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int | None, AfterValidator(_allow_only(None, 1))] = None
    logit_bias: Unsupported = None
    user: Unused = None
    metadata: Unused = None
    store: bool | None = None
    """False: the answer is not recorded."""
    service_tier: Unused = None
    safety_identifier: Unused = None
    prompt_cache_key: Unused = None
    prompt_cache_retention: Unused = None

    def values(self) -> dict[str, Any]:
        """Return the sampling parameters that are set, by the names of SAMPLING_PARAMS."""
        names = ("temperature", "top_p", "top_k", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed")
        values = {name: getattr(self, name) for name in (*names, "stop")}
        return {name: value for name, value in {**values, "max_tokens": self.token_limit}.items() if value is not None}

    @property
    @abstractmethod
    def token_limit(self) -> int | None:
        """Maximum number of tokens of the answer; each endpoint has its own field for it."""


class ChatCompletionRequest(Sampling):
    """The body of POST /chat/completions."""

    messages: Annotated[list[ChatMessage], FailFast(), Field(min_length=1, max_length=10_000)]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    response_format: Annotated[dict[str, Any] | None, AfterValidator(_check_format)] = None
    modalities: Annotated[Any, AfterValidator(_allow_only(None, ["text"]))] = None
    tools: Unsupported = None
    functions: Unsupported = None
    tool_choice: Annotated[Any, AfterValidator(_allow_only(None, "none", "auto"))] = None
    function_call: Annotated[Any, AfterValidator(_allow_only(None, "none", "auto"))] = None
    logprobs: Unsupported = None
    top_logprobs: Unsupported = None
    audio: Unsupported = None
    prediction: Unsupported = None
    web_search_options: Unsupported = None
    parallel_tool_calls: Unused = None
    reasoning_effort: Unused = None
    verbosity: Unused = None

    @property
    def token_limit(self) -> int | None:
        """`max_completion_tokens`, or its older name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionRequest(Sampling):
    """The body of POST /completions."""

    prompt: str = Field(min_length=1)
    max_tokens: TokenLimit | None = None
    best_of: Annotated[int | None, AfterValidator(_allow_only(None, 1))] = None
    echo: Unsupported = None
    logprobs: Annotated[Any, AfterValidator(_reject_logprobs)] = None
    suffix: Unsupported = None

    @property
    def token_limit(self) -> int | None:
        """`max_tokens`."""
        return self.max_tokens


class InputItem(_Model):
    """One item of a response's input: a message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text
    id: Unused = None
    phase: Unused = None
    status: Unused = None

    def to_message(self) -> Message:
        """Convert to a message for the models."""
        return Message("system" if self.role == "developer" else self.role, self.content)


def _to_input_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponseRequest(Sampling):
    """The body of POST /responses."""

    input: Annotated[
        list[InputItem], FailFast(), Field(min_length=1, max_length=10_000), BeforeValidator(_to_input_items)
    ]
    instructions: str | None = None
    metadata: Annotated[Any, AfterValidator(_check_metadata)] = None
    max_output_tokens: TokenLimit | None = None
    previous_response_id: str | None = None
    text: Annotated[dict[str, Any] | None, AfterValidator(lambda value: value and _check_text(value))] = None
    tools: Unsupported = None
    tool_choice: Annotated[Any, AfterValidator(_allow_only(None, "none", "auto"))] = None
    background: Unsupported = None
    conversation: Unsupported = None
    include: Unsupported = None
    top_logprobs: Unsupported = None
    prompt: Unsupported = None
    max_tool_calls: Unused = None
    parallel_tool_calls: Unused = None
    reasoning: Unused = None
    truncation: Unused = None

    @property
    def token_limit(self) -> int | None:
        """`max_output_tokens`."""
        return self.max_output_tokens


def _check_text(value: dict[str, Any]) -> dict[str, Any]:
    _check_format(value.get("format"))
    return value
