"""The app as a user starts it, in a process of its own, for end-to-end tests and the screenshot."""

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

START_SECONDS = 180  # until the first page, on a machine that does other work as well
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
        """What the app has logged, without what a test has accepted."""
        return self.log.read_bytes()[self._accepted_bytes :].decode()

    def accept_log(self) -> None:
        """Accept the errors logged so far, as those of a test that provokes them."""
        self._accepted_bytes = self.log.stat().st_size

    def model_processes(self) -> list[psutil.Process]:
        """The processes of loaded or loading models."""
        found = []
        for child in self.process.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now
                if "phi3_ui.host.worker" in child.cmdline():
                    found.append(child)
        return found


@contextmanager
def serve(
    home: Path,
    log: Path,
    program: str = "app.py",
    *,
    port: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`python app.py`, or another program that starts it, over the store of `home`, until the block ends.

    On a free port unless one is given: a browser keeps its storage by port. `variables` are added to the environment.
    """
    port = port or find_free_port()
    own = environment(home, PHI3_UI_OPEN_BROWSER="0", GRADIO_SERVER_PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = psutil.Popen(
            [sys.executable, program], cwd=ROOT, env={**own, **(variables or {})}, stdout=out, stderr=out
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
    """A TCP port of this machine that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_reachable(url: str) -> bool:
    """Whether something answers HTTP at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return once `condition` holds. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(_POLL_SECONDS)


def find_traces(home: Path, chats: set[str] | None = None) -> list[Trace]:
    """The traces of these chats (default: of all) in the app's own store under `home`."""
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("phi3-chat")
    if experiment is None:
        return []
    found = client.search_traces(locations=[experiment.experiment_id], max_results=500)
    return [trace for trace in found if chats is None or trace.info.trace_metadata.get("mlflow.trace.session") in chats]


def wait_for_traces(home: Path, chats: set[str], count: int) -> list[Trace]:
    """The traces of these chats once there are `count` of them: the app writes them in the background."""
    found: list[Trace] = []

    def all_written() -> bool:
        found[:] = find_traces(home, chats)
        return len(found) >= count

    wait_until(all_written)
    assert len(found) == count
    return found
