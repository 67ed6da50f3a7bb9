"""Recording turns as traces: MLflow's view of them, and exactly one trace per turn."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from phi3_ui.chat.conversation import Conversation, Feedback, new_id
from phi3_ui.chat.types import FinishReason
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
)


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
    assert load.end_time_ns is not None
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
    assert trace.info.token_usage is not None
    assert trace.info.token_usage["total_tokens"] == 52


def test_feedback_is_an_assessment_that_can_be_changed_and_removed(uri: str, recorder: Recorder) -> None:
    conversation_id, conversation = new_id(), make_conversation()
    record_turn(recorder, conversation_id, conversation)
    turn_id = conversation.turns[0].id

    def assessments() -> list[tuple[str, object, str | None, str | None]]:
        assert recorder.flush(TIMEOUT)
        return [
            (found.name, found.feedback and found.feedback.value, found.rationale, found.source.source_id)
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
