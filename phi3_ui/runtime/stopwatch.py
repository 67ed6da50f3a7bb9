"""The clock of one answer."""

import time

from phi3_ui.chat.types import Timings


class Stopwatch:
    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: float | None = None
        self._last = self._start

    def token(self) -> None:
        """One more token is there."""
        self._last = time.perf_counter()
        self._first = self._first or self._last

    def timings(self, completion_tokens: int | None) -> Timings:
        if self._first is None:
            return Timings(None, time.perf_counter() - self._start, None)
        later = (completion_tokens or 0) - 1
        decoding = self._last - self._first
        rate = later / decoding if later > 0 and decoding > 0 else None
        return Timings(self._first - self._start, time.perf_counter() - self._start, rate)
