"""Tests for the app mounted under a path of another FastAPI app, and for two apps with separate stores in one process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from phi3_ui import server
from phi3_ui.settings import Settings
from phi3_ui.testing import Reply, ScriptedModel, log_scripted_model
from tests.e2e.conftest import NewVisitor
from tests.support.app_server import START_SECONDS, find_free_port, find_traces, wait_until
from tests.support.build_cache import create_store
from tests.support.chat_page import ChatPage
from tests.support.logins import hash_logins
from tests.support.trust import approve_models


@contextmanager
def serve_in_thread(create: Callable[[], FastAPI]) -> Iterator[str]:
    """Serve an application with uvicorn in a thread, and yield its URL."""
    port = find_free_port()
    config = uvicorn.Config(create, port=port, factory=True, log_level="warning", timeout_graceful_shutdown=5)
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        wait_until(lambda: runner.started or not thread.is_alive(), START_SECONDS)
        assert runner.started
        yield f"http://127.0.0.1:{port}"
    finally:
        runner.should_exit = True
        thread.join()


def create_scripted_store(home: Path, name: str, **variables: str) -> tuple[Settings, ScriptedModel]:
    """Return the settings of an app with a new store in `home`, and the store's only model."""
    uri = create_store(home)
    model = log_scripted_model(uri, home, name)
    approve_models(uri, home)
    return Settings.read({"PHI3_UI_HOME": str(home), **variables}), model


def find_recorded_questions(settings: Settings) -> list[str | None]:
    """Return the questions in the app's own store."""
    return [trace.info.request_preview for trace in find_traces(settings.home)]


@pytest.fixture
def page(new_visitor: NewVisitor) -> Iterator[Page]:
    """Open a page on which any failed request fails the test, except those that require a login."""
    page, failures = new_visitor().new_page(), list[str]()
    page.on(
        "response",
        lambda response: failures.append(f"{response.status} {response.url}") if response.status >= 400 else None,
    )
    yield page
    assert [failure for failure in failures if not failure.startswith("401")] == []


def test_login_chat_and_download_work_under_a_path(page: Page, tmp_path: Path) -> None:
    settings, model = create_scripted_store(tmp_path / "home", "scripted", PHI3_UI_LOGINS=hash_logins(anna="one"))
    model.enqueue(Reply("It is Paris."))

    def create() -> FastAPI:
        outer = FastAPI()
        outer.get("/")(lambda: "another program")
        server.mount_app(outer, "/chat", settings)
        return outer

    with serve_in_thread(create) as url:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{url}/chat/")
        page.get_by_label("User name").fill("anna")
        page.get_by_label("Password").fill("one")
        page.get_by_role("button", name="Log in").click()
        chat = ChatPage(page).wait_until_ready()
        assert chat.answer("What is the capital of France?") == "It is Paris."
        with page.expect_download() as download:
            chat.list_button("France", "save_markdown").click()
        assert "It is Paris." in Path(download.value.path()).read_text(encoding="utf-8")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        foreign_urls = [request for request in requests if not request.startswith((f"{url}/chat", "data:", "blob:"))]
        assert foreign_urls == []
        page.close()

    assert find_recorded_questions(settings) == ["What is the capital of France?"]


def test_two_apps_in_one_process_keep_their_models_and_chats_apart(page: Page, tmp_path: Path) -> None:
    apps = {name: create_scripted_store(tmp_path / name, name) for name in ("red", "blue")}

    def create() -> FastAPI:
        outer = FastAPI()
        for name, (settings, _) in apps.items():
            server.mount_app(outer, f"/{name}", settings)
        return outer

    with serve_in_thread(create) as url:
        for name, (_, model) in apps.items():
            model.enqueue(Reply(f"I am {name}."))
            page.goto(f"{url}/{name}/")
            chat = ChatPage(page).wait_until_ready()
            assert chat.answer(f"Who is {name}?") == f"I am {name}."
            expect(chat.chats).to_have_text([f"Who is {name}?"])
        page.close()

    for name, (settings, model) in apps.items():
        assert [request.question for request in model.requests] == [f"Who is {name}?"]
        assert find_recorded_questions(settings) == [f"Who is {name}?"]
