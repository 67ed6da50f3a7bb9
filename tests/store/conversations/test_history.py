"""Reading conversations from the traces: complete, searchable, renamed, deleted, and private to each visitor."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, new_id
from phi3_ui.chat.types import ContextUsage, Usage
from phi3_ui.errors import UserError
from phi3_ui.store.conversations import history as history_module
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.turn_writer import ConversationStore, TurnWriter
from tests.store.conversations.chats import ME, MODEL, ask, make_answer, make_conversation, make_record, make_request
from tests.store.conversations.recording import TIMEOUT, ensure_experiment, list_traces, locate_in, wait_until

OTHER = "visitor-ffffffffffffffff"


def _ids(history: History) -> list[str]:
    return [summary.id for summary in history.list_conversations(ME)]


def _titles(history: History) -> list[str]:
    return [summary.title for summary in history.list_conversations(ME)]


def _ids_and_titles(history: History) -> list[tuple[str, str]]:
    return [(summary.id, summary.title) for summary in history.list_conversations(ME)]


@dataclass
class Store:
    uri: str
    """The tracking URI."""
    folder: Path
    """Holds the database, mlflow.db."""
    recorder: Recorder

    def history(self) -> History:
        """Return the history of a server that has just started and has loaded the conversations."""
        history = History(locate_in(self.uri), self.recorder)
        assert history.wait_until_loaded(ME, TIMEOUT)
        return history


@pytest.fixture
def store(uri: str, tmp_path: Path, recorder: Recorder) -> Store:
    return Store(uri, tmp_path, recorder)


def _submit(store: Store, history: History, conversation_id: str, conversation: Conversation) -> None:
    """Submit the last shown turn, as the app does when its answer ends."""
    record = make_record(conversation_id, conversation)
    store.recorder.submit(record)
    history.apply(record)


def _branched_conversation() -> Conversation:
    """Return a question answered twice, whose second answer has a follow-up question that was edited."""
    now = time.time() - 100
    conversation = make_conversation("Tell me about the sea", "It is big.", now)
    conversation = conversation.with_variant(conversation.turns[0].id, request=make_request(now + 1)).with_answer(
        make_answer("Blue.", finish_reason="cancelled")
    )
    failed = Answer("demo · ONNX", "", error=("queue_full", {"count": 3, "model": "m"}))
    shortened = make_answer("Yes", context=ContextUsage(100, 200, 2, 50), usage=Usage(5, 6), load_seconds=0.5)
    conversation = ask(conversation, "Why?", now + 2).with_answer(failed)
    return conversation.with_variant(conversation.turns[1].id, "Really?", make_request(now + 3)).with_answer(shortened)


def _submit_all(store: Store, history: History, conversation: Conversation) -> str:
    """Submit every turn in the order in which they were asked, and return the id of the conversation."""
    conversation_id = new_id()
    for turn in conversation.tree:
        _submit(store, history, conversation_id, Conversation(conversation.tree, turn.id))
    return conversation_id


def test_a_conversation_is_complete_after_a_restart(store: Store) -> None:
    conversation = _branched_conversation()
    conversation = conversation.with_feedback(conversation.tree[0].id, Feedback(False, "Too short."))
    conversation_id = _submit_all(store, store.history(), conversation)
    store.recorder.set_feedback(ME, conversation_id, conversation.tree[0].id, Feedback(False, "Too short."))
    assert store.recorder.flush(TIMEOUT)

    assert store.history().load(ME, conversation_id) == conversation


def test_a_conversation_that_is_not_stored_yet_is_complete(store: Store) -> None:
    ensure_experiment(store.uri)
    locked = sqlite3.connect(store.folder / "mlflow.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")  # readable, but not writable
    history, conversation = store.history(), _branched_conversation()
    try:
        conversation_id = _submit_all(store, history, conversation)
        store.recorder.set_feedback(ME, conversation_id, conversation.tree[1].id, Feedback(True))

        assert history.load(ME, conversation_id) == conversation.with_feedback(conversation.tree[1].id, Feedback(True))
        assert _ids(history) == [conversation_id]
        assert _ids(store.history()) == [conversation_id]
    finally:
        locked.rollback()
        locked.close()


def test_conversations_are_listed_newest_first_and_titled_by_their_first_question(store: Store) -> None:
    history, now = store.history(), time.time()
    old = make_conversation("old  one\nof mine", "a", now - 50)
    first = _submit_all(store, history, old)
    second = _submit_all(store, history, make_conversation("newer", "b", now - 40))
    assert _ids_and_titles(history) == [
        (second, "newer"),
        (first, "old  one of mine"),
    ]

    _submit(store, history, first, ask(old, "go on", now - 10).with_answer(make_answer("c")))

    expected = [(first, "old  one of mine"), (second, "newer")]
    assert _ids_and_titles(history) == expected
    assert store.recorder.flush(TIMEOUT)
    assert _ids_and_titles(store.history()) == expected


@pytest.mark.parametrize("restarted", [False, True])
def test_search_covers_titles_and_complete_texts_and_ignores_case(store: Store, restarted: bool) -> None:
    history = store.history()
    renamed_id = _submit_all(store, history, make_conversation("Ceva despre MARE și Țărm", 'Unda 🌊 %_\' "x"'))
    long = _submit_all(store, history, make_conversation("long", "word " * 3000 + "Needle"))
    history.rename(ME, renamed_id, "Vacanță")
    if restarted:
        assert store.recorder.flush(TIMEOUT)
        history = store.history()
        assert history.wait_until_loaded(ME, TIMEOUT)
        wait_until(lambda: history.list_conversations(ME, "needle"))

    def found(query: str) -> list[str]:
        return [summary.id for summary in history.list_conversations(ME, query)]

    assert found("țărm mare") == [renamed_id]
    assert found("unda 🌊") == [renamed_id]
    assert found('%_\' "x"') == [renamed_id]
    assert found("vacanță") == [renamed_id]
    assert found("needle") == [long]
    assert found("not there") == []
    assert set(found("  ")) == {renamed_id, long}
    assert found("ﾞ") == found("\u0301") == found("\u200b") == [], "nothing to compare by"


def test_a_title_survives_a_restart_and_can_be_reset(store: Store) -> None:
    history = store.history()
    conversation_id = _submit_all(store, history, make_conversation("first words", "a"))

    history.rename(ME, conversation_id, "  A better\nname ")
    assert history.get_title(ME, conversation_id) == "A better name"
    assert store.recorder.flush(TIMEOUT)
    restarted = store.history()
    assert _titles(restarted) == ["A better name"]
    restarted.rename(ME, conversation_id, "")
    assert store.recorder.flush(TIMEOUT)
    assert _titles(store.history()) == ["first words"]


def test_pinned_conversations_come_first_also_after_a_restart(store: Store) -> None:
    history = store.history()
    old, new = (_submit_all(store, history, make_conversation(question, "a")) for question in ("old", "new"))
    history.set_pinned(ME, old, True)

    def pinned(shown: History) -> list[tuple[str, bool]]:
        return [(summary.id, summary.is_pinned) for summary in shown.list_conversations(ME)]

    assert pinned(history) == [(old, True), (new, False)]
    assert store.recorder.flush(TIMEOUT)
    restarted = store.history()
    assert pinned(restarted) == [(old, True), (new, False)]
    restarted.set_pinned(ME, old, False)
    assert not any(is_pinned for _, is_pinned in pinned(restarted))


def test_the_shown_branch_is_restored_until_another_question_is_asked(store: Store) -> None:
    history, conversation = store.history(), _branched_conversation()
    conversation_id = _submit_all(store, history, conversation)
    switched = conversation.with_branch_of(conversation.tree[0].id)
    history.save_shown_branch(ME, conversation_id, switched)
    assert history.load(ME, conversation_id) == switched
    assert store.recorder.flush(TIMEOUT)
    assert store.history().load(ME, conversation_id) == switched

    continued = ask(switched, "And then?").with_answer(make_answer("Salt."))
    _submit(store, history, conversation_id, continued)
    assert store.recorder.flush(TIMEOUT)
    assert store.history().load(ME, conversation_id) == continued


def test_a_deleted_conversation_disappears_at_once(store: Store) -> None:
    history = store.history()
    conversation_id = _submit_all(store, history, make_conversation("Hi", "a"))
    history.delete(ME, conversation_id)

    for server in (history, store.history()):
        assert server.is_deleted(ME, conversation_id)
        assert server.list_conversations(ME) == []
        with pytest.raises(UserError) as error:
            server.load(ME, conversation_id)
        assert error.value.code == "no_such_chat"
    with pytest.raises(UserError):
        history.delete(ME, conversation_id)


def test_a_deletion_can_be_undone_until_it_is_due(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    history, conversation = store.history(), make_conversation("Hi", "a")
    conversation_id = _submit_all(store, history, conversation)
    assert store.recorder.flush(TIMEOUT)
    history.delete(ME, conversation_id)

    assert history.restore(ME, conversation_id)
    assert history.load(ME, conversation_id) == conversation
    assert _ids(history) == [conversation_id]
    assert not history.is_deleted(ME, conversation_id)

    monkeypatch.setattr(history_module, "_UNDO_SECONDS", 0.0)
    history.delete(ME, conversation_id)
    assert store.recorder.flush(TIMEOUT)
    assert list_traces(store.uri) == []
    assert not history.restore(ME, conversation_id)


def _start_turn(store: Store, history: History, conversation_id: str, conversation: Conversation) -> TurnWriter:
    return ConversationStore(store.recorder, history, "0").start_turn(ME, conversation_id, conversation, "demo · ONNX")


def test_undoing_a_deletion_keeps_a_turn_that_was_in_progress(store: Store) -> None:
    history, conversation_id = store.history(), new_id()
    conversation = ask(Conversation(), "Hi")
    writer = _start_turn(store, history, conversation_id, conversation)
    with pytest.raises(UserError) as error:
        history.load(ME, conversation_id)
    assert error.value.code == "chat_busy"

    history.delete(ME, conversation_id)
    writer.finish(make_answer("Once", finish_reason="cancelled"))
    assert history.list_conversations(ME) == []
    assert history.restore(ME, conversation_id)

    assert _ids(history) == [conversation_id]
    assert history.load(ME, conversation_id) == conversation.with_answer(make_answer("Once", finish_reason="cancelled"))


def test_a_turn_that_ends_after_its_conversation_was_deleted_is_not_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "_UNDO_SECONDS", 0.0)
    history, conversation_id = store.history(), new_id()
    writer = _start_turn(store, history, conversation_id, ask(Conversation(), "Hi"))
    history.delete(ME, conversation_id)
    assert store.recorder.flush(TIMEOUT)

    writer.finish(make_answer("Once"))

    assert store.recorder.flush(TIMEOUT)
    assert list_traces(store.uri) == []
    assert store.history().list_conversations(ME) == []


def test_a_visitor_cannot_see_or_change_another_visitors_conversations(store: Store) -> None:
    history, conversation = store.history(), make_conversation("my secret", "a")
    conversation_id = _submit_all(store, history, conversation)
    assert store.recorder.flush(TIMEOUT)

    for server in (history, store.history()):
        assert server.list_conversations(OTHER) == []
        assert server.list_conversations(OTHER, "secret") == []
        assert server.list_turn_metrics(OTHER) == []
        assert server.get_title(OTHER, conversation_id) == ""
        attempts: list[Callable[[], object]] = [
            partial(server.load, OTHER, conversation_id),
            partial(server.rename, OTHER, conversation_id, "x"),
            partial(server.delete, OTHER, conversation_id),
            partial(server.save_shown_branch, OTHER, conversation_id, conversation),
            partial(server.load, f"{OTHER}' OR '1' = '1", conversation_id),
            partial(server.load, OTHER, f"{conversation_id}' OR metadata.`phi3_ui.turn` != '"),
        ]
        for attempt in attempts:
            with pytest.raises(UserError) as error:
                attempt()
            assert error.value.code == "no_such_chat"
        assert not server.restore(OTHER, conversation_id)
    assert _titles(history) == ["my secret"]


def test_conversations_of_a_program_without_a_change_log_appear(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "_MAX_AGE", 0.0)
    monkeypatch.setattr(history_module, "_SEARCH_AGE", 0.0)
    history, other_history = store.history(), store.history()
    assert history.list_conversations(ME) == []
    conversation_id = _submit_all(store, other_history, make_conversation("elsewhere", "a"))
    assert store.recorder.flush(TIMEOUT)

    assert history.wait_until_loaded(ME, TIMEOUT)
    wait_until(lambda: history.list_conversations(ME))
    assert _ids(history) == [conversation_id]


def test_metrics_cover_every_turn(store: Store) -> None:
    history, conversation = store.history(), _branched_conversation()
    conversation_id = _submit_all(store, history, conversation)
    assert store.recorder.flush(TIMEOUT)

    for server in (history, store.history()):
        metrics = server.list_turn_metrics(ME)
        assert [(turn.turn_id, turn.finish_reason, turn.prompt_tokens) for turn in metrics] == [
            (conversation.tree[0].id, "stop", 40),
            (conversation.tree[1].id, "cancelled", 40),
            (conversation.tree[2].id, "error", None),
            (conversation.tree[3].id, "stop", 5),
        ]
        assert {(turn.conversation_id, turn.model, turn.model_id) for turn in metrics} == {
            (conversation_id, "demo · ONNX", MODEL)
        }
        assert metrics[0].tokens_per_second == 60.0
        assert metrics[0].time_to_first_token == 0.25
        request = conversation.tree[0].request
        assert request
        assert metrics[0].asked_at == pytest.approx(request.asked_at, abs=0.01)


def test_pending_conversations_are_listed_while_the_store_is_unreachable(tmp_path: Path) -> None:
    uri = "http://127.0.0.1:9"  # nothing listens there

    def unreachable() -> ChatLocation:
        raise UserError("store_unreachable", uri=uri, detail="ConnectionError")

    recorder = Recorder(unreachable, tmp_path / "journal")
    history = History(unreachable, recorder)
    conversation = make_conversation("Hi", "a")
    record = make_record(new_id(), conversation)
    recorder.submit(record)
    history.apply(record)

    assert _titles(history) == ["Hi"]
    recorder.close(0.0)
    assert list((tmp_path / "journal").glob("*/*.json")), "it stays in the journal for the next start"
