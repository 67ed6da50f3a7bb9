"""Measures the timings of one answer."""

import time

from phi3_ui.chat.types import Timings


class Stopwatch:
    """Starts when created; see Timings for what it measures."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: float | None = None
        self._last = self._start

    def record_token(self) -> None:
        """Record the arrival of a token."""
        self._last = time.perf_counter()
        self._first = self._first or self._last

    def timings(self, completion_tokens: int | None) -> Timings:
        """Return the timings so far; without `completion_tokens`, the decode rate is unknown."""
        if self._first is None:
            return Timings(None, time.perf_counter() - self._start, None)
        decoded = (completion_tokens or 0) - 1
        decode_seconds = self._last - self._first
        rate = decoded / decode_seconds if decoded > 0 and decode_seconds > 0 else None
        return Timings(self._first - self._start, time.perf_counter() - self._start, rate)
