"""Contract *chat*: OpenAI-style messages → pyfunc → events."""

import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import Any

from phi3_ui.chat.pipeline_tap import Tap, TappedPipeline
from phi3_ui.chat.stopwatch import Stopwatch
from phi3_ui.chat.tokenization import PromptTooLongError, neutralise
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


class ChatContract:
    """A pyfunc model of task llm/v1/chat, made by the transformers flavour, as a ChatModel.

    Text and usage of Completed are those of MLflow's own answer; the tokens are tapped on their way to it.
    """

    delivery: Delivery = "tapped"

    def __init__(self, model: Any, special_tokens: tuple[str, ...], context_length: int | None = None) -> None:
        self._model = model
        self._context_length = context_length
        self._special_tokens = special_tokens
        self._pipeline = TappedPipeline(model.get_raw_model())

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        tap = Tap(self._pipeline.tokenizer, pieces.put, watch.token, cancel)
        payload, tap.overrides = self._payload(request)
        yield PromptProgress(0, self._fit(payload))
        outcome: list[dict[str, Any] | Exception] = []

        def predict() -> None:
            try:
                with self._pipeline.request(tap):
                    outcome.append(self._model.predict(payload)[0])
            except Exception as error:
                outcome.append(error)
            finally:
                pieces.put(None)

        worker = threading.Thread(target=contextvars.copy_context().run, args=[predict], name="predict")
        worker.start()
        try:
            streamed = ""
            while (piece := pieces.get()) is not None:
                # MLflow's answer begins at the first character that is no white space.
                if piece := piece if streamed else piece.lstrip():
                    streamed += piece
                    yield TextDelta(piece)
        finally:
            if not outcome:
                cancel.set()
            worker.join()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        yield from self._completed(outcome[0], streamed, watch, cancel)

    def _payload(self, request: ChatRequest) -> tuple[dict[str, Any], dict[str, Any]]:
        """What predict is given, fresh each time (it may consume it), and what generate must be told besides."""
        payload: dict[str, Any] = {
            "messages": [
                {"role": m.role, "content": neutralise(m.content, self._special_tokens)} for m in request.messages
            ]
        }
        payload |= {name: value for name, value in vars(request.params).items() if value is not None}
        # Greedy is no temperature to transformers, which refuses 0.
        if payload.get("temperature") == 0:
            del payload["temperature"]
            payload.pop("top_p", None)
            return payload, {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return payload, {}

    def _fit(self, payload: dict[str, Any]) -> int:
        """The prompt's tokens, counted as MLflow counts them. Raises PromptTooLongError; cuts max_tokens to what is left.

        The pipeline itself would go on past the context, in one step that nothing can stop.
        """
        tokenizer = self._pipeline.tokenizer
        prompt = tokenizer.apply_chat_template(payload["messages"], tokenize=False, add_generation_prompt=True)
        tokens = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if self._context_length:
            room = self._context_length - tokens
            if room < 1:
                raise PromptTooLongError(tokens, self._context_length)
            if "max_tokens" in payload:
                payload["max_tokens"] = min(payload["max_tokens"], room)
        return tokens

    def _completed(self, answer: dict[str, Any], streamed: str, watch: Stopwatch, cancel: Cancel) -> Iterator[Event]:
        choice = answer["choices"][0]
        text: str = choice["message"]["content"]
        usage = Usage(answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
        if text.startswith(streamed) and len(text) > len(streamed):
            yield TextDelta(text[len(streamed) :])
        finish_reason: FinishReason = "cancelled" if cancel.is_set() else choice["finish_reason"]
        yield Completed(text, usage, watch.timings(usage.completion_tokens), finish_reason)
