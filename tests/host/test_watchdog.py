"""When a process is considered hung, decided from its events only, without a process."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from phi3_ui.chat.types import (
    ChatRequest,
    ContextUsage,
    Message,
    PrefillProgress,
    QueuePosition,
    TextDelta,
    Thinking,
)
from phi3_ui.host.protocol import Heartbeat, HostEvent
from phi3_ui.host.watchdog import Watchdog

_SHORT_GRACE = 0.05
_REQUEST = ChatRequest((Message("user", "Hi"),))


class Watched:
    """A watchdog, and a record of its actions."""

    def __init__(self, grace: float) -> None:
        self.released: queue.SimpleQueue[tuple[int, str, bool]] = queue.SimpleQueue()
        self.is_killed = threading.Event()
        self.watchdog = Watchdog(grace, lambda *release: self.released.put(release), self.is_killed.set, "a model")
        self.watchdog.set_ready()


class Clocked(Watched):
    """A watchdog whose clock is advanced by the test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._now = 100.0
        patch.setattr(time, "monotonic", lambda: self._now)
        super().__init__(grace=5.0)

    def pass_seconds(self, seconds: float) -> None:
        self._now += seconds

    def wake(self) -> None:
        """Make the watchdog check the time."""
        with self.watchdog._changed:
            self.watchdog._changed.notify()


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocked]:
    clocked = Clocked(monkeypatch)
    yield clocked
    clocked.watchdog.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched(_SHORT_GRACE)
    yield watched
    watched.watchdog.close()


def test_an_answer_that_does_not_end_is_released_and_its_silent_process_killed(watched: Watched) -> None:
    watched.watchdog.add(1, _REQUEST)
    watched.watchdog.record_event(1, TextDelta("So"))
    watched.watchdog.expect_end(1)
    assert watched.released.get(timeout=30) == (1, "cancelled", True)
    assert watched.is_killed.wait(30)


def test_a_process_in_a_long_prefill_is_not_killed(watched: Watched) -> None:
    watched.watchdog.add(1, _REQUEST)
    watched.watchdog.record_event(1, PrefillProgress(0, 100_000))
    watched.watchdog.expect_end(1)
    assert watched.released.get(timeout=30) == (1, "cancelled", False), "the user who pressed Stop does not wait for it"
    assert not watched.is_killed.is_set()
    watched.watchdog.record_event(1, TextDelta("The prompt is read"))
    watched.watchdog.add(2, _REQUEST)  # wakes the watchdog, which no longer finds a reason for the silence
    assert watched.is_killed.wait(30)


def test_a_models_speed_determines_how_long_a_prefill_may_take(watched: Watched) -> None:
    watched.watchdog.add(1, _REQUEST)
    watched.watchdog.record_event(1, PrefillProgress(0, 100_000))
    watched.watchdog.record_event(1, PrefillProgress(99_999, 100_000))  # microseconds per token
    watched.watchdog.expect_end(1)
    assert watched.is_killed.wait(30)


@pytest.mark.parametrize(
    "claims",
    [
        [ContextUsage(2**53, 2**53)],
        [PrefillProgress(0, 2**53), PrefillProgress(1, 2**53)],
        [PrefillProgress(2**53, 0)],
    ],
)
def test_claims_of_an_impossibly_long_prompt_do_not_excuse_silence(claims: list[HostEvent]) -> None:
    clock = iter([*range(100, 10_000, 100)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(clock))
        watched = Watched(_SHORT_GRACE)
        watched.watchdog.add(1, _REQUEST)
        for claim in claims:
            watched.watchdog.record_event(1, claim)
    with watched.watchdog._changed:
        assert 0 < watched.watchdog._patience() < 12 * 3600
    watched.watchdog.close()


def test_a_queued_answer_is_released_and_a_process_that_makes_progress_survives() -> None:
    watched = Watched(grace=0.4)
    watchdog, has_stalled = watched.watchdog, threading.Event()

    def stream() -> None:
        while not has_stalled.wait(0.05):
            watchdog.record_event(2, TextDelta("more "))

    watchdog.add(1, _REQUEST)
    watchdog.record_event(1, QueuePosition(1))
    watchdog.add(2, _REQUEST)
    other = threading.Thread(target=stream)
    other.start()
    watchdog.expect_end(1)
    assert watched.released.get(timeout=30) == (1, "cancelled", False)
    assert watchdog.await_progress(30)
    assert not watched.is_killed.is_set()
    has_stalled.set()
    other.join()
    assert watched.is_killed.wait(30), "no progress any more, and the first answer has still not ended"
    watchdog.close()


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("more "),
        Heartbeat(),
        Thinking(),
        PrefillProgress(0, 10**9),
        ContextUsage(10**9, 10**9),
        QueuePosition(0),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "time limit"])
def test_an_answer_that_continues_is_released_and_its_process_killed(
    clocked: Clocked, event: HostEvent, is_stopped: bool
) -> None:
    clocked.watchdog.add(1, replace(_REQUEST, time_limit=None if is_stopped else 2.0))
    if is_stopped:
        clocked.watchdog.expect_end(1)
    for _ in range(14):
        clocked.pass_seconds(0.5)
        clocked.watchdog.record_event(1, event)
    clocked.wake()
    assert clocked.released.get(timeout=30) == (1, "cancelled" if is_stopped else "timeout", True)
    assert clocked.is_killed.wait(30)


def test_a_process_with_another_running_answer_is_killed_once_that_has_ended(clocked: Clocked) -> None:
    clocked.watchdog.add(1, _REQUEST)
    clocked.watchdog.add(2, _REQUEST)
    clocked.watchdog.expect_end(1)
    for _ in range(10):
        clocked.pass_seconds(0.5)
        clocked.watchdog.record_event(1, TextDelta("more "))
    clocked.wake()
    assert clocked.released.get(timeout=30) == (1, "cancelled", False)
    assert not clocked.is_killed.is_set()
    clocked.watchdog.end_answer(2)
    assert clocked.is_killed.wait(30)


def test_events_of_unknown_answers_are_no_sign_of_life(clocked: Clocked) -> None:
    clocked.watchdog.add(1, _REQUEST)
    clocked.watchdog.expect_end(1)
    for _ in range(11):
        clocked.pass_seconds(0.5)
        clocked.watchdog.record_event(7, Heartbeat())
    clocked.wake()
    assert clocked.released.get(timeout=30) == (1, "cancelled", True)
    assert clocked.is_killed.wait(30)


def test_a_step_already_in_progress_is_tolerated(clocked: Clocked) -> None:
    clocked.watchdog.add(1, _REQUEST)
    clocked.watchdog.expect_end(1)
    clocked.pass_seconds(4.0)
    clocked.watchdog.record_event(1, PrefillProgress(128, 512))
    clocked.watchdog.record_event(1, Heartbeat())
    clocked.pass_seconds(1.0)
    clocked.wake()
    assert clocked.released.get(timeout=30) == (1, "cancelled", False)
    assert not clocked.is_killed.is_set()


def test_an_answer_that_ends_in_time_has_no_consequences(watched: Watched) -> None:
    watched.watchdog.add(1, ChatRequest(_REQUEST.messages, time_limit=0.0))
    watched.watchdog.expect_end(1)
    watched.watchdog.end_answer(1)
    watched.watchdog.add(2, ChatRequest(_REQUEST.messages, time_limit=0.0))
    assert watched.released.get(timeout=30) == (2, "timeout", True)
    assert watched.released.empty()


def test_time_limits_start_once_the_model_is_loaded_and_the_queue_wait_is_over() -> None:
    watched = Watched(_SHORT_GRACE)
    watched.watchdog.close()
    watchdog = Watchdog(60, lambda *_: None, lambda: None, "a model")

    def has_limit(number: int) -> bool:
        return watchdog._answers[number].due is not None

    watchdog.add(1, ChatRequest(_REQUEST.messages, time_limit=10.0))
    watchdog.expect_end(1)
    assert not has_limit(1), "it is loading"
    watchdog.set_ready()
    assert has_limit(1)
    watchdog.add(2, ChatRequest(_REQUEST.messages, time_limit=10.0))
    assert has_limit(2)
    watchdog.record_event(2, QueuePosition(1))
    assert not has_limit(2)
    watchdog.record_event(2, PrefillProgress(0, 10))
    assert has_limit(2)
    watchdog.close()
