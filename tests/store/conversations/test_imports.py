"""Imports through the recorder: atomic, with the lowest priority, and with a journal that grows linearly."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phi3_ui.chat.conversation import Conversation, Feedback, new_id
from phi3_ui.errors import UserError
from phi3_ui.store.conversations import recorder as recorder_module
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    Step,
    TagChange,
    TurnRecord,
    serialize_operation,
)
from phi3_ui.store.conversations.traces import TITLE_TAG
from phi3_ui.store.conversations.turn_writer import ConversationStore, ImportedConversation
from tests.store.conversations.chats import ME, ask, make_answer, make_conversation, make_record
from tests.store.conversations.recording import TIMEOUT, create_recorder, list_traces, locate_in, read_turn
from tests.store.conversations.writing import Writer, make_long, open_store, replace_writer, wait_for

OTHER = "visitor-other"


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    return replace_writer(monkeypatch)


@pytest.fixture
def store(writer: Writer, tmp_path: Path) -> Iterator[ConversationStore]:
    store = open_store(tmp_path)
    yield store
    store.recorder.close()


def _import(store: ConversationStore, conversation: Conversation, title: str = "") -> ImportedConversation:
    imported = store.import_conversation(ME, conversation, title)
    assert imported
    return imported


def test_500_turns_are_stored_and_their_journal_is_little_larger_than_their_text(
    store: ConversationStore, writer: Writer, tmp_path: Path
) -> None:
    """Format 1 stored the whole chat with each turn: 125 MB for this one, of which 64 MB were written."""
    gate = threading.Event()
    writer.on_write = lambda _: wait_for(gate)
    sizes = dict[int, int]()
    for turns in (250, 500):
        conversation = make_long(turns)
        imported = _import(store, conversation, "A title")
        [text] = [file.read_text() for file in tmp_path.glob("journal/*/*.json") if imported.id in file.read_text()]
        sizes[turns] = len(text)
        assert len(json.loads(text)["turns"]) == turns
    gate.set()
    assert imported.ticket.wait(TIMEOUT).state == "stored"

    assert sizes[500] < 2.1 * sizes[250]
    assert sizes[500] < 3 * 500 * 1000
    assert set(writer.list_turns()) >= {turn.id for turn in imported.conversation.tree}
    titles = [step for step in writer.written if isinstance(step, TagChange) and step.key == TITLE_TAG]
    assert [title.value for title in titles if title.conversation_id == imported.id] == ["A title"]


def test_a_chat_of_500_turns_takes_as_much_journal_space_as_500_chats_of_one() -> None:
    def measure(turns: int) -> int:
        conversation, total = Conversation(), 0
        for number in range(turns):
            conversation = ask(conversation, f"{number} " + "q" * 500).with_answer(make_answer("a" * 500))
            total += len(serialize_operation(make_record("c", conversation)))
        return total

    assert measure(500) / 500 == pytest.approx(measure(1), rel=0.1)


def test_another_users_turn_is_written_between_two_turns_of_a_long_import(
    store: ConversationStore, writer: Writer
) -> None:
    first_written, may_continue = threading.Event(), threading.Event()

    def wait_at_first(_: Step) -> None:
        if not first_written.is_set():
            first_written.set()
            assert may_continue.wait(TIMEOUT)

    writer.on_write = wait_at_first
    imported = _import(store, make_long(10_000, 10))
    assert first_written.wait(TIMEOUT)
    other = make_record(new_id(), make_conversation(), OTHER)
    store.recorder.submit(other)
    second = _import(store, make_long(3, 10))  # alternates with the long one
    may_continue.set()

    assert second.ticket.wait(TIMEOUT).state == "stored"
    assert imported.ticket.wait(TIMEOUT).state == "stored"
    order = [step.turn.id for step in writer.written if isinstance(step, TurnRecord)]
    assert order.index(other.turn.id) <= 1
    assert order.index(second.conversation.tree[-1].id) <= 10
    assert [
        turn_id
        for turn_id in order
        if turn_id != other.turn.id and turn_id not in {turn.id for turn in second.conversation.tree}
    ] == [turn.id for turn in imported.conversation.tree]


def test_a_chat_that_the_store_rejects_is_deleted_again_and_reported(
    store: ConversationStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_FIRST", 0.01)
    monkeypatch.setattr(recorder_module, "_RETRY_LAST", 0.01)
    rejected = make_long(3, 10)

    def refuse(step: Step) -> None:
        if isinstance(step, TurnRecord) and step.turn.id == rejected.tree[2].id:
            raise ValueError("too long")

    writer.on_write = refuse
    imported, accepted = _import(store, rejected), _import(store, make_long(2, 10))

    assert imported.ticket.wait(TIMEOUT).state == "refused"
    assert accepted.ticket.wait(TIMEOUT).state == "stored"
    assert store.recorder.flush(TIMEOUT)
    deletions = [step.conversation_id for step in writer.written if isinstance(step, ConversationDeletion)]
    assert deletions == [imported.id]


def test_deleting_a_chat_ends_its_import_and_changes_to_it_wait_for_its_end(
    store: ConversationStore, writer: Writer
) -> None:
    reached, may_continue = threading.Event(), threading.Event()

    def wait_at_second(_: Step) -> None:
        if len(writer.written) == 1:
            reached.set()
            assert may_continue.wait(TIMEOUT)

    writer.on_write = wait_at_second
    imported, kept = _import(store, make_long(1000, 10)), _import(store, make_long(3, 10))
    assert reached.wait(TIMEOUT)
    rating = Feedback(True, "good")
    store.recorder.set_feedback(ME, kept.id, kept.conversation.tree[2].id, rating)
    store.delete_import(ME, imported.id)
    may_continue.set()

    assert imported.ticket.wait(TIMEOUT).state == "deleted"
    assert kept.ticket.wait(TIMEOUT).state == "stored"
    assert store.recorder.flush(TIMEOUT)
    assert len(writer.list_turns()) < 20
    changes = [step for step in writer.written if step.conversation_id == kept.id]
    assert changes[-1].kind == "rate"
    assert [summary.id for summary in store.history.list_conversations(ME)] == [kept.id]


def test_imports_wait_for_room_in_the_journal_and_leave_half_of_it_to_others(writer: Writer, tmp_path: Path) -> None:
    store = open_store(tmp_path, 200_000)
    gate = threading.Event()
    writer.on_write = lambda _: wait_for(gate)
    with ThreadPoolExecutor() as threads:
        imports = [threads.submit(_import, store, make_long(50)) for _ in range(4)]
        records = [make_record(new_id(), make_conversation("q" * 500), OTHER) for _ in range(20)]
        store.recorder.submit(*records)
        assert store.recorder.warning is None
        assert not all(future.done() for future in imports)
        gate.set()
        results = [future.result(TIMEOUT).ticket.wait(TIMEOUT) for future in imports]

    assert {result.state for result in results} == {"stored"}
    assert store.recorder.flush(TIMEOUT)
    assert len(writer.list_turns()) == 200
    assert set(writer.list_turns(OTHER)) == {record.turn.id for record in records}
    with pytest.raises(UserError) as refused:
        _import(store, make_long(200))
    assert refused.value.code == "import_chat_too_large"
    store.recorder.close()


def test_an_import_waiting_for_room_can_be_cancelled(writer: Writer, tmp_path: Path) -> None:
    store = open_store(tmp_path, 200_000)
    gate, cancelled = threading.Event(), threading.Event()
    writer.on_write = lambda _: wait_for(gate)
    first = _import(store, make_long(50))
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(store.import_conversation, ME, make_long(50), "", cancelled.is_set)
        cancelled.set()
        assert waiting.result(TIMEOUT) is None
    gate.set()
    assert first.ticket.wait(TIMEOUT).state == "stored"
    store.recorder.close()
    assert len(writer.list_turns()) == 50


def test_a_chat_that_cannot_be_journalled_is_not_reported_as_stored(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be", encoding="utf-8")
    store = open_store(tmp_path)
    with pytest.raises(UserError) as refused:
        _import(store, make_long(2, 10))
    assert refused.value.code == "import_not_kept"
    store.recorder.close()


def test_recovered_turns_get_the_messages_of_earlier_turns(uri: str, tmp_path: Path) -> None:
    """In the store and in the journal. The messages start after a turn that the store has lost."""
    conversation_id, conversation = new_id(), make_conversation("one", "1")
    recorder = create_recorder(uri, tmp_path)
    recorder.submit(make_record(conversation_id, conversation))
    assert recorder.flush(TIMEOUT)
    recorder.close()
    orphan = ask(ask(Conversation(), "lost").with_answer(make_answer("0")), "found").with_answer(make_answer("F"))
    old_journal = tmp_path / "journal" / "0123456789abcdef"
    old_journal.mkdir(parents=True)
    records = [make_record(new_id(), orphan)]
    for question, answer in (("two", "2"), ("three", "3")):
        conversation = ask(conversation, question).with_answer(make_answer(answer))
        records.append(make_record(conversation_id, conversation))
    for number, record in enumerate(records, 1):
        (old_journal / f"{number:012}.json").write_bytes(serialize_operation(record))

    recorder = create_recorder(uri, tmp_path)
    assert recorder.flush(TIMEOUT)
    recorder.close()

    sent = {
        read_turn(trace).question: [message["content"] for message in trace.data.spans[0].inputs["messages"]]
        for trace in list_traces(uri)
    }
    assert sent["three"] == ["Be brief.", "one", "1", "two", "2", "three"]
    assert sent["two"] == ["Be brief.", "one", "1", "two"]
    assert sent["found"] == ["Be brief.", "found"]


def test_an_import_of_an_ended_process_is_completed_by_the_next_one(uri: str, tmp_path: Path) -> None:
    conversation = make_long(5, 10)
    store = ConversationStore(recorder := create_recorder(uri, tmp_path), History(locate_in(uri), recorder), "0")
    recorder_stopped = threading.Event()
    recorder._writer.write = lambda _: recorder_stopped.wait(TIMEOUT) and 1 / 0  # type: ignore[method-assign,assignment]  # a killed process writes nothing
    imported = _import(store, conversation, "Mine")
    recorder._stopped = True
    recorder_stopped.set()
    recorder.close(0)

    recorder = create_recorder(uri, tmp_path)
    assert recorder.flush(TIMEOUT)
    history = History(locate_in(uri), recorder)
    assert history.wait_until_loaded(ME, TIMEOUT)
    assert [summary.title for summary in history.list_conversations(ME)] == ["Mine"]
    assert [turn.id for turn in history.load(ME, imported.id).turns] == [turn.id for turn in conversation.tree]
    recorder.close()
