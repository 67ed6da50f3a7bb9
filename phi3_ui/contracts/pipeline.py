"""The common part of the contracts for MLflow's transformers flavour: a hook in predict turns its tokens into events."""

import contextvars
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from typing_extensions import override

from phi3_ui.chat.context import fit_to_context
from phi3_ui.chat.types import (
    AnswerEvent,
    Batching,
    CancelToken,
    ChatRequest,
    Completed,
    FinishReason,
    GenerationParams,
    Message,
    PrefillProgress,
    QueuePosition,
    StreamingMode,
    TextDelta,
    Usage,
)
from phi3_ui.contracts.base import Contract, RecordedAnswer
from phi3_ui.contracts.declaration import PARAMS, ModelDeclaration
from phi3_ui.runtime.generation_hook import GenerationHook, GenerationListener, HookedPipeline
from phi3_ui.runtime.pipeline_kv_cache import PREFILL_CHUNK
from phi3_ui.runtime.pipeline_queue import FifoQueue
from phi3_ui.runtime.sampling import generate_arguments
from phi3_ui.runtime.stopwatch import Stopwatch

_CHUNKED_PREFILL_LIMIT = 4096
"""Tokens: generate cannot prefill a longer prompt of a LongRoPE Phi-3 in chunks, since its RoPE scaling switches there."""


class PipelineContract(Contract):
    """A model of the transformers flavour. Every parameter is supported: the hook passes on those that the flavour does not."""

    packages: ClassVar[tuple[str, ...]] = ("transformers", "torch")
    is_repeatable: ClassVar[bool] = True
    can_continue: ClassVar[bool] = True

    @override
    def supported_params(self, declaration: ModelDeclaration) -> frozenset[str]:
        return PARAMS

    @override
    def program_values(self, answer: RecordedAnswer) -> dict[str, Any]:
        params = answer.request.params
        arguments = generate_arguments(params)
        is_seeded = arguments.pop("custom_generate", None) and arguments.get("do_sample") is not False
        has_penalties = arguments.pop("logits_processor", None)
        if PREFILL_CHUNK < (answer.usage.prompt_tokens if answer.usage else 0) <= _CHUNKED_PREFILL_LIMIT:
            # Use the app's chunk size: other chunks change the last digits of numbers.
            arguments["prefill_chunk_size"] = PREFILL_CHUNK
        penalties = (params.presence_penalty or 0.0, params.frequency_penalty or 0.0) if has_penalties else None
        return {"generate": arguments, "seed": params.seed if is_seeded else None, "penalties": penalties}

    @override
    def caveats(self, answer: RecordedAnswer) -> Iterable[str]:
        if answer.request.params.seed is None and answer.usage and answer.usage.cached_tokens:
            yield (
                f"{answer.usage.cached_tokens} prompt tokens were served from the app's KV cache, perhaps prefilled in "
                "other chunks than here: the last digits of numbers may differ and, where two tokens were almost equally "
                "likely, so may the text."
            )


class PipelineAdapter(ABC):
    """A pyfunc model of the transformers flavour as a ChatModel. It computes one answer at a time.

    The text of Completed is that of MLflow's own answer, up to the first stop string. Usage counts the tokens in the prompt and
    those that were computed.
    """

    delivery: StreamingMode = "hooked"
    batching = Batching("pipeline")

    def __init__(self, model: Any, context_length: int | None, cache_mb: int) -> None:
        """Hook the pipeline of `model`.

        Conversations are fitted into `context_length` tokens, if known. `cache_mb`: see Contract.create_adapter.
        """
        self._model = model
        self._context_length = context_length
        self._pipeline = HookedPipeline(
            model.get_raw_model(), self._writes_special_tokens, cache_mb * 1_000_000 or None
        )
        self._queue = FifoQueue()

    @abstractmethod
    def _build_inputs(self, request: ChatRequest) -> dict[str, Any]:
        """Return predict's input without parameters."""

    @abstractmethod
    def _prompt_text(self, inputs: dict[str, Any]) -> str:
        """Return the prompt that MLflow will build from these inputs. Raises TemplateError."""

    @abstractmethod
    def _writes_special_tokens(self, prompt: str) -> bool:
        """Return whether a prompt already contains the special tokens, such as BOS, that the tokenizer would add."""

    @abstractmethod
    def _choice_text(self, choice: dict[str, Any]) -> str:
        """Return the text of a choice of MLflow's answer."""

    @abstractmethod
    def _safe_prefix(self, request: ChatRequest) -> str:
        """Return the beginning of the answer as it is added to the prompt."""

    def _end_strings(self, request: ChatRequest) -> tuple[str, ...]:
        """Return the texts that end every answer; none if the pipeline knows its end-of-turn tokens."""
        return ()

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel."""
        watch = Stopwatch()
        events: queue.SimpleQueue[AnswerEvent | None] = queue.SimpleQueue()
        listener = GenerationListener(
            on_text=lambda text: events.put(TextDelta(text)),
            on_token=watch.record_token,
            on_prefill=lambda processed, total: events.put(PrefillProgress(processed, total)),
        )
        hook = GenerationHook(
            self._pipeline.tokenizer,
            request.params,
            cancel,
            listener,
            extra_stops=self._end_strings(request),
            prefix=self._safe_prefix(request),
        )
        if self._context_length:
            count = partial(self._count_tokens, request)
            messages, use = fit_to_context(request.messages, count, self._context_length, request.params.max_tokens)
            yield use
            params = replace(request.params, max_tokens=use.max_tokens or request.params.max_tokens)
            request = replace(request, messages=messages, params=params)
        else:
            self._prompt_text(
                self._build_inputs(request)
            )  # raises the TemplateError that MLflow would hide behind its own error
        with self._queue.wait_turn(cancel) as positions:
            yield from map(QueuePosition, positions)
            if cancel.is_set():
                yield Completed("", None, watch.timings(None), "cancelled")
                return
            inputs = add_params(self._build_inputs(request), request.params)
            output, streamed = yield from self._predict(inputs, hook, events)
        yield from self._complete(output, streamed, watch, hook)

    def move_to(self, device: str) -> None:
        """See HookedPipeline."""
        self._pipeline.move_to(device)

    def _predict(
        self, inputs: dict[str, Any], hook: GenerationHook, events: "queue.SimpleQueue[AnswerEvent | None]"
    ) -> Generator[AnswerEvent, None, tuple[dict[str, Any], str]]:
        """Yield the events as they arrive; return MLflow's answer and the text that was streamed."""
        outcome: list[dict[str, Any] | Exception] = []

        def predict() -> None:
            try:
                with self._pipeline.active_hook(hook):
                    outcome.append(self._model.predict(inputs)[0])
            except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
                outcome.append(error)
            finally:
                events.put(None)

        thread = threading.Thread(target=contextvars.copy_context().run, args=[predict], name="predict")
        thread.start()
        streamed = ""
        try:
            while event := events.get():
                if isinstance(event, TextDelta):
                    # MLflow strips leading whitespace from its answer.
                    event = event if streamed or hook.prefix else TextDelta(event.text.lstrip())
                    streamed += event.text
                    if not event.text:
                        continue
                yield event
        finally:
            if not outcome:
                hook.cancel.set()
            thread.join()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0], streamed

    def count_tokens(self, request: ChatRequest) -> int | None:
        """See SupportsCount."""
        return self._count_tokens(request, request.messages)

    def _count_tokens(self, request: ChatRequest, messages: Sequence[Message]) -> int:
        """Return the number of prompt tokens that `request` would have with these messages."""
        prompt = self._prompt_text(self._build_inputs(replace(request, messages=tuple(messages))))
        return len(self._pipeline.encode(prompt + self._safe_prefix(request)))

    def _complete(
        self, output: dict[str, Any], streamed: str, watch: Stopwatch, hook: GenerationHook
    ) -> Iterator[AnswerEvent]:
        choice = output["choices"][0]
        text = streamed if hook.is_cut else self._choice_text(choice)
        if hook.prefix and not hook.is_cut:  # MLflow counts it as generated text, and strips it
            begun = hook.prefix.lstrip()
            text = text[len(begun) :] if text.startswith(begun + streamed) else streamed
        # MLflow's own prompt count omits special tokens that the tokenizer adds, and counts them as generated.
        computed = output["usage"]["total_tokens"] - hook.prompt_tokens if hook.is_decoding else 0
        usage = Usage(hook.prompt_tokens, computed, hook.cached_tokens)
        if text.startswith(streamed) and len(text) > len(streamed):
            yield TextDelta(text[len(streamed) :])
        finish_reason: FinishReason = "length" if computed == hook.max_tokens else "stop"
        if hook.is_stopped or hook.cancel.is_set():
            finish_reason = "stop" if hook.is_stopped else "cancelled"
        yield self._pipeline.cache_stats()
        yield Completed(text, usage, watch.timings(usage.completion_tokens), finish_reason)


def add_params(inputs: dict[str, Any], params: GenerationParams) -> dict[str, Any]:
    """Return `inputs` with the parameters that MLflow's flavour accepts; the hook applies the others."""
    accepted = ("max_tokens",) if params.temperature == 0 else ("max_tokens", "temperature", "top_p")
    return inputs | {name: value for name, value in params.as_dict().items() if name in accepted}
