"""The API on Ray Serve as `make serve-ray` starts it, for tests and benchmarks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from phi3_ui.paths import ROOT
from tests.support.app_server import find_free_port, wait_until
from tests.support.env import environment

_START_SECONDS = 300


@dataclass(frozen=True)
class RayServer:
    """A running cluster."""

    url: str
    process: psutil.Popen

    @property
    def is_ready(self) -> bool:
        """Whether all models are ready to answer."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def count(self, metric: str) -> float:
        """Return the sum of the metrics whose lines start with `metric`."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric))


@contextmanager
def serve_ray(home: Path, log: Path, replicas: int, **variables: str) -> Iterator[RayServer]:
    """Run `python -m deploy.ray` with the store in `home` and `replicas` replicas of each model, and yield the server."""
    port = find_free_port()
    defaults = {
        "GRADIO_SERVER_PORT": str(port),
        "PHI3_UI_RAY_MIN_REPLICAS": str(replicas),
        "PHI3_UI_RAY_MAX_REPLICAS": str(replicas),
        "PHI3_UI_RAY_REPLICA_CPUS": "0",
    }
    env = environment(home, **{**defaults, **variables})
    with log.open("wb") as out:
        process = psutil.Popen([sys.executable, "-m", "deploy.ray"], cwd=ROOT, env=env, stdout=out, stderr=out)
    server = RayServer(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(lambda: process.poll() is not None or server.is_ready, _START_SECONDS)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield server
    finally:
        if process.is_running():
            process.terminate()
            process.wait(timeout=60)
