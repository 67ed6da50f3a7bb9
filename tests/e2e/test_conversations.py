"""Managing conversations: search, rename, pin, delete, variants, edit, undo, settings and drafts."""

import json
import re
from pathlib import Path

from playwright.sync_api import expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, NewVisitor, OpenPage, open_chat
from tests.support.chat_page import ANSWER, ChatPage

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"


def test_chats_are_searched_renamed_deleted_and_restored(open_page: OpenPage) -> None:
    chat = open_page()
    chat.answer(FRANCE)
    chat.start_new_chat()
    chat.answer("Write a poem about the sea.")
    expect(chat.chats).to_have_text(["Write a poem about the sea.", FRANCE])

    chat.search.fill("france CAPITAL")
    expect(chat.chats).to_have_text([FRANCE])
    chat.search.fill("no such words")
    expect(chat.chat_list).to_contain_text("No chats found.")
    chat.search.fill("")
    expect(chat.chats).to_have_count(2)

    chat.list_button("sea", "rename").click()
    name = chat.page.locator(".phi3-rename")
    name.fill("Waves & <b>wind</b>")
    name.press("Enter")
    expect(chat.chats.first).to_have_text("Waves & <b>wind</b>")

    chat.list_button(FRANCE, "delete").click()
    expect(chat.chats).to_have_count(1)
    expect(chat.questions).to_have_text(["Write a poem about the sea."])
    undo = chat.page.locator('#phi3-chats button[name="restore"]')
    undo.click()
    expect(chat.chats).to_have_count(2)
    expect(chat.questions).to_have_text(["Write a poem about the sea."])
    chat.chats.last.click()
    expect(chat.questions).to_have_text([FRANCE])
    chat.list_button(FRANCE, "delete").click()
    expect(chat.chats).to_have_text(["Waves & <b>wind</b>"])
    expect(chat.questions).to_have_count(0)
    undo.click()
    expect(chat.questions).to_have_text([FRANCE])
    chat.list_button(FRANCE, "delete").click()
    expect(chat.questions).to_have_count(0)

    # A question of invisible characters: confirming the unchanged rename box does not store the placeholder title.
    chat.answer("\u200b")
    chat.list_button("Untitled", "rename").click()
    expect(name).to_have_value("Untitled")
    name.press("Enter")
    expect(name).to_have_count(0)
    chat.list_button("Waves", "rename").click()
    name.fill("Waves")
    name.press("Enter")
    expect(chat.chats).to_have_text(["Untitled", "Waves"])
    assert chat.chats.first.get_attribute("title") is None


def test_a_chat_is_renamed_in_place_and_pinned_by_keyboard(open_page: OpenPage) -> None:
    chat = open_page()
    page = chat.page
    chat.answer(FRANCE)
    chat.start_new_chat()
    chat.answer(SPAIN)
    expect(page.locator('#phi3-chats [aria-current="page"]')).to_have_text(SPAIN)

    chat.chats.last.dblclick()  # the first click opens it, which redraws the list
    name = page.locator(".phi3-rename")
    expect(name).to_be_focused()
    expect(page.locator('#phi3-chats [aria-current="page"]')).to_have_text(FRANCE)
    name.fill("  Paris  ")
    name.press("Escape")
    expect(name).to_have_count(0)
    expect(chat.chats.last).to_have_text(FRANCE)
    expect(chat.chats.last).to_be_focused()
    chat.chats.last.press("F2")
    name.fill("Paris")
    name.press("Enter")
    expect(chat.chats).to_have_text([SPAIN, "Paris"])
    expect(chat.chats.last).to_be_focused()

    more = page.get_by_role("button", name="Actions for “Paris”")
    more.focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("menu")
    expect(menu.get_by_role("menuitem")).to_have_text(
        ["Rename", "Pin", "Save as Markdown", "Save as JSON", "Replay this chat", "Delete"]
    )
    expect(menu.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(menu.get_by_role("menuitem", name="Delete")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_have_count(0)
    expect(more).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(chat.chats).to_have_text(["Paris", SPAIN])
    expect(page.locator("#phi3-chats h2")).to_have_text(["Pinned", "Today"])
    chat.reload()
    expect(chat.chats).to_have_text(["Paris", SPAIN])
    chat.list_button("Paris", "unpin").click()
    expect(chat.chats).to_have_text([SPAIN, "Paris"])

    share = page.get_by_role("button", name="Import and export")
    for closed_by in ("click", "Escape"):
        share.click()
        expect(menu.get_by_role("menuitem")).to_have_text(["Import chats (.json, .jsonl, .zip)", "Export all chats"])
        expect(share).to_have_attribute("aria-expanded", "true")
        share.click() if closed_by == "click" else page.keyboard.press(closed_by)
        expect(menu).to_have_count(0)
        expect(share).to_have_attribute("aria-expanded", "false")
        expect(share).to_be_focused()


def test_a_long_chat_list_is_loaded_in_parts_and_works_at_its_end(open_page: OpenPage, tmp_path: Path) -> None:
    chat = open_page()
    page, gaps = chat.page, chat.chat_list.locator(".phi3-gap")
    above, below = gaps.nth(0), gaps.nth(1)
    chats = [
        {
            "title": f"Chat {number:03}",
            "messages": [{"role": "user", "content": f"Number {number:03}?"}, {"role": "assistant", "content": "Yes."}],
        }
        for number in range(130)
    ]
    (tmp_path / "chats.json").write_text(json.dumps(chats), encoding="utf-8")
    chat.import_file(tmp_path / "chats.json")
    expect(below.get_by_role("button")).to_have_text("30 more", timeout=ANSWER)
    expect(chat.chats).to_have_count(100)
    first = chat.chats.first.inner_text()
    height = chat.chat_list.evaluate("list => list.scrollHeight")

    chat.chat_list.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(above).to_have_attribute("data-rows", "30")
    expect(below).to_have_attribute("data-rows", "0")
    expect(chat.chats).to_have_count(100)
    expect(chat.chats.last).to_be_in_viewport()
    assert chat.chat_list.evaluate("list => list.scrollHeight") == height, "the gap is as tall as the chats it replaces"

    last, other = chat.chats.nth(-1).inner_text(), chat.chats.nth(-2).inner_text()
    scroll_top = chat.chat_list.evaluate("list => list.scrollTop")
    chat.chats.last.click()
    question = last.replace("Chat", "Number") + "?"
    expect(chat.questions).to_have_text([question])
    expect(chat.chats.last).to_have_attribute("aria-current", "page")
    assert chat.chat_list.evaluate("list => list.scrollTop") == scroll_top
    chat.list_button(other, "delete").click()
    expect(chat.chats.nth(-2)).not_to_have_text(other)
    undo = page.locator('#phi3-chats button[name="restore"]')
    expect(undo).to_be_in_viewport()
    expect(chat.questions).to_have_text([question])
    undo.click()
    expect(chat.chats.nth(-2)).to_have_text(other)
    expect(chat.questions).to_have_text([question])
    expect(chat.chats.last).to_have_attribute("aria-current", "page")
    chat.chats.last.dblclick()
    page.locator(".phi3-rename").fill("The last")
    page.keyboard.press("Enter")
    expect(chat.chats.last).to_have_text("The last")
    expect(chat.chats.last).to_be_focused()

    chat.chat_list.evaluate("list => list.scrollTo(0, 0)")
    expect(chat.chats.first).to_have_text(first)
    expect(chat.chat_list.locator("button:focus")).to_have_count(0)  # focus does not move to another chat
    chat.chat_list.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(chat.chats.last).to_be_focused()
    chat.search.fill("number LAST")  # one word of the question, one of the title
    expect(chat.chats).to_have_text(["The last"])
    expect(chat.chats).to_have_attribute("aria-current", "page")
    chat.search.fill("")
    expect(chat.chats.first).to_have_text(first)
    expect(chat.chats.first).to_be_in_viewport()


def test_a_chat_deleted_in_another_tab_is_neither_sent_nor_stored_again(app: App, new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    here, there = open_chat(visitor, app.server), open_chat(visitor, app.server)
    here.answer(FRANCE)
    expect(there.chats).to_have_text([FRANCE])
    there.chats.first.click()
    expect(there.questions).to_have_text([FRANCE])
    deleted = here.chat_ids()
    here.list_button(FRANCE, "delete").click()
    expect(here.chats).to_have_count(0)
    there.press("retry")
    expect(there.page.get_by_text("This chat no longer exists")).to_be_visible()
    there.message.fill(SPAIN)
    there.message.press("Enter")
    expect(there.page.get_by_text("This chat was deleted on another page.")).to_be_visible()
    expect(there.questions).to_have_text([SPAIN])
    there.wait_for_caption(1)
    expect(there.chats).to_have_text([SPAIN])
    assert [message["content"] for message in app.model.requests[-1].messages] == [SPAIN]
    (trace,) = app.traces(1, there)
    assert trace.info.trace_metadata["mlflow.trace.session"] not in deleted
    assert FRANCE not in trace.to_json()


def test_retry_and_edit_create_variants_to_page_through(app: App, open_page: OpenPage) -> None:
    app.model.enqueue(Reply("Paris."), Reply("Madrid."), Reply("Madrid, in Spain."), Reply("Berlin."))
    chat = open_page()
    chat.answer(FRANCE)
    chat.answer(SPAIN)
    chat.press("retry")
    chat.wait_for_caption(2)
    expect(chat.variants).to_have_text(re.compile(r"2/2"))
    expect(chat.answers.last).to_have_text("Madrid, in Spain.")
    chat.edit("What is the capital of Germany?", 0)
    expect(chat.questions).to_have_text(["What is the capital of Germany?"])
    chat.wait_for_caption(1)
    chat.press("show", 0)  # ‹
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    expect(chat.answers).to_have_text(["Paris.", "Madrid, in Spain."])
    traces = app.traces(4, chat)
    assert len({trace.info.trace_metadata["mlflow.trace.session"] for trace in traces}) == 1


def test_a_draft_survives_edit_and_undo(chat: ChatPage) -> None:
    chat.answer(FRANCE)
    chat.message.fill("And of")
    chat.press("edit")
    expect(chat.edit_box).to_have_value(FRANCE)
    chat.edit_box.fill("")
    expect(chat.page.get_by_role("button", name="Save & send")).to_be_disabled()
    chat.edit_box.press("Escape")
    expect(chat.questions).to_have_text([FRANCE])
    expect(chat.action_buttons("edit")).to_be_focused()
    chat.press("edit")
    chat.edit_box.fill(SPAIN)
    chat.edit_box.press("Shift+Enter")
    expect(chat.edit_box).to_have_value(f"{SPAIN}\n")
    chat.edit_box.fill(SPAIN)
    chat.page.get_by_role("button", name="Save & send").click()
    expect(chat.questions).to_have_text([SPAIN])
    expect(chat.message).to_have_value("And of")
    chat.wait_for_caption(1)
    chat.choose_action("undo")
    expect(chat.questions).to_have_count(0)
    expect(chat.message).to_have_value("And of")
    chat.message.fill("")
    chat.press("show")  # Redo
    expect(chat.questions).to_have_count(1)
    chat.choose_action("undo")
    expect(chat.message).to_have_value(SPAIN)
    chat.press("show")
    expect(chat.questions).to_have_text([SPAIN])
    expect(chat.message).to_have_value("")


def test_settings_and_their_effect_survive_a_reload(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    settings = {"System prompt": "Answer in one word.", "Temperature": 0.5, "Max tokens": 7}
    for label, value in settings.items():
        chat.set_setting(label, value)
    for _ in range(2):  # the second time, without a change before the reload
        chat.reload()
        chat.show_tab("settings")
        for label, value in settings.items():
            expect(chat.page.locator("#phi3-settings").get_by_label(label).first).to_have_value(str(value))
    chat.answer(FRANCE)
    request = app.model.requests[-1]
    assert request.messages[0] == {"role": "system", "content": "Answer in one word."}
    assert request.params | {"temperature": 0.5, "max_tokens": 7} == request.params


def test_undo_puts_the_question_back_into_the_message_box(chat: ChatPage) -> None:
    chat.answer(FRANCE)
    chat.choose_action("undo")
    expect(chat.questions).to_have_count(0)
    expect(chat.message).to_have_value(FRANCE)
    chat.message.press("Enter")
    chat.wait_for_caption(1)
    expect(chat.variants).to_have_text(re.compile("2/2"))
    chat.choose_action("undo")
    expect(chat.questions).to_have_count(0)
    expect(chat.message).to_have_value(FRANCE)
    chat.press("show")  # Redo
    expect(chat.questions).to_have_text([FRANCE])
