"""Page object of the chat page, for end-to-end tests."""

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

SECONDS = 1000  # Playwright counts in milliseconds
LOAD, ANSWER = 180 * SECONDS, 180 * SECONDS


class ChatPage:
    """An open page, with a locator for each part.

    Long waits use `wait_for`: an `expect` that does not hold yet describes the whole page at every poll, which costs
    about as much as loading it.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.message = page.locator("#phi3-message textarea")
        self.send = page.locator("#phi3-send")
        self.stop = page.locator("#phi3-stop")
        self.answers = page.locator('#phi3-chat [data-testid="bot"]')
        self.questions = page.locator('#phi3-chat [data-testid="user"]')
        self.captions = page.locator("#phi3-chat .phi3-by")
        self.variants = page.locator(".phi3-versions")
        self.truncation_notes = page.locator("#phi3-chat .phi3-cut")
        self.empty = page.locator("#phi3-chat .phi3-empty")
        self.jump_button = page.locator("#phi3-chat .phi3-jump")
        self.edit_box = page.locator("#phi3-chat .phi3-edit textarea")
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
        self.add_dialog = page.locator("#phi3-add")
        self.add_progress = page.locator("#phi3-add-progress")
        self.compare = page.locator("#phi3-compare")
        self.new_chat = page.locator("#phi3-new")

    def wait_until_ready(self) -> "ChatPage":
        """Wait until the chat is shown instead of the set-up, and the selected model is loaded."""
        self.message.wait_for(timeout=LOAD)
        return self.wait_until_loaded()

    def wait_until_loaded(self) -> "ChatPage":
        """Wait until the selected model can answer."""
        self.status.locator(".loaded").wait_for(timeout=LOAD)
        return self

    def reload(self) -> "ChatPage":
        """Reload the page, as the same visitor in the same tab."""
        self.page.reload()
        return self.wait_until_ready()

    def pick(self, name: str) -> "ChatPage":
        """Select the newest model called `name`, or the alias `name@alias`, and wait until it is loaded."""
        self.choose(name)
        return self.wait_until_loaded()

    def choose(self, name: str) -> None:
        """Select a model without waiting for it to load."""
        self.open_models()
        rows = self.models.get_by_role("option")
        label = self.page.locator(".phi3-menu-name").get_by_text(name, exact=True)
        (self.models.locator(f'[data-key="{name}"]') if "@" in name else rows.filter(has=label).first).click()
        expect(self.card).to_contain_text(name.partition("@")[0])

    def open_panel(self, side: str) -> None:
        """Open the "left" or "right" panel if it is closed."""
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
        """Open the model menu and return its rows."""
        self.model.click()
        expect(self.models).to_be_visible()
        return self.models.get_by_role("option")

    def model_names(self) -> list[str]:
        """Return the names in the model menu."""
        self.open_models()
        return self.models.locator(".phi3-menu-name").all_text_contents()

    def open_add_model(self) -> None:
        """Open the dialog that adds a model."""
        self.open_models()
        self.models.locator(".phi3-menu-add").click()
        expect(self.add_dialog).to_be_visible()

    def refresh_models(self) -> None:
        """Refresh the list of models from the store."""
        self.open_models()
        self.models.get_by_role("button", name="Refresh list").click()
        self.page.keyboard.press("Escape")

    def set_setting(self, label: str, value: object) -> None:
        """Set a slider or the system prompt."""
        settings = self.page.locator("#phi3-settings")
        if not settings.get_by_label("Temperature").first.is_visible():
            self.show_tab("settings")
            # Gradio sets the controls of a tab again when it first renders them.
            self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestIdleCallback(done)))")
        field = settings.get_by_label(label).first
        field.fill(str(value))
        field.press("Tab")
        expect(field).to_have_value(str(value))

    def ask(self, question: str) -> int:
        """Send a question and return the number of captions expected once it is answered."""
        expected = self.captions.count() + 1
        self.message.fill(question)
        self.message.press("Enter")
        expect(self.message).to_have_value("")
        return expected

    def answer(self, question: str) -> str:
        """Send a question, wait for the complete answer and return its text."""
        self.wait_for_caption(self.ask(question))
        return self.answers.last.inner_text()

    def wait_for_caption(self, count: int) -> None:
        """Wait until `count` answers are complete and the next question can be sent."""
        self.captions.nth(count - 1).wait_for(state="attached", timeout=ANSWER)
        self.send.wait_for()
        expect(self.captions).to_have_count(count)

    def wait_for_text(self) -> Locator:
        """Wait until the current answer has some words, and return it."""
        self.answers.last.filter(has_text=re.compile(r"\w+\W+\w+")).wait_for(timeout=LOAD)
        return self.answers.last

    def choose_action(self, name: str) -> None:
        """Choose an action in the last answer's menu."""
        self.page.locator("#phi3-chat .phi3-last button[name=more]").click()
        self.page.locator(f'#phi3-chat .phi3-menu button[name="{name}"]').click()

    def edit(self, question: str, at: int = -1) -> None:
        """Edit a question in its bubble and send it."""
        self.press("edit", at)
        self.edit_box.fill(question)
        self.edit_box.press("Enter")

    def press(self, name: str, at: int = -1) -> None:
        """Press an action button of an answer, by default the last one."""
        self.page.locator(f'#phi3-chat button.phi3-action[name="{name}"]').nth(at).click()

    def action_buttons(self, name: str) -> Locator:
        """Return the action buttons called `name` of all answers."""
        return self.page.locator(f'#phi3-chat button[name="{name}"]')

    def start_new_chat(self) -> None:
        """Replace the current chat with an empty one."""
        self.new_chat.click()
        expect(self.questions).to_have_count(0)

    def texts(self) -> list[str]:
        """Return the questions and answers, as shown."""
        return [*self.questions.all_inner_texts(), *self.answers.all_inner_texts()]

    def chat_ids(self) -> set[str]:
        """Return the ids of the chats in the list."""
        return {chat.get_attribute("value") or "" for chat in self.chats.all()}

    def list_button(self, title: str, name: str) -> Locator:
        """Open the menu of a chat in the list and return one of its items."""
        row = self.page.locator("#phi3-chats .phi3-row").filter(has_text=title)
        row.hover()
        row.locator(".phi3-more").click()
        return self.page.locator(f'.phi3-menu button[name="{name}"]')

    def footer_item(self, menu: str, name: str) -> Locator:
        """Open the "share" or "preferences" menu below the list and return one of its items."""
        self.page.locator(f'#phi3-footer button[data-menu="{menu}"]').click()
        return self.page.locator(".phi3-menu").get_by_text(name, exact=True)

    def usage_rows(self) -> dict[str, list[str]]:
        """Return the usage details: row name → values for the last answer and the conversation."""
        rows = self.usage.locator(".phi3-fold tbody tr")
        return {row.locator("th").text_content() or "": row.locator("td").all_text_contents() for row in rows.all()}

    def open_replay(self) -> Locator:
        """Open the replay view of the current chat and return it."""
        self.open_panel("left")
        self.page.locator("#phi3-chats .phi3-row:has([aria-current]) .phi3-more").click()
        self.page.locator('.phi3-menu button[name="replay"]').click()
        view = self.page.locator("#phi3-replay")
        expect(view.locator(".phi3-view-head h2")).to_be_visible()
        return view

    def start_replay(self) -> Locator:
        """Replay the current chat with the model that the view proposes, and return the view."""
        view = self.open_replay()
        view.get_by_role("button", name="Start").click()
        return view

    def import_file(self, file: Path) -> None:
        """Import the chats in a file."""
        with self.page.expect_file_chooser() as chooser:
            self.footer_item("share", "Import chats (.json, .jsonl, .zip)").click()
        chooser.value.set_files(file)
