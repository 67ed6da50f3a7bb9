"""An evaluation that is under way: its progress, and the way to cancel it."""

import threading
from dataclasses import dataclass, replace
from typing import Literal

from phi3_ui.chat.types import CancelToken
from phi3_ui.errors import UserError

Phase = Literal["queued", "asking", "waiting", "scoring", "done"]
"""`waiting`: all places for loaded models or for answers are taken."""


@dataclass(frozen=True)
class Progress:
    """The state of an evaluation at one moment."""

    phase: Phase
    candidate: int
    """Which one it is at, counted from 0."""
    done: int
    """Answers of all candidates that are in the store."""
    total: int
    is_cancelled: bool = False
    error: UserError | None = None
    """What ended it, in phase "done"; None if nothing did."""


class RunningEvaluation:
    """One evaluation in its thread. Thread-safe."""

    def __init__(self, evaluation_id: str, run_ids: tuple[str, ...], total: int) -> None:
        self.id = evaluation_id
        self.run_ids = run_ids
        self.cancel_token = CancelToken()
        self._changed = threading.Condition()
        self._progress = Progress("queued", 0, 0, total)

    @property
    def progress(self) -> Progress:
        """The state at this moment."""
        with self._changed:
            return self._progress

    def cancel(self) -> None:
        """Stop the answer under way and everything after it. What has been answered is kept; it can be resumed."""
        self.cancel_token.set()
        self._change(is_cancelled=True)

    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.cancel_token.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; False on timeout, if there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._progress.phase == "done", seconds)

    def wait_for_change(self, seen: Progress, seconds: float) -> Progress:
        """The progress as soon as it differs from `seen`, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._progress is not seen, seconds)
            return self._progress

    def set_phase(self, phase: Phase, candidate: int) -> None:
        """Enter a phase."""
        self._change(phase=phase, candidate=candidate)

    def advance(self, candidate: int, answers: int) -> None:
        """So many further answers are in the store."""
        with self._changed:
            phase: Phase = "asking" if self._progress.phase == "waiting" else self._progress.phase
            done = self._progress.done + answers
            self._progress = replace(self._progress, phase=phase, candidate=candidate, done=done)
            self._changed.notify_all()

    def wait_for_place(self, seconds: float) -> bool:
        """Wait while the model cannot be had; returns whether it was cancelled meanwhile."""
        with self._changed:
            self._progress = replace(self._progress, phase="waiting")
            self._changed.notify_all()
            return self._changed.wait_for(self.is_cancelled, seconds)

    def fail(self, error: UserError) -> None:
        """Note what ends it."""
        self._change(error=error)

    def end(self) -> None:
        """It has ended."""
        self._change(phase="done")

    def _change(self, **values: object) -> None:
        with self._changed:
            self._progress = replace(self._progress, **values)  # type: ignore[arg-type]  # fields of Progress
            self._changed.notify_all()
