"""The pool: models are loaded once and unloaded when idle, never during an answer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from phi3_ui.chat.types import CancelToken, ChatRequest, GenerationParams, Message, TextDelta
from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from tests.conftest import Demo
from tests.support.trust import strict_admission

ASK = ChatRequest((Message("user", "Write a very long story."),), GenerationParams(2000, 0.0))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own_pool(tmp_path: Path, clock: Clock) -> Iterator[Pool]:
    pool = Pool(tmp_path, max_loaded=1, idle_seconds=100, admit=strict_admission(tmp_path).admit, clock=clock)
    yield pool
    pool.close()


def test_a_model_is_loaded_once_for_all_callers(own_pool: Pool, demo: Demo) -> None:
    assert own_pool.get_model(demo.spec("prompt")) is own_pool.get_model(demo.spec("prompt"))


def test_a_crashed_model_is_loaded_again(own_pool: Pool, demo: Demo) -> None:
    first = own_pool.get_model(demo.spec("prompt"))
    psutil.Process(first.pid).kill()
    with pytest.raises(UserError):
        first.ready.result(timeout=60)
    second = own_pool.get_model(demo.spec("prompt"))
    assert second is not first
    assert second.ready.result(timeout=120) == "stream"


def test_unloading_ends_the_process_but_not_during_an_answer(own_pool: Pool, demo: Demo) -> None:
    model = own_pool.get_model(demo.spec("prompt"))
    cancel = CancelToken()
    events = model.answer(ASK, cancel)
    next(event for event in events if isinstance(event, TextDelta))
    with pytest.raises(UserError, match="answering"):
        own_pool.unload(model.spec.model_id)
    with pytest.raises(UserError, match="limit: "):
        own_pool.get_model(demo.spec("chat"))
    cancel.set()
    list(events)
    assert own_pool.measure_memory()[model.spec.model_id] > 10_000_000
    own_pool.unload(model.spec.model_id)
    assert own_pool.measure_memory() == {}
    assert not psutil.pid_exists(model.pid)
    assert own_pool.peek(model.spec.model_id) is None


def test_an_unused_model_is_unloaded_for_another_and_when_idle(own_pool: Pool, demo: Demo, clock: Clock) -> None:
    pid = own_pool.get_model(demo.spec("prompt")).pid
    other = own_pool.get_model(replace(demo.spec("prompt"), model_id="another"))
    assert not psutil.pid_exists(pid)
    pid = other.pid
    clock.now = 99
    other.last_used = 0
    own_pool.evict_idle()
    assert own_pool.peek("another") is other
    clock.now = 101
    own_pool.evict_idle()
    assert own_pool.peek("another") is None
    assert not psutil.pid_exists(pid)
