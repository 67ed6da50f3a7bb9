"""The list of 2,000 chats in the browser: smoothness of scrolling, and cost of an update."""

import statistics
from collections.abc import Iterator

from playwright.sync_api import ViewportSize, expect, sync_playwright

from bench.history import record_chats
from bench.rows import Bench, Row
from phi3_ui.testing import log_scripted_model
from phi3_ui.ui.sessions import visitor_id
from tests.support import browser as chromium
from tests.support.app_server import serve
from tests.support.build_cache import create_store
from tests.support.chat_page import ChatPage
from tests.support.trust import approve_models

_CHATS = 2000
_TOKEN = "t" * 32
_VIEWPORT: ViewportSize = {"width": 1440, "height": 900}
_ROW = 35  # pixels
_STEP = 120  # pixels per frame: 200 chats per second
_SCROLL = """
async ({ step, steps }) => {
  const list = document.querySelector("#phi3-chats");
  const frames = [];
  let blank = 0;
  let last = await new Promise(requestAnimationFrame);
  for (let i = 0; i < steps; i++) {
    list.scrollBy(0, step);
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
    const { top, bottom } = list.getBoundingClientRect();
    const gaps = [...list.querySelectorAll(".phi3-gap")].map((gap) => gap.getBoundingClientRect());
    if (gaps.some((gap) => gap.height && gap.top < bottom && gap.bottom > top)) blank++;
  }
  return [frames, blank];
}
"""
_RENAME = """
async (title) => {
  const button = [...document.querySelectorAll("#phi3-chats button[name=open]")].at(-1);
  button.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  const field = document.querySelector(".phi3-rename");
  field.value = title;
  const start = performance.now();
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  while (button.textContent !== title) await new Promise(requestAnimationFrame);
  return (performance.now() - start) / 1000;
}
"""


def measure_rows(bench: Bench) -> Iterator[Row]:
    home = bench.temporary / "chat-list"
    home.mkdir()
    uri = create_store(home)
    log_scripted_model(uri, home, "scripted")
    approve_models(uri, home)
    record_chats(home, visitor_id(_TOKEN), _CHATS)
    frames, seconds = list[float](), list[float]()
    with serve(home, home / "app.log") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        page = browser.new_page(viewport=_VIEWPORT)
        page.add_init_script(f"localStorage.setItem('phi3-chat-who', '{_TOKEN}')")
        page.goto(server.url)
        ChatPage(page).wait_until_ready()
        chats = page.locator("#phi3-chats")
        expect(chats.get_by_role("button", name=" more")).to_have_text("1,900 more")
        blank = 0
        for step in (_STEP, -_STEP):
            times, without = page.evaluate(_SCROLL, {"step": step, "steps": _CHATS * _ROW // _STEP})
            frames += times
            blank += without
        page.evaluate("document.querySelector('#phi3-chats').scrollTo(0, 1e6)")
        expect(chats.locator(".phi3-gap").last).to_have_attribute("data-rows", "0")
        for number in range(5 * bench.rounds):
            seconds.append(page.evaluate(_RENAME, f"Renamed {number}"))
        size = page.evaluate("new Blob([document.querySelector('#phi3-chats nav').outerHTML]).size") / 1000
        browser.close()
    late = sum(frame > 50 for frame in frames)
    detail = f"median {statistics.median(frames):.0f} ms; rows missing in {blank}"
    yield Row(
        f"{_CHATS:,} chats: frames of more than 50 ms while scrolling the list",
        f"{late} of {len(frames)} ({detail})",
        "≤ 5 %",
        late <= len(frames) / 20,
    )
    yield Row(f"{_CHATS:,} chats: size of an update at the end of the list", f"{size:.0f} kB", "≤ 60 kB", size <= 60)
    value = statistics.median(seconds)
    yield Row(
        f"{_CHATS:,} chats: renaming the last one, until it is rendered",
        f"{1000 * value:.0f} ms",
        "≤ 100 ms",
        value <= 0.1,
    )
