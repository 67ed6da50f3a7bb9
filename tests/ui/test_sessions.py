"""The server's state of open pages, used from one thread and from several."""

from datetime import UTC, datetime
from functools import partial

import pytest

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.replay_state import Replay
from phi3_ui.ui.session_values import PendingDelete
from phi3_ui.ui.sessions import Session
from tests.support.turns import TIMEOUT, WaitingModel, create_answered_chat, reserve, run_together, start


def test_every_chat_has_a_unique_id() -> None:
    assert len({Session("en").current.id for _ in range(5)}) == 5


def test_a_new_chat_comes_before_the_others_and_is_shown() -> None:
    session = Session("en")
    first = session.show(create_answered_chat())

    session.show_new()

    assert first in session.chats
    assert session.current is session.chats[0]
    assert session.current.conversation == Conversation()


def test_an_empty_chat_is_not_followed_by_another() -> None:
    session = Session("en")
    empty = session.current
    session.show_new()
    assert session.chats == (empty,)

    session.show(create_answered_chat())
    session.show_new()

    assert session.current is empty
    assert len(session.chats) == 2


def test_a_chat_opened_twice_concurrently_is_kept_once() -> None:
    session, chats = Session("en"), [Chat("c" * 32), Chat("c" * 32)]

    run_together(*[lambda chat=chat: session.show(chat) for chat in chats])

    assert len([chat for chat in session.chats if chat.id == "c" * 32]) == 1
    assert session.current in chats


def test_adding_a_replay_does_not_undo_a_switch() -> None:
    for _ in range(50):
        session, replay, other = Session("en"), create_answered_chat(), create_answered_chat()

        run_together(
            partial(session.add, replay),
            partial(session.show, other),
        )

        assert session.current is other
        assert {replay, other} <= set(session.chats)


def test_many_chats_of_a_page_are_dropped_but_not_busy_ones() -> None:
    session = Session("en")
    busy = session.current
    turn = start(busy, WaitingModel())
    for _ in range(40):
        session.show(create_answered_chat())

    assert len(session.chats) < 40
    assert session.find_chat(busy.id) is busy
    turn.stop()
    assert turn.wait(TIMEOUT)


def test_a_deleted_chat_is_stopped_and_dropped() -> None:
    session, stored = Session("en"), list[Answer]()
    chat = session.current
    turn = start(chat, WaitingModel(), stored)

    session.forget(chat.id)

    assert turn.wait(TIMEOUT)
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

    assert turn.start().wait(TIMEOUT)
    assert not chat.is_busy


def test_only_one_replay_runs_at_a_time() -> None:
    session, replays = Session("en"), list[Replay | None]()

    run_together(*[lambda: replays.append(session.try_start_replay(Conversation(), "m"))] * 4)

    [first] = [replay for replay in replays if replay]
    session.stop_replay()
    assert first.is_stopped()
    first.finish()
    second = session.try_start_replay(Conversation(), "m")
    assert second is not None
    assert not second.is_stopped()
    second.finish()
    session.stop_replay()
    assert not second.is_stopped(), "it has ended"
    session.close()
    assert session.try_start_replay(Conversation(), "m") is None


def test_a_late_lookup_does_not_replace_the_model_selected_since() -> None:
    session = Session("en")
    slow, fast = (
        ModelEntry(name, f"m-{name}", "", "prompt", "", "python", datetime.now(UTC), None, None, None, "")
        for name in ("slow", "fast")
    )
    session.model.select("m-slow")
    session.model.select("m-fast")
    assert session.model.set_entry("m-fast", fast)

    assert not session.model.set_entry("m-slow", slow)
    assert session.model.id == "m-fast"


def test_a_tab_is_restored_once() -> None:
    session, claimed = Session("en"), list[bool]()

    run_together(*[lambda: claimed.append(session.claim_restore())] * 4)

    assert sorted(claimed) == [False, False, False, True]


def test_a_deletion_that_expired_does_not_clear_the_next_one() -> None:
    session, old, new = (
        Session("en"),
        PendingDelete("a", "old", was_shown=True),
        PendingDelete("b", "new", was_shown=False),
    )
    session.set_pending_delete(old)
    session.set_pending_delete(new)

    session.clear_pending_delete(old)

    assert session.chat_list.pending_delete is new


def test_a_visitor_is_identified_by_a_secret_that_their_id_does_not_reveal() -> None:
    first, second, other = Session("en"), Session("en"), Session("en")
    secret = "a" * 48
    first.identify(secret)
    second.identify(secret)
    other.identify("b" * 48)

    assert first.user_id == second.user_id != other.user_id
    assert secret not in first.user_id
    assert len({Session("en").user_id for _ in range(5)}) == 5


@pytest.mark.parametrize("token", [None, "", "short", "x" * 500, "visitor-' OR 1=1 --------------", "\n" * 30])
def test_an_invalid_secret_identifies_nobody(token: str | None) -> None:
    session = Session("en")
    user_id = session.user_id

    session.identify(token)

    assert session.user_id == user_id


def test_the_page_that_replaces_another_gets_its_chats_with_their_answers() -> None:
    old, new, stored = Session("en"), Session("en"), list[Answer]()
    background = old.current
    turns = [start(background, WaitingModel(), stored)]
    old.show_new()
    shown = old.current
    turns.append(start(shown, WaitingModel(), stored))

    replay = old.try_start_replay(shown.conversation, "m")
    assert replay is not None
    old.panels.replay_open = True
    turns.append(start(replay.chat, WaitingModel(), stored))

    old.hand_over(new)
    old.close()

    assert [answer.finish_reason for answer in stored] == []
    assert new.current is shown
    assert set(new.chats) == {shown, background}
    assert new.replay is replay
    assert new.panels.replay_open
    assert old.connection.lost.is_set()
    new.stop_answers()
    assert all(turn.wait(TIMEOUT) for turn in turns)


def test_an_answer_is_drawn_by_only_one_event_at_a_time() -> None:
    session = Session("en")
    turn = start(session.current, WaitingModel())

    assert session.connection.try_follow(turn)
    assert not session.connection.try_follow(turn)
    session.connection.unfollow(turn)
    assert session.connection.try_follow(turn)
    turn.stop()
    assert turn.wait(TIMEOUT)
