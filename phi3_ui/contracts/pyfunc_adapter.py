"""The adapter for third-party models: turns the chunks of predict_stream, or the result of predict, into events."""

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    FinishReason,
    StreamingMode,
    TextDelta,
    Usage,
)
from phi3_ui.contracts.base import PyfuncCall
from phi3_ui.contracts.parsing import ParsedChunk
from phi3_ui.runtime.stop_strings import StopStrings
from phi3_ui.runtime.stopwatch import Stopwatch


class PyfuncAdapter:
    """A pyfunc model as a ChatModel; the contract's functions build the call and parse the results.

    A stream is cancelled between two chunks. A running predict cannot be: a cancelled answer ends immediately, and the result
    of predict is discarded.
    """

    def __init__(
        self,
        model: Any,
        streams: bool,
        build_call: Callable[[ChatRequest], PyfuncCall],
        parse_chunk: Callable[[Any], ParsedChunk],
        parse_result: Callable[[Any], ParsedChunk],
    ) -> None:
        """Wrap `model`, to call predict_stream if it `streams`, else predict."""
        self.delivery: StreamingMode = "stream" if streams else "whole"
        self._model = model
        self._build_call = build_call
        self._parse_chunk, self._parse_result = parse_chunk, parse_result

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel."""
        watch = Stopwatch()
        call = self._build_call(request)
        stops = StopStrings(call.stop_strings)
        chunks = self._stream(call) if self.delivery == "stream" else self._predict(call, cancel)
        text = _AnswerText(keeps_space=bool(request.prefix))
        usage: Usage | None = None
        finish_reason: FinishReason | None = None
        try:
            for chunk in chunks:
                usage = chunk.usage or usage
                finish_reason = chunk.finish_reason or finish_reason
                new_text = text.extract_new(chunk)
                if new_text and self.delivery == "stream":
                    watch.record_token()
                if visible := text.append(stops.push(new_text)):
                    yield TextDelta(visible)
                if stops.hit:
                    finish_reason = "stop"
                    break
                if cancel.is_set() and not finish_reason:
                    finish_reason = "cancelled"
                    break
            # The text held back may be the beginning of a stop string, so emit it only if the answer was not cancelled.
            if finish_reason != "cancelled" and (visible := text.append(stops.flush(), is_last=True)):
                yield TextDelta(visible)
        finally:
            chunks.close()
        # Chunks are not always tokens, so the rate is known only if their counts agree.
        tokens = usage.completion_tokens if usage and abs(usage.completion_tokens - text.chunks) <= 1 else None
        yield Completed(text.visible, usage, watch.timings(tokens), finish_reason or "stop")

    def _stream(self, call: PyfuncCall) -> Generator[ParsedChunk, None, None]:
        chunks = self._model.predict_stream(call.data, params=call.params)
        try:
            for chunk in chunks:
                yield self._parse_chunk(chunk)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def _predict(self, call: PyfuncCall, cancel: CancelToken) -> Generator[ParsedChunk, None, None]:
        outcome: queue.SimpleQueue[ParsedChunk | BaseException] = queue.SimpleQueue()

        def predict() -> None:
            try:
                outcome.put(self._parse_result(self._model.predict(call.data, params=call.params)))
            except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread; even exit() must be noticed)
                outcome.put(error)

        cancel.on_set(lambda: outcome.put(ParsedChunk(finish_reason="cancelled")))
        threading.Thread(target=contextvars.copy_context().run, args=[predict], name="predict", daemon=True).start()
        result = outcome.get()
        if isinstance(result, BaseException):
            raise result
        yield result


class _AnswerText:
    """The growing text of one answer, without leading whitespace, like MLflow's own answers, unless it `keeps_space`."""

    def __init__(self, keeps_space: bool = False) -> None:
        self._keeps_space = keeps_space
        self.visible = ""
        self.chunks = 0  # only those with text
        self._lone_surrogate = ""
        self._message: str | None = None
        self._has_parts = False  # whether parts of the current message have arrived

    def extract_new(self, chunk: ParsedChunk) -> str:
        """Return the chunk's text unless it repeats earlier parts; a blank line separates it from an earlier message."""
        repeats = chunk.is_whole and self._has_parts
        if not chunk.text or repeats:
            self._has_parts &= not repeats
            return ""
        self._has_parts = not chunk.is_whole
        self.chunks += 1
        is_further = self._message is not None and chunk.message not in (None, self._message)
        self._message = chunk.message or self._message
        return f"\n\n{chunk.text}" if is_further else chunk.text

    def append(self, text: str, is_last: bool = False) -> str:
        """Append `text`, and return what becomes visible. A high surrogate is held back until the next text."""
        text = self._lone_surrogate + text
        self._lone_surrogate = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" and not is_last else ""
        # A lone surrogate cannot be encoded as UTF-8, so it becomes U+FFFD.
        text = (
            text[: len(text) - len(self._lone_surrogate)].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
        visible = text if self.visible or self._keeps_space else text.lstrip()
        self.visible += visible
        return visible


def overrides_stream(model: Any) -> bool:
    """Return whether a pyfunc model defines its own predict_stream, rather than inheriting that of MLflow's class."""
    inherited = type(model.get_raw_model()).predict_stream
    return not inherited.__module__.startswith("mlflow.")
