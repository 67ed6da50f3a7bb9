"""Contract *chat*: OpenAI-style messages in, a chat completion out; the transformers flavour's task llm/v1/chat."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.types import ChatRequest, Message
from phi3_ui.contracts.base import PROGRAMS, Adapter, PyfuncCall, RecordedAnswer
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.pipeline import PipelineAdapter, PipelineContract, add_params
from phi3_ui.prompts.tokenization import neutralise_messages, render_or_explain


class PipelineChatContract(PipelineContract):
    """A chat pipeline, whose tokenizer has the chat template."""

    name: ClassVar[str] = "chat"
    program_template = PROGRAMS / "pipeline_chat.py.jinja"

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        is_chat = declaration.metadata.get("contract") == self.name or declaration.task == "llm/v1/chat"
        return is_chat and "transformers" in declaration.flavors

    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        """Return a function that breaks the special tokens listed in the metadata.

        If the metadata lists none, they are known only where the tokenizer is loaded.
        """
        tokens = tuple(declaration.metadata.get("special_tokens") or ())
        markers = tuple(declaration.metadata.get("answer_markers") or ())

        def build_call(request: ChatRequest) -> PyfuncCall:
            inputs = add_params({"messages": neutralise_messages(request.messages, tokens, markers)}, request.params)
            return PyfuncCall(inputs, stop_strings=request.params.stop)

        return build_call

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        tokens = declaration.metadata.get("special_tokens")
        if not tokens:
            tokenizer = model.get_raw_model().tokenizer
            tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
        markers = tuple(declaration.metadata.get("answer_markers") or ())
        context_length = declaration.metadata.get("context_length")
        return PipelineChatAdapter(model, tuple(tokens), context_length, cache_mb, answer_markers=markers)

    @override
    def program_values(self, answer: RecordedAnswer) -> dict[str, Any]:
        metadata = answer.declaration.metadata
        knows_tokens = bool(metadata.get("special_tokens"))
        skips_special_tokens = answer.declaration.config.get("add_special_tokens", True)
        values = {
            "neutralise": not knows_tokens,
            "skips_special_tokens": skips_special_tokens,
            "prefix": _safe_prefix(answer.request, metadata.get("special_tokens"), metadata.get("answer_markers")),
        }
        return {**super().program_values(answer), **values}

    @override
    def caveats(self, answer: RecordedAnswer) -> Iterable[str]:
        yield from super().caveats(answer)
        if "strftime_now" in str(answer.declaration.metadata.get("chat_template")):
            yield "The model's template writes today's date into the prompt, so the prompt differs on another day."


class PipelineChatAdapter(PipelineAdapter):
    """A chat pipeline as a ChatModel."""

    def __init__(
        self,
        model: Any,
        special_tokens: tuple[str, ...],
        context_length: int | None = None,
        cache_mb: int = 0,
        *,
        answer_markers: tuple[str, ...] = (),
    ) -> None:
        """See PipelineAdapter, and PromptFormat for `special_tokens` and `answer_markers`."""
        super().__init__(model, context_length, cache_mb)
        self._special_tokens, self._answer_markers = special_tokens, answer_markers

    @override
    def _build_inputs(self, request: ChatRequest) -> dict[str, Any]:
        return {"messages": neutralise_messages(request.messages, self._special_tokens, self._answer_markers)}

    @override
    def _safe_prefix(self, request: ChatRequest) -> str:
        return _safe_prefix(request, self._special_tokens, self._answer_markers)

    @override
    def _prompt_text(self, inputs: dict[str, Any]) -> str:
        render = partial(self._pipeline.tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True)
        return render_or_explain(render, inputs["messages"])

    @override
    def _writes_special_tokens(self, prompt: str) -> bool:
        return True  # a chat template writes all special tokens; transformers' own chat pipeline adds none

    @override
    def _choice_text(self, choice: dict[str, Any]) -> str:
        return str(choice["message"]["content"])


def _safe_prefix(
    request: ChatRequest, special_tokens: Iterable[str] | None, answer_markers: Iterable[str] | None
) -> str:
    prefix = Message("assistant", request.prefix)
    return neutralise_messages([prefix], tuple(special_tokens or ()), tuple(answer_markers or ()))[0]["content"]
