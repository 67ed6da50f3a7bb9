"""Tests for messages: scroll position, code blocks, keyboard navigation, announcements, the menu and the empty chat."""

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import ViewportSize, expect

from phi3_ui.testing import Reply
from phi3_ui.ui.asset_urls import STATIC_URL
from tests.e2e.conftest import App
from tests.support.chat_page import ChatPage

# Renders lists of questions in turn in a separate chat; returns the texts shown after each.
DRAW = """async (lists) => {
  const view = await import(new URL("STATIC/chat/view.js", document.baseURI));
  const chat = document.createElement("div");
  document.querySelector("#phi3-chat").append(chat);
  const props = { value: "[]" };
  let redraw;
  view.default(chat, props, (_, draw) => redraw = draw, {});
  const read = () => [...chat.querySelectorAll('[data-testid="user"]')].map((text) => text.textContent);
  const shown = [];
  for (const turns of lists) {
    props.value = JSON.stringify(turns.map((turn) => ({ role: "user", content: turn, turn })));
    redraw();
    for (let frame = 0; frame < 60 && read().join() !== turns.join(); frame++) await new Promise(requestAnimationFrame);
    shown.push(read());
  }
  chat.remove();
  return shown;
}""".replace("STATIC", STATIC_URL)
PHONE: ViewportSize = {"width": 390, "height": 844}
LONG = "\n\n".join(f"Line {number}" for number in range(40))


def is_at_end(chat: ChatPage) -> bool:
    return bool(chat.log.evaluate("(log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2"))


def scroll_to(chat: ChatPage, top: int) -> None:
    """Scroll the log to `top`, and wait until the page has handled the event."""
    chat.log.evaluate(
        """(log, top) => new Promise((done) => {
          log.addEventListener("scroll", () => requestAnimationFrame(done), { once: true });
          log.scrollTop = top;
        })""",
        top,
    )


def test_the_view_follows_an_answer_until_the_reader_scrolls_up(app: App, chat: ChatPage) -> None:
    first, second, third, fourth = (app.model.create_gate() for _ in range(4))
    app.model.enqueue(Reply(LONG, first, LONG, second, LONG, third, " The end."), Reply("Once ", fourth, LONG))
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    chat.ask("Write a lot.")
    chat.wait_for_text()
    expect(chat.jump_button).to_be_hidden()
    first.open()
    chat.page.wait_for_function("document.querySelectorAll('.phi3-written p').length > 60")
    assert is_at_end(chat)
    scroll_to(chat, 200)
    expect(chat.jump_button).to_be_visible()
    second.open()
    chat.page.wait_for_function("document.querySelectorAll('.phi3-written p').length > 100")
    assert chat.log.evaluate("(log) => log.scrollTop") == 200
    chat.jump_button.click()
    expect(chat.jump_button).to_be_hidden()
    assert is_at_end(chat)
    third.open()
    chat.wait_for_caption(1)
    scroll_to(chat, 0)
    chat.ask("And more?")  # shown even after scrolling up
    expect(chat.questions.last).to_be_in_viewport()
    fourth.open()
    chat.wait_for_caption(2)
    chat.page.wait_for_function("document.querySelector('.phi3-jump').hidden")
    # The answer is announced once, when complete, and not by the log itself.
    expect(chat.log).to_have_attribute("aria-live", "off")
    expect(chat.page.get_by_role("status").filter(has_text="scripted-one has answered: Once")).to_have_count(1)


def test_messages_keep_their_order_when_turns_are_added_and_removed(chat: ChatPage) -> None:
    page = chat.page
    turns = st.lists(st.integers(0, 99).map(str), unique=True, max_size=70)

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(st.lists(turns, min_size=2, max_size=3))
    def check(lists: list[list[str]]) -> None:
        assert page.evaluate(DRAW, lists) == lists

    check()
    long_lists = [[str(number) for number in range(start, 90)] for start in (1, 0, 25)]
    assert page.evaluate(DRAW, long_lists) == long_lists


def test_code_blocks_have_a_header_and_all_actions_share_one_tab_stop(app: App, chat: ChatPage) -> None:
    code = "print('a long line')  # " + "word " * 60
    app.model.enqueue(Reply(f"```python\n{code}\n```"), Reply("Two."))
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    chat.answer("Write code.")
    chat.answer("And two?")
    header = chat.page.locator("#phi3-chat .phi3-code-head")
    expect(header.locator(".phi3-language")).to_have_text("python")
    block = chat.page.locator("#phi3-chat pre")
    expect(block).to_have_attribute("tabindex", "0")  # it scrolls
    wrap = header.get_by_role("button", name="Wrap long lines")
    wrap.click()
    expect(wrap).to_have_attribute("aria-pressed", "true")
    expect(block).not_to_have_attribute("tabindex", "0")
    assert block.evaluate("(box) => box.scrollWidth <= box.clientWidth")

    tab_stops = chat.log.locator("button:not([tabindex='-1']), a:not([tabindex='-1']), pre[tabindex='0']")
    expect(tab_stops).to_have_count(1)
    chat.page.locator(".phi3-last .phi3-copy").focus()
    chat.page.keyboard.press("ArrowRight")
    expect(chat.action_buttons("retry").last).to_be_focused()
    chat.page.keyboard.press("ArrowUp")
    chat.page.keyboard.press("ArrowUp")
    expect(chat.action_buttons("retry").first).to_be_focused()
    expect(tab_stops).to_have_count(1)
    chat.page.keyboard.press("ArrowDown")
    chat.page.keyboard.press("End")
    expect(chat.action_buttons("retry").last).to_be_focused()

    chat.page.locator(".phi3-last [name=more]").focus()
    chat.page.keyboard.press("Enter")
    undo = chat.page.get_by_role("menuitem", name="Remove this turn")
    expect(undo).to_be_focused()
    chat.page.keyboard.press("Escape")
    expect(undo).to_be_hidden()
    expect(chat.page.locator(".phi3-last [name=more]")).to_be_focused()


def test_an_empty_chat_offers_questions(app: App, chat: ChatPage) -> None:
    chat.page.set_viewport_size({"width": 1440, "height": 900})
    expect(chat.empty.get_by_role("heading", name="What would you like to ask?")).to_be_visible()
    expect(chat.empty.get_by_role("button")).to_have_count(4)
    chat.message.fill("My draft")
    chat.empty.get_by_role("button", name="Give the model a role").click()
    chat.wait_for_caption(1)
    expect(chat.empty).to_be_hidden()
    expect(chat.questions).to_have_text(["What is gravity?"])
    expect(chat.message).to_have_value("My draft")
    system, question = app.model.requests[-1].messages
    assert (system["role"], question["content"]) == ("system", "What is gravity?")
    assert "patient teacher" in system["content"]
    assert chat.questions.first.locator("xpath=..").locator("time").get_attribute("datetime")
    chat.start_new_chat()
    chat.answer("And now?")
    assert [message["role"] for message in app.model.requests[-1].messages] == ["user"], (
        "the starter's system prompt is still in use"
    )


def test_a_truncated_answer_can_be_continued(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("Once upon a time there was"), Reply("time there was a sea."))
    chat.set_setting("Max tokens", 3)
    preset = chat.page.locator("#phi3-preset-button")
    expect(preset).to_have_attribute("aria-label", "Parameter preset: Balanced · T 0.2 · changed: Max tokens")
    chat.answer("Tell a story.")
    expect(chat.captions.last).to_contain_text("cut off at max tokens")
    expect(chat.page.locator(".phi3-last .phi3-full").last).to_contain_text(" in · ")
    expect(chat.page.locator(".phi3-last .phi3-short")).to_be_hidden()
    chat.page.get_by_role("button", name="Continue").click()
    expect(chat.answers).to_have_text(["Once upon a time there was"])
    expect(chat.questions).to_have_text(["Tell a story."])
    assert [message["content"] for message in app.model.requests[-1].messages] == ["Tell a story.", "Once upon a "]


def test_metrics_are_labelled_on_a_desktop(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("Paris ", "it is.", usage=(39, 69), seconds_per_token=0.1))
    chat.page.set_viewport_size({"width": 1440, "height": 768})
    chat.answer("And of France?")
    short = chat.captions.last.locator(".phi3-short")
    for width in (1440, 1024):
        chat.page.set_viewport_size({"width": width, "height": 768})
        expect(chat.captions.last).to_contain_text("39 in · 69 out · first token ")
        expect(short).to_be_hidden()
        expect(chat.captions.last).to_have_attribute(
            "title", re.compile("^scripted-one · 39 in · 69 out · first token ")
        )
        metrics = chat.captions.last.bounding_box()
        actions = chat.page.locator(".phi3-last .phi3-actions").bounding_box()
        log = chat.log.bounding_box()
        assert metrics
        assert actions
        assert log
        assert metrics["height"] < 30, "the metrics wrap"
        if width == 1440:
            assert abs(metrics["y"] + metrics["height"] / 2 - actions["y"] - actions["height"] / 2) < 3, (
                "the actions are on another line"
            )
            assert actions["x"] + actions["width"] < metrics["x"]
        assert metrics["x"] + metrics["width"] <= log["x"] + log["width"]


def test_on_a_phone_less_common_actions_are_in_the_menu_and_metrics_are_short(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("Paris.", usage=(39, 69)), Reply("Madrid."))
    chat.page.set_viewport_size(PHONE)
    chat.answer("And of France?")
    expect(chat.page.locator("#phi3-chat .phi3-badge")).to_be_hidden()
    expect(chat.captions.last).to_contain_text("39 + 69 ·", use_inner_text=True)
    expect(chat.action_buttons("edit")).to_be_hidden()
    chat.page.locator(".phi3-last [name=more]").click()
    expect(chat.page.get_by_role("menuitem")).to_have_count(4)
    chat.page.get_by_role("menuitem", name="Edit this question").click()
    expect(chat.edit_box).to_be_focused()
    chat.edit_box.fill("And of Spain?")
    chat.edit_box.press("Enter")
    expect(chat.questions).to_have_text(["And of Spain?"])
    chat.wait_for_caption(1)
    expect(chat.variants).to_contain_text("2/2")
    assert chat.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for button in chat.page.locator(".phi3-last .phi3-actions button:visible").all():
        box = button.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 24
