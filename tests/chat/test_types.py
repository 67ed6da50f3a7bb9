"""The cancel token, and the sum of token counts."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.types import CancelToken, Usage

_THREADS = 8


def _run_together(*tasks: Callable[[], None]) -> None:
    """Run all tasks in threads that start together, to their end."""
    gate = threading.Barrier(len(tasks))

    def run(task: Callable[[], None]) -> None:
        gate.wait()
        task()

    threads = [threading.Thread(target=run, args=[task]) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_callbacks_are_called_when_the_token_is_set() -> None:
    cancel, called = CancelToken(), []
    cancel.on_set(lambda: called.append("first"))
    cancel.on_set(lambda: called.append("second"))
    assert not cancel.is_set()
    assert called == []

    cancel.set()

    assert cancel.is_set()
    assert called == ["first", "second"]


def test_setting_the_token_twice_calls_callbacks_once() -> None:
    cancel, called = CancelToken(), []
    cancel.on_set(lambda: called.append("once"))

    cancel.set()
    cancel.set()

    assert cancel.is_set()
    assert called == ["once"]


def test_a_callback_added_after_setting_is_called_immediately() -> None:
    cancel, called = CancelToken(), []
    cancel.set()

    cancel.on_set(lambda: called.append("late"))
    assert called == ["late"]
    cancel.set()
    assert called == ["late"]


def test_the_token_is_already_set_when_callbacks_run() -> None:
    cancel, seen = CancelToken(), []
    cancel.on_set(lambda: seen.append(cancel.is_set()))

    cancel.set()

    assert seen == [True]


def test_a_callback_may_set_the_token_and_add_a_callback() -> None:
    cancel, called = CancelToken(), []

    def again() -> None:
        called.append("outer")
        cancel.set()
        cancel.on_set(lambda: called.append("inner"))

    cancel.on_set(again)
    cancel.set()

    assert called == ["outer", "inner"]


def test_setting_from_many_threads_calls_each_callback_once() -> None:
    for _ in range(50):
        cancel, called = CancelToken(), list[int]()
        for number in range(5):
            cancel.on_set(partial(called.append, number))

        _run_together(*[cancel.set] * _THREADS)

        assert called == [0, 1, 2, 3, 4]


def test_callbacks_added_while_setting_are_called_once_each() -> None:
    for _ in range(50):
        cancel, called = CancelToken(), list[int]()
        registering = [partial(cancel.on_set, partial(called.append, number)) for number in range(_THREADS)]
        _run_together(cancel.set, *registering, cancel.set)

        assert Counter(called) == Counter(range(_THREADS))


_counts = st.integers(min_value=0, max_value=10**9)
_usages = st.builds(Usage, _counts, _counts)


@settings(deadline=None)
@given(st.lists(_usages))
def test_usage_adds_up_count_by_count(usages: list[Usage]) -> None:
    total = sum(usages, Usage(0, 0))

    assert total.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
    assert total.completion_tokens == sum(usage.completion_tokens for usage in usages)
    assert total.total_tokens == total.prompt_tokens + total.completion_tokens
