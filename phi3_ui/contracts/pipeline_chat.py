"""Contract *chat*: OpenAI-style messages → pyfunc → events."""

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from phi3_ui.chat.context import fit
from phi3_ui.chat.types import (
    Cancel,
    ChatRequest,
    Completed,
    Delivery,
    Event,
    FinishReason,
    GenerationParams,
    Message,
    PromptProgress,
    Queued,
    TextDelta,
    Usage,
)
from phi3_ui.contracts.base import Adapter, PyfuncCall
from phi3_ui.contracts.declaration import PARAMS, ModelDeclaration
from phi3_ui.prompts.tokenization import neutralise
from phi3_ui.runtime.fifo_queue import FifoQueue
from phi3_ui.runtime.generation_hook import GenerationHook, HookedPipeline
from phi3_ui.runtime.stopwatch import Stopwatch


class PipelineChatContract:
    """A pyfunc model of task llm/v1/chat, made by the transformers flavour, as a ChatModel.

    Text and usage of Completed are those of MLflow's own answer; the tokens are tapped on their way to it. Where a stop
    string was found the text is what comes before it, and usage counts what was computed. One answer is computed at a time.
    """

    name: ClassVar[str] = "chat"
    delivery: Delivery = "hooked"

    def __init__(
        self, model: Any, special_tokens: tuple[str, ...], context_length: int | None = None, cache_mb: int = 0
    ) -> None:
        self._model = model
        self._context_length = context_length
        self._special_tokens = special_tokens
        self._pipeline = HookedPipeline(model.get_raw_model(), cache_mb * 1_000_000 or None)
        self._line = FifoQueue()

    @staticmethod
    def matches(declared: ModelDeclaration) -> bool:
        is_chat = declared.metadata.get("contract") == "chat" or declared.task == "llm/v1/chat"
        return is_chat and "transformers" in declared.flavors

    @staticmethod
    def requires_template(declared: ModelDeclaration) -> bool:
        """No: it is in the pipeline's tokenizer."""
        return False

    @staticmethod
    def supported_params(declared: ModelDeclaration) -> frozenset[str]:
        return PARAMS

    @staticmethod
    def request_builder(declared: ModelDeclaration, template: str | None) -> Callable[[ChatRequest], PyfuncCall]:
        """For tokens that the metadata names; those of a model that names none are known where it is loaded."""
        tokens = tuple(declared.metadata.get("special_tokens") or ())
        return lambda request: PyfuncCall(payload(plain(request, tokens), request.params), stops=request.params.stop)

    @classmethod
    def create_adapter(cls, model: Any, declared: ModelDeclaration, template: str | None, cache_mb: int = 0) -> Adapter:
        tokens = declared.metadata.get("special_tokens") or _special_tokens(model.get_raw_model().tokenizer)
        return cls(model, tuple(tokens), declared.metadata.get("context_length"), cache_mb)

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        tap = GenerationHook(
            self._pipeline.tokenizer,
            lambda text: events.put(TextDelta(text)),
            watch.token,
            cancel,
            request.params,
            self._ends(request),
            lambda read, of: events.put(PromptProgress(read, of)),
        )
        if self._context_length:
            messages, use = fit(
                request.messages, partial(self._count, request), self._context_length, request.params.max_tokens
            )
            yield use
            params = replace(request.params, max_tokens=use.max_tokens or request.params.max_tokens)
            request = replace(request, messages=messages, params=params)
        with self._line.wait_turn(cancel) as waiting:
            yield from map(Queued, waiting)
            if cancel.is_set():
                yield Completed("", None, watch.timings(None), "cancelled")
                return
            answer, streamed = yield from self._predicted(self._payload(request), tap, events)
        yield from self._completed(answer, streamed, watch, tap)

    def _predicted(
        self, payload: dict[str, Any], tap: GenerationHook, events: "queue.SimpleQueue[Event | None]"
    ) -> Generator[Event, None, tuple[dict[str, Any], str]]:
        """The events as they come; returns MLflow's answer and the text that was streamed."""
        outcome: list[dict[str, Any] | Exception] = []

        def predict() -> None:
            try:
                with self._pipeline.request(tap):
                    outcome.append(self._model.predict(payload)[0])
            except Exception as error:
                outcome.append(error)
            finally:
                events.put(None)

        worker = threading.Thread(target=contextvars.copy_context().run, args=[predict], name="predict")
        worker.start()
        streamed = ""
        try:
            while event := events.get():
                if isinstance(event, TextDelta):
                    # MLflow's answer begins at the first character that is no white space.
                    event = event if streamed else TextDelta(event.text.lstrip())
                    streamed += event.text
                    if not event.text:
                        continue
                yield event
        finally:
            if not outcome:
                tap.cancel.set()
            worker.join()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0], streamed

    def _payload(self, request: ChatRequest) -> dict[str, Any]:
        """What predict is given, fresh each time: it may consume it."""
        return payload(self._asked(request), request.params)

    def _ends(self, request: ChatRequest) -> tuple[str, ...]:
        """Texts that end every answer; the pipeline knows its own end of turn."""
        return ()

    def _asked(self, request: ChatRequest) -> dict[str, Any]:
        return plain(request, self._special_tokens)

    def _prompt(self, payload: dict[str, Any]) -> str:
        """The prompt that MLflow will make of it."""
        messages = payload["messages"]
        return str(self._pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _text(self, choice: dict[str, Any]) -> str:
        return str(choice["message"]["content"])

    def _count(self, request: ChatRequest, messages: Sequence[Message]) -> int:
        """The tokens of the prompt that `request` makes of these messages, counted as MLflow counts them."""
        prompt = self._prompt(self._asked(replace(request, messages=tuple(messages))))
        return len(self._pipeline.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def _completed(
        self, answer: dict[str, Any], streamed: str, watch: Stopwatch, tap: GenerationHook
    ) -> Iterator[Event]:
        choice = answer["choices"][0]
        text: str = streamed if tap.cut else self._text(choice)
        computed = answer["usage"]["completion_tokens"] if tap.started else 0
        usage = Usage(answer["usage"]["prompt_tokens"], computed, tap.cached_tokens)
        if text.startswith(streamed) and len(text) > len(streamed):
            yield TextDelta(text[len(streamed) :])
        finish_reason: FinishReason = (
            "stop" if tap.ended else "cancelled" if tap.cancel.is_set() else choice["finish_reason"]
        )
        yield self._pipeline.cache_use()
        yield Completed(text, usage, watch.timings(usage.completion_tokens), finish_reason)


def plain(request: ChatRequest, special_tokens: Sequence[str]) -> dict[str, Any]:
    """The messages as predict takes them, with none of these tokens in them."""
    return {"messages": [{"role": m.role, "content": neutralise(m.content, special_tokens)} for m in request.messages]}


def payload(asked: dict[str, Any], params: GenerationParams) -> dict[str, Any]:
    """`asked` with what MLflow's flavour takes of the parameters; the rest goes through the tap."""
    taken = ("max_tokens",) if params.temperature == 0 else ("max_tokens", "temperature", "top_p")
    return asked | {name: value for name, value in params.as_dict().items() if name in taken}


def _special_tokens(tokenizer: Any) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values()]
