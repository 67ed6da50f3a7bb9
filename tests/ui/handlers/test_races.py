"""Concurrent events of one page, as Gradio's thread pool runs them."""

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.conversations import Action
from tests.ui.handlers.doubles import TIMEOUT, App


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the page's warnings."""
    shown: list[str] = []
    monkeypatch.setattr(gr, "Warning", shown.append)
    return shown


def start_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def show_stored_chat(app: App) -> Chat:
    """Show a chat of one turn, which the store has, too."""
    conversation = Conversation().with_question("one").with_answer(Answer("m", "1"))
    chat = app.session.show(Chat(conversation=conversation))
    app.store.history.stored[chat.id] = Conversation(conversation.tree, conversation.leaf)
    return chat


def texts(chat: Chat) -> list[tuple[str, str | None]]:
    return [(turn.question, turn.answer.text if turn.answer else None) for turn in chat.conversation.turns]


def test_opening_a_chat_while_a_question_in_it_is_answered_loses_nothing(app: App) -> None:
    chat = show_stored_chat(app)
    app.store.history.loading.close()
    thread = start_thread(lambda: app.conversations.perform(app.session, Action("open", chat.id)))
    assert app.store.history.loading.reached.wait(TIMEOUT)

    app.send("two")
    app.store.history.loading.open()
    join(thread)

    assert texts(chat) == [("one", "1"), ("two", "Hello")]
    assert not chat.is_busy
    assert app.session.current is chat


def test_opening_a_chat_while_it_is_being_answered_lets_the_answer_finish(app: App) -> None:
    chat = show_stored_chat(app)
    app.store.history.loading.close()
    app.model.gate.close()
    opening = start_thread(lambda: app.conversations.perform(app.session, Action("open", chat.id)))
    assert app.store.history.loading.reached.wait(TIMEOUT)
    sending = start_thread(lambda: app.send("two"))
    assert app.model.gate.reached.wait(TIMEOUT)

    app.store.history.loading.open()
    join(opening)
    assert chat.is_busy
    app.model.gate.open()
    join(sending)

    assert texts(chat) == [("one", "1"), ("two", "Hello")]
    assert not chat.is_busy


def test_pressing_enter_twice_asks_once(app: App, warnings: list[str]) -> None:
    app.catalogue.barrier = threading.Barrier(2)  # lets both threads pass every check before the chat is reserved
    app.model.gate.close()
    refused = threading.Event()
    updates: list[object] = []

    def send() -> None:
        updates.append(app.send())
        refused.set()

    threads = [start_thread(send), start_thread(send)]
    assert refused.wait(TIMEOUT), "the second one does not wait for the first one's answer"
    app.model.gate.open()
    join(*threads)

    assert app.store.questions == ["Hi"]
    assert texts(app.session.current) == [("Hi", "Hello")]
    assert len(warnings) == 1
    assert len(updates) == 2


def test_clicking_retry_twice_answers_once(app: App, warnings: list[str]) -> None:
    app.send()
    turn_id = app.session.current.conversation.turns[0].id
    app.catalogue.barrier = threading.Barrier(2)
    app.model.gate.close()
    refused = threading.Event()

    def retry() -> None:
        list(app.answers.ask_variant(app.session, turn_id, None, "m-1", {}))
        refused.set()

    threads = [start_thread(retry), start_thread(retry)]
    assert refused.wait(TIMEOUT)
    app.model.gate.open()
    join(*threads)

    assert len(app.session.current.conversation.variant_ids(turn_id)) == 2
    assert len(warnings) == 1


def test_clicking_undo_twice_hides_one_turn(app: App) -> None:
    app.send("one")
    app.send("two")
    action = Action("undo", app.session.current.conversation.turns[-1].id)
    barrier = threading.Barrier(2)

    def undo() -> None:
        barrier.wait(TIMEOUT)
        app.conversations.perform(app.session, action)

    join(start_thread(undo), start_thread(undo))

    assert texts(app.session.current) == [("one", "Hello")]


def test_a_chat_deleted_while_it_is_being_answered_is_stopped(app: App) -> None:
    chat = app.session.current
    app.model.gate.close()
    thread = start_thread(app.send)
    assert app.model.gate.reached.wait(TIMEOUT)

    app.conversations.perform(app.session, Action("delete", chat.id))
    join(thread)

    assert [answer.finish_reason for answer in app.store.answers] == ["cancelled"]
    assert app.session.current is not chat


def test_an_answer_that_ends_between_page_load_and_follow_event_is_drawn(app: App) -> None:
    app.model.gate.close()
    thread = start_thread(lambda: app.send("one"))
    assert app.model.gate.reached.wait(TIMEOUT)
    tools = app.page.composer.tools
    loaded = app.conversations.show_chat(app.session)
    assert loaded[tools]["busy"]

    app.model.gate.open()
    join(thread)

    (drawn,) = app.answers.follow(app.session)
    assert not drawn[tools]["busy"]
    assert "Hello" in str(drawn[app.page.chat.messages])
    assert list(app.answers.follow(app.session)) == [], "drawn only once"


def test_a_page_loaded_while_a_turn_is_being_started_draws_its_answer(app: App) -> None:
    is_starting, may_start = threading.Event(), threading.Event()

    def start() -> None:
        is_starting.set()
        assert may_start.wait(TIMEOUT)

    app.store.on_start = start
    sender = start_thread(lambda: app.send("one"))
    assert is_starting.wait(TIMEOUT)
    successor = app.pages.get("reloaded", "en")
    app.session.hand_over(successor)
    assert app.conversations.show_chat(successor)[app.page.composer.tools]["busy"]
    drawn = list[Any]()
    follower = start_thread(lambda: drawn.extend(app.answers.follow(successor)))
    may_start.set()
    join(sender, follower)

    assert not drawn[-1][app.page.composer.tools]["busy"]


def test_a_page_that_closes_while_a_turn_is_being_started_stops_it(app: App) -> None:
    app.model.gate.close()
    app.store.on_start = app.session.close

    app.send()

    assert [answer.finish_reason for answer in app.store.answers] == ["cancelled"]
    assert (
        app.starter.start(app.session, Chat(), _entry(app), lambda conversation: conversation.with_question("late"))
        is None
    )


def _entry(app: App) -> ModelEntry:
    return app.catalogue.find("m-1")


def test_a_turn_that_cannot_be_stored_frees_the_chat(app: App) -> None:
    def fail() -> None:
        raise OSError("disk full")

    app.store.on_start = fail
    with pytest.raises(OSError, match="disk full"):
        app.send()
    app.store.on_start = lambda: None
    app.send("again")

    assert texts(app.session.current) == [("again", "Hello")]


def test_a_question_in_a_chat_deleted_on_another_page_begins_a_new_one(app: App, warnings: list[str]) -> None:
    chat = show_stored_chat(app)
    deleted_id = chat.id
    app.store.history.deleted.add(deleted_id)

    app.send("new")

    assert texts(chat) == [("new", "Hello")]
    assert chat.id != deleted_id
    assert len(warnings) == 1


def test_a_rating_given_during_an_answer_is_kept(app: App) -> None:
    app.send("one")
    rated = app.session.current.conversation.turns[0].id
    app.model.gate.close()
    app.model.gate.reached.clear()
    sending = start_thread(lambda: app.send("two"))
    assert app.model.gate.reached.wait(TIMEOUT)

    app.conversations.perform(app.session, Action("good", rated))
    app.model.gate.open()
    join(sending)

    feedback = app.session.current.conversation.get_turn(rated).feedback
    assert feedback is not None
    assert app.store.feedback == [feedback]
    assert texts(app.session.current) == [("one", "Hello"), ("two", "Hello")]


def test_a_comment_goes_to_the_chat_that_was_rated(app: App) -> None:
    app.send("one")
    rated = app.session.current
    app.conversations.perform(app.session, Action("bad", rated.conversation.turns[0].id))
    app.session.show_new()  # another event shows another chat before the comment arrives

    app.conversations.save_comment(app.session, "too short")

    assert [feedback and feedback.comment for feedback in app.store.feedback] == ["", "too short"]


def test_a_branch_cannot_be_shown_while_the_chat_is_being_answered(app: App) -> None:
    app.send("one")
    chat = app.session.current
    app.model.gate.close()
    app.model.gate.reached.clear()
    sending = start_thread(lambda: app.send("two"))
    assert app.model.gate.reached.wait(TIMEOUT)

    with pytest.raises(UserError) as caught:
        app.conversations.perform(app.session, Action("show", chat.conversation.turns[0].id))
    assert caught.value.code == "chat_busy"
    app.model.gate.open()
    join(sending)


def test_an_answer_continues_when_its_event_is_closed_by_a_lost_connection(app: App) -> None:
    app.model.gate.close()
    sending = app.answers.send(app.session, "Hi", "m-1", {})
    while not app.model.gate.reached.is_set():
        next(sending)
    app.session.connection.lost.set()
    sending.close()
    assert app.session.current.is_busy

    app.session.connection.renew()
    following = start_thread(lambda: list(app.answers.follow(app.session)))
    app.model.gate.open()
    join(following)

    assert [answer.finish_reason for answer in app.store.answers] == ["stop"]
    assert texts(app.session.current) == [("Hi", "Hello")]


def test_an_answer_stops_when_a_connected_page_cancels_its_event(app: App) -> None:
    app.model.gate.close()
    sending = app.answers.send(app.session, "Hi", "m-1", {})
    while not app.model.gate.reached.is_set():
        next(sending)

    turn = app.session.current.running
    assert turn is not None
    sending.close()

    assert turn.wait(TIMEOUT)
    assert [answer.finish_reason for answer in app.store.answers] == ["cancelled"]


def test_a_chat_without_a_running_answer_is_not_drawn(app: App) -> None:
    show_stored_chat(app)

    assert list(app.answers.follow(app.session)) == []
