"""Chooses the number of threads that torch decodes with.

Prefill is fastest on all cores. Decoding a small model is bound by memory bandwidth, so one core fewer is often as fast; that
core then serves the app and the browser, which would otherwise slow down all threads.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

_MAX_SECONDS, _MAX_STEPS = 2.0, 30  # the trial ends at whichever is reached first
_TOLERANCE = 1.03


def choose_thread_counts(model: Any) -> tuple[int, int]:
    """Return the number of threads for prefill and for decoding.

    Prefill uses all; decoding uses one fewer if a trial shows a loss of at most 3 %. The trial takes two seconds, or five steps
    of a slow model.
    """
    import torch

    available = torch.get_num_threads()
    if available == 1 or model.device.type != "cpu":
        return available, available
    token = torch.zeros((1, 1), dtype=torch.long)
    durations: dict[int, list[float]] = {available: [], available - 1: []}
    with torch.inference_mode(), use_threads(available):
        model(token)  # the first step may read the weights from disk
        deadline = time.perf_counter() + _MAX_SECONDS
        while (steps := len(durations[available])) < _MAX_STEPS and (steps < 2 or time.perf_counter() < deadline):
            for count, seconds in durations.items():
                torch.set_num_threads(count)
                start = time.perf_counter()
                model(token)
                seconds.append(time.perf_counter() - start)
    is_as_fast = statistics.median(durations[available - 1]) <= _TOLERANCE * statistics.median(durations[available])
    return available, available - 1 if is_as_fast else available


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Make torch use `count` threads, or the number set in the block, and restore the previous number afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
