"""Conversations found again in the traces: whole, searched, renamed, deleted, and each person's own."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, new_id
from phi3_ui.chat.types import ContextUsage, Usage
from phi3_ui.errors import UserError
from phi3_ui.store.conversations import history as module
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.turn_writer import ConversationStore, TurnWriter
from tests.store.conversations.chats import ME, MODEL, answer, ask, asked, record
from tests.store.conversations.test_recorder import experiment, new_recorder, stored
from tests.support.build_cache import create_store

OTHER = "visitor-ffffffffffffffff"


@dataclass
class Store:
    uri: str
    folder: Path
    recorder: Recorder

    def history(self) -> History:
        """As a server that was just started sees it."""
        return History(self.uri, lambda: experiment(self.uri), self.recorder)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    uri = create_store(tmp_path)
    recorder = new_recorder(uri, tmp_path)
    yield Store(uri, tmp_path, recorder)
    recorder.close()


def say(store: Store, history: History, conversation: str, talk: Conversation, person: str = ME) -> None:
    one = record(conversation, talk, person)
    store.recorder.submit(one)
    history.apply(one)


def _branched() -> Conversation:
    """One question, answered twice; the second has a follow-up."""
    now = time.time() - 100
    talk = ask(Conversation(), "Tell me of the sea", now).with_answer(answer("It is big."))
    talk = talk.with_variant(talk.turns[0].id, request=asked(now + 1)).with_answer(
        answer("Blue.", finish_reason="cancelled")
    )
    failed = Answer("demo · ONNX", "", error=("queue_full", {"count": 3, "model": "m"}))
    cut = answer("Yes", context=ContextUsage(100, 200, 2, 50), usage=Usage(5, 6), load_seconds=0.5)
    talk = ask(talk, "Why?", now + 2).with_answer(failed)
    return talk.with_variant(talk.turns[1].id, "Really?", asked(now + 3)).with_answer(cut)


def _said(store: Store, history: History, talk: Conversation, person: str = ME) -> str:
    """Record every turn of `talk`, in the order in which they were asked."""
    conversation = new_id()
    for turn in talk.tree:
        say(store, history, conversation, Conversation(talk.tree, turn.id), person)
    return conversation


def test_a_conversation_comes_back_whole_after_a_restart(store: Store) -> None:
    talk = _branched()
    talk = talk.with_feedback(talk.tree[0].id, Feedback(False, "Too short."))
    conversation = _said(store, store.history(), talk)
    store.recorder.set_feedback(ME, conversation, talk.tree[0].id, Feedback(False, "Too short."))
    assert store.recorder.flush(30)

    again = store.history().load(ME, conversation)

    assert again == talk


def test_it_is_the_same_before_the_store_has_it(store: Store) -> None:
    experiment(store.uri)
    locked = sqlite3.connect(store.folder / "mlflow.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")  # it may be read, and not be written
    history, talk = store.history(), _branched()
    try:
        conversation = _said(store, history, talk)
        store.recorder.set_feedback(ME, conversation, talk.tree[1].id, Feedback(True))

        assert history.load(ME, conversation) == talk.with_feedback(talk.tree[1].id, Feedback(True))
        assert [one.id for one in history.list_conversations(ME)] == [conversation]
        assert [one.id for one in store.history().list_conversations(ME)] == [conversation]
    finally:
        locked.rollback()
        locked.close()


def test_the_list_is_newest_first_and_named_after_the_first_question(store: Store) -> None:
    history, now = store.history(), time.time()
    old = ask(Conversation(), "old  one\nof mine", now - 50).with_answer(answer("a"))
    first = _said(store, history, old)
    second = _said(store, history, ask(Conversation(), "newer", now - 40).with_answer(answer("b")))
    assert [(one.id, one.title) for one in history.list_conversations(ME)] == [
        (second, "newer"),
        (first, "old one of mine"),
    ]

    say(store, history, first, ask(old, "go on", now - 10).with_answer(answer("c")))

    expected = [(first, "old one of mine"), (second, "newer")]
    assert [(one.id, one.title) for one in history.list_conversations(ME)] == expected
    assert store.recorder.flush(30)
    assert [(one.id, one.title) for one in store.history().list_conversations(ME)] == expected


@pytest.mark.parametrize("restarted", [False, True])
def test_titles_and_texts_are_searched_whatever_the_case_and_length(store: Store, restarted: bool) -> None:
    history = store.history()
    sea = _said(store, history, ask(Conversation(), "Ceva despre MARE și Țărm").with_answer(answer('Unda 🌊 %_\' "x"')))
    long = _said(store, history, ask(Conversation(), "long").with_answer(answer("word " * 3000 + "Needle")))
    history.rename(ME, sea, "Vacanță")
    if restarted:
        assert store.recorder.flush(30)
        history = store.history()
        assert history.wait_until_loaded(ME, 30)
        deadline = time.monotonic() + 30
        while not history.list_conversations(ME, "needle"):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def found(query: str) -> list[str]:
        return [one.id for one in history.list_conversations(ME, query)]

    assert found("țărm mare") == [sea]
    assert found("unda 🌊") == [sea]
    assert found('%_\' "x"') == [sea]
    assert found("vacanță") == [sea]
    assert found("needle") == [long]
    assert found("nothing of it") == []
    assert set(found("  ")) == {sea, long}


def test_a_new_name_stays_and_can_be_taken_back(store: Store) -> None:
    history = store.history()
    conversation = _said(store, history, ask(Conversation(), "first words").with_answer(answer("a")))

    history.rename(ME, conversation, "  A better\nname ")
    assert history.get_title(ME, conversation) == "A better name"
    assert store.recorder.flush(30)
    again = store.history()
    assert [one.title for one in again.list_conversations(ME)] == ["A better name"]
    again.rename(ME, conversation, "")
    assert store.recorder.flush(30)
    assert [one.title for one in store.history().list_conversations(ME)] == ["first words"]


def test_the_branch_that_was_shown_is_shown_again_until_something_new_is_asked(store: Store) -> None:
    history, talk = store.history(), _branched()
    conversation = _said(store, history, talk)
    back = talk.with_branch_of(talk.tree[0].id)
    history.save_shown_branch(ME, conversation, back)
    assert history.load(ME, conversation) == back
    assert store.recorder.flush(30)
    assert store.history().load(ME, conversation) == back

    more = ask(back, "And then?").with_answer(answer("Salt."))
    say(store, history, conversation, more)
    assert store.recorder.flush(30)
    assert store.history().load(ME, conversation) == more


def test_a_deleted_conversation_is_gone_at_once_and_for_good(store: Store) -> None:
    history = store.history()
    conversation = _said(store, history, ask(Conversation(), "Hi").with_answer(answer("a")))
    history.delete(ME, conversation)

    for one in (history, store.history()):
        assert one.is_deleted(ME, conversation)
        assert one.list_conversations(ME) == []
        with pytest.raises(UserError) as gone:
            one.load(ME, conversation)
        assert gone.value.code == "no_such_chat"
    with pytest.raises(UserError):
        history.delete(ME, conversation)


def test_a_deletion_can_be_taken_back_for_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    history, talk = store.history(), ask(Conversation(), "Hi").with_answer(answer("a"))
    conversation = _said(store, history, talk)
    assert store.recorder.flush(30)
    history.delete(ME, conversation)

    assert history.restore(ME, conversation)
    assert history.load(ME, conversation) == talk
    assert [one.id for one in history.list_conversations(ME)] == [conversation]
    assert not history.is_deleted(ME, conversation)

    monkeypatch.setattr(module, "_UNDO_SECONDS", 0.0)
    history.delete(ME, conversation)
    assert store.recorder.flush(30)
    assert stored(store.uri) == []
    assert not history.restore(ME, conversation)


def _answering(store: Store, history: History, conversation: str, talk: Conversation) -> TurnWriter:
    return ConversationStore(store.recorder, history, "0").start_turn(ME, conversation, talk, "demo · ONNX")


def test_a_deletion_taken_back_loses_no_turn_that_was_under_way(store: Store) -> None:
    history, conversation = store.history(), new_id()
    talk = ask(Conversation(), "Hi")
    kept = _answering(store, history, conversation, talk)
    with pytest.raises(UserError) as running:
        history.load(ME, conversation)
    assert running.value.code == "chat_busy"

    history.delete(ME, conversation)
    kept.finish(answer("Once", finish_reason="cancelled"))
    assert history.list_conversations(ME) == []
    assert history.restore(ME, conversation)

    assert [one.id for one in history.list_conversations(ME)] == [conversation]
    assert history.load(ME, conversation) == talk.with_answer(answer("Once", finish_reason="cancelled"))


def test_a_turn_that_ends_after_its_chat_was_deleted_for_good_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNDO_SECONDS", 0.0)
    history, conversation = store.history(), new_id()
    kept = _answering(store, history, conversation, ask(Conversation(), "Hi"))
    history.delete(ME, conversation)
    assert store.recorder.flush(30)

    kept.finish(answer("Once"))

    assert store.recorder.flush(30)
    assert stored(store.uri) == []
    assert store.history().list_conversations(ME) == []


def test_nobody_finds_opens_names_or_deletes_another_persons_chats(store: Store) -> None:
    history, talk = store.history(), ask(Conversation(), "my secret").with_answer(answer("a"))
    conversation = _said(store, history, talk)
    assert store.recorder.flush(30)

    for one in (history, store.history()):
        assert (
            one.list_conversations(OTHER)
            == one.list_conversations(OTHER, "secret")
            == one.list_turn_metrics(OTHER)
            == []
        )
        assert one.get_title(OTHER, conversation) == ""
        for attempt in (
            lambda one=one: one.load(OTHER, conversation),
            lambda one=one: one.rename(OTHER, conversation, "x"),
            lambda one=one: one.delete(OTHER, conversation),
            lambda one=one: one.save_shown_branch(OTHER, conversation, talk),
            lambda one=one: one.load(f"{OTHER}' OR '1' = '1", conversation),
            lambda one=one: one.load(OTHER, f"{conversation}' OR metadata.`phi3_ui.turn` != '"),
        ):
            with pytest.raises(UserError) as refused:
                attempt()
            assert refused.value.code == "no_such_chat"
        assert not one.restore(OTHER, conversation)
    assert [one.title for one in history.list_conversations(ME)] == ["my secret"]


def test_what_another_server_wrote_is_seen_soon(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_AGE", 0.0)
    here, there = store.history(), store.history()
    assert here.list_conversations(ME) == []
    conversation = _said(store, there, ask(Conversation(), "elsewhere").with_answer(answer("a")))
    assert store.recorder.flush(30)

    assert here.wait_until_loaded(ME, 30)
    deadline = time.monotonic() + 30
    while not here.list_conversations(ME):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [one.id for one in here.list_conversations(ME)] == [conversation]


def test_figures_are_those_of_every_turn(store: Store) -> None:
    history, talk = store.history(), _branched()
    conversation = _said(store, history, talk)
    assert store.recorder.flush(30)

    for one in (history, store.history()):
        figures = one.list_turn_metrics(ME)
        assert [(f.turn_id, f.finish_reason, f.prompt_tokens) for f in figures] == [
            (talk.tree[0].id, "stop", 40),
            (talk.tree[1].id, "cancelled", 40),
            (talk.tree[2].id, "error", None),
            (talk.tree[3].id, "stop", 5),
        ]
        assert {(f.conversation_id, f.model, f.model_id) for f in figures} == {(conversation, "demo · ONNX", MODEL)}
        assert figures[0].tokens_per_second == 60.0
        assert figures[0].time_to_first_token == 0.25
        assert figures[0].asked_at == pytest.approx(talk.tree[0].request.asked_at, abs=0.01)


def test_a_store_that_is_gone_hides_no_chat_that_waits_here(tmp_path: Path) -> None:
    uri = "http://127.0.0.1:9"  # nobody answers there

    def unreachable() -> str:
        raise UserError("store_unreachable", uri=uri, detail="ConnectionError")

    recorder = Recorder(uri, unreachable, tmp_path / "journal")
    history = History(uri, unreachable, recorder)
    talk = ask(Conversation(), "Hi").with_answer(answer("a"))
    one = record(new_id(), talk)
    recorder.submit(one)
    history.apply(one)

    assert [found.title for found in history.list_conversations(ME)] == ["Hi"]
    recorder.close(0.0)
    assert list((tmp_path / "journal").glob("*/*.json")), "it waits for the next start"
