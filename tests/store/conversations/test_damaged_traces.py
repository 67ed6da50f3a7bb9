"""Damaged traces, and those of other writers and earlier versions: none hides another or makes a page unusable."""

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import TraceInfo, TraceLocation
from mlflow.entities.trace_state import TraceState

from phi3_ui.chat.conversation import Conversation, Turn, new_id
from phi3_ui.chat.turn_json import serialize_turn
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.index import ConversationIndex
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.trace_reader import UnreadableTraceError, parse_turn
from phi3_ui.store.conversations.traces import (
    LEGACY_METRICS_KEY,
    MAX_METADATA_CHARS,
    METRIC_PREFIX,
    SESSION_KEY,
    TOKEN_USAGE_KEY,
    TURN_ATTRIBUTE,
    TURN_KEY,
    build_trace_info,
    trace_id_for,
)
from tests.store.conversations.chats import ME, ask, make_answer, make_conversation, make_record
from tests.store.conversations.recording import TIMEOUT, create_recorder, locate_in, wait_until
from tests.support.build_cache import create_store


class Store:
    """A store with two completely written conversations of two turns each."""

    def __init__(self, folder: Path) -> None:
        self.uri, self.database = create_store(folder), folder / "mlflow.db"
        self.recorder: Recorder = create_recorder(self.uri, folder)
        self.conversations: dict[str, Conversation] = {}
        for question in ("good", "bad"):
            conversation = Conversation()
            conversation_id = new_id()
            for number in range(2):
                conversation = ask(conversation, f"{question} {number}", time.time() - 100 + number).with_answer(
                    make_answer("Yes.")
                )
                self.recorder.submit(make_record(conversation_id, conversation))
            self.conversations[conversation_id] = conversation
        self.good, self.bad = self.conversations
        assert self.recorder.flush(TIMEOUT)

    def history(self) -> History:
        history = History(locate_in(self.uri), self.recorder)
        assert history.wait_until_loaded(ME, TIMEOUT)
        return history

    def execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0

    def set_metadata(self, turn: Turn, key: str, value: str) -> None:
        self.execute(
            "INSERT OR REPLACE INTO trace_request_metadata (request_id, key, value) VALUES (?, ?, ?)",
            trace_id_for(turn.id),
            key,
            value,
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.recorder.close()


def test_a_trace_with_damaged_metadata_is_skipped_counted_and_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    turn = store.conversations[store.bad].tree[1]
    store.execute("UPDATE trace_info SET timestamp_ms = ? WHERE request_id = ?", 2**60, trace_id_for(turn.id))

    history = store.history()

    assert {summary.id for summary in history.list_conversations(ME)} == {store.good, store.bad}
    assert len(history.list_turn_metrics(ME)) == 3
    assert history.count_unreadable(ME) == 1
    assert history.load(ME, store.good) == store.conversations[store.good]
    assert [entry for entry in caplog.records if trace_id_for(turn.id) in entry.getMessage()]


@pytest.mark.parametrize("value", ['{"model": "phi-3", "tokens_per_sec', "[]", "7", "", "{" * 5000])
def test_truncated_metrics_of_an_earlier_version_are_unknown_and_hide_nothing(store: Store, value: str) -> None:
    turn = store.conversations[store.bad].tree[0]
    store.execute("DELETE FROM trace_request_metadata WHERE key LIKE ?", f"{METRIC_PREFIX}%")
    store.set_metadata(turn, LEGACY_METRICS_KEY, value)

    history = store.history()

    assert {summary.id for summary in history.list_conversations(ME)} == {store.good, store.bad}
    by_turn = {metrics.turn_id: metrics for metrics in history.list_turn_metrics(ME)}
    assert by_turn[turn.id].tokens_per_second is None
    assert history.load(ME, store.bad) == store.conversations[store.bad]


def test_metrics_of_an_earlier_version_are_read(store: Store) -> None:
    turn = store.conversations[store.bad].tree[0]
    store.execute("DELETE FROM trace_request_metadata WHERE key LIKE ?", f"{METRIC_PREFIX}%")
    old = {
        "model": "phi-3",
        "finish_reason": "stop",
        "seconds": 2.0,
        "time_to_first_token": 0.5,
        "tokens_per_second": 9.0,
    }
    store.set_metadata(turn, LEGACY_METRICS_KEY, json.dumps(old))

    (metrics,) = (found for found in store.history().list_turn_metrics(ME) if found.turn_id == turn.id)

    assert (metrics.model, metrics.finish_reason) == ("phi-3", "stop")
    assert (metrics.time_to_first_token, metrics.tokens_per_second) == (0.5, 9.0)


def test_truncation_by_a_backend_corrupts_no_metric() -> None:
    conversation = make_conversation()
    written = build_trace_info(replace(make_record(new_id(), conversation), model_name="m" * 1000), "1")
    assert max(map(len, written.trace_metadata.values())) <= MAX_METADATA_CHARS

    index = ConversationIndex()
    index.add_trace(written)

    (metrics,) = index.list_turn_metrics()
    assert metrics.model == "m" * MAX_METADATA_CHARS
    assert (metrics.tokens_per_second, metrics.time_to_first_token, metrics.prompt_tokens) == (60.0, 0.25, 40)


@pytest.mark.parametrize("content", ["{", "[]", '{"attributes": {}}', '{"attributes": {"mlflow.traceRequestId": "x"}}'])
def test_a_trace_with_damaged_spans_loses_only_its_own_turn(store: Store, content: str) -> None:
    first, second = store.conversations[store.bad].tree
    store.execute("UPDATE spans SET content = ? WHERE trace_id = ?", content, trace_id_for(first.id))

    history = store.history()
    loaded = history.load(ME, store.bad)

    assert [turn.question for turn in loaded.turns] == [second.question]
    assert history.count_unreadable(ME, store.bad) == history.count_unreadable(ME) == 1
    assert history.count_unreadable(ME, store.good) == 0
    assert history.load(ME, store.good) == store.conversations[store.good]


def test_a_conversation_without_a_readable_turn_says_so(store: Store) -> None:
    for turn in store.conversations[store.bad].tree:
        store.execute("UPDATE spans SET content = ? WHERE trace_id = ?", "{", trace_id_for(turn.id))

    history = store.history()

    with pytest.raises(UserError) as unreadable:
        history.load(ME, store.bad)
    assert unreadable.value.code == "chat_unreadable"
    assert history.count_unreadable(ME) == 2


def test_an_unexpected_error_is_logged_and_the_next_request_tries_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("phi3_ui.store.conversations.history._MAX_AGE", 0.0)
    failures = iter([RuntimeError("out of luck")] * 2)
    load_index = History._load_index

    def fail_twice(self: History, visitor_id: str, index: ConversationIndex) -> None:
        for failure in failures:
            raise failure
        load_index(self, visitor_id, index)

    monkeypatch.setattr(History, "_load_index", fail_twice)
    history = History(locate_in(store.uri), store.recorder)

    wait_until(lambda: len(history.list_conversations(ME)) == 2)
    assert [entry for entry in caplog.records if entry.levelno == logging.ERROR and ME in entry.getMessage()]


_METADATA = st.dictionaries(
    st.sampled_from([TURN_KEY, SESSION_KEY, "phi3_ui.parent", LEGACY_METRICS_KEY, TOKEN_USAGE_KEY, "mlflow.modelId"])
    | st.sampled_from(["model", "finish_reason", "time_to_first_token", "tokens_per_second"]).map(
        METRIC_PREFIX.__add__
    ),
    st.text()
    | st.sampled_from(["c", "NaN", "-1", "1e999", "true", "null", "[[]]", '{"input_tokens": "x"}', '{"model": []}']),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(_METADATA, st.integers(), st.text() | st.none(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_a_trace_with_random_content_hides_no_other_conversation(
    metadata: dict[str, str], request_time: int, preview: str | None, tags: dict[str, str]
) -> None:
    index = ConversationIndex()
    index.add_trace(build_trace_info(make_record("good", make_conversation(asked_at=1000.0)), "1"))
    garbage = TraceInfo(
        trace_id="tr-garbage",
        trace_location=TraceLocation.from_experiment_id("1"),
        request_time=request_time,
        state=TraceState.OK,
        request_preview=preview,
        response_preview=preview,
        trace_metadata=metadata,
        tags={**tags, "phi3_ui.title": preview or ""},
    )

    with suppress(UnreadableTraceError):
        index.add_trace(garbage)

    summaries = {summary.id: summary for summary in index.list_conversations([])}
    assert summaries["good"].title == "Hi"
    for summary in summaries.values():
        datetime.fromtimestamp(summary.last_asked_at, UTC)
    for metrics in index.list_turn_metrics():
        numbers = (metrics.tokens_per_second, metrics.time_to_first_token, metrics.prompt_tokens)
        assert all(number is None or 0 <= number < float("inf") for number in numbers)
        json.dumps([metrics.model, metrics.finish_reason])


def test_a_chat_has_the_same_title_once_the_text_behind_a_preview_is_known() -> None:
    question = "File: a.csv\n```csv\n" + 400 * "1,2\n" + "```\n\nWhat is in it?"
    conversation = ask(Conversation(), question).with_answer(make_answer("Numbers."))
    info = build_trace_info(make_record("chat", conversation), "1")
    index = ConversationIndex()

    index.add_trace(info)
    index.add_trace(info, (question, "Numbers."))
    index.add_trace(info)

    assert [summary.title for summary in index.list_conversations([])] == ["What is in it?"]


def _trace(turn_id: str, stored: Any) -> Any:
    """Return a trace with `stored` in its span, and only the fields that parse_turn reads."""
    info = SimpleNamespace(trace_metadata={TURN_KEY: turn_id}, assessments=[])
    return SimpleNamespace(
        info=info, data=SimpleNamespace(spans=[SimpleNamespace(attributes={TURN_ATTRIBUTE: stored})])
    )


@given(_JSON)
def test_a_span_with_random_content_is_an_unreadable_trace(stored: Any) -> None:
    with pytest.raises(UnreadableTraceError):
        parse_turn(_trace(new_id(), stored))


@given(st.sampled_from(["id", "parent", "request", "asked", "answer", "question", "feedback"]), _JSON)
def test_a_turn_with_a_random_field_is_parsed_or_unreadable(name: str, value: Any) -> None:
    turn = make_conversation().turns[0]
    stored = {**json.loads(serialize_turn(turn)), name: value}
    with suppress(UnreadableTraceError):
        parsed = parse_turn(_trace(turn.id, stored))
        assert parsed
        assert parsed.id == turn.id


def test_a_turn_stored_by_version_0_1_0_is_parsed() -> None:
    turn_id = "0123456789abcdef0123456789abcdef"
    stored = {
        "question": "Hi",
        "answer": {
            "model": "phi-3 · ONNX",
            "text": "Hello",
            "usage": {"prompt_tokens": 40, "completion_tokens": 12, "cached_tokens": 30},
            "timings": {"time_to_first_token": 0.25, "seconds": 1.5, "tokens_per_second": 60.0},
            "finish_reason": "stop",
            "error": None,
            "context": {"prompt_tokens": 100, "limit": 200, "left_out": 2, "max_tokens": 50},
            "load_seconds": 0.5,
        },
        "id": turn_id,
        "parent": None,
        "asked": {
            "at": 1700000000.5,
            "model_id": "m-1",
            "system": "Be brief.",
            "params": {"max_tokens": 5, "temperature": 0.5, "stop": ["x"], "seed": 7},
            "template": None,
        },
        "feedback": None,
    }

    turn = parse_turn(_trace(turn_id, stored))

    assert turn
    assert (turn.question, turn.answer and turn.answer.text) == ("Hi", "Hello")
    assert turn.answer
    assert turn.answer.timings
    assert turn.answer.timings.tokens_per_second == 60.0
    assert turn.answer.context
    assert turn.answer.context.omitted_turns == 2
    assert turn.request
    assert (turn.request.asked_at, turn.request.params.seed) == (1700000000.5, 7)
