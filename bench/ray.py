"""Overhead of Ray Serve over the app alone, and the gain from replicas. The app and the cluster answer alternately."""

import os
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import psutil
from openai import APIError, OpenAI

from bench import paths
from bench.rows import Bench, Row, median_ratio
from tests.support.app_server import serve
from tests.support.ray_server import RayServer, serve_ray

_TOKENS, _CLIENTS = 200, 4


def measure_rows(bench: Bench) -> Iterator[Row]:
    """Measure one replica next to the app; then one and two replicas with one core each."""
    model, home = bench.spec("prompt").model_id, bench.settings.home
    cores = os.cpu_count() or 1

    def start(replicas: int, cpus: int) -> AbstractContextManager[RayServer]:
        variables = {"PHI3_UI_RAY_MODELS": model, "PHI3_UI_RAY_REPLICA_CPUS": str(cpus)}
        return serve_ray(home, bench.temporary / "ray.log", replicas, **variables)

    with (
        serve(home, bench.temporary / "app.log") as app,
        start(1, cores) as cluster,
        paths.open_api(app.url, model) as call_app,
        paths.open_api(cluster.url, model) as call_cluster,
    ):
        pairs = [(call_app(count), call_cluster(count)) for count in (16, *([_TOKENS] * bench.rounds))][1:]
    value = median_ratio([ray.rate for _, ray in pairs], [one.rate for one, _ in pairs])
    yield Row("Ray Serve ÷ one process: tokens/s", f"{value:.3f}", "≥ 0.95", value >= 0.95)
    later = statistics.median(1000 * (ray.first - one.first) for one, ray in pairs)
    yield Row("Ray Serve: added time to first token over one process", f"{later:.0f} ms", "≤ 20 ms", later <= 20)
    with start(1, 1) as cluster:
        one = statistics.median(_ask_at_once(cluster, model) for _ in range(bench.rounds))
    with start(2, 1) as cluster:
        two = statistics.median(_ask_at_once(cluster, model) for _ in range(bench.rounds))
        what = f"Ray Serve: 2 replicas ÷ 1, one core each, {_CLIENTS} clients: tokens/s"
        yield Row(what, f"{two / one:.2f}", "≥ 1.5 with 4 cores", two / one >= 1.5 if cores >= 4 else None)
        seconds = _lose_replica(cluster, model)
        yield Row(
            "Ray Serve: time to first text of the next question after a replica is killed",
            f"{seconds:.2f} s",
            "≤ 1 s",
            seconds <= 1,
        )


def _ask_at_once(cluster: RayServer, model: str) -> float:
    """Return the total tokens per second of several concurrent answers."""
    with OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:

        def ask(number: int) -> int:
            return paths.receive_api(client, model, f"Write a long story, number {number}.", _TOKENS)[1]

        with ThreadPoolExecutor(_CLIENTS) as threads:
            list(threads.map(ask, range(_CLIENTS)))  # warm-up
            started = time.perf_counter()
            tokens = sum(threads.map(ask, range(_CLIENTS, 2 * _CLIENTS)))
            return tokens / (time.perf_counter() - started)


def _lose_replica(cluster: RayServer, model: str) -> float:
    """Kill the replica that is answering. Return the seconds from then to the first text of the same chat's next question."""
    question = "Write a long story about a river."
    with OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=1000, stream=True
        )
        next(chunk for chunk in stream if chunk.choices[0].delta.content)
        busiest = max(_model_processes(), key=lambda process: process.cpu_percent(0.3))
        replica = busiest.parent()
        if replica is None:
            raise RuntimeError("the model's process has no parent")
        os.kill(replica.pid, signal.SIGKILL)
        killed = time.perf_counter()
        try:
            for _ in stream:
                pass
        except APIError:
            points, _ = paths.receive_api(client, model, question, 8)
            return points[0][0] - killed
    raise RuntimeError("the answer did not end with an error")


def _model_processes() -> list[psutil.Process]:
    """Return the model processes of the replicas: the children of Ray's actors."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if "phi3_ui.host.worker" in (process.info["cmdline"] or [])
        and psutil.Process(process.info["ppid"]).name().startswith("ray::")
    ]
