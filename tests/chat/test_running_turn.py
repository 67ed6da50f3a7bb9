"""Running turns from a reader's perspective, with models that the test controls."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn, TurnSnapshot
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    ModelLoading,
    PrefillProgress,
    TextDelta,
    Timings,
    Usage,
)
from phi3_ui.errors import UserError

_NEVER = 3600.0  # an interval longer than any test
_TIMINGS = Timings(0.1, 0.5, 9.0)
_LIMIT = 30.0  # how long a test waits for an event


class Model:
    """Yields `events`; waits for each threading.Event among them, or for cancellation, whichever comes first."""

    def __init__(self, *events: AnswerEvent | threading.Event | Exception) -> None:
        self._events = events
        self.requests: list[ChatRequest] = []
        self.cancelled = threading.Event()

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        self.requests.append(request)
        text = ""
        for event in self._events:
            if isinstance(event, threading.Event):
                cancel.on_set(event.set)
                cancel.on_set(self.cancelled.set)
                assert event.wait(_LIMIT)
            elif isinstance(event, Exception):
                raise event
            else:
                text += event.text if isinstance(event, TextDelta) else ""
                yield event
            if cancel.is_set():
                yield Completed(text, Usage(3, 1), _TIMINGS, "cancelled")
                return


class Turn:
    """A running turn, and the answers that it stored."""

    def __init__(self, model: ChatModel | Callable[[], ChatModel], question: str = "Hi") -> None:
        self.stored: list[Answer] = []
        self.ended = threading.Event()
        get_model = model if callable(model) else lambda: model
        params = GenerationParams(temperature=0.0)
        self.running = RunningTurn(
            Conversation().with_question(question, TurnRequest(0.0, "m-1", "Be brief.", params)).build_request(),
            "m",
            get_model,
            self._store,
        ).start()

    def _store(self, answer: Answer) -> None:
        self.stored.append(answer)
        self.ended.set()

    def answer(self) -> Answer:
        """The one answer, once it is stored."""
        assert self.ended.wait(_LIMIT)
        [answer] = self.stored
        return answer


def _done(*pieces: str) -> Completed:
    return Completed("".join(pieces), Usage(3, len(pieces) + 1), _TIMINGS, "stop")


def test_the_model_receives_the_conversation_and_its_parameters() -> None:
    model = Model(_done("Hello"))

    Turn(model, "Hi").answer()

    messages = (Message("system", "Be brief."), Message("user", "Hi"))
    assert model.requests == [ChatRequest(messages, GenerationParams(temperature=0.0))]


def test_an_answer_that_is_continued_begins_with_what_there_was() -> None:
    model = Model(ModelLoading(), TextDelta(" lo"), _done(" lo"))
    texts, stored = list[str](), list[Answer]()
    request = ChatRequest((Message("user", "Hi"),), prefix="Hel")

    turn = RunningTurn(request, "m", lambda: model, stored.append, texts.append).start()

    assert [snapshot.text for snapshot in turn.snapshots(0)][-1] == "Hel lo"
    assert "".join(texts) == stored[0].text == "Hel lo"


def test_the_last_snapshot_is_done_and_has_the_stored_answer() -> None:
    turn = Turn(Model(TextDelta("Hel"), TextDelta("lo"), _done("Hel", "lo")))

    *before, last = turn.running.snapshots(0)

    answer = Answer("m", "Hello", Usage(3, 3), _TIMINGS, "stop")
    assert last == TurnSnapshot("done", "Hello", answer=answer)
    assert turn.stored == [answer]
    assert all(state.phase != "done" and state.answer is None for state in before)


def test_the_phases_appear_in_order() -> None:
    gates = [threading.Event() for _ in range(4)]
    events: list[AnswerEvent | threading.Event] = [
        ModelLoading(),
        gates[0],
        PrefillProgress(0, 70),
        gates[1],
        PrefillProgress(64, 70),
        gates[2],
        TextDelta("a"),
    ]
    turn = Turn(Model(*events, gates[3], _done("a")))
    expected = [
        TurnSnapshot("loading"),
        TurnSnapshot("prefill", progress=PrefillProgress(0, 70)),
        TurnSnapshot("prefill", progress=PrefillProgress(64, 70)),
        TurnSnapshot("decode", "a"),
    ]

    seen = []
    for state in turn.running.snapshots(0):
        seen.append(state)
        if state in expected:
            gates[expected.index(state)].set()

    # The first snapshot may be taken before the model's first event.
    assert [state for state in seen if state != TurnSnapshot("prefill")] == [*expected, seen[-1]]
    assert seen[-1].phase == "done"


def test_the_text_only_grows() -> None:
    pieces = [f"{number} " for number in range(300)]
    turn = Turn(Model(*map(TextDelta, pieces), _done(*pieces)))

    texts = [state.text for state in turn.running.snapshots(0)]

    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == "".join(pieces)


def test_the_last_snapshot_does_not_wait_for_the_interval() -> None:
    gate = threading.Event()
    turn = Turn(Model(TextDelta("a"), gate, _done("a")))
    states = turn.running.snapshots(_NEVER)
    assert next(states).phase != "done"

    gate.set()

    assert next(states).phase == "done"
    assert next(states, None) is None


def test_a_late_reader_gets_the_last_snapshot_immediately() -> None:
    turn = Turn(Model(TextDelta("a"), _done("a")))
    turn.answer()

    # The answer is stored just before the last snapshot.
    assert [state.phase for state in turn.running.snapshots(_NEVER)][-1] == "done"


def test_a_slow_reader_does_not_slow_the_model() -> None:
    gate = threading.Event()
    pieces = ["x"] * 5000
    turn = Turn(Model(ModelLoading(), gate, *map(TextDelta, pieces), _done(*pieces)))
    states = turn.running.snapshots(_NEVER)
    next(states)

    gate.set()

    assert turn.answer().text == "x" * 5000
    assert next(states).phase == "done", "what came between was not queued"


def test_an_answer_of_many_pieces_takes_linear_time() -> None:
    start = time.process_time()
    Turn(Model(*[TextDelta("x" * 100)] * 30_000, Completed("x", None, _TIMINGS, "stop"))).answer()
    assert time.process_time() - start < 4  # joining all pieces for each takes 10 s


def test_a_turn_without_a_reader_is_stored() -> None:
    assert Turn(Model(TextDelta("a"), _done("a"))).answer().text == "a"


def test_closing_the_reader_stops_the_turn_and_keeps_the_partial_text() -> None:
    model = Model(TextDelta("Once up"), threading.Event(), TextDelta("on"), _done("Once up", "on"))
    turn = Turn(model)
    states = turn.running.snapshots(0)
    while next(states).text != "Once up":
        pass

    states.close()

    assert turn.answer() == Answer("m", "Once up", Usage(3, 1), _TIMINGS, "cancelled")
    assert model.cancelled.is_set()


def test_closing_the_reader_after_the_end_stops_nothing() -> None:
    gate = threading.Event()
    model = Model(gate, _done("a"))
    turn = Turn(model)
    gate.set()

    list(turn.running.snapshots(0))

    assert not model.cancelled.is_set()


def test_a_turn_can_be_stopped_from_another_thread() -> None:
    model = Model(TextDelta("a"), threading.Event(), TextDelta("b"), _done("a", "b"))
    turn = Turn(model)
    states = turn.running.snapshots(_NEVER)
    next(states)

    stopping = threading.Thread(target=turn.running.stop)
    stopping.start()
    stopping.join()

    *_, last = states
    assert last.phase == "done"
    assert last.answer is not None
    assert (last.text, last.answer.finish_reason) == ("a", "cancelled")
    turn.running.stop()
    assert len(turn.stored) == 1


def test_a_user_error_ends_the_turn_and_keeps_its_text() -> None:
    error = UserError("model_crashed", model="m", detail="ended by SIGKILL")
    turn = Turn(Model(TextDelta("a"), TextDelta("b"), error))

    *_, last = turn.running.snapshots(0)

    assert turn.answer() == last.answer
    assert last == TurnSnapshot("done", "ab", answer=Answer("m", "ab", error=("model_crashed", error.values)))


def test_a_model_that_cannot_be_loaded_ends_the_turn() -> None:
    def refuse() -> ChatModel:
        raise UserError("too_many_models", count=2)

    turn = Turn(refuse)

    assert [*turn.running.snapshots(0)][-1].phase == "done"
    assert turn.answer() == Answer("m", "", error=("too_many_models", {"count": 2}))


def test_an_unexpected_error_is_logged_with_its_traceback_and_the_text_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    turn = Turn(Model(TextDelta("a"), ZeroDivisionError("by zero")))

    assert turn.answer() == Answer("m", "a", error=("unexpected", {"detail": "ZeroDivisionError"}))
    [record] = [record for record in caplog.records if record.name == "phi3_ui.chat.running_turn"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_an_answer_without_completed_event_is_an_error_and_its_text_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    class Endless:
        def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
            yield TextDelta("a")

    stored: list[Answer] = []
    turn = RunningTurn(ChatRequest((Message("user", "Hi"),)), "m", Endless, stored.append).start()
    *_, last = turn.snapshots(0.01)
    assert last.answer is not None
    assert last.answer.text == "a"
    assert last.answer.error is not None
    assert last.answer.error[0] == "unexpected"
    assert stored == [last.answer]
    assert "without Completed" in caplog.text


def test_a_reader_that_may_come_back_stops_nothing() -> None:
    gate = threading.Event()
    turn = Turn(Model(TextDelta("a"), gate, TextDelta("b"), _done("a", "b")))
    states = turn.running.snapshots(0, keeps_running=lambda: True)
    next(states)

    states.close()
    gate.set()

    assert turn.answer().text == "ab"


def test_a_turn_for_which_there_is_no_thread_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    answers = list[Answer]()
    turn = RunningTurn(ChatRequest((Message("user", "Hi"),)), "a model", Model, answers.append)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        turn.start()

    assert turn.wait(_LIMIT)
    assert [answer.error for answer in answers] == [("unexpected", {"detail": "RuntimeError"})]
