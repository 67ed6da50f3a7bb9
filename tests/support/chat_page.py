"""The page as a user works with it."""

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

SECONDS = 1000  # Playwright counts in milliseconds
LOAD, ANSWER = 180 * SECONDS, 180 * SECONDS


class ChatPage:
    """One open page, with a locator for each of its parts.

    Long waits use `wait_for`: an `expect` that does not hold yet describes the whole page at each of its polls, at a cost like
    that of loading it.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.message = page.locator("#phi3-message textarea")
        self.send = page.locator("#phi3-send")
        self.stop = page.locator("#phi3-stop")
        self.answers = page.locator('#phi3-chat [data-testid="bot"]')
        self.questions = page.locator('#phi3-chat [data-testid="user"]')
        self.captions = page.locator("#phi3-chat .phi3-by")
        self.versions = page.locator(".phi3-versions")
        self.cut = page.locator("#phi3-chat .phi3-cut")
        self.empty = page.locator("#phi3-chat .phi3-empty")
        self.jump = page.locator("#phi3-chat .phi3-jump")
        self.edited = page.locator("#phi3-chat .phi3-edit textarea")
        self.log = page.get_by_role("log")
        self.context = page.locator("#phi3-context")
        self.waiting = page.locator(".phi3-wait")
        self.errors = page.locator("#phi3-chat .phi3-error")
        self.usage = page.locator("#phi3-usage")
        self.card = page.locator("#phi3-card")
        self.status = page.locator("#phi3-status")
        self.model = page.locator("#phi3-model")
        self.models = page.locator("#phi3-models")
        self.chat_list = page.locator("#phi3-chats")
        self.chats = self.chat_list.locator('button[name="open"]')
        self.search = page.locator("#phi3-search textarea, #phi3-search input")
        self.comment = page.locator("#phi3-comment textarea, #phi3-comment input")
        self.warning = page.locator("#phi3-warning")
        self.adding = page.locator("#phi3-add")
        self.added = page.locator("#phi3-add-progress")
        self.compare = page.locator("#phi3-compare")
        self.new_chat = page.locator("#phi3-new")

    def wait_until_ready(self) -> "ChatPage":
        """Wait until the chat is shown, not the set-up, and the selected model is loaded."""
        self.message.wait_for(timeout=LOAD)
        return self.wait_until_loaded()

    def wait_until_loaded(self) -> "ChatPage":
        """Wait until the selected model can answer."""
        self.status.locator(".loaded").wait_for(timeout=LOAD)
        return self

    def reload(self) -> "ChatPage":
        """Load the page again, as the same visitor in the same tab."""
        self.page.reload()
        return self.wait_until_ready()

    def pick(self, name: str) -> "ChatPage":
        """Pick the newest model called `name`, or the alias `name@alias`, and wait until it is loaded."""
        self.choose(name)
        return self.wait_until_loaded()

    def choose(self, name: str) -> None:
        """Pick a model without waiting for it."""
        self.open_models()
        rows = self.models.get_by_role("option")
        label = self.page.locator(".phi3-menu-name").get_by_text(name, exact=True)
        (self.models.locator(f'[data-key="{name}"]') if "@" in name else rows.filter(has=label).first).click()
        expect(self.card).to_contain_text(name.partition("@")[0])

    def open_panel(self, side: str) -> None:
        """Open the panel on this side, "left" or "right", if it is closed."""
        if "closed" in (self.page.locator("#phi3-shell").get_attribute(f"data-{side}") or ""):
            self.page.locator(f'#phi3-header [data-panel="{side}"]').click()
        expect(self.page.locator("#phi3-shell")).to_have_attribute(f"data-{side}", re.compile("open"))

    def show_tab(self, name: str) -> None:
        """Show a tab of the right panel: "usage", "model" or "settings"."""
        self.open_panel("right")
        tab = self.page.locator(f"#phi3-tab-button-{name}")
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")

    def open_models(self) -> Locator:
        """Open the model menu; returns its rows."""
        self.model.click()
        expect(self.models).to_be_visible()
        return self.models.get_by_role("option")

    def model_names(self) -> list[str]:
        """What the model menu lists."""
        self.open_models()
        return self.models.locator(".phi3-menu-name").all_text_contents()

    def open_add_model(self) -> None:
        """Open the dialog that adds a model."""
        self.open_models()
        self.models.locator(".phi3-menu-add").click()
        expect(self.adding).to_be_visible()

    def refresh_models(self) -> None:
        """Read the models from the store again."""
        self.open_models()
        self.models.get_by_role("button", name="Refresh list").click()
        self.page.keyboard.press("Escape")

    def setting(self, label: str, value: object) -> None:
        """Set a slider or the system prompt."""
        settings = self.page.locator("#phi3-settings")
        if not settings.get_by_label("Temperature").first.is_visible():
            self.show_tab("settings")
            # Gradio sets the controls of a tab once more when they are first drawn.
            self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestIdleCallback(done)))")
        field = settings.get_by_label(label).first
        field.fill(str(value))
        field.press("Tab")
        expect(field).to_have_value(str(value))

    def ask(self, question: str) -> int:
        """Send a question; returns the number of captions there will be once it is answered."""
        expected = self.captions.count() + 1
        self.message.fill(question)
        self.message.press("Enter")
        expect(self.message).to_have_value("")
        return expected

    def answer(self, question: str) -> str:
        """Send a question and wait for the whole answer; returns its text."""
        self.wait_for_caption(self.ask(question))
        return self.answers.last.inner_text()

    def wait_for_caption(self, count: int) -> None:
        """Wait until `count` answers are complete and the next question can be sent."""
        self.captions.nth(count - 1).wait_for(state="attached", timeout=ANSWER)
        self.send.wait_for()
        expect(self.captions).to_have_count(count)

    def wait_for_text(self) -> Locator:
        """The answer under way, once it has some words."""
        self.answers.last.filter(has_text=re.compile(r"\w+\W+\w+")).wait_for(timeout=LOAD)
        return self.answers.last

    def choose_action(self, name: str) -> None:
        """Choose an action of the last answer's menu."""
        self.page.locator("#phi3-chat .phi3-last button[name=more]").click()
        self.page.locator(f'#phi3-chat .phi3-menu button[name="{name}"]').click()

    def edit(self, question: str, at: int = -1) -> None:
        """Edit a question in its bubble and send it."""
        self.press("edit", at)
        self.edited.fill(question)
        self.edited.press("Enter")

    def press(self, name: str, at: int = -1) -> None:
        """Press an action button of an answer, by default of the last one."""
        self.page.locator(f'#phi3-chat button.phi3-action[name="{name}"]').nth(at).click()

    def action(self, name: str) -> Locator:
        """The action buttons called `name` of all answers."""
        return self.page.locator(f'#phi3-chat button[name="{name}"]')

    def start_new_chat(self) -> None:
        """Leave the chat that is shown for an empty one."""
        self.new_chat.click()
        expect(self.questions).to_have_count(0)

    def texts(self) -> list[str]:
        """Questions and answers, as they are shown."""
        return [*self.questions.all_inner_texts(), *self.answers.all_inner_texts()]

    def chat_ids(self) -> set[str]:
        """The ids of the chats in the list."""
        return {chat.get_attribute("value") or "" for chat in self.chats.all()}

    def list_button(self, title: str, name: str) -> Locator:
        """An item of the menu of a chat in the list at the left, which this opens."""
        row = self.page.locator("#phi3-chats .phi3-row").filter(has_text=title)
        row.hover()
        row.locator(".phi3-more").click()
        return self.page.locator(f'.phi3-menu button[name="{name}"]')

    def footer_item(self, menu: str, name: str) -> Locator:
        """An item of a menu below the list: "share" or "preferences", which this opens."""
        self.page.locator(f'#phi3-footer button[data-menu="{menu}"]').click()
        return self.page.locator(".phi3-menu").get_by_text(name, exact=True)

    def usage_rows(self) -> dict[str, list[str]]:
        """The details of usage: row name → the last answer's and the conversation's value."""
        rows = self.usage.locator(".phi3-fold tbody tr")
        return {row.locator("th").text_content() or "": row.locator("td").all_text_contents() for row in rows.all()}

    def open_replay(self) -> Locator:
        """Open the view of a replay of the shown chat."""
        self.open_panel("left")
        self.page.locator("#phi3-chats .phi3-row:has([aria-current]) .phi3-more").click()
        self.page.locator('.phi3-menu button[name="replay"]').click()
        view = self.page.locator("#phi3-replay")
        expect(view.locator(".phi3-view-head h2")).to_be_visible()
        return view

    def start_replay(self) -> Locator:
        """Replay the shown chat with the model that its view proposes; returns the view."""
        view = self.open_replay()
        view.get_by_role("button", name="Start").click()
        return view

    def import_file(self, file: Path) -> None:
        """Import the chats of a file."""
        with self.page.expect_file_chooser() as chooser:
            self.footer_item("share", "Import chats (.json, .jsonl, .zip)").click()
        chooser.value.set_files(file)
