"""What becomes of a conversation that is being imported."""

import threading
from dataclasses import dataclass
from typing import Literal

ImportState = Literal["writing", "stored", "refused", "deleted"]


@dataclass(frozen=True)
class ImportProgress:
    """How far the recorder has come with one conversation."""

    written: int = 0
    """How many of its turns, ratings and tags are in the store."""
    state: ImportState = "writing"
    """`refused`: the store keeps refusing it, and what was written is deleted again; `deleted`: somebody deleted it meanwhile."""


class ImportTicket:
    """Waits for the recorder to write a conversation. Thread-safe; the recorder alone calls `report`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._progress = ImportProgress()

    @property
    def progress(self) -> ImportProgress:
        """The last reported one."""
        with self._changed:
            return self._progress

    def report(self, progress: ImportProgress) -> None:
        """Set the progress; one that is not `writing` is the last."""
        with self._changed:
            if self._progress.state == "writing":
                self._progress = progress
                self._changed.notify_all()

    def wait(self, timeout: float, after: ImportProgress | None = None) -> ImportProgress:
        """Wait up to `timeout` seconds for the end, or for a progress other than `after`, and return the progress."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._progress.state != "writing" or after not in (None, self._progress), timeout
            )
            return self._progress
