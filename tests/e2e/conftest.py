"""The app as a person starts it, and a real Chromium."""

import contextlib
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from phi3_ui.paths import ROOT
from tests.conftest import Demo
from tests.support import browser as chromium
from tests.support.chat_page import ChatPage
from tests.support.env import environment


@dataclass
class Server:
    url: str
    process: psutil.Popen
    log: Path
    reachable_after: float  # seconds from the process's start to the first page

    def model_processes(self) -> list[psutil.Process]:
        """The processes of loaded or loading models."""
        found = []
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now
                if "phi3_ui.host.worker" in child.cmdline():
                    found.append(child)
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(home: Path, log: Path, program: str = "app.py", port: int | None = None, **more: str) -> Iterator[Server]:
    """`python app.py`, or another program that starts it, over the store of `home`, until the block ends.

    On a free port, or on the one given: what a browser keeps, it keeps by port.
    """
    port = port or free_port()
    own = environment(home, PHI3_UI_OPEN_BROWSER="0", GRADIO_SERVER_PORT=str(port))
    url, started = f"http://127.0.0.1:{port}", time.monotonic()
    with log.open("wb") as out:
        process = psutil.Popen([sys.executable, program], cwd=ROOT, env={**own, **more}, stdout=out, stderr=out)
    try:
        while not reachable(url):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() - started < 60
            time.sleep(0.05)
        yield Server(url, process, log, time.monotonic() - started)
    finally:
        if process.is_running():
            process.terminate()
            process.wait(timeout=30)


def reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


expect.set_options(timeout=20_000)  # milliseconds; the models compute on the cores that the page is drawn on


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def server(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(demo.settings.home, tmp_path_factory.mktemp("server") / "app.log") as served:
        yield served
        assert "Traceback" not in served.log.read_text(encoding="utf-8")


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., ChatPage]]:
    """Opens the chat as a new person would: a context of its own. Whatever the page logs as an error fails the test."""
    contexts, errors = [], []

    def open_(**context: Any) -> ChatPage:
        made = browser.new_context(viewport=context.pop("viewport", {"width": 1400, "height": 900}), **context)
        contexts.append(made)
        page: Page = made.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        return ChatPage(page).ready()

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
