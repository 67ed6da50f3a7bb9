"""The queue of the page's events, driven over HTTP as by Gradio's page."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from gradio.queueing import Queue

from phi3_ui.ui.event_queue import EventDrivenQueue
from tests.support.app_server import wait_until
from tests.support.asgi_client import Client, run_app


class Calls:
    """What the page's only handler has been called with; it waits until it may return."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.has_started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.looked = 0
        self.queue: Queue

    def answer(self, text: str) -> str:
        self.started.append(text)
        self.has_started.release()
        assert self.may_end.acquire(timeout=60)
        return text.upper()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture(params=[1, None], ids=["one at a time", "any number"])
def limit(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(calls: Calls, limit: int | None) -> Iterator[Client]:
    with run_app(_create_app, calls, limit) as client:
        yield client


def _create_app(calls: Calls, limit: int | None) -> FastAPI:
    with gr.Blocks(analytics_enabled=False) as blocks:
        text, button = gr.Textbox(), gr.Button()
        button.click(calls.answer, text, text, concurrency_limit=limit)
    queue = calls.queue = blocks._queue = EventDrivenQueue(blocks)
    get_events = queue.get_events

    def count() -> Any:
        calls.looked += 1
        return get_events()

    queue.get_events = count  # type: ignore[method-assign]
    app = FastAPI()
    gr.mount_gradio_app(app, blocks, path="/", ssr_mode=False)
    return app


def _push(client: Client, key: str, text: str) -> None:
    call = {"data": [text], "fn_index": 0, "session_hash": key}
    assert client.send("POST", "/gradio_api/queue/join", json=call).status_code == 200


def _read_output(client: Client, key: str) -> Any:
    """Return the output of a page's only event, once it has ended."""
    lines = client.get(f"/gradio_api/queue/data?session_hash={key}").text.split("\n\n")
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    (end,) = [message for message in messages if message["msg"] == "process_completed"]
    return end["output"]["data"][0]


def test_events_start_when_they_arrive_or_another_one_ends(client: Client, calls: Calls, limit: int | None) -> None:
    names = ["first", "second", "third"]
    for name in names:
        _push(client, name, name)
    for number, name in enumerate(names, 1):
        if limit:
            assert calls.has_started.acquire(timeout=60)
            assert calls.started == names[:number]
            calls.may_end.release()
            assert _read_output(client, name) == name.upper()
    if limit is None:
        for _ in names:
            assert calls.has_started.acquire(timeout=60)
        calls.may_end.release(3)
        assert [_read_output(client, name) for name in names] == ["FIRST", "SECOND", "THIRD"]


def test_nothing_is_polled(client: Client, calls: Calls) -> None:
    _push(client, "first", "first")
    assert calls.has_started.acquire(timeout=60)
    for _ in range(20):  # while one event runs and another may wait
        client.get("/gradio_api/queue/status")
    _push(client, "second", "second")
    for _ in range(20):
        client.get("/gradio_api/queue/status")
    calls.may_end.release(2)
    assert {_read_output(client, name) for name in ("first", "second")} == {"FIRST", "SECOND"}
    assert calls.looked <= 8  # at most twice for each arrival and each end


def test_no_analytics_are_computed(client: Client, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    monkeypatch.setattr(Queue, "_get_df", lambda records: computed.append(records))
    _push(client, "first", "first")
    calls.may_end.release()
    assert _read_output(client, "first") == "FIRST"
    wait_until(lambda: not calls.queue.event_ids_to_events)
    assert computed == []
