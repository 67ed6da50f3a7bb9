"""Guessing passwords is slowed down, and finally locked out."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from phi3_ui.accounts.throttle import LoginThrottle


class Clock:
    """The time, for the module `limits`."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


def test_failures_wait_longer_and_longer(clock: Clock) -> None:
    throttle = LoginThrottle()
    assert [throttle.claim_attempt("anna", "a") for _ in range(5)] == [0] * 5
    assert 0 < throttle.claim_attempt("anna", "a") <= 60
    clock.now += 61
    assert [throttle.claim_attempt("anna", "a") for _ in range(5)] == [0] * 5
    assert 60 < throttle.claim_attempt("anna", "a") <= 900
    assert throttle.claim_attempt("anna", "b") == 0, "another address"
    assert throttle.claim_attempt("bob", "a") == 0, "another account"


def test_a_success_forgives_the_account_at_its_address(clock: Clock) -> None:
    throttle = LoginThrottle()
    for _ in range(4):
        throttle.claim_attempt("anna", "a")
    throttle.clear_attempts("anna", "a")
    assert [throttle.claim_attempt("anna", "a") for _ in range(5)] == [0] * 5


def test_an_address_that_tries_many_names_is_locked_out(clock: Clock) -> None:
    throttle = LoginThrottle()
    waits = [throttle.claim_attempt(f"name{number}", "a") for number in range(100)]
    assert (waits[:60], min(waits[60:]) > 0) == ([0] * 60, True)


def test_an_account_is_closed_to_guesses_from_everywhere(clock: Clock) -> None:
    throttle = LoginThrottle()
    waits = [throttle.claim_attempt("anna", f"{number}") for number in range(150)]
    assert (waits[:100], min(waits[100:]) > 0) == ([0] * 100, True)


def test_long_names_take_no_memory(clock: Clock) -> None:
    throttle = LoginThrottle()
    tracemalloc.start()
    for number in range(50):
        throttle.claim_attempt(f"{number}" + "x" * 1_000_000, "a")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1_000_000


def test_attempts_at_the_same_time_are_counted_one_by_one() -> None:
    throttle = LoginThrottle()
    with ThreadPoolExecutor(16) as threads:
        waits = list(threads.map(lambda _: throttle.claim_attempt("anna", "a"), range(200)))
    assert waits.count(0) == 5
