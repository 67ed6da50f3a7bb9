"""Smooths a job's estimated time left for display: it counts down with the clock and does not jump."""

import math

_SMOOTHING = 10.0  # time constant in seconds with which a new estimate replaces the previous one


class TimeLeft:
    """Smooths estimates of the seconds left. Not thread-safe."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._updated_at = 0.0

    def update(self, estimate: float | None, now: float) -> float | None:
        """Return the seconds left at `now`, given the latest estimate, if any; None before the first one."""
        if estimate is not None:
            end = now + estimate
            share = 1 - math.exp(-(now - self._updated_at) / _SMOOTHING)
            self._end = end if self._end is None else self._end + share * (end - self._end)
            self._updated_at = now
        return None if self._end is None else max(self._end - now, 0.0)
