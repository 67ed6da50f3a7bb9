"""Tests the layout of the page in eight states against layout.json: boxes, not pixels, since fonts and rendering differ.

To accept a changed layout, delete layout.json, run this test, and review the new file before committing it.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from phi3_ui.testing import Reply
from tests.e2e.conftest import App
from tests.support.chat_page import ChatPage

EXPECTED = Path(__file__).with_name("layout.json")
TOLERANCE = 3  # pixels

# Elements whose position does not depend on the width of a text.
SELECTORS = [
    *("#phi3-left", "#phi3-centre", "#phi3-right", "#phi3-header", "#phi3-chat", "#phi3-composer"),
    *("#phi3-new", "#phi3-search", "#phi3-chats", "#phi3-tabs", "#phi3-usage", "#phi3-card", "#phi3-settings"),
    *("#phi3-chat .bot-row:last-child", "#phi3-send"),
]

Boxes = dict[str, list[int]]


def measure(page: Page) -> Boxes:
    """Return x, y and width of each visible element, in pixels, by selector."""
    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
    assert page.evaluate("document.documentElement.scrollHeight === innerHeight"), "the page is taller than the window"
    boxes: Boxes = page.evaluate(
        """(selectors) => Object.fromEntries(selectors.flatMap((selector) => {
          const element = document.querySelector(selector);
          if (!element?.checkVisibility({ visibilityProperty: true })) return [];
          const { x, y, width } = element.getBoundingClientRect();
          return [[selector, [x, y, width].map(Math.round)]];
        }))""",
        SELECTORS,
    )
    return boxes


def test_the_layout_matches_the_recorded_boxes(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("Paris."))
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    states = {"empty": measure(chat.page)}
    chat.answer("What is the capital of France?")
    states["answered"] = measure(chat.page)
    for tab in ("model", "settings"):
        chat.show_tab(tab)
        states[tab] = measure(chat.page)
    chat.show_tab("usage")
    for name, width in (("tablet", 1024), ("phone", 390)):
        chat.page.set_viewport_size({"width": width, "height": 844})
        states[name] = measure(chat.page)
    for side in ("left", "right"):
        chat.open_panel(side)
        states[f"phone, {side} drawer"] = measure(chat.page)
        chat.page.keyboard.press("Escape")

    if not EXPECTED.exists():
        lines = re.sub(
            r"\[[^]]*\]", lambda box: re.sub(r"\n\s*", "", box[0]).replace(",", ", "), json.dumps(states, indent=1)
        )
        EXPECTED.write_text(lines + "\n", encoding="utf-8")
        pytest.fail(f"wrote {EXPECTED}: review it, then run this test again")
    expected: dict[str, Boxes] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert {name: sorted(boxes) for name, boxes in states.items()} == {
        name: sorted(boxes) for name, boxes in expected.items()
    }
    moved = [
        f"{state}: {selector} is at {box}, not {expected[state][selector]}"
        for state, boxes in states.items()
        for selector, box in boxes.items()
        if any(abs(a - b) > TOLERANCE for a, b in zip(box, expected[state][selector], strict=True))
    ]
    assert not moved, "\n".join(moved)
