"""Contract *prompt*: the ONNX Runtime GenAI wrapper (models/phi3_onnx.py). Rendered prompt in, OpenAI-style chunks out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.context import check_fits, fit_to_context
from phi3_ui.chat.types import (
    AnswerEvent,
    Batching,
    CacheStats,
    CancelToken,
    ChatRequest,
    Completed,
    FinishReason,
    Message,
    PrefillProgress,
    QueuePosition,
    StreamingMode,
    TextDelta,
    Usage,
)
from phi3_ui.contracts.base import PROGRAMS, Adapter, Contract, PyfuncCall, RecordedAnswer
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.prompts.templates import declares_template, get_template
from phi3_ui.prompts.tokenization import PromptFormat
from phi3_ui.runtime.stopwatch import Stopwatch


class OnnxPromptContract(Contract):
    """A streaming model with the wrapper's metadata, whose chunks have the format of models/phi3_onnx.py."""

    name: ClassVar[str] = "prompt"
    program_template = PROGRAMS / "onnx_prompt.py.jinja"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime-genai", "tokenizers", "numpy")
    is_repeatable: ClassVar[bool] = True
    can_continue: ClassVar[bool] = True

    @override
    def matches(self, declaration: ModelDeclaration) -> bool:
        is_declared = declaration.metadata.get("contract") == self.name and declares_template(declaration.metadata)
        return is_declared and declaration.streamable

    @override
    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        return declaration.declared_params

    @override
    def request_builder(
        self, declaration: ModelDeclaration, template: str | None
    ) -> Callable[[ChatRequest], PyfuncCall]:
        return partial(_build_call, get_template(declaration.metadata, None).format)

    @override
    def create_adapter(
        self, model: Any, declaration: ModelDeclaration, template: str | None = None, cache_mb: int = 0
    ) -> Adapter:
        wrapper = model.unwrap_python_model()
        prompt_format = get_template(declaration.metadata, None).format
        context_length = declaration.metadata.get("context_length")
        # A wrapper logged by an earlier version may lack these.
        prepare, cancel = getattr(wrapper, "prepare", None), getattr(wrapper, "cancel", None)
        adapter = OnnxPromptAdapter(
            model, prompt_format, wrapper.encode, context_length, prepare=prepare, cancel=cancel
        )
        if found := getattr(wrapper, "batching", None):
            adapter.batching = Batching(found.reason, found.detail)
        return adapter

    @override
    def model_config(self, cache_mb: int) -> dict[str, Any] | None:
        # The wrapper's own default is the engine used in the tutorials. Wrappers of earlier releases ignore `engine`.
        return {"engine": "batched", **({"cache_mb": cache_mb} if cache_mb else {})}

    @override
    def program_values(self, answer: RecordedAnswer) -> dict[str, Any]:
        # Use the same engine, since the answer of another one may differ.
        return {"model_config": {"engine": "batched"} if "engine" in answer.declaration.config else None}


class OnnxPromptAdapter:
    """The wrapper as a ChatModel. It batches and queues concurrent answers itself."""

    delivery: StreamingMode = "stream"

    def __init__(  # noqa: PLR0913  # keyword-only options with defaults
        self,
        model: Any,
        prompt_format: PromptFormat,
        encode: Callable[[str], list[int]] | None = None,
        context_length: int | None = None,
        *,
        prepare: Callable[[], None] | None = None,
        cancel: Callable[[str], None] | None = None,
    ) -> None:
        """Wrap a pyfunc model.

        `encode` returns a prompt's token ids. Without it, or without a context length in tokens, conversations are not
        trimmed. The method `prepare` calls `prepare`. `cancel` ends the answer whose chunks have the given id, from any
        thread; without it, an answer ends after its next chunk.
        """
        self._model = model
        self._format = prompt_format
        self._encode = encode
        self._context_length = context_length
        self._prepare = prepare
        self._cancel = cancel
        self.batching = Batching("earlier_release")

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel."""
        watch = Stopwatch()
        if self._encode and self._context_length and request.raw_prompt is None:
            count = partial(_count_tokens, self._format, self._encode, request.prefix)
            messages, use = fit_to_context(request.messages, count, self._context_length, request.params.max_tokens)
            yield use
            params = replace(request.params, max_tokens=use.max_tokens or request.params.max_tokens)
            request = replace(request, messages=messages, params=params)
        elif self._encode and self._context_length and request.raw_prompt is not None:
            check_fits(len(self._encode(request.raw_prompt)), self._context_length)
        call = _build_call(self._format, request)
        chunks = self._model.predict_stream(call.data, params=call.params)
        answer, can_cancel = _PartialAnswer(watch), False
        try:
            for chunk in chunks:
                if self._cancel and not can_cancel:
                    can_cancel = True
                    cancel.on_set(partial(self._cancel, chunk["id"]))
                yield from answer.add(chunk)
                if cancel.is_set():
                    break
        finally:
            chunks.close()
        if cancel.is_set() and not answer.finish_reason:
            answer.cancel()
        yield answer.completed()

    def prepare(self) -> None:
        """See SupportsPrepare."""
        if self._prepare:
            self._prepare()

    def count_tokens(self, request: ChatRequest) -> int | None:
        """See SupportsCount; None if the wrapper cannot encode a prompt."""
        return _count_tokens(self._format, self._encode, request.prefix, request.messages) if self._encode else None


def _count_tokens(
    prompt_format: PromptFormat, encode: Callable[[str], list[int]], prefix: str, messages: Sequence[Message]
) -> int:
    return len(encode(prompt_format.render(messages, prefix)))


class _PartialAnswer:
    """The part of one answer received so far."""

    def __init__(self, watch: Stopwatch) -> None:
        self.finish_reason: FinishReason | None = None
        self._watch = watch
        self._text: list[str] = []
        self._usage: Usage | None = None
        self._prompt_tokens = self._tokens = 0
        self._cached: int | None = None

    def add(self, chunk: dict[str, Any]) -> Iterator[AnswerEvent]:
        """Add one chunk, and yield its events."""
        if queue := chunk.get("queue"):
            yield QueuePosition(queue["ahead"])
        elif progress := chunk.get("prompt_progress"):
            self._prompt_tokens = progress["total"]
            # The first progress report counts the tokens served from the cache.
            self._cached = progress["processed"] if self._cached is None else self._cached
            yield PrefillProgress(progress["processed"], self._prompt_tokens)
        else:
            self._tokens += 1
            self._watch.record_token()
        choice = chunk["choices"][0]
        if text := choice["delta"].get("content"):
            self._text.append(text)
            yield TextDelta(text)
        if cache := chunk.get("prompt_cache"):
            yield CacheStats(**cache)
        if choice["finish_reason"]:
            self.finish_reason = choice["finish_reason"]
            self._usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"], self._cached)

    def cancel(self) -> None:
        """End the answer here. Its usage is known if the prompt's length is."""
        self.finish_reason = "cancelled"
        self._usage = Usage(self._prompt_tokens, self._tokens, self._cached) if self._prompt_tokens else None

    def completed(self) -> Completed:
        """Return the final event."""
        usage = self._usage
        timings = self._watch.timings(usage.completion_tokens if usage else None)
        return Completed("".join(self._text), usage, timings, self.finish_reason or "stop")


def _build_call(prompt_format: PromptFormat, request: ChatRequest) -> PyfuncCall:
    prompt = request.raw_prompt
    if prompt is None:
        prompt = prompt_format.render(request.messages, request.prefix)
    return PyfuncCall({"prompt": prompt}, request.params.as_dict())
