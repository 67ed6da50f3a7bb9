"""Contract *completions*: rendered prompt → pyfunc → events, for the transformers flavour's task llm/v1/completions."""

from collections.abc import Callable
from typing import Any, ClassVar

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import PARAMS, ModelDeclaration
from phi3_ui.contracts.pipeline_chat import PipelineChatContract, payload
from phi3_ui.prompts.templates import Template, declares_template, get_template


class CompletionsContract(PipelineChatContract):
    """As the chat contract, tokens tapped, with the prompt rendered here: `template` is for requests that name none."""

    name: ClassVar[str] = "completions"

    def __init__(self, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> None:
        super().__init__(model, (), declared.metadata.get("context_length"), cache_mb)
        self._declared, self._template = declared, template

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        return declared.task == "llm/v1/completions" and "transformers" in declared.flavors

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        return not declares_template(declared.metadata)

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        return PARAMS

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        def ask(request: ChatRequest) -> PyfuncCall:
            chosen = get_template(declared.metadata, request.template or template)
            prompt = {"prompt": chosen.format.render(request.messages)}
            return PyfuncCall(payload(prompt, request.params), stops=(*request.params.stop, *chosen.stops))

        return ask

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        return cls(model, declared, template, cache_mb)

    def _ends(self, request: ChatRequest) -> tuple[str, ...]:
        """What ends a turn of the template: the model may not know it."""
        return self._template_of(request).stops

    def _asked(self, request: ChatRequest) -> dict[str, Any]:
        return {"prompt": self._template_of(request).format.render(request.messages)}

    def _template_of(self, request: ChatRequest) -> Template:
        return get_template(self._declared.metadata, request.template or self._template)

    def _prompt(self, payload: dict[str, Any]) -> str:
        return str(payload["prompt"])

    def _text(self, choice: dict[str, Any]) -> str:
        return str(choice["text"])
