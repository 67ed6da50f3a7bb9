"""The state of each open page: its own chats, kept until the page closes, and safe to use from several threads."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer, Conversation, Feedback, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn, TurnSnapshot
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, TextDelta, Timings
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.sessions import Chat, PendingDelete, Session, Sessions, StartedTurn

_TIMEOUT = 30


class WaitingModel:
    """Writes one word, then waits until it is stopped."""

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        stopped = threading.Event()
        cancel.on_set(stopped.set)
        yield TextDelta("Once")
        assert stopped.wait(_TIMEOUT)
        yield Completed("Once", None, Timings(None, 0.1, None), "cancelled")


def ask(conversation: Conversation, _editing: str | None = None) -> Conversation:
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


def answered_chat(question: str = "Hi") -> Chat:
    return Chat(conversation=Conversation().with_question(question).with_answer(Answer("m", "Hello")))


def run_together(*functions: Callable[[], object]) -> None:
    """Call each function in a thread of its own, all at the same time."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        barrier.wait(_TIMEOUT)
        function()

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_TIMEOUT)
        assert not thread.is_alive()


# Chat


def test_only_one_of_many_threads_starts_a_turn() -> None:
    for _ in range(50):
        chat, results = Chat(), list[StartedTurn | None]()

        run_together(*[lambda chat=chat, results=results: results.append(chat.try_start(ask))] * 4)

        assert len([started for started in results if started]) == 1
        assert len(chat.conversation.tree) == 1


def test_a_second_start_waits_for_the_first_to_finish() -> None:
    chat = Chat()
    started = reserve(chat)

    assert chat.try_start(ask) is None
    chat.finish(started.turn_id, Answer("m", "Hello"))

    assert chat.conversation.last_answer == Answer("m", "Hello")
    assert not chat.is_busy
    assert chat.try_start(ask) is not None


def test_a_turn_that_could_not_be_started_leaves_no_trace() -> None:
    chat = answered_chat()
    before = chat.conversation
    started = reserve(chat)

    chat.abort_start(started.turn_id)

    assert chat.conversation == before
    assert chat.try_start(ask) is not None


def test_a_change_that_fails_does_not_reserve_the_chat() -> None:
    chat = Chat()

    def fail(_conversation: Conversation, _editing: str | None) -> Conversation:
        raise UserError("no_such_turn")

    with pytest.raises(UserError):
        chat.try_start(fail)
    assert not chat.is_busy


def test_a_chat_loaded_before_a_question_was_sent_does_not_overwrite_it() -> None:
    chat = answered_chat()
    expected = chat.conversation
    stored = Conversation(expected.tree, expected.leaf)
    started = reserve(chat)

    assert not chat.refresh(expected, stored), "while it is being answered"
    chat.finish(started.turn_id, Answer("m", "later"))
    assert not chat.refresh(expected, stored), "after it was answered"

    assert [turn.answer and turn.answer.text for turn in chat.conversation.turns] == ["Hello", "later"]


def test_a_chat_that_did_not_change_takes_what_other_pages_added() -> None:
    chat = answered_chat()
    stored = chat.conversation.with_question("from elsewhere").with_answer(Answer("m", "yes"))

    assert chat.refresh(chat.conversation, stored)
    assert chat.conversation is stored


def test_a_stop_between_reserving_and_attaching_stops_the_turn() -> None:
    chat, stored = Chat(), list[Answer]()
    started = reserve(chat)
    chat.stop()

    turn = RunningTurn(
        started.conversation.build_request(),
        "m",
        WaitingModel,
        lambda answer: (stored.append(answer), chat.finish(started.turn_id, answer))[0],
    )
    chat.attach(turn)
    turn.start()

    assert turn.wait(_TIMEOUT)
    assert [answer.finish_reason for answer in stored] == ["cancelled"]


def test_a_stop_of_an_idle_chat_does_not_stop_the_next_turn() -> None:
    chat = Chat()
    chat.stop()

    turn = start(chat, WaitingModel())

    assert not turn.wait(0)
    turn.stop()
    assert turn.wait(_TIMEOUT)


def test_late_progress_of_an_ended_turn_is_ignored() -> None:
    chat = Chat()
    turn = start(chat, UserError("too_many_models", count=2))
    assert turn.wait(_TIMEOUT)

    chat.report_progress(turn, TurnSnapshot("decode", "late"))

    assert chat.progress is None


def test_a_turn_that_fails_at_once_frees_the_chat() -> None:
    chat = Chat()
    *_, last = start(chat, UserError("too_many_models", count=2)).snapshots(0.01)

    assert last.answer is not None
    assert last.answer.error == ("too_many_models", {"count": 2})
    assert not chat.is_busy
    assert chat.running is None
    assert chat.conversation.last_answer == last.answer


def test_the_branch_cannot_change_while_a_turn_is_in_progress() -> None:
    chat = Chat()
    reserve(chat)

    with pytest.raises(UserError) as caught:
        chat.apply(Conversation.without_last_turn)
    assert caught.value.code == "chat_busy"
    with pytest.raises(UserError):
        chat.start_edit(chat.conversation.turns[0].id, "")
    assert not chat.restart()


def test_a_change_that_cannot_be_saved_is_not_made() -> None:
    chat = answered_chat()
    before = chat.conversation

    def fail(_conversation: Conversation) -> None:
        raise UserError("no_such_chat")

    with pytest.raises(UserError):
        chat.apply(Conversation.without_last_turn, fail)
    assert chat.conversation is before


def test_feedback_and_an_answer_that_arrive_together_are_both_kept() -> None:
    for _ in range(50):
        chat = answered_chat()
        rated, started = chat.conversation.turns[0].id, reserve(chat)

        run_together(
            lambda chat=chat, rated=rated: chat.update_feedback(rated, lambda _: Feedback(True), lambda _: None),
            lambda chat=chat, started=started: chat.finish(started.turn_id, Answer("m", "done")),
        )

        assert chat.conversation.get_turn(rated).feedback == Feedback(True)
        assert chat.conversation.get_turn(started.turn_id).answer == Answer("m", "done")


def test_feedback_is_saved_in_the_order_in_which_it_is_shown() -> None:
    chat, saved = answered_chat(), list[Feedback | None]()
    turn_id = chat.conversation.turns[0].id

    def toggle(before: Feedback | None) -> Feedback | None:
        return None if before else Feedback(True)

    run_together(*[lambda: chat.update_feedback(turn_id, toggle, saved.append)] * 8)

    assert saved == [Feedback(True), None] * 4
    assert chat.conversation.get_turn(turn_id).feedback == saved[-1]


def test_unchanged_feedback_is_not_saved_again() -> None:
    chat, saved = answered_chat(), list[Feedback | None]()

    chat.update_feedback(chat.conversation.turns[0].id, lambda before: before, saved.append)

    assert saved == []


def test_an_edit_returns_the_draft_once_however_it_ends() -> None:
    chat = answered_chat("Why?")
    turn_id = chat.conversation.turns[0].id

    assert chat.start_edit(turn_id, "my draft") == "Why?"
    assert chat.start_edit(turn_id, "Why?") == "Why?", "the draft of the first edit stays"
    assert chat.end_edit() == "my draft"
    assert chat.end_edit() is None

    chat.start_edit(turn_id, "again")
    started = chat.try_start(lambda conversation, editing: conversation.with_variant(editing or "", "Why not?"))
    assert started is not None
    assert started.draft == "again"
    assert len(chat.conversation.variant_ids(turn_id)) == 2


# Session


def test_a_page_not_seen_before_gets_one_empty_chat() -> None:
    session = Sessions().get("a", "ro")

    assert session.language == "ro"
    assert session.model_id is None
    assert [chat.conversation for chat in session.chats] == [Conversation()]
    assert session.current is session.chats[0]


def test_a_page_keeps_its_session_and_shares_it_with_none() -> None:
    sessions = Sessions()
    session = sessions.get("a", "en")

    assert sessions.get("a", "ro") is session
    assert session.language == "en"
    assert sessions.get("b", "en") is not session
    assert sessions.get("b", "en").current is not session.current


def test_pages_that_open_at_once_get_one_session_each() -> None:
    sessions, opened = Sessions(), list[tuple[str, Session]]()

    run_together(*[lambda key=key: opened.append((key, sessions.get(key, "en"))) for key in "abababab"])

    assert {(key, id(session)) for key, session in opened} == {(key, id(sessions.get(key, "en"))) for key in "ab"}


def test_every_chat_has_an_id_of_its_own() -> None:
    assert len({Session("en").current.id for _ in range(5)}) == 5


def test_a_new_chat_comes_before_the_others_and_is_shown() -> None:
    session = Session("en")
    first = session.show(answered_chat())

    session.show_new()

    assert first in session.chats
    assert session.current is session.chats[0]
    assert session.current.conversation == Conversation()


def test_an_empty_chat_is_not_followed_by_another() -> None:
    session = Session("en")
    empty = session.current
    session.show_new()
    assert session.chats == (empty,)

    session.show(answered_chat())
    session.show_new()

    assert session.current is empty
    assert len(session.chats) == 2


def test_a_chat_opened_twice_at_once_is_kept_once() -> None:
    session, chats = Session("en"), [Chat("c" * 32), Chat("c" * 32)]

    run_together(*[lambda chat=chat: session.show(chat) for chat in chats])

    assert len([chat for chat in session.chats if chat.id == "c" * 32]) == 1
    assert session.current in chats


def test_adding_a_replay_does_not_undo_a_switch() -> None:
    for _ in range(50):
        session, replay, opened = Session("en"), answered_chat(), answered_chat()

        run_together(
            lambda session=session, replay=replay: session.add(replay),
            lambda session=session, opened=opened: session.show(opened),
        )

        assert session.current is opened
        assert {replay, opened} <= set(session.chats)


def test_many_chats_of_a_page_are_dropped_but_not_busy_ones() -> None:
    session = Session("en")
    busy = session.current
    turn = start(busy, WaitingModel())
    for _ in range(40):
        session.show(answered_chat())

    assert len(session.chats) < 40
    assert session.find_chat(busy.id) is busy
    turn.stop()
    assert turn.wait(_TIMEOUT)


def test_a_deleted_chat_is_stopped_and_dropped() -> None:
    session, stored = Session("en"), list[Answer]()
    chat = session.current
    turn = start(chat, WaitingModel(), stored)

    session.forget(chat.id)

    assert turn.wait(_TIMEOUT)
    assert [answer.finish_reason for answer in stored] == ["cancelled"]
    assert session.current is not chat
    assert session.find_chat(chat.id) is None


def test_a_chat_deleted_while_a_turn_is_being_started_is_stopped() -> None:
    session = Session("en")
    chat = session.current
    started = reserve(chat)

    session.forget(chat.id)
    turn = RunningTurn(
        started.conversation.build_request(), "m", WaitingModel, lambda answer: chat.finish(started.turn_id, answer)
    )
    chat.attach(turn)

    assert turn.start().wait(_TIMEOUT)
    assert not chat.is_busy


def test_one_replay_at_a_time() -> None:
    session, chats = Session("en"), list[Chat | None]()

    run_together(*[lambda: chats.append(session.try_start_replay())] * 4)

    assert len([chat for chat in chats if chat]) == 1
    session.stop_replay()
    assert session.finish_replay()
    assert session.try_start_replay() is not None
    assert not session.is_replay_stopped()


def test_a_model_found_late_does_not_replace_the_one_picked_since() -> None:
    session = Session("en")
    slow, fast = (
        ModelEntry(name, f"m-{name}", "", "prompt", "", "python", datetime.now(UTC), None, None, None, "")
        for name in ("slow", "fast")
    )
    session.select_model("m-slow")
    session.select_model("m-fast")
    assert session.set_entry("m-fast", fast)

    assert not session.set_entry("m-slow", slow)
    assert session.model_id == "m-fast"


def test_a_tab_is_restored_once() -> None:
    session, claimed = Session("en"), list[bool]()

    run_together(*[lambda: claimed.append(session.claim_restore())] * 4)

    assert sorted(claimed) == [False, False, False, True]


def test_a_deletion_that_expired_does_not_clear_the_next_one() -> None:
    session, old, new = Session("en"), PendingDelete("a", "old"), PendingDelete("b", "new")
    session.set_pending_delete(old)
    session.set_pending_delete(new)

    session.clear_pending_delete(old)

    assert session.chat_list.pending_delete is new


def test_a_visitor_is_recognised_by_a_secret_that_their_id_does_not_reveal() -> None:
    one, again, other = Session("en"), Session("en"), Session("en")
    secret = "a" * 48
    one.identify(secret)
    again.identify(secret)
    other.identify("b" * 48)

    assert one.user_id == again.user_id != other.user_id
    assert secret not in one.user_id
    assert len({Session("en").user_id for _ in range(5)}) == 5


@pytest.mark.parametrize("token", [None, "", "short", "x" * 500, "visitor-' OR 1=1 --------------", "\n" * 30])
def test_an_invalid_secret_identifies_nobody(token: str | None) -> None:
    session = Session("en")
    before = session.user_id

    session.identify(token)

    assert session.user_id == before


def test_a_login_identifies_the_user_whatever_the_browser_holds() -> None:
    sessions = Sessions()
    anna, bob, nobody = (sessions.get("page", "en", login) for login in ("anna", "bob", None))
    anna.identify("a" * 48)

    assert (anna.user_id, bob.user_id) == ("anna", "bob")
    assert len({id(anna), id(bob), id(nobody)}) == 3
    assert sessions.get("page", "en", "anna") is anna


# The end


def test_all_answers_are_stopped_and_stored_when_the_app_ends() -> None:
    sessions, stored = Sessions(), list[Answer]()
    for key in "ab":
        start(sessions.get(key, "en").current, WaitingModel(), stored)

    sessions.stop_all(_TIMEOUT)

    assert [answer.finish_reason for answer in stored] == ["cancelled", "cancelled"]
    assert sessions.get("late", "en").is_closed(), "nothing starts any more"


def test_a_page_that_closes_stops_its_answers_and_is_forgotten() -> None:
    sessions = Sessions()
    session = sessions.get("a", "en")
    first = session.current
    turns = [start(first, WaitingModel())]
    session.show_new()
    turns.append(start(session.current, WaitingModel()))
    other = sessions.get("b", "en").current
    other_turn = start(other, WaitingModel())

    sessions.close("a")

    for turn in turns:
        *_, last = turn.snapshots(0)
        assert last.answer is not None
        assert last.answer.finish_reason == "cancelled"
    assert first.conversation.last_answer is not None, "whoever still holds the chat gets the answer"
    assert sessions.get("a", "en") is not session
    assert other.running is other_turn
    other_turn.stop()
    assert other_turn.wait(_TIMEOUT)


def test_closing_an_unknown_page_does_nothing() -> None:
    sessions = Sessions()

    sessions.close("nobody")
    sessions.get("a", "en")
    sessions.close("a")
    sessions.close("a")
