"""Concurrent threads on the recorder, the journal and the index."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phi3_ui.chat.conversation import Conversation, new_id
from phi3_ui.store.conversations import journal as journal_module
from phi3_ui.store.conversations.index import ConversationIndex
from phi3_ui.store.conversations.journal import Journal
from phi3_ui.store.conversations.operations import ConversationDeletion, Step, TagChange
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.trace_writer import TraceWriter
from phi3_ui.store.conversations.traces import build_trace_info
from tests.store.conversations.chats import ME, ask, make_answer, make_conversation, make_record
from tests.store.conversations.recording import TIMEOUT, list_traces, record_turn


def test_a_deletion_in_progress_cannot_be_cancelled(
    uri: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation_id = new_id()
    record_turn(recorder, conversation_id, make_conversation())
    assert recorder.flush(TIMEOUT)
    started, may_continue = threading.Event(), threading.Event()
    write = TraceWriter.write

    def slow_write(self: TraceWriter, operation: Step) -> None:
        started.set()
        assert may_continue.wait(TIMEOUT)
        write(self, operation)

    monkeypatch.setattr(TraceWriter, "write", slow_write)
    recorder.submit(ConversationDeletion(ME, conversation_id, time.time()))
    assert started.wait(TIMEOUT)

    assert not recorder.cancel_deletion(ME, conversation_id)
    may_continue.set()
    assert recorder.flush(TIMEOUT)
    assert list_traces(uri) == []


def test_a_deletion_cancelled_while_another_is_written_is_not_carried_out(
    uri: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = new_id(), new_id()
    for conversation_id in (first, second):
        record_turn(recorder, conversation_id, make_conversation())
    assert recorder.flush(TIMEOUT)
    started, may_continue = threading.Event(), threading.Event()
    write = TraceWriter.write

    def slow_write(self: TraceWriter, operation: Step) -> None:
        started.set()
        assert may_continue.wait(TIMEOUT)
        write(self, operation)

    monkeypatch.setattr(TraceWriter, "write", slow_write)
    due_at = time.time()
    recorder.submit(ConversationDeletion(ME, first, due_at), ConversationDeletion(ME, second, due_at))
    assert started.wait(TIMEOUT)

    assert recorder.cancel_deletion(ME, second)
    may_continue.set()
    assert recorder.flush(TIMEOUT)
    assert len(list_traces(uri)) == 1


def test_a_deletion_waits_for_a_turn_in_progress(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), ask(Conversation(), "Hi")
    draft = recorder.start_turn(make_record(conversation_id, conversation))
    recorder.submit(ConversationDeletion(ME, conversation_id, time.time()))
    assert recorder.flush(TIMEOUT)
    assert len(recorder.list_pending(ME)) == 1

    recorder.finish_turn(draft, make_record(conversation_id, conversation.with_answer(make_answer("Hello"))))

    assert recorder.flush(TIMEOUT)
    assert recorder.list_pending(ME) == []
    assert list_traces(uri) == []


def test_an_operation_removed_while_it_is_added_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, 1_000_000)
    writing, may_continue = threading.Event(), threading.Event()
    write = journal_module._write_atomically

    def slow_write(file: Path, content: bytes) -> None:
        writing.set()
        assert may_continue.wait(TIMEOUT)
        write(file, content)

    monkeypatch.setattr(journal_module, "_write_atomically", slow_write)
    with ThreadPoolExecutor() as threads:
        future = threads.submit(journal.add, TagChange(ME, new_id(), new_id(), "key", "value"))
        assert writing.wait(TIMEOUT)
        for pending, _ in journal.list_pending():
            journal.remove(pending)
        may_continue.set()
        number = future.result(TIMEOUT)
    assert number is not None
    journal.remove(number)

    assert not list(tmp_path.rglob("*.json"))
    journal.close()


def test_operations_added_by_many_threads_are_all_pending_and_on_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1_000_000)
    changes = [TagChange(ME, new_id(), new_id(), "key", str(number)) for number in range(100)]
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(journal.add, changes))

    assert sorted(filter(None, numbers)) == list(range(1, 101))
    assert {tag.value for _, tag in journal.list_pending() if isinstance(tag, TagChange)} == {
        str(index) for index in range(100)
    }
    assert len(list(tmp_path.rglob("*.json"))) == 100
    journal.close()


def _repeat(action: Callable[[], object], stop: threading.Event) -> None:
    while not stop.is_set():
        action()


def test_an_index_is_read_while_it_changes() -> None:
    index, stop = ConversationIndex(), threading.Event()
    with ThreadPoolExecutor() as threads:
        readers = [
            threads.submit(_repeat, lambda: index.list_conversations(["hi"]), stop),
            threads.submit(_repeat, index.list_turn_metrics, stop),
        ]
        for number in range(300):
            conversation_id, conversation = f"c{number % 20}", make_conversation()
            record = make_record(conversation_id, conversation)
            index.apply(record)
            index.add_trace(build_trace_info(record, "1"))
            if number % 7 == 0:
                index.apply(ConversationDeletion(ME, conversation_id, 0.0))
                index.restore(conversation_id)
        stop.set()
        for reader in readers:
            reader.result(TIMEOUT)
    assert len(index.list_turn_metrics()) == 300


def test_two_concurrent_deletions_can_be_undone() -> None:
    index = ConversationIndex()
    index.apply(make_record("c", make_conversation()))
    index.apply(ConversationDeletion(ME, "c", 0.0))
    index.apply(ConversationDeletion(ME, "c", 0.0))

    index.restore("c")

    assert [summary.title for summary in index.list_conversations([])] == ["Hi"]


def test_only_one_thread_at_a_time_refreshes_an_index() -> None:
    index = ConversationIndex()
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda _: index.start_refresh(0.0), range(50)))
    assert [claim for claim in claims if claim] == ["load"]

    index.set_loaded()
    index.finish_refresh()
    assert index.start_refresh(60.0) is None
    assert index.start_refresh(-1.0) == "update"
