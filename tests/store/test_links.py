"""The links into MLflow's own UI, whether it is there, and the command that opens it. That each shows its thing: e2e."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from models import TELEMETRY_OFF
from phi3_ui.paths import ROOT
from phi3_ui.store import links
from tests.support.command_line import RunCommand
from tests.support.env import environment

_BASE = "http://127.0.0.1:5001"


def test_ids_and_names_are_quoted() -> None:
    assert links.trace_url(_BASE, "1", "tr-a&b") == (
        f"{_BASE}/#/experiments/1/traces?selectedEvaluationId=tr-a%26b&startTimeLabel=ALL"
    )
    assert links.session_url(_BASE, "1", "a/b") == f"{_BASE}/#/experiments/1/chat-sessions/a%2Fb"
    assert links.run_url(_BASE, "1", "r") == f"{_BASE}/#/experiments/1/runs/r"
    assert links.logged_model_url(_BASE, "1", "m-1") == f"{_BASE}/#/experiments/1/models/m-1"
    assert links.model_version_url(_BASE, "my joker", "2") == f"{_BASE}/#/models/my%20joker/versions/2"


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[str]:
    """The URL of a server that answers every request so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "there"),
    [
        (200, b"OK", True),
        (401, b"", True),
        (302, b"", True),
        (200, b"<html>", False),
        (404, b"", False),
        (500, b"", False),
    ],
)
def test_only_an_mlflow_ui_is_alive(status: int, body: bytes, there: bool) -> None:
    with _answering(status, body) as url:
        assert links.is_mlflow_ui(url) is there


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with _answering(200, b"OK") as url:
        assert links.is_mlflow_ui(url)


def test_where_nothing_answers_nothing_is_alive() -> None:
    assert not links.is_mlflow_ui(f"http://127.0.0.1:{_free_port()}")
    assert not links.MlflowUi(None).wait_until_available(1)


def test_who_asks_does_not_wait_and_is_told_what_the_last_look_found(monkeypatch: pytest.MonkeyPatch) -> None:
    go, looks = threading.Event(), list[str]()

    def look(url: str) -> bool:
        looks.append(url)
        return go.wait(10)

    monkeypatch.setattr(links, "is_mlflow_ui", look)
    ui = links.MlflowUi(_BASE)

    assert [ui.is_available() for _ in range(3)] == [False] * 3
    go.set()
    assert ui.wait_until_available(10)
    assert ui.is_available()
    assert looks == [_BASE]


def test_a_look_that_is_old_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([True, False])
    monkeypatch.setattr(links, "is_mlflow_ui", lambda url: next(found))
    monkeypatch.setattr(links, "_MAX_AGE", 0.05)
    ui = links.MlflowUi(_BASE)
    assert ui.wait_until_available(10)
    monkeypatch.setattr(links, "_MAX_AGE", 60.0)
    ui._probed_at = float("-inf")

    assert ui.is_available(), "what was found is said until the next look is done"
    assert not ui.wait_until_available(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(holds: Callable[[], bool], seconds: float = 90) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.server
def test_the_command_opens_mlflows_ui_on_the_apps_store_and_ends_with_it(
    tmp_path: Path, run_command: RunCommand
) -> None:
    url = f"http://127.0.0.1:{_free_port()}"
    command = [sys.executable, "-m", "phi3_ui", "mlflow-ui"]
    own = environment(tmp_path, PHI3_UI_MLFLOW_URL=url)
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=out, stderr=out, start_new_session=True)
    try:
        assert _until(lambda: links.is_mlflow_ui(url) or process.poll() is not None)
        assert (tmp_path / "out").read_text().startswith(f"MLflow's UI: {url}\n")
        assert (tmp_path / "mlflow.db").exists()
        assert TELEMETRY_OFF.items() <= psutil.Process(process.pid).environ().items()

        second = run_command(tmp_path, "mlflow-ui", PHI3_UI_MLFLOW_URL=url)
        assert (second.returncode, "PHI3_UI_MLFLOW_URL" in second.stderr) == (1, True)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        process.wait(timeout=30)
    assert _until(lambda: not links.is_mlflow_ui(url), 10)


def test_of_a_store_that_is_a_server_the_command_says_the_url(tmp_path: Path, run_command: RunCommand) -> None:
    result = run_command(tmp_path, "mlflow-ui", MLFLOW_TRACKING_URI="https://me:secret@mlflow.example/")

    assert (result.returncode, result.stdout) == (0, "The store has a UI of its own: https://mlflow.example\n")
