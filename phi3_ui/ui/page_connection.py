"""Whether a page is connected, and which of its events draws which work under way."""

import threading


class PageConnection:
    """One page's connection, over any number of reconnections. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost = threading.Event()
        self._followed: frozenset[object] = frozenset()

    @property
    def lost(self) -> threading.Event:
        """Set once the connection that the page has now is lost. A page that is connected again gets another event."""
        return self._lost

    def renew(self) -> None:
        """The page is connected again."""
        with self._lock:
            if self._lost.is_set():
                self._lost = threading.Event()

    def try_follow(self, work: object) -> bool:
        """Whether the caller is the one that draws a turn, replay or round on this page; it calls `unfollow` at the end."""
        with self._lock:
            is_first, self._followed = work not in self._followed, self._followed | {work}
            return is_first

    def unfollow(self, work: object) -> None:
        """Nobody draws it any more."""
        with self._lock:
            self._followed -= {work}
