"""What each open page holds: its own chats, kept until it closes."""

import threading
from collections.abc import Iterator

import pytest

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn, TurnSnapshot
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, TextDelta, Timings
from phi3_ui.errors import UserError
from phi3_ui.ui.sessions import Chat, Session, Sessions


class Waiting:
    """A model that writes one word, then nothing until it is stopped."""

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        stopped = threading.Event()
        cancel.on_set(stopped.set)
        yield TextDelta("Once")
        assert stopped.wait(30)
        yield Completed("Once", None, Timings(None, 0.1, None), "cancelled")


class Kept:
    """Where a turn is kept, noted."""

    def __init__(self) -> None:
        self.ended: list[Answer] = []

    def end(self, answer: Answer) -> None:
        self.ended.append(answer)


def _asked(chat: Chat, model: ChatModel | Exception, kept: Kept | None = None) -> RunningTurn:
    chat.conversation = chat.conversation.with_question("Hi", TurnRequest(0.0, "m-1"))
    turn, kept = chat.conversation.turns[-1], kept or Kept()

    def get_model() -> ChatModel:
        if isinstance(model, Exception):
            raise model
        return model

    def keep(answer: Answer) -> None:
        chat.keep(turn.id, kept, answer)

    chat.running = RunningTurn(chat.conversation.build_request(), "m", get_model, keep)
    return chat.running.start()


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


def test_every_chat_has_an_id_of_its_own() -> None:
    assert len({Session("en").current.id for _ in range(5)}) == 5


def test_a_new_chat_comes_before_the_others_and_is_shown() -> None:
    session = Session("en")
    first = session.current
    first.conversation = first.conversation.with_question("Hi")

    session.new_chat()

    assert session.chats[1] is first
    assert session.current is session.chats[0]
    assert session.current.conversation == Conversation()


def test_an_empty_chat_is_not_followed_by_another() -> None:
    session = Session("en")
    first = session.current
    session.new_chat()
    assert session.chats == [first]

    first.conversation = first.conversation.with_question("Hi")
    session.new_chat()
    empty = session.current
    session.show(first)
    session.new_chat()

    assert session.current is empty
    assert len(session.chats) == 2


def test_a_kept_answer_ends_the_turn() -> None:
    chat, kept = Chat(conversation=Conversation().with_question("Hi"), state=TurnSnapshot("decode", "Hel")), Kept()

    chat.keep(chat.conversation.leaf, kept, Answer("m", "Hello"))

    assert [(turn.question, turn.answer) for turn in chat.conversation.turns] == [("Hi", Answer("m", "Hello"))]
    assert chat.running is None
    assert chat.state is None
    assert kept.ended == [Answer("m", "Hello")]


def test_what_cannot_be_kept_still_ends_the_turn() -> None:
    class Broken(Kept):
        def end(self, answer: Answer) -> None:
            raise ValueError("it cannot be written")

    chat = Chat(conversation=Conversation().with_question("Hi"), state=TurnSnapshot("decode", "Hel"))
    with pytest.raises(ValueError, match="cannot be written"):
        chat.keep(chat.conversation.leaf, Broken(), Answer("m", "Hello"))
    assert chat.conversation.last_answer == Answer("m", "Hello")
    assert chat.running is None


def test_a_deleted_chat_stops() -> None:
    session, kept = Session("en"), Kept()
    chat = session.current
    turn = _asked(chat, Waiting(), kept)

    session.forget(chat.id)

    assert turn.wait(30)
    assert [answer.finish_reason for answer in kept.ended] == ["cancelled"]
    assert session.current is not chat
    assert session.held(chat.id) is None


def test_many_chats_of_a_page_are_let_go_but_not_those_that_run() -> None:
    session = Session("en")
    running = session.current
    turn = _asked(running, Waiting())
    for _ in range(40):
        chat = Chat()
        chat.conversation = chat.conversation.with_question("Hi")
        session.show(chat)

    assert len(session.chats) < 40
    assert session.held(running.id) is running
    turn.stop()
    assert turn.wait(30)


def test_a_visitor_is_known_by_the_browsers_secret_and_nobody_can_tell_it() -> None:
    one, again, other = Session("en"), Session("en"), Session("en")
    secret = "a" * 48
    one.arrive(secret)
    again.arrive(secret)
    other.arrive("b" * 48)

    assert one.person == again.person != other.person
    assert secret not in one.person
    assert len({Session("en").person for _ in range(5)}) == 5


@pytest.mark.parametrize("token", [None, "", "short", "x" * 500, "visitor-' OR 1=1 --------------", "\n" * 30])
def test_what_is_no_secret_names_nobody(token: str | None) -> None:
    session = Session("en")
    before = session.person

    session.arrive(token)

    assert session.person == before


def test_a_login_is_who_it_says_whatever_the_browser_holds() -> None:
    sessions = Sessions()
    anna, bob, nobody = (sessions.of("page", "en", login) for login in ("anna", "bob", None))
    anna.arrive("a" * 48)

    assert (anna.person, bob.person) == ("anna", "bob")
    assert len({id(anna), id(bob), id(nobody)}) == 3
    assert sessions.of("page", "en", "anna") is anna


def test_all_answers_are_stopped_and_kept_when_the_app_ends() -> None:
    sessions, kept = Sessions(), [Kept(), Kept()]
    for key, one in zip("ab", kept, strict=True):
        _asked(sessions.of(key, "en").current, Waiting(), one)

    sessions.stop_all(30)

    assert [answer.finish_reason for one in kept for answer in one.ended] == ["cancelled", "cancelled"]


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
        *_, last = turn.snapshots(0)
        assert last.answer is not None
        assert last.answer.finish_reason == "cancelled"
    assert first.conversation.last_answer is not None, "what came is kept by whoever still holds the chat"
    assert sessions.of("a", "en") is not session
    assert other.running is others_turn
    others_turn.stop()
    *_, last = others_turn.snapshots(0)


def test_closing_a_page_never_seen_does_nothing() -> None:
    sessions = Sessions()

    sessions.close("nobody")
    sessions.of("a", "en")
    sessions.close("a")
    sessions.close("a")


def test_a_turn_that_fails_at_once_leaves_the_chat_free_for_the_next() -> None:
    chat = Chat()
    turn = _asked(chat, UserError("too_many_models", count=2))
    states = list(turn.snapshots(0.01))
    assert states[-1].answer is not None
    assert states[-1].answer.error == ("too_many_models", {"count": 2})
    assert chat.running is None
    assert chat.conversation.last_answer == states[-1].answer
