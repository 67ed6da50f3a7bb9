"""The memory budget of KV caches, on devices that this machine need not have."""

import pytest
import torch

from phi3_ui.runtime import memory
from phi3_ui.runtime.memory import memory_budget

pytestmark = pytest.mark.engine  # torch
GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_host_memory", lambda: 800)


def test_a_gpu_lends_an_eighth_of_its_memory_with_every_supported_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch 2.8 and 2.9 lack it.
    monkeypatch.delattr(torch.accelerator, "get_memory_info", raising=False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 1600) if device == GPU else (1, 1))
    assert memory_budget(GPU) == 200


def test_a_gpu_that_does_not_answer_leaves_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.device) -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert memory_budget(GPU) == 100


@pytest.mark.parametrize("device", ["cpu", "mps", "meta"])
def test_a_device_without_memory_of_its_own_uses_the_hosts(device: str) -> None:
    assert memory_budget(torch.device(device)) == 100
