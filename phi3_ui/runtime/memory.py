"""How much memory what is kept between answers may take."""

import os
from typing import Any

_SHARE = 8


def memory_budget(device: Any) -> int:
    """Bytes: an eighth of the memory of a torch device; 2 GiB where that cannot be known."""
    return (_on_accelerator(device) or _of_this_machine() or 16 << 30) // _SHARE


def _on_accelerator(device: Any) -> int | None:
    import torch

    if device.type == "cpu":
        return None
    try:
        return int(torch.accelerator.get_memory_info(device)[1])
    except (RuntimeError, NotImplementedError):
        return None  # it shares the machine's, or does not say


def _of_this_machine() -> int | None:
    """What the machine has, or its control group allows if that is less."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limits.append(int(file.read()))
    except (AttributeError, OSError, ValueError):
        pass  # no such system, or no limit ("max")
    return min(limits, default=None)
