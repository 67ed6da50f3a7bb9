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

OLD = 30  # chats newer than the oldest one: more than a refresh reads from the store


@dataclass(frozen=True)
class Node:
    recorder: Recorder
    history: History

    def ids(self) -> list[str]:
        return [one.id for one in self.history.list_conversations(ME)]

    def titles(self) -> list[str]:
        return [one.title for one in self.history.list_conversations(ME)]


def _start(uri: str, folder: Path) -> Node:
    recorder = create_recorder(uri, folder)
    return Node(recorder, History(locate_in(uri), recorder))


@pytest.fixture
def nodes(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Node, Node]]:
    monkeypatch.setattr(history_module, "_MAX_AGE", 0.0)
    monkeypatch.setattr(change_log_module, "_MIN_AGE", 0.0)
    found = _start(uri, tmp_path / "a"), _start(uri, tmp_path / "b")
    yield found
    for node in found:
        node.recorder.close()


def _record(node: Node, conversation_id: str, question: str = "Hi", asked_at: float | None = None) -> None:
    record = make_record(conversation_id, make_conversation(question, asked_at=asked_at))
    node.recorder.submit(record)
    node.history.apply(record)


def _fill(nodes: tuple[Node, Node]) -> str:
    """Create many chats that both servers have loaded, and return the oldest."""
    first, now = new_id(), time.time()
    _record(nodes[0], first, "The oldest", now - 1000)
    for number in range(OLD):
        _record(nodes[0], new_id(), f"Chat {number}", now - 500 + number)
    assert nodes[0].recorder.flush(TIMEOUT)
    for node in nodes:
        assert node.history.wait_until_loaded(ME, TIMEOUT)
        assert len(node.ids()) == OLD + 1
    return first


def test_new_renamed_pinned_and_deleted_chats_reach_the_other_server(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setattr(history_module, "_UNDO_SECONDS", 0.0)
    one, two = nodes
    oldest = _fill(nodes)

    _record(two, added := new_id(), "From the other")
    wait_until(lambda: one.titles()[0] == "From the other")

    one.history.rename(ME, oldest, "Renamed")
    wait_until(lambda: two.titles()[-1] == "Renamed")
    two.history.set_pinned(ME, oldest, True)
    wait_until(lambda: one.ids()[0] == oldest)

    two.history.delete(ME, oldest)
    wait_until(lambda: oldest not in one.ids())
    assert one.history.is_deleted(ME, oldest), "a page that shows it asks in a new chat"
    assert one.titles()[0] == "From the other"
    assert len(one.ids()) == len(list_traces(uri)) == OLD + 1, "the others are there once each"

    conversation = ask(one.history.load(ME, added), "And more?").with_answer(make_answer("Yes"))
    one.recorder.submit(make_record(added, conversation))
    assert one.recorder.flush(TIMEOUT)
    assert [turn.question for turn in two.history.load(ME, added).turns] == ["From the other", "And more?"]


@pytest.mark.parametrize("mine", [0, "tie"])
def test_a_vote_reaches_the_other_server_where_no_second_one_counts(nodes: tuple[Node, Node], mine: Preference) -> None:
    one, two = nodes
    records = make_round()
    for record in records:
        one.recorder.submit(record)
        one.history.apply(record)
    assert one.recorder.flush(TIMEOUT)
    assert two.history.wait_until_loaded(ME, TIMEOUT)

    assert one.history.vote(vote_on(records, mine))
    assert one.recorder.flush(TIMEOUT)
    hurried = two.history.vote(vote_on(records, 1))  # before or after the other server has read the first vote

    wait_until(lambda: (two.ids(), [vote.preference for vote in two.history.list_votes(ME)])[1] == [mine])
    assert not two.history.vote(vote_on(records, 1))
    assert two.recorder.flush(TIMEOUT)
    again = _start_reading(two)
    assert [vote.preference for vote in again.list_votes(ME)] == [mine], hurried


def _start_reading(node: Node) -> History:
    history = History(node.recorder.change_log._locate, node.recorder)
    assert history.wait_until_loaded(ME, TIMEOUT)
    return history


def test_a_change_that_could_not_be_followed_is_followed_later(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = nodes
    oldest = _fill(nodes)
    read, failures = TraceSearch.list_infos, iter([UserError("store_unreachable", uri="x", detail="x")] * 2)

    def fail_twice(self: TraceSearch, visitor_id: str, conversation_id: str) -> list[Trace]:
        for failure in failures:
            raise failure
        return read(self, visitor_id, conversation_id)

    monkeypatch.setattr(TraceSearch, "list_infos", fail_twice)
    one.history.rename(ME, oldest, "Renamed")
    wait_until(lambda: two.titles()[-1] == "Renamed")
    assert next(failures, None) is None


def test_a_change_that_is_on_its_way_outlasts_what_the_store_says(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    first = _fill(nodes)
    held = one.recorder._changed  # the recorder writes nothing while the test holds this
    with held:
        one.history.rename(ME, first, "Mine")
        two.history.set_pinned(ME, first, True)
        assert two.recorder.flush(TIMEOUT)
        one.history._update_index(ME, one.history._indexes[ME])
        title = one.history._indexes[ME].get_title(first)
    assert title == "Mine"


def test_after_more_changes_than_a_log_holds_everything_is_read_again(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setattr(change_log_module, "_MAX_CHANGES", 2)
    one, two = nodes
    _fill(nodes)
    one.recorder.change_log._changes = type(one.recorder.change_log._changes)(maxlen=2)
    two.recorder.change_log.read_new()
    gone = one.ids()[-3:]
    for conversation_id in gone:
        one.history.apply(deletion := ConversationDeletion(ME, conversation_id, 0.0))
        one.recorder.submit(deletion)
    assert one.recorder.flush(TIMEOUT)
    _record(two, pending := new_id(), "Only here")

    wait_until(lambda: not set(gone) & set(two.ids()))
    assert pending in two.ids()
    assert len(two.ids()) == OLD + 1 - 3 + 1


def test_a_log_tells_others_once_and_not_itself(uri: str) -> None:
    locate = locate_in(uri)
    writer, reader = ChangeLog(locate), ChangeLog(locate)
    assert reader.read_new().conversations == set()
    writer.add(ME, "c1")
    writer.add("anna", "c2")
    writer.flush()

    reader._read_at = writer._read_at = float("-inf")
    assert reader.read_new().conversations == {(visitor_key(ME), "c1"), (visitor_key("anna"), "c2")}
    assert reader.read_new().conversations == set(), "twice in a second, the store is not asked"
    reader._read_at = float("-inf")
    found = reader.read_new()
    assert not found.conversations
    assert found.is_complete
    assert writer.read_new().conversations == set()


def test_damaged_and_old_logs_do_no_harm(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    client, experiment = MlflowClient(uri), ensure_experiment(uri)
    for name, value in {"old": f"3 {time.time() - 90_000:.0f} x:c", "bad": "many", "worse": "1 2 x"}.items():
        client.set_experiment_tag(experiment, f"phi3_ui.changes.{name}", value)

    assert ChangeLog(locate_in(uri)).read_new().conversations == set()

    assert "phi3_ui.changes.bad is damaged" in caplog.text
    left = {key.rpartition(".")[2] for key in client.get_experiment(experiment).tags if "changes" in key}
    assert left == {"bad", "worse"}
