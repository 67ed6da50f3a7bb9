"""What each open page holds: its own chats, kept until it closes."""

import threading
from collections.abc import Iterator

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.service import RunningTurn, TurnState
from phi3_ui.chat.types import Cancel, ChatRequest, Completed, Event, GenerationParams, TextDelta, Timings
from phi3_ui.errors import UserError
from phi3_ui.ui.sessions import Chat, Session, Sessions


class Waiting:
    """A model that writes one word, then nothing until it is stopped."""

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        stopped = threading.Event()
        cancel.on_set(stopped.set)
        yield TextDelta("Once")
        assert stopped.wait(30)
        yield Completed("Once", None, Timings(None, 0.1, None), "cancelled")


def _asked(chat: Chat, model: ChatModel) -> RunningTurn:
    chat.conversation = chat.conversation.ask("Hi")
    params = GenerationParams()
    chat.running = RunningTurn(chat.conversation, lambda: model, "m", "", params, chat.keep).start()
    return chat.running


def test_a_page_not_seen_before_gets_one_empty_chat() -> None:
    session = Sessions().of("a", "ro")

    assert session.language == "ro"
    assert session.model_id is None
    assert [chat.conversation for chat in session.chats] == [Conversation()]
    assert session.current is session.chats[0]


def test_a_page_keeps_its_session_and_shares_it_with_none() -> None:
    sessions = Sessions()
    session = sessions.of("a", "en")

    assert sessions.of("a", "ro") is session
    assert session.language == "en"
    assert sessions.of("b", "en") is not session
    assert sessions.of("b", "en").current is not session.current


def test_pages_that_open_at_once_get_one_session_each() -> None:
    sessions, got, gate = Sessions(), [], threading.Barrier(8)

    def open_page(key: str) -> None:
        gate.wait()
        got.append((key, sessions.of(key, "en")))

    threads = [threading.Thread(target=open_page, args=["ab"[number % 2]]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {key: {id(session) for other, session in got if other == key} for key in "ab"} == {
        key: {id(sessions.of(key, "en"))} for key in "ab"
    }


def test_every_chat_has_a_number_of_its_own() -> None:
    numbers = [Session("en").current.number for _ in range(5)]

    assert len(set(numbers)) == 5


def test_a_new_chat_comes_before_the_others_and_is_shown() -> None:
    session = Session("en")
    first = session.current
    first.conversation = first.conversation.ask("Hi")

    session.new_chat()

    assert session.chats[1] is first
    assert session.current is session.chats[0]
    assert session.current.conversation == Conversation()


def test_an_empty_chat_is_not_followed_by_another() -> None:
    session = Session("en")
    first = session.current
    session.new_chat()
    assert session.chats == [first]

    first.conversation = first.conversation.ask("Hi")
    session.new_chat()
    empty = session.current
    session.open(first.number)
    session.new_chat()

    assert session.current is empty
    assert len(session.chats) == 2


def test_an_opened_chat_is_shown_and_an_unknown_one_changes_nothing() -> None:
    session = Session("en")
    first = session.current
    first.conversation = first.conversation.ask("Hi")
    session.new_chat()

    session.open(first.number)
    assert session.current is first
    session.open(-1)
    assert session.current is first


def test_another_pages_chat_cannot_be_opened() -> None:
    mine, theirs = Session("en"), Session("en")
    shown = mine.current

    mine.open(theirs.current.number)

    assert mine.current is shown


def test_a_kept_answer_ends_the_turn() -> None:
    chat = Chat(conversation=Conversation().ask("Hi"), state=TurnState("writing", "Hel"))

    chat.keep(Answer("m", "Hello"))

    assert [(turn.question, turn.answer) for turn in chat.conversation.turns] == [("Hi", Answer("m", "Hello"))]
    assert chat.running is None
    assert chat.state is None


def test_a_page_that_closes_stops_all_its_answers_and_is_forgotten() -> None:
    sessions = Sessions()
    session = sessions.of("a", "en")
    first = session.current
    turns = [_asked(first, Waiting())]
    session.new_chat()
    turns.append(_asked(session.current, Waiting()))
    other = sessions.of("b", "en").current
    others_turn = _asked(other, Waiting())

    sessions.close("a")

    for turn in turns:
        *_, last = turn.states(0)
        assert last.answer is not None
        assert last.answer.finish_reason == "cancelled"
    assert first.conversation.last_answer is not None, "what came is kept by whoever still holds the chat"
    assert sessions.of("a", "en") is not session
    assert other.running is others_turn
    others_turn.stop()
    *_, last = others_turn.states(0)


def test_closing_a_page_never_seen_does_nothing() -> None:
    sessions = Sessions()

    sessions.close("nobody")
    sessions.of("a", "en")
    sessions.close("a")
    sessions.close("a")


def test_a_turn_that_fails_at_once_leaves_the_chat_free_for_the_next() -> None:
    def refuse() -> ChatModel:
        raise UserError("too_many_models", count=2)

    chat = Chat()
    chat.conversation = chat.conversation.ask("Hi")
    turn = chat.running = RunningTurn(chat.conversation, refuse, "m", "", GenerationParams(), chat.keep)
    turn.start()
    states = list(turn.states(0.01))
    assert states[-1].answer is not None
    assert states[-1].answer.error == ("too_many_models", {"count": 2})
    assert chat.running is None
    assert chat.conversation.last_answer == states[-1].answer
