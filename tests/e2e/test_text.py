"""Tests that questions are displayed exactly as typed, answers are formatted, and copies and exports contain the exact text."""

from pathlib import Path

from gradio_client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect

from phi3_ui.testing import Reply
from phi3_ui.ui.asset_urls import STATIC_URL
from tests.e2e.conftest import App, OpenPage
from tests.e2e.test_export import download_file
from tests.support.chat_page import LOAD, ChatPage

QUESTION = "Is 5*3*2 = 30?  And __file__? ~~$x$~~ `<b>` &lt; [a](b) ![c](d) \\(y\\) C:\\new\\*.txt"
CODE = "# comment\nimport os\ndef __init__(self, *args, **kwargs):\n    return a * b * c\n\n\n\tdone   now"
ANSWER = "If a < b && c > d then use std::vector<int> & friends; AT&T.\n\n```cpp\nif (a < b && c) {}\n```"

# Renders questions as the page does, in a separate chat.
DRAW = """async (texts) => {
  const view = await import(new URL("STATIC/chat/view.js", document.baseURI));
  const chat = document.createElement("div");
  document.querySelector("#phi3-chat").append(chat);
  const value = JSON.stringify(texts.map((content) => ({ role: "user", content })));
  view.default(chat, { value }, () => {}, {});
  // The text of chunks that have not been rendered yet reads as empty.
  for (const chunk of chat.querySelectorAll(".phi3-chunk")) chunk.style.contentVisibility = "visible";
  const shown = [...chat.querySelectorAll('[data-testid="user"]')].map((text) => text.innerText);
  chat.remove();
  return shown;
}""".replace("STATIC", STATIC_URL)


def test_any_question_is_displayed_exactly_as_typed(chat: ChatPage) -> None:
    page = chat.page
    markup = ["*", "_", "`", "~~", "#", "\\", "$", "<b>", "&lt;", "  ", "\n", "\t", "- ", "> ", "|", "שלום"]
    texts = st.lists(st.sampled_from(markup) | st.text(max_size=6), min_size=1, max_size=12).map("".join)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.lists(texts, max_size=40))
    def check(questions: list[str]) -> None:
        assert page.evaluate(DRAW, questions) == [question for question in questions if question]

    check()


def test_a_question_is_shown_literally_in_the_chat_the_list_a_replay_and_an_export(
    app: App, chat: ChatPage, tmp_path: Path
) -> None:
    chat.pick("scripted-one")
    chat.answer(QUESTION)
    chat.answer(CODE)
    assert chat.questions.all_inner_texts() == [QUESTION, CODE]
    assert [request.question for request in app.model.requests] == [QUESTION, CODE]
    assert chat.chats.first.get_attribute("title") == QUESTION
    assert QUESTION.startswith(chat.chats.first.inner_text().rstrip("…"))
    exported = download_file(chat, chat.list_button(QUESTION[:20], "save_markdown"), tmp_path).read_text(
        encoding="utf-8"
    )
    assert f"\n{QUESTION}\n" in exported
    assert f"\n{CODE}\n" in exported
    view = chat.start_replay()
    expect(view).to_contain_text("The replay is saved as a separate chat.", timeout=LOAD)
    assert view.locator(".question").all_inner_texts() == [QUESTION, CODE]
    assert [request.question for request in app.model.requests[2:]] == [QUESTION, CODE]


def test_copies_and_exports_contain_exactly_what_the_model_wrote(app: App, open_page: OpenPage, tmp_path: Path) -> None:
    app.model.enqueue(Reply(ANSWER), Reply(ANSWER))
    chat = open_page(permissions=["clipboard-read", "clipboard-write"]).pick("scripted-one")
    chat.answer(QUESTION)
    expect(chat.answers.last.locator("p")).to_have_text(ANSWER.split("\n")[0])
    copied = []
    for button in chat.page.locator("#phi3-chat .phi3-copy").all():
        button.click()
        expect(button).to_have_attribute("aria-label", "Copied")
        copied.append(chat.page.evaluate("navigator.clipboard.readText()"))
    assert sorted(copied) == sorted([QUESTION, ANSWER, "if (a < b && c) {}"])
    assert f"\n{ANSWER}\n" in download_file(chat, chat.list_button("", "save_markdown"), tmp_path).read_text(
        encoding="utf-8"
    )

    client = Client(app.server.url, verbose=False)
    key = app.model.model_id
    message, messages = client.predict(QUESTION, key, "", 0.0, 1.0, 50, api_name="/chat")
    assert message == ""
    assert [(entry["role"], entry["content"]) for entry in messages] == [("user", QUESTION), ("assistant", ANSWER)]


def test_maths_tables_and_lists_are_rendered(app: App, chat: ChatPage) -> None:
    word = "Donaudampfschifffahrtsgesellschaft" * 3
    app.model.enqueue(
        Reply(
            f"\\( x_1 = 2 \\) for $5 and $10\n\n| {word} | b |\n|--|--|\n| {word} | {word} |\n\n- [x] done\n- [ ] open\n\n1. one"
        )
    )
    chat.page.set_viewport_size({"width": 700, "height": 800})
    chat.page.emulate_media(color_scheme="light")
    chat.answer("Go on.")
    answer = chat.answers.last
    expect(answer.locator(".katex")).to_have_count(1)
    expect(answer.locator("p").first).to_contain_text("for $5 and $10")
    table = answer.locator(".phi3-table")
    assert table.evaluate("(box) => box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === 'auto'")
    assert table.evaluate("(box) => box.querySelector('td').getClientRects()[0].height < 60"), (
        "a word is broken across lines"
    )
    assert chat.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert answer.locator("ol").evaluate("(list) => getComputedStyle(list).listStyleType") == "decimal"
    for scheme in ("light", "dark"):
        chat.page.emulate_media(color_scheme=scheme)
        expect(chat.page.locator("body.dark")).to_have_count(int(scheme == "dark"))
        shown = [
            box.evaluate("(box) => [getComputedStyle(box).backgroundColor, getComputedStyle(box, '::before').content]")
            for box in answer.locator("input[type=checkbox]").all()
        ]
        assert shown[0] != shown[1]
        assert "✓" in shown[0][1]


def test_right_to_left_text_has_that_direction_everywhere(app: App, chat: ChatPage) -> None:
    hebrew = "שלום, מה שלומך?"
    app.model.enqueue(Reply(f"{hebrew}\n\n- {hebrew}\n\n| {hebrew} |\n|---|\n| 1 |\n\nplain"))
    expect(chat.message).to_have_attribute("dir", "auto")
    chat.answer(f"{hebrew}\nplain")
    for selector in ("p >> nth=0", "ul", "li", "table", "th"):
        assert chat.answers.last.locator(selector).evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    assert chat.answers.last.locator("p >> nth=1").evaluate("(element) => getComputedStyle(element).direction") == "ltr"
    assert chat.chats.first.evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    lines = chat.questions.last.evaluate(
        """(question) => {
          const range = document.createRange();
          const text = question.firstChild;
          return [0, text.length - 1].map((offset) => {
            range.setStart(text, offset);
            range.setEnd(text, offset + 1);
            return range.getBoundingClientRect().x - question.getBoundingClientRect().x;
          });
        }"""
    )
    assert lines[0] > 100 > lines[1], "the first line must begin on the right, the second on the left"
