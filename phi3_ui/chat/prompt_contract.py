"""Contract *prompt*: rendered prompt → pyfunc → events."""

from collections.abc import Iterator
from typing import Any

from phi3_ui.chat.stopwatch import Stopwatch
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

    delivery: Delivery = "stream"

    def __init__(self, model: Any, prompt_format: PromptFormat) -> None:
        self._model = model
        self._format = prompt_format

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        prompt = self._format.render(request.messages)
        params = {name: value for name, value in vars(request.params).items() if value is not None}
        chunks = self._model.predict_stream({"prompt": prompt}, params=params)
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
