"""Contract *chat_agent*: MLflow's ChatAgent. Messages in, one or more messages out; it takes no settings."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.parsing import ParsedChunk, parse_finish_reason, parse_usage
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter, joined, overrides_stream


class ChatAgentContract:
    name: ClassVar[str] = "chat_agent"

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        return declared.is_python and declared.task == "agent/v2/chat"

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        return False

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        return frozenset({"stop"})

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        return _ask

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        return PyfuncAdapter(model, overrides_stream(model), _ask, _read_chunk, _read_answer)


def _ask(request: ChatRequest) -> PyfuncCall:
    return PyfuncCall(
        {"messages": [{"role": m.role, "content": m.content} for m in request.messages]}, stops=request.params.stop
    )


def _read_chunk(chunk: dict[str, Any]) -> ParsedChunk:
    message = chunk["delta"]
    text = _said(message)
    return ParsedChunk(
        text, parse_usage(chunk.get("usage")), parse_finish_reason(chunk.get("finish_reason")), message.get("id")
    )


def _read_answer(answer: dict[str, Any]) -> ParsedChunk:
    text = joined([said for message in answer["messages"] if (said := _said(message))])
    return ParsedChunk(text, parse_usage(answer.get("usage")), parse_finish_reason(answer.get("finish_reason")))


def _said(message: dict[str, Any]) -> str:
    """What the assistant says; what its tools gave is no part of the answer."""
    return message.get("content") or "" if message["role"] == "assistant" else ""
