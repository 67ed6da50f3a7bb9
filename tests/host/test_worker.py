"""The worker without its process: when a model prepares for the next answer."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from typing_extensions import override

from models.chat_template import RejectionError, TemplateError
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    Message,
    StreamingMode,
    TextDelta,
    Timings,
)
from phi3_ui.host.failures import error_code
from phi3_ui.host.outbox import Outbox
from phi3_ui.host.protocol import AnswerFailed, unpack_event
from phi3_ui.host.worker import Worker
from phi3_ui.prompts.tokenization import SystemPromptError
from tests.host.test_outbox import Pipe

_REQUEST = ChatRequest((Message("user", "Hello."),))


class PreparingModel:
    """Answers when the test allows it; at each `prepare`, records how many answers were already sent."""

    delivery: StreamingMode = "stream"

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.may_end = {"Hello.": threading.Event(), "And you?": threading.Event()}
        self.sent: list[int] = []
        self.prepared = threading.Semaphore(0)

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        yield TextDelta("Well")
        self.may_end[request.messages[0].content].wait(30)
        yield TextDelta(", hello.")
        yield Completed("Well, hello.", None, Timings(None, 0.1, None), "stop")

    def prepare(self) -> None:
        self.sent.append(sum(isinstance(unpack_event(event), Completed) for _, event in self._pipe.lines()))
        self.prepared.release()


def test_a_model_prepares_once_all_answers_are_sent() -> None:
    pipe = Pipe()
    model, worker = PreparingModel(pipe), Worker(Outbox(pipe), "a model")
    worker._model.set_result(model)
    threads = [
        threading.Thread(target=worker._answer, args=[number, request, CancelToken()])
        for number, request in enumerate((_REQUEST, ChatRequest((Message("user", "And you?"),))))
    ]
    for number, thread in enumerate(threads):
        worker._running[number] = CancelToken()
        thread.start()
    pipe.await_lines(lambda lines: len(lines) == len(threads))

    model.may_end["Hello."].set()
    threads[0].join(30)
    assert model.sent == [], "another answer is in progress"
    model.may_end["And you?"].set()
    assert model.prepared.acquire(timeout=30)
    assert model.sent == [2], "both ends were sent before"
    threads[1].join(30)


class CountingModel:
    """Counts words; raises for a prompt that a template rejects."""

    delivery: StreamingMode = "stream"

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        yield Completed("", None, Timings(None, 0.1, None), "stop")

    def count_tokens(self, request: ChatRequest) -> int:
        (message,) = request.messages
        if not message.content:
            raise TemplateError("nothing to render")
        return len(message.content.split())


def test_prompts_are_counted_only_by_an_idle_model_that_can_count() -> None:
    pipe = Pipe()
    worker = Worker(Outbox(pipe), "a model")
    worker._model.set_result(CountingModel())
    prompts = [ChatRequest((Message("user", text),)) for text in ("one two", "one")]
    worker._count(0, prompts)
    worker._count(1, [ChatRequest((Message("user", ""),))])
    worker._running[7] = CancelToken()
    worker._count(2, prompts)
    del worker._running[7]
    worker._model = Future()
    worker._model.set_result(PreparingModel(pipe))
    worker._count(3, prompts)

    lines = pipe.await_lines(lambda lines: len(lines) == 4)
    assert lines == [[0, ["counted", [2, 1]]], [1, ["counted", None]], [2, ["counted", None]], [3, ["counted", None]]]


class LingeringModel(CountingModel):
    """Keeps working after the last event of an answer."""

    def __init__(self) -> None:
        self.has_completed, self.may_end = threading.Event(), threading.Event()

    @override
    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        yield from super().answer(request, cancel)
        self.has_completed.set()
        self.may_end.wait(30)


def test_the_end_of_an_answer_is_sent_once_prompts_can_be_counted_again() -> None:
    pipe = Pipe()
    model, worker = LingeringModel(), Worker(Outbox(pipe), "a model")
    worker._model.set_result(model)
    worker._running[0] = CancelToken()
    thread = threading.Thread(target=worker._answer, args=[0, _REQUEST, worker._running[0]])
    thread.start()
    assert model.has_completed.wait(30)
    worker._count(1, [_REQUEST])
    assert pipe.await_lines(lambda lines: len(lines) == 1) == [[1, ["counted", None]]]
    model.may_end.set()
    _, end = pipe.await_lines(lambda lines: len(lines) == 2)
    assert isinstance(unpack_event(end[1]), Completed)
    worker._count(2, [_REQUEST])
    assert pipe.await_lines(lambda lines: len(lines) == 3)[-1] == [2, ["counted", [1]]]
    thread.join(30)


class UnfinishedModel(CountingModel):
    """Ends its event stream without Completed."""

    @override
    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        yield TextDelta("Well")


def test_events_without_completed_are_a_failed_answer(caplog: pytest.LogCaptureFixture) -> None:
    pipe = Pipe()
    worker = Worker(Outbox(pipe), "a model")
    worker._model.set_result(UnfinishedModel())
    worker._running[0] = CancelToken()
    worker._answer(0, _REQUEST, worker._running[0])
    lines = pipe.await_lines(lambda lines: len(lines) == 2)
    assert unpack_event(lines[1][1]) == AnswerFailed("answer_failed", "the adapter's events ended without Completed")
    assert "failed to answer" in caplog.text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemPromptError("System role not supported"), "system_prompt_rejected"),
        (RejectionError("Roles must alternate"), "bad_template"),
        (TemplateError("line 1: unknown tag"), "bad_template"),
        (OSError("no weights"), "answer_failed"),
    ],
)
def test_each_kind_of_error_has_its_own_code(error: Exception, code: str) -> None:
    assert error_code(error) == code
