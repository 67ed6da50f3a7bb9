"""A FIFO queue for a resource that serves one request at a time."""

import contextlib
import threading
from collections.abc import Iterator

from phi3_ui.chat.types import CancelToken


class FifoQueue:
    """First come, first served. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[object] = []

    @contextlib.contextmanager
    def wait_turn(self, cancel: CancelToken) -> Iterator[Iterator[int]]:
        """Hold a place in the queue until the block ends, whether normally or not; then those behind move up.

        Iterate over the yielded value to wait: it gives the number of requests ahead whenever that changes, and ends when there
        are none or `cancel` is set.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
        cancel.on_set(self._notify)
        try:
            yield self._positions(ticket, cancel)
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _positions(self, ticket: object, cancel: CancelToken) -> Iterator[int]:
        reported = 0
        while True:
            with self._changed:
                while (ahead := self._waiting.index(ticket)) == reported > 0 and not cancel.is_set():
                    self._changed.wait()
            if ahead == 0 or cancel.is_set():
                return
            reported = ahead
            yield ahead

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
