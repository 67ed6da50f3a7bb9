"""Turns and threads for tests of page state."""

import threading
from collections.abc import Callable, Iterator

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, TextDelta, Timings
from phi3_ui.ui.chat_state import Chat, StartedTurn

TIMEOUT = 30


class WaitingModel:
    """Generates one word, then waits until it is cancelled."""

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        cancelled = threading.Event()
        cancel.on_set(cancelled.set)
        yield TextDelta("Once")
        assert cancelled.wait(TIMEOUT)
        yield Completed("Once", None, Timings(None, 0.1, None), "cancelled")


def ask(conversation: Conversation) -> Conversation:
    return conversation.with_question("Hi", TurnRequest(0.0, "m-1"))


def reserve(chat: Chat) -> StartedTurn:
    started = chat.try_start(ask)
    assert started is not None
    return started


def start(chat: Chat, model: ChatModel | Exception, stored: list[Answer] | None = None) -> RunningTurn:
    started = reserve(chat)

    def get_model() -> ChatModel:
        if isinstance(model, Exception):
            raise model
        return model

    def finish(answer: Answer) -> None:
        if stored is not None:
            stored.append(answer)
        chat.finish(started.turn_id, answer)

    turn = RunningTurn(started.conversation.build_request(), "m", get_model, finish)
    chat.attach(turn)
    return turn.start()


def create_answered_chat(question: str = "Hi") -> Chat:
    return Chat(conversation=Conversation().with_question(question).with_answer(Answer("m", "Hello")))


def run_together(*functions: Callable[[], object]) -> None:
    """Call the functions simultaneously, each in its own thread."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        barrier.wait(TIMEOUT)
        function()

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
