"""Whether a page is connected, and which of its events draws which work in progress."""

import threading


class PageConnection:
    """One page's connection, across any number of reconnections. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost = threading.Event()
        self._followed: frozenset[object] = frozenset()

    @property
    def lost(self) -> threading.Event:
        """Set once the current connection is lost. A page that reconnects gets a new event."""
        return self._lost

    def renew(self) -> None:
        """Record that the page has reconnected."""
        with self._lock:
            if self._lost.is_set():
                self._lost = threading.Event()

    def try_follow(self, work: object) -> bool:
        """Claim the drawing of a turn, replay or round on this page; False if it is claimed. Release it with `unfollow`."""
        with self._lock:
            is_first, self._followed = work not in self._followed, self._followed | {work}
            return is_first

    def unfollow(self, work: object) -> None:
        """Release the claim."""
        with self._lock:
            self._followed -= {work}
