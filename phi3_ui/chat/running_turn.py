"""One turn: a conversation that asks, a model, parameters → a stream of states.

The answer is gathered in a thread of its own, so the reader's pace (a browser's, drawing) never holds the model back,
and what arrives is kept even if the reader leaves.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import (
    Cancel,
    ChatRequest,
    Completed,
    ContextUse,
    GenerationParams,
    Loading,
    PromptProgress,
    Queued,
    TextDelta,
)
from phi3_ui.errors import UserError

logger = logging.getLogger(__name__)

Phase = Literal["loading", "queued", "reading", "writing", "done"]


@dataclass(frozen=True)
class TurnState:
    """A turn at one moment. `text` grows; `answer` is there when phase is done.

    `ahead` are the answers before it while it is queued, `progress` the prompt read so far.
    """

    phase: Phase
    text: str = ""
    ahead: int = 0
    progress: PromptProgress | None = None
    answer: Answer | None = None


class RunningTurn:
    """A turn, under way once started. `stop` may be called from any thread, at any time."""

    def __init__(
        self,
        conversation: Conversation,
        get_model: Callable[[], ChatModel],
        model_name: str,
        system: str,
        params: GenerationParams,
        on_answer: Callable[[Answer], None],
        template: str | None = None,
        seconds: float | None = None,
        on_text: Callable[[str], None] = lambda _: None,
    ) -> None:
        """See ChatRequest for `template` and `seconds`. `on_text` is given each piece of the answer, `on_answer` its end."""
        self._request = ChatRequest(conversation.messages(system), params, template, seconds)
        self._get_model = get_model
        self._model_name = model_name
        self._on_answer, self._on_text = on_answer, on_text
        self._cancel = Cancel()
        self._changed = threading.Condition()
        self._state = TurnState("reading")

    def start(self) -> "RunningTurn":
        threading.Thread(target=self._gather, name="turn", daemon=True).start()
        return self

    def stop(self) -> None:
        self._cancel.set()

    def wait(self, seconds: float) -> bool:
        """Until the turn has ended and its answer was taken; False if it has not by then."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state.phase == "done", timeout=seconds)

    def states(self, interval: float) -> Iterator[TurnState]:
        """The state now, then each `interval` seconds if it changed; a new phase, such as the end, at once.

        Closing the iterator early stops the turn: its reader has left.
        """
        shown: TurnState | None = None
        try:
            while True:
                with self._changed:
                    while self._state is shown:
                        self._changed.wait()
                    shown = self._state
                yield shown
                if shown.phase == "done":
                    return
                self._pause(shown.phase, interval)
        finally:
            if shown is None or shown.phase != "done":
                self.stop()

    def _pause(self, phase: Phase, seconds: float) -> None:
        """Wait this long, or until another phase has begun."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.phase != phase, timeout=seconds)

    def _gather(self) -> None:
        text: list[str] = []
        try:
            answer = self._answer(text)
        except UserError as error:
            answer = self._failed(text, error)
        except Exception as error:
            logger.exception("a turn failed")
            answer = self._failed(text, UserError("unexpected", detail=type(error).__name__))
        try:
            self._on_answer(answer)
        finally:
            self._show(TurnState("done", answer.text, answer=answer))

    def _answer(self, text: list[str]) -> Answer:
        """The whole answer; its pieces are in `text` as they come."""
        context: ContextUse | None = None
        loading: float | None = None  # since when
        load_seconds: float | None = None
        for event in self._get_model().answer(self._request, self._cancel):
            if loading is not None and load_seconds is None and not isinstance(event, Loading):
                load_seconds = time.monotonic() - loading
            match event:
                case Loading():
                    loading = loading or time.monotonic()
                    self._show(TurnState("loading"))
                case Queued(ahead):
                    self._show(TurnState("queued", ahead=ahead))
                case ContextUse():
                    context = event
                case PromptProgress():
                    self._show(TurnState("reading", progress=event))
                case TextDelta(piece):
                    text.append(piece)
                    self._on_text(piece)
                    self._show(TurnState("writing", "".join(text)))
                case Completed(whole, usage, timings, reason):
                    return Answer(
                        self._model_name, whole, usage, timings, reason, context=context, load_seconds=load_seconds
                    )
        raise RuntimeError("the model's answer has no end")

    def _failed(self, text: list[str], error: UserError) -> Answer:
        return Answer(self._model_name, "".join(text), error=(error.code, error.values))

    def _show(self, state: TurnState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
