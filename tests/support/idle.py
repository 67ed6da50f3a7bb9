"""Wait until processes stop computing."""

import math
import time
from collections.abc import Callable, Iterable

import psutil

_INTERVAL = 0.7  # seconds; a busy model uses the CPU for most of it


def wait_until_idle(processes: Callable[[], Iterable[psutil.Process]], seconds: float = 20) -> None:
    """Wait until the processes use next to no CPU. Raise AssertionError after `seconds`, less than a very long answer takes."""
    deadline = time.monotonic() + seconds
    used = math.inf
    while used > 0.2 * _INTERVAL:
        assert time.monotonic() < deadline, "a process is still computing"
        before = _cpu_seconds(processes())
        time.sleep(_INTERVAL)
        used = _cpu_seconds(processes()) - before


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
