"""Cost of the page in the browser: loading over loopback, rendering an answer in a short and a long chat, opening a chat."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, ViewportSize, expect, sync_playwright

from bench.rows import Bench, Row
from phi3_ui.testing import Reply, log_scripted_model
from tests.support import browser as chromium
from tests.support.app_server import Server, serve
from tests.support.build_cache import create_store
from tests.support.chat_page import ChatPage
from tests.support.trust import approve_models

_VIEWPORT: ViewportSize = {"width": 1440, "height": 900}
_TOKENS = 200
_IDLE = 10  # seconds
_OPENED = (200, 1000)  # messages
_WATCH = """
globalThis.phi3Shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) phi3Shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
# Locators search the whole page, which takes longer the longer the chat is: none is used while time is measured.
_AWAIT_ANSWER = """() => {
  const answers = document.getElementsByClassName("phi3-answer");
  const count = answers.length;
  globalThis.phi3Answered = new Promise((resolve) => new MutationObserver((_, observer) => {
    if (answers.length === count) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(resolve)); // after the last update is rendered
  }).observe(document.querySelector("#phi3-chat"), { childList: true, subtree: true }));
}"""
# Opens the first chat of the list. Returns the seconds until it is rendered, and the longest task of the main thread.
_OPEN = """async (messages) => {
  const frame = () => new Promise(requestAnimationFrame);
  let longest = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
  });
  observer.observe({ type: "longtask" });
  const rows = document.getElementsByClassName("message-row");
  const start = performance.now();
  document.querySelector("#phi3-chats button[name=open]").click();
  while (rows.length !== messages) await frame();
  await frame();
  await frame();
  const drawn = performance.now() - start;
  await new Promise((done) => setTimeout(done, 500)); // tasks are reported afterwards
  observer.disconnect();
  return [drawn / 1000, longest / 1000];
}"""


_IMPORT = 120_000  # milliseconds, for the longest chat


def measure_rows(bench: Bench) -> Iterator[Row]:
    home = bench.temporary / "page-load"
    home.mkdir()
    uri = create_store(home)
    model = log_scripted_model(uri, home, "scripted")
    approve_models(uri, home)
    sizes, shifts, paints, usable, ratios = list[int](), list[float](), list[float](), list[float](), list[float]()
    with serve(home, home / "app.log") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        _load(browser, server.url)  # warm-up: loads the model
        for _ in range(bench.rounds):
            size, shift, paint, seconds = _load(browser, server.url)
            sizes.append(size)
            shifts.append(shift)
            paints.append(paint)
            usable.append(seconds)
        for _ in range(bench.rounds):
            costs = []
            for turns in (1, 100):
                page = browser.new_page(viewport=_VIEWPORT)
                page.goto(server.url)
                chat = ChatPage(page).wait_until_ready()
                _import_chat(chat, turns, home / f"chat-{turns}.json")
                words = [f"word{number} " for number in range(_TOKENS)]
                model.enqueue(Reply("Hi."), Reply(*words, seconds_per_token=0.02))
                chat.answer("Hello.")  # warm-up: the first answer includes one-time compilation and downloads
                session = page.context.new_cdp_session(page)
                session.send("Performance.enable")
                chat.message.fill("Write.")
                page.evaluate(_AWAIT_ANSWER)
                before = _task_seconds(session)
                page.keyboard.press("Enter")
                page.evaluate("phi3Answered")
                costs.append(_task_seconds(session) - before)
                page.close()
            ratios.append(costs[1] / costs[0])
        idle = [_idle_shares(browser, server) for _ in range(bench.rounds)]
        opened = {messages: _open_chat(browser, server.url, home, messages, bench.rounds) for messages in _OPENED}
        browser.close()
    kilobytes = statistics.median(sizes) / 1000
    yield Row("bytes transferred in a cold load", f"{kilobytes:.0f} kB", "≤ 500 kB", kilobytes <= 500)
    shift = max(shifts)
    yield Row("layout shift during a load (worst)", f"{shift:.3f}", "≤ 0.05", shift <= 0.05)
    paint = statistics.median(paints)
    yield Row("first paint of a cold load, server running", f"{paint:.2f} s", "≤ 1.5 s", paint <= 1.5)
    seconds = statistics.median(usable)
    yield Row("composer usable in a cold load, server running", f"{seconds:.2f} s", "≤ 3 s", seconds <= 3)
    ratio = statistics.median(ratios)
    what = "main-thread time for an answer of 200 tokens: chat of 200 messages ÷ chat of 2"
    yield Row(what, f"{ratio:.2f}", "≤ 1.5", ratio <= 1.5)
    share, server_share = (statistics.median(column) for column in zip(*idle, strict=True))
    yield Row("main-thread time of an idle page", f"{share:.1%}", "≤ 1 %", share <= 0.01)
    yield Row("CPU time of the server with an idle page", f"{server_share:.1%}", "≤ 2 %", server_share <= 0.02)
    for messages, times in opened.items():
        drawn, busy, longest = (statistics.median(column) for column in zip(*times, strict=True))
        detail = f"main thread busy for {busy:.2f} s, longest task {1000 * longest:.0f} ms"
        yield Row(f"opening a chat of {messages:,} messages, until it is rendered", f"{drawn:.2f} s ({detail})")


def _load(browser: Browser, url: str) -> tuple[int, float, float, float]:
    """Load the page with an empty cache. Return bytes, layout shift, and the seconds to first paint and to a usable composer."""
    context = browser.new_context(viewport=_VIEWPORT)
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    sizes = list[int]()
    network.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    page.add_init_script(_WATCH)
    page.goto(url)
    page.locator("#phi3-message textarea").wait_for(state="visible")
    usable = page.evaluate("performance.now()") / 1000
    ChatPage(page).wait_until_ready()
    page.wait_for_load_state("load")
    paint = page.evaluate("performance.getEntriesByName('first-paint')[0].startTime") / 1000
    shift = page.evaluate("phi3Shift")
    context.close()
    return sum(sizes), shift, paint, usable


def _idle_shares(browser: Browser, server: Server) -> tuple[float, float]:
    """Return the shares of a core that an idle page takes: of its main thread, and of the server, which has no other page."""
    page = browser.new_page(viewport=_VIEWPORT)
    page.goto(server.url)
    ChatPage(page).wait_until_ready()
    page.wait_for_timeout(3000)  # until the work caused by the load has ended
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before, served = _task_seconds(session), _cpu_seconds(server)
    page.wait_for_timeout(1000 * _IDLE)
    busy, serving = _task_seconds(session) - before, _cpu_seconds(server) - served
    page.close()
    return busy / _IDLE, serving / _IDLE


def _cpu_seconds(server: Server) -> float:
    times = server.process.cpu_times()
    return times.user + times.system


def _open_chat(browser: Browser, url: str, home: Path, messages: int, rounds: int) -> list[tuple[float, float, float]]:
    """Return for each round the seconds until a chat is rendered, of main-thread work for it, and of the longest task."""
    page = browser.new_page(viewport=_VIEWPORT)
    page.goto(url)
    chat = ChatPage(page).wait_until_ready()
    _import_chat(chat, messages // 2, home / f"opened-{messages}.json")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    times = []
    for _ in range(rounds):
        chat.start_new_chat()
        before = _task_seconds(session)
        drawn, longest = page.evaluate(_OPEN, messages)
        times.append((drawn, _task_seconds(session) - before, longest))
    page.close()
    return times


def _import_chat(chat: ChatPage, turns: int, file: Path) -> None:
    """Import and open a chat with this many turns."""
    messages = [
        message
        for number in range(turns)
        for message in (
            {"role": "user", "content": f"Question {number}?"},
            {
                "role": "assistant",
                "content": f"**Answer** {number}.\n\n```python\nprint({number})\n```\n\n- one\n- two",
            },
        )
    ]
    file.write_text(json.dumps({"title": "Imported", "messages": messages}), encoding="utf-8")
    chat.import_file(file)
    rows = chat.page.locator("#phi3-chat .message-row")
    expect(rows).to_have_count(2 * turns, timeout=_IMPORT)


def _task_seconds(session: CDPSession) -> float:
    """Return the seconds of work of the page's main thread since the session started counting."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))
