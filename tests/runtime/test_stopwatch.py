"""The timings that Stopwatch computes."""

import pytest

from phi3_ui.chat.types import Timings
from phi3_ui.runtime import stopwatch
from phi3_ui.runtime.stopwatch import Stopwatch


class Clock:
    """A clock set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def _watch(clock: Clock, *tokens: float, end: float) -> Stopwatch:
    """Return a stopwatch started at 100 with tokens at these times; the clock then shows `end`."""
    watch = Stopwatch()
    for clock.now in tokens:
        watch.record_token()
    clock.now = end
    return watch


def test_an_answer_without_tokens_has_only_a_duration(clock: Clock) -> None:
    watch = _watch(clock, end=102.5)

    assert watch.timings(0) == Timings(None, 2.5, None)
    assert watch.timings(None) == Timings(None, 2.5, None)


def test_one_token_has_no_rate(clock: Clock) -> None:
    watch = _watch(clock, 100.5, end=101.0)

    assert watch.timings(1) == Timings(0.5, 1.0, None)


def test_the_rate_excludes_the_first_token_and_the_time_to_it(clock: Clock) -> None:
    watch = _watch(clock, 102.0, 102.5, 103.0, 104.0, end=110.0)

    # The prefill (2 s) and the time after the last token (6 s) do not count as decoding.
    assert watch.timings(4) == Timings(2.0, 10.0, 1.5)


def test_the_models_own_token_count_decides_the_rate(clock: Clock) -> None:
    watch = _watch(clock, 101.0, 103.0, end=103.0)

    assert watch.timings(11).tokens_per_second == 5.0


def test_unknown_usage_gives_no_rate(clock: Clock) -> None:
    watch = _watch(clock, 101.0, 103.0, end=103.0)

    assert watch.timings(None) == Timings(1.0, 3.0, None)


def test_tokens_within_one_clock_tick_give_no_rate(clock: Clock) -> None:
    watch = _watch(clock, 101.0, 101.0, end=101.0)

    assert watch.timings(2) == Timings(1.0, 1.0, None)


def test_the_real_clock_runs_forward() -> None:
    watch = Stopwatch()
    watch.record_token()
    watch.record_token()

    timings = watch.timings(2)

    assert timings.time_to_first_token is not None
    assert 0 <= timings.time_to_first_token <= timings.seconds
