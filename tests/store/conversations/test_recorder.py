"""Turns that become traces: what MLflow then shows of them, each once, whatever goes wrong on the way."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Trace

from phi3_ui.chat.conversation import Conversation, Feedback, new_id
from phi3_ui.paths import ROOT
from phi3_ui.store.conversations import recorder as recorder_module
from phi3_ui.store.conversations.operations import ConversationDeletion, TagChange
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.trace_reader import parse_turn
from phi3_ui.store.conversations.traces import SESSION_KEY
from tests.store.conversations.chats import ME, MODEL, answer, ask, record, unanswered
from tests.support.build_cache import create_store

_LIMIT = 30.0


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return create_store(tmp_path)


@pytest.fixture
def recorder(uri: str, tmp_path: Path) -> Iterator[Recorder]:
    made = new_recorder(uri, tmp_path)
    yield made
    made.close()


def new_recorder(uri: str, folder: Path, limit: int = recorder_module.JOURNAL_LIMIT) -> Recorder:
    return Recorder(uri, lambda: experiment(uri), folder / "journal", limit)


def experiment(uri: str) -> str:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("chats")
    return found.experiment_id if found else client.create_experiment("chats", artifact_location="file:///nowhere")


def stored(uri: str) -> list[Trace]:
    return list(MlflowClient(uri).search_traces(locations=[experiment(uri)], max_results=500))


def say(recorder: Recorder, conversation: str, talk: Conversation) -> None:
    """Record the last turn shown as the app does."""
    draft = recorder.start_turn(replace(record(conversation, talk), turn=unanswered(talk)))
    recorder.finish_turn(draft, record(conversation, talk))


def test_a_turn_is_a_trace_with_all_that_mlflow_knows_of_chats(uri: str, recorder: Recorder) -> None:
    conversation, talk = new_id(), ask(Conversation(), "Cine ești?", time.time() - 2, temperature=0.5)
    talk = talk.with_answer(answer("Sunt un model 🌊.", load_seconds=0.4))

    say(recorder, conversation, talk)
    assert recorder.flush(_LIMIT)

    (trace,) = stored(uri)
    info, root = trace.info, trace.data.spans[0]
    assert info.trace_id == f"tr-{talk.turns[0].id}"
    assert info.state.value == "OK"
    assert info.trace_metadata["mlflow.trace.session"] == conversation
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
    assert parse_turn(trace) == talk.turns[0]
    assert MlflowClient(uri).search_traces(locations=[experiment(uri)], model_id=MODEL)


@pytest.mark.parametrize("reason", ["length", "cancelled", "timeout"])
def test_an_answer_that_was_cut_short_is_kept_with_its_reason(uri: str, recorder: Recorder, reason: str) -> None:
    talk = ask(Conversation(), "Hi").with_answer(answer("Once up", finish_reason=reason))

    say(recorder, new_id(), talk)
    assert recorder.flush(_LIMIT)

    (trace,) = stored(uri)
    assert trace.info.state.value == "OK"
    assert trace.data.spans[0].outputs["choices"][0]["finish_reason"] == reason
    assert parse_turn(trace) == talk.turns[0]


def test_a_failed_answer_is_an_error_in_mlflow_with_what_it_wrote(uri: str, recorder: Recorder) -> None:
    failed = answer("Once", error=("model_crashed", {"model": "m", "detail": "x"}), finish_reason=None, usage=None)
    talk = ask(Conversation(), "Hi").with_answer(failed)

    say(recorder, new_id(), talk)
    assert recorder.flush(_LIMIT)

    (trace,) = stored(uri)
    assert trace.info.state.value == "ERROR"
    assert trace.data.spans[0].status.description == "model_crashed"
    assert parse_turn(trace) == talk.turns[0]


def test_a_turn_written_twice_is_one_trace(uri: str, recorder: Recorder) -> None:
    conversation, talk = new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello", load_seconds=0.1))

    for _ in range(3):
        recorder.submit(record(conversation, talk))
        assert recorder.flush(_LIMIT)

    (trace,) = stored(uri)
    assert len(trace.data.spans) == 2
    assert trace.info.token_usage["total_tokens"] == 52


def test_feedback_is_an_assessment_that_changes_and_goes(uri: str, recorder: Recorder) -> None:
    conversation, talk = new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello"))
    say(recorder, conversation, talk)
    turn = talk.turns[0].id

    def assessments() -> list[tuple[str, object, str | None, str]]:
        assert recorder.flush(_LIMIT)
        return [
            (one.name, one.feedback.value, one.rationale, one.source.source_id)
            for one in stored(uri)[0].info.assessments
        ]

    recorder.set_feedback(ME, conversation, turn, Feedback(True))
    assert assessments() == [("user_feedback", True, "", ME)]
    recorder.set_feedback(ME, conversation, turn, Feedback(False, "It is wrong."))
    assert assessments() == [("user_feedback", False, "It is wrong.", ME)]
    assert parse_turn(stored(uri)[0]) == replace(talk.turns[0], feedback=Feedback(False, "It is wrong."))
    recorder.set_feedback(ME, conversation, turn, Feedback(True, ""))
    assert recorder.flush(_LIMIT)
    assert parse_turn(stored(uri)[0]).feedback == Feedback(True)
    recorder.set_feedback(ME, conversation, turn, None)
    assert assessments() == []


def test_what_is_said_of_a_turn_under_way_waits_for_its_end(uri: str, recorder: Recorder) -> None:
    conversation, talk = new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello"))
    draft = recorder.start_turn(replace(record(conversation, talk), turn=unanswered(talk)))

    recorder.submit(TagChange(ME, conversation, talk.turns[0].id, "phi3_ui.title", "A name"))
    assert recorder.flush(_LIMIT)
    assert stored(uri) == []
    recorder.finish_turn(draft, record(conversation, talk))

    assert recorder.flush(_LIMIT)
    assert stored(uri)[0].info.tags["phi3_ui.title"] == "A name"
    assert recorder.warning is None


def test_what_is_said_of_a_turn_that_is_gone_is_forgotten(uri: str, recorder: Recorder) -> None:
    recorder.submit(TagChange(ME, new_id(), new_id(), "phi3_ui.title", "x"))
    recorder.set_feedback(ME, new_id(), new_id(), Feedback(True))

    assert recorder.flush(_LIMIT)
    assert recorder.warning is None
    assert recorder.list_pending(ME) == []


def test_a_deleted_conversation_leaves_nothing_in_the_store(uri: str, recorder: Recorder, tmp_path: Path) -> None:
    gone, stays = new_id(), new_id()
    for conversation in (gone, stays):
        talk = ask(Conversation(), "Hi secret").with_answer(answer("Hello", load_seconds=0.1))
        say(recorder, conversation, talk)
        recorder.set_feedback(ME, conversation, talk.turns[0].id, Feedback(True))

    recorder.submit(ConversationDeletion(ME, gone, time.time()))
    assert recorder.flush(_LIMIT)

    assert [trace.info.trace_metadata[SESSION_KEY] for trace in stored(uri)] == [stays]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        for table in ("trace_info", "spans", "assessments"):
            key = "request_id" if table == "trace_info" else "trace_id"
            assert database.execute(f"SELECT COUNT(DISTINCT {key}) FROM {table}").fetchone() == (1,), table


def test_somebody_else_deletes_nothing_of_mine(uri: str, recorder: Recorder) -> None:
    conversation, talk = new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello"))
    say(recorder, conversation, talk)

    recorder.submit(ConversationDeletion("visitor-other", conversation, time.time()))
    assert recorder.flush(_LIMIT)

    assert len(stored(uri)) == 1


def test_a_deletion_waits_and_can_be_taken_back(uri: str, recorder: Recorder) -> None:
    conversation, talk = new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello"))
    say(recorder, conversation, talk)
    recorder.submit(ConversationDeletion(ME, conversation, time.time() + 3600))
    assert recorder.flush(_LIMIT)

    assert not recorder.cancel_deletion("visitor-other", conversation)
    assert recorder.cancel_deletion(ME, conversation)
    assert not recorder.cancel_deletion(ME, conversation)
    assert len(stored(uri)) == 1


def test_what_comes_just_before_the_end_is_written_too(uri: str, tmp_path: Path) -> None:
    for number in range(10):
        recorder = new_recorder(uri, tmp_path)
        say(recorder, new_id(), ask(Conversation(), "first").with_answer(answer("Hello")))
        time.sleep(0.005 * number)
        say(recorder, new_id(), ask(Conversation(), "second").with_answer(answer("Hello")))
        recorder.close(_LIMIT)
        assert len(stored(uri)) == 2 * (number + 1)


def test_a_deletion_that_waits_is_carried_out_when_the_app_ends(uri: str, tmp_path: Path) -> None:
    recorder = new_recorder(uri, tmp_path)
    conversation, talk = new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello"))
    say(recorder, conversation, talk)
    recorder.submit(ConversationDeletion(ME, conversation, time.time() + 3600))

    recorder.close(_LIMIT)

    assert stored(uri) == []
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_locked_store_is_waited_for_and_the_warning_goes_with_the_lock(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_LAST", 0.5)
    recorder = new_recorder(uri, tmp_path)
    try:
        first = ask(Conversation(), "Hi").with_answer(answer("Hello"))
        say(recorder, new_id(), first)
        assert recorder.flush(_LIMIT)
        assert recorder.warning is None
        locked = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
        locked.execute("BEGIN EXCLUSIVE")
        started = time.perf_counter()
        second = ask(Conversation(), "Again").with_answer(answer("Hello again"))
        say(recorder, new_id(), second)
        assert time.perf_counter() - started < 2, "the chat waits for nobody"

        _wait(lambda: recorder.warning is not None)
        assert recorder.warning is not None
        assert recorder.warning.code == "not_recorded"
        locked.rollback()
        locked.close()

        assert recorder.flush(60)
        _wait(lambda: recorder.warning is None)
        assert {trace.info.request_preview for trace in stored(uri)} == {"Hi", "Again"}
    finally:
        recorder.close()


def test_what_an_ended_process_left_is_written_by_the_next(uri: str, tmp_path: Path) -> None:
    program = """
import sys, time, os, signal
from pathlib import Path
import tests.store.conversations.test_recorder as t
from phi3_ui.chat.conversation import Conversation
from phi3_ui.store.conversations import recorder as recorder_module
uri, folder = sys.argv[1:]
recorder_module.Recorder._run = lambda self: None  # it gets no time to write
recorder = t.new_recorder(uri, Path(folder))
done = t.ask(Conversation(), "finished").with_answer(t.answer("whole"))
t.say(recorder, "c" * 32, done)
begun = t.ask(Conversation(), "in the middle")
draft = recorder.start_turn(t.record("d" * 32, begun))
draft._next_write_at = 0.0
draft.append_text("Once up")
draft.append_text("on a time")
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, uri, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "ready\n", done.stderr

    recorder = new_recorder(uri, tmp_path)
    assert recorder.flush(_LIMIT)
    recorder.close()

    found = {trace.info.request_preview: parse_turn(trace).answer for trace in stored(uri)}
    assert found["finished"] == answer("whole")
    assert found["in the middle"].text.startswith("Once up")
    assert found["in the middle"].error == ("interrupted", {})
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_process_that_runs_keeps_its_journal_to_itself(uri: str, tmp_path: Path) -> None:
    one = new_recorder(uri, tmp_path)
    one.submit(ConversationDeletion(ME, new_id(), time.time() + 3600))

    other = new_recorder(uri, tmp_path)

    assert other.recovered == []
    assert len(one.list_pending(ME)) == 1
    one.close()
    other.close()


def test_a_journal_that_cannot_be_written_holds_it_in_memory(uri: str, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be", encoding="utf-8")
    recorder = new_recorder(uri, tmp_path)

    say(recorder, new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello")))

    assert recorder.flush(_LIMIT)
    assert len(stored(uri)) == 1
    assert recorder.warning is not None
    assert recorder.warning.code == "not_journaled"
    (tmp_path / "journal").unlink()
    _wait(lambda: recorder.warning is None)
    recorder.close()


def test_only_so_much_waits(uri: str, tmp_path: Path) -> None:
    recorder = new_recorder(uri, tmp_path, limit=3000)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        for _ in range(8):
            say(recorder, new_id(), ask(Conversation(), "Hi").with_answer(answer("Hello" * 20)))
        assert 1 <= len(recorder.list_pending(ME)) < 8
        assert recorder.warning is not None
        locked.rollback()
    assert recorder.flush(60)
    recorder.close()


def test_what_the_store_refuses_for_itself_does_not_hold_up_the_rest(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_FIRST", 0.05)
    monkeypatch.setattr(recorder_module, "_RETRY_LAST", 0.05)
    recorder = new_recorder(uri, tmp_path)
    bad, good = new_id(), new_id()
    talk = ask(Conversation(), "Hi").with_answer(answer("Hello"))
    say(recorder, bad, talk)

    assert recorder.flush(_LIMIT)
    recorder.submit(
        TagChange(ME, bad, talk.turns[0].id, "k" * 3000, "v"), TagChange(ME, bad, talk.turns[0].id, "after", "v")
    )
    say(recorder, good, ask(Conversation(), "Hi").with_answer(answer("Hello")))

    assert recorder.flush(_LIMIT)
    assert len(stored(uri)) == 2
    assert any(trace.info.tags.get("after") == "v" for trace in stored(uri))
    assert any("does not take mark" in entry.message for entry in caplog.records)
    assert len(list((tmp_path / "journal").glob("*.refused"))) == 1
    recorder.close()


def test_people_write_at_once_and_each_turn_is_there(uri: str, recorder: Recorder) -> None:
    def chat(person: int) -> None:
        conversation, talk = new_id(), Conversation()
        for number in range(5):
            talk = ask(talk, f"{person} {number}").with_answer(answer("Hello"))
            say(recorder, conversation, talk)

    people = [threading.Thread(target=chat, args=(person,)) for person in range(4)]
    for person in people:
        person.start()
    for person in people:
        person.join()

    assert recorder.flush(60)
    assert len(stored(uri)) == 20


def _wait(ready: object) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)
