"""The composer: Send and Stop, the draft's token count, attachments, shortcuts and presets, on desktop and phone."""

import re

import pytest
from playwright.sync_api import FilePayload, Locator, ViewportSize, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import DESKTOP, App, OpenPage
from tests.support.chat_page import ChatPage

PHONE: ViewportSize = {"width": 390, "height": 844}
QUESTION = "What is the capital of France?"  # six words; the scripted model counts words as tokens


def attach(chat: ChatPage, *files: tuple[str, bytes]) -> None:
    """Attach files with the plus button."""
    payloads: list[FilePayload] = [{"name": name, "mimeType": "", "buffer": content} for name, content in files]
    chat.page.locator("#phi3-tools input[type=file]").set_input_files(payloads)


def locate_chips(chat: ChatPage) -> Locator:
    return chat.page.locator(".phi3-files li")


def test_the_composer_counts_the_draft_and_shows_stop_in_place_of_send(app: App, chat: ChatPage) -> None:
    page, meter = chat.page, chat.context.get_by_role("meter")

    def measure(button: Locator) -> list[object]:
        positions = list[object]()
        for viewport in (PHONE, DESKTOP):
            page.set_viewport_size(viewport)
            positions.append(button.bounding_box())
        return positions

    expect(chat.message).to_have_attribute("placeholder", "Ask scripted-one …")
    expect(meter).to_have_text("0 / 8,192")
    expect(chat.send).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("button", name="Send", exact=True)).to_have_attribute("title", "Send")

    chat.message.press_sequentially(QUESTION)
    expect(chat.send).to_have_attribute("aria-disabled", "false")
    expect(meter).to_have_text("6 / 8,192")
    expect(meter).to_have_attribute("aria-valuetext", "6 of 8,192 tokens")

    gate = app.model.create_gate()
    app.model.enqueue(Reply("It is ", gate, "Paris."))
    send_positions = measure(chat.send)
    chat.message.press("Enter")
    chat.wait_for_text()
    expect(chat.stop).to_be_visible()
    expect(chat.send).to_be_hidden()
    assert measure(chat.stop) == send_positions
    chat.message.press_sequentially("And of Spain, where it is sunny?")
    expect(meter).to_contain_text("≈")
    gate.open()
    chat.wait_for_caption(1)
    expect(chat.message).to_be_focused()
    expect(meter).to_have_text("16 / 8,192")  # six and three tokens of the first turn, plus seven

    tools = [page.locator(f"#phi3-{name}") for name in ("attach", "system-button", "preset-button", "send")]
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        expect(page.get_by_text("Balanced · T 0.2")).to_be_visible(visible=viewport is DESKTOP)
        boxes = [box for tool in tools if (box := tool.bounding_box())]
        assert all(box["width"] >= 24 and box["height"] >= 24 for box in boxes)
        assert [box["x"] for box in boxes] == sorted(box["x"] for box in boxes), "in one row"
        text = chat.message.bounding_box()
        assert text
        assert all(box["y"] >= text["y"] + text["height"] for box in boxes), "below the text"


def test_files_are_attached_counted_rejected_sent_and_collapsed(app: App, chat: ChatPage) -> None:
    page, refusals = chat.page, chat.page.locator(".phi3-refusals")
    chat.message.fill("What do they say?")
    attach(chat, ("notes.md", b"# Notes\none two\n"), ("a.py", b"print(1)"), ("photo.png", b"\x89PNG\0\0"))
    expect(refusals).to_have_text("photo.png is not a text file. Attach .txt, .md, .csv, .json or source code.")
    expect(locate_chips(chat)).to_have_text([re.compile(r"notes\.md8 tokens"), re.compile(r"a\.py5 tokens")])
    locate_chips(chat).last.get_by_role("button", name="Remove a.py").click()
    expect(locate_chips(chat)).to_have_count(1)
    expect(chat.message).to_be_focused()
    attach(chat, ("long.txt", b"word " * 9000))
    expect(refusals).to_contain_text("long.txt has 9,004 tokens, but the model's context holds 8,192.")
    expect(locate_chips(chat)).to_have_count(1)
    expect(chat.message).to_have_value("What do they say?")

    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["dropped here"], "drop.csv"));
            for (const type of ["dragover", "drop"]) document.querySelector("#phi3-message").dispatchEvent(
                new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
            const pasted = new DataTransfer();
            pasted.items.add(new File(["pasted"], "paste.json"));
            document.querySelector("#phi3-message textarea").dispatchEvent(
                new ClipboardEvent("paste", { clipboardData: pasted, bubbles: true, cancelable: true }));
        }"""
    )
    expect(locate_chips(chat)).to_have_count(3)
    chat.reload()
    expect(locate_chips(chat)).to_have_count(3)
    expect(chat.message).to_have_value("What do they say?")

    attach(chat, ("late.txt", b"sent before it is counted"))
    chat.message.press("Enter")
    chat.wait_for_caption(1)
    expect(locate_chips(chat)).to_have_count(0)
    sent = app.model.requests[-1].question
    assert sent.startswith(
        "File: notes.md\n```md\n# Notes\none two\n```\n\nFile: drop.csv\n```csv\ndropped here\n```\n\n"
    )
    assert sent.endswith("\n\nWhat do they say?")
    folds = chat.questions.locator("details")
    expect(folds).to_have_count(4)
    expect(chat.questions.get_by_text("one two")).to_have_count(0)
    expect(folds.first.locator("summary")).to_have_text(re.compile(r"notes\.md8 tokens"))
    expect(folds.last.locator("summary")).to_have_text(re.compile(r"late\.txt9 tokens"))
    folds.first.locator("summary").click()
    expect(folds.first.locator("pre")).to_have_text("# Notes\none two\n")

    chat.press("edit")
    expect(chat.edit_box).to_have_value("What do they say?")
    expect(page.locator(".phi3-edit details")).to_have_count(4)
    chat.edit_box.fill("And who wrote them?")
    chat.edit_box.press("Enter")
    expect(chat.variants).to_have_text(re.compile("2/2"))
    chat.wait_for_caption(1)
    assert app.model.requests[-1].question == sent.replace("What do they say?", "And who wrote them?")
    expect(folds).to_have_count(4)
    expect(chat.questions).to_contain_text("And who wrote them?")

    edited_question = app.model.requests[-1].question
    for _ in range(2):
        chat.choose_action("undo")
        expect(chat.message).to_have_value("And who wrote them?")
        expect(locate_chips(chat)).to_have_text(
            [re.compile(name) for name in ("notes.md8 tokens", "drop.csv", "paste.json", "late.txt")]
        )
        chat.press("show")  # Redo
        expect(chat.message).to_have_value("")
        expect(locate_chips(chat)).to_have_count(0)
    chat.choose_action("undo")
    expect(locate_chips(chat)).to_have_count(4)
    chat.message.press("Enter")
    chat.wait_for_caption(1)
    assert app.model.requests[-1].question == edited_question


def test_a_rejected_question_keeps_its_files(app: App, chat: ChatPage) -> None:
    chat.set_setting("Seed", "no number")
    attach(chat, ("notes.md", b"one two"))
    expect(locate_chips(chat)).to_contain_text("tokens")
    chat.message.press("Enter")
    expect(chat.page.get_by_text("The seed cannot be no number.")).to_be_visible()
    expect(locate_chips(chat)).to_have_count(1)
    chat.set_setting("Seed", "")
    chat.message.press("Enter")
    chat.wait_for_caption(1)
    expect(locate_chips(chat)).to_have_count(0)
    assert "one two" in app.model.requests[-1].question


def test_keyboard_shortcuts_stop_edit_show_help_and_start_a_chat(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    page = chat.page
    app.model.enqueue(Reply("It is ", app.model.create_gate(), "Paris."))
    chat.message.fill(QUESTION)
    chat.send.click()
    chat.wait_for_text()
    expect(chat.message).to_be_focused()
    page.keyboard.press("Control+/")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_contain_text("Stop the answer")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(chat.stop).to_be_visible()
    expect(chat.message).to_be_focused()
    page.keyboard.press("Escape")
    chat.wait_for_caption(1)
    expect(chat.captions.last).to_contain_text("stopped")
    expect(chat.message).to_be_focused()

    chat.message.press("Shift+Enter")
    expect(chat.message).to_have_value("\n")
    chat.message.press("ArrowUp")
    chat.message.fill("")
    page.evaluate(
        """() => document.addEventListener("click", (event) => {
            globalThis.edited = event.target.closest("button[name=edit]")?.value;
        }, { capture: true, once: true })"""
    )
    chat.message.press("ArrowUp")
    assert page.evaluate("globalThis.edited")
    expect(chat.edit_box).to_be_focused()
    page.keyboard.press("Escape")
    expect(chat.message).to_be_focused()
    chat.message.fill("Draft of this chat")
    page.keyboard.press("Control+k")
    expect(chat.questions).to_have_count(0)
    expect(chat.message).to_be_focused()
    expect(chat.message).to_have_value("")
    chat.message.fill("Another draft")
    chat.chats.first.click()
    expect(chat.message).to_have_value("Draft of this chat")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_the_composer_picks_presets_and_opens_the_settings(open_page: OpenPage, viewport: ViewportSize) -> None:
    chat = open_page(viewport=viewport)
    page, button = chat.page, chat.page.locator("#phi3-preset-button")
    button.click()
    menu = page.get_by_role("menu", name="Parameter preset")
    expect(menu.get_by_role("menuitemradio", name="Balanced")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(menu).to_be_hidden()
    expect(button).to_have_attribute("aria-label", "Parameter preset: Creative · T 0.9")
    button.click()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(button).to_be_focused()

    page.locator("#phi3-system-button").click()
    settings = page.locator("#phi3-settings")
    expect(settings.locator("#phi3-set-system textarea")).to_be_focused()
    expect(settings.get_by_role("button", name="Creative")).to_have_attribute("aria-pressed", "true")
    expect(settings.get_by_label("Temperature").first).to_have_value("0.9")
