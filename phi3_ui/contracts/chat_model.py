"""Contract *chat_model*: MLflow's ChatModel. OpenAI-style messages in, completions or chunks out."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import PARAMS, Declared
from phi3_ui.contracts.pyfunc_adapter import PyfuncChat, overrides_stream
from phi3_ui.contracts.parsing import read
from phi3_ui.chat.types import ChatRequest


class ChatModelContract:
    name: ClassVar[str] = "chat_model"

    @staticmethod
    def matches(declared: Declared) -> bool:
        return declared.is_python and declared.task == "agent/v1/chat"

    @staticmethod
    def needs_template(declared: Declared) -> bool:
        return False

    @staticmethod
    def honours(declared: Declared) -> frozenset[str]:
        """What the request's columns name; the texts to stop at are cut here."""
        return PARAMS & {"stop", *(field.name for field in declared.inputs)}

    @staticmethod
    def asking(declared: Declared, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        settings = ChatModelContract.honours(declared)

        def ask(request: ChatRequest) -> PyfuncCall:
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            params = {name: value for name, value in request.params.given().items() if name in settings}
            return PyfuncCall({"messages": messages, **params}, stops=request.params.stop)

        return ask

    @classmethod
    def of(cls, model: Any, declared: Declared, template: str | None, cache_mb: int = 0) -> Adapter:
        return PyfuncChat(model, overrides_stream(model), cls.asking(declared, template), read, read)
