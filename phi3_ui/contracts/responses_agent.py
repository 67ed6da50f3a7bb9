"""Contract *responses*: MLflow's ResponsesAgent. Input items in; output items, or text deltas and items as they are done."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.chat.types import ChatRequest, FinishReason
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.parsing import ParsedChunk, parse_finish_reason, parse_usage
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter, joined, overrides_stream

_NAMES = {"max_tokens": "max_output_tokens", "temperature": "temperature", "top_p": "top_p"}


class AgentError(Exception):
    """The agent's own error event; the message is its own."""


class ResponsesAgentContract:
    name: ClassVar[str] = "responses"

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        return declared.is_python and declared.task == "agent/v1/responses"

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        return False

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        """What the request's columns name; the texts to stop at are cut here."""
        columns = {field.name for field in declared.inputs}
        return frozenset({"stop", *(ours for ours, theirs in _NAMES.items() if theirs in columns)})

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        settings = ResponsesAgentContract.supported_params(declared) & _NAMES.keys()

        def ask(request: ChatRequest) -> PyfuncCall:
            items = [{"role": m.role, "content": m.content} for m in request.messages]
            params = {_NAMES[name]: value for name, value in request.params.as_dict().items() if name in settings}
            return PyfuncCall({"input": items, **params}, stops=request.params.stop)

        return ask

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        ask = cls.request_builder(declared, template)
        return PyfuncAdapter(model, overrides_stream(model), ask, _read_event, _read_response)


def _read_event(event: dict[str, Any]) -> ParsedChunk:
    match event:
        case {"type": "response.output_text.delta", "delta": str(text)}:
            return ParsedChunk(text, message=event.get("item_id"))
        case {"type": "response.output_item.done", "item": dict(item)}:
            return ParsedChunk(_said(item), message=item.get("id"), whole=True)
        case {"type": "response.completed" | "response.incomplete", "response": dict(response)}:
            return ParsedChunk(usage=parse_usage(response.get("usage")), finish_reason=_reason(response))
        case {"type": "error"}:
            raise AgentError(event.get("message") or "it gave an error without a message")
    return ParsedChunk()


def _read_response(response: dict[str, Any]) -> ParsedChunk:
    if error := response.get("error"):
        raise AgentError(error["message"])
    text = joined([said for item in response["output"] if (said := _said(item))])
    return ParsedChunk(text, parse_usage(response.get("usage")), _reason(response))


def _said(item: dict[str, Any]) -> str:
    """The text of an output item; calls of tools and reasoning have none."""
    if item.get("type") != "message":
        return ""
    parts = item.get("content") or []
    return "".join(part.get("text") or part.get("refusal") or "" for part in parts)


def _reason(response: dict[str, Any]) -> FinishReason | None:
    return parse_finish_reason((response.get("incomplete_details") or {}).get("reason"))
