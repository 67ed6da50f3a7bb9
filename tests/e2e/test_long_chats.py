"""A long chat: older messages are laid out, and get their buttons, once they are near the view; none of them is missing."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.chat_page import ChatPage

TITLE, TURNS = "Long chat", 100
# Scrolls to the top in steps of 700 pixels; returns by how many pixels what is read has jumped at most.
SCROLL_UP = """async () => {
  const log = document.querySelector(".phi3-log");
  const frame = () => new Promise(requestAnimationFrame);
  const place = (row) => row.getBoundingClientRect().top;
  let worst = 0;
  while (log.scrollTop > 700) {
    const { top } = log.getBoundingClientRect();
    const seen = [...log.querySelectorAll(".message-row")].find((row) => place(row) >= top);
    const before = place(seen);
    log.scrollTop -= 700;
    await frame();
    await frame();
    worst = Math.max(worst, Math.abs(place(seen) - before - 700));
  }
  log.scrollTop = 0;
  return worst;
}"""


@pytest.fixture
def long_chat(chat: ChatPage, tmp_path: Path) -> ChatPage:
    """A chat that has just been opened, or imported if no test has done so."""
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    if (listed := chat.chats.filter(has_text=TITLE)).count():
        listed.click()
    else:
        import_it(chat, tmp_path)
    expect(chat.page.locator("#phi3-chat .message-row")).to_have_count(2 * TURNS)
    return chat


def import_it(chat: ChatPage, folder: Path) -> None:
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


def test_older_messages_are_completed_once_they_are_near_the_view(long_chat: ChatPage) -> None:
    toolbars = long_chat.page.locator("#phi3-chat .phi3-actions")
    expect(long_chat.page.locator(".phi3-last .phi3-actions")).to_be_in_viewport()
    assert toolbars.count() < TURNS / 2
    assert long_chat.page.evaluate(SCROLL_UP) <= 1
    expect(toolbars).to_have_count(TURNS)


def test_the_browser_finds_and_copies_text_out_of_view(long_chat: ChatPage) -> None:
    page = long_chat.page
    assert page.evaluate("window.find('Answer 7.', true, false, true)")
    assert long_chat.action("retry").count() < TURNS / 2
    page.evaluate("getSelection().anchorNode.parentElement.scrollIntoView()")  # as the browser does
    expect(long_chat.answers.nth(7)).to_be_in_viewport()
    expect(long_chat.page.locator("#phi3-chat .bot-row").nth(7).locator("[name=retry]")).to_be_attached()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.phi3-log'))")
    selected = page.evaluate("getSelection().toString()")
    assert all(f"Question {number}?" in selected for number in range(TURNS))


def test_the_arrow_keys_reach_messages_that_are_out_of_view(long_chat: ChatPage) -> None:
    long_chat.page.locator(".phi3-last .phi3-actions [name=retry]").focus()
    long_chat.page.keyboard.press("Home")
    expect(long_chat.questions.first).to_be_in_viewport()
    long_chat.page.keyboard.press("ArrowDown")
    expect(long_chat.action("retry").first).to_be_focused()
