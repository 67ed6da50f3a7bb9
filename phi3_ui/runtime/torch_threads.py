"""How many threads torch decodes with.

A prompt is read fastest with every core. A token at a time, small models wait for memory instead, and one core less is
often as fast; then that core is left to the app and the browser, which would otherwise hold up all threads at once.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

_SECONDS, _STEPS = 2.0, 30  # the trial ends with the first of the two
_AS_FAST = 1.03


def thread_counts(model: Any) -> tuple[int, int]:
    """Threads to read a prompt with, and to decode with: all, or one less if a trial shows a loss of 3 % at most.

    The trial takes two seconds, or five steps of a model that is slow.
    """
    import torch

    most = torch.get_num_threads()
    if most == 1 or model.device.type != "cpu":
        return most, most
    token = torch.zeros((1, 1), dtype=torch.long)
    taken: dict[int, list[float]] = {most: [], most - 1: []}
    with torch.inference_mode(), threads(most):
        model(token)  # its first step may have to fetch the weights from the disk
        deadline = time.perf_counter() + _SECONDS
        while (steps := len(taken[most])) < _STEPS and (steps < 2 or time.perf_counter() < deadline):
            for count, seconds in taken.items():
                torch.set_num_threads(count)
                start = time.perf_counter()
                model(token)
                seconds.append(time.perf_counter() - start)
    fewer, all_ = (statistics.median(taken[count]) for count in (most - 1, most))
    return most, most - 1 if fewer <= _AS_FAST * all_ else most


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch uses `count` threads, or what is set there; afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
