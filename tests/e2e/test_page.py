"""The page itself: languages, phone, dark, and that it asks no other host for anything."""

from collections.abc import Callable
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Server
from tests.support.chat_page import ChatPage

Open = Callable[..., ChatPage]
PHONE = {"width": 390, "height": 844}


def test_the_page_asks_no_other_host_whatever_is_written(open_page: Open, server: Server) -> None:
    chat = open_page()
    hosts: set[str | None] = set()
    chat.page.on("requestfinished", lambda request: hosts.add(urlparse(request.url).hostname))
    chat.page.reload()
    chat.ready().pick("ONNX")
    chat.setting("Max tokens", 4)
    chat.answer("![x](http://leak.example/a.png) http://leak.example $$x$$ ```js\nfetch('http://leak.example')\n```")
    assert hosts <= {urlparse(server.url).hostname, None}
    with pytest.raises(Exception, match="Failed to fetch"):
        chat.page.evaluate("fetch('http://leak.example/')")


def test_romanian_follows_the_browser_in_labels_and_in_what_the_server_writes(open_page: Open) -> None:
    chat = open_page(locale="ro-RO")
    expect(chat.send).to_have_text("Trimite")
    expect(chat.new_chat).to_have_text("Conversație nouă")
    expect(chat.usage).to_contain_text("Numărul de tokeni apare după primul răspuns.")
    chat.pick("ONNX")
    expect(chat.status).to_contain_text("încărcat")
    expect(chat.card).to_contain_text("Lungimea contextului")


def box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return dict(found)


def test_on_a_phone_the_chat_has_the_screen_and_the_sides_are_drawers(open_page: Open) -> None:
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


def test_the_program_that_was_asked_for_is_brought_into_sight_on_a_phone_too(open_page: Open) -> None:
    chat = open_page(viewport=PHONE)
    chat.page.wait_for_function("[...document.querySelectorAll('.sidebar')].every((s) => s.dataset.settled)")
    chat.answer("What is the capital of France?")
    program = chat.page.locator("#phi3-reproduce .cm-content")
    chat.act("reproduce")
    expect(program).to_be_in_viewport()
    chat.page.locator("#phi3-right .toggle-button").click()
    expect(program).not_to_be_in_viewport()
    chat.act("good")
    expect(chat.page.locator('#phi3-chat button[name="good"]')).to_have_text("✓ Good")
    expect(program).not_to_be_in_viewport()
    chat.act("reproduce")
    expect(program).to_be_in_viewport()
    chat.page.locator("#phi3-right .toggle-button").click()
    chat.act("retry")
    expect(chat.page.locator("#phi3-reproduce")).to_be_hidden()


def test_the_three_places_stand_side_by_side_on_a_wide_screen(open_page: Open) -> None:
    chat = open_page()
    left, middle, right = (box(chat.page, name) for name in ("#phi3-left", "#phi3-chat", "#phi3-right"))
    assert left["x"] + left["width"] <= middle["x"]
    assert middle["x"] + middle["width"] <= right["x"]
    assert middle["width"] > left["width"]


@pytest.mark.parametrize(("scheme", "dark"), [("dark", True), ("light", False)])
def test_light_and_dark_follow_the_system(open_page: Open, scheme: str, dark: bool) -> None:
    chat = open_page(color_scheme=scheme)
    red, green, blue = chat.page.evaluate(
        "getComputedStyle(document.querySelector('#phi3-chat')).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue < 3 * 80) is dark


def test_the_chat_does_not_move_while_it_streams(open_page: Open) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Max tokens", 60)
    places = [box(chat.page, "#phi3-chat")]
    expected = chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    places.append(box(chat.page, "#phi3-chat"))
    chat.wait_for_caption(expected)
    places.append(box(chat.page, "#phi3-chat"))
    assert places[0] == places[1] == places[2]
