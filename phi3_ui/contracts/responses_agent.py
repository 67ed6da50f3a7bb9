"""Contract *responses*: MLflow's ResponsesAgent. Input items in; output items, or text deltas and items as they are done."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import Declared
from phi3_ui.contracts.pyfunc_adapter import PyfuncChat, joined, overrides_stream
from phi3_ui.contracts.parsing import Piece, finish_of, usage_of
from phi3_ui.chat.types import ChatRequest, FinishReason

_NAMES = {"max_tokens": "max_output_tokens", "temperature": "temperature", "top_p": "top_p"}


class AgentError(Exception):
    """The agent's own error event; the message is its own."""


class ResponsesContract:
    name: ClassVar[str] = "responses"

    @staticmethod
    def matches(declared: Declared) -> bool:
        return declared.is_python and declared.task == "agent/v1/responses"

    @staticmethod
    def needs_template(declared: Declared) -> bool:
        return False

    @staticmethod
    def honours(declared: Declared) -> frozenset[str]:
        """What the request's columns name; the texts to stop at are cut here."""
        columns = {field.name for field in declared.inputs}
        return frozenset({"stop", *(ours for ours, theirs in _NAMES.items() if theirs in columns)})

    @staticmethod
    def asking(declared: Declared, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        settings = ResponsesContract.honours(declared) & _NAMES.keys()

        def ask(request: ChatRequest) -> PyfuncCall:
            items = [{"role": m.role, "content": m.content} for m in request.messages]
            params = {_NAMES[name]: value for name, value in request.params.given().items() if name in settings}
            return PyfuncCall({"input": items, **params}, stops=request.params.stop)

        return ask

    @classmethod
    def of(cls, model: Any, declared: Declared, template: str | None, cache_mb: int = 0) -> Adapter:
        ask = cls.asking(declared, template)
        return PyfuncChat(model, overrides_stream(model), ask, _read_event, _read_response)


def _read_event(event: dict[str, Any]) -> Piece:
    match event:
        case {"type": "response.output_text.delta", "delta": str(text)}:
            return Piece(text, message=event.get("item_id"))
        case {"type": "response.output_item.done", "item": dict(item)}:
            return Piece(_said(item), message=item.get("id"), whole=True)
        case {"type": "response.completed" | "response.incomplete", "response": dict(response)}:
            return Piece(usage=usage_of(response.get("usage")), finish_reason=_reason(response))
        case {"type": "error"}:
            raise AgentError(event.get("message") or "it gave an error without a message")
    return Piece()


def _read_response(response: dict[str, Any]) -> Piece:
    if error := response.get("error"):
        raise AgentError(error["message"])
    text = joined([said for item in response["output"] if (said := _said(item))])
    return Piece(text, usage_of(response.get("usage")), _reason(response))


def _said(item: dict[str, Any]) -> str:
    """The text of an output item; calls of tools and reasoning have none."""
    if item.get("type") != "message":
        return ""
    parts = item.get("content") or []
    return "".join(part.get("text") or part.get("refusal") or "" for part in parts)


def _reason(response: dict[str, Any]) -> FinishReason | None:
    return finish_of((response.get("incomplete_details") or {}).get("reason"))
