"""A contract that is not part of the project, as third-party code would write it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import Adapter, Contract, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.parsing import parse_chunk
from phi3_ui.contracts.pyfunc_adapter import PyfuncAdapter


class PersonaContract(Contract):
    """A model with the columns persona, which is the system prompt, and question."""

    name: ClassVar[str] = "persona"
    program_template = Path(__file__).with_name("persona.py.jinja")
    packages: ClassVar[tuple[str, ...]] = ("pandas",)

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        return [field.name for field in declaration.inputs] == ["persona", "question"]

    @override
    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        return frozenset({"max_tokens", "stop"})

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        def build_call(request: ChatRequest) -> PyfuncCall:
            persona = next((message.content for message in request.messages if message.role == "system"), "Nobody")
            row = {"persona": persona, "question": request.messages[-1].content}
            params = {"max_tokens": request.params.max_tokens} if request.params.max_tokens else {}
            return PyfuncCall(row, params, request.params.stop)

        return build_call

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        return PyfuncAdapter(model, True, self.request_builder(declaration, template), parse_chunk, parse_chunk)
