"""The lines between the app and a model's process: one JSON array or object each, in both directions.

To the model: a ModelSpec first, then `{"answer": id, "messages": [[role, content]…], "params": {…}, "template": key,
"seconds": limit}` or `{"cancel": id}`.
From the model: `["ready", delivery]` or `["failed", detail]`, then `[id, event]` for each event. JSON, and not pickle:
a model's process may run code that the app does not trust.
"""

from dataclasses import asdict, dataclass
from typing import Any

from phi3_ui.chat.types import (
    CacheUse,
    ChatRequest,
    Completed,
    ContextUse,
    Event,
    GenerationParams,
    Loading,
    Message,
    PromptProgress,
    Queued,
    TextDelta,
    Timings,
    Usage,
)


@dataclass(frozen=True)
class ModelSpec:
    """What a process needs to load one model. `name` is for people; `contract` the name of one of CONTRACTS.

    `template` is a key of TEMPLATES, for requests that name none. `cache_mb` is what may be kept of the prompts that were
    read, in megabytes (0: an eighth of the memory).
    """

    model_id: str
    name: str
    uri: str
    contract: str
    tracking_uri: str
    template: str | None = None
    cache_mb: int = 0


@dataclass(frozen=True)
class AnswerFailed:
    """The answer ended in an error: a code of errors.SENTENCES and its detail."""

    code: str
    detail: str


def pack_request(number: int, request: ChatRequest) -> dict[str, Any]:
    messages = [[message.role, message.content] for message in request.messages]
    return {
        "answer": number,
        "messages": messages,
        "params": asdict(request.params),
        "template": request.template,
        "seconds": request.seconds,
    }


def unpack_request(line: dict[str, Any]) -> ChatRequest:
    messages = tuple(Message(role, content) for role, content in line["messages"])
    return ChatRequest(
        messages,
        GenerationParams(**{**line["params"], "stop": tuple(line["params"]["stop"])}),
        line.get("template"),
        line.get("seconds"),
    )


def pack_event(event: Event | AnswerFailed) -> list[Any]:
    match event:
        case TextDelta(text):
            return ["text", text]
        case PromptProgress(processed, total):
            return ["prompt", processed, total]
        case Queued(ahead):
            return ["queued", ahead]
        case ContextUse():
            return ["context", asdict(event)]
        case CacheUse():
            return ["cache", asdict(event)]
        case Completed(text, usage, timings, reason):
            return ["completed", text, asdict(usage) if usage else None, asdict(timings), reason]
        case AnswerFailed(code, detail):
            return ["failed", code, detail]
        case Loading():
            return ["loading"]


def unpack_event(line: list[Any]) -> Event | AnswerFailed:
    match line:
        case ["text", text]:
            return TextDelta(text)
        case ["prompt", processed, total]:
            return PromptProgress(processed, total)
        case ["queued", ahead]:
            return Queued(ahead)
        case ["context", use]:
            return ContextUse(**use)
        case ["cache", use]:
            return CacheUse(**use)
        case ["completed", text, usage, timings, reason]:
            return Completed(text, Usage(**usage) if usage else None, Timings(**timings), reason)
        case ["failed", code, detail]:
            return AnswerFailed(code, detail)
        case ["loading"]:
            return Loading()
    raise ValueError(f"not an event: {line!r}")
