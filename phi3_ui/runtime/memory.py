"""The memory budget of KV caches."""

import os
from pathlib import Path
from typing import Any

_FRACTION = 8
_DEFAULT = 16 << 30


def memory_budget(device: Any) -> int:
    """Return an eighth of a torch device's memory, in bytes; 2 GiB if unknown."""
    return (_accelerator_memory(device) or _host_memory() or _DEFAULT) // _FRACTION


def _accelerator_memory(device: Any) -> int | None:
    import torch

    if device.type == "cpu":
        return None
    try:  # torch.accelerator.get_memory_info does not exist before torch 2.10
        return int(torch.get_device_module(device).mem_get_info(device)[1])
    except (AttributeError, RuntimeError):
        return None  # the device shares the host's memory, or does not report its own


def _host_memory() -> int | None:
    """Return the machine's memory in bytes, or the limit of its control group if that is less."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (AttributeError, OSError, ValueError):
        pass  # another operating system, or no limit ("max")
    return min(limits, default=None)
