"""Tests for long chats: older messages get their layout and buttons only near the viewport, and none is missing."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.chat_page import ChatPage

TITLE, TURNS = "Long chat", 100
# Scrolls to the top in steps of 700 pixels; returns the largest layout shift of the visible text, in pixels.
SCROLL_UP = """async () => {
  const log = document.querySelector(".phi3-log");
  const frame = () => new Promise(requestAnimationFrame);
  const getTop = (row) => row.getBoundingClientRect().top;
  let worst = 0;
  while (log.scrollTop > 700) {
    const { top } = log.getBoundingClientRect();
    const anchor = [...log.querySelectorAll(".message-row")].find((row) => getTop(row) >= top);
    const before = getTop(anchor);
    log.scrollTop -= 700;
    await frame();
    await frame();
    worst = Math.max(worst, Math.abs(getTop(anchor) - before - 700));
  }
  log.scrollTop = 0;
  return worst;
}"""


@pytest.fixture
def long_chat(chat: ChatPage, tmp_path: Path) -> ChatPage:
    """Open the long chat; import it first unless an earlier test has done so."""
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    if (listed := chat.chats.filter(has_text=TITLE)).count():
        listed.click()
    else:
        import_long_chat(chat, tmp_path)
    expect(chat.page.locator("#phi3-chat .message-row")).to_have_count(2 * TURNS)
    return chat


def import_long_chat(chat: ChatPage, folder: Path) -> None:
    messages = [
        message
        for number in range(TURNS)
        for message in (
            {"role": "user", "content": f"Question {number}?"},
            {
                "role": "assistant",
                "content": f"**Answer** {number}.\n\n```python\nprint({number})\n```" * (number % 3 + 1),
            },
        )
    ]
    file = folder / "chat.json"
    file.write_text(json.dumps({"title": TITLE, "messages": messages}), encoding="utf-8")
    chat.import_file(file)
    chat.page.locator("#phi3-import").get_by_role("button", name="Close").click()


def test_older_messages_get_their_buttons_near_the_viewport(long_chat: ChatPage) -> None:
    toolbars = long_chat.page.locator("#phi3-chat .phi3-actions")
    expect(long_chat.page.locator(".phi3-last .phi3-actions")).to_be_in_viewport()
    assert toolbars.count() < TURNS / 2
    assert long_chat.page.evaluate(SCROLL_UP) <= 1
    expect(toolbars).to_have_count(TURNS)


def test_the_browser_finds_and_copies_text_outside_the_viewport(long_chat: ChatPage) -> None:
    page = long_chat.page
    assert page.evaluate("window.find('Answer 7.', true, false, true)")
    assert long_chat.action_buttons("retry").count() < TURNS / 2
    page.evaluate("getSelection().anchorNode.parentElement.scrollIntoView()")  # as the browser does
    expect(long_chat.answers.nth(7)).to_be_in_viewport()
    expect(long_chat.page.locator("#phi3-chat .bot-row").nth(7).locator("[name=retry]")).to_be_attached()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.phi3-log'))")
    selected = page.evaluate("getSelection().toString()")
    assert all(f"Question {number}?" in selected for number in range(TURNS))


def test_the_keyboard_reaches_messages_outside_the_viewport(long_chat: ChatPage) -> None:
    long_chat.page.locator(".phi3-last .phi3-actions [name=retry]").focus()
    long_chat.page.keyboard.press("Home")
    expect(long_chat.questions.first).to_be_in_viewport()
    long_chat.page.keyboard.press("ArrowDown")
    expect(long_chat.action_buttons("retry").first).to_be_focused()
