"""Two servers on one store: changes on one of them appear on the other."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Trace

from phi3_ui.chat.comparison import Preference
from phi3_ui.chat.conversation import new_id
from phi3_ui.errors import UserError
from phi3_ui.store.conversations import change_log as change_log_module
from phi3_ui.store.conversations import history as history_module
from phi3_ui.store.conversations.change_log import ChangeLog, visitor_key
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.operations import ConversationDeletion
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.trace_search import TraceSearch
from tests.store.conversations.chats import ME, ask, make_answer, make_conversation, make_record
from tests.store.conversations.recording import (
    TIMEOUT,
    create_recorder,
    ensure_experiment,
    list_traces,
    locate_in,
    wait_until,
)
from tests.store.conversations.rounds import make_round, vote_on

OLD_CHATS = 30  # chats newer than the oldest one: more than a refresh reads from the store


@dataclass(frozen=True)
class Node:
    recorder: Recorder
    history: History

    def ids(self) -> list[str]:
        return [summary.id for summary in self.history.list_conversations(ME)]

    def titles(self) -> list[str]:
        return [summary.title for summary in self.history.list_conversations(ME)]


def _start(uri: str, folder: Path) -> Node:
    recorder = create_recorder(uri, folder)
    return Node(recorder, History(locate_in(uri), recorder))


@pytest.fixture
def nodes(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Node, Node]]:
    monkeypatch.setattr(history_module, "_MAX_AGE", 0.0)
    monkeypatch.setattr(change_log_module, "_MIN_AGE", 0.0)
    started_nodes = _start(uri, tmp_path / "a"), _start(uri, tmp_path / "b")
    yield started_nodes
    for node in started_nodes:
        node.recorder.close()


def _record(node: Node, conversation_id: str, question: str = "Hi", asked_at: float | None = None) -> None:
    record = make_record(conversation_id, make_conversation(question, asked_at=asked_at))
    node.recorder.submit(record)
    node.history.apply(record)


def _fill(nodes: tuple[Node, Node]) -> str:
    """Create many chats that both servers have loaded, and return the oldest."""
    oldest, now = new_id(), time.time()
    _record(nodes[0], oldest, "The oldest", now - 1000)
    for number in range(OLD_CHATS):
        _record(nodes[0], new_id(), f"Chat {number}", now - 500 + number)
    assert nodes[0].recorder.flush(TIMEOUT)
    for node in nodes:
        assert node.history.wait_until_loaded(ME, TIMEOUT)
        assert len(node.ids()) == OLD_CHATS + 1
    return oldest


def test_new_renamed_pinned_and_deleted_chats_reach_the_other_server(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setattr(history_module, "_UNDO_SECONDS", 0.0)
    first, second = nodes
    oldest = _fill(nodes)

    _record(second, new_chat_id := new_id(), "From the other")
    wait_until(lambda: first.titles()[0] == "From the other")

    first.history.rename(ME, oldest, "Renamed")
    wait_until(lambda: second.titles()[-1] == "Renamed")
    second.history.set_pinned(ME, oldest, True)
    wait_until(lambda: first.ids()[0] == oldest)

    second.history.delete(ME, oldest)
    wait_until(lambda: oldest not in first.ids())
    assert first.history.is_deleted(ME, oldest), "a page that shows it starts a new chat with its next question"
    assert first.titles()[0] == "From the other"
    assert len(first.ids()) == len(list_traces(uri)) == OLD_CHATS + 1, "each of the others exists once"

    conversation = ask(first.history.load(ME, new_chat_id), "And more?").with_answer(make_answer("Yes"))
    first.recorder.submit(make_record(new_chat_id, conversation))
    assert first.recorder.flush(TIMEOUT)
    assert [turn.question for turn in second.history.load(ME, new_chat_id).turns] == ["From the other", "And more?"]


@pytest.mark.parametrize("preference", [0, "tie"])
def test_a_vote_reaches_the_other_server_which_rejects_a_second_one(
    nodes: tuple[Node, Node], preference: Preference
) -> None:
    first, second = nodes
    records = make_round()
    for record in records:
        first.recorder.submit(record)
        first.history.apply(record)
    assert first.recorder.flush(TIMEOUT)
    assert second.history.wait_until_loaded(ME, TIMEOUT)

    assert first.history.vote(vote_on(records, preference))
    assert first.recorder.flush(TIMEOUT)
    # before or after the second server has read the first vote
    is_early_vote_accepted = second.history.vote(vote_on(records, 1))

    wait_until(lambda: (second.ids(), [vote.preference for vote in second.history.list_votes(ME)])[1] == [preference])
    assert not second.history.vote(vote_on(records, 1))
    assert second.recorder.flush(TIMEOUT)
    restarted = _load_history(second)
    assert [vote.preference for vote in restarted.list_votes(ME)] == [preference], is_early_vote_accepted


def _load_history(node: Node) -> History:
    history = History(node.recorder.change_log._locate, node.recorder)
    assert history.wait_until_loaded(ME, TIMEOUT)
    return history


def test_a_change_that_could_not_be_read_is_read_later(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nodes
    oldest = _fill(nodes)
    read, failures = TraceSearch.list_infos, iter([UserError("store_unreachable", uri="x", detail="x")] * 2)

    def fail_twice(self: TraceSearch, visitor_id: str, conversation_id: str) -> list[Trace]:
        for failure in failures:
            raise failure
        return read(self, visitor_id, conversation_id)

    monkeypatch.setattr(TraceSearch, "list_infos", fail_twice)
    first.history.rename(ME, oldest, "Renamed")
    wait_until(lambda: second.titles()[-1] == "Renamed")
    assert next(failures, None) is None


def test_a_pending_change_takes_precedence_over_the_store(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    conversation_id = _fill(nodes)
    lock = first.recorder._changed  # the recorder writes nothing while the test holds it
    with lock:
        first.history.rename(ME, conversation_id, "Mine")
        second.history.set_pinned(ME, conversation_id, True)
        assert second.recorder.flush(TIMEOUT)
        first.history._update_index(ME, first.history._indexes[ME])
        title = first.history._indexes[ME].get_title(conversation_id)
    assert title == "Mine"


def test_more_changes_than_a_log_holds_cause_a_complete_reload(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setattr(change_log_module, "_MAX_CHANGES", 2)
    first, second = nodes
    _fill(nodes)
    first.recorder.change_log._changes = type(first.recorder.change_log._changes)(maxlen=2)
    second.recorder.change_log.read_new()
    deleted = first.ids()[-3:]
    for conversation_id in deleted:
        first.history.apply(deletion := ConversationDeletion(ME, conversation_id, 0.0))
        first.recorder.submit(deletion)
    assert first.recorder.flush(TIMEOUT)
    _record(second, pending := new_id(), "Only here")

    wait_until(lambda: not set(deleted) & set(second.ids()))
    assert pending in second.ids()
    assert len(second.ids()) == OLD_CHATS + 1 - 3 + 1


def test_a_change_is_reported_once_and_only_to_other_servers(uri: str) -> None:
    locate = locate_in(uri)
    writer, reader = ChangeLog(locate), ChangeLog(locate)
    assert reader.read_new().conversations == set()
    writer.add(ME, "c1")
    writer.add("anna", "c2")
    writer.flush()

    reader._read_at = writer._read_at = float("-inf")
    assert reader.read_new().conversations == {(visitor_key(ME), "c1"), (visitor_key("anna"), "c2")}
    assert reader.read_new().conversations == set(), "the store is queried at most once a second"
    reader._read_at = float("-inf")
    changes = reader.read_new()
    assert not changes.conversations
    assert changes.is_complete
    assert writer.read_new().conversations == set()


def test_damaged_and_old_logs_are_ignored(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    client, experiment = MlflowClient(uri), ensure_experiment(uri)
    for name, value in {"old": f"3 {time.time() - 90_000:.0f} x:c", "bad": "many", "worse": "1 2 x"}.items():
        client.set_experiment_tag(experiment, f"phi3_ui.changes.{name}", value)

    assert ChangeLog(locate_in(uri)).read_new().conversations == set()

    assert "phi3_ui.changes.bad is damaged" in caplog.text
    remaining = {key.rpartition(".")[2] for key in client.get_experiment(experiment).tags if "changes" in key}
    assert remaining == {"bad", "worse"}
