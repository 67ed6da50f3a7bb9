"""Recorders for a test's own store, and readers of what they wrote."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Trace

from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.recorder import JOURNAL_LIMIT, Recorder
from phi3_ui.store.conversations.trace_reader import parse_turn
from phi3_ui.store.errors import translate_store_errors
from tests.store.conversations.chats import last_turn_without_answer, make_record

TIMEOUT = 30.0
"""Seconds to wait for the recorder or another thread."""


def create_recorder(uri: str, folder: Path, journal_limit: int = JOURNAL_LIMIT) -> Recorder:
    """Return a recorder with its journal in `folder`."""
    return Recorder(locate_in(uri), folder / "journal", journal_limit)


def locate_in(uri: str) -> Callable[[], ChatLocation]:
    """Return a function that finds the chats' experiment in a store, and caches it."""

    @cache
    def locate() -> ChatLocation:
        with translate_store_errors(uri):
            return ChatLocation(uri, ensure_experiment(uri))

    return locate


def ensure_experiment(uri: str) -> str:
    """Return the id of the chats' experiment, and create it if needed."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("chats")
    if experiment:
        return str(experiment.experiment_id)
    return str(client.create_experiment("chats", artifact_location="file:///nowhere"))


def list_traces(uri: str) -> list[Trace]:
    return list(MlflowClient(uri).search_traces(locations=[ensure_experiment(uri)], max_results=500))


def read_turn(trace: Trace) -> Turn:
    """Return the turn in a trace that the app wrote."""
    turn = parse_turn(trace)
    assert turn
    return turn


def record_turn(recorder: Recorder, conversation_id: str, conversation: Conversation) -> None:
    """Start and finish the last shown turn, as the app does."""
    started = replace(make_record(conversation_id, conversation), turn=last_turn_without_answer(conversation))
    draft = recorder.start_turn(started)
    recorder.finish_turn(draft, make_record(conversation_id, conversation))


def wait_until(condition: Callable[[], object], timeout: float = 2 * TIMEOUT) -> None:
    """Wait up to `timeout` seconds until `condition` is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
