"""An evaluation in progress: its state, and how to cancel it."""

import threading
from dataclasses import dataclass, replace
from typing import Literal

from phi3_ui.chat.types import CancelToken
from phi3_ui.errors import UserError

Phase = Literal["queued", "asking", "waiting", "scoring", "done"]
"""`waiting`: no further model can be loaded, or no further answer started, at the moment."""


@dataclass(frozen=True)
class Progress:
    """A snapshot of the state of an evaluation."""

    phase: Phase
    candidate: int
    """Index of the current candidate, counted from 0."""
    done: int
    """Number of answers in the store, of all candidates."""
    total: int
    is_cancelled: bool = False
    error: UserError | None = None
    """The error that ended the evaluation, if any; final in phase "done"."""


class RunningEvaluation:
    """One evaluation that runs in its own thread. Thread-safe."""

    def __init__(self, evaluation_id: str, run_ids: tuple[str, ...], total: int) -> None:
        self.id = evaluation_id
        self.run_ids = run_ids
        self.cancel_token = CancelToken()
        self._changed = threading.Condition()
        self._progress = Progress("queued", 0, 0, total)

    @property
    def progress(self) -> Progress:
        """The current state."""
        with self._changed:
            return self._progress

    def cancel(self) -> None:
        """Stop the answer in progress and everything after it. Existing answers are kept; the evaluation can be resumed."""
        self.cancel_token.set()
        self._change(is_cancelled=True)

    def is_cancelled(self) -> bool:
        """Whether the evaluation was cancelled."""
        return self.cancel_token.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the evaluation has ended; return False on timeout, if one is given."""
        with self._changed:
            return self._changed.wait_for(lambda: self._progress.phase == "done", seconds)

    def wait_for_change(self, seen: Progress, seconds: float) -> Progress:
        """Return the progress as soon as it differs from `seen`, or after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._progress is not seen, seconds)
            return self._progress

    def set_phase(self, phase: Phase, candidate: int) -> None:
        """Enter a phase."""
        self._change(phase=phase, candidate=candidate)

    def advance(self, candidate: int, answers: int) -> None:
        """Add to the number of answers in the store."""
        with self._changed:
            phase: Phase = "asking" if self._progress.phase == "waiting" else self._progress.phase
            done = self._progress.done + answers
            self._progress = replace(self._progress, phase=phase, candidate=candidate, done=done)
            self._changed.notify_all()

    def wait_for_capacity(self, seconds: float) -> bool:
        """Wait because the model is not available; return whether the evaluation was cancelled meanwhile."""
        with self._changed:
            self._progress = replace(self._progress, phase="waiting")
            self._changed.notify_all()
            return self._changed.wait_for(self.is_cancelled, seconds)

    def fail(self, error: UserError) -> None:
        """Record the error that ends the evaluation."""
        self._change(error=error)

    def end(self) -> None:
        """Enter the phase "done"."""
        self._change(phase="done")

    def _change(self, **values: object) -> None:
        with self._changed:
            self._progress = replace(self._progress, **values)  # type: ignore[arg-type]  # fields of Progress
            self._changed.notify_all()
