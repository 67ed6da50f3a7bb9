"""From `python app.py` to a usable page, and from there to the first text of a cold model."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from bench.paths import QUESTION, WATCH
from bench.rows import Bench, Row, ask_model, median_ratio
from phi3_ui.chat.types import Message
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.admission import open_admission
from tests.support import browser as chromium
from tests.support.app_server import serve

_TOKENS = 16


_IMPORT = "import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"


def measure_rows(bench: Bench) -> Iterator[Row]:
    usable, cold, apart = list[float](), list[float](), list[float]()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        for number in range(bench.rounds):
            seconds, first = time_start(launched, bench.settings.home, bench.temporary / f"start-{number}.log")
            usable.append(seconds)
            cold.append(first)
            apart.append(load_and_answer(bench))
        launched.close()
    value = statistics.median(usable)
    yield Row("process start → page usable in Chromium", f"{value:.2f} s", "≤ 4 s", value <= 4)
    value = median_ratio(cold, apart)
    detail = f"{statistics.median(cold):.2f} and {statistics.median(apart):.2f} s"
    what = "page usable → first text of a cold ONNX model, ÷ (loading + first text on an idle machine)"
    yield Row(what, f"{value:.2f} ({detail})", "about 1", value <= 1.2)
    quick = [time_import("phi3_ui.ui.quick_gradio") for _ in range(bench.rounds)]
    plain = [time_import("gradio") for _ in range(bench.rounds)]
    value, detail = median_ratio(quick, plain), f"{statistics.median(quick):.2f} and {statistics.median(plain):.2f} s"
    yield Row("import of Gradio without its stub files ÷ plain import", f"{value:.2f} ({detail})", "< 0.9", value < 0.9)


def time_import(module: str) -> float:
    """Return the seconds for importing a module in a fresh process."""
    command = [sys.executable, "-c", _IMPORT.format(module=module)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def time_start(launched: Any, home: Path, log: Path) -> tuple[float, float]:
    """Return the seconds from process start to a usable page, and from there to the first text of the default model."""
    page = launched.new_page(viewport={"width": 1400, "height": 900})
    began = time.monotonic()
    with serve(home, log) as server:
        page.goto(server.url)
        message = page.locator("#phi3-message textarea")
        message.wait_for(state="visible")
        usable = time.monotonic()
        page.evaluate(WATCH)
        # A question sent before the picker has a value would have no model.
        page.wait_for_function("document.querySelector('#phi3-picker :is(input, textarea)').value !== ''", polling=10)
        message.fill(QUESTION)
        page.locator("#phi3-send").click()
        page.wait_for_function("phi3Bench.points.length > 0", polling=10, timeout=120_000)
        first = time.monotonic() - usable
    page.close()
    return usable - began, first


def load_and_answer(bench: Bench) -> float:
    """Return the seconds for loading the same model on an idle machine, plus its time to first text."""
    began = time.monotonic()
    model = HostedModel(bench.spec(next(iter(bench.entries))), bench.temporary, open_admission(bench.settings).admit)
    try:
        model.ready.result()
        loaded = time.monotonic() - began
        return loaded + ask_model(model, [Message("user", QUESTION)], _TOKENS).first
    finally:
        model.unload()
