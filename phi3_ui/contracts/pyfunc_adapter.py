"""What all models of other code's have in common: chunks of predict_stream, or predict's one result → events."""

import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

from phi3_ui.chat.types import (
    Cancel,
    ChatRequest,
    Completed,
    Delivery,
    Event,
    FinishReason,
    TextDelta,
)
from phi3_ui.contracts.base import PyfuncCall
from phi3_ui.contracts.parsing import NoTextError, ParsedChunk
from phi3_ui.runtime.stop_strings import StopStrings
from phi3_ui.runtime.stopwatch import Stopwatch


class PyfuncAdapter:
    """A pyfunc model as a ChatModel; a contract says in `ask` what it is asked, and how its chunks and its result are read.

    A stream is stopped between two chunks. A predict cannot be: a cancelled answer ends at once, and what predict still
    gives is dropped.
    """

    def __init__(
        self,
        model: Any,
        streams: bool,
        ask: Callable[[ChatRequest], PyfuncCall],
        read_chunk: Callable[[Any], ParsedChunk],
        read_result: Callable[[Any], ParsedChunk],
    ) -> None:
        self.delivery: Delivery = "stream" if streams else "whole"
        self._model = model
        self._ask, self._read_chunk, self._read_result = ask, read_chunk, read_result

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        watch = Stopwatch()
        asked = self._ask(request)
        stops = StopStrings(asked.stops)
        pieces = self._streamed(asked) if self.delivery == "stream" else self._whole(asked, cancel)
        texts = _Texts()
        usage, finish_reason = None, cast(FinishReason | None, None)
        try:
            for piece in pieces:
                usage = piece.usage or usage
                finish_reason = piece.finish_reason or finish_reason
                text = texts.separated(piece)
                if text and self.delivery == "stream":
                    watch.token()
                if shown := texts.add(stops.push(text)):
                    yield TextDelta(shown)
                if stops.hit:
                    finish_reason = "stop"
                    break
                if cancel.is_set() and not finish_reason:
                    finish_reason = "cancelled"
                    break
            # What is still held back may be the beginning of a stop text: only an answer that ended by itself has it.
            if finish_reason != "cancelled" and (shown := texts.add(stops.flush(), last=True)):
                yield TextDelta(shown)
        finally:
            pieces.close()
        # Chunks are not always tokens: a rate is known only where their counts agree.
        tokens = usage.completion_tokens if usage and abs(usage.completion_tokens - texts.chunks) <= 1 else None
        yield Completed(texts.whole, usage, watch.timings(tokens), finish_reason or "stop")

    def _streamed(self, asked: PyfuncCall) -> Generator[ParsedChunk, None, None]:
        chunks = self._model.predict_stream(asked.data, params=asked.params)
        try:
            for chunk in chunks:
                yield self._read_chunk(chunk)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()

    def _whole(self, asked: PyfuncCall, cancel: Cancel) -> Generator[ParsedChunk, None, None]:
        outcome: queue.SimpleQueue[ParsedChunk | BaseException] = queue.SimpleQueue()

        def predict() -> None:
            try:
                outcome.put(self._read_result(self._model.predict(asked.data, params=asked.params)))
            except BaseException as error:
                outcome.put(error)

        cancel.on_set(lambda: outcome.put(ParsedChunk(finish_reason="cancelled")))
        threading.Thread(target=contextvars.copy_context().run, args=[predict], name="predict", daemon=True).start()
        given = outcome.get()
        if isinstance(given, BaseException):
            raise given
        yield given


class _Texts:
    """The text of one answer as it grows; it begins at the first character that is no white space, as MLflow's own do."""

    def __init__(self) -> None:
        self.whole = self._half = ""
        self.chunks = 0
        self._message: str | None = None
        self._in_parts = False

    def separated(self, piece: ParsedChunk) -> str:
        """The text of `piece` if it is new, a blank line before it where it begins a further message."""
        known = piece.whole and self._in_parts
        if not piece.text or known:
            self._in_parts &= not known
            return ""
        self._in_parts = not piece.whole
        self.chunks += 1
        further = self._message is not None and piece.message not in (None, self._message)
        self._message = piece.message or self._message
        return f"\n\n{piece.text}" if further else piece.text

    def add(self, text: str, last: bool = False) -> str:
        """Keep `text`; what of it is to be shown. Half of a character that comes in two waits for its other half."""
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" and not last else ""
        # A half without its other half can be written nowhere: it becomes the replacement character.
        text = text[: len(text) - len(self._half)].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        shown = text if self.whole else text.lstrip()
        self.whole += shown
        return shown


def joined(texts: list[str]) -> str:
    """The messages of one answer as one text. NoTextError if there is none."""
    if not texts:
        raise NoTextError("its answer holds no message with text")
    return "\n\n".join(texts)


def overrides_stream(model: Any) -> bool:
    """Does the code behind a pyfunc model have a predict_stream of its own, and not only the one that MLflow's class has?"""
    inherited = type(model.get_raw_model()).predict_stream
    return not inherited.__module__.startswith("mlflow.")
