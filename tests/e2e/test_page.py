"""The page itself: languages, narrow screens, dark mode, and no request to another host."""

from urllib.parse import urlparse

import pytest
from playwright.sync_api import FloatRect, Page, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, OpenPage

PHONE = {"width": 390, "height": 844}


def test_the_page_sends_no_request_to_another_host_whatever_is_written(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    hosts: set[str | None] = set()
    chat.page.on("requestfinished", lambda request: hosts.add(urlparse(request.url).hostname))
    chat.reload().pick("scripted-one")
    chat.answer("![x](http://leak.example/a.png) http://leak.example $$x$$ ```js\nfetch('http://leak.example')\n```")
    assert hosts <= {urlparse(app.server.url).hostname, None}
    with pytest.raises(Exception, match="Failed to fetch"):
        chat.page.evaluate("fetch('http://leak.example/')")


def test_labels_and_server_texts_are_romanian_in_a_romanian_browser(open_page: OpenPage) -> None:
    chat = open_page(locale="ro-RO")
    expect(chat.send).to_have_text("Trimite")
    expect(chat.new_chat).to_have_text("Conversație nouă")
    expect(chat.usage).to_contain_text("Numărul de tokeni apare după primul răspuns.")
    chat.pick("scripted-one")
    expect(chat.status).to_contain_text("încărcat")
    expect(chat.card).to_contain_text("Lungimea contextului")


def box(page: Page, selector: str) -> FloatRect:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return found


def test_on_a_phone_the_chat_fills_the_screen_and_the_side_panels_are_drawers(open_page: OpenPage) -> None:
    chat = open_page(viewport=PHONE)
    chat.page.wait_for_function("[...document.querySelectorAll('.sidebar')].every((s) => s.dataset.settled)")
    chat_box, composer = box(chat.page, "#phi3-chat"), box(chat.page, "#phi3-composer")
    assert chat_box["width"] > 0.85 * PHONE["width"]
    assert composer["y"] + composer["height"] <= PHONE["height"]
    assert chat.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    expect(chat.new_chat).not_to_be_in_viewport()
    chat.page.locator("#phi3-left .toggle-button").click()
    expect(chat.new_chat).to_be_in_viewport()
    chat.page.locator("#phi3-left .toggle-button").click()
    expect(chat.new_chat).not_to_be_in_viewport()
    chat.page.locator("#phi3-right .toggle-button").click()
    expect(chat.usage).to_be_in_viewport()


def test_the_reproduce_program_is_scrolled_into_view_on_a_phone_too(open_page: OpenPage) -> None:
    chat = open_page(viewport=PHONE)
    chat.page.wait_for_function("[...document.querySelectorAll('.sidebar')].every((s) => s.dataset.settled)")
    chat.answer("What is the capital of France?")
    program = chat.page.locator("#phi3-reproduce .cm-content")
    chat.press("reproduce")
    expect(program).to_be_in_viewport()
    chat.page.locator("#phi3-right .toggle-button").click()
    expect(program).not_to_be_in_viewport()
    chat.press("good")
    expect(chat.action("good")).to_have_text("✓ Good")
    expect(program).not_to_be_in_viewport()
    chat.press("reproduce")
    expect(program).to_be_in_viewport()
    chat.page.locator("#phi3-right .toggle-button").click()
    chat.press("retry")
    expect(chat.page.locator("#phi3-reproduce")).to_be_hidden()


def test_the_three_panels_stand_side_by_side_on_a_wide_screen(open_page: OpenPage) -> None:
    chat = open_page()
    left, middle, right = (box(chat.page, name) for name in ("#phi3-left", "#phi3-chat", "#phi3-right"))
    assert left["x"] + left["width"] <= middle["x"]
    assert middle["x"] + middle["width"] <= right["x"]
    assert middle["width"] > left["width"]


@pytest.mark.parametrize(("scheme", "dark"), [("dark", True), ("light", False)])
def test_light_and_dark_follow_the_system(open_page: OpenPage, scheme: str, dark: bool) -> None:
    chat = open_page(color_scheme=scheme)
    red, green, blue = chat.page.evaluate(
        "getComputedStyle(document.querySelector('#phi3-chat')).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue < 3 * 80) is dark


def test_the_chat_does_not_move_while_it_streams(app: App, open_page: OpenPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time. " * 20))
    chat = open_page()
    positions = [box(chat.page, "#phi3-chat")]
    expected = chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    positions.append(box(chat.page, "#phi3-chat"))
    gate.open()
    chat.wait_for_caption(expected)
    positions.append(box(chat.page, "#phi3-chat"))
    assert positions[0] == positions[1] == positions[2]
