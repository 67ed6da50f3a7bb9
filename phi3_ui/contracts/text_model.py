"""Contract *prompt* for models of other code's: one string in, one string out, streamed or not, with any template."""

from collections.abc import Callable
from typing import Any

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.parsing import parse_chunk
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter
from phi3_ui.prompts.templates import get_template


def string_to_string(declared: ModelDeclaration) -> bool:
    """Is this a PythonModel whose signature takes one string, and whatever else it likes optionally, and gives one?"""
    required = [field.type for field in declared.inputs if field.required]
    outputs = [field.type for field in declared.outputs]
    is_plain = declared.is_python and not declared.task.startswith("agent/")
    return is_plain and required == ["string"] and outputs == ["string"]


def foreign_prompt(model: Any, declared: ModelDeclaration, template: str | None) -> Adapter:
    return PyfuncAdapter(model, declared.streamable, request_builder(declared, template), parse_chunk, parse_chunk)


def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
    """`template` is the one picked for all; a request may name another."""
    columns = [field.name for field in declared.inputs if field.required] or ["prompt"]
    settings = declared.declared_params - {"stop"}  # stop texts are cut here, which needs nothing of the model

    def ask(request: ChatRequest) -> PyfuncCall:
        chosen = get_template(declared.metadata, request.template or template)
        prompt = chosen.format.render(request.messages)
        params = {name: value for name, value in request.params.as_dict().items() if name in settings}
        data = {columns[0]: prompt} if columns[0] else [prompt]
        return PyfuncCall(data, params or None, (*request.params.stop, *chosen.stops))

    return ask
