"""The trial that chooses torch's thread counts."""

import time

import pytest
import torch

from phi3_ui.runtime.torch_threads import choose_thread_counts, use_threads

pytestmark = pytest.mark.engine  # torch


class Model:
    """Takes `seconds[threads]` per step."""

    device = torch.device("cpu")

    def __init__(self, seconds: dict[int, float]) -> None:
        self._seconds = seconds

    def __call__(self, _: torch.Tensor) -> None:
        time.sleep(self._seconds[torch.get_num_threads()])


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [({2: 0.01, 1: 0.01}, (2, 1)), ({2: 0.01, 1: 0.005}, (2, 1)), ({2: 0.01, 1: 0.02}, (2, 2))],
    ids=["as fast", "faster", "slower"],
)
def test_one_core_less_only_where_it_costs_nothing(seconds: dict[int, float], counts: tuple[int, int]) -> None:
    with use_threads(2):
        assert choose_thread_counts(Model(seconds)) == counts
        assert torch.get_num_threads() == 2


def test_a_slow_model_is_tried_for_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.runtime.torch_threads._MAX_SECONDS", 0.0)
    with use_threads(2):
        assert choose_thread_counts(Model({2: 0.01, 1: 0.02})) == (2, 2)


def test_one_core_is_not_tried() -> None:
    with use_threads(1):
        assert choose_thread_counts(Model({})) == (1, 1)


def test_the_thread_count_is_restored_when_the_block_fails() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), use_threads(before + 1):
        _ = 1 / 0
    assert torch.get_num_threads() == before
