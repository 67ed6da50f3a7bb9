"""Contract *prompt*: rendered prompt → pyfunc → events."""

from collections.abc import Iterator
from typing import Any, ClassVar

from phi3_ui.chat.chat_model import Adapter
from phi3_ui.chat.declared import Declared
from phi3_ui.chat.foreign_prompt import foreign_prompt, string_to_string
from phi3_ui.chat.stopwatch import Stopwatch
from phi3_ui.chat.templates import declares_template, template_of
from phi3_ui.chat.tokenization import PromptFormat
from phi3_ui.chat.types import (
    Cancel,
    ChatRequest,
    Completed,
    Delivery,
    Event,
    FinishReason,
    PromptProgress,
    TextDelta,
    Usage,
)


class PromptContract:
    """A pyfunc model whose signature is `prompt: string → string`, as a ChatModel."""

    name: ClassVar[str] = "prompt"
    delivery: Delivery = "stream"

    def __init__(self, model: Any, prompt_format: PromptFormat) -> None:
        self._model = model
        self._format = prompt_format

    @staticmethod
    def matches(declared: Declared) -> bool:
        return _is_ours(declared) or string_to_string(declared)

    @staticmethod
    def needs_template(declared: Declared) -> bool:
        return not declares_template(declared.metadata)

    @staticmethod
    def honours(declared: Declared) -> frozenset[str]:
        """What the params declare; a model of other code's is cut at the texts to stop at."""
        return declared.declared_params if _is_ours(declared) else declared.declared_params | {"stop"}

    @classmethod
    def of(cls, model: Any, declared: Declared, template: str | None) -> Adapter:
        if not (_is_ours(declared) and declared.streamable):
            return foreign_prompt(model, declared, template)
        return cls(model, template_of(declared.metadata, None).format)

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        prompt = self._format.render(request.messages)
        chunks = self._model.predict_stream({"prompt": prompt}, params=request.params.given())
        text: list[str] = []
        usage: Usage | None = None
        prompt_tokens = tokens = 0
        finish_reason: FinishReason = "stop"
        try:
            for chunk in chunks:
                if progress := chunk.get("prompt_progress"):
                    prompt_tokens = progress["total"]
                    yield PromptProgress(progress["processed"], prompt_tokens)
                else:
                    tokens += 1
                    watch.token()
                choice = chunk["choices"][0]
                if piece := choice["delta"].get("content"):
                    text.append(piece)
                    yield TextDelta(piece)
                if choice["finish_reason"]:
                    finish_reason = choice["finish_reason"]
                    usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
                elif cancel.is_set():
                    finish_reason = "cancelled"
                    usage = Usage(prompt_tokens, tokens) if prompt_tokens else None
                    break
        finally:
            chunks.close()
        yield Completed("".join(text), usage, watch.timings(usage.completion_tokens if usage else None), finish_reason)


def _is_ours(declared: Declared) -> bool:
    """Was it logged with our metadata? Then its chunks are those of models/phi3_onnx.py."""
    return declared.metadata.get("contract") == "prompt" and declares_template(declared.metadata)
