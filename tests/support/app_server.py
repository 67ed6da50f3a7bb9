"""Run the app as a user does, in its own process, for end-to-end tests and the screenshot."""

import contextlib
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Trace

from phi3_ui.paths import ROOT
from tests.support.env import environment

START_SECONDS = 180  # for the first page, even on a busy machine
_POLL_SECONDS = 0.05


@dataclass
class Server:
    """A running app."""

    url: str
    home: Path
    process: psutil.Popen
    log: Path
    _accepted_bytes: int = 0

    def unexpected_log(self) -> str:
        """Return the log without the part that a test has accepted."""
        return self.log.read_bytes()[self._accepted_bytes :].decode()

    def accept_log(self) -> None:
        """Accept the errors logged so far, because the test provoked them."""
        self._accepted_bytes = self.log.stat().st_size

    def model_processes(self) -> list[psutil.Process]:
        """Return the processes of loaded and loading models."""
        processes = []
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if "phi3_ui.host.worker" in child.cmdline():
                    processes.append(child)
        return processes


@contextmanager
def serve(
    home: Path,
    log: Path,
    program: str = "app.py",
    *,
    port: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run `python app.py`, or another program that starts it, with the store under `home`, until the block ends.

    `port` defaults to a free one; set it to reuse a browser's storage, which is per port. `variables` are added to the
    environment.
    """
    port = port or find_free_port()
    base = environment(home, PHI3_UI_OPEN_BROWSER="0", GRADIO_SERVER_PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = psutil.Popen(
            [sys.executable, program], cwd=ROOT, env={**base, **(variables or {})}, stdout=out, stderr=out
        )
    try:
        wait_until(lambda: process.poll() is not None or is_reachable(url), START_SECONDS)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield Server(url, home, process, log)
    finally:
        if process.is_running():
            process.terminate()
            process.wait(timeout=60)


def find_free_port() -> int:
    """Return a free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_reachable(url: str) -> bool:
    """Return whether a GET request to `url` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `condition` holds. Raise AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds} s"
        time.sleep(_POLL_SECONDS)


def find_traces(home: Path, chats: set[str] | None = None) -> list[Trace]:
    """Return the traces of these chats (default: all chats) in the app's store under `home`."""
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("phi3-chat")
    if experiment is None:
        return []
    traces = client.search_traces(locations=[experiment.experiment_id], max_results=500)
    return [
        trace for trace in traces if chats is None or trace.info.trace_metadata.get("mlflow.trace.session") in chats
    ]


def wait_for_traces(home: Path, chats: set[str], count: int) -> list[Trace]:
    """Wait until these chats have `count` traces, which the app writes in the background, and return them."""
    traces: list[Trace] = []

    def are_written() -> bool:
        traces[:] = find_traces(home, chats)
        return len(traces) >= count

    wait_until(are_written)
    assert len(traces) == count
    return traces
