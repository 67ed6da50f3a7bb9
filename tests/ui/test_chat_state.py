"""One chat of a page, from one thread and from several."""

from functools import partial

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback
from phi3_ui.chat.running_turn import RunningTurn, TurnSnapshot
from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat, StartedTurn
from tests.support.turns import TIMEOUT, WaitingModel, ask, create_answered_chat, reserve, run_together, start


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
    chat = create_answered_chat()
    conversation = chat.conversation
    started = reserve(chat)

    chat.abort_start(started.turn_id)

    assert chat.conversation == conversation
    assert chat.try_start(ask) is not None


def test_a_change_that_fails_does_not_reserve_the_chat() -> None:
    chat = Chat()

    def fail(_conversation: Conversation) -> Conversation:
        raise UserError("no_such_turn")

    with pytest.raises(UserError):
        chat.try_start(fail)
    assert not chat.is_busy


def test_a_chat_loaded_before_a_question_was_sent_does_not_overwrite_it() -> None:
    chat = create_answered_chat()
    expected = chat.conversation
    stored = Conversation(expected.tree, expected.leaf)
    started = reserve(chat)

    assert not chat.refresh(expected, stored), "while an answer is in progress"
    chat.finish(started.turn_id, Answer("m", "later"))
    assert not chat.refresh(expected, stored), "after it was answered"

    assert [turn.answer and turn.answer.text for turn in chat.conversation.turns] == ["Hello", "later"]


def test_an_unchanged_chat_gets_what_other_pages_added() -> None:
    chat = create_answered_chat()
    stored = chat.conversation.with_question("from elsewhere").with_answer(Answer("m", "yes"))

    assert chat.refresh(chat.conversation, stored)
    assert chat.conversation is stored


def test_a_stop_between_reserving_and_attaching_stops_the_turn() -> None:
    chat, stored = Chat(), list[Answer]()
    started = reserve(chat)
    chat.stop()

    def store(answer: Answer) -> None:
        stored.append(answer)
        chat.finish(started.turn_id, answer)

    turn = RunningTurn(started.conversation.build_request(), "m", WaitingModel, store)
    chat.attach(turn)
    turn.start()

    assert turn.wait(TIMEOUT)
    assert [answer.finish_reason for answer in stored] == ["cancelled"]


def test_a_stop_of_an_idle_chat_does_not_stop_the_next_turn() -> None:
    chat = Chat()
    chat.stop()

    turn = start(chat, WaitingModel())

    assert not turn.wait(0)
    turn.stop()
    assert turn.wait(TIMEOUT)


def test_late_progress_of_an_ended_turn_is_ignored() -> None:
    chat = Chat()
    turn = start(chat, UserError("too_many_models", count=2))
    assert turn.wait(TIMEOUT)

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
    assert not chat.restart()


def test_a_change_that_cannot_be_saved_is_not_made() -> None:
    chat = create_answered_chat()
    conversation = chat.conversation

    def fail(_conversation: Conversation) -> None:
        raise UserError("no_such_chat")

    with pytest.raises(UserError):
        chat.apply(Conversation.without_last_turn, fail)
    assert chat.conversation is conversation


def test_feedback_and_an_answer_that_arrive_together_are_both_kept() -> None:
    for _ in range(50):
        chat = create_answered_chat()
        rated, started = chat.conversation.turns[0].id, reserve(chat)

        run_together(
            partial(chat.update_feedback, rated, lambda _: Feedback(True), lambda _: None),
            partial(chat.finish, started.turn_id, Answer("m", "done")),
        )

        assert chat.conversation.get_turn(rated).feedback == Feedback(True)
        assert chat.conversation.get_turn(started.turn_id).answer == Answer("m", "done")


def test_feedback_is_saved_in_the_order_in_which_it_is_shown() -> None:
    chat, saved = create_answered_chat(), list[Feedback | None]()
    turn_id = chat.conversation.turns[0].id

    def toggle(before: Feedback | None) -> Feedback | None:
        return None if before else Feedback(True)

    run_together(*[lambda: chat.update_feedback(turn_id, toggle, saved.append)] * 8)

    assert saved == [Feedback(True), None] * 4
    assert chat.conversation.get_turn(turn_id).feedback == saved[-1]


def test_unchanged_feedback_is_not_saved_again() -> None:
    chat, saved = create_answered_chat(), list[Feedback | None]()

    chat.update_feedback(chat.conversation.turns[0].id, lambda before: before, saved.append)

    assert saved == []
