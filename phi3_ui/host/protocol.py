"""The protocol between the app and a model's process: one JSON array or object per line, in both directions.

From the app: first `{"spec": {…}, "contract": "module:Class"}`, then `{"answer": id, "messages": [[role, content]…],
"params": {…}, "template": key, "time_limit": seconds, "raw_prompt": text, "prefix": text, "gpu_token": text}`, `{"cancel": id}`, or `{"count": id, "prompts": [[[role, content]…]…],
"template": key}`.
From the process: `["ready", delivery, batching]` (batching: null, or its reason and detail) or `["failed", detail]`, then
`[id, event]` for each event.
JSON, not pickle: a model's process may run code that the app does not trust, so everything it sends is checked: the values that
`unpack_event` and `unpack_ready` return have the declared types, and their numbers are within bounds.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar, cast, get_args

from pydantic import TypeAdapter

from phi3_ui.chat.one_line import write_on_one_line
from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.chat.types import (
    AnswerEvent,
    Batching,
    BatchingReason,
    CacheStats,
    ChatRequest,
    Completed,
    ContextUsage,
    FinishReason,
    GenerationParams,
    Message,
    ModelLoading,
    PrefillProgress,
    QueuePosition,
    StreamingMode,
    TextDelta,
    Thinking,
    Timings,
    Usage,
)
from phi3_ui.contracts.base import Contract
from phi3_ui.contracts.parsing import MAX_COUNT
from phi3_ui.contracts.registry import get_contract, import_contract, import_path
from phi3_ui.host.sandbox_policy import TrustLevel


@dataclass(frozen=True)
class ModelSpec:
    """What a process needs to load one model."""

    model_id: str

    name: str
    """The name shown to users and written to logs."""

    uri: str
    """A `models:/` URI."""

    contract: str
    """The contract's name."""

    tracking_uri: str

    template: str | None = None
    """A key of TEMPLATES, used by requests that do not name one."""

    cache_mb: int = 0
    """Megabytes for the KV cache; 0: an eighth of the main memory."""

    folder: str | None = None
    """The folder with the model's files on this machine. Loading from it saves the process the import of MLflow's SQL store,
    which takes seconds."""

    level: TrustLevel = "code"
    """The trust level found by inspecting `folder`. Decides what the process may access."""

    folders: tuple[str, ...] = ()
    """Additional folders that the process may read and write, if the model contains third-party code."""

    variables: tuple[str, ...] = ()
    """Names of additional environment variables that it inherits in that case."""


AnswerErrorCode = Literal[
    "no_template",
    "system_prompt_rejected",
    "bad_template",
    "context_exceeded",
    "refused",
    "no_text",
    "exited",
    "answer_failed",
    "gpu_quota",
    "gpu_busy",
    "gpu_visitor_unknown",
    "gpu_lost",
]
"""The errors that a model's process may report."""

MAX_DETAIL = 300
"""Characters of an error's detail."""

_CONTEXT, _CACHE = TypeAdapter(ContextUsage), TypeAdapter(CacheStats)
_USAGE, _TIMINGS = TypeAdapter(Usage), TypeAdapter(Timings)

_Numbers = TypeVar("_Numbers", ContextUsage, CacheStats, Usage, Timings)


@dataclass(frozen=True)
class AnswerFailed:
    """An error ended the answer."""

    code: AnswerErrorCode
    """A key of errors.SENTENCES."""

    detail: str


@dataclass(frozen=True)
class TokenCounts:
    """The reply to a request to count tokens."""

    counts: tuple[int, ...] | None
    """One number per prompt; None if the model cannot count at the moment."""


@dataclass(frozen=True)
class Heartbeat:
    """The model has completed a chunk without text. Sent if no other event was for HEARTBEAT_SECONDS."""


HEARTBEAT_SECONDS = 1.0

HostEvent = AnswerEvent | AnswerFailed | TokenCounts | Heartbeat


def pack_spec(spec: ModelSpec) -> dict[str, Any]:
    """Return the first line. Raises KeyError if there is no contract of that name.

    The tracking URI is left out: the process needs no store, and the URI may contain a password.
    """
    return {"spec": asdict(replace(spec, tracking_uri="")), "contract": import_path(get_contract(spec.contract))}


def unpack_spec(line: dict[str, Any]) -> tuple[ModelSpec, Contract]:
    """Unpack the line of `pack_spec`. Raises ImportError, AttributeError or TypeError if the contract cannot be imported."""
    return ModelSpec(**line["spec"]), import_contract(line["contract"])


def pack_batching(batching: Batching | None) -> list[str] | None:
    """Return a loaded model's batching, if known, as JSON values."""
    return [batching.reason, batching.detail] if batching else None


def unpack_ready(delivery: Any, batching: Any) -> tuple[StreamingMode, Batching | None]:
    """Return a loaded model's delivery, and the batching that `pack_batching` packed. Raises ValueError for anything else."""
    if delivery not in get_args(StreamingMode):
        raise ValueError(f"not a delivery: {reprlib.repr(delivery)}")
    match batching:
        case None:
            return delivery, None
        case [str() as reason, str() as detail] if reason in get_args(BatchingReason):
            return delivery, Batching(cast("BatchingReason", reason), unpack_detail(detail))
    raise ValueError(f"not a batching: {reprlib.repr(batching)}")


def unpack_detail(detail: Any) -> str:
    """Return the detail of an error, on one line. Raises ValueError if it is not a string."""
    if not isinstance(detail, str):
        raise ValueError(f"not the detail of an error: {reprlib.repr(detail)}")
    return write_on_one_line(replace_surrogates(detail[: 10 * MAX_DETAIL]))[:MAX_DETAIL]


def pack_count(number: int, prompts: Sequence[Sequence[Message]], template: str | None) -> dict[str, Any]:
    """Return the line that asks for the number of tokens of each prompt."""
    packed = [[[message.role, message.content] for message in messages] for messages in prompts]
    return {"count": number, "prompts": packed, "template": template}


def unpack_count(line: dict[str, Any]) -> list[ChatRequest]:
    """Return the prompts that `pack_count` packed."""
    return [
        ChatRequest(tuple(Message(role, content) for role, content in messages), template=line["template"])
        for messages in line["prompts"]
    ]


def pack_request(number: int, request: ChatRequest) -> dict[str, Any]:
    """Return the line that asks for an answer."""
    messages = [[message.role, message.content] for message in request.messages]
    return {
        "answer": number,
        "messages": messages,
        "params": asdict(request.params),
        "template": request.template,
        "time_limit": request.time_limit,
        "raw_prompt": request.raw_prompt,
        "prefix": request.prefix,
        "gpu_token": request.gpu_token,
    }


def unpack_request(line: dict[str, Any]) -> ChatRequest:
    """Return the request that `pack_request` packed."""
    messages = tuple(Message(role, content) for role, content in line["messages"])
    return ChatRequest(
        messages,
        GenerationParams(**{**line["params"], "stop": tuple(line["params"]["stop"])}),
        line.get("template"),
        line.get("time_limit"),
        line.get("raw_prompt"),
        line.get("prefix", ""),
        line.get("gpu_token"),
    )


def pack_event(event: HostEvent) -> list[Any]:  # noqa: C901  # one case for each kind of event
    """Return an event as JSON values."""
    match event:
        case TextDelta(text):
            return ["text", text]
        case PrefillProgress(processed, total):
            return ["prompt", processed, total]
        case Thinking():
            return ["thinking"]
        case QueuePosition(ahead):
            return ["queued", ahead]
        case ContextUsage():
            return ["context", asdict(event)]
        case CacheStats():
            return ["cache", asdict(event)]
        case Completed(text, usage, timings, reason):  # only the app sets ended_model
            return ["completed", text, asdict(usage) if usage else None, asdict(timings), reason]
        case AnswerFailed(code, detail):
            return ["failed", code, detail]
        case TokenCounts(counts):
            return ["counted", list(counts) if counts is not None else None]
        case ModelLoading():
            return ["loading"]
        case Heartbeat():
            return ["alive"]


def unpack_event(line: Any) -> HostEvent:  # noqa: C901  # one case for each kind of event
    """Unpack the event that `pack_event` packed. Raises ValueError for an unknown event or an invalid value."""
    match line:
        case ["text", str() as text]:
            return TextDelta(replace_surrogates(text))
        case ["prompt", processed, total]:
            return PrefillProgress(_unpack_count(processed), _unpack_count(total))
        case ["thinking"]:
            return Thinking()
        case ["queued", ahead]:
            return QueuePosition(_unpack_count(ahead))
        case ["context", use]:
            return _unpack_numbers(_CONTEXT, use)
        case ["cache", use]:
            return _unpack_numbers(_CACHE, use)
        case ["completed", str() as text, usage, timings, reason] if reason in get_args(FinishReason):
            known = _unpack_numbers(_USAGE, usage) if usage is not None else None
            return Completed(replace_surrogates(text), known, _unpack_numbers(_TIMINGS, timings), reason)
        case ["failed", code, detail] if code in get_args(AnswerErrorCode):
            return AnswerFailed(code, unpack_detail(detail))
        case ["counted", None]:
            return TokenCounts(None)
        case ["counted", list() as counts]:
            return TokenCounts(tuple(map(_unpack_count, counts)))
        case ["loading"]:
            return ModelLoading()
        case ["alive"]:
            return Heartbeat()
    raise ValueError(f"not an event: {reprlib.repr(line)}")


def _unpack_count(value: Any) -> int:
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    raise ValueError(f"not an event: {reprlib.repr(value)} is not a count")


def _unpack_numbers(kind: TypeAdapter[_Numbers], packed: Any) -> _Numbers:
    """Return the dataclass with these fields, all of them numbers. Raise ValueError if one is out of bounds or NaN."""
    numbers = kind.validate_python(packed)
    for name, number in vars(numbers).items():
        if number is not None and not 0 <= number <= MAX_COUNT:
            raise ValueError(f"not an event: {name} cannot be {number}")
    return numbers
