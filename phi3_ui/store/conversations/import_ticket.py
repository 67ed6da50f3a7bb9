"""The progress and outcome of the import of a conversation."""

import threading
from dataclasses import dataclass
from typing import Literal

ImportState = Literal["writing", "stored", "refused", "deleted"]


@dataclass(frozen=True)
class ImportProgress:
    """The recorder's progress with one conversation."""

    written: int = 0
    """The number of its turns, ratings and tags in the store."""
    state: ImportState = "writing"
    """`refused`: the store keeps refusing it, and the written part is deleted; `deleted`: it was deleted meanwhile."""


class ImportTicket:
    """Waits for the recorder to write a conversation. Thread-safe; only the recorder calls `report`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._progress = ImportProgress()

    @property
    def progress(self) -> ImportProgress:
        """The latest progress."""
        with self._changed:
            return self._progress

    def report(self, progress: ImportProgress) -> None:
        """Set the progress; any state other than `writing` is final."""
        with self._changed:
            if self._progress.state == "writing":
                self._progress = progress
                self._changed.notify_all()

    def wait(self, timeout: float, after: ImportProgress | None = None) -> ImportProgress:
        """Wait up to `timeout` seconds for the end, or for progress beyond `after`, and return the progress."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._progress.state != "writing" or after not in (None, self._progress), timeout
            )
            return self._progress
