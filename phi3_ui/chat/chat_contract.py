"""Contract *chat*: OpenAI-style messages → pyfunc → events."""

import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from phi3_ui.chat.chat_model import Adapter
from phi3_ui.chat.declared import PARAMS, Declared
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

    Text and usage of Completed are those of MLflow's own answer; the tokens are tapped on their way to it. Where a stop
    string was found the text is what comes before it, and usage counts what was computed.
    """

    name: ClassVar[str] = "chat"
    delivery: Delivery = "tapped"

    def __init__(self, model: Any, special_tokens: tuple[str, ...], context_length: int | None = None) -> None:
        self._model = model
        self._context_length = context_length
        self._special_tokens = special_tokens
        self._pipeline = TappedPipeline(model.get_raw_model())

    @staticmethod
    def matches(declared: Declared) -> bool:
        is_chat = declared.metadata.get("contract") == "chat" or declared.task == "llm/v1/chat"
        return is_chat and "transformers" in declared.flavors

    @staticmethod
    def needs_template(declared: Declared) -> bool:
        """No: it is in the pipeline's tokenizer."""
        return False

    @staticmethod
    def honours(declared: Declared) -> frozenset[str]:
        return PARAMS

    @classmethod
    def of(cls, model: Any, declared: Declared, template: str | None) -> Adapter:
        tokens = declared.metadata.get("special_tokens") or _special_tokens(model.get_raw_model().tokenizer)
        return cls(model, tuple(tokens), declared.metadata.get("context_length"))

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        tap = Tap(self._pipeline.tokenizer, pieces.put, watch.token, cancel, request.params, self._ends(request))
        payload = self._payload(request)
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
        yield from self._completed(outcome[0], streamed, watch, tap)

    def _payload(self, request: ChatRequest) -> dict[str, Any]:
        """What predict is given, fresh each time: it may consume it. The rest of the parameters goes through the tap."""
        taken = ("max_tokens",) if request.params.temperature == 0 else ("max_tokens", "temperature", "top_p")
        return self._asked(request) | {name: value for name, value in request.params.given().items() if name in taken}

    def _ends(self, request: ChatRequest) -> tuple[str, ...]:
        """Texts that end every answer; the pipeline knows its own end of turn."""
        return ()

    def _asked(self, request: ChatRequest) -> dict[str, Any]:
        return {
            "messages": [
                {"role": m.role, "content": neutralise(m.content, self._special_tokens)} for m in request.messages
            ]
        }

    def _prompt(self, payload: dict[str, Any]) -> str:
        """The prompt that MLflow will make of it."""
        messages = payload["messages"]
        return str(self._pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _text(self, choice: dict[str, Any]) -> str:
        return str(choice["message"]["content"])

    def _fit(self, payload: dict[str, Any]) -> int:
        """The prompt's tokens, counted as MLflow counts them. Raises PromptTooLongError; cuts max_tokens to what is left.

        The pipeline itself would go on past the context, in one step that nothing can stop.
        """
        tokens = len(self._pipeline.tokenizer(self._prompt(payload), add_special_tokens=False)["input_ids"])
        if self._context_length:
            room = self._context_length - tokens
            if room < 1:
                raise PromptTooLongError(tokens, self._context_length)
            if "max_tokens" in payload:
                payload["max_tokens"] = min(payload["max_tokens"], room)
        return tokens

    def _completed(self, answer: dict[str, Any], streamed: str, watch: Stopwatch, tap: Tap) -> Iterator[Event]:
        choice = answer["choices"][0]
        text: str = streamed if tap.cut else self._text(choice)
        usage = Usage(answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
        if text.startswith(streamed) and len(text) > len(streamed):
            yield TextDelta(text[len(streamed) :])
        finish_reason: FinishReason = (
            "stop" if tap.ended else "cancelled" if tap.cancel.is_set() else choice["finish_reason"]
        )
        yield Completed(text, usage, watch.timings(usage.completion_tokens), finish_reason)


def _special_tokens(tokenizer: Any) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values()]
