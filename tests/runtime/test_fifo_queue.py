import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from phi3_ui.chat.types import CancelToken
from phi3_ui.runtime.fifo_queue import FifoQueue


class Standing:
    """Someone in the line, in a thread of their own: what they were told, and when they are served."""

    def __init__(self, line: FifoQueue, serve: Callable[[], None] = lambda: None) -> None:
        self.cancel = CancelToken()
        self.told: list[int] = []
        self.served, self.done = threading.Event(), threading.Event()
        self.news = threading.Condition()
        joined = threading.Event()

        def stand() -> None:
            try:
                with line.wait_turn(self.cancel) as waiting:
                    joined.set()
                    for ahead in waiting:
                        with self.news:
                            self.told.append(ahead)
                            self.news.notify_all()
                    if not self.cancel.is_set():
                        self.served.set()
                        self.done.wait(10)
                        serve()
            except ZeroDivisionError:
                pass

        self.thread = threading.Thread(target=stand)
        self.thread.start()
        assert joined.wait(10)

    def hears(self, *told: int) -> bool:
        with self.news:
            return self.news.wait_for(lambda: self.told == [*told], 10)

    def leave(self) -> None:
        self.done.set()
        self.thread.join(10)


@pytest.fixture
def stand() -> Iterator[Callable[..., Standing]]:
    line = FifoQueue()
    with ExitStack() as stack:

        def join(serve: Callable[[], None] = lambda: None) -> Standing:
            standing = Standing(line, serve)
            stack.callback(standing.leave)
            return standing

        yield join


def test_who_is_alone_does_not_wait() -> None:
    line = FifoQueue()
    for _ in range(2):
        with line.wait_turn(CancelToken()) as waiting:
            assert list(waiting) == []


def test_first_come_first_served_and_each_hears_when_it_moves(stand: Callable[..., Standing]) -> None:
    first, second, third = stand(), stand(), stand()
    assert first.served.wait(10)
    assert second.hears(1)
    assert third.hears(2)
    first.leave()
    assert second.served.wait(10)
    assert third.hears(2, 1)
    assert not third.served.is_set()
    second.leave()
    assert third.served.wait(10)
    assert (first.told, second.told, third.told) == ([], [1], [2, 1])


def test_who_gives_up_leaves_at_once_and_those_behind_move_up(stand: Callable[..., Standing]) -> None:
    first, second, third = stand(), stand(), stand()
    assert second.hears(1)
    assert third.hears(2)
    second.cancel.set()
    second.thread.join(10)
    assert not second.thread.is_alive()
    assert not second.served.is_set()
    assert third.hears(2, 1)
    first.leave()
    assert third.served.wait(10)


def test_an_error_in_the_one_being_served_lets_the_next_in(stand: Callable[..., Standing]) -> None:
    first, second = stand(lambda: 1 // 0), stand()
    assert second.hears(1)
    first.leave()
    assert second.served.wait(10)


def test_who_has_given_up_before_does_not_wait() -> None:
    line, given_up = FifoQueue(), CancelToken()
    given_up.set()
    with line.wait_turn(CancelToken()), line.wait_turn(given_up) as waiting:
        assert list(waiting) == []


def test_a_reader_who_stops_in_the_middle_of_waiting_leaves_the_line() -> None:
    line = FifoQueue()

    def answer() -> Iterator[int]:
        with line.wait_turn(CancelToken()) as waiting:
            yield from waiting

    with line.wait_turn(CancelToken()):
        waiting = answer()
        assert next(waiting) == 1
        waiting.close()  # type: ignore[attr-defined]
        with line.wait_turn(CancelToken()) as behind:
            assert next(behind) == 1
