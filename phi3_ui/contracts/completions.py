"""Contract *completions*: rendered prompt in, a text completion out; the transformers flavour's task llm/v1/completions."""

from collections.abc import Callable
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest
from phi3_ui.contracts.base import PROGRAMS, Adapter, PyfuncCall, RecordedAnswer
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.pipeline import PipelineAdapter, PipelineContract, add_params
from phi3_ui.prompts.templates import PromptTemplate, declares_template, get_template


class CompletionsContract(PipelineContract):
    """A text-completion pipeline; the app renders the prompt."""

    name: ClassVar[str] = "completions"
    program_template = PROGRAMS / "completions.py.jinja"

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        return declaration.task == "llm/v1/completions" and "transformers" in declaration.flavors

    @override
    def requires_template(self, declaration: ModelDeclaration) -> bool:
        return not declares_template(declaration.metadata)

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        def build_call(request: ChatRequest) -> PyfuncCall:
            chosen = get_template(declaration.metadata, request.template or template)
            inputs = add_params({"prompt": chosen.format.render(request.messages, request.prefix)}, request.params)
            return PyfuncCall(inputs, stop_strings=(*request.params.stop, *chosen.stop_strings))

        return build_call

    @override
    def program_values(self, answer: RecordedAnswer) -> dict[str, Any]:
        bos = answer.declaration.metadata.get("bos_token")
        return {**super().program_values(answer), "skips_special_tokens": _starts_with(answer.call.data["prompt"], bos)}

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        return CompletionsAdapter(model, declaration, template, cache_mb)


class CompletionsAdapter(PipelineAdapter):
    """A text-completion pipeline as a ChatModel."""

    def __init__(self, model: Any, declaration: ModelDeclaration, template: str | None, cache_mb: int = 0) -> None:
        """See PipelineAdapter; `template` is the default for requests that do not name one."""
        super().__init__(model, declaration.metadata.get("context_length"), cache_mb)
        self._declaration, self._template = declaration, template

    @override
    def _end_strings(self, request: ChatRequest) -> tuple[str, ...]:
        return self._find_template(request).stop_strings

    @override
    def _build_inputs(self, request: ChatRequest) -> dict[str, Any]:
        return {"prompt": self._find_template(request).format.render(request.messages)}

    @override
    def _safe_prefix(self, request: ChatRequest) -> str:
        return self._find_template(request).format.safe_answer(request.prefix)

    @override
    def _prompt_text(self, inputs: dict[str, Any]) -> str:
        return str(inputs["prompt"])

    @override
    def _writes_special_tokens(self, prompt: str) -> bool:
        return _starts_with(prompt, self._pipeline.tokenizer.bos_token)

    @override
    def _choice_text(self, choice: dict[str, Any]) -> str:
        return str(choice["text"])

    def _find_template(self, request: ChatRequest) -> PromptTemplate:
        return get_template(self._declaration.metadata, request.template or self._template)


def _starts_with(prompt: str, bos: str | None) -> bool:
    """Return whether the template wrote BOS; the templates that users can pick leave it to the tokenizer."""
    return bool(bos) and prompt.startswith(str(bos))
