"""Recording turns as traces: MLflow's view of them, exactly one trace per turn, and recovery from failures."""

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from phi3_ui.chat.conversation import Conversation, Feedback, new_id
from phi3_ui.chat.types import FinishReason
from phi3_ui.paths import ROOT
from phi3_ui.store.conversations import recorder as recorder_module
from phi3_ui.store.conversations.operations import ConversationDeletion, TagChange
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.traces import SESSION_KEY
from tests.store.conversations.chats import (
    ME,
    MODEL,
    ask,
    last_turn_without_answer,
    make_answer,
    make_conversation,
    make_record,
)
from tests.store.conversations.recording import (
    TIMEOUT,
    create_recorder,
    ensure_experiment,
    list_traces,
    read_turn,
    record_turn,
    wait_until,
)


def _warning_code(recorder: Recorder) -> str | None:
    return recorder.warning.code if recorder.warning else None


def test_a_turn_becomes_a_trace_in_mlflows_chat_format(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), ask(Conversation(), "Cine ești?", time.time() - 2, temperature=0.5)
    conversation = conversation.with_answer(make_answer("Sunt un model 🌊.", load_seconds=0.4))

    record_turn(recorder, conversation_id, conversation)
    assert recorder.flush(TIMEOUT)

    (trace,) = list_traces(uri)
    info, root = trace.info, trace.data.spans[0]
    assert info.trace_id == f"tr-{conversation.turns[0].id}"
    assert info.state.value == "OK"
    assert info.trace_metadata["mlflow.trace.session"] == conversation_id
    assert info.trace_metadata["mlflow.trace.user"] == ME
    assert info.trace_metadata["mlflow.modelId"] == MODEL
    assert info.token_usage == {
        "input_tokens": 40,
        "output_tokens": 12,
        "total_tokens": 52,
        "cache_read_input_tokens": 30,
    }
    assert info.request_preview == "Cine ești?"
    assert info.response_preview == "Sunt un model 🌊."
    assert root.span_type == "CHAT_MODEL"
    assert root.inputs == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Cine ești?"}],
        "temperature": 0.5,
        "seed": 7,
    }
    assert root.outputs["choices"][0]["message"] == {"role": "assistant", "content": "Sunt un model 🌊."}
    assert root.outputs["choices"][0]["finish_reason"] == "stop"
    assert root.attributes["phi3_ui.time_to_first_token"] == 0.25
    assert root.attributes["phi3_ui.tokens_per_second"] == 60.0
    assert root.attributes["phi3_ui.cached_tokens"] == 30
    assert root.attributes["phi3_ui.version"] == "0.1.0"
    load = trace.data.spans[1]
    assert (load.name, load.parent_id) == ("load model", root.span_id)
    assert (load.end_time_ns - load.start_time_ns) / 1e9 == pytest.approx(0.4, abs=0.01)
    assert read_turn(trace) == conversation.turns[0]
    assert MlflowClient(uri).search_traces(locations=[ensure_experiment(uri)], model_id=MODEL)


@pytest.mark.parametrize("reason", ["length", "cancelled", "timeout"])
def test_an_incomplete_answer_is_recorded_with_its_finish_reason(
    uri: str, recorder: Recorder, reason: FinishReason
) -> None:
    conversation = ask(Conversation(), "Hi").with_answer(make_answer("Once up", finish_reason=reason))

    record_turn(recorder, new_id(), conversation)
    assert recorder.flush(TIMEOUT)

    (trace,) = list_traces(uri)
    assert trace.info.state.value == "OK"
    assert trace.data.spans[0].outputs["choices"][0]["finish_reason"] == reason
    assert read_turn(trace) == conversation.turns[0]


def test_a_failed_answer_is_recorded_as_an_error_with_its_partial_text(uri: str, recorder: Recorder) -> None:
    failed = make_answer("Once", error=("model_crashed", {"model": "m", "detail": "x"}), finish_reason=None, usage=None)
    conversation = ask(Conversation(), "Hi").with_answer(failed)

    record_turn(recorder, new_id(), conversation)
    assert recorder.flush(TIMEOUT)

    (trace,) = list_traces(uri)
    assert trace.info.state.value == "ERROR"
    assert trace.data.spans[0].status.description == "model_crashed"
    assert read_turn(trace) == conversation.turns[0]


def test_writing_a_turn_again_is_idempotent(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = (
        new_id(),
        ask(Conversation(), "Hi").with_answer(make_answer("Hello", load_seconds=0.1)),
    )

    for _ in range(3):
        recorder.submit(make_record(conversation_id, conversation))
        assert recorder.flush(TIMEOUT)

    (trace,) = list_traces(uri)
    assert len(trace.data.spans) == 2
    assert trace.info.token_usage["total_tokens"] == 52


def test_feedback_is_an_assessment_that_can_be_changed_and_removed(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), make_conversation()
    record_turn(recorder, conversation_id, conversation)
    turn_id = conversation.turns[0].id

    def assessments() -> list[tuple[str, object, str | None, str]]:
        assert recorder.flush(TIMEOUT)
        return [
            (found.name, found.feedback.value, found.rationale, found.source.source_id)
            for found in list_traces(uri)[0].info.assessments
        ]

    recorder.set_feedback(ME, conversation_id, turn_id, Feedback(True))
    assert assessments() == [("user_feedback", True, "", ME)]
    recorder.set_feedback(ME, conversation_id, turn_id, Feedback(False, "It is wrong."))
    assert assessments() == [("user_feedback", False, "It is wrong.", ME)]
    assert read_turn(list_traces(uri)[0]) == replace(conversation.turns[0], feedback=Feedback(False, "It is wrong."))
    recorder.set_feedback(ME, conversation_id, turn_id, Feedback(True, ""))
    assert recorder.flush(TIMEOUT)
    assert read_turn(list_traces(uri)[0]).feedback == Feedback(True)
    recorder.set_feedback(ME, conversation_id, turn_id, None)
    assert assessments() == []


def test_changes_to_a_turn_in_progress_wait_until_it_is_finished(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), make_conversation()
    draft = recorder.start_turn(
        replace(make_record(conversation_id, conversation), turn=last_turn_without_answer(conversation))
    )

    recorder.submit(TagChange(ME, conversation_id, conversation.turns[0].id, "phi3_ui.title", "A name"))
    assert recorder.flush(TIMEOUT)
    assert list_traces(uri) == []
    recorder.finish_turn(draft, make_record(conversation_id, conversation))

    assert recorder.flush(TIMEOUT)
    assert list_traces(uri)[0].info.tags["phi3_ui.title"] == "A name"
    assert recorder.warning is None


def test_changes_to_a_turn_that_does_not_exist_are_dropped(uri: str, recorder: Recorder) -> None:
    recorder.submit(TagChange(ME, new_id(), new_id(), "phi3_ui.title", "x"))
    recorder.set_feedback(ME, new_id(), new_id(), Feedback(True))

    assert recorder.flush(TIMEOUT)
    assert recorder.warning is None
    assert recorder.list_pending(ME) == []


def test_a_deletion_removes_every_row_of_a_conversation(uri: str, recorder: Recorder, tmp_path: Path) -> None:
    deleted, kept = new_id(), new_id()
    for conversation_id in (deleted, kept):
        conversation = ask(Conversation(), "Hi secret").with_answer(make_answer("Hello", load_seconds=0.1))
        record_turn(recorder, conversation_id, conversation)
        recorder.set_feedback(ME, conversation_id, conversation.turns[0].id, Feedback(True))

    recorder.submit(ConversationDeletion(ME, deleted, time.time()))
    assert recorder.flush(TIMEOUT)

    assert [trace.info.trace_metadata[SESSION_KEY] for trace in list_traces(uri)] == [kept]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        for table in ("trace_info", "spans", "assessments"):
            key = "request_id" if table == "trace_info" else "trace_id"
            assert database.execute(f"SELECT COUNT(DISTINCT {key}) FROM {table}").fetchone() == (1,), table


def test_a_visitor_cannot_delete_another_visitors_conversation(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), make_conversation()
    record_turn(recorder, conversation_id, conversation)

    recorder.submit(ConversationDeletion("visitor-other", conversation_id, time.time()))
    assert recorder.flush(TIMEOUT)

    assert len(list_traces(uri)) == 1


def test_a_deletion_can_be_cancelled_until_it_is_due(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), make_conversation()
    record_turn(recorder, conversation_id, conversation)
    recorder.submit(ConversationDeletion(ME, conversation_id, time.time() + 3600))
    assert recorder.flush(TIMEOUT)

    assert not recorder.cancel_deletion("visitor-other", conversation_id)
    assert recorder.cancel_deletion(ME, conversation_id)
    assert not recorder.cancel_deletion(ME, conversation_id)
    assert len(list_traces(uri)) == 1


def test_turns_submitted_just_before_close_are_written(uri: str, tmp_path: Path) -> None:
    for number in range(10):
        recorder = create_recorder(uri, tmp_path)
        record_turn(recorder, new_id(), make_conversation("first", "Hello"))
        time.sleep(0.005 * number)
        record_turn(recorder, new_id(), make_conversation("second", "Hello"))
        recorder.close(TIMEOUT)
        assert len(list_traces(uri)) == 2 * (number + 1)


def test_pending_deletions_are_carried_out_on_close(uri: str, tmp_path: Path) -> None:
    recorder = create_recorder(uri, tmp_path)
    conversation_id, conversation = new_id(), make_conversation()
    record_turn(recorder, conversation_id, conversation)
    recorder.submit(ConversationDeletion(ME, conversation_id, time.time() + 3600))

    recorder.close(TIMEOUT)

    assert list_traces(uri) == []
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_locked_store_is_retried_with_a_warning_until_it_is_unlocked(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_LAST", 0.5)
    recorder = create_recorder(uri, tmp_path)
    try:
        record_turn(recorder, new_id(), make_conversation())
        assert recorder.flush(TIMEOUT)
        assert _warning_code(recorder) is None
        locked = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
        locked.execute("BEGIN EXCLUSIVE")
        started = time.perf_counter()
        record_turn(recorder, new_id(), make_conversation("Again", "Hello again"))
        assert time.perf_counter() - started < 2, "recording must not block the chat"

        wait_until(lambda: _warning_code(recorder) == "not_recorded")
        locked.rollback()
        locked.close()

        assert recorder.flush(60)
        wait_until(lambda: recorder.warning is None)
        assert {trace.info.request_preview for trace in list_traces(uri)} == {"Hi", "Again"}
    finally:
        recorder.close()


_KILLED_BEFORE_WRITING = """
import os, signal, sys
from pathlib import Path
from phi3_ui.chat.conversation import Conversation
from phi3_ui.store.conversations.recorder import Recorder
from tests.store.conversations.chats import ask, make_conversation, make_record
from tests.store.conversations.recording import create_recorder, record_turn

uri, folder = sys.argv[1:]
Recorder._run = lambda self: None  # nothing reaches the store
recorder = create_recorder(uri, Path(folder))
record_turn(recorder, "c" * 32, make_conversation("finished", "complete"))
draft = recorder.start_turn(make_record("d" * 32, ask(Conversation(), "in progress")))
draft._next_write_at = 0.0
draft.append_text("Once up")
draft.append_text("on a time")
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_journal_of_a_killed_process_is_recovered_by_the_next_one(uri: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED_BEFORE_WRITING, uri, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.stdout == "ready\n", killed.stderr

    recorder = create_recorder(uri, tmp_path)
    assert recorder.flush(TIMEOUT)
    recorder.close()

    answers = {trace.info.request_preview: read_turn(trace).answer for trace in list_traces(uri)}
    assert answers["finished"] == make_answer("complete")
    interrupted = answers["in progress"]
    assert interrupted
    assert interrupted.text.startswith("Once up")
    assert interrupted.error == ("interrupted", {})
    assert list((tmp_path / "journal").iterdir()) == []


def test_the_journal_of_a_running_process_is_not_recovered_by_another(uri: str, tmp_path: Path) -> None:
    first = create_recorder(uri, tmp_path)
    first.submit(ConversationDeletion(ME, new_id(), time.time() + 3600))

    second = create_recorder(uri, tmp_path)

    assert second.recovered == []
    assert len(first.list_pending(ME)) == 1
    first.close()
    second.close()


def test_operations_are_kept_in_memory_if_the_journal_cannot_be_written(uri: str, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be", encoding="utf-8")
    recorder = create_recorder(uri, tmp_path)

    record_turn(recorder, new_id(), make_conversation())

    assert recorder.flush(TIMEOUT)
    assert len(list_traces(uri)) == 1
    assert _warning_code(recorder) == "not_journaled"
    (tmp_path / "journal").unlink()
    wait_until(lambda: recorder.warning is None)
    recorder.close()


def test_the_journal_is_limited_in_size(uri: str, tmp_path: Path) -> None:
    recorder = create_recorder(uri, tmp_path, journal_limit=3000)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        for _ in range(8):
            record_turn(recorder, new_id(), make_conversation("Hi", "Hello" * 20))
        assert 1 <= len(recorder.list_pending(ME)) < 8
        assert recorder.warning is not None
        locked.rollback()
    assert recorder.flush(60)
    recorder.close()


def test_an_operation_that_the_store_rejects_is_set_aside_and_does_not_block_others(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_FIRST", 0.05)
    monkeypatch.setattr(recorder_module, "_RETRY_LAST", 0.05)
    recorder = create_recorder(uri, tmp_path)
    conversation_id, conversation = new_id(), make_conversation()
    turn_id = conversation.turns[0].id
    record_turn(recorder, conversation_id, conversation)

    assert recorder.flush(TIMEOUT)
    recorder.submit(
        TagChange(ME, conversation_id, turn_id, "k" * 3000, "v"), TagChange(ME, conversation_id, turn_id, "after", "v")
    )
    record_turn(recorder, new_id(), make_conversation())

    assert recorder.flush(TIMEOUT)
    assert len(list_traces(uri)) == 2
    assert any(trace.info.tags.get("after") == "v" for trace in list_traces(uri))
    assert any("does not take mark" in entry.message for entry in caplog.records)
    assert len(list((tmp_path / "journal").glob("*.refused"))) == 1
    recorder.close()


def test_turns_of_concurrent_visitors_are_all_recorded(uri: str, recorder: Recorder) -> None:
    def chat(visitor: int) -> None:
        conversation_id, conversation = new_id(), Conversation()
        for number in range(5):
            conversation = ask(conversation, f"{visitor} {number}").with_answer(make_answer("Hello"))
            record_turn(recorder, conversation_id, conversation)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(chat, range(4)))

    assert recorder.flush(60)
    assert len(list_traces(uri)) == 20
