"""Tests for keys pressed during IME composition, and for repeated clicks and key presses."""

import re

from playwright.sync_api import Locator, Route, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import ChatPage

QUESTION = "Write a story about the sea."


def press_while_composing(field: Locator, key: str) -> None:
    """Dispatch a key press that the IME consumes, as Chromium and Firefox report it and as Safari does at the end of a composition."""
    for options in ({"isComposing": True}, {"keyCode": 229}):
        field.dispatch_event("keydown", {"key": key, "bubbles": True, "cancelable": True, **options})


def test_keys_during_ime_composition_trigger_no_action(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    chat.message.fill(QUESTION)
    press_while_composing(chat.message, "Enter")
    expect(chat.message).to_have_value(QUESTION)
    chat.message.press("Enter")
    chat.wait_for_caption(1)
    assert [request.question for request in app.model.requests] == [QUESTION]

    chat.list_button(QUESTION, "rename").click()
    title = chat.page.locator(".phi3-rename")
    title.fill("かんじ")
    for key in ("Enter", "Escape"):
        press_while_composing(title, key)
        expect(title).to_have_value("かんじ")
    title.fill("漢字")
    title.press("Enter")
    expect(chat.chats).to_have_text(["漢字"])

    chat.press("edit")
    expect(chat.edit_box).to_have_value(QUESTION)
    for key in ("Escape", "Enter"):
        press_while_composing(chat.edit_box, key)
        expect(chat.edit_box).to_have_value(QUESTION)
    chat.edit_box.press("Escape")
    expect(chat.edit_box).to_have_count(0)

    chat.press("good")
    chat.comment.fill("かんじ")
    press_while_composing(chat.comment, "Enter")
    expect(chat.comment).to_be_visible()
    chat.comment.press("Enter")
    expect(chat.comment).to_be_hidden()


def test_the_second_click_of_a_double_click_on_send_does_not_press_stop(app: App, open_page: OpenPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time."))
    chat = open_page()
    chat.message.fill(QUESTION)
    box = chat.send.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def click(milliseconds: int) -> None:
        """Click at the position of Send with a fake timestamp, so that the machine's speed does not matter."""
        chat.page.evaluate(
            "(time) => Object.defineProperty(Event.prototype, 'timeStamp', { get: () => time, configurable: true })",
            milliseconds,
        )
        chat.page.mouse.click(x, y)

    click(10_000)
    chat.wait_for_text()
    expect(chat.stop).to_be_visible()
    assert chat.stop.bounding_box() == box, "Stop is not where Send was"
    click(10_400)
    click(10_499)
    gate.open()
    chat.wait_for_caption(1)
    expect(chat.captions.last).not_to_contain_text("stopped")

    app.model.enqueue(Reply("Once upon ", app.model.create_gate(), "a time."))
    chat.message.fill("And the moon?")
    expect(chat.send).to_be_enabled()  # enabled after a delay: a click meant for Stop might hit it
    click(20_000)
    expect(chat.stop).to_be_visible()
    click(20_600)
    chat.wait_for_caption(2)
    expect(chat.captions.last).to_contain_text("stopped")

    # Clicks by keyboard and script all report the same position, but may press different buttons in quick succession.
    chat.page.evaluate(
        "() => document.querySelectorAll('#phi3-new, #phi3-left [data-panel]').forEach((button) => button.click())"
    )
    expect(chat.questions).to_have_count(0)
    expect(chat.page.locator("#phi3-shell")).to_have_attribute("data-left", "closed docked")


def test_repeated_sends_submit_the_message_once(app: App, chat: ChatPage) -> None:
    held_routes = list[Route]()
    pattern = re.compile("queue/join")
    chat.page.route(pattern, lambda route: held_routes.append(route))
    chat.message.fill(QUESTION)
    for _ in range(2):
        with chat.page.expect_request(pattern):
            chat.message.press("Enter")
    with chat.page.expect_request(pattern):
        chat.send.click()
    chat.message.press_sequentially("And then?")
    while held_routes:
        held_routes.pop(0).continue_()
    chat.page.unroute(pattern)
    chat.wait_for_caption(1)
    expect(chat.message).to_have_value("And then?")
    chat.message.press("Enter")
    chat.wait_for_caption(2)
    assert [request.question for request in app.model.requests] == [QUESTION, "And then?"]
