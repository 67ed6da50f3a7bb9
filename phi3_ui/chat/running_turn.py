"""Runs one turn: turns a request and a model into a stream of snapshots.

The answer is consumed in its own thread, so a slow reader (a browser that is rendering) never slows the model down, and the
text that arrives is stored even if the reader leaves.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import (
    CancelToken,
    ChatRequest,
    Completed,
    ContextUsage,
    ModelLoading,
    PrefillProgress,
    QueuePosition,
    TextDelta,
    Thinking,
)
from phi3_ui.errors import UserError

logger = logging.getLogger(__name__)

Phase = Literal["loading", "queued", "prefill", "thinking", "decode", "done"]


@dataclass(frozen=True)
class TurnSnapshot:
    """The state of a turn at one moment."""

    phase: Phase
    text: str = ""
    """The text so far."""
    ahead: int = 0
    """Requests ahead of this one in the queue, in phase "queued"."""
    progress: PrefillProgress | None = None
    """Set in phase "prefill", once known."""
    answer: Answer | None = None
    """Set in phase "done"."""


class RunningTurn:
    """A turn that runs in its own thread once started. Thread-safe."""

    def __init__(
        self,
        request: ChatRequest,
        model_name: str,
        get_model: Callable[[], ChatModel],
        on_answer: Callable[[Answer], None],
        on_text: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare the turn.

        Args:
            request: The request to send to the model.
            model_name: Display name of the model, for the Answer.
            get_model: Returns the model, loading it if necessary; may raise UserError.
            on_answer: Called once with the answer, however it ended, before the phase becomes "done".
            on_text: Called with each piece of text.
        """
        self._request = request
        self._model_name = model_name
        self._get_model = get_model
        self._on_answer, self._on_text = on_answer, on_text
        self._cancel = CancelToken()
        self._changed = threading.Condition()
        self._snapshot = TurnSnapshot("prefill", request.prefix)
        self._pieces = [request.prefix] if request.prefix else []
        """The pieces of the text. They are joined only for a snapshot: joining them for each piece would take quadratic time."""
        self._has_new_text = False
        """Whether there are pieces that are not in the snapshot yet."""

    @property
    def model_name(self) -> str:
        """Display name of the model."""
        return self._model_name

    @property
    def snapshot(self) -> TurnSnapshot:
        """The current state."""
        with self._changed:
            return self._take_snapshot()

    def start(self) -> "RunningTurn":
        """Start the thread, and return self. If no thread can be started, the turn ends with an error."""
        try:
            threading.Thread(target=self._run, name="turn", daemon=True).start()
        except RuntimeError as error:  # the system's limit of threads is reached
            logger.exception("Could not start an answer of %s", self._model_name)
            self._pieces.clear()
            self._end(self._failed_answer(UserError("unexpected", detail=type(error).__name__)))
        return self

    def stop(self) -> None:
        """Cancel the answer; the turn ends shortly afterwards."""
        self._cancel.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the turn has ended and its answer has been handled; return False after `seconds`, if given."""
        with self._changed:
            return self._changed.wait_for(lambda: self._snapshot.phase == "done", timeout=seconds)

    def snapshots(
        self, interval: float, keeps_running: Callable[[], bool] = lambda: False
    ) -> Generator[TurnSnapshot, None, None]:
        """Yield the current snapshot, then each new one: at most one per `interval` seconds, but a new phase immediately.

        Closing the iterator before the end cancels the turn, since its reader has left, unless `keeps_running()` returns True
        because the reader may come back.
        """
        latest: TurnSnapshot | None = None
        try:
            while True:
                with self._changed:
                    while self._snapshot is latest and not self._has_new_text:
                        self._changed.wait()
                    latest = self._take_snapshot()
                yield latest
                if latest.phase == "done":
                    return
                self._wait_for_phase_change(latest.phase, interval)
        finally:
            if (latest is None or latest.phase != "done") and not keeps_running():
                self.stop()

    def _wait_for_phase_change(self, phase: Phase, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._phase != phase, timeout=timeout)

    @property
    def _phase(self) -> Phase:
        return "decode" if self._has_new_text else self._snapshot.phase

    def _take_snapshot(self) -> TurnSnapshot:
        if self._has_new_text:
            self._snapshot, self._has_new_text = TurnSnapshot("decode", "".join(self._pieces)), False
        return self._snapshot

    def _run(self) -> None:
        if prefix := self._request.prefix:
            self._on_text(prefix)
        try:
            answer = self._collect_answer()
        except UserError as error:
            answer = self._failed_answer(error)
        except Exception as error:
            logger.exception("An answer of %s failed", self._model_name)
            answer = self._failed_answer(UserError("unexpected", detail=type(error).__name__))
        self._end(answer)

    def _end(self, answer: Answer) -> None:
        try:
            self._on_answer(answer)
        finally:
            self._publish(TurnSnapshot("done", answer.text, answer=answer))

    def _collect_answer(self) -> Answer:
        """Consume the model's events, and publish snapshots of them."""
        prefix = self._request.prefix
        context: ContextUsage | None = None
        loading_since: float | None = None
        load_seconds: float | None = None
        for event in self._get_model().answer(self._request, self._cancel):
            if loading_since is not None and load_seconds is None and not isinstance(event, ModelLoading):
                load_seconds = time.monotonic() - loading_since
            match event:
                case ModelLoading():
                    loading_since = loading_since or time.monotonic()
                    self._publish(TurnSnapshot("loading", prefix))
                case QueuePosition(ahead):
                    self._publish(TurnSnapshot("queued", prefix, ahead=ahead))
                case ContextUsage():
                    context = event
                case PrefillProgress():
                    self._publish(TurnSnapshot("prefill", prefix, progress=event))
                case Thinking():
                    self._publish(TurnSnapshot("thinking", prefix))
                case TextDelta(piece):
                    self._on_text(piece)
                    with self._changed:
                        self._pieces.append(piece)
                        self._has_new_text = True
                        self._changed.notify_all()
                case Completed(text, usage, timings, reason, ended_model):
                    return Answer(
                        self._model_name,
                        prefix + text,
                        usage,
                        timings,
                        reason,
                        context=context,
                        load_seconds=load_seconds,
                        ended_model=ended_model,
                    )
        raise RuntimeError("the model's events ended without Completed")

    def _failed_answer(self, error: UserError) -> Answer:
        return Answer(self._model_name, "".join(self._pieces), error=(error.code, error.values))

    def _publish(self, snapshot: TurnSnapshot) -> None:
        with self._changed:
            self._snapshot, self._has_new_text = snapshot, False
            self._changed.notify_all()
