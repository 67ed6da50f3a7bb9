"""Links into MLflow's own UI, the probe for it, and the command that starts it. The linked pages are tested end to end."""

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
from mlflow import MlflowClient

from models import TELEMETRY_OFF
from phi3_ui.paths import ROOT
from phi3_ui.store import links
from tests.support.build_cache import create_store
from tests.support.command_line import RunCommand
from tests.support.env import environment

_BASE = "http://127.0.0.1:5001"


def test_ids_and_names_are_percent_encoded() -> None:
    assert links.trace_url(_BASE, "1", "tr-a&b") == (
        f"{_BASE}/#/experiments/1/traces?selectedEvaluationId=tr-a%26b&startTimeLabel=ALL"
    )
    assert links.session_url(_BASE, "1", "a/b") == f"{_BASE}/#/experiments/1/chat-sessions/a%2Fb"
    assert links.run_url(_BASE, "1", "r") == f"{_BASE}/#/experiments/1/runs/r"
    assert links.dataset_url(_BASE, "1", "d-1") == f"{_BASE}/#/experiments/1/datasets/d-1"
    assert links.evaluation_run_url(_BASE, "1", "r") == f"{_BASE}/#/experiments/1/evaluation-runs?selectedRunUuid=r"
    assert links.logged_model_url(_BASE, "1", "m-1") == f"{_BASE}/#/experiments/1/models/m-1"
    assert links.model_version_url(_BASE, "my joker", "2") == f"{_BASE}/#/models/my%20joker/versions/2"


@contextmanager
def _serve(status: int, body: bytes) -> Iterator[str]:
    """Run a server that sends this response to every request, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "is_mlflow"),
    [
        (200, b"OK", True),
        (401, b"", True),
        (302, b"", True),
        (200, b"<html>", False),
        (404, b"", False),
        (500, b"", False),
    ],
)
def test_only_an_mlflow_ui_is_recognized(status: int, body: bytes, is_mlflow: bool) -> None:
    with _serve(status, body) as url:
        assert links.is_mlflow_ui(url) is is_mlflow


def test_a_loopback_address_is_probed_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with _serve(200, b"OK") as url:
        assert links.is_mlflow_ui(url)


def test_an_unused_port_or_no_url_is_unavailable() -> None:
    assert not links.is_mlflow_ui(f"http://127.0.0.1:{_free_port()}")
    assert not links.MlflowUi(None).wait_until_available(1)


def test_is_available_returns_the_last_probes_result_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    may_continue, probed = threading.Event(), list[str]()

    def slow_probe(url: str) -> bool:
        probed.append(url)
        return may_continue.wait(10)

    monkeypatch.setattr(links, "is_mlflow_ui", slow_probe)
    ui = links.MlflowUi(_BASE)

    assert [ui.is_available() for _ in range(3)] == [False] * 3
    may_continue.set()
    assert ui.wait_until_available(10)
    assert ui.is_available()
    assert probed == [_BASE]


def test_an_old_probe_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([True, False])
    monkeypatch.setattr(links, "is_mlflow_ui", lambda url: next(results))
    monkeypatch.setattr(links, "_MAX_AGE", 0.05)
    ui = links.MlflowUi(_BASE)
    assert ui.wait_until_available(10)
    monkeypatch.setattr(links, "_MAX_AGE", 60.0)
    ui._probed_at = float("-inf")

    assert ui.is_available(), "the last result is returned until the next probe is done"
    assert not ui.wait_until_available(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(condition: Callable[[], bool], timeout: float = 90) -> bool:
    """Wait up to `timeout` seconds, and return whether the condition became true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.server
def test_the_command_runs_mlflows_ui_on_the_apps_store_until_interrupted(
    tmp_path: Path, run_command: RunCommand
) -> None:
    url = f"http://127.0.0.1:{_free_port()}"
    create_store(tmp_path, "of the app")
    command = [sys.executable, "-m", "phi3_ui", "mlflow-ui"]
    variables = environment(tmp_path, PHI3_UI_MLFLOW_URL=url)
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=out, stderr=out, start_new_session=True)
    try:
        assert _wait_until(lambda: links.is_mlflow_ui(url) or process.poll() is not None)
        assert (tmp_path / "out").read_text().startswith(f"MLflow's UI: {url}\n")
        assert MlflowClient(url).get_experiment_by_name("of the app")
        assert TELEMETRY_OFF.items() <= psutil.Process(process.pid).environ().items()

        second = run_command(tmp_path, "mlflow-ui", PHI3_UI_MLFLOW_URL=url)
        assert (second.returncode, "PHI3_UI_MLFLOW_URL" in second.stderr) == (1, True)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # like Ctrl-C in a terminal
        process.wait(timeout=30)
    assert _wait_until(lambda: not links.is_mlflow_ui(url), 10)


def test_the_command_prints_the_url_of_a_store_that_is_a_server(tmp_path: Path, run_command: RunCommand) -> None:
    result = run_command(tmp_path, "mlflow-ui", MLFLOW_TRACKING_URI="https://me:secret@mlflow.example/")

    assert (result.returncode, result.stdout) == (0, "The store has its own UI: https://mlflow.example\n")
