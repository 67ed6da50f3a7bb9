"""Seeing that processes have stopped computing."""

import math
import time
from collections.abc import Callable, Iterable

import psutil

_SPAN = 0.7  # seconds, of which a model at work uses most


def wait_until_idle(processes: Callable[[], Iterable[psutil.Process]], seconds: float = 20) -> None:
    """Returns once they use next to no CPU; AssertionError after `seconds`, which an answer of thousands of tokens outlasts."""
    deadline = time.monotonic() + seconds
    used = math.inf
    while used > 0.2 * _SPAN:
        assert time.monotonic() < deadline, "something goes on computing"
        before = _cpu_seconds(processes())
        time.sleep(_SPAN)
        used = _cpu_seconds(processes()) - before


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
