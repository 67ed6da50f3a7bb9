"""Events on their way to the app: joined, in order, all there."""

import io
import json
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.types import AnswerEvent, Completed, ModelLoading, PrefillProgress, TextDelta, Timings, Usage
from phi3_ui.host.outbox import Outbox, merge_text_deltas
from phi3_ui.host.protocol import AnswerFailed, unpack_event
from tests.host.test_protocol import EVENTS

Item = tuple[int, AnswerEvent | AnswerFailed]

_items = st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=30)
_COMPLETED = Completed("Hello", Usage(3, 2), Timings(0.1, 0.2, None), "stop")


class Pipe(io.StringIO):
    """What was flushed to it can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self._flushed = ""
        self._changed = threading.Condition()

    def flush(self) -> None:
        with self._changed:
            self._flushed = self.getvalue()
            self._changed.notify_all()

    def await_lines(self, enough: Callable[[list[Any]], bool]) -> list[Any]:
        """The flushed lines, decoded, once they are `enough`."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.lines()), timeout=30), self.lines()
            return self.lines()

    def lines(self) -> list[Any]:
        assert self._flushed == "" or self._flushed.endswith("\n"), "only whole lines are flushed"
        return [json.loads(line) for line in self._flushed.splitlines()]


def _of(number: int, items: list[Item]) -> list[AnswerEvent | AnswerFailed]:
    return [event for to, event in items if to == number]


def _texts_joined(events: list[AnswerEvent | AnswerFailed]) -> list[object]:
    """The events of one answer with each run of texts as one string."""
    joined: list[object] = []
    for event in events:
        if isinstance(event, TextDelta) and joined and isinstance(joined[-1], str):
            joined[-1] += event.text
        else:
            joined.append(event.text if isinstance(event, TextDelta) else event)
    return joined


def _all_done(numbers: list[int]) -> Callable[[list[Any]], bool]:
    """Has each of these answers had its Completed?"""
    return lambda lines: all([number, "completed"] in [[to, event[0]] for to, event in lines] for number in numbers)


def test_neighbouring_texts_of_one_answer_become_one() -> None:
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

    assert _of(1, joined) == [ModelLoading(), TextDelta("ab"), PrefillProgress(1, 2), TextDelta("c")]
    assert _of(2, joined) == [TextDelta("xy")]
    assert merge_text_deltas([]) == []


@settings(deadline=None)
@given(_items)
def test_joining_keeps_each_answers_order_and_text(items: list[Item]) -> None:
    joined = merge_text_deltas(items)

    for number in range(3):
        events = _of(number, joined)
        assert _texts_joined(events) == _texts_joined(_of(number, items))
        neighbours = pairwise(events)
        assert not any(isinstance(one, TextDelta) and isinstance(two, TextDelta) for one, two in neighbours)


def test_what_is_put_arrives_and_decodes_to_the_same_events() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    outbox.write_line(["ready", "stream"])
    events = [ModelLoading(), PrefillProgress(0, 3), TextDelta("Hel\n"), TextDelta("lo \ud83d"), _COMPLETED]
    for event in events:
        outbox.put(7, event)

    ready, *lines = pipe.await_lines(_all_done([7]))

    assert ready == ["ready", "stream"]
    assert {number for number, _ in lines} == {7}
    assert _texts_joined([unpack_event(event) for _, event in lines]) == _texts_joined(events)


def test_an_error_arrives_with_its_words() -> None:
    pipe = Pipe()
    Outbox(pipe).put(1, AnswerFailed("refused", "too long"))

    [[number, event]] = pipe.await_lines(lambda lines: bool(lines))

    assert (number, unpack_event(event)) == (1, AnswerFailed("refused", "too long"))


def test_an_event_after_a_pause_arrives_too() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    for count in range(1, 4):
        outbox.put(1, PrefillProgress(count, 3))
        lines = pipe.await_lines(lambda lines, count=count: len(lines) == count)
        assert unpack_event(lines[-1][1]) == PrefillProgress(count, 3)


def test_many_answers_at_once_arrive_whole() -> None:
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
        events = [unpack_event(event) for to, event in lines if to == number]
        assert _texts_joined(events) == ["".join(f"{number}:{word}" for word in words), _COMPLETED]
    assert len(lines) < len(numbers) * len(words), "texts went together"


def test_what_was_put_is_on_its_way_once_it_is_flushed() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe)
    for text in ("one", " two", " three"):  # the second and third wait for the interval to pass
        outbox.put(1, TextDelta(text))
    outbox.flush()
    assert _texts_joined([unpack_event(event) for _, event in pipe.lines()]) == ["one two three"]
