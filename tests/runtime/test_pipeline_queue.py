"""The FIFO queue: order, positions, cancelling."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from phi3_ui.chat.types import CancelToken
from phi3_ui.runtime.pipeline_queue import FifoQueue


class WaitingRequest:
    """A request in the queue, in its own thread: the positions it gets, and when it is served."""

    def __init__(self, fifo: FifoQueue, serve: Callable[[], None] = lambda: None) -> None:
        self.cancel = CancelToken()
        self.positions: list[int] = []
        self.served, self.done = threading.Event(), threading.Event()
        self.changed = threading.Condition()
        entered = threading.Event()

        def run() -> None:
            try:
                with fifo.wait_turn(self.cancel) as positions_ahead:
                    entered.set()
                    for ahead in positions_ahead:
                        with self.changed:
                            self.positions.append(ahead)
                            self.changed.notify_all()
                    if not self.cancel.is_set():
                        self.served.set()
                        self.done.wait(10)
                        serve()
            except ZeroDivisionError:
                pass

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert entered.wait(10)

    def reports(self, *positions: int) -> bool:
        """Wait until exactly these positions were reported."""
        with self.changed:
            return self.changed.wait_for(lambda: self.positions == [*positions], 10)

    def leave(self) -> None:
        """End this request's turn."""
        self.done.set()
        self.thread.join(10)


@pytest.fixture
def enqueue() -> Iterator[Callable[..., WaitingRequest]]:
    """Add a request to one queue."""
    fifo = FifoQueue()
    with ExitStack() as stack:

        def add(serve: Callable[[], None] = lambda: None) -> WaitingRequest:
            request = WaitingRequest(fifo, serve)
            stack.callback(request.leave)
            return request

        yield add


def test_the_first_request_does_not_wait() -> None:
    fifo = FifoQueue()
    for _ in range(2):
        with fifo.wait_turn(CancelToken()) as positions_ahead:
            assert list(positions_ahead) == []


def test_first_come_first_served_and_positions_are_reported(enqueue: Callable[..., WaitingRequest]) -> None:
    first, second, third = enqueue(), enqueue(), enqueue()
    assert first.served.wait(10)
    assert second.reports(1)
    assert third.reports(2)
    first.leave()
    assert second.served.wait(10)
    assert third.reports(2, 1)
    assert not third.served.is_set()
    second.leave()
    assert third.served.wait(10)
    assert (first.positions, second.positions, third.positions) == ([], [1], [2, 1])


def test_a_cancelled_request_leaves_and_those_behind_move_up(enqueue: Callable[..., WaitingRequest]) -> None:
    first, second, third = enqueue(), enqueue(), enqueue()
    assert second.reports(1)
    assert third.reports(2)
    second.cancel.set()
    second.thread.join(10)
    assert not second.thread.is_alive()
    assert not second.served.is_set()
    assert third.reports(2, 1)
    first.leave()
    assert third.served.wait(10)


def test_an_error_in_the_served_request_lets_the_next_in(enqueue: Callable[..., WaitingRequest]) -> None:
    first, second = enqueue(lambda: 1 // 0), enqueue()
    assert second.reports(1)
    first.leave()
    assert second.served.wait(10)


def test_a_request_cancelled_in_advance_does_not_wait() -> None:
    fifo, cancelled = FifoQueue(), CancelToken()
    cancelled.set()
    with fifo.wait_turn(CancelToken()), fifo.wait_turn(cancelled) as positions_ahead:
        assert list(positions_ahead) == []


def test_a_caller_that_stops_waiting_leaves_the_queue() -> None:
    fifo = FifoQueue()

    def answer() -> Iterator[int]:
        with fifo.wait_turn(CancelToken()) as positions_ahead:
            yield from positions_ahead

    with fifo.wait_turn(CancelToken()):
        positions_ahead = answer()
        assert next(positions_ahead) == 1
        positions_ahead.close()  # type: ignore[attr-defined]  # a generator
        with fifo.wait_turn(CancelToken()) as positions_behind:
            assert next(positions_behind) == 1
