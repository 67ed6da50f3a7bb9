"""Contract *text*: third-party string-to-string models, streaming or not, with a prompt template that the user picks."""

from collections.abc import Callable
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import PROGRAMS, Adapter, Contract, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.parsing import parse_chunk
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter
from phi3_ui.prompts.templates import declares_template, get_template


class TextModelContract(Contract):
    """A PythonModel with one required string column that returns a string.

    Also matches a model that declares the ONNX wrapper's contract and a chat template, but does not stream.
    """

    name: ClassVar[str] = "text"
    can_continue: ClassVar[bool] = True
    program_template = PROGRAMS / "text_model.py.jinja"

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        if declaration.metadata.get("contract") == OnnxPromptContract.name and declares_template(declaration.metadata):
            return not declaration.streamable
        required = [field.type for field in declaration.inputs if field.required]
        outputs = [field.type for field in declaration.outputs]
        is_plain = declaration.is_python and not declaration.task.startswith("agent/")
        return is_plain and required == ["string"] and outputs == ["string"]

    @override
    def requires_template(self, declaration: ModelDeclaration) -> bool:
        return not declares_template(declaration.metadata)

    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        """Return the declared parameters, and `stop`, which the adapter applies."""
        return declaration.declared_params | {"stop"}

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        columns = [field.name for field in declaration.inputs if field.required] or ["prompt"]
        forwarded = declaration.declared_params - {"stop"}

        def build_call(request: ChatRequest) -> PyfuncCall:
            chosen = get_template(declaration.metadata, request.template or template)
            prompt = chosen.format.render(request.messages, request.prefix)
            params = {name: value for name, value in request.params.as_dict().items() if name in forwarded}
            data = {columns[0]: prompt} if columns[0] else [prompt]
            return PyfuncCall(data, params or None, (*request.params.stop, *chosen.stop_strings))

        return build_call

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        build_call = self.request_builder(declaration, template)
        return PyfuncAdapter(model, declaration.streamable, build_call, parse_chunk, parse_chunk)
