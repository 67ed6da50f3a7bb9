"""Switching between two models when only one may be loaded: memory growth and leftover processes."""

import signal
import time
from collections.abc import Iterator

import psutil
from gradio_client import Client

from bench.paths import QUESTION
from bench.rows import Bench, Row
from tests.support.app_server import Server, serve

_SWITCHES = 20
_TOKENS = 8


def measure_rows(bench: Bench) -> Iterator[Row]:
    log = bench.temporary / "switching.log"
    one_model = {"PHI3_UI_MAX_LOADED_MODELS": "1"}
    with serve(bench.settings.home, log, "bench/collected_app.py", variables=one_model) as server:
        client = Client(server.url, verbose=False)
        sizes, left, pids = list[int](), 0, set[int]()
        for number in range(_SWITCHES):
            entry = list(bench.entries.values())[number % 2]
            client.reset_session()
            client.predict(QUESTION, entry.model_id, "", 0.0, 1.0, _TOKENS, api_name="/chat")
            running = {process.pid for process in server.model_processes()}
            pids |= running
            left = max(left, len(running) - 1)
            sizes.append(read_memory(server))
    left += sum(map(psutil.pid_exists, pids))
    growth = sizes[-1] / sizes[1] - 1
    detail = f"{sizes[1] / 1e6:.0f} to {sizes[-1] / 1e6:.0f} MB"
    yield Row(
        f"{_SWITCHES} model switches: growth of the app's memory",
        f"{growth:.1%} ({detail})",
        "≤ 5 %",
        growth <= 0.05,
    )
    yield Row(f"{_SWITCHES} model switches: leftover model processes", f"{left} of {len(pids)}", "0", left == 0)


def read_memory(server: Server) -> int:
    """Return the resident bytes of the app process after a garbage collection."""
    server.process.send_signal(signal.SIGUSR1)
    time.sleep(1)
    return int(server.process.memory_info().rss)
