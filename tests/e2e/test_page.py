"""Tests for the page itself: languages, narrow screens, layout stability, idle cost, and no request to another host."""

from pathlib import Path
from urllib.parse import urlparse

import pytest
from playwright.sync_api import FilePayload, FloatRect, Page, ViewportSize, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, NewVisitor, OpenPage, open_chat
from tests.support.chat_page import ChatPage

PHONE: ViewportSize = {"width": 390, "height": 844}


def test_the_page_sends_no_request_to_another_host_whatever_the_chat_contains(
    app: App, new_visitor: NewVisitor
) -> None:
    visitor, hosts = new_visitor(), set[str | None]()
    visitor.on("requestfinished", lambda request: hosts.add(urlparse(request.url).hostname))
    chat = open_chat(visitor, app.server).pick("scripted-one")
    chat.answer("![x](http://leak.example/a.png) http://leak.example $$x$$ ```js\nfetch('http://leak.example')\n```")
    assert hosts <= {urlparse(app.server.url).hostname, None}
    with pytest.raises(Exception, match="Failed to fetch"):
        chat.page.evaluate("fetch('http://leak.example/')")


def test_labels_and_server_texts_are_romanian_in_a_romanian_browser(open_page: OpenPage) -> None:
    chat = open_page(locale="ro-RO")
    expect(chat.send).to_have_text("Trimite")
    expect(chat.new_chat).to_have_accessible_name("Conversație nouă")
    expect(chat.usage).to_contain_text("Numărul de tokeni apare după primul răspuns.")
    chat.pick("scripted-one")
    expect(chat.status).to_contain_text("încărcat")
    expect(chat.card).to_contain_text("Lungimea contextului")
    broken: FilePayload = {"name": "broken.json", "mimeType": "application/json", "buffer": b"not JSON"}
    chat.page.locator("input[accept*=zip]").set_input_files(broken)
    panel = chat.page.locator("#phi3-import")
    expect(panel.get_by_role("status")).to_contain_text("Acest fișier nu conține")
    panel.get_by_role("button", name="Închide", exact=True).click()
    expect(panel.get_by_role("button")).to_be_hidden()
    chat.page.evaluate("phi3PerformAction('save_all', '', '')")
    toast = chat.page.get_by_test_id("toast-body")
    expect(toast.locator(".toast-title")).to_have_text("Atenție")
    toast.get_by_role("button", name="Închide", exact=True).click()
    expect(toast).to_be_hidden()


def test_an_idle_page_requests_no_frames_and_the_app_loads_no_plotting_library(
    app: App, new_visitor: NewVisitor
) -> None:
    context = new_visitor()
    context.add_init_script(
        """globalThis.frames_ = 0;
        const request = requestAnimationFrame;
        globalThis.requestAnimationFrame = (draw) => { frames_++; return request(draw); };"""
    )
    page = open_chat(context, app.server).page
    page.wait_for_function("""async () => {
      const before = frames_;
      await new Promise((done) => setTimeout(done, 1000));
      return frames_ - before < 10; // a timer of Gradio would request 60
    }""")
    mapped = {Path(region.path).name.partition(".")[0] for region in app.server.process.memory_maps()}
    assert "_backend_agg" not in mapped  # loaded by matplotlib.pyplot


def get_box(page: Page, selector: str) -> FloatRect:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box


def test_panels_are_docked_on_wide_screens_and_drawers_on_narrow_ones(open_page: OpenPage) -> None:
    chat = open_page(viewport={"width": 1440, "height": 900})
    shell, scrim = chat.page.locator("#phi3-shell"), chat.page.locator("#phi3-scrim")
    for width, left, right in (
        (1440, "open docked", "open docked"),
        (1024, "open docked", "closed drawer"),
        (390, "closed drawer", "closed drawer"),
    ):
        chat.page.set_viewport_size({"width": width, "height": 844})
        expect(shell).to_have_attribute("data-left", left)
        expect(shell).to_have_attribute("data-right", right)
        assert get_box(chat.page, "#phi3-centre")["width"] >= min(width, 600)
        assert chat.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        composer = get_box(chat.page, "#phi3-composer")
        assert composer["y"] + composer["height"] <= 844

    # A drawer opens with its button and closes on Escape or a tap outside; the focus moves into it and back.
    toggle = chat.page.locator('#phi3-header [data-panel="left"]')
    toggle.click()
    expect(chat.new_chat).to_be_in_viewport()
    expect(toggle).to_have_attribute("aria-expanded", "true")
    assert chat.page.evaluate("document.querySelector('#phi3-left').contains(document.activeElement)")
    chat.page.keyboard.press("Escape")
    expect(chat.new_chat).to_be_hidden()
    expect(toggle).to_be_focused()
    chat.page.locator('#phi3-header [data-panel="right"]').click()
    expect(chat.usage).to_be_in_viewport()
    scrim.click(position={"x": 10, "y": 400})
    expect(chat.usage).to_be_hidden()
    chat.open_panel("right")
    chat.page.locator("#phi3-tabs .phi3-icon").click()
    expect(shell).to_have_attribute("data-right", "closed drawer")

    # On a phone in landscape, the chat gets more than half of the height.
    chat.page.set_viewport_size({"width": 844, "height": 390})
    assert get_box(chat.page, "#phi3-chat")["height"] > 195
    chat.page.set_viewport_size({"width": 390, "height": 844})

    # In a low window, the composer fits even with a long draft, and is wide enough to type in.
    chat.message.fill("A long line of a long draft.\n" * 20)
    for width, height in ((667, 375), (844, 330), (844, 220), (390, 460), (390, 300)):
        chat.page.set_viewport_size({"width": width, "height": height})
        composer = get_box(chat.page, "#phi3-composer")
        assert composer["y"] + composer["height"] <= height, (width, height)
        assert get_box(chat.page, "#phi3-message textarea")["width"] > 250, (width, height)
    chat.message.fill("")
    chat.page.set_viewport_size({"width": 390, "height": 844})

    # An open drawer survives a reload, but does not reopen after the window has been wide in between.
    toggle.click()
    expect(shell).to_have_attribute("data-left", "open drawer")
    chat.page.reload()
    expect(shell).to_have_attribute("data-left", "open drawer")
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    expect(shell).to_have_attribute("data-left", "open docked")
    chat.page.set_viewport_size({"width": 390, "height": 844})
    expect(shell).to_have_attribute("data-left", "closed drawer")

    # The open or closed state of a docked panel is remembered.
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    chat.page.locator('#phi3-left [data-panel="left"]').click()
    expect(shell).to_have_attribute("data-left", "closed docked")
    chat.reload()
    expect(shell).to_have_attribute("data-left", "closed docked")
    expect(shell).to_have_attribute("data-right", "open docked")
    chat.open_panel("left")
    expect(chat.new_chat).to_be_in_viewport()


def test_the_reproduce_dialog_fits_a_phone(chat: ChatPage) -> None:
    chat.page.set_viewport_size(PHONE)
    chat.answer("What is the capital of France?")
    dialog = chat.page.get_by_role("dialog", name="Reproduce this answer")
    chat.choose_action("reproduce")
    expect(dialog.locator("code")).to_contain_text("import mlflow")
    box = dialog.bounding_box()
    assert box
    assert 0 <= box["x"] <= PHONE["width"] - box["width"]
    chat.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    chat.press("good")
    expect(chat.action_buttons("good")).to_have_attribute("aria-pressed", "true")
    expect(dialog).to_be_hidden()
    chat.choose_action("reproduce")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_the_chat_does_not_move_while_it_streams(app: App, chat: ChatPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time. " * 20))
    positions = [get_box(chat.page, "#phi3-chat")]
    expected = chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    positions.append(get_box(chat.page, "#phi3-chat"))
    gate.open()
    chat.wait_for_caption(expected)
    positions.append(get_box(chat.page, "#phi3-chat"))
    assert positions[0] == positions[1] == positions[2]
