"""Fixtures: Chromium, and two apps shared by the tests, one with scripted models and one with the demo's engines.

A test either opens pages as its own visitors, each with a separate browser context, and sees no other test's chats; or uses
`chat`, an empty chat on a shared page, if other chats do not matter. Only tests that restart or configure an app start
their own.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Trace
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from phi3_ui.testing import ScriptedModel, log_scripted_model
from tests.conftest import Demo
from tests.support import browser as chromium
from tests.support.app_server import Server, find_free_port, serve, wait_for_traces
from tests.support.build_cache import create_store
from tests.support.chat_page import ChatPage
from tests.support.resident_page import ResidentPage
from tests.support.trust import approve_models
from tests.support.visitor_pool import VisitorPool

DESKTOP: ViewportSize = {"width": 1400, "height": 900}

NewVisitor = Callable[..., BrowserContext]
OpenPage = Callable[..., ChatPage]

expect.set_options(timeout=30_000)  # milliseconds; the page shares its cores with everything else


@dataclass(frozen=True)
class ScriptedStore:
    """A store with two scripted models; `model` is the newest, which a new page selects."""

    home: Path
    model: ScriptedModel
    other: ScriptedModel

    def copy_to(self, home: Path) -> Path:
        """Copy the database to another app's home and approve the models; their files stay in place."""
        shutil.copy(self.home / "mlflow.db", home / "mlflow.db")
        approve_models(f"sqlite:///{home / 'mlflow.db'}", home)
        return home


@dataclass(frozen=True)
class App:
    """The running app that most tests share."""

    server: Server
    model: ScriptedModel
    other: ScriptedModel
    mlflow_url: str
    """The URL at which the app expects MLflow's UI; nothing listens there unless a test starts a server."""
    initial_model_processes: list[psutil.Process]
    """The model processes that ran before the first page was opened."""

    def traces(self, count: int, *pages: ChatPage) -> list[Trace]:
        """Return the `count` traces of the chats that these pages list."""
        return wait_for_traces(self.server.home, set[str]().union(*(page.chat_ids() for page in pages)), count)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.TEST_FLAGS)
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def scripted_store(tmp_path_factory: pytest.TempPathFactory) -> ScriptedStore:
    home = tmp_path_factory.mktemp("scripted")
    uri = create_store(home)
    other = log_scripted_model(uri, home, "scripted-two")
    return ScriptedStore(home, log_scripted_model(uri, home, "scripted-one"), other)


@pytest.fixture(scope="session")
def shared_app(scripted_store: ScriptedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = scripted_store.copy_to(tmp_path_factory.mktemp("app"))
    mlflow_url = f"http://127.0.0.1:{find_free_port()}"
    # The grace period outlasts the tests, so an answer that stops early stops for another reason.
    variables = {"PHI3_UI_MLFLOW_URL": mlflow_url, "PHI3_UI_GRACE_SECONDS": "3600"}
    with serve(home, home / "app.log", variables=variables) as server:
        yield App(server, scripted_store.model, scripted_store.other, mlflow_url, server.model_processes())


@pytest.fixture
def app(shared_app: App) -> Iterator[App]:
    """Yield the shared app with its models reset. A traceback in its log fails the test."""
    shared_app.model.reset()
    shared_app.other.reset()
    shared_app.server.accept_log()  # tracebacks up to here have failed an earlier test
    yield shared_app
    shared_app.model.reset()
    shared_app.other.reset()
    assert "Traceback" not in shared_app.server.unexpected_log()


@pytest.fixture(scope="session")
def demo_server(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield the app with the demo's store, which has models for both engines."""
    with serve(demo.settings.home, tmp_path_factory.mktemp("server") / "app.log") as server:
        yield server
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


@pytest.fixture
def page_errors() -> Iterator[list[str]]:
    """Yield the errors that pages log; any error fails the test."""
    errors: list[str] = []
    yield errors
    assert errors == []


@pytest.fixture
def new_visitor(browser: Browser, page_errors: list[str]) -> Iterator[NewVisitor]:
    """Yield a function that creates browser contexts, each a separate visitor."""
    contexts: list[BrowserContext] = []

    def create(**options: object) -> BrowserContext:
        contexts.append(browser.new_context(**{"viewport": DESKTOP, **options}))  # type: ignore[arg-type]  # options
        contexts[-1].on("page", ErrorWatch(page_errors).begin)
        return contexts[-1]

    yield create
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def visitor_pool(browser: Browser) -> VisitorPool:
    return VisitorPool(browser)


@pytest.fixture
def borrow_visitor(visitor_pool: VisitorPool, page_errors: list[str]) -> Iterator[NewVisitor]:
    """Yield a function that lends browser contexts with a warm cache, for tests that change nothing but their pages."""
    borrowed: list[BrowserContext] = []
    watch = ErrorWatch(page_errors).begin

    def borrow(**options: object) -> BrowserContext:
        borrowed.append(visitor_pool.borrow(**{"viewport": DESKTOP, **options}))
        borrowed[-1].on("page", watch)
        return borrowed[-1]

    yield borrow
    for context in borrowed:
        context.remove_listener("page", watch)
        visitor_pool.give_back(context)


class ErrorWatch:
    """Appends the errors that pages raise or log to `errors`."""

    def __init__(self, errors: list[str]) -> None:
        self._errors = errors

    def begin(self, page: Page) -> None:
        page.on("pageerror", self._add_error)
        page.on("console", self._add_console_error)

    def end(self, page: Page) -> None:
        page.remove_listener("pageerror", self._add_error)
        page.remove_listener("console", self._add_console_error)

    def _add_error(self, error: Error) -> None:
        self._errors.append(str(error))

    def _add_console_error(self, message: ConsoleMessage) -> None:
        if message.type == "error" and re.match(r"Error (executing|evaluating|in watch)", message.text):
            self._errors.append(message.text)  # Gradio reports errors in component scripts here


def open_chat(context: BrowserContext, server: Server) -> ChatPage:
    """Open the app in a new tab and wait for the chat."""
    page = context.new_page()
    page.goto(server.url)
    return ChatPage(page).wait_until_ready()


@pytest.fixture
def open_page(app: App, borrow_visitor: NewVisitor) -> OpenPage:
    """Return a function that opens the shared app as a new visitor."""
    return lambda **options: open_chat(borrow_visitor(**options), app.server)


@pytest.fixture(scope="session")
def resident_page(browser: Browser, shared_app: App) -> Iterator[ResidentPage]:
    resident = ResidentPage(
        lambda: open_chat(browser.new_context(viewport=DESKTOP), shared_app.server), shared_app.model.name
    )
    yield resident
    resident.close()


@pytest.fixture
def chat(app: App, resident_page: ResidentPage, page_errors: list[str]) -> Iterator[ChatPage]:
    """Yield an empty chat, for tests that neither count the visitor's chats nor change the page permanently."""
    empty_chat, watch = resident_page.lend(), ErrorWatch(page_errors)
    watch.begin(empty_chat.page)
    yield empty_chat
    watch.end(empty_chat.page)


@pytest.fixture
def open_demo(demo_server: Server, borrow_visitor: NewVisitor) -> OpenPage:
    """Return a function that opens the app with the demo's engines as a new visitor."""
    return lambda **options: open_chat(borrow_visitor(**options), demo_server)
