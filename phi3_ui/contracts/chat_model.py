"""Contract *chat_model*: MLflow's ChatModel. OpenAI-style messages in, completions or chunks out."""

from collections.abc import Callable
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import PROGRAMS, Adapter, Contract, PyfuncCall
from phi3_ui.contracts.declaration import PARAMS, ModelDeclaration
from phi3_ui.contracts.parsing import parse_chunk
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter, overrides_stream


class ChatModelContract(Contract):
    """MLflow's ChatModel."""

    name: ClassVar[str] = "chat_model"
    program_template = PROGRAMS / "chat_model.py.jinja"

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        return declaration.is_python and declaration.task == "agent/v1/chat"

    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        """Return the parameters among the input columns, and `stop`, which the adapter applies."""
        return PARAMS & {"stop", *(field.name for field in declaration.inputs)}

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        supported = self.supported_params(declaration)

        def build_call(request: ChatRequest) -> PyfuncCall:
            messages = [{"role": message.role, "content": message.content} for message in request.messages]
            params = {name: value for name, value in request.params.as_dict().items() if name in supported}
            return PyfuncCall({"messages": messages, **params}, stop_strings=request.params.stop)

        return build_call

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        build_call = self.request_builder(declaration, template)
        return PyfuncAdapter(model, overrides_stream(model), build_call, parse_chunk, parse_chunk)
