"""A line before something that serves one at a time: first come, first served."""

import contextlib
import threading
from collections.abc import Iterator

from phi3_ui.chat.types import Cancel


class FifoQueue:
    """Any thread may stand in it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._places: list[object] = []

    @contextlib.contextmanager
    def wait_turn(self, cancel: Cancel) -> Iterator[Iterator[int]]:
        """A place until the block ends, however it does; those behind move up then.

        Iterate what the block is given to wait: it says how many are ahead whenever that changes, and ends when none is
        or `cancel` is set.
        """
        place = object()
        with self._changed:
            self._places.append(place)
        cancel.on_set(self._tell)
        try:
            yield self._wait(place, cancel)
        finally:
            with self._changed:
                self._places.remove(place)
                self._changed.notify_all()

    def _wait(self, place: object, cancel: Cancel) -> Iterator[int]:
        told = 0
        while True:
            with self._changed:
                while (ahead := self._places.index(place)) == told > 0 and not cancel.is_set():
                    self._changed.wait()
            if ahead == 0 or cancel.is_set():
                return
            told = ahead
            yield ahead

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
