"""Contract *chat_agent*: MLflow's ChatAgent. Messages in, one or more messages out; it takes no settings."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import Declared
from phi3_ui.contracts.pyfunc_adapter import PyfuncChat, joined, overrides_stream
from phi3_ui.contracts.parsing import Piece, finish_of, usage_of
from phi3_ui.chat.types import ChatRequest


class ChatAgentContract:
    name: ClassVar[str] = "chat_agent"

    @staticmethod
    def matches(declared: Declared) -> bool:
        return declared.is_python and declared.task == "agent/v2/chat"

    @staticmethod
    def needs_template(declared: Declared) -> bool:
        return False

    @staticmethod
    def honours(declared: Declared) -> frozenset[str]:
        return frozenset({"stop"})

    @staticmethod
    def asking(declared: Declared, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        return _ask

    @classmethod
    def of(cls, model: Any, declared: Declared, template: str | None, cache_mb: int = 0) -> Adapter:
        return PyfuncChat(model, overrides_stream(model), _ask, _read_chunk, _read_answer)


def _ask(request: ChatRequest) -> PyfuncCall:
    return PyfuncCall(
        {"messages": [{"role": m.role, "content": m.content} for m in request.messages]}, stops=request.params.stop
    )


def _read_chunk(chunk: dict[str, Any]) -> Piece:
    message = chunk["delta"]
    text = _said(message)
    return Piece(text, usage_of(chunk.get("usage")), finish_of(chunk.get("finish_reason")), message.get("id"))


def _read_answer(answer: dict[str, Any]) -> Piece:
    text = joined([said for message in answer["messages"] if (said := _said(message))])
    return Piece(text, usage_of(answer.get("usage")), finish_of(answer.get("finish_reason")))


def _said(message: dict[str, Any]) -> str:
    """What the assistant says; what its tools gave is no part of the answer."""
    return message.get("content") or "" if message["role"] == "assistant" else ""
