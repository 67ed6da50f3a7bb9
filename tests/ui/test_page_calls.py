"""Calls for a page: only by the page's own login, with a valid key, and not too many by one user."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from gradio.queueing import Event
from gradio.server_messages import HeartbeatMessage

from phi3_ui.ui.open_pages import OpenPages
from phi3_ui.ui.page_calls import PageCalls
from tests.support.asgi_client import Client, run_app

_JOIN, _RUN, _CANCEL = (f"/gradio_api/{name}" for name in ("queue/join", "run/predict", "cancel"))
_FUNCTION = SimpleNamespace(concurrency_id="f", concurrency_limit=None, connection="sse", fn=None)


@dataclass
class Calls:
    """Queued events, and calls that are answered immediately. `X-Login` names the logged-in user."""

    client: Client = field(init=False)

    def create(self) -> FastAPI:
        self.pages, self.queue = OpenPages(0), gr.Blocks()._queue
        self.calls = PageCalls(self.queue, self.pages, lambda request: request.headers.get("x-login"))
        self.pages.on_forgotten(self.calls.forget)
        self.answered = asyncio.Event()
        self.answered.set()
        self.waiting = 0
        app = FastAPI(dependencies=[Depends(self.calls.check)])
        app.post(_JOIN)(self._join)
        app.post(_RUN)(self._answer)
        app.post(_CANCEL)(self._answer)
        return app

    async def _join(self, request: Request) -> str:
        key = (await request.json())["session_hash"]
        event = Event(key, cast(Any, _FUNCTION), request, request.headers.get("x-login"))
        self.queue.create_event_queue_for_fn(event.fn)
        self.queue.event_queue_per_concurrency_id["f"].queue.append(event)
        self.queue.event_ids_to_events[event._id] = event
        self.queue.pending_messages_per_session.setdefault(key, asyncio.Queue())
        self.queue.pending_event_ids_session.setdefault(key, set()).add(event._id)
        return event._id

    async def _answer(self) -> None:
        self.waiting += 1
        await self.answered.wait()

    def call(self, path: str, key: object = "page", login: str | None = None, **body: object) -> httpx.Response:
        headers = {"X-Login": login} if login else {}
        return self.client.send("POST", path, json={"session_hash": key, **body}, headers=headers)

    def end_all(self) -> None:
        """End all events, with their results unread."""
        self.queue.event_queue_per_concurrency_id["f"].queue.clear()


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = Calls()
    with run_app(calls.create) as calls.client:
        yield calls


@pytest.mark.parametrize("path", [_JOIN, _RUN, _CANCEL])
def test_an_invalid_page_key_is_refused_and_not_kept(calls: Calls, path: str) -> None:
    keys: list[object] = ["", "a" * 65, "a b", "a\n", "ä", "a/b", "a<gradio-sep>b", 5, None, ["a"], {}]
    for key in keys:
        assert calls.call(path, key).status_code == 400
    for content in (b"[" * 100_000, b"[]", b"5", b"{", b"\xff", b""):
        for kind in ("application/json", "text/plain"):
            sent = calls.client.send("POST", path, content=content, headers={"Content-Type": kind})
            assert sent.status_code == 400
    assert calls.pages.list_keys(None, "127.0.0.1") == []
    assert calls.call(path, "a" * 64).status_code == (404 if path == _CANCEL else 200)


def test_a_call_that_is_refused_opens_no_page(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.ui.page_calls._MAX_CALLS", 1)
    assert [calls.call(_JOIN, key).status_code for key in ("one", "two", "three")] == [200, 429, 429]
    assert calls.pages.list_keys(None, "127.0.0.1") == ["one"]


def test_another_logins_page_cannot_be_called(calls: Calls) -> None:
    event = calls.call(_JOIN, "annas", "anna").json()
    for path in (_JOIN, _RUN, _CANCEL):
        assert calls.call(path, "annas", "bob").status_code == 404
    assert calls.call(_CANCEL, "nobodys", "bob").status_code == 404
    assert calls.call(_JOIN, "bobs", "bob").status_code == 200
    assert calls.call(_CANCEL, "bobs", "bob", event_id=event).status_code == 404, "another page's event"
    assert calls.call(_CANCEL, "annas", "anna", event_id=event).status_code == 200
    assert calls.call(_CANCEL, "annas", "anna", event_id=["x"]).status_code == 200
    scope = {"type": "http", "headers": [(b"x-login", b"bob")]}
    assert not calls.calls.may_stream("annas", Request(scope))
    assert calls.calls.may_stream("bobs", Request(scope))
    assert not calls.calls.may_stream("nobodys", Request(scope))


def test_requests_of_others_do_not_take_over_a_page(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.ui.open_pages._MAX_PAGES", 3)
    monkeypatch.setattr("phi3_ui.ui.page_calls._MAX_CALLS", 1000)
    calls.call(_JOIN, "annas", "anna")
    for number in range(10):
        assert calls.call(_JOIN, f"bobs{number}", "bob").status_code == 200

    assert calls.call(_JOIN, "annas", "bob").status_code == 404
    assert calls.call(_JOIN, "annas", "anna").status_code == 200
    expected = ["annas", "bobs7", "bobs8", "bobs9"]
    assert sorted(calls.queue.pending_messages_per_session) == expected
    assert sorted(calls.queue.pending_event_ids_session) == expected


@pytest.mark.parametrize("is_logged_in", [True, False])
def test_one_user_cannot_fill_the_queue(calls: Calls, is_logged_in: bool) -> None:
    login = "anna" if is_logged_in else None
    codes = [calls.call(_JOIN, f"page{number % 7}", login).status_code for number in range(41)]

    assert codes == [200] * 40 + [429]
    assert "Too many requests from you" in calls.call(_JOIN, "page", login).json()["detail"]
    assert calls.call(_JOIN, "bobs", "bob").status_code == 200
    assert calls.call(_RUN, "page1", login).status_code == 200, "Stop is such a call"
    assert calls.call(_CANCEL, "page1", login).status_code == 200
    calls.end_all()
    assert calls.call(_JOIN, "page", login).status_code == 429, "unread results still count"
    for number in range(6):
        del calls.queue.pending_messages_per_session[f"page{number}"]  # as Gradio does when a stream breaks
    assert calls.call(_JOIN, "page", login).status_code == 200


def test_one_user_cannot_make_unlimited_concurrent_calls(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.ui.page_calls._MAX_CALLS", 3)
    calls.answered.clear()
    portal = calls.client.portal
    waiting = [portal.start_task_soon(_call, calls, _RUN) for _ in range(3)]
    portal.call(_until, lambda: calls.waiting == 3)

    assert calls.call(_RUN).status_code == 429
    portal.call(calls.answered.set)
    assert [future.result(10) for future in waiting] == [200] * 3
    assert calls.call(_RUN).status_code == 200
    assert not calls.calls._answered


async def _call(calls: Calls, path: str) -> int:
    return (await calls.client.http.post(path, json={"session_hash": "page"})).status_code


async def _until(is_done: Any) -> None:
    async with asyncio.timeout(10):
        while not is_done():
            await asyncio.sleep(0)


def test_two_streams_of_a_page_may_end(calls: Calls) -> None:
    sessions = calls.queue.pending_messages_per_session
    sessions["page"] = asyncio.Queue()
    for _ in range(2):
        calls.pages.open_stream("page")

    calls.pages.close_stream("page", is_lost=True)
    del sessions["page"]
    assert "page" in sessions, "the other stream needs it"
    calls.pages.close_stream("page", is_lost=True)
    del sessions["page"]
    assert "page" not in sessions
    sessions["page"].put_nowait(HeartbeatMessage())  # to a forgotten page
    assert "page" not in sessions


def test_the_stream_of_a_forgotten_page_ends_without_an_error(calls: Calls) -> None:
    calls.call(_JOIN)
    unread = calls.queue.pending_event_ids_session
    assert len(unread["page"]) == 1
    calls.calls.forget("page")
    assert unread["page"] == set(), "as Gradio's stream looks it up"
    assert "page" not in unread
