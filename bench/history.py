"""One user's 10,000 turns in the store: listing, searching, and the delay that recording a turn adds to its answer."""

import random
import sqlite3
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient

from bench.rows import Bench, Row
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest, new_id
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.turn_writer import ConversationStore

_CHATS, _TURNS, _TOKENS = 500, 20, 200
_ME = "visitor-bench"
_TABLES = {
    "trace_info": "request_id",
    "trace_tags": "request_id",
    "trace_request_metadata": "request_id",
    "spans": "trace_id",
}
_WORDS = [
    "the",
    "sea",
    "ship",
    "moon",
    "apple",
    "house",
    "river",
    "mountain",
    "blue",
    "green",
    "happy",
    "salt",
    "under",
    "over",
    "never",
]


def measure_rows(bench: Bench) -> Iterator[Row]:
    folder = bench.temporary / "chats"
    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment = MlflowClient(uri).create_experiment("chats", artifact_location=folder.as_uri())
    recorder = Recorder(lambda: ChatLocation(uri, experiment), folder / "journal")
    history = History(lambda: ChatLocation(uri, experiment), recorder)
    conversations = ConversationStore(recorder, history, "bench")
    yield from _measure_recording(bench.rounds, conversations)
    pattern = _record_turn(conversations, _ME)
    recorder.flush(60)
    _copy_turn(folder / "mlflow.db", pattern, _CHATS, _TURNS)
    count = _CHATS * _TURNS
    opened, indexed, listed, searched = (list[float]() for _ in range(4))
    for _ in range(bench.rounds):
        fresh = History(lambda: ChatLocation(uri, experiment), recorder)
        started = time.perf_counter()
        assert fresh.list_conversations(_ME)
        opened.append(time.perf_counter() - started)
        assert fresh.wait_until_loaded(_ME, 300)
        indexed.append(time.perf_counter() - started)
        listed.append(_time_search(fresh, "", _CHATS))
        searched.append(_time_search(fresh, "needle", _CHATS // 10))
    recorder.close()
    for what, seconds in (("listing chats", listed), ("searching titles and texts", searched)):
        value = statistics.median(seconds)
        yield Row(f"{count:,} turns in the store: {what}", f"{1000 * value:.0f} ms", "≤ 300 ms", value <= 0.3)
    value, indexed_after = statistics.median(opened), statistics.median(indexed)
    detail = f"{1000 * value:.0f} ms; fully indexed after {indexed_after:.1f} s"
    yield Row(
        f"{count:,} turns in the store: first list after startup (newest chats)", detail, "≤ 300 ms", value <= 0.3
    )


def record_chats(home: Path, user_id: str, chats: int) -> None:
    """Fill the app's store in `home` with chats of a user, each with one turn, asked a minute apart."""
    uri = f"sqlite:///{home / 'mlflow.db'}"
    experiment = MlflowClient(uri).create_experiment("phi3-chat", artifact_location=(home / "artifacts").as_uri())
    recorder = Recorder(lambda: ChatLocation(uri, experiment), home / "bench-journal")
    history = History(lambda: ChatLocation(uri, experiment), recorder)
    pattern = _record_turn(ConversationStore(recorder, history, "bench"), user_id)
    recorder.flush(60)
    recorder.close()
    _copy_turn(home / "mlflow.db", pattern, chats - 1, 1)


def _measure_recording(rounds: int, conversations: ConversationStore) -> Iterator[Row]:
    """Measure the time an answer spends on recording: while it streams, and at its end, until it is on disk."""
    delays, ends = list[float](), list[float]()
    for _ in range(10 * rounds):
        talk = Conversation().with_question("Why?", TurnRequest(time.time(), "m-1"))
        started = time.perf_counter()
        draft = conversations.start_turn(_ME, new_id(), talk, "bench")
        for _ in range(_TOKENS):
            draft.append_text("word ")
        delays.append(time.perf_counter() - started)
        started = time.perf_counter()
        draft.finish(_create_answer())
        ends.append(time.perf_counter() - started)
    value, end = statistics.median(delays), statistics.median(ends)
    detail = f"{1000 * value:.2f} ms ({1e6 * value / _TOKENS:.1f} µs per token; fsync after the last token: {1000 * end:.1f} ms)"
    yield Row(
        f"recording a turn of {_TOKENS} tokens: delay added to its answer while streaming",
        detail,
        "< 1 ms",
        value < 0.001,
    )


def _create_answer() -> Answer:
    text = " ".join(random.choices(_WORDS, k=120))
    return Answer("bench", text, Usage(40, 120, 0), Timings(0.1, 2.0, 60.0), "stop")


def _record_turn(conversations: ConversationStore, user_id: str) -> tuple[str, str]:
    """Record one turn. Return the ids of its conversation and of the turn."""
    talk, conversation = (
        Conversation().with_question("What of the sea? QUESTION", TurnRequest(time.time(), "m-1")),
        new_id(),
    )
    draft = conversations.start_turn(user_id, conversation, talk, "bench")
    draft.finish(Answer("bench", "ANSWER " * 100, Usage(40, 120, 0), Timings(0.1, 2.0, 60.0), "stop"))
    return conversation, talk.turns[0].id


def _copy_turn(database: Path, pattern: tuple[str, str], chats: int, turns: int) -> None:
    """Copy the rows of one turn for all other turns, with new ids, times and texts."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    now = int(time.time() * 1000)
    with connection:
        copied = {
            table: [
                dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE {key} = ?", [f"tr-{pattern[1]}"])
            ]
            for table, key in _TABLES.items()
        }
        for chat in range(chats):
            conversation, parent = new_id(), ""
            for turn in range(turns):
                id_, at = new_id(), now - 60_000 * (chats - chat) + 1000 * turn
                words = " ".join(random.choices(_WORDS, k=100)) + (
                    " Needle" if chat % 10 == 0 and turn == turns // 3 else ""
                )
                for table, rows_ in copied.items():
                    for row in rows_:
                        _copy(connection, table, row, pattern, (conversation, id_), parent, at, words)
                parent = id_
    connection.close()


def _copy(
    connection: sqlite3.Connection,
    table: str,
    row: dict[str, object],
    old: tuple[str, str],
    new: tuple[str, str],
    parent: str,
    at: int,
    words: str,
) -> None:
    def changed(value: object) -> object:
        if not isinstance(value, str):
            return value
        return (
            value.replace(old[0], new[0])
            .replace(old[1], new[1])
            .replace("ANSWER " * 100, words)
            .replace("QUESTION", words[:40])
        )

    made = {name: changed(value) for name, value in row.items() if name != "duration_ns"}  # a generated column
    if "timestamp_ms" in made:
        made["timestamp_ms"] = at
    if made.get("key") == "phi3_ui.parent":
        made["value"] = parent
    if table == "trace_info":
        made["response_preview"] = words
    marks = ", ".join("?" * len(made))
    connection.execute(f"INSERT INTO {table} ({', '.join(made)}) VALUES ({marks})", list(made.values()))


def _time_search(history: History, query: str, expected: int) -> float:
    """Return the seconds for one search, which must find at least `expected` conversations."""
    started = time.perf_counter()
    found = len(history.list_conversations(_ME, query))
    seconds = time.perf_counter() - started
    if found < expected:
        raise RuntimeError(f"found {found} of {expected} conversations")
    return seconds
