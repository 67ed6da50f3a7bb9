"""Recording while the store or the journal fails, and recovery after a killed process."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from phi3_ui.chat.conversation import new_id
from phi3_ui.paths import ROOT
from phi3_ui.store.conversations import recorder as recorder_module
from phi3_ui.store.conversations.operations import ConversationDeletion, TagChange
from phi3_ui.store.conversations.recorder import Recorder
from tests.store.conversations.chats import (
    ME,
    make_answer,
    make_conversation,
)
from tests.store.conversations.recording import (
    TIMEOUT,
    create_recorder,
    list_traces,
    read_turn,
    record_turn,
    wait_until,
)


def _warning_code(recorder: Recorder) -> str | None:
    return recorder.warning.code if recorder.warning else None


@pytest.fixture
def short_lock_timeout() -> Iterator[None]:
    """SQLite waits 0.2 s for a lock, instead of MLflow's 20 s."""

    def shorten(*arguments: Any) -> tuple[str, Any]:
        _, _, statement, parameters, *_ = arguments
        return statement.replace("busy_timeout = 20000", "busy_timeout = 200"), parameters

    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


@pytest.mark.usefixtures("short_lock_timeout")
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
    assert any("refuses the mark" in entry.message for entry in caplog.records)
    assert len(list((tmp_path / "journal").glob("*.refused"))) == 1
    recorder.close()
