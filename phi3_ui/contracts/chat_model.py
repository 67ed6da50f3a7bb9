"""Contract *chat_model*: MLflow's ChatModel. OpenAI-style messages in, completions or chunks out."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import PARAMS, ModelDeclaration
from phi3_ui.contracts.parsing import parse_chunk
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter, overrides_stream


class ChatModelContract:
    name: ClassVar[str] = "chat_model"

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        return declared.is_python and declared.task == "agent/v1/chat"

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        return False

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        """What the request's columns name; the texts to stop at are cut here."""
        return PARAMS & {"stop", *(field.name for field in declared.inputs)}

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        settings = ChatModelContract.supported_params(declared)

        def ask(request: ChatRequest) -> PyfuncCall:
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            params = {name: value for name, value in request.params.as_dict().items() if name in settings}
            return PyfuncCall({"messages": messages, **params}, stops=request.params.stop)

        return ask

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        return PyfuncAdapter(
            model, overrides_stream(model), cls.request_builder(declared, template), parse_chunk, parse_chunk
        )
