"""A real `mlflow server`, of the installed MLflow version or another."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tests.support.build_cache import create_store
from tests.support.env import environment

_START_TIMEOUT = 120  # seconds


@dataclass(frozen=True)
class Server:
    """A tracking server that can be started repeatedly, at the same address and with the same files."""

    folder: Path
    port: int
    python: str = sys.executable
    """The interpreter whose MLflow runs the server."""
    database: str = ""
    """The URI of the database; by default a SQLite file in the folder."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Start the server, and stop it after the block."""
        if not (self.folder.exists() or self.database) and self.python == sys.executable:
            create_store(self.folder)
        self.folder.mkdir(exist_ok=True)
        command = [self.python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        database = self.database or f"sqlite:///{self.folder / 'mlflow.db'}"
        command += ["--backend-store-uri", database, "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                # The job runner, which the app does not use, would start seven polling processes.
                env=environment(self.folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(process)
            yield process
        finally:
            stop(process)

    def _wait_until_healthy(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_healthy():
            assert process.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "the server does not respond"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return bool(response.read() == b"OK")
        except (URLError, OSError):
            return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill the server and its workers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def find_free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
