"""Contract *responses*: MLflow's ResponsesAgent. Input items in; output items, or text deltas and finished items, out."""

from collections.abc import Callable
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest, FinishReason
from phi3_ui.contracts.base import PROGRAMS, Adapter, Contract, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.parsing import ParsedChunk, join_messages, parse_finish_reason, parse_usage
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter, overrides_stream

_API_NAMES = {"max_tokens": "max_output_tokens", "temperature": "temperature", "top_p": "top_p"}
"""Our parameters, and their names in the Responses API."""


class AgentError(Exception):
    """The agent reported an error; the message is the agent's own."""


class ResponsesAgentContract(Contract):
    """MLflow's ResponsesAgent."""

    name: ClassVar[str] = "responses"
    program_template = PROGRAMS / "responses_agent.py.jinja"

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        return declaration.is_python and declaration.task == "agent/v1/responses"

    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        """Return the parameters among the input columns, and `stop`, which the adapter applies."""
        columns = {field.name for field in declaration.inputs}
        return frozenset({"stop", *(name for name, api_name in _API_NAMES.items() if api_name in columns)})

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        supported = self.supported_params(declaration) & _API_NAMES.keys()

        def build_call(request: ChatRequest) -> PyfuncCall:
            items = [{"role": message.role, "content": message.content} for message in request.messages]
            params = {_API_NAMES[name]: value for name, value in request.params.as_dict().items() if name in supported}
            return PyfuncCall({"input": items, **params}, stop_strings=request.params.stop)

        return build_call

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        build_call = self.request_builder(declaration, template)
        return PyfuncAdapter(model, overrides_stream(model), build_call, _parse_event, _parse_response)


def _parse_event(event: dict[str, Any]) -> ParsedChunk:
    match event:
        case {"type": "response.output_text.delta", "delta": str(text)}:
            return ParsedChunk(text, message=event.get("item_id"))
        case {"type": "response.output_item.done", "item": dict(item)}:
            return ParsedChunk(_item_text(item), message=item.get("id"), is_whole=True)
        case {"type": "response.completed" | "response.incomplete", "response": dict(response)}:
            return ParsedChunk(usage=parse_usage(response.get("usage")), finish_reason=_finish_reason(response))
        case {"type": "error"}:
            raise AgentError(event.get("message") or "it reported an error without a message")
    return ParsedChunk()


def _parse_response(response: dict[str, Any]) -> ParsedChunk:
    if error := response.get("error"):
        raise AgentError(error["message"])
    text = join_messages([text for item in response["output"] if (text := _item_text(item))])
    return ParsedChunk(text, parse_usage(response.get("usage")), _finish_reason(response))


def _item_text(item: dict[str, Any]) -> str:
    """Return the text of an output item; tool calls and reasoning have none."""
    if item.get("type") != "message":
        return ""
    parts = item.get("content") or []
    return "".join(part.get("text") or part.get("refusal") or "" for part in parts)


def _finish_reason(response: dict[str, Any]) -> FinishReason | None:
    return parse_finish_reason((response.get("incomplete_details") or {}).get("reason"))
