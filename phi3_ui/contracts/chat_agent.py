"""Contract *chat_agent*: MLflow's ChatAgent. Messages in, one or more messages out; it accepts no parameters."""

from collections.abc import Callable
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import PROGRAMS, Adapter, Contract, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.parsing import ParsedChunk, join_messages, parse_finish_reason, parse_usage
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter, overrides_stream


class ChatAgentContract(Contract):
    """MLflow's ChatAgent."""

    name: ClassVar[str] = "chat_agent"
    program_template = PROGRAMS / "chat_agent.py.jinja"

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        return declaration.is_python and declaration.task == "agent/v2/chat"

    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        """Return only `stop`, which the adapter applies."""
        return frozenset({"stop"})

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        return _build_call

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        return PyfuncAdapter(model, overrides_stream(model), _build_call, _parse_delta, _parse_response)


def _build_call(request: ChatRequest) -> PyfuncCall:
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return PyfuncCall({"messages": messages}, stop_strings=request.params.stop)


def _parse_delta(chunk: dict[str, Any]) -> ParsedChunk:
    message = chunk["delta"]
    usage, reason = parse_usage(chunk.get("usage")), parse_finish_reason(chunk.get("finish_reason"))
    return ParsedChunk(_assistant_text(message), usage, reason, message.get("id"))


def _parse_response(response: dict[str, Any]) -> ParsedChunk:
    text = join_messages([text for message in response["messages"] if (text := _assistant_text(message))])
    return ParsedChunk(text, parse_usage(response.get("usage")), parse_finish_reason(response.get("finish_reason")))


def _assistant_text(message: dict[str, Any]) -> str:
    """Return the assistant's text; the output of its tools is not part of the answer."""
    return message.get("content") or "" if message["role"] == "assistant" else ""
