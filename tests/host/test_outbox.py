"""The outbox sends events merged, in order, and completely."""

import io
import json
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.types import Completed, ModelLoading, PrefillProgress, TextDelta, Timings, Usage
from phi3_ui.host.outbox import Outbox, merge_text_deltas
from phi3_ui.host.protocol import AnswerFailed, HostEvent, unpack_event
from tests.host.test_protocol import EVENTS

Item = tuple[int, HostEvent]

_items = st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=30)
_COMPLETED = Completed("Hello", Usage(3, 2), Timings(0.1, 0.2, None), "stop")


class Pipe(io.StringIO):
    """Records flushed output, and can wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._flushed = ""
        self._changed = threading.Condition()

    def flush(self) -> None:
        with self._changed:
            self._flushed = self.getvalue()
            self._changed.notify_all()

    def await_lines(self, has_enough: Callable[[list[Any]], bool]) -> list[Any]:
        """Return the flushed lines, decoded, once `has_enough` is true for them."""
        with self._changed:
            assert self._changed.wait_for(lambda: has_enough(self.lines()), timeout=30), self.lines()
            return self.lines()

    def lines(self) -> list[Any]:
        assert self._flushed == "" or self._flushed.endswith("\n"), "only complete lines are flushed"
        return [json.loads(line) for line in self._flushed.splitlines()]


def _has_lines(count: int, lines: list[Any]) -> bool:
    return len(lines) == count


def _events_of(number: int, items: list[Item]) -> list[HostEvent]:
    return [event for recipient, event in items if recipient == number]


def _merge_texts(events: list[HostEvent]) -> list[object]:
    """Return the events of one answer with consecutive texts as one string."""
    joined: list[object] = []
    for event in events:
        if isinstance(event, TextDelta) and joined and isinstance(joined[-1], str):
            joined[-1] += event.text
        else:
            joined.append(event.text if isinstance(event, TextDelta) else event)
    return joined


def _all_done(numbers: list[int]) -> Callable[[list[Any]], bool]:
    """Return a predicate that is true once each of these answers has its Completed."""
    return lambda lines: all(
        [number, "completed"] in [[recipient, event[0]] for recipient, event in lines] for number in numbers
    )


def test_consecutive_deltas_of_one_answer_are_merged() -> None:
    items: list[Item] = [
        (1, ModelLoading()),
        (1, TextDelta("a")),
        (2, TextDelta("x")),
        (1, TextDelta("b")),
        (1, PrefillProgress(1, 2)),
        (1, TextDelta("c")),
        (2, TextDelta("y")),
    ]

    joined = merge_text_deltas(items)

    assert _events_of(1, joined) == [ModelLoading(), TextDelta("ab"), PrefillProgress(1, 2), TextDelta("c")]
    assert _events_of(2, joined) == [TextDelta("xy")]
    assert merge_text_deltas([]) == []


@settings(deadline=None)
@given(_items)
def test_merging_keeps_each_answers_order_and_text(items: list[Item]) -> None:
    joined = merge_text_deltas(items)

    for number in range(3):
        events = _events_of(number, joined)
        assert _merge_texts(events) == _merge_texts(_events_of(number, items))
        pairs = pairwise(events)
        assert not any(isinstance(first, TextDelta) and isinstance(second, TextDelta) for first, second in pairs)


def test_queued_events_arrive_and_decode_to_the_same_events() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    outbox.write_line(["ready", "stream"])
    events: list[HostEvent] = [
        ModelLoading(),
        PrefillProgress(0, 3),
        TextDelta("Hel\n"),
        TextDelta("lo \U0001f600"),
        _COMPLETED,
    ]
    for event in events:
        outbox.put(7, event)

    ready, *lines = pipe.await_lines(_all_done([7]))

    assert ready == ["ready", "stream"]
    assert {number for number, _ in lines} == {7}
    assert _merge_texts([unpack_event(event) for _, event in lines]) == _merge_texts(events)


def test_an_error_arrives_with_its_detail() -> None:
    pipe = Pipe()
    Outbox(pipe).put(1, AnswerFailed("refused", "too long"))

    [[number, event]] = pipe.await_lines(lambda lines: bool(lines))

    assert (number, unpack_event(event)) == (1, AnswerFailed("refused", "too long"))


def test_an_event_after_a_pause_arrives() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    for count in range(1, 4):
        outbox.put(1, PrefillProgress(count, 3))
        lines = pipe.await_lines(partial(_has_lines, count))
        assert unpack_event(lines[-1][1]) == PrefillProgress(count, 3)


def test_many_concurrent_answers_arrive_complete() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    numbers = list(range(6))
    words = [f"{word} " for word in range(200)]

    def answer(number: int) -> None:
        for word in words:
            outbox.put(number, TextDelta(f"{number}:{word}"))
        outbox.put(number, _COMPLETED)

    threads = [threading.Thread(target=answer, args=[number]) for number in numbers]
    for thread in threads:
        thread.start()
    lines = pipe.await_lines(_all_done(numbers))
    for thread in threads:
        thread.join()

    for number in numbers:
        events = [unpack_event(event) for recipient, event in lines if recipient == number]
        assert _merge_texts(events) == ["".join(f"{number}:{word}" for word in words), _COMPLETED]
    assert len(lines) < len(numbers) * len(words), "texts are merged"


def test_flush_waits_until_everything_is_written() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    for text in ("one", " two", " three"):  # the second and third wait for the interval to pass
        outbox.put(1, TextDelta(text))
    outbox.flush()
    assert _merge_texts([unpack_event(event) for _, event in pipe.lines()]) == ["one two three"]
