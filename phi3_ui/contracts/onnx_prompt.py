"""Contract *prompt*: rendered prompt → pyfunc → events."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from phi3_ui.chat.context import fit
from phi3_ui.chat.types import (
    CacheUse,
    Cancel,
    ChatRequest,
    Completed,
    Delivery,
    Event,
    FinishReason,
    Message,
    PromptProgress,
    Queued,
    TextDelta,
    Usage,
)
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.text_model import foreign_prompt, request_builder, string_to_string
from phi3_ui.prompts.templates import declares_template, get_template
from phi3_ui.prompts.tokenization import PromptFormat
from phi3_ui.runtime.stopwatch import Stopwatch


class OnnxPromptContract:
    """A pyfunc model whose signature is `prompt: string → string`, as a ChatModel."""

    name: ClassVar[str] = "prompt"
    delivery: Delivery = "stream"

    def __init__(
        self,
        model: Any,
        prompt_format: PromptFormat,
        encode: Callable[[str], list[int]] | None = None,
        context_length: int | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`encode` gives the token ids of a prompt; without it, or without a context length, nothing is made to fit."""
        self._model = model
        self._format = prompt_format
        self._encode = encode
        self._context_length = context_length
        self._prepare = prepare

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        return _is_ours(declared) or string_to_string(declared)

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        return not declares_template(declared.metadata)

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        """What the params declare; a model of other code's is cut at the texts to stop at."""
        return declared.declared_params if _is_ours(declared) else declared.declared_params | {"stop"}

    @staticmethod
    def is_ours(declared: ModelDeclaration) -> bool:
        """Does it stream, and with our metadata? Then its chunks are those of models/phi3_onnx.py."""
        return _is_ours(declared) and declared.streamable

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        if not OnnxPromptContract.is_ours(declared):
            return request_builder(declared, template)
        return partial(_ask, get_template(declared.metadata, None).format)

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        if not cls.is_ours(declared):
            return foreign_prompt(model, declared, template)
        wrapper = model.unwrap_python_model()
        prompt_format, length = get_template(declared.metadata, None).format, declared.metadata.get("context_length")
        # A wrapper that was logged by an earlier version has no prepare.
        return cls(model, prompt_format, wrapper.encode, length, getattr(wrapper, "prepare", None))

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        messages, params = request.messages, request.params
        if self._encode and self._context_length:
            messages, use = fit(messages, self._count, self._context_length, params.max_tokens)
            yield use
            params = replace(params, max_tokens=use.max_tokens or params.max_tokens)
        asked = _ask(self._format, replace(request, messages=messages, params=params))
        chunks = self._model.predict_stream(asked.data, params=asked.params)
        text: list[str] = []
        usage: Usage | None = None
        prompt_tokens = tokens = 0
        cached: int | None = None
        finish_reason: FinishReason = "stop"
        try:
            for chunk in chunks:
                if queue := chunk.get("queue"):
                    yield Queued(queue["ahead"])
                elif progress := chunk.get("prompt_progress"):
                    prompt_tokens = progress["total"]
                    cached = progress["processed"] if cached is None else cached
                    yield PromptProgress(progress["processed"], prompt_tokens)
                else:
                    tokens += 1
                    watch.token()
                choice = chunk["choices"][0]
                if piece := choice["delta"].get("content"):
                    text.append(piece)
                    yield TextDelta(piece)
                if cache := chunk.get("prompt_cache"):
                    yield CacheUse(**cache)
                if choice["finish_reason"]:
                    finish_reason = choice["finish_reason"]
                    usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"], cached)
                elif cancel.is_set():
                    finish_reason = "cancelled"
                    usage = Usage(prompt_tokens, tokens, cached) if prompt_tokens else None
                    break
        finally:
            chunks.close()
        yield Completed("".join(text), usage, watch.timings(usage.completion_tokens if usage else None), finish_reason)

    def prepare(self) -> None:
        if self._prepare:
            self._prepare()

    def _count(self, messages: Sequence[Message]) -> int:
        assert self._encode
        return len(self._encode(self._format.render(messages)))


def _ask(prompt_format: PromptFormat, request: ChatRequest) -> PyfuncCall:
    return PyfuncCall({"prompt": prompt_format.render(request.messages)}, request.params.as_dict())


def _is_ours(declared: ModelDeclaration) -> bool:
    """Was it logged with our metadata?"""
    return declared.metadata.get("contract") == "prompt" and declares_template(declared.metadata)
